"""What A1111's extension Regional Prompter made of a prompt, as regions: rows and columns ("Matrix").

Its rules in our words are in docs/regions.md. Masks and regions found by words ("Mask", "Prompt") are in no infotext.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from atelier.request.infotext.keys import Settings
from atelier.request.infotext.record import Infotext
from atelier.request.regions import MAX_REGIONS, MAX_WEIGHT, Region, Shares, region_text
from atelier.request.spoken import joined, number

PREFIX = "RP "
"""What its keys begin with."""
WHOLE = Shares(0.0, 0.0, 1.0, 1.0)
SAME_DIVISION = "disable convert 'AND' to 'BREAK'"
"""Of `RP Options`: AND stays what it is. Before there was a key of its own, `RP Change AND`."""
MOST = 1e6
"""Ratios are shares or pixels: more is none."""
DIGITS = 6
"""Of shares: as many as an infotext says."""
_ROWS, _TOWARDS = ("Rows", "Vertical"), ("Columns", "Horizontal")
_TAG = re.compile(r"<[a-zA-Z]\w*:[^<>]*>")
_SPACE = re.compile(r"(?<!\s)\s++(?=,|$)")
"""All of it before a comma, and at the end."""


@dataclass(frozen=True, slots=True)
class _Said:
    """The texts of a prompt, or of a negative prompt: of everywhere, of the base, of the cells by rows (or columns)."""

    common: str
    base: str
    lines: tuple[tuple[str, ...], ...]

    @property
    def cells(self) -> tuple[str, ...]:
        return tuple(cell for line in self.lines for cell in line)


def with_regions(settings: Settings, found: Infotext) -> Settings:
    """The settings with the regions that the extension's keys mean, and without these keys; as they are where there
    are none, or what cannot be said by boxes."""
    told = {name[len(PREFIX) :].casefold(): value.strip() for name, value in found.pairs if _is_own(name)}
    by_rows = _divides(told)
    if settings.regions is not None or not _is_true(told.get("active")) or by_rows is None:
        return settings
    said = _said(_broken(settings.prompt, told), told, by_rows=by_rows)
    boxes = _boxes(_ratios(told), said.lines, by_rows=by_rows, by_words=_has_places(settings.prompt))
    if len(boxes) not in range(2, MAX_REGIONS) or not all(map(_is_seen, boxes)) or not _says_all(said):
        return settings
    return _laid_out(settings, said, boxes, told)


def _laid_out(settings: Settings, said: _Said, boxes: Sequence[Shares], told: dict[str, str]) -> Settings:
    """Everything but where the regions are, which `boxes` says."""
    is_divided = told.get("calc mode", "Attention").casefold() != "latent"
    negatives = _negatives(settings.negative_prompt, len(boxes), told, has_base=bool(said.base))
    texts = tuple(map(_untagged, _texts(said))) if is_divided else _texts(said)
    tags = dict.fromkeys(_TAG.findall(settings.prompt)) if is_divided else ()
    base, weights = _weights(told.get("base ratios", ""), len(boxes)) if said.base else (0.0, [1.0] * len(boxes))
    regions = [Region(*own) for own in zip(boxes, texts, negatives[1:], weights, strict=True) if own[3] > 0]
    if base:
        regions.append(Region(WHOLE, _untagged(said.base) if is_divided else said.base, negatives[0], base))
    return replace(
        settings,
        prompt=" ".join([_untagged(said.base or said.common or ", ".join(said.cells)), *tags]),
        regions=joined([region_text(region) for region in regions]),
        region_method="attention" if is_divided else "latent",
        region_ground=0.0 if is_divided else None,
        extras=tuple(pair for pair in settings.extras if not _is_own(pair[0])),
    )


def _untagged(text: str) -> str:
    """Without networks: where attention is divided they act everywhere, from the image's prompt."""
    return _SPACE.sub("", _TAG.sub("", text)).strip(" ,\n")


def _is_own(name: str) -> bool:
    return name.casefold().startswith(PREFIX.casefold())


def _is_true(value: str | None) -> bool:
    return (value or "").casefold() == "true"


def _divides(told: dict[str, str]) -> bool | None:
    """Whether lines are rows; None for regions that are no cells. Old versions said rows and columns as the mode."""
    mode = told.get("divide mode", "")
    way = told.get("matrix submode", "Columns") if mode == "Matrix" else mode
    return way in _ROWS if way in (*_ROWS, *_TOWARDS) else None


def _ratios(told: dict[str, str]) -> str:
    ratios = told.get("ratios", "")
    return ratios.translate(str.maketrans(",;", ";,")) if _is_true(told.get("flip")) else ratios


def _broken(prompt: str, told: dict[str, str]) -> str:
    """AND is BREAK, unless it was said to stay."""
    stays = _is_true(told.get("change and")) or SAME_DIVISION in told.get("options", "")
    return prompt if stays else re.sub(r"\bAND\b", "BREAK", prompt)


def _has_places(prompt: str) -> bool:
    return "ADDROW" in prompt or "ADDCOL" in prompt


