"""Tiny models that networks steer, in diffusers' hands and in ours, and what both make of the same input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import tiny
import tiny_sd
import tiny_sd3
from atelier.adapters.steering import Acting, HintNet
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import Modules, write_diffusers
from atelier.families.parts import UNET
from atelier.models.unet import UNet
from atelier.nn.ports import NOTHING, Conditioning, Ports
from weights_support import fill


def _deep(made: Modules, **spec: object) -> Modules:
    """The same with a U-Net of three levels of two blocks each."""
    net = UNet(replace(made.networks["unet"].spec, widths=(32, 64, 64), blocks=2, **spec))
    tiny.randomize(net, 7)
    return replace(made, networks={**made.networks, "unet": net})


MADE: Mapping[str, Callable[[], Modules]] = {
    "sd1-deep": lambda: _deep(tiny.modules(), depth=(1, 1, 0), heads=(2, 2, 2)),
    "sdxl-deep": lambda: _deep(tiny_sd.sdxl(), depth=(0, 1, 2), heads=(1, 2, 2)),
    "sd1": tiny.modules,
    "sd2": tiny_sd.sd2,
    "sdxl": tiny_sd.sdxl,
    "sd3": tiny_sd3.modules,
}
FACTOR = 8
"""Pixels of a hint per position, of networks for published models."""
STEPS, SCALE = 4, 3.0


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def hint(count: int = 1, height: int = 64, width: int = 96, seed: int = 5) -> Tensor:
    """(N, 3, H, W) in [0, 1]."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Both:
    """One U-Net in diffusers' hands and in ours, its model on disk, and what it is told of two rows."""

    folder: Path
    model: Checkpoint
    theirs: Any
    ours: UNet
    cond: Conditioning

    @property
    def added(self) -> Any:
        """What is told beside the text, as diffusers takes it."""
        if self.cond.sizes is None:
            return None
        return {"text_embeds": self.cond.pooled, "time_ids": self.cond.sizes}


def both(folder: Path, name: str) -> Both:
    """A tiny model of U-Nets, written to `folder` and opened twice."""
    from diffusers import UNet2DConditionModel

    write_diffusers(MADE[name](), folder / name)
    model = open_checkpoint(folder / name)
    ours: UNet = model.load(UNET)
    theirs = UNet2DConditionModel.from_pretrained(folder / name / "unet").eval().requires_grad_(requires_grad=False)
    pooled, sizes = None, None
    if ours.spec.vector is not None:
        pooled = drawn(2, tiny_sd.G, seed=2)
        sizes = torch.tensor([[1500.0, 333, 12, 7, 640, 888], [64, 80, 0, 3, 64, 96]])
    return Both(folder / name, model, theirs, ours, Conditioning(drawn(2, 5, ours.spec.context, seed=1), pooled, sizes))


def control_of(unet: Any, kind: Any = None, **config: object) -> Any:
    """diffusers' ControlNet for one of its U-Nets, with weights by its own names."""
    from diffusers import ControlNetModel

    kind = kind or ControlNetModel
    wanted = dict(unet.config)
    shared = (
        "in_channels block_out_channels layers_per_block down_block_types cross_attention_dim attention_head_dim "
        "norm_num_groups transformer_layers_per_block use_linear_projection addition_embed_type "
        "addition_time_embed_dim projection_class_embeddings_input_dim"
    )
    given = {key: wanted[key] for key in shared.split()}
    return fill(kind(**{**given, **config})).requires_grad_(requires_grad=False)


def steps_of(predict: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Tensor:
    """x (1, C, h, w) through diffusers' DDIM with guidance. predict: ((2, C, h, w), (2,)) -> what the network says of
    the negative prompt and of the prompt."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    scheduler.set_timesteps(STEPS)
    for t in scheduler.timesteps:
        negative, positive = predict(x.expand(2, -1, -1, -1), t.expand(2)).chunk(2)
        x = scheduler.step(negative + SCALE * (positive - negative), t, x).prev_sample
    return x


def trajectory(both: Both, net: HintNet, read: Any, x: Tensor, acting: Acting | None = None) -> Tensor:
    """What our network makes of x with a steering one."""

    def predict(x: Tensor, t: Tensor) -> Tensor:
        return both.ours(x, t.float(), both.cond, net.ports(read, x, t.float(), both.cond, acting or Acting()))

    return steps_of(predict, x)


def residuals(ports: Ports) -> tuple[Tensor, ...]:
    assert ports is not NOTHING
    return ports.residuals
