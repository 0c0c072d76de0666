"""What there is to be named by requests, as JSON that the server's side understands."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

from atelier.checkpoints.folder import NETWORK_STEM, archive_in
from atelier.checkpoints.kind import Identity, identify
from atelier.diffusion.catalogue import AUTOMATIC, samplers, schedules
from atelier.errors import BadFile, BadInput
from atelier.pipeline.stages.enlarge import LATENT_MODES
from atelier.registry import folded
from atelier.request.events import Json
from atelier.runtime.networks import embeddings
from atelier.runtime.steering import file_of
from atelier.runtime.upscalers import UpscalerFile, UpscalerNames
from atelier.vision.annotate import annotators
from atelier.vision.annotating import Annotator, NeedsFile
from atelier.weights.archive import open_any
from atelier.weights.hashes import LEGACY_START, HashCache, legacy_hash

if TYPE_CHECKING:
    from atelier.runtime.engine import Engine
    from atelier.runtime.library import Library, Model

IMAGE_PROMPTS = frozenset({"ip_adapter"})
"""Kinds of files that read an image as a prompt; all others in folders of networks that steer read hints."""
OF_FACES = ("faceid", "instantid")
"""What variants of these begin with that read faces."""


def listed(engine: Engine, hashes: HashCache) -> dict[str, Json]:
    """All names. Files that are no model that can be generated with are left out."""
    library = engine.library.at_once()
    return {
        "models": [entry for model in library.models() if (entry := _model(engine, model, hashes)) is not None],
        "samplers": [
            {"name": spec.name, "aliases": [*spec.aliases], "scheduler": spec.schedule} for spec in samplers().values()
        ],
        "schedulers": [_scheduler(AUTOMATIC, ())]
        + [_scheduler(spec.name, spec.aliases) for spec in schedules().values()],
        "upscalers": _upscalers(UpscalerNames(library)),
        "latent_upscalers": [*LATENT_MODES],
        "autoencoders": [_named(name, path) for name, path in library.autoencoders().items()],
        "loras": [_named(name, path) for name, path in library.adapters().items()],
        "hypernetworks": [_named(name, path) for name, path in library.hypernetworks().items()],
        "embeddings": [_named(name, path) for name, path in embeddings(library).items()],
        "styles": _styles(engine),
        "controls": [_control(name, path) for name, path in library.controls().items()],
        "annotators": [_annotator(spec, library) for spec in annotators().values()],
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


def _upscalers(known: UpscalerNames) -> list[Json]:
    found = ((name, known.find(name)) for name in known.names())
    return [
        {"name": name, "file": own.path.name if isinstance(own, UpscalerFile) else "", "more": {}}
        for name, own in found
    ]


def _named(name: str, path: Path) -> Json:
    return {"name": name, "file": path.name, "more": {}}


def _control(name: str, path: Path) -> Json:
    """A network that steers. kind: what it reads: a hint, an image prompt, or a face; hash: by which A1111 tells files
    apart, none where a file is so small that it would be that of nothing."""
    with suppress(BadFile):
        identity = identify(archive_in(path, NETWORK_STEM) if path.is_dir() else open_any(path))
        more: dict[str, Json] = {
            "kind": _reads(identity),
            "family": None if identity is None else identity.family,
            "hash": legacy_hash(path) if path.is_file() and path.stat().st_size > LEGACY_START else None,
        }
        return {"name": name, "file": path.name, "more": more}
    return {"name": name, "file": path.name, "more": {"kind": "unknown", "family": None, "hash": None}}


def _reads(identity: Identity | None) -> str:
    if identity is None or identity.kind not in IMAGE_PROMPTS:
        return "hint"
    return "face" if (identity.variant or "").startswith(OF_FACES) else "reference"


def _annotator(spec: Annotator, library: Library) -> Json:
    needs = spec.draw if isinstance(spec.draw, NeedsFile) else None
    return {
        "name": spec.name,
        "aliases": [*spec.aliases],
        "help": spec.help,
        "options": [cast("Json", asdict(option)) for option in spec.options],
        "file": None if needs is None else needs.files[0],
        "there": needs is None or ((path := file_of(needs, library)) is not None and needs.lacking(path) is None),
        "sized": spec.frame != "own",
    }


def _styles(engine: Engine) -> list[Json]:
    """None where there is no file of styles, or one that cannot be read."""
    with suppress(BadFile):
        found = engine.words.styles().values()
        return [{"name": own.name, "prompt": own.prompt, "negative_prompt": own.negative_prompt} for own in found]
    return []
