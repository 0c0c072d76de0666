"""Texts in A1111's form: prompt, `Negative prompt:`, parameter line, and what other programs made of that form.

Tolerated beyond the form (each seen in the wild): a parameter line glued to the prompt, line breaks turned into dots
(exiftool), a parameter line broken after a comma, a line for each parameter, bars in place of commas, templates or any
other text behind the parameters, a code fence around all, a prompt that begins with `Prompt:`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from atelier.request.infotext.keys import BY_NAME
from atelier.request.infotext.pairs import Pair, each_pair, split_pairs

NEGATIVE = "Negative prompt:"
PROMPT_KEY, NEGATIVE_KEY = "Prompt", "Negative prompt"
CORE_KEYS = frozenset({"Steps", "Sampler", "CFG scale", "Seed", "Size", "Model", "Model hash", "Guidance Scale"})
"""A parameter line has at least one of these."""
TAILS = ("Template:", "Negative Template:", "Additional networks:", "Used embeddings:", "Time taken:")
"""Lines that some programs write behind the parameter line; what they say may have several lines."""
REST_KEY = "Text behind"
"""The key of what stands behind the parameter line and is none of these."""
_STARTED = re.compile(r"Steps: ?\d")
_GLUED = re.compile(r"\bSteps: ?\d+\s*,")
_FLATTENED = re.compile(r"(?:Parameters|User ?Comment)\s{2,}:\s")
_FENCE = "```"
_TRIES = 4
"""So many places, from the end, are tried as the beginning of glued parameters."""
_MIN_ROWS = 3
_SURE = 4
"""So many core keys make a line that begins with Steps the parameters, whatever text stands behind it."""


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
    found = _lines(text) or _rows(text) or _glued(text) or _followed(text)
    if found is None:
        return Parts(*_prompts(text), ())
    head, line, tail, glued = found
    if glued and head.endswith("."):
        head = head.rstrip(".")
    prompt, negative = _prompts(_unfenced(head), glued=glued or flat is not None)
    pairs = split_pairs(line)
    return Parts(
        _chosen(PROMPT_KEY, pairs, prompt),
        _chosen(NEGATIVE_KEY, pairs, negative),
        (*(p for p in pairs if p.key not in {PROMPT_KEY, NEGATIVE_KEY}), *_tails(tail)),
        has_line=True,
    )


def _chosen(key: str, pairs: tuple[Pair, ...], in_lines: str) -> str:
    """A prompt: of a pair in quotes, else of the lines, else of a pair without quotes."""
    found = [p for p in pairs if p.key == key and (p.was_quoted or not in_lines)]
    return found[-1].value if found else in_lines


def is_parameter_line(line: str) -> bool:
    """Whether a line is parameters: it begins with a key, and has three pairs (A1111's rule), one of them core; or two
    that begin with Steps; or both prompts in quotes."""
    line = line.strip()
    if ":" not in line or line.startswith(NEGATIVE):
        return False
    pairs: list[Pair] = []
    is_core = False
    for pair in each_pair(line):
        if pair.key == pair.value:
            continue
        pairs.append(pair)
        is_core = is_core or pair.key in CORE_KEYS
        if pairs[0].at > 0 or pairs[0].key.endswith(" Steps"):
            return False
        if is_core and len(pairs) >= 3:
            return True
    starts = is_core and len(pairs) == 2 and pairs[0].key == "Steps" and pairs[0].value.isdecimal()
    return starts or _quotes_prompts(pairs)


def _quotes_prompts(pairs: Iterable[Pair]) -> bool:
    return {PROMPT_KEY, NEGATIVE_KEY} <= {p.key for p in pairs if p.was_quoted}


def _lines(text: str) -> tuple[str, str, str, bool] | None:
    """(before, parameters, after, False) where the parameters begin a line: the last such line that may stand there."""
    lines = text.split("\n")
    is_last, follower = True, ""
    for i in range(len(lines) - 1, -1, -1):
        line = lines[i].strip()
        tailed, goes_on = follower.startswith(TAILS), line.endswith(",")
        if (is_last or tailed or goes_on) and is_parameter_line(line):
            return _parted(lines, _start(lines, i), _end(lines, i) if goes_on else i + 1)
        is_last = is_last and not line.strip("`")
        follower = line or follower
    return None


def _parted(lines: list[str], start: int, end: int) -> tuple[str, str, str, bool]:
    head, inside, behind = ("\n".join(part) for part in (lines[:start], lines[start:end], lines[end:]))
    return head, inside.rstrip("` \n"), behind, False


def _start(lines: list[str], at: int) -> int:
    """Where the parameters begin that line `at` belongs to: those before it that end in a comma are theirs too, unless
    the line quotes the prompts, as it does where the lines before it are misleading."""
    start = at
    while start and not _STARTED.match(lines[start].strip()):
        above = lines[start - 1].strip()
        if not above.endswith(",") or not is_parameter_line(above):
            break
        if start == at and _quotes_prompts(each_pair(lines[at])):
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


def _rows(text: str) -> tuple[str, str, str, bool] | None:
    """(before, parameters, "", False) where the last lines say one parameter each, or several with bars between."""
    lines = text.rstrip("` \n").split("\n")
    start, rows = len(lines), list[list[str]]()
    while start and (row := _row(lines[start - 1])):
        rows.append(row)
        start -= 1
    pairs = [pair for row in reversed(rows) for pair in row]
    core = sum(pair.partition(":")[0] in CORE_KEYS for pair in pairs)
    return ("\n".join(lines[:start]), ", ".join(pairs), "", False) if core >= _MIN_ROWS else None


def _row(line: str) -> list[str]:
    """The parameters of a line, as text: several with bars between, one of them known, or one; [] for other lines."""
    pairs = [part.strip().rstrip(",") for part in line.split("|")]
    keys = [_only_key(pair) for pair in pairs]
    return pairs if all(keys) and any(key.casefold() in BY_NAME for key in keys) else []


def _only_key(text: str) -> str:
    """The key of a text that is one pair, else ""."""
    found = split_pairs(text)
    return found[0].key if len(found) == 1 and found[0].at == 0 and text.startswith(f"{found[0].key}:") else ""


def _followed(text: str) -> tuple[str, str, str, bool] | None:
    """(before, parameters, after, False) where other text stands behind: the last line that can be nothing else."""
    lines = text.split("\n")
    for i in range(len(lines) - 1, -1, -1):
        line = lines[i].strip()
        if _STARTED.match(line) and _is_sure(line):
            return _parted(lines, i, i + 1)
    return None


def _is_sure(line: str) -> bool:
    return len({pair.key for pair in split_pairs(line)} & CORE_KEYS) >= _SURE


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
    found: list[tuple[str, list[str]]] = [(REST_KEY, [])]
    for line in map(str.strip, tail.strip("` \n").split("\n")):
        started = next((t for t in TAILS if line.startswith(t)), None)
        if started:
            found.append((started.removesuffix(":"), [line.removeprefix(started)]))
        else:
            found[-1][1].append(line)
    pairs = ((key, "\n".join(lines).strip()) for key, lines in found)
    return tuple(Pair(key, value) for key, value in pairs if value or key != REST_KEY)
