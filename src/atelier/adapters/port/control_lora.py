"""Control-LoRAs: ControlNets that are made of a file and the model's own encoder."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from atelier.adapters.control_lora import check_control_lora, read_control_lora
from atelier.adapters.hints import denoiser, encoder_tensors
from atelier.adapters.port.controlnet import Control
from atelier.adapters.steering import Prepared, SteeringKind
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.families.parts.controlnet import infer_hint
from atelier.families.shapes import Shapes
from atelier.models.controlnet import ControlNet, ControlSpec
from atelier.weights.archive import Archive, Stored
from atelier.weights.load import load_into

FIRST = ("input_blocks.0.0.weight", "input_blocks.0.0.down")
"""What tells how many channels go in."""


def prepare(archive: Archive, model: Checkpoint) -> Prepared:
    """Raises BadFile for one that is for another U-Net."""
    spec = _spec(archive, model)
    check_control_lora(archive, spec)
    return Prepared(partial(_loaded, archive, model, spec))


def _loaded(archive: Archive, model: Checkpoint, spec: ControlSpec, dtype: torch.dtype) -> Control:
    lora = read_control_lora(archive, spec)
    tensors = lora.weights(encoder_tensors(model, spec.unet.in_channels))
    return Control(load_into(lambda: ControlNet(spec), tensors, dtype=dtype, source=archive.path))


def _spec(archive: Archive, model: Checkpoint) -> ControlSpec:
    """That of the model's encoder, with what only the file tells."""
    unet = replace(denoiser(archive, model), guidance=None)
    hint, channels = infer_hint(Shapes.of(Stored(archive, "ldm")))
    given = [info.shape[1] for name in FIRST if (info := archive.tensors.get(name)) and len(info.shape) == 4]
    return ControlSpec(replace(unet, in_channels=given[0]) if given else unet, hint, channels)


SPECS = (SteeringKind("Control-LoRA", "control_lora", prepare),)
