"""Painting a picture again from what it carries, and comparing the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from atelier.errors import BadFile
from atelier.request.infotext import Infotext, Settings, interpret, pixel_hash, read, to_request, without_effect
from atelier.request.infotext.changes import changes

if TYPE_CHECKING:
    from PIL.Image import Image

    from atelier.request.events import ImageReady
    from atelier.request.model import Request

TEXT_SUFFIXES = frozenset({".txt", ".json"})
LOSSY = frozenset({".jpg", ".jpeg", ".webp", ".avif"})
NO_REASON = frozenset({"pixel_hash", "batch_size", "batch_position", "template", "negative_template", "extras", "user"})
"""Fields that never change a picture; of extras those that do are told apart from them."""


@dataclass(frozen=True, slots=True)
class Original:
    """A picture, or the text of one, and what it says. data: its bytes as they were before anything was painted."""

    path: Path
    said: Infotext
    data: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Original:
        """Raises BadFile for what cannot be read or carries no infotext."""
        from atelier.request.infotext.image import Unreadable, read_picture

        try:
            data = path.read_bytes()
        except OSError as error:
            raise BadFile(path, f"cannot be read ({error.strerror})") from error
        if path.suffix.lower() in TEXT_SUFFIXES:
            return cls(path, _said(path, data), data)
        try:
            found = read_picture(data)
        except Unreadable as error:
            raise BadFile(path, str(error)) from error
        if found is None:
            raise BadFile(path, "carries no infotext: it was not painted by a program that writes one, or saved again")
        return cls(path, found, data)

    def request(self, changes: Mapping[str, object]) -> Request:
        """What to paint. Raises BadInput for numbers out of range."""
        return to_request(self.said, changes)

    def notes(self) -> tuple[str, ...]:
        """What was done to the picture and is not done yet, and values that could not be read."""
        missing = ", ".join(without_effect(self.said))
        notes = interpret(self.said).warnings
        return (*notes, f"{missing}: not done yet, so this is another picture") if missing else notes

    def pixels(self) -> Image | None:
        """The picture, None for a text. Raises BadFile."""
        from PIL import Image

        if self.path.suffix.lower() in TEXT_SUFFIXES:
            return None
        try:
            with Image.open(BytesIO(self.data)) as image:
                return image.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise BadFile(self.path, "its pixels cannot be read: the file is damaged") from error


def _said(path: Path, data: bytes) -> Infotext:
    """What a text says. Raises BadFile for bytes that are no text, and for JSON in which nothing is known."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(path, f"is no text in UTF-8 (byte {error.start}): save it as UTF-8") from error
    if "\0" in text:
        raise BadFile(path, "is no text: it has a character of code 0")
    if not text.strip():
        raise BadFile(path, "is empty: it should hold the prompt and the line of parameters of a picture")
    said = read(text)
    if said.dialect == "text" and _is_json(text):
        raise BadFile(path, f"is JSON in which no prompt with its settings is found{_advice(said)}")
    return said


def _is_json(text: str) -> bool:
    """Whether a text is a JSON list or object."""
    import json

    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def _advice(said: Infotext) -> str:
    is_workflow = {"nodes", "links"} <= said.source.keys()
    return ": it is the workflow of ComfyUI's editor, export it in the API format" if is_workflow else ""


def verify(original: Original, painted: Sequence[ImageReady]) -> bool:
    """Says whether the picture painted again is equal to the last bit, and if not what differs and why."""
    (picture,) = painted
    same, lines = compare(original, picture)
    typer.echo("\n".join(lines))
    return same


def compare(original: Original, made: ImageReady) -> tuple[bool, list[str]]:
    """(equal to the last bit, lines that say so)."""
    before, now = interpret(original.said).settings, interpret(read(made.infotext)).settings
    hashed, found = pixel_hash(made.image), original.pixels()
    if found is not None and pixel_hash(found) == hashed:
        return True, [f"equal: every pixel is that of {original.path}"]
    if found is None and before.pixel_hash == hashed:
        return True, [f"equal: the pixels have the hash that {original.path} says"]
    return False, ["differs", *(f"  {line}" for line in _reasons(original, found, made.image, before, now))]


def _reasons(original: Original, found: Image | None, made: Image, before: Settings, now: Settings) -> Iterator[str]:
    if found is not None:
        yield _distance(found, made)
        if before.pixel_hash is not None and before.pixel_hash != pixel_hash(found):
            lossy = original.path.suffix.lower() in LOSSY
            yield "the file's pixels are no longer those that were painted" + (": its format is lossy" if lossy else "")
        if before.pixel_hash is not None and before.pixel_hash == pixel_hash(made):
            yield "what is painted now is what was painted then"
    for name in Settings.__slots__:
        was, is_ = getattr(before, name), getattr(now, name)
        if was != is_ and name not in NO_REASON:
            yield f"{name.replace('_', ' ')}: {_shown(was)} then, {_shown(is_)} now"
    if undone := ", ".join(changes(before.extras)):
        yield f"{undone}: done then, not now"
    if original.said.dialect != "atelier":
        yield f"it was painted by another program ({original.said.dialect})"


def _shown(value: object) -> str:
    return "not said" if value is None else repr(value)


def _distance(found: Image, made: Image) -> str:
    from PIL import ImageChops

    if found.size != made.size:
        return f"size {found.width}x{found.height} then, {made.width}x{made.height} now"
    difference = ImageChops.difference(found.convert("RGB"), made)
    histogram = difference.histogram()
    counts = [sum(histogram[channel * 256 + level] for channel in range(3)) for level in range(256)]
    largest = max(level for level, count in enumerate(counts) if count)
    changed = 1 - counts[0] / sum(counts)
    return f"{changed:.1%} of the values differ, by {largest} of 255 at most"
