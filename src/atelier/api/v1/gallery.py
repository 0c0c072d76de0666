"""One's images: found, starred, put on boards, thrown away and restored, taken along as a zip."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from atelier.api.caller import Behind, Caller
from atelier.api.service import Service
from atelier.api.v1.gallery_shapes import (
    BoardName,
    BoardShape,
    Chosen,
    CountShape,
    DetailsShape,
    GalleryShape,
    PinnedShape,
    board_shape,
    details_shape,
    entry_shape,
)
from atelier.api.v1.ids import BoardId, ImageId
from atelier.api.v1.shapes import ImageTextShape, Page
from atelier.api.v1.zipped import zipped
from atelier.runtime.jobs.collection import Wanted, Window
from atelier.runtime.jobs.job import Owner
from atelier.runtime.jobs.search import LONGEST

routes = APIRouter(tags=["gallery"])
PAGE, MOST_SKIPPED = 500, 1_000_000
Id = Annotated[str | None, Query(max_length=64, pattern="^[A-Za-z0-9_-]+$")]


class Zip(StreamingResponse):
    """A zip that is made while it is sent."""

    media_type = "application/zip"


@routes.get("/v1/images")
async def found(
    service: Behind,
    owner: Caller,
    *,
    q: Annotated[str, Query(max_length=LONGEST, description="Words of the prompt, and field:value.")] = "",
    starred: Annotated[bool | None, Query(description="Only those with a star, or without.")] = None,
    board: Annotated[Id, Query(description="Only those on this board.")] = None,
    job: Annotated[Id, Query(description="Only those of this job.")] = None,
    deleted: Annotated[bool, Query(description="Those in the trash, instead of all others.")] = False,
    limit: Annotated[int, Query(ge=1, le=PAGE, description="Images on a page.")] = 100,
    before: Annotated[Id, Query(description="The id of an image to go on from.")] = None,
    skip: Annotated[int, Query(ge=0, le=MOST_SKIPPED, description="Images to leave out first.")] = 0,
) -> GalleryShape:
    """One's images, newest first."""
    wanted = Wanted(q, starred, board, job, deleted)
    part = await service.album.find(owner, wanted, Window(limit + 1, before, skip))
    entries = [entry_shape(entry) for entry in part.entries[:limit]]
    return GalleryShape(data=entries, total=part.total, has_more=len(part.entries) > limit)


@routes.get("/v1/images/{image_id}/details")
async def details(image_id: ImageId, service: Behind, owner: Caller) -> DetailsShape:
    """Everything that is known of an image."""
    return details_shape(await service.album.entry(image_id, owner))


@routes.get("/v1/images/{image_id}/fields")
async def fields(image_id: ImageId, service: Behind, owner: Caller) -> ImageTextShape:
    """The request that makes an image again, as POST /v1/image-text tells it of its file."""
    _, data = await service.image(image_id, owner)
    return ImageTextShape.model_validate(await service.read_image(data))


@routes.post("/v1/images/star")
async def star(body: Chosen, service: Behind, owner: Caller) -> CountShape:
    """Gives images a star: of those that have one, and of those on boards, none is removed to make room while there are
    others."""
    return CountShape(count=await service.album.change(owner, body.ids, "star"))


@routes.post("/v1/images/unstar")
async def unstar(body: Chosen, service: Behind, owner: Caller) -> CountShape:
    """Takes their stars away."""
    return CountShape(count=await service.album.change(owner, body.ids, "unstar"))


@routes.post("/v1/images/delete")
async def delete(body: Chosen, service: Behind, owner: Caller) -> CountShape:
    """Puts images into the trash, which is emptied of what has lain there for a week."""
    return CountShape(count=await service.album.change(owner, body.ids, "delete"))


@routes.post("/v1/images/restore")
async def restore(body: Chosen, service: Behind, owner: Caller) -> CountShape:
    """Takes images out of the trash, with their stars and boards."""
    return CountShape(count=await service.album.change(owner, body.ids, "restore"))


@routes.post("/v1/images/purge")
async def purge(body: Chosen, service: Behind, owner: Caller) -> CountShape:
    """Removes images for good that are in the trash, and whose jobs have ended."""
    return CountShape(count=await service.album.change(owner, body.ids, "purge"))


@routes.post(
    "/v1/images/zip",
    response_class=Zip,
    responses={
        200: {
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
            "description": "The files, and missing.txt for those that are not there.",
        }
    },
)
async def zip_file(body: Chosen, service: Behind, owner: Caller) -> Zip:
    """The files of images as one zip, in that order."""
    headers = {"Content-Disposition": 'attachment; filename="images.zip"', "Cache-Control": "no-store"}
    return Zip(await zipped(service, owner, list(dict.fromkeys(body.ids))), headers=headers)


@routes.get("/v1/boards")
async def boards(service: Behind, owner: Caller) -> Page[BoardShape]:
    """One's boards, in the order in which they were made."""
    return Page[BoardShape](data=[board_shape(board) for board in await service.album.boards(owner)])


@routes.post("/v1/boards", status_code=201)
async def make_board(body: BoardName, service: Behind, owner: Caller) -> BoardShape:
    """Makes an empty one."""
    return board_shape(await service.album.make_board(owner, body.name.strip()))


@routes.patch("/v1/boards/{board_id}")
async def rename_board(board_id: BoardId, body: BoardName, service: Behind, owner: Caller) -> BoardShape:
    """Gives it another name."""
    await service.album.rename_board(owner, board_id, body.name.strip())
    return await _board(board_id, service, owner)


@routes.delete("/v1/boards/{board_id}", status_code=204)
async def remove_board(board_id: BoardId, service: Behind, owner: Caller) -> None:
    """Removes it; its images stay."""
    await service.album.remove_board(owner, board_id)


@routes.post("/v1/boards/{board_id}/{change}")
async def fill(
    board_id: BoardId, change: Literal["add", "remove"], body: Chosen, service: Behind, owner: Caller
) -> PinnedShape:
    """Puts images on a board, or takes them off."""
    concerned = await service.album.put(owner, board_id, body.ids, inside=change == "add")
    return PinnedShape(count=len(concerned), ids=list(concerned))


async def _board(board_id: str, service: Service, owner: Owner) -> BoardShape:
    return next(board_shape(board) for board in await service.album.boards(owner) if board.id == board_id)
