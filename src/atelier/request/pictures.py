"""Images in memory in the place of files: a request is text, and carries them as data: URIs."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping
from typing import IO, Any, Protocol, cast, runtime_checkable

from atelier.errors import BadInput, shortened

DATA = "data:image/png;base64,"
WORD = "IMAGE"
"""What stands in a text for the image beside it, as in the notes of infotexts."""
FIELDS = frozenset({"image", "mask", "depth"})
"""Fields that are an image."""
TEXTS = frozenset({"controls", "references", "faces", "regions"})
"""Fields of texts that name images."""


@runtime_checkable
class Picture(Protocol):
    """A PIL image, as far as it is needed here."""

    @property
    def mode(self) -> str: ...

    def save(self, fp: IO[bytes], format: str | None = None, **params: Any) -> None: ...  # noqa: A002, ANN401 - as PIL has it


Pictured = tuple[str, Picture | Mapping[str, Picture]]
"""A text with the image that IMAGE stands for in it, or with several by the words that stand for them."""


def data_uri(image: Picture) -> str:
    """An image as a PNG. Raises BadInput for a mode that PNG does not have."""
    buffer = io.BytesIO()
    try:
        image.save(buffer, format="PNG", compress_level=1)
    except OSError as error:
        raise BadInput(f"an image of the mode {image.mode} cannot be sent as a PNG: convert it to RGB") from error
    return DATA + base64.b64encode(buffer.getvalue()).decode()


def as_text(name: str, value: object) -> object:
    """The value of a field with its images as text. Raises BadInput; what is no image is left to others."""
    if name in FIELDS and isinstance(value, Picture):
        return data_uri(value)
    if name in TEXTS and isinstance(value, (list, tuple)):
        return [_spelled(name, item) for item in cast("list[object]", value)]
    return value


def _spelled(name: str, item: object) -> object:
    """Of a text and its images, the text with them in their places."""
    pair: list[object] = [*cast("tuple[object, ...]", item)] if isinstance(item, tuple) else []
    if len(pair) != 2 or not isinstance(pair[0], str):
        return cast("object", item)
    images = _named(pair[1])
    return _placed(name, pair[0], images) if images else cast("object", item)


def _named(given: object) -> Mapping[str, Picture]:
    """One image, or several by words; none where anything else is among them."""
    if isinstance(given, Picture):
        return {WORD: given}
    named: dict[str, object] = {**cast("Mapping[str, object]", given)} if isinstance(given, Mapping) else {}
    found = {word: own for word, own in named.items() if isinstance(own, Picture)}
    return found if len(found) == len(named) else {}


def _placed(name: str, text: str, images: Mapping[str, Picture]) -> str:
    words = "|".join(map(re.escape, images))
    found = re.compile(rf'(?<![\w./\\"-])(?:{words})(?![\w./\\"-])')
    there = found.findall(text)
    for word in images:
        if there.count(word) != 1:
            told = f"{word} stands there {there.count(word)} times: write it once, where a file would stand"
            raise BadInput(f"{name}: {shortened(text)!r}: {told}")
    return found.sub(lambda own: json.dumps(data_uri(images[own[0]])), text)
