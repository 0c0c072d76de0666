"""Generates an image with checkpoints and diffusion alone: no pipeline, no command line.

python examples/minimal.py "a red apple on a blue background" apple.png [MODEL]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import atelier
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.text import encode, text_encoder
from atelier.diffusion.denoise import denoiser, timed
from atelier.diffusion.guidance.cfg import CfgOptions, cfg
from atelier.diffusion.rng import draw, silent, streams
from atelier.diffusion.samplers.dpmpp_2m import dpmpp_2m
from atelier.diffusion.schedules.karras import karras
from atelier.diffusion.scheduling import ScheduleOptions
from atelier.diffusion.types import Moment
from atelier.families.parts import UNET, VAE

EMBEDDED = Path(atelier.__file__).parent / "data" / "embedded"


def generate(prompt: str, path: Path, *, steps: int = 20, seed: int = 0) -> Image.Image:
    model = open_checkpoint(path)
    text = encode(text_encoder(model, torch.float32), ["", prompt])
    unet, vae = model.load(UNET, torch.float32), model.load(VAE, torch.float32)

    def net(x: Tensor, t: Tensor, _: Moment) -> Tensor:
        return unet(x, t, text)

    both = denoiser(net, model.parameterization, model.levels)
    denoise = timed(cfg(both, CfgOptions(model.defaults.cfg_scale)), steps)
    sigmas = karras(ScheduleOptions())(model.levels, steps)
    side = model.size // model.latent.factor
    x = draw(streams([seed]), (model.latent.channels, side, side)) * sigmas[0]
    for step in dpmpp_2m()(denoise, x, sigmas, silent):
        print(f"step {step.index + 1} of {step.total}")
        x = step.x

    image = vae.decode(model.latent.unscaled(x))[0]
    values = ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).numpy())


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        sys.exit('usage: python examples/minimal.py "PROMPT" PICTURE [MODEL]')
    prompt, output, *model = sys.argv[1:]
    generate(prompt, Path(*model) if model else EMBEDDED).save(output)
