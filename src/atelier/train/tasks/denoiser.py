"""Training the denoiser: diffusion on latents, steered by the text states of CLIP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atelier.diffusion.levels import scaled_linear, zero_terminal
from atelier.diffusion.parameterization import parameterization
from atelier.errors import BadInput
from atelier.models.clip import ClipText
from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import AutoencoderKL
from atelier.nn.attention import SpatialTransformer
from atelier.nn.conv import ResBlock, channels_last
from atelier.nn.ports import Conditioning
from atelier.train import noise as noises
from atelier.train import objective, randomness, timesteps
from atelier.train.batches import Order, stack, token_rows
from atelier.train.data.sheet import sheet
from atelier.train.descent import Descent
from atelier.train.latents import CHUNK, Latents, Pool, PoolBatches, encoder_digest
from atelier.train.loop import Placement, Validation
from atelier.train.moving import moved, same_latents
from atelier.train.muon import whitening
from atelier.train.optimizers import optimizers
from atelier.train.parts import content
from atelier.train.recipe import Data
from atelier.train.recipes.denoiser import DenoiserRecipe
from atelier.train.recompute import recomputed
from atelier.train.sampling import sampled
from atelier.train.sources import dataset, identity
from atelier.train.starts import model_at, unet_at, vae_at
from atelier.train.tasks.images import to_images, to_pixels
from atelier.train.validation import fixed_loss
from atelier.train.world import ALONE, World
from atelier.weights.tokenizer import ClipTokenizer

SURVEYED = 512
"""Captions whose states stand for those of all."""
READERS = (".attn2.to_k.weight", ".attn2.to_v.weight")
"""The layers of a U-Net that read the text."""
ENDS = frozenset({"conv_in.weight", "conv_out.weight", "conv_out.bias"})
"""What of a U-Net has the shape of the latents."""
SHOWN = 16
Network = Callable[[Tensor, Tensor, Conditioning], Tensor]


@dataclass(frozen=True, slots=True)
class Frozen:
    """The two networks trained before: what makes latents and what reads captions."""

    vae: AutoencoderKL
    vae_run: Path
    latent_scale: float
    text: ClipText
    vocabulary: Path


def spec_of(recipe: DenoiserRecipe, latent: int, context: int) -> UNetSpec:
    """The shape of the recipe's U-Net for latents of `latent` channels and text states of width `context`."""
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
    ends: list[nn.Conv2d | nn.Linear] = [net.conv_out]
    for module in net.modules():
        if isinstance(module, ResBlock):
            ends.append(module.conv2)
        if isinstance(module, SpatialTransformer):
            ends.append(module.proj_out)
    for layer in ends:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.get_parameter("bias"))


def fill(net: UNet, run: Path, vae: Path, data: Data) -> None:
    """Gives `net` the averaged weights of a run, or a model's; those of a model whose latents are not those of the
    autoencoder at `vae` are moved to these. data: the training images. Raises BadFile, BadInput."""
    stored, wanted = unet_at(run), {name: t.shape for name, t in net.state_dict().items()}
    other = {name for name in wanted if name not in stored or stored[name].shape != wanted[name]}
    if not other <= ENDS or stored.keys() != wanted.keys():
        raise BadInput(f"begin = {run}: its denoiser has another shape; give the same [model], vae and clip")
    if other or (model_at(run) is not None and not same_latents(vae_at(run), vae_at(vae))):
        stored = moved(stored, run, vae_at(vae), data)
    net.load_state_dict(stored)


