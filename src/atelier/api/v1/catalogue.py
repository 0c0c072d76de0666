"""What requests can name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fastapi import APIRouter

import atelier
from atelier.adapters.control_types import CONTROL_TYPES, ControlType
from atelier.api.caller import Admin, Behind, Caller, Setup
from atelier.api.errors import Refused, problem_of
from atelier.api.service import AnnotatorEntry
from atelier.api.v1.generate import PROMPT_LENGTH, GenerateFields
from atelier.api.v1.images import TYPES
from atelier.api.v1.shapes import (
    AnnotatorShape,
    Capabilities,
    ControlsShape,
    ControlTypeShape,
    Load,
    ModelList,
    ModelShape,
    NamedShape,
    Page,
    SamplerShape,
    SchedulerShape,
    Shape,
    Status,
    StyleShape,
    model_shape,
)
from atelier.runtime.jobs.job import UnknownJob

S = TypeVar("S", bound=Shape)
routes = APIRouter(tags=["catalogue"])


@routes.get("/v1/models")
async def models(service: Behind, _owner: Caller) -> ModelList:
    """The models, as OpenAI lists them."""
    found = await service.catalogue()
    return ModelList(data=[model_shape(entry, found.model) for entry in found.models])


@routes.post("/v1/models/load")
async def load(body: Load, service: Behind, _owner: Admin) -> Status:
    """Reads a model into memory and uses it where none is named."""
    await service.load(body.model)
    return Status(status="loaded")


@routes.post("/v1/models/unload")
async def unload(service: Behind, _owner: Admin) -> Status:
    """Gives the memory of all networks back."""
    await service.unload()
    return Status(status="unloaded")


@routes.post("/v1/models/refresh")
async def refresh(service: Behind, _owner: Admin) -> Status:
    """Looks at the folders of models again."""
    await service.refresh()
    return Status(status="refreshed")


@routes.get("/v1/models/{model}")
async def model(model: str, service: Behind, _owner: Caller) -> ModelShape:
    """One of them, by its name."""
    found = await service.catalogue()
    for entry in found.models:
        if entry.name == model:
            return model_shape(entry, found.model)
    raise Refused(problem_of(UnknownJob(model)))


@routes.get("/v1/samplers")
async def samplers(service: Behind, _owner: Caller) -> Page[SamplerShape]:
    return _page(SamplerShape, (await service.catalogue()).samplers)


@routes.get("/v1/schedulers")
async def schedulers(service: Behind, _owner: Caller) -> Page[SchedulerShape]:
    return _page(SchedulerShape, (await service.catalogue()).schedulers)


@routes.get("/v1/upscalers")
async def upscalers(service: Behind, _owner: Caller) -> Page[NamedShape]:
    """Those of images, and those of latents, which only a second pass can use."""
    found = await service.catalogue()
    of_latents = [NamedShape(name=name, file="", more={"latent": True}) for name in found.latent_upscalers]
    return Page[NamedShape](data=[*_page(NamedShape, found.upscalers).data, *of_latents])


@routes.get("/v1/autoencoders")
async def autoencoders(service: Behind, _owner: Caller) -> Page[NamedShape]:
    return _page(NamedShape, (await service.catalogue()).autoencoders)


@routes.get("/v1/adapters")
async def adapters(service: Behind, _owner: Caller) -> Page[NamedShape]:
    """LoRAs and their kin: a prompt names them, <lora:NAME:1>."""
    return _page(NamedShape, (await service.catalogue()).loras)


@routes.get("/v1/embeddings")
async def embeddings(service: Behind, _owner: Caller) -> Page[NamedShape]:
    """Textual inversions: a prompt names them."""
    return _page(NamedShape, (await service.catalogue()).embeddings)


@routes.get("/v1/controls")
async def controls(service: Behind, _owner: Caller) -> ControlsShape:
    """What `controls`, `references` and `faces` of a request can name."""
    found = await service.catalogue()
    return ControlsShape(
        networks=_page(NamedShape, found.controls).data,
        types=[_type(kind, found.annotators) for kind in CONTROL_TYPES.values()],
        annotators=_page(AnnotatorShape, found.annotators).data,
    )


def _type(kind: ControlType, known: Sequence[AnnotatorEntry]) -> ControlTypeShape:
    """With the annotators that there are, by the names that they are listed by."""
    names = {name: own.name for own in known for name in (*own.aliases, own.name)}
    there = dict.fromkeys(names[name] for name in kind.annotators if name in names)
    return ControlTypeShape(name=kind.name, title=kind.title, annotators=list(there))


@routes.get("/v1/styles")
async def styles(service: Behind, _owner: Caller) -> Page[StyleShape]:
    return _page(StyleShape, (await service.catalogue()).styles)


@routes.get("/v1/capabilities")
async def capabilities(settings: Setup, _owner: Caller) -> Capabilities:
    """What the server takes: the JSON schema of a request, and the limits around it."""
    limits: dict[str, float] = {
        "body_bytes": settings.body_limit,
        "json_depth": settings.json_depth,
        "json_values": settings.json_values,
        "prompt_characters": PROMPT_LENGTH,
    }
    schema = GenerateFields.model_json_schema()
    return Capabilities(version=atelier.__version__, request=schema, limits=limits, image_formats=list(TYPES))


def _page(shape: type[S], entries: tuple[object, ...]) -> Page[S]:
    return Page[shape](data=[shape.model_validate(entry) for entry in entries])
