"""/controlnet/*: the lists of the ControlNet extension, and hints drawn of images."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request

from atelier.api.caller import Caller
from atelier.api.sdapi.annotators import (
    fills,
    find_annotator,
    is_example,
    is_image_prompt,
    not_here,
    resolution,
    thresholds,
)
from atelier.api.sdapi.bodies import Detect
from atelier.api.sdapi.control_lists import control_types, module_list, usable
from atelier.api.sdapi.dialect import Dialect
from atelier.api.sdapi.fields import Fields, refused
from atelier.api.sdapi.names import control_title
from atelier.api.sdapi.pictures import taken
from atelier.api.sdapi.routing import Answer, routes
from atelier.api.sdapi.waiting import done, pictures
from atelier.api.sdapi.wording import in_their_words, names_of_detection
from atelier.api.service import AnnotatorEntry, Catalogue
from atelier.api.uploads import decoded, kept
from atelier.errors import nearest
from atelier.request.controls import MAX_CONTROLS, Control, control_text
from atelier.request.events import Json
from atelier.runtime.jobs.job import NewJob, Owner

VERSION = 3
MOST = 64
"""Images, or poses, of one call."""
DONE = "Success"


def router(dialect: Dialect) -> APIRouter:
    """Its routes."""
    made = routes("/controlnet")
    _lists(made, dialect)
    _work(made, dialect)
    return made


def _lists(made: APIRouter, dialect: Dialect) -> None:
    @made.get("/version")
    async def version(_: Caller) -> dict[str, int]:
        return {"version": VERSION}

    @made.get("/model_list")
    async def models(_: Caller) -> dict[str, list[str]]:
        return {"model_list": [control_title(entry) for entry in (await dialect.service.catalogue()).controls]}

    @made.get("/module_list")
    async def modules(_: Caller) -> Answer:
        return module_list(await dialect.service.catalogue())

    @made.get("/control_types")
    async def types(_: Caller) -> Answer:
        return {"control_types": control_types(await dialect.service.catalogue())}

    @made.get("/settings")
    async def settings(_: Caller) -> dict[str, int]:
        return {"control_net_unit_count": MAX_CONTROLS}


def _work(made: APIRouter, dialect: Dialect) -> None:
    @made.post("/detect")
    async def detect(body: Detect, request: Request, owner: Caller) -> Answer:
        """Draws hints of images."""
        maker = _maker(body, await dialect.service.catalogue())
        sent = [taken(one, f"controlnet_input_images[{n}]").image for n, one in enumerate(body.controlnet_input_images)]
        if not sent or not all(sent):
            raise refused("No image selected", "controlnet_input_images")
        _check_count(len(sent), "controlnet_input_images")
        data = [decoded(text, f"controlnet_input_images[{n}]") for n, text in enumerate(sent)]
        names = [await kept(dialect.service, owner, one, "controlnet_input_images") for one in data]
        texts = [control_text(_control(body, maker, name)) for name in names]
        with in_their_words(names_of_detection(names)):
            return await drawn(dialect, request, owner, {"controls": [*texts]})

    @made.post("/render_openpose_json")
    async def render(poses: list[dict[str, Any]], request: Request, owner: Caller) -> Answer:
        """Draws people of their keypoints."""
        if not poses:
            raise refused("No pose data detected: send a list of poses", "poses")
        _check_count(len(poses), "poses")
        return await drawn(dialect, request, owner, {"poses": [json.dumps(pose) for pose in poses]})


async def drawn(dialect: Dialect, request: Request, owner: Owner, fields: Fields) -> dict[str, Json]:
    """What a job draws."""
    jobs = await done(dialect, request, owner, [NewJob("annotate", fields)], dialect.begin(owner, "", 1))
    found = await pictures(dialect, owner, jobs, dialect.changed)
    wanted = [text for texts in fields.values() if isinstance(texts, list) for text in texts]
    if len(found) < len(wanted):
        raise refused("interrupted: the hints were not all drawn", "controlnet_module", 409)
    return {"images": [picture.data for picture in found], "info": DONE}


def _check_count(count: int, field: str) -> None:
    if count > MOST:
        raise refused(f"{field}: {count} are sent; at most {MOST} are taken at once", field)


def _maker(body: Detect, catalogue: Catalogue) -> AnnotatorEntry:
    """Raises Refused in A1111's words, and why."""
    said, maker = body.controlnet_module, find_annotator(catalogue, body.controlnet_module)
    reason = not_here(said) or ((is_image_prompt(said) or is_example(said)) and "it draws no hint")
    reason = reason or (fills(said) and "its hint is the image without what the mask of a generation shows")
    if not reason and maker is None:
        reason = nearest(said, [entry.name for entry in usable(catalogue)])
    elif not reason and maker is not None and not maker.there:
        reason = f"its file {maker.file} is not there"
    if reason or maker is None:
        raise refused(f"Module not available: controlnet_module {said[:80]!r}: {reason}", "controlnet_module")
    return maker


def _control(body: Detect, maker: AnnotatorEntry, image: str) -> Control:
    given = {
        "controlnet_threshold_a": body.controlnet_threshold_a,
        "controlnet_threshold_b": body.controlnet_threshold_b,
    }
    options = [(own.name, value) for _, own, value in thresholds(maker, given) if own.low <= value <= own.high]
    seen = resolution(body.controlnet_processor_res) if maker.sized else 0
    return Control(image=image, type=maker.name, annotator=maker.name, resolution=seen, options=tuple(options))
