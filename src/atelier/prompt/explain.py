"""What a prompt means, as data that prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from atelier.prompt.attention import Weighted
from atelier.prompt.chunks import CLIP_L, Chunk, Chunks, Marks, chunk
from atelier.prompt.comments import without_comments
from atelier.prompt.emphasis import ORIGINAL, Emphasis, weighted
from atelier.prompt.inversion import Tokenize, inversions
from atelier.prompt.networks import TYPES, Network
from atelier.prompt.phrase import Part, parse
from atelier.prompt.text import checked
from atelier.prompt.timeline import Clock, Timeline, timeline
from atelier.prompt.tree_parser import parse_tree
from atelier.prompt.wildcards import Files, expand


@dataclass(frozen=True, slots=True)
class Encoder:
    """What is needed to count tokens: a tokenizer, its marks, and the textual inversions at hand (name to vectors)."""

    tokenize: Tokenize
    marks: Marks = CLIP_L
    inversions: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text that is encoded: part (0-based), text, and its chunks."""

    part: int
    text: str
    chunks: Chunks


@dataclass(frozen=True, slots=True)
class Explanation:
    """text: without comments and networks, every choice made. attention and schedule are those of the text as one
    prompt; parts those of AND, each with its own schedule. encoded: every distinct text of every part."""

    text: str
    attention: tuple[Weighted, ...]
    schedule: Timeline
    parts: tuple[Part, ...]
    timelines: tuple[Timeline, ...]
    networks: tuple[Network, ...]
    encoded: tuple[Encoded, ...]
    warnings: tuple[str, ...]

    def data(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {
            "text": self.text,
            "attention": [[item.text, item.weight] for item in self.attention],
            "schedule": _spans(self.schedule),
            "parts": [[part.text, part.weight] for part in self.parts],
            "part_schedules": [_spans(t) for t in self.timelines],
            "networks": [_network(n) for n in self.networks],
            "chunks": [_encoded(e) for e in self.encoded],
            "warnings": list(self.warnings),
        }


def explain(
    text: str,
    clock: Clock,
    *,
    mode: Emphasis = ORIGINAL,
    seed: int = 0,
    files: Files | None = None,
    encoder: Encoder | None = None,
) -> Explanation:
    """What the text means as a prompt on that clock. Without an encoder nothing is said of tokens.

    Raises BadInput for a text over the limits, and for wildcards that include themselves.
    """
    warnings: list[str] = []
    chosen = expand(without_comments(checked(text)), seed, files, warnings.append)
    phrase = parse(without_comments(checked(chosen)), warnings.append)
    _warn_of_networks(phrase.networks, warnings)
    bare = "AND".join(part.text + part.tail for part in phrase.parts)
    timelines = tuple(part.timeline(clock) for part in phrase.parts)
    return Explanation(
        text=bare,
        attention=weighted(bare, mode, warnings.append),
        schedule=timeline(parse_tree(bare), clock),
        parts=phrase.parts,
        timelines=timelines,
        networks=phrase.networks,
        encoded=tuple(_encode(timelines, mode, encoder)) if encoder else (),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def report(explanation: Explanation, clock: Clock) -> str:
    """The explanation in words, for a terminal."""
    return "\n".join(_lines(explanation, clock))


def _lines(e: Explanation, clock: Clock) -> Iterator[str]:
    yield from ("weights", *(f"  {i.weight:<8.4g} {_item(i)}" for i in e.attention))
    for number, (part, timeline_) in enumerate(zip(e.parts, e.timelines, strict=True), start=1):
        title = f"part {number}, weight {part.weight:g}" if len(e.parts) > 1 or part.weight != 1 else "schedule"
        yield from (title, *(f"  calls {calls:<9} {text!r}" for calls, text in _calls(timeline_, clock)))
    if e.networks:
        yield from ("networks", *(f"  {_network_line(n)}" for n in e.networks))
    for encoded in e.encoded:
        yield f"tokens {encoded.chunks.count}/{encoded.chunks.room} in {encoded.text!r}"
        yield from (f"  chunk {i}: {c.used} tokens" for i, c in enumerate(encoded.chunks.chunks, start=1))
    yield from (f"note: {warning}" for warning in e.warnings)


def _item(item: Weighted) -> str:
    return "(end of the chunk)" if item.is_break else repr(item.text)


def _calls(timeline_: Timeline, clock: Clock) -> Iterator[tuple[str, str]]:
    """(first-last model call, from 1; text) for every stretch of calls with one text."""
    active = [timeline_.active(call) for call in range(max(clock.calls, 1))]
    start = 0
    for call, text in enumerate(active):
        if call + 1 == len(active) or active[call + 1] != text:
            yield (f"{start + 1}-{call + 1}" if call > start else f"{call + 1}"), text
            start = call + 1


def _network_line(network: Network) -> str:
    strength = network.strength()
    rank = "" if strength.rank is None else f", rank {strength.rank}"
    if network.type == "lora":
        return f"lora {network.name}: text encoder {strength.te:g}, U-Net {strength.unet:g}{rank}"
    return f"{network.type} {network.name}: {strength.te:g}"


def _warn_of_networks(networks: tuple[Network, ...], warnings: list[str]) -> None:
    for network in networks:
        if network.type in TYPES:
            network.strength(warnings.append)
        else:
            warnings.append(f"{network}: there is no network type {network.kind!r} (there are {', '.join(TYPES)})")


def _encode(timelines: tuple[Timeline, ...], mode: Emphasis, encoder: Encoder) -> Iterator[Encoded]:
    known = inversions(encoder.inversions or {}, encoder.tokenize)
    for part, timeline_ in enumerate(timelines):
        for text in timeline_.texts:
            items = weighted(text, mode)
            yield Encoded(part, text, chunk(items, encoder.tokenize, encoder.marks, known))


def _spans(timeline_: Timeline) -> list[list[object]]:
    return [[span.end, span.text] for span in timeline_.spans]


def _network(network: Network) -> dict[str, object]:
    strength = network.strength()
    return {
        "type": network.type,
        "name": network.name,
        "te": strength.te,
        "unet": strength.unet,
        "dyn": strength.rank,
        "args": list(network.arguments),
    }


def _encoded(encoded: Encoded) -> dict[str, object]:
    return {
        "part": encoded.part,
        "text": encoded.text,
        "count": encoded.chunks.count,
        "chunks": [_chunk(c) for c in encoded.chunks.chunks],
    }


def _chunk(chunk_: Chunk) -> dict[str, object]:
    return {
        "used": chunk_.used,
        "tokens": list(chunk_.tokens),
        "weights": list(chunk_.weights),
        "inversions": [[p.at, p.name, p.first, p.count] for p in chunk_.patches],
    }
