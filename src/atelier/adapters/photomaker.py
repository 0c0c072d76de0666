"""PhotoMaker's files: the encoder of a person, the LoRA beside it, and the words of a prompt that stand for the person.

It changes text states, so that it has no port: `PhotoMaker.merged` is put between the text encoders and the U-Net, from
a fifth of the steps on (the authors'); before that, the prompt without the trigger is used as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import torch

from atelier.adapters.read import AdapterFile, layers_of
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.kind import identify
from atelier.errors import BadFile, BadInput
from atelier.families.facts import NO_FACTS
from atelier.families.parts import UNET
from atelier.families.parts.photomaker import NETWORK
from atelier.families.shapes import Shapes
from atelier.models.photomaker import PhotoMaker, PhotoMakerSpec
from atelier.weights.archive import Archive, Stored, counted, open_any, renamed
from atelier.weights.load import load_into, read

ENCODERS = ("id_encoder.", "pmid.")
LORA = "lora_weights."
TRIGGER = "img"
"""The word behind the class word, as in "a photo of a man img"."""
MERGES_FROM = 0.2
"""The share of the steps before which the person is left out."""


def open_photomaker(path: Path, model: Checkpoint, dtype: torch.dtype) -> PhotoMaker:
    """The encoder in a file of either version. Raises BadFile for what is none, or for other models."""
    stored, spec = _described(path, model)
    tensors = read(stored, NETWORK.names(spec), dtype=dtype, mapped=False)
    return load_into(lambda: NETWORK.build(spec), tensors, source=path)


def photomaker_spec(path: Path, model: Checkpoint) -> PhotoMakerSpec:
    """The shape of one, from its header. Raises BadFile as `open_photomaker` does."""
    return _described(path, model)[1]


def _described(path: Path, model: Checkpoint) -> tuple[Stored, PhotoMakerSpec]:
    archive = open_any(path)
    identity = identify(archive)
    if identity is None or identity.kind != "photomaker":
        told = f"is {identity.phrase}" if identity else f"has {counted(archive.tensors)}"
        raise BadFile(path, f"is no PhotoMaker: it {told}")
    prefix = next(own for own in ENCODERS if any(name.startswith(own) for name in archive.tensors))
    stored = Stored(archive, "ldm", prefix)
    spec = NETWORK.infer(Shapes.of(stored), NO_FACTS)
    if not model.has(UNET) or model.spec(UNET).context != spec.width:
        told = f"is {identity.phrase}, for text states {spec.width} wide"
        raise BadFile(path, f"{told}, and {model.name} is {model.family.title}: choose a model of the other family")
    return stored, spec


def photomaker_lora(archive: Archive) -> AdapterFile | None:
    """The LoRA beside the encoder, as `adapters.read.matched` takes it; None where there is none."""
    stored = {name.removeprefix(LORA): name for name in archive.tensors if name.startswith(LORA)}
    if not stored:
        return None
    own = renamed(archive, stored)
    layers, others = layers_of(own.tensors)
    return AdapterFile(own, MappingProxyType(layers), tuple(others))


def expanded(ids: Sequence[int], trigger: int, count: int) -> tuple[list[int], range]:
    """(the ids of a prompt without the trigger, in which the word before it stands `count` times; where it stands).

    count: `tokens_per_image` for each image. Raises BadInput where the trigger is not there just once, behind a word.
    """
    if list(ids).count(trigger) != 1 or ids[0] == trigger:
        raise BadInput(f'the prompt needs the word {TRIGGER} once, behind the word for the person ("a man {TRIGGER}")')
    at = list(ids).index(trigger) - 1
    return [*ids[:at], *[ids[at]] * count, *ids[at + 2 :]], range(at, at + count)
