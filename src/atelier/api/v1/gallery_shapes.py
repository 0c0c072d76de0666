"""What the gallery answers, and the bodies that it takes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from atelier.api.v1.named import Named
from atelier.api.v1.shapes import ImageShape, Shape, image_shape
from atelier.runtime.jobs.collection import Board, Entry

SHOWN = 200
"""Characters of a prompt that a list shows."""
MANY = 1000
"""Images of one call."""
Name = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$")
]
ImageIds = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=MANY)]


class EntryShape(Shape):
    """An image of the gallery. prompt: its beginning; made, deleted: seconds since 1970; deleted: since when it lies in
    the trash; url, thumbnail: where its files are."""

    id: str
    job: str
    index: int
    seed: int | None
    width: int
    height: int
    format: str
    prompt: str
    made: float
    starred: bool
    deleted: float | None
    url: str
    thumbnail: str


class GalleryShape(Shape):
    """A part of the images, newest first. total: how many fit in all; has_more: whether there are some behind."""

    data: list[EntryShape]
    total: int
    has_more: bool


class SettingShape(Shape):
    name: str
    value: str


class DetailsShape(EntryShape):
    """Everything that is known of an image. settings: what its infotext says, in order; boards: their ids."""

    negative_prompt: str
    settings: list[SettingShape]
    boards: list[str]
    image: ImageShape


class BoardShape(Shape):
    """images: how many; cover: the id of the newest."""

    id: str
    name: str
    created: float
    images: int
    cover: str | None


class CountShape(Shape):
    """How many images it concerned: those that were so already, and ids of nothing, do not count."""

    count: int


class PinnedShape(CountShape):
    """ids: of those images, so that this alone can be undone."""

    ids: list[str]


class Chosen(Named):
    """ids: of images."""

    ids: ImageIds


class BoardName(Named):
    """name: one line."""

    name: Name


def entry_shape(entry: Entry) -> EntryShape:
    return EntryShape.model_validate(_plain(entry) | {"prompt": _beginning(entry.image.infotext)})


def details_shape(entry: Entry) -> DetailsShape:
    from atelier.request.infotext.read import read

    said = read(entry.image.infotext)
    return DetailsShape.model_validate(
        _plain(entry)
        | {
            "prompt": said.prompt,
            "negative_prompt": said.negative_prompt,
            "settings": [SettingShape(name=name, value=value) for name, value in said.pairs],
            "boards": list(entry.boards),
            "image": image_shape(entry.image),
        }
    )


def board_shape(board: Board) -> BoardShape:
    return BoardShape.model_validate(board)


def _plain(entry: Entry) -> dict[str, object]:
    own = {name: getattr(entry, name) for name in ("job", "made", "starred", "deleted")}
    image = {name: getattr(entry.image, name) for name in ("id", "index", "seed", "width", "height", "format")}
    url = f"/v1/images/{entry.image.id}"
    return {**own, **image, "url": url, "thumbnail": f"{url}/thumbnail"}


def _beginning(infotext: str) -> str:
    """The prompt, as far as a list shows it; to take all infotexts of a page apart would take long."""
    text = infotext[: 4 * SHOWN]
    for mark in ("\nNegative prompt: ", "\nSteps: "):
        text = text.partition(mark)[0]
    return " ".join(text.split())[:SHOWN]