def _said(prompt: str, told: dict[str, str], *, by_rows: bool) -> _Said:
    """A prompt in its parts: common ADDCOMM base ADDBASE cell ADDCOL cell ADDROW cell; BREAK stands for any of them."""
    common, prompt = _taken(prompt, "ADDCOMM", is_used=_is_true(told.get("use common")))
    base, prompt = _taken(prompt, "ADDBASE", is_used=_is_true(told.get("use base")))
    if not _has_places(prompt):
        return _Said(common, base, (tuple(part.strip(" ,\n") for part in prompt.split("BREAK")),))
    outer, inner = ("ADDCOL", "ADDROW") if by_rows else ("ADDROW", "ADDCOL")
    lines = (tuple(cell.strip(" ,\n") for cell in line.split(inner)) for line in prompt.split(outer))
    return _Said(common, base, tuple(lines))


def _taken(prompt: str, word: str, *, is_used: bool) -> tuple[str, str]:
    """What is in front of a word, or of the first BREAK where it `is_used` without its word, and what is left."""
    mark = word if word in prompt else "BREAK"
    if mark not in prompt or not (is_used or word in prompt):
        return "", prompt
    first, _, rest = prompt.partition(mark)
    return first.strip(" ,\n"), rest


def _texts(said: _Said) -> tuple[str, ...]:
    """The prompts of the regions: what is common comes before what each says."""
    return tuple(", ".join(part for part in (said.common, cell) if part) for cell in said.cells)


def _says_all(said: _Said) -> bool:
    """Whether every region has words; a base that is there, too."""
    return all(map(_untagged, _texts(said))) and (not said.base or bool(_untagged(said.base)))


def _negatives(prompt: str, count: int, told: dict[str, str], *, has_base: bool) -> list[str | None]:
    """Of the base and of each region; None: that of the image. A prompt with another number of parts is one for all."""
    common, rest = _taken(prompt, "ADDCOMM", is_used=_is_true(told.get("use ncommon")))
    parts = re.split(r"BREAK|ADDROW|ADDCOL|ADDBASE", rest)
    texts = [", ".join(text for text in (common, part.strip(" ,\n")) if text) for part in parts]
    if len(texts) == count + 1 and has_base:
        return list[str | None](texts)
    return [None, *texts] if len(texts) == count > 1 else [None] * (count + 1)


def _weights(ratios: str, count: int) -> tuple[float, list[float]]:
    """(of the base, of each region), so that the base has its share b of the sum in each: b / (1 - b) against 1 where
    all have the same share, else 1 against (1 - b) / b."""
    some = [min(value, 1.0) if value > 0 else 0.0 for value in map(number, re.split("[,;]", ratios))]
    shares = [*some, *[some[-1]] * count][:count]
    first = shares[0]
    if len(set(shares)) == 1 and first < 1:
        return min(first / (1 - first), MAX_WEIGHT), [1.0] * count
    return 1.0, [min((1 - share) / share, MAX_WEIGHT) if share else MAX_WEIGHT for share in shares]


def _boxes(ratios: str, lines: Sequence[Sequence[str]], *, by_rows: bool, by_words: bool) -> tuple[Shares, ...]:
    """Where the cells are; none where there are more or fewer by the ratios than by the prompt.

    by_words: whether the prompt says which cells are in a line; else the ratios do.
    """
    if ";" not in ratios and len(lines) == 1:
        return _flat(_numbers(ratios, ","), len(lines[0]), down=by_rows)
    if ";" not in ratios and all(len(line) == 1 for line in lines):
        return _flat(_numbers(ratios, ","), len(lines), down=not by_rows)
    outer, inner = (",", ";") if by_rows else (";", ",")
    groups = [_numbers(group, inner) for group in ratios.split(outer)]
    counts = [len(line) for line in lines] if by_words else [max(len(group) - 1, 1) for group in groups]
    if sum(counts) != sum(map(len, lines)):
        return ()
    return tuple(_cells(*_matched(groups, counts), down=not by_rows))


def _is_seen(box: Shares) -> bool:
    return box.left < box.right and box.top < box.bottom


def _numbers(text: str, separator: str) -> list[float]:
    return [value if 0 < (value := number(part)) < MOST else 1.0 for part in text.split(separator)]


def _flat(ratios: list[float], count: int, *, down: bool) -> tuple[Shares, ...]:
    """One after the other, in the ratios that there are, or all as large."""
    own = ratios if len(ratios) == count else [1.0] * count
    return tuple(_cells(own, [[1.0]] * count, down=down))


def _matched(groups: list[list[float]], counts: list[int]) -> tuple[list[float], list[list[float]]]:
    """The sizes of lines and of their cells; all as large where there are others than the prompt has."""
    if len(groups) != len(counts):
        return [1.0] * len(counts), [[1.0] * count for count in counts]
    pairs = zip(groups, counts, strict=True)
    return [group[0] for group in groups], [own[1:] if len(own) == n + 1 else [1.0] * n for own, n in pairs]


def _cells(sizes: Sequence[float], cells: Sequence[Sequence[float]], *, down: bool) -> Iterator[Shares]:
    """Lines one below the other, or beside where not `down`, and the cells of each across them."""
    for (begin, end), own in zip(_spans(sizes), cells, strict=True):
        for first, last in _spans(own):
            yield Shares(first, begin, last, end) if down else Shares(begin, first, end, last)


def _spans(sizes: Sequence[float]) -> list[tuple[float, float]]:
    """From where to where each is, as shares."""
    total = sum(sizes)
    places = [0.0, *(round(place / total, DIGITS) for place in accumulate(sizes))]
    return list(pairwise([*places[:-1], 1.0]))
