"""Texts in A1111's form: prompt, `Negative prompt:`, parameter line, and what other programs made of that form.

Tolerated beyond the form (each seen in the wild): a parameter line glued to the prompt, line breaks turned into dots
(exiftool) or written out, a parameter line broken after a comma or between words, a line for each parameter, bars or
semicolons in place of commas, `Negative:` alone, keys in bold, templates or any other text behind the parameters, a
code fence around all, a word that announces it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from atelier.request.infotext.around import unannounced, unbolded, uncovered, value_of_listing
from atelier.request.infotext.keys import BY_NAME
from atelier.request.infotext.pairs import Pair, each_pair, split_pairs
from atelier.request.infotext.parameter_line import (
    ANY_NEGATIVE,
    CORE_KEYS,
    NEGATIVE,
    NEGATIVE_KEY,
    PROMPT_KEY,
    STARTED,
    is_parameter_line,
    quotes_prompts,
)

TAILS = ("Template:", "Negative Template:", "Additional networks:", "Used embeddings:", "Time taken:")
"""Lines that some programs write behind the parameter line; what they say may have several lines."""
REST_KEY = "Text behind"
"""The key of what stands behind the parameter line and is none of these."""
LATER = "Postprocess "
"""What the keys begin with of what A1111 did to an image that was finished."""
_GLUED = re.compile(r"(?:\b|(?<=\\n))Steps: ?\d+\s*,")
_NEGATIVE = re.compile(re.escape(NEGATIVE))
_SHORT_NEGATIVE = re.compile(r"negative[^\S\n]*:", re.IGNORECASE)
_BETWEEN = re.compile(r"[|;]")
_WRITTEN_OUT = "\\n"
"""A line break as JSON writes it."""
_TRIES = 4
"""So many places, from the end, are tried as the beginning of glued parameters."""
_MIN_ROWS = 3
_SURE = 4
"""So many core keys make a line that begins with Steps the parameters, whatever text stands behind it."""


Found = tuple[str, str, str, bool]
"""A text in pieces: before the parameters, these, behind them; whether they were glued to what is before."""


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
    text = uncovered(text)
    listed = value_of_listing(text)
    text, later = _done_later(text if listed is None else listed)
    found = _found(text)
    if found is None:
        text = unbolded(text)
        found = _found(text)
    if found is None:
        return Parts(*_prompts(text, surely=bool(later)), later, has_line=bool(later))
    head, line, tail, glued = found
    if glued and head.endswith("."):
        head = head.rstrip(".")
    prompt, negative = _prompts(head, glued=glued or listed is not None, surely=True)
    pairs = split_pairs(line)
    return Parts(
        _chosen(PROMPT_KEY, pairs, prompt),
        _chosen(NEGATIVE_KEY, pairs, negative),
        (*(p for p in pairs if p.key not in {PROMPT_KEY, NEGATIVE_KEY}), *_tails(tail), *later),
        has_line=True,
    )


def _found(text: str) -> Found | None:
    return _wrapped(text) or _lines(text) or _rows(text) or _glued(text) or _followed(text)


def _done_later(text: str) -> tuple[str, tuple[Pair, ...]]:
    """(the text without its last line, the pairs of that), if that says only what was done to a finished image."""
    before, _, last = text.rpartition("\n")
    pairs = split_pairs(last) if last.lstrip().startswith(LATER) else ()
    is_later = bool(pairs) and all(p.key.startswith(LATER) and p.key != p.value for p in pairs)
    return (before.rstrip(), pairs) if is_later else (text, ())


def _chosen(key: str, pairs: tuple[Pair, ...], in_lines: str) -> str:
    """A prompt: of a pair in quotes, else of the lines, else of a pair without quotes."""
    found = [p for p in pairs if p.key == key and (p.was_quoted or not in_lines)]
    return found[-1].value if found else in_lines


def _lines(text: str) -> Found | None:
    """(before, parameters, after, False) where the parameters begin a line: the last such line that may stand there."""
    lines = text.split("\n")
    is_last, follower = True, ""
    for i in range(len(lines) - 1, -1, -1):
        line = lines[i].strip()
        tailed, goes_on = follower.startswith(TAILS), line.endswith(",")
        if (is_last or tailed or goes_on) and is_parameter_line(line):
            start = _start(lines, i)
            if start == 0 and _begins_with_prompt(line):
                return None
            return _parted(lines, start, _end(lines, i) if goes_on else i + 1)
        is_last = is_last and not line.strip("`")
        follower = line or follower
    return None


def _begins_with_prompt(line: str) -> bool:
    """Whether a line that nothing stands before has pairs that nobody knows before its number of steps: a prompt with
    colons, glued to its parameters."""
    for i, pair in enumerate(each_pair(line)):
        if pair.key == "Steps" and pair.value.isdecimal():
            return i > 0
        if pair.was_quoted or pair.key.casefold() in BY_NAME:
            return False
    return False


def _wrapped(text: str) -> Found | None:
    """(before, parameters, after, False) where parameters that begin with Steps were broken between words: the lines
    that follow give more of them together than the first alone, and no value with a colon in it."""
    lines = text.split("\n")
    start = next((i for i in range(len(lines) - 1, -1, -1) if STARTED.match(lines[i].strip())), len(lines))
    inside = [line.strip() for line in lines[start:]]
    inside = inside[: next((i for i, line in enumerate(inside) if line.startswith(TAILS)), len(inside))]
    while inside and not inside[-1]:
        inside.pop()
    if len(inside) < 2 or all(line.endswith(",") for line in inside[:-1]) or not all(inside):
        return None
    pairs = split_pairs(" ".join(inside))
    is_whole = all(p.was_quoted or p.value[:1] in {"[", "{"} or ":" not in p.value for p in pairs)
    if not is_whole or quotes_prompts(pairs) or _known(pairs) <= _known(split_pairs(inside[0])):
        return None
    end = start + len(inside)
    return "\n".join(lines[:start]), " ".join(inside), "\n".join(lines[end:]), False


def _known(pairs: Iterable[Pair]) -> int:
    return sum(pair.key.casefold() in BY_NAME for pair in pairs)


def _parted(lines: list[str], start: int, end: int) -> Found:
    head, inside, behind = ("\n".join(part) for part in (lines[:start], lines[start:end], lines[end:]))
    return head, inside.rstrip(), behind, False


def _start(lines: list[str], at: int) -> int:
    """Where the parameters begin that line `at` belongs to: those before it that end in a comma are theirs too, unless
    the line quotes the prompts, as it does where the lines before it are misleading."""
    start = at
    while start and not STARTED.match(lines[start].strip()):
        above = lines[start - 1].strip()
        if not above.endswith(",") or not is_parameter_line(above):
            break
        if start == at and quotes_prompts(each_pair(lines[at])):
            break
        start -= 1
    return start


def _end(lines: list[str], start: int) -> int:
    """Where the parameters end that begin in line `start` and go on: before a tail, or an empty line, outside of
    quotes."""
    is_quoted, goes_on = False, True
    for i in range(start, len(lines)):
        line = lines[i].strip()
        if i > start and not is_quoted and (line.startswith(TAILS) or not (line or goes_on)):
            return i
        is_quoted ^= line.count('"') % 2 == 1
        goes_on = line.endswith(",") or (goes_on and not line)
    return len(lines)


def _rows(text: str) -> Found | None:
    """(before, parameters, "", False) where the last lines say one parameter each, or several with bars or semicolons
    between."""
    lines = text.split("\n")
    start, rows = len(lines), list[list[str]]()
    while start and (row := _row(lines[start - 1])):
        rows.append(row)
        start -= 1
    pairs = [pair for row in reversed(rows) for pair in row]
    core = sum(pair.partition(":")[0] in CORE_KEYS for pair in pairs)
    return ("\n".join(lines[:start]), ", ".join(pairs), "", False) if core >= _MIN_ROWS else None


def _row(line: str) -> list[str]:
    """The parameters of a line, as text: several with bars or semicolons between, one of them known, or one; [] for
    other lines."""
    pairs = [part.strip().rstrip(",") for part in _BETWEEN.split(line.strip().rstrip(";"))]
    keys = [_only_key(pair) for pair in pairs]
    return pairs if all(keys) and any(key.casefold() in BY_NAME for key in keys) else []


def _only_key(text: str) -> str:
    """The key of a text that is one pair, else ""."""
    found = split_pairs(text)
    return found[0].key if len(found) == 1 and found[0].at == 0 and text.startswith(f"{found[0].key}:") else ""


def _followed(text: str) -> Found | None:
    """(before, parameters, after, False) where other text stands behind: the last line that can be nothing else."""
    lines = text.split("\n")
    for i in range(len(lines) - 1, -1, -1):
        line = lines[i].strip()
        if STARTED.match(line) and _is_sure(line):
            return _parted(lines, i, i + 1)
    return None


def _is_sure(line: str) -> bool:
    return len({pair.key for pair in split_pairs(line)} & CORE_KEYS) >= _SURE


def _glued(text: str) -> Found | None:
    """(before, parameters, after, True) where the parameters begin in the middle of a line."""
    starts = [found.start() for found in _GLUED.finditer(text)]
    for start in starts[-_TRIES:]:
        line, _, after = text[start:].partition("\n")
        if (not after or after.strip().startswith(TAILS)) and is_parameter_line(line):
            head = text[:start]
            head = head.replace(_WRITTEN_OUT, "\n") if head.endswith(_WRITTEN_OUT) else head
            return head.rstrip(), line, after, True
    return None


def _prompts(head: str, *, glued: bool = False, surely: bool = False) -> tuple[str, str]:
    """Prompt and negative prompt, without space at their ends. Inside, lines stay as they are (A1111 strips each).

    surely: parameters stand behind. Where no line begins as A1111 begins a negative prompt, one in other letters may,
    and before parameters one that begins with `Negative:`.
    """
    lines = head.split("\n")
    signs = (_NEGATIVE, ANY_NEGATIVE, _SHORT_NEGATIVE) if surely else (_NEGATIVE, ANY_NEGATIVE)
    sign = next((sign for sign in signs if any(sign.match(line.strip()) for line in lines)), ANY_NEGATIVE)
    at = next((i for i, line in enumerate(lines) if sign.match(line.strip())), None)
    if at is None and glued:
        return _parted_inside(head)
    before = "\n".join(lines if at is None else lines[:at]).strip()
    behind = [] if at is None else [_without_sign(line, sign) for line in lines[at:]]
    prompt = unannounced(before, surely=surely or at is not None)
    return prompt.strip(), "\n".join(behind).strip()


def _without_sign(line: str, sign: re.Pattern[str]) -> str:
    found = sign.match(line.strip())
    return line.strip()[found.end() :].lstrip() if found else line


def _parted_inside(head: str) -> tuple[str, str]:
    """The prompts of a text whose lines were put into one."""
    sign = _NEGATIVE.search(head) or ANY_NEGATIVE.search(head)
    before, behind = (head[: sign.start()], head[sign.end() :].strip()) if sign else (head, "")
    prompt = unannounced(_unglued(before), surely=True)
    return prompt, behind.rstrip(".") if before.endswith((".", ". ")) else behind


def _unglued(prompt: str) -> str:
    prompt = prompt.strip()
    return prompt.rstrip(".").rstrip() if prompt.endswith(".") else prompt


def _tails(tail: str) -> tuple[Pair, ...]:
    """The lines behind the parameter line as pairs."""
    found: list[tuple[str, list[str]]] = [(REST_KEY, [])]
    for line in map(str.strip, tail.strip().split("\n")):
        started = next((t for t in TAILS if line.startswith(t)), None)
        if started:
            found.append((started.removesuffix(":"), [line.removeprefix(started)]))
        else:
            found[-1][1].append(line)
    pairs = ((key, "\n".join(lines).strip()) for key, lines in found)
    return tuple(Pair(key, value) for key, value in pairs if value or key != REST_KEY)