def compiled(net: UNet) -> Network:
    """`net` as torch.compile makes it: the same parameters, the same results but for rounding.

    The first call takes minutes; it raises BadInput where there is no C++ compiler.
    """
    from torch._dynamo.exc import BackendCompilerFailed  # slow to import, and needed here alone

    made = torch.compile(net, dynamic=False)

    def call(x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        try:
            return made(x, t, conditioning)
        except BackendCompilerFailed as error:
            reason = str(error).partition("\n")[0]
            raise BadInput(
                f"compile = true: torch.compile failed ({reason}); install a C++ compiler (g++) or set compile = false"
            ) from error

    return call


def _check_size(recipe: DenoiserRecipe, frozen: Frozen) -> None:
    size, factor = recipe.data.size, frozen.vae.spec.factor
    if size % factor:
        raise BadInput(f"data.size = {size}: not divisible by {factor}, the factor of the autoencoder {frozen.vae_run}")


def dropped(tokens: Tensor, empty: Tensor, share: float, seed: int, step: int, world: World = ALONE) -> Tensor:
    """Rows of tokens (B, T), a share of them replaced by those of the empty caption (T,)."""
    draw = world.own(randomness.uniform((len(tokens) * world.size, 1), seed, "drop", step)).to(tokens.device)
    return torch.where(draw < share, empty, tokens)


@dataclass(frozen=True, slots=True)
class Noised:
    """What a step asks of the network, for each of its images: latents, their noise, what the network sees beside it,
    times, text states."""

    clean: Tensor
    noise: Tensor
    disturbance: Tensor | None
    t: Tensor
    states: Tensor

    def rows(self, chosen: slice) -> Noised:
        beside = None if self.disturbance is None else self.disturbance[chosen]
        return Noised(self.clean[chosen], self.noise[chosen], beside, self.t[chosen], self.states[chosen])


class DenoiserTask:
    """A U-Net on latents of the pool, which worker processes make in `cache`."""

    def __init__(self, recipe: DenoiserRecipe, placement: Placement, frozen: Frozen, cache: Path) -> None:
        _check_size(recipe, frozen)
        self.recipe, self.placement, self.parts = recipe, placement, frozen
        self.parameterization = parameterization(recipe.loss.prediction)
        self.weighting = recipe.loss.weighting()
        self.levels = zero_terminal(scaled_linear()) if recipe.loss.zero_snr else scaled_linear()
        self._data, self._held_out = dataset(recipe.data, "train"), dataset(recipe.data, "held_out")
        self._pool = Pool(
            data=self._data,
            vae=frozen.vae_run,
            spec=frozen.vae.spec,
            scale=frozen.latent_scale,
            vocabulary=frozen.vocabulary,
            folder=cache,
            length=self._data.length or recipe.pool,
            shard=recipe.shard,
            seed=recipe.data.seed,
        ).named(frozen.vae)
        self._vocabulary = ClipTokenizer.from_folder(frozen.vocabulary)
        self._extra = {
            "latent_scale": frozen.latent_scale,
            "autoencoder": encoder_digest(frozen.vae),
            "text_encoder": content(
                frozen.text.spec, {n: t for n, t in frozen.text.state_dict().items() if not n.startswith("projection.")}
            ),
        }
        self._vae = channels_last(frozen.vae.to(placement.device)).eval()
        self._text = frozen.text.to(placement.device).eval()
        torch.manual_seed(recipe.run.seed)
        self.unet = UNet(spec_of(recipe, frozen.vae.spec.latent, frozen.text.spec.width))
        initialise(self.unet)
        self.unet = channels_last(self.unet.to(placement.device))
        self._optimizers = optimizers("unet", self.unet, recipe.optim, ("conv_in.", "conv_out."), self._bases())
        self._descent = Descent(self._optimizers, recipe.optim.clip, recipe.run.accumulate, placement.world)
        if recipe.run.checkpointing:
            recomputed(self.unet)
        self._learning = compiled(self.unet) if recipe.compile else self.unet
        self._empty = torch.tensor(self._vocabulary.ids(""), device=placement.device)
        self._measured: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def _bases(self) -> dict[str, Tensor]:
        """For the layers that read the text: in which basis of its states they learn."""
        gain = self.recipe.optim.text_gain
        if not gain:
            return {}
        captions = [self._data.caption(i) for i in range(min(SURVEYED, self._data.length or SURVEYED))]
        tokens = torch.tensor([self._vocabulary.ids(c) for c in captions], device=self.placement.device)
        basis = whitening(torch.cat([self._text(part).last for part in torch.split(tokens, CHUNK)]), gain)
        return {name: basis for name, _ in self.unet.named_parameters() if name.endswith(READERS)}

    def begin(self) -> None:
        if self.recipe.begin:
            fill(self.unet, Path(self.recipe.begin), self.parts.vae_run, self.recipe.data)

    @property
    def nets(self) -> Mapping[str, nn.Module]:
        return {"unet": self.unet}

    @property
    def aids(self) -> Mapping[str, nn.Module]:
        return {}

    @property
    def frozen(self) -> Sequence[nn.Module]:
        return (self._vae, self._text)

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return self._optimizers

    @property
    def identity(self) -> str:
        return identity(self.recipe, self._data)

    @property
    def maker(self) -> Callable[[int], Latents]:
        run, endless, world = self.recipe.run, self._data.length is None, self.placement.world
        order = Order(self._pool.length, run.batch, run.seed, endless, world.rank, world.size)
        return PoolBatches(self._pool, order)

    def update(self, step: int, batch: Latents, /) -> Mapping[str, Tensor]:
        noised = self._noised(step, batch)
        return self._descent.step(
            len(noised.clean), lambda rows: nullcontext(self._losses(self._learning, noised.rows(rows)))
        )

    def count(self, batch: Latents, /) -> int:
        return len(batch.latents)

    def dry(self, batch: Latents, /) -> Tensor:
        return self._losses(self.unet, self._noised(0, batch).rows(slice(1))).mean()

    def _noised(self, step: int, batch: Latents) -> Noised:
        """What is drawn for the whole batch, and this process's share of it."""
        device, recipe, world = self.placement.device, self.recipe, self.placement.world
        seed = recipe.run.seed
        clean = torch.from_numpy(batch.latents).to(device).float().contiguous(memory_format=torch.channels_last)
        shape = (len(clean) * world.size, *clean.shape[1:])
        noise = world.own(noises.drawn(shape, recipe.noise, seed, step)).to(device)
        beside = noises.disturbance(shape, recipe.noise, seed, step)
        times = objective.shifted(timesteps.drawn(shape[0], recipe.times, seed, step), recipe.loss.time_shift)
        t = objective.indices(world.own(times), len(self.levels.sigmas)).to(device)
        tokens = torch.from_numpy(batch.tokens).to(device)
        with torch.no_grad():
            states = self._text(dropped(tokens, self._empty, recipe.loss.drop, seed, step, world)).last
        return Noised(clean, noise, None if beside is None else world.own(beside).to(device), t, states)

    def _losses(self, unet: Network, noised: Noised) -> Tensor:
        def net(x: Tensor, time: Tensor) -> Tensor:
            return unet(x, time, Conditioning(noised.states))

        detail, sigma = self.recipe.loss.detail, self.levels.sigmas.to(noised.t.device)[noised.t]
        seeing = noises.perturbed(net, self.parameterization, sigma, noised.disturbance)
        arguments = (self.levels, noised.clean, noised.noise, noised.t, self.weighting, detail)
        with self.placement.autocast():
            return objective.loss(seeing, self.parameterization, *arguments)

    def validate(self) -> Validation:
        """The loss of held-out images, and what is generated of their captions."""
        captions = [self._held_out.caption(i) for i in range(SHOWN)]
        images = self.generate(captions)
        return Validation({"held_out": self._held_out_loss()}, {"images": sheet(list(images), captions, columns=8)})

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        """The training loss of held-out images, without dropped captions, at the same noise and times always."""
        if self._measured is None:
            count = min(self.recipe.data.validation, self._held_out.length or self.recipe.data.validation)
            self._measured = self._encoded(range(count))
        clean, states = self._measured

        def losses(rows: slice, noise: Tensor, t: Tensor) -> Tensor:
            return self._losses(self.unet, Noised(clean[rows], noise, None, t, states[rows]))

        return fixed_loss(losses, clean, len(self.levels.sigmas), self.recipe.run.batch)

    def _encoded(self, indices: range) -> tuple[Tensor, Tensor]:
        """Latents and text states of held-out images."""
        device = self.placement.device
        chunks = [indices[i : i + CHUNK] for i in range(0, len(indices), CHUNK)]
        images = (to_pixels(stack(self._held_out, chunk), device) for chunk in chunks)
        clean = torch.cat([self._vae.encode(image).mode() for image in images]) * self.parts.latent_scale
        tokens = torch.from_numpy(token_rows(self._held_out, indices, self._vocabulary)).to(device)
        return clean, self._text(tokens).last

    @torch.no_grad()
    def generate(self, captions: list[str]) -> NDArray[np.uint8]:
        """Images of the captions with the weights as they are: 20 Euler steps, the recipe's CFG scale."""
        device = self.placement.device
        tokens = torch.tensor([self._vocabulary.ids(c) for c in captions], device=device)
        positive = self._text(tokens).last
        negative = self._text(self._empty[None]).last.expand_as(positive)
        states = torch.cat([negative, positive])

        def net(x: Tensor, t: Tensor) -> Tensor:
            return self.unet(x, t, Conditioning(states))

        size = self.recipe.data.size // self._vae.spec.factor
        noise = randomness.normal((len(captions), self._vae.spec.latent, size, size), 0, "validation").to(device)
        x = sampled(net, self.parameterization, self.levels, noise, self.recipe.cfg_scale)
        return to_images(self._vae.decode(x / self.parts.latent_scale))

    def extra(self) -> Mapping[str, Any]:
        return self._extra
