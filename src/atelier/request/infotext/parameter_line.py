"""Which line of a text is its parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable

from atelier.request.infotext.keys import BY_NAME
from atelier.request.infotext.pairs import Pair, each_pair

NEGATIVE = "Negative prompt:"
PROMPT_KEY, NEGATIVE_KEY = "Prompt", "Negative prompt"
CORE_KEYS = frozenset({"Steps", "Sampler", "CFG scale", "Seed", "Size", "Model", "Model hash", "Guidance Scale"})
"""A parameter line has at least one of these."""
_FOLDED_CORE = frozenset(key.casefold() for key in CORE_KEYS)
STARTED = re.compile(r"Steps ?: ?\d", re.IGNORECASE)
_STEPS_BEHIND = re.compile(r"\bSteps ?: ?\d+\s*\Z")
ANY_NEGATIVE = re.compile(r"negative prompt[^\S\n]*:", re.IGNORECASE)
_NEAR = 40
"""Characters before a key in which the sign is looked for that divides it from the pair before."""


def is_parameter_line(line: str) -> bool:
    """Whether a line is parameters: it begins with a key, and has three pairs (A1111's rule), one of them core; or two
    that begin with Steps; or both prompts in quotes. A prompt to which parameters are glued is none."""
    line = line.strip()
    if ":" not in line or ANY_NEGATIVE.match(line):
        return False
    pairs: list[Pair] = []
    is_core, starts = False, STARTED.match(line) is not None
    for pair in each_pair(line):
        if not starts and _begins_inside(line, pair):
            return False
        if pair.key == pair.value:
            continue
        pairs.append(pair)
        is_core = is_core or _is_core(pair.key, starts=starts)
        if pairs[0].at > 0:
            return False
        if starts and is_core and len(pairs) >= 3:
            return True
    is_enough = is_core and len(pairs) >= (2 if _only_steps(pairs) else 3)
    return (is_enough and not _ends_in_steps(pairs)) or quotes_prompts(pairs)


def _is_core(key: str, *, starts: bool) -> bool:
    """Whether a key is core. starts: in a line that begins with a number of steps, where letters may be of any case."""
    return key in CORE_KEYS or (starts and key.rstrip().casefold() in _FOLDED_CORE)


def _only_steps(pairs: list[Pair]) -> bool:
    return bool(pairs) and pairs[0].key.rstrip().casefold() == "steps" and pairs[0].value.isdecimal()


def _ends_in_steps(pairs: list[Pair]) -> bool:
    """Whether the only number of steps stands behind other words in its key: those of a prompt."""
    steps = [p.key for p in pairs if not p.was_quoted and p.key.endswith("Steps") and p.value.isdecimal()]
    return bool(steps) and "Steps" not in steps and any(key.casefold() not in BY_NAME for key in steps)


def _begins_inside(line: str, pair: Pair) -> bool:
    """Whether at this pair parameters, or a negative prompt, begin behind text from which no comma divides them."""
    if pair.was_quoted or pair.key == pair.value:
        return False
    if pair.key == "Steps":
        before = line[max(0, pair.at - _NEAR) : pair.at].rstrip()
        return pair.value.isdecimal() and bool(before) and before[-1] not in ',"]}|'
    if pair.key.endswith(f" {NEGATIVE_KEY}"):
        return pair.key.casefold() not in BY_NAME
    return pair.value[:1] not in {"[", "{"} and (NEGATIVE in pair.value or _STEPS_BEHIND.search(pair.value) is not None)


def quotes_prompts(pairs: Iterable[Pair]) -> bool:
    return {PROMPT_KEY, NEGATIVE_KEY} <= {p.key for p in pairs if p.was_quoted}
