"""Texts in A1111's form: prompt, `Negative prompt:`, parameter line, and what other programs made of that form.

Tolerated beyond the form (each seen in the wild): a parameter line glued to the prompt, line breaks turned into dots
(exiftool), a parameter line broken after a comma, lines of templates behind it, a code fence around it, a prompt that
begins with `Prompt:`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from atelier.request.infotext_pairs import Pair, split_pairs

NEGATIVE = "Negative prompt:"
PROMPT_KEY, NEGATIVE_KEY = "Prompt", "Negative prompt"
CORE_KEYS = frozenset({"Steps", "Sampler", "CFG scale", "Seed", "Size", "Model", "Model hash", "Guidance Scale"})
"""A parameter line has at least one of these."""
TAILS = ("Template:", "Negative Template:", "Additional networks:")
"""Lines that some programs write behind the parameter line; what they say may have several lines."""
_GLUED = re.compile(r"\bSteps: ?\d+\s*,")
_FLATTENED = re.compile(r"(?:Parameters|User ?Comment)\s{2,}:\s")
_FENCE = "```"
_TRIES = 4
"""So many places, from the end, are tried as the beginning of glued parameters."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a text says. has_line: it has a parameter line."""

    prompt: str
    negative_prompt: str
    pairs: tuple[Pair, ...]
    has_line: bool = False


def split_text(text: str) -> Parts:
    """The parts of a text; without a parameter line all of it is prompt. Never raises, linear time.

    The pairs Prompt and Negative prompt, in quotes, come before what the lines say: that is how prompts are written
    that the lines alone cannot carry.
    """
    text = text.replace("\r\n", "\n").strip().strip("\0\ufeff")
    flat = _FLATTENED.match(text)
    text = text[flat.end() :] if flat else text
    found = _lines(text) or _glued(text)
    if found is None:
        return Parts(*_prompts(text), ())
    head, line, tail, glued = found
    if glued and head.endswith("."):
        head = head.rstrip(".")
    prompt, negative = _prompts(_unfenced(head), glued=glued or flat is not None)
    pairs = split_pairs(line)
    return Parts(
        _said(PROMPT_KEY, pairs, prompt),
        _said(NEGATIVE_KEY, pairs, negative),
        (*(p for p in pairs if p.key not in {PROMPT_KEY, NEGATIVE_KEY}), *_tails(tail)),
        has_line=True,
    )


def _said(key: str, pairs: tuple[Pair, ...], in_lines: str) -> str:
    """A prompt: of a pair in quotes, else of the lines, else of a pair without quotes."""
    found = [p for p in pairs if p.key == key and (p.was_quoted or not in_lines)]
    return found[-1].value if found else in_lines


def is_parameter_line(line: str) -> bool:
    """Whether a line is parameters: it begins with a key, and has three pairs (A1111's rule), one of them core; or two
    that begin with Steps; or both prompts in quotes."""
    line = line.strip()
    if ":" not in line or line.startswith(NEGATIVE):
        return False
    pairs = [p for p in split_pairs(line) if p.key != p.value]
    if not pairs or pairs[0].at > 0 or pairs[0].key.endswith(" Steps"):
        return False
    if {PROMPT_KEY, NEGATIVE_KEY} <= {p.key for p in pairs if p.was_quoted}:
        return True
    if not any(p.key in CORE_KEYS for p in pairs):
        return False
    return len(pairs) >= 3 or (len(pairs) == 2 and pairs[0].key == "Steps" and pairs[0].value.isdecimal())


def _lines(text: str) -> tuple[str, str, str, bool] | None:
    """(before, parameters, after, False) where the parameters begin a line: the last such line that may stand there."""
    lines = text.split("\n")
    is_last, follower = True, ""
    for i in range(len(lines) - 1, -1, -1):
        line = lines[i].strip()
        tailed, goes_on = follower.startswith(TAILS), line.endswith(",")
        if (is_last or tailed or goes_on) and is_parameter_line(line):
            end = i + 1 if tailed or not goes_on else len(lines)
            head, inside, behind = ("\n".join(part) for part in (lines[:i], lines[i:end], lines[end:]))
            return head, inside.rstrip("` \n"), behind, False
        is_last = is_last and not line.strip("`")
        follower = line
    return None


def _glued(text: str) -> tuple[str, str, str, bool] | None:
    """(before, parameters, after, True) where the parameters begin in the middle of a line."""
    starts = [found.start() for found in _GLUED.finditer(text)]
    for start in starts[-_TRIES:]:
        line, _, after = text[start:].partition("\n")
        if (not after or after.strip().startswith(TAILS)) and is_parameter_line(line):
            return text[:start].rstrip(), line, after, True
    return None


def _prompts(head: str, *, glued: bool = False) -> tuple[str, str]:
    """Prompt and negative prompt, without space at their ends. Inside, lines stay as they are (A1111 strips each)."""
    if glued and not any(line.strip().startswith(NEGATIVE) for line in head.split("\n")):
        before, _, behind = head.partition(NEGATIVE)
        return _unglued(before), behind.strip().rstrip(".") if before.endswith(".") else behind.strip()
    prompt: list[str] = []
    negative: list[str] = []
    lines = prompt
    for line in head.split("\n"):
        bare = line.strip()
        if bare.startswith(NEGATIVE):
            lines, line = negative, bare.removeprefix(NEGATIVE).lstrip()  # noqa: PLW2901 - what is said in it
        lines.append(line)
    return _without_prefix("\n".join(prompt).strip(), prefixed=bool(negative)), "\n".join(negative).strip()


def _unglued(prompt: str) -> str:
    return prompt.strip().rstrip(".").rstrip() if prompt.endswith(".") else prompt.strip()


def _without_prefix(prompt: str, *, prefixed: bool) -> str:
    return prompt.removeprefix("Prompt:").strip() if prefixed and prompt.startswith("Prompt:") else prompt


def _unfenced(head: str) -> str:
    first, _, rest = head.partition("\n")
    return rest if first.strip() == _FENCE else head


def _tails(tail: str) -> tuple[Pair, ...]:
    """The lines behind the parameter line as pairs."""
    found: list[tuple[str, list[str]]] = []
    for line in map(str.strip, tail.split("\n")):
        started = next((t for t in TAILS if line.startswith(t)), None)
        if started:
            found.append((started.removesuffix(":"), [line.removeprefix(started)]))
        elif found:
            found[-1][1].append(line)
    return tuple(Pair(key, "\n".join(lines).strip()) for key, lines in found)
