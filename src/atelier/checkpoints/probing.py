"""What a file leaves open and only its network can tell, before anything is generated with it or written."""

from __future__ import annotations

from dataclasses import replace

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import SPEC
from atelier.families.parts import UNET


def settled(model: Checkpoint) -> Checkpoint:
    """The model with facts that its denoising network showed, where nothing says them. Most models come back as they
    are, without a tensor read. Raises BadFile as `Checkpoint.load` does."""
    probe, stored = model.family.probe, model.parts[model.family.denoiser]
    if probe is None or model.layout != "ldm" or SPEC in stored.archive.metadata or not probe.is_silent(stored.archive):
        return model
    import torch

    return replace(model, facts=probe.ask(model.load(UNET, torch.float32), model.facts))
