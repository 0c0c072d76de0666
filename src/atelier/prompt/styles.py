"""Saved styles: texts that are put around or behind a prompt. The file is A1111's styles.csv."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO

from atelier.errors import BadInput
from atelier.prompt.text import MAX_CHARACTERS

PLACEHOLDER = "{prompt}"
NAME_COLUMN, OTHER_DIVIDERS = "name", ";\t"
_SEPARATOR_LINE = re.compile(r"\A\s*sep=.\r?\n")
"""The first line by which Excel is told what divides columns."""


@dataclass(frozen=True, slots=True)
class Style:
    """What a style adds to a prompt and to a negative prompt."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""


def read_styles(text: str) -> tuple[Style, ...]:
    """The styles of a styles.csv: columns name, prompt (very old files: text), negative_prompt.

    Columns may be divided by commas, semicolons or tabs, as spreadsheets write them. Rows without a name, and those
    whose name starts with #, are dividers. Of two with one name the last counts, in the place of the first. Raises
    BadInput if there is no column name or the rows cannot be read.
    """
    text = _SEPARATOR_LINE.sub("", text.lstrip("\ufeff"), count=1).lstrip()
    rows = csv.DictReader(StringIO(text, newline=""), delimiter=_divider(text))
    try:
        rows.fieldnames = [name.strip().casefold() for name in rows.fieldnames or ()]
        if NAME_COLUMN not in rows.fieldnames:
            raise BadInput("styles file: its first line must name the columns name, prompt, negative_prompt")
        found = [_style(row) for row in rows]
    except csv.Error as error:
        raise BadInput(f"styles file, line {rows.line_num}: {error}") from None
    return tuple({s.name: s for s in found if s.name and not s.name.startswith("#")}.values())


def write_styles(styles: Iterable[Style]) -> str:
    """A styles.csv."""
    out = StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("name", "prompt", "negative_prompt"))
    writer.writerows((s.name, s.prompt, s.negative_prompt) for s in styles)
    return out.getvalue()


def apply_styles(prompt: str, texts: Iterable[str]) -> str:
    """The prompt with the texts of styles, in order: each takes the prompt in place of {prompt}, or stands behind it.

    Raises BadInput when it grows beyond MAX_CHARACTERS.
    """
    for text in texts:
        size = len(text) + max(text.count(PLACEHOLDER), 1) * len(prompt)
        if size > MAX_CHARACTERS + len(PLACEHOLDER):
            raise BadInput(f"with its styles the prompt has more than {MAX_CHARACTERS:,} characters: use fewer")
        if PLACEHOLDER in text:
            prompt = text.replace(PLACEHOLDER, prompt)
        else:
            prompt = ", ".join(p for p in (prompt.strip(), text.strip()) if p)
    return prompt


def extract_style(text: str, prompt: str) -> str | None:
    """The prompt without a style's text, None if it is not in there: the inverse of applying it."""
    text, prompt = text.strip(), prompt.strip()
    if PLACEHOLDER in text:
        left, _, right = text.partition(PLACEHOLDER)
        fits = len(prompt) >= len(left) + len(right) and prompt.startswith(left) and prompt.endswith(right)
        return prompt[len(left) : len(prompt) - len(right)] if fits else None
    if not prompt.endswith(text):
        return None
    return prompt[: len(prompt) - len(text)].removesuffix(", ")


def extract_styles(styles: Sequence[Style], prompt: str, negative_prompt: str) -> tuple[tuple[str, ...], str, str]:
    """(names of the styles found, in the order of applying; prompt; negative prompt) without them.

    The first style of which both texts fit is taken out, then the search begins again with the others.
    """
    names: list[str] = []
    left = [s for s in styles if s.prompt or s.negative_prompt]
    while (found := _first_match(left, prompt, negative_prompt)) is not None:
        style, prompt, negative_prompt = found
        left.remove(style)
        names.insert(0, style.name)
    return tuple(names), prompt, negative_prompt


def _first_match(styles: Sequence[Style], prompt: str, negative_prompt: str) -> tuple[Style, str, str] | None:
    for style in styles:
        positive = extract_style(style.prompt, prompt)
        negative = extract_style(style.negative_prompt, negative_prompt)
        if positive is not None and negative is not None:
            return style, positive, negative
    return None


def _divider(text: str) -> str:
    """What stands behind the first column's name; a comma where nothing else does."""
    header = text[: text.find("\n")] if "\n" in text else text
    names = {mark: [name.strip(' "\r').casefold() for name in header.split(mark)] for mark in OTHER_DIVIDERS}
    return next((mark for mark, found in names.items() if NAME_COLUMN in found), ",")


def _style(row: dict[str, str | None]) -> Style:
    prompt = row.get("prompt") if "prompt" in row else row.get("text")
    return Style(row.get("name") or "", prompt or "", row.get("negative_prompt") or "")
