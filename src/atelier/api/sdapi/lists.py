"""Lists of what there is: GET samplers, sd-models and their like."""

from __future__ import annotations

import platform

from fastapi import APIRouter

from atelier import __version__
from atelier.api.caller import Caller
from atelier.api.sdapi.alwayson import DONE
from atelier.api.sdapi.dialect import Dialect
from atelier.api.sdapi.names import HASH_DIGITS, title, upscalers
from atelier.api.sdapi.plot import offered
from atelier.api.sdapi.routing import Answer, Rows, routes
from atelier.api.sdapi.scripts import SCRIPTS, Script
from atelier.api.service import ModelEntry, NamedEntry, SamplerEntry, SchedulerEntry
from atelier.request.events import Json

FLAGS: dict[str, Json] = {
    "api": True,
    "api_auth": None,
    "api_log": False,
    "api_server_stop": False,
    "nowebui": True,
    "listen": False,
    "port": None,
    "server_name": None,
    "gradio_auth": None,
    "freeze_settings": False,
    "ckpt": None,
    "no_half": False,
    "no_half_vae": False,
    "upcast_sampling": False,
    "precision": "autocast",
    "medvram": False,
    "medvram_sdxl": False,
    "lowvram": False,
    "xformers": False,
    "use_cpu": [],
    "disable_safe_unpickle": False,
    "enable_insecure_extension_access": False,
    "hide_ui_dir_config": True,
    "subpath": None,
    "cors_allow_origins": None,
    "cors_allow_origins_regex": None,
}
"""Flags of A1111's command line with what holds here; those that name folders are left out."""


def router(dialect: Dialect) -> APIRouter:
    """Its routes, all of which only read."""
    made = routes()
    _of_models(made, dialect)
    _of_files(made, dialect)
    _of_others(made, dialect)
    return made


def _of_models(made: APIRouter, dialect: Dialect) -> None:
    @made.get("/sd-models")
    async def models(_: Caller) -> Rows:
        return [_model(model) for model in (await dialect.service.catalogue()).models]

    @made.get("/sd-vae")
    async def autoencoders(_: Caller) -> Rows:
        found = (await dialect.service.catalogue()).autoencoders
        return [{"model_name": entry.name, "filename": entry.file} for entry in found]

    @made.get("/samplers")
    async def samplers(_: Caller) -> Rows:
        return [_sampler(entry) for entry in (await dialect.service.catalogue()).samplers]

    @made.get("/schedulers")
    async def schedulers(_: Caller) -> Rows:
        return [_scheduler(entry) for entry in (await dialect.service.catalogue()).schedulers]

    @made.get("/upscalers")
    async def all_upscalers(_: Caller) -> Rows:
        return [_upscaler(entry) for entry in upscalers(await dialect.service.catalogue())]

    @made.get("/latent-upscale-modes")
    async def latent(_: Caller) -> Rows:
        return [{"name": name} for name in (await dialect.service.catalogue()).latent_upscalers]


def _of_files(made: APIRouter, dialect: Dialect) -> None:
    @made.get("/loras")
    async def loras(_: Caller) -> Rows:
        return [_lora(entry) for entry in (await dialect.service.catalogue()).loras]

    @made.get("/hypernetworks")
    async def hypernetworks(_: Caller) -> Rows:
        return [{"name": own.name, "path": own.file} for own in (await dialect.service.catalogue()).hypernetworks]

    @made.get("/embeddings")
    async def embeddings(_: Caller) -> Answer:
        loaded: dict[str, Json] = {e.name: _embedding(e) for e in (await dialect.service.catalogue()).embeddings}
        return {"loaded": loaded, "skipped": {}}

    @made.get("/prompt-styles")
    async def styles(_: Caller) -> Rows:
        found = (await dialect.service.catalogue()).styles
        return [{"name": s.name, "prompt": s.prompt, "negative_prompt": s.negative_prompt} for s in found]

    @made.get("/realesrgan-models")
    async def realesrgan(_: Caller) -> Rows:
        found = (await dialect.service.catalogue()).upscalers
        named = [entry for entry in found if "esrgan" in entry.name.casefold()]
        return [{"name": entry.name, "path": entry.file, "scale": entry.more.get("scale", 4)} for entry in named]

    for name in ("face-restorers", "extensions"):
        made.add_api_route(f"/{name}", _nothing, methods=["GET"], name=name)


