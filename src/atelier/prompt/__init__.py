"""The prompt language: from the text that people write to weighted texts, when each is active, and chunks of tokens.

Pure text, no torch. The order of processing: styles, comments, wildcards and choices, networks, AND, switches and
cycles, then for every distinct text weights and chunks.
"""

from __future__ import annotations

from atelier.prompt.attention import Weighted, parse_attention, print_attention
from atelier.prompt.chunks import CLIP_G, CLIP_L, Chunk, Chunks, Marks, Patch, chunk, padded
from atelier.prompt.comments import without_comments
from atelier.prompt.emphasis import EMPHASES, ORIGINAL, Emphasis, emphasis, weighted
from atelier.prompt.inversion import NO_INVERSIONS, Inversion, Inversions, Tokenize, inversions
from atelier.prompt.networks import Network, Strength
from atelier.prompt.phrase import Part, Phrase, parse, parse_negative
from atelier.prompt.text import MAX_CHARACTERS, MAX_TOKENS, Warn, checked, silent
from atelier.prompt.timeline import Clock, Span, Timeline, timeline
from atelier.prompt.tree import Cycle, Switch, Text, Tree, When, print_tree
from atelier.prompt.tree_parser import parse_tree
from atelier.prompt.wildcards import expand

__all__ = [
    "CLIP_G",
    "CLIP_L",
    "EMPHASES",
    "MAX_CHARACTERS",
    "MAX_TOKENS",
    "NO_INVERSIONS",
    "ORIGINAL",
    "Chunk",
    "Chunks",
    "Clock",
    "Cycle",
    "Emphasis",
    "Inversion",
    "Inversions",
    "Marks",
    "Network",
    "Part",
    "Patch",
    "Phrase",
    "Span",
    "Strength",
    "Switch",
    "Text",
    "Timeline",
    "Tokenize",
    "Tree",
    "Warn",
    "Weighted",
    "When",
    "checked",
    "chunk",
    "emphasis",
    "expand",
    "inversions",
    "padded",
    "parse",
    "parse_attention",
    "parse_negative",
    "parse_tree",
    "print_attention",
    "print_tree",
    "silent",
    "timeline",
    "weighted",
    "without_comments",
]
