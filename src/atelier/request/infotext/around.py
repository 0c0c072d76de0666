"""What stands around a text and is no part of what it says: fences, marks of quotations, a word that announces it."""

from __future__ import annotations

import re

_FENCE = re.compile(r"`{3,}\w*")
_MARK = "```"
_NAMES = ("Parameters", "User ?Comment", "Invokeai_metadata", "Sd-metadata", "Comment", "Prompt", "Dream")
"""What exiftool calls the places of infotexts, the most telling first."""
_EXIFTOOL = re.compile(rf"(?:{'|'.join(_NAMES)})\s{{2,}}:\s", re.IGNORECASE)
_LISTING = re.compile(r"ExifTool Version Number\s*:")
_WORD = r"(?:parameters|user ?comment|(?:positive )?prompt)"
_ANNOUNCED = re.compile(rf"{_WORD}[^\S\n]*:\s*", re.IGNORECASE)
_ALONE = re.compile(rf"{_WORD}[^\S\n]*\n\s*", re.IGNORECASE)
_BOLD_KEY = re.compile(r"\*\*([\w /-]{2,40})(?::\*\*|\*\*:)")
_BOLD_SIGN = re.compile(r"\*\*(?:(?:positive |negative )?prompt|negative|steps)(?::\*\*|\*\*:)", re.IGNORECASE)
"""A key of Markdown's, `**Prompt:**` or `**Prompt**:`; one of these makes it a text whose keys are bold."""


def uncovered(text: str) -> str:
    """A text without what people and programs wrap around it whole. Its lines end in line feeds."""
    text = text.replace("\r\n", "\n")
    if "\n" not in text:
        text = text.replace("\r", "\n")  # as in files of old Macs
    return _unfenced(_unmarked(text.strip().strip("\0\ufeff")))


def unbolded(text: str) -> str:
    """A text without Markdown's marks of bold keys."""
    return _BOLD_KEY.sub(r"\1:", text) if _BOLD_SIGN.search(text) else text


def value_of_listing(text: str) -> str | None:
    """The value that exiftool printed behind a name padded with spaces, alone or in the list of all that it found in an
    image; None for other texts."""
    if found := _EXIFTOOL.match(text):
        return text[found.end() :]
    if not _LISTING.match(text):
        return None
    values = (re.search(rf"^{name}\s{{2,}}: (.*)$", text, re.IGNORECASE | re.MULTILINE) for name in _NAMES)
    return next((found[1] for found in values if found), None)


def unannounced(prompt: str, *, surely: bool) -> str:
    """A prompt without the word that announces it. surely: more than a prompt is there, so that the word may do without
    its colon."""
    found = _ANNOUNCED.match(prompt) or (_ALONE.match(prompt) if surely else None)
    return prompt[found.end() :] if found else prompt


def _unmarked(text: str) -> str:
    """Without the mark of a quotation, where every line has it."""
    lines = text.split("\n")
    if not all(line.startswith(">") for line in lines):
        return text
    return "\n".join(line.removeprefix(">").removeprefix(" ") for line in lines)


def _unfenced(text: str) -> str:
    """Without a code fence: lines of backticks, or backticks at both ends. Those at one end belong to the text."""
    lines = text.split("\n")
    fences = [i for i in (len(lines) - 1, 0) if len(lines) > 1 and _FENCE.fullmatch(lines[i].strip())]
    if fences:
        kept = [line for i, line in enumerate(lines) if i not in fences]
        return "\n".join(kept if 0 not in fences or len(fences) > 1 else _without_last_fence(kept)).strip()
    if text.startswith(_MARK) and text.endswith(_MARK):
        return text.strip("`").strip()
    return text


def _without_last_fence(lines: list[str]) -> list[str]:
    """Without the fence that ends a block behind which other text stands."""
    at = next((i for i in range(len(lines) - 1, -1, -1) if _FENCE.fullmatch(lines[i].strip())), None)
    return lines if at is None else lines[:at] + lines[at + 1 :]
