"""Images that jobs made, images that are sent, and what an image says of itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response

from atelier.api.caller import Behind, Caller
from atelier.api.errors import refuse
from atelier.api.uploads import check_kind, kept, kind_of
from atelier.api.v1.ids import Digest, ImageId
from atelier.api.v1.shapes import ImageShape, ImageTextShape, UploadShape, image_shape

routes = APIRouter(tags=["images"])
Responses = dict[int | str, dict[str, Any]]
TYPES = ("image/png", "image/jpeg", "image/webp")
FOREVER = "private, max-age=31536000, immutable"
"""An image never changes under its id."""
BINARY: dict[str, dict[str, dict[str, str]]] = {
    kind: {"schema": {"type": "string", "format": "binary"}} for kind in TYPES
}
_FILE: Responses = {200: {"content": BINARY, "description": "The file."}, 304: {"description": "It has not changed."}}
_SENT = {"requestBody": {"required": True, "content": BINARY}}


class ImageFile(Response):
    """The bytes of an image."""

    media_type = "image/png"


@routes.get("/v1/images/{image_id}", response_class=ImageFile, responses=_FILE)
async def image(
    image_id: ImageId,
    service: Behind,
    owner: Caller,
    format: Annotated[Literal["png", "jpeg", "webp"], Query(description="Of the file.")] = "png",  # noqa: A002
    quality: Annotated[int, Query(ge=0, le=100, description="Of JPEG and WebP.")] = 90,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The file of an image."""
    about, data = await service.image(image_id, owner)
    tag = f'"{about.sha256}"' if format == about.format else f'"{about.sha256}-{format}-{quality}"'
    headers = {"ETag": tag, "Cache-Control": FOREVER}
    if if_none_match is not None and tag in if_none_match:
        return Response(status_code=304, headers=headers)
    if format != about.format:
        data = await service.rendition(image_id, owner, kind=format, quality=quality)
    headers["Content-Disposition"] = f'inline; filename="{about.id}.{format}"'
    return Response(data, media_type=f"image/{format}", headers=headers)


@routes.get("/v1/images/{image_id}/metadata")
async def metadata(image_id: ImageId, service: Behind, owner: Caller) -> ImageShape:
    """What is known of an image; infotext: the text that makes it again."""
    return image_shape(await service.about(image_id, owner))


@routes.get(
    "/v1/images/{image_id}/thumbnail",
    response_class=ImageFile,
    responses={200: {"content": {"image/jpeg": BINARY["image/jpeg"]}, "description": "The file."}},
)
async def thumbnail(image_id: ImageId, service: Behind, owner: Caller) -> Response:
    """The image, small, as JPEG."""
    data = await service.thumbnail(image_id, owner)
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": FOREVER})


@routes.post("/v1/uploads", status_code=201, openapi_extra=_SENT)
async def upload(request: Request, service: Behind, owner: Caller) -> UploadShape:
    """Takes an image for the fields of a request that hold one: the body is the file itself."""
    data = await _body(request)
    return UploadShape(id=await kept(service, owner, data, "body"), bytes=len(data))


@routes.get("/v1/uploads/{digest}", response_class=ImageFile, responses=_FILE)
async def uploaded(digest: Digest, service: Behind, owner: Caller) -> Response:
    """An image that was sent: its id is `upload:` and this."""
    data = await service.uploaded(f"upload:{digest}", owner)
    return Response(data, media_type=kind_of(data), headers={"Cache-Control": FOREVER})


@routes.post("/v1/image-text", openapi_extra=_SENT)
async def image_text(request: Request, service: Behind, _owner: Caller) -> ImageTextShape:
    """Reads the settings that an image holds: the body is the file itself, and is not kept."""
    return ImageTextShape.model_validate(await service.read_image(await _body(request)))


async def _body(request: Request) -> bytes:
    data = await request.body()
    if not data:
        raise refuse(422, "body is empty: send the bytes of a PNG, JPEG or WebP", field="body")
    check_kind(data, "body")
    return data
