"""Training the denoiser: diffusion on latents, steered by the text states of CLIP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atelier.diffusion.denoise import denoiser
from atelier.diffusion.guidance.cfg import Guidance, cfg
from atelier.diffusion.levels import scaled_linear
from atelier.diffusion.parameterization import parameterization
from atelier.diffusion.samplers.euler import euler
from atelier.diffusion.schedules.uniform import uniform
from atelier.diffusion.scheduling import ScheduleOptions
from atelier.models.clip import ClipText
from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import AutoencoderKL
from atelier.nn.attention import SpatialTransformer
from atelier.nn.conv import ResBlock
from atelier.nn.ports import Conditioning
from atelier.train import objective, randomness
from atelier.train.data.sheet import sheet
from atelier.train.latents import Pool, PoolOrder
from atelier.train.loop import Machine, Validation
from atelier.train.optimizers import adamw, clipped
from atelier.train.recipe import DenoiserRecipe, digest
from atelier.train.tasks.images import dataset, to_pixels
from atelier.weights.tokenizer import ClipTokenizer

SHOWN, STEPS, SCALE = 16, 20, 4.0


@dataclass(frozen=True, slots=True)
class Frozen:
    """The two networks trained before: what makes latents and what reads captions."""

    vae: AutoencoderKL
    vae_weights: Path
    latent_scale: float
    text: ClipText
    vocabulary: Path


def spec_of(recipe: DenoiserRecipe, latent: int, context: int) -> UNetSpec:
    m = recipe.model
    return UNetSpec(
        in_channels=latent,
        out_channels=latent,
        widths=m.widths,
        blocks=m.blocks,
        depth=m.depth,
        mid_depth=m.mid_depth,
        heads=m.heads,
        context=context,
        groups=m.groups,
    )


def initialise(net: UNet) -> None:
    """Residual branches and the output begin at zero (Ho 2020; Dhariwal 2021)."""
    for module in net.modules():
        if isinstance(module, ResBlock):
            nn.init.zeros_(module.conv2.weight)
        if isinstance(module, SpatialTransformer):
            nn.init.zeros_(module.proj_out.get_parameter("weight"))
    nn.init.zeros_(net.conv_out.weight)


@dataclass(frozen=True, slots=True)
class Batch:
    latents: NDArray[np.float16]
    tokens: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Maker:
    pool: Pool
    order: PoolOrder

    def __call__(self, step: int) -> Batch:
        return Batch(*self.pool.rows(self.order.indices(step)))


class DenoiserTask:
    def __init__(self, recipe: DenoiserRecipe, machine: Machine, frozen: Frozen, cache: Path) -> None:
        self.recipe, self.machine = recipe, machine
        self.parameterization, self.levels = parameterization(recipe.loss.prediction), scaled_linear()
        data, self._held_out = dataset(recipe.data, "train"), dataset(recipe.data, "held_out")
        self._finite = data.length is not None
        self._pool = Pool(
            data=data,
            vae=frozen.vae_weights,
            spec=frozen.vae.spec,
            scale=frozen.latent_scale,
            vocabulary=frozen.vocabulary,
            folder=cache,
            length=data.length or recipe.pool,
            shard=recipe.shard,
            seed=recipe.data.seed,
        )
        self._vocabulary = ClipTokenizer.from_folder(frozen.vocabulary)
        self._vae = frozen.vae.to(machine.device, memory_format=torch.channels_last).eval()
        self._text = frozen.text.to(machine.device).eval()
        self._scale = frozen.latent_scale
        torch.manual_seed(recipe.run.seed)
        self.unet = UNet(spec_of(recipe, frozen.vae.spec.latent, frozen.text.spec.width))
        initialise(self.unet)
        self.unet = self.unet.to(machine.device, memory_format=torch.channels_last)
        self._optimizer = adamw([self.unet], recipe.optim)
        self._empty = torch.tensor(self._vocabulary.ids(""), device=machine.device)

    @property
    def nets(self) -> Mapping[str, nn.Module]:
        return {"unet": self.unet}

    @property
    def aids(self) -> Mapping[str, nn.Module]:
        return {}

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"unet": self._optimizer}

    @property
    def digest(self) -> str:
        return digest(self.recipe)

    @property
    def maker(self) -> Callable[[int], Batch]:
        run = self.recipe.run
        return Maker(self._pool, PoolOrder(self._pool.length, run.batch, run.seed, self._finite))

    def update(self, step: int, batch: Batch) -> Mapping[str, Tensor]:
        device, seed = self.machine.device, self.recipe.run.seed
        clean = torch.from_numpy(batch.latents).to(device).float().contiguous(memory_format=torch.channels_last)
        noise = randomness.normal(clean.shape, seed, "noise", step).to(device)
        count = len(clean)
        t = (self._strata(step, count) * len(self.levels.sigmas)).long().to(device)
        tokens = self._dropped(step, torch.from_numpy(batch.tokens).to(device))
        with torch.no_grad():
            states = self._text(tokens).last
        with self.machine.autocast():
            losses = objective.loss(
                lambda x, time: self.unet(x, time, Conditioning(states)),
                self.parameterization,
                self.levels,
                clean,
                noise,
                t,
                self.recipe.loss.snr_gamma,
            )
        loss = losses.mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = clipped([self.unet], self.recipe.optim.clip)
        self._optimizer.step()
        return {"loss": loss.detach(), "norm": norm}

    def _strata(self, step: int, count: int) -> Tensor:
        """Times spread evenly over [0, 1) in random order: uniform each, with less variance together."""
        seed = self.recipe.run.seed
        shift = randomness.uniform((1,), seed, "time", step)
        return ((torch.arange(count) + shift) / count)[randomness.permutation(count, seed, "turn", step)]

    def _dropped(self, step: int, tokens: Tensor) -> Tensor:
        draw = randomness.uniform((len(tokens), 1), self.recipe.run.seed, "drop", step).to(tokens.device)
        return torch.where(draw < self.recipe.loss.drop, self._empty, tokens)

    def validate(self, step: int) -> Validation:
        captions = [self._held_out.caption(i) for i in range(SHOWN)]
        pictures = self.paint(captions)
        return Validation({}, {"pictures": sheet(list(pictures), captions, columns=8)})

    @torch.no_grad()
    def paint(self, captions: list[str]) -> NDArray[np.uint8]:
        """Pictures of the captions with the weights as they are: 20 Euler steps, CFG scale 4."""
        device = self.machine.device
        tokens = torch.tensor([self._vocabulary.ids(c) for c in captions], device=device)
        positive = self._text(tokens).last
        negative = self._text(self._empty[None]).last.expand_as(positive)
        states = torch.cat([negative, positive])

        def net(x: Tensor, t: Tensor) -> Tensor:
            return self.unet(x, t, Conditioning(states))

        size = self.recipe.data.size // self._vae.spec.factor
        sigmas = uniform(ScheduleOptions())(self.levels, STEPS)
        noise = randomness.normal((len(captions), self._vae.spec.latent, size, size), 0, "validation").to(device)
        denoise = cfg(Guidance(SCALE))(denoiser(net, self.parameterization, self.levels))
        x = noise * sigmas[0]
        for moment in euler()(denoise, x, sigmas.to(device), lambda *_: noise):
            x = moment.x
        return to_pixels(self._vae.decode(x / self._scale))

    def extra(self) -> Mapping[str, Any]:
        return {"latent_scale": self._scale}