async def _nothing(_: Caller) -> Rows:
    """There is none here."""
    return []


def _of_others(made: APIRouter, dialect: Dialect) -> None:
    @made.get("/scripts")
    async def scripts(_: Caller) -> dict[str, list[str]]:
        return {"txt2img": _titles(image=False), "img2img": _titles(image=True)}

    @made.get("/script-info")
    async def script_info(_: Caller) -> Rows:
        return [_script(s, image=image) for image in (False, True) for s in SCRIPTS.values() if _is_in(s, image=image)]

    @made.get("/cmd-flags")
    async def flags(_: Caller) -> Answer:
        return FLAGS

    @made.get("/memory")
    async def memory(_: Caller) -> Answer:
        found = await dialect.service.memory()
        ram: dict[str, Json] = {"free": found.ram_free, "used": found.ram_used, "total": found.ram_total}
        if not found.device_total:
            return {"ram": ram, "cuda": {"error": "there is no CUDA device"}}
        device: dict[str, Json] = {
            "free": found.device_free,
            "used": found.device_used,
            "total": found.device_total,
        }
        current: dict[str, Json] = {"current": found.device_used, "peak": found.device_used}
        parts: dict[str, Json] = dict.fromkeys(("active", "allocated", "reserved", "inactive"), current)
        return {"ram": ram, "cuda": {"system": device, **parts, "events": {"retries": 0, "oom": 0}}}


def _model(model: ModelEntry) -> dict[str, Json]:
    return {
        "title": title(model),
        "model_name": model.name,
        "hash": model.sha256[:HASH_DIGITS] if model.sha256 else None,
        "sha256": model.sha256,
        "filename": model.file,
        "config": None,
    }


def _sampler(entry: SamplerEntry) -> dict[str, Json]:
    return {"name": entry.name, "aliases": list[Json](entry.aliases), "options": {"scheduler": entry.scheduler}}


def _scheduler(entry: SchedulerEntry) -> dict[str, Json]:
    return {
        "name": entry.name,
        "label": entry.label,
        "aliases": list[Json](entry.aliases) or None,
        "default_rho": -1.0,
        "need_inner_model": False,
    }


def _upscaler(entry: NamedEntry) -> dict[str, Json]:
    return {
        "name": entry.name,
        "model_name": None,
        "model_path": entry.file or None,
        "model_url": None,
        "scale": entry.more.get("scale", 4),
    }


def _lora(entry: NamedEntry) -> dict[str, Json]:
    alias = entry.more.get("alias", entry.name)
    return {"name": entry.name, "alias": alias, "path": entry.file, "metadata": entry.more.get("metadata", {})}


def _embedding(entry: NamedEntry) -> dict[str, Json]:
    return {
        "step": entry.more.get("step"),
        "sd_checkpoint": None,
        "sd_checkpoint_name": None,
        "shape": entry.more.get("width", 0),
        "vectors": entry.more.get("vectors", 0),
    }


def _titles(*, image: bool) -> list[str]:
    return [*DONE, *(name for name, script in SCRIPTS.items() if _is_in(script, image=image))]


def _is_in(script: Script, *, image: bool) -> bool:
    return script.img2img if image else script.txt2img


def _script(script: Script, *, image: bool) -> dict[str, Json]:
    args: list[Json] = [_arg(label, value, image=image) for label, value in script.args]
    return {"name": script.title.casefold(), "is_alwayson": False, "is_img2img": image, "args": args}


def _arg(label: str, value: Json, *, image: bool) -> dict[str, Json]:
    """An argument; the axes of a plot are chosen by their number in the list."""
    choices: list[Json] | None = None
    if label.endswith(" type"):
        choices = [name for name, _ in offered(image=image)]
    return {"label": label, "value": value, "minimum": None, "maximum": None, "step": None, "choices": choices}


def system() -> dict[str, Json]:
    """What a report of a fault needs, and nothing that tells of the machine's user."""
    return {"Version": f"Atelier {__version__}", "Python": platform.python_version(), "Extensions": []}
