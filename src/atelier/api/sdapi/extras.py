"""Images that are there already: extras, png-info, interrogate."""

from __future__ import annotations

from fastapi import APIRouter, Request

from atelier.api.caller import Caller
from atelier.api.sdapi.answer import encoded
from atelier.api.sdapi.bodies import ExtraBatch, Extras, ExtraSingle, Interrogate, PngInfo
from atelier.api.sdapi.dialect import Dialect
from atelier.api.sdapi.fields import Fields, refused
from atelier.api.sdapi.names import upscaler_named
from atelier.api.sdapi.pictures import taken
from atelier.api.sdapi.routing import Answer, routes
from atelier.api.sdapi.waiting import done
from atelier.api.sdapi.wording import in_their_words, names_of_extras
from atelier.api.service import Catalogue
from atelier.api.uploads import decoded, kept
from atelier.request.events import Json
from atelier.request.infotext.read import read
from atelier.runtime.jobs.job import NewJob, Owner

NONE = "none"
BOOKS = frozenset({"deepdanbooru", "deepbooru"})
"""Readers of images, folded, that A1111 has and that are not here."""
MOST = 64
"""Images of one batch."""


def router(dialect: Dialect) -> APIRouter:
    """Its routes."""
    made = routes()

    @made.post("/extra-single-image")
    async def single(body: ExtraSingle, request: Request, owner: Caller) -> Answer:
        """Enlarges an image."""
        data = decoded(_some(body.image, "image"), "image")
        with in_their_words(names_of_extras(body, "image")):
            (image,), told = await enlarged(dialect, request, owner, body, [data])
        return {"html_info": told, "image": image}

    @made.post("/extra-batch-images")
    async def batch(body: ExtraBatch, request: Request, owner: Caller) -> Answer:
        """Enlarges several images."""
        sent = _sent(body)
        with in_their_words(names_of_extras(body, "imageList")):
            images, told = await enlarged(dialect, request, owner, body, sent)
        return {"html_info": told, "images": list[Json](images)}

    @made.post("/png-info")
    async def png_info(body: PngInfo, _: Caller) -> Answer:
        """What an image says of itself."""
        text = taken(body.image, "image").image
        if not text:
            return {"info": "", "items": {}, "parameters": {}}
        found = await dialect.service.read_image(decoded(text, "image"))
        return {"info": found.infotext, "items": dict(found.items), "parameters": parameters(found.infotext)}

    @made.post("/interrogate")
    async def interrogate(body: Interrogate, request: Request, owner: Caller) -> Answer:
        """What an image shows, in words."""
        _check_reader(body.model)
        image = await kept(dialect.service, owner, decoded(_some(body.image, "image"), "image"), "image")
        work = dialect.begin(owner, "", 1)
        (job,) = await done(dialect, request, owner, [NewJob("interrogate", {"image": image})], work)
        return {"caption": str((job.result or {}).get("caption", ""))}

    return made


def _sent(body: ExtraBatch) -> list[bytes]:
    """The images of a batch. Raises where they are too many."""
    if len(body.image_list) > MOST:
        raise refused(f"imageList: {len(body.image_list)} images; at most {MOST} are taken at once", "imageList")
    return [decoded(one.data, f"imageList[{n}].data") for n, one in enumerate(body.image_list)]


def _check_reader(name: str) -> None:
    """Raises where there is no such reader of images."""
    folded = name.strip().casefold()
    if folded != "clip":
        raise refused(f"model {name[:60]!r} is not there: use clip", "model", 422 if folded in BOOKS else 404)


def _some(image: object, field: str) -> str:
    """Base64 of an image that has to be there."""
    text = taken(image, field).image
    if not text:
        raise refused("Image not found", field, 404)
    return text


async def enlarged(
    dialect: Dialect, request: Request, owner: Owner, body: Extras, images: list[bytes]
) -> tuple[list[str], str]:
    """The images in base64, larger, and what is to be told."""
    told = [
        f"{name}: faces are not restored here"
        for name in ("gfpgan", "codeformer")
        if getattr(body, f"{name}_visibility") > 0
    ]
    fields = of_extras(body, await dialect.service.catalogue())
    if not fields:
        for data in images:
            await dialect.service.read_image(data)
        return [encoded(data) for data in images], "; ".join(told)
    runs = await _runs(dialect, owner, body, fields, images)
    jobs = await done(dialect, request, owner, runs, dialect.begin(owner, "", len(runs)))
    found = [await dialect.service.image(image.id, owner) for job in jobs for image in job.images]
    if len(found) < len(images):
        raise refused("interrupted: the images were not all made", "image", 409)
    return [encoded(data) for _, data in found], "; ".join([*told, *(w for job in jobs for w in job.warnings)])


def of_extras(body: Extras, catalogue: Catalogue) -> Fields:
    """The fields of an upscaling; none where no upscaler is named, which leaves images as they are."""
    names = [(body.upscaler_1, "upscaler_1"), (body.upscaler_2, "upscaler_2")]
    found = [upscaler_named(catalogue, said, field) for said, field in names if said.strip().casefold() != NONE]
    if body.upscaler_1.strip().casefold() == NONE or not found:
        return {}
    fields: Fields = {"upscaler": found[0]}
    if len(found) > 1 and body.extras_upscaler_2_visibility > 0:
        fields |= {"upscaler_2": found[1], "visibility": body.extras_upscaler_2_visibility}
    if not _is_to_size(body):
        fields["scale"] = body.upscaling_resize
    elif body.upscaling_crop:
        fields |= {"width": body.upscaling_resize_w, "height": body.upscaling_resize_h}
    return fields


def _is_to_size(body: Extras) -> bool:
    if str(body.resize_mode).strip() not in {"0", "1"}:
        raise refused(
            f"resize_mode {str(body.resize_mode)[:40]!r}: give 0 (by a factor) or 1 (to a size)", "resize_mode"
        )
    return str(body.resize_mode).strip() == "1"


async def _runs(dialect: Dialect, owner: Owner, body: Extras, fields: Fields, images: list[bytes]) -> list[NewJob]:
    """One job for all; without a crop each image becomes as large as covers the size, by a factor of its own."""
    names = [await kept(dialect.service, owner, data, "image") for data in images]
    if not _is_to_size(body) or body.upscaling_crop:
        return [NewJob("upscale", {**fields, "images": list[Json](names)})]
    return [
        NewJob("upscale", {**fields, "images": [name], "scale": await _covering(dialect, body, data)})
        for name, data in zip(names, images, strict=True)
    ]


async def _covering(dialect: Dialect, body: Extras, data: bytes) -> float:
    found = await dialect.service.read_image(data)
    return max(body.upscaling_resize_w / found.width, body.upscaling_resize_h / found.height)


def parameters(text: str) -> dict[str, Json]:
    """An infotext as A1111's parser gives it: every value is text, and a size is two."""
    found = read(text)
    if not text:
        return {}
    pairs: dict[str, Json] = {"Prompt": found.prompt, "Negative prompt": found.negative_prompt}
    for name, value in found.pairs:
        width, cross, height = value.partition("x")
        if cross and width.isdecimal() and height.isdecimal():
            pairs |= {f"{name}-1": width, f"{name}-2": height}
        else:
            pairs[name] = value
    return {"Clip skip": "1", **pairs} if found.pairs else pairs
