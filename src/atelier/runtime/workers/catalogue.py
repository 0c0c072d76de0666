"""What there is to be named by requests, as JSON that the server's side understands."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.diffusion.catalogue import AUTOMATIC, samplers, schedules
from atelier.errors import BadFile, BadInput
from atelier.pipeline.stages.enlarge import LATENT_MODES
from atelier.registry import folded
from atelier.request.events import Json
from atelier.runtime.networks import embeddings
from atelier.runtime.upscalers import UpscalerFile, UpscalerNames
from atelier.weights.hashes import HashCache

if TYPE_CHECKING:
    from atelier.runtime.engine import Engine
    from atelier.runtime.library import Model


def listed(engine: Engine, hashes: HashCache) -> dict[str, Json]:
    """All names. Files that are no model that can be generated with are left out."""
    library = engine.library
    return {
        "models": [entry for model in library.models() if (entry := _model(engine, model, hashes)) is not None],
        "samplers": [
            {"name": spec.name, "aliases": [*spec.aliases], "scheduler": spec.schedule} for spec in samplers().values()
        ],
        "schedulers": [_scheduler(AUTOMATIC, ())]
        + [_scheduler(spec.name, spec.aliases) for spec in schedules().values()],
        "upscalers": [_upscaler(name, UpscalerNames(library)) for name in UpscalerNames(library).names()],
        "latent_upscalers": [*LATENT_MODES],
        "autoencoders": [_named(name, path) for name, path in library.autoencoders().items()],
        "loras": [_named(name, path) for name, path in library.adapters().items()],
        "embeddings": [_named(name, path) for name, path in embeddings(library).items()],
        "styles": _styles(engine),
    }


def _model(engine: Engine, model: Model, hashes: HashCache) -> Json:
    try:
        opened = engine.resources.open(model.path)
        known = hashes.known(opened.files[0]) if model.path.is_file() else None
    except (BadFile, BadInput):
        return None
    said: dict[str, Json] = {"name": model.name, "family": opened.family.name, "variant": "base"}
    return {**said, "file": model.path.name, "sha256": known}


def _scheduler(label: str, aliases: tuple[str, ...]) -> Json:
    """The short name is that of our schedule in small letters, which `folded` makes the same."""
    name = folded(label).replace(" ", "_")
    return {"name": name, "label": label, "aliases": [own for own in aliases if own != name]}


def _upscaler(name: str, known: UpscalerNames) -> Json:
    found = known.find(name)
    return {"name": name, "file": found.path.name if isinstance(found, UpscalerFile) else "", "more": {}}


def _named(name: str, path: Path) -> Json:
    return {"name": name, "file": path.name, "more": {}}


def _styles(engine: Engine) -> list[Json]:
    """None where there is no file of styles, or one that cannot be read."""
    with suppress(BadFile):
        found = engine.words.styles().values()
        return [{"name": own.name, "prompt": own.prompt, "negative_prompt": own.negative_prompt} for own in found]
    return []
