"""Training the KL autoencoder: reconstruction, gradients, KL, and an optional patch discriminator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atelier.errors import BadFile, NotFinite
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.nn.attention import SingleHeadAttention
from atelier.nn.conv import ResBlock, channels_last
from atelier.train import randomness
from atelier.train.batches import ImageBatches, Order, stack
from atelier.train.data.dataset import Dataset
from atelier.train.data.sheet import sheet
from atelier.train.loop import Placement, Validation
from atelier.train.optimizers import optimizers, stepped
from atelier.train.recipes.vae import VaeRecipe
from atelier.train.recompute import recomputed
from atelier.train.sources import dataset, identity
from atelier.train.starts import ENCODING, vae_at
from atelier.train.tasks.critic import Critic
from atelier.train.tasks.images import psnr, to_images, to_pixels
from atelier.train.trainable import freeze


def spec_of(recipe: VaeRecipe) -> VaeSpec:
    """The shape of the recipe's autoencoder."""
    m = recipe.model
    return VaeSpec(latent=m.latent, widths=m.widths, blocks=m.blocks, groups=m.groups, mid_attention=m.mid_attention)


def initialise(net: AutoencoderKL, offset: float = 8.0) -> None:
    """Begins near a linear map that keeps absolute colour.

    Residual branches begin at zero and the layers between them keep variance. A group norm forgets the level of a flat
    image, so the channels before both last norms carry a large constant of alternating sign: next to it the norm
    changes little, and its own weight and bias take the constant away again.
    """
    branches = {c for block in net.modules() if isinstance(block, ResBlock) for c in (block.conv1, block.conv2)}
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module not in branches:
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, ResBlock):
            nn.init.zeros_(module.conv2.weight)
        if isinstance(module, SingleHeadAttention):
            nn.init.zeros_(module.to_out.weight)
    last_up = net.decoder.get_submodule(f"up.{len(net.decoder.up) - 1}.resnets.{net.spec.blocks}")
    _pass_level(net.encoder.norm_out, net.encoder.middle.resnet2, offset)
    _pass_level(net.decoder.norm_out, last_up, offset)


@torch.no_grad()
def _pass_level(norm: nn.GroupNorm, before: nn.Module, offset: float) -> None:
    constant = torch.full((norm.num_channels,), offset)
    constant[1::2] = -offset
    before.get_parameter("conv2.bias").copy_(constant)
    norm.weight.fill_(offset)
    norm.bias.copy_(-constant)


def _new(recipe: VaeRecipe) -> AutoencoderKL:
    """The autoencoder to train, from nothing."""
    vae = AutoencoderKL(spec_of(recipe))
    initialise(vae)
    if recipe.learn == "decoder":
        freeze(vae, ENCODING)
    return vae


class VaeTask:
    """Reconstruction, gradients and KL; where loss.gan is not 0, a critic that is taught in turn."""

    def __init__(self, recipe: VaeRecipe, placement: Placement) -> None:
        self.recipe, self.placement = recipe, placement
        self._data, self._held_out = dataset(recipe.data, "train"), dataset(recipe.data, "held_out")
        torch.manual_seed(recipe.run.seed)
        self.vae = channels_last(_new(recipe).to(placement.device))
        outer = ("encoder.conv_in.", "decoder.conv_out.")
        self._own_optimizers = optimizers("vae", self.vae, recipe.optim, outer)
        self._critic = Critic(recipe, placement) if recipe.loss.gan else None
        if recipe.run.checkpointing:
            recomputed(self.vae)

    def begin(self) -> None:
        if not self.recipe.begin:
            return
        start = vae_at(Path(self.recipe.begin))
        if start.spec != self.vae.spec:
            raise BadFile(
                self.recipe.begin, "holds an autoencoder of another shape than [model]; give the same numbers"
            )
        self.vae.load_state_dict(start.tensors)

    @property
    def nets(self) -> Mapping[str, nn.Module]:
        return {"vae": self.vae}

    @property
    def aids(self) -> Mapping[str, nn.Module]:
        return {} if self._critic is None else {"critic": self._critic.net}

    @property
    def frozen(self) -> Sequence[nn.Module]:
        return ()

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {**self._own_optimizers, **({} if self._critic is None else {"critic": self._critic.optimizer})}

    @property
    def identity(self) -> str:
        return identity(self.recipe, self._data)

    @property
    def maker(self) -> Callable[[int], NDArray[np.uint8]]:
        return ImageBatches(self._data, Order(self._data.length, self.recipe.run.batch, self.recipe.run.seed))

    def count(self, batch: NDArray[np.uint8], /) -> int:
        return len(batch)

    def dry(self, batch: NDArray[np.uint8], /) -> Tensor:
        return self._reconstructed(to_pixels(batch[:1], self.placement.device), 0)[1]

    def update(self, step: int, batch: NDArray[np.uint8], /) -> Mapping[str, Tensor]:
        image = to_pixels(batch, self.placement.device)
        decoded, total, losses = self._reconstructed(image, step)
        critic = self._critic if step >= self.recipe.loss.gan_start else None
        if critic is not None:
            fooled = -critic.net(decoded).mean()
            total = total + self._balance(total, fooled) * fooled
            losses["fooled"] = fooled
        losses["norm"] = stepped(self._own_optimizers, self.vae, total, self.recipe.optim.clip)
        if critic is not None:
            losses["critic"] = critic.taught(image, decoded.detach())
        return {"loss": total.detach(), **{name: loss.detach() for name, loss in losses.items()}}

    def _reconstructed(self, image: Tensor, step: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """What the autoencoder makes of images (B, 3, H, W), the loss of it without the critic's, and its terms."""
        weights, seed = self.recipe.loss, self.recipe.run.seed
        with self.placement.autocast():
            posterior = self.vae.encode(image)
            noise = randomness.normal(posterior.mean.shape, seed, "posterior", step)
            latent = disturbed(posterior.sample(noise.to(image.device)), weights.noise, seed, step)
            decoded = self.vae.decode(latent)
        decoded = decoded.float()
        l1, gradient = (decoded - image).abs().mean(), gradient_loss(decoded, image)
        kl = posterior.kl().float().mean() / image[0].numel()
        total = weights.l1 * l1 + weights.gradient * gradient + weights.kl * kl
        return decoded, total, {"l1": l1, "gradient": gradient, "kl": kl}

    def _balance(self, rest: Tensor, fooled: Tensor) -> Tensor:
        """The adaptive weight: both terms pull equally on the last layer (Esser 2021, eq. 7), times loss.gan."""
        last = self.vae.decoder.conv_out.weight
        pulls: list[Tensor] = [torch.autograd.grad(term, last, retain_graph=True)[0].norm() for term in (rest, fooled)]
        return (pulls[0] / (pulls[1] + 1e-4)).clamp(0, 1e4).detach() * self.recipe.loss.gan

    def validate(self) -> Validation:
        """PSNR in dB of the held-out images, and a sheet of some beside what became of them."""
        count = min(self.recipe.data.validation, self._held_out.length or self.recipe.data.validation)
        images = to_pixels(stack(self._held_out, range(count)), self.placement.device)
        decoded = torch.cat([self.vae.decode(self.vae.encode(chunk).mode()) for chunk in torch.split(images, 64)])
        quality = psnr(decoded, images).mean()
        pairs = [p for pair in zip(to_images(images[:16]), to_images(decoded[:16]), strict=True) for p in pair]
        return Validation({"psnr": float(quality)}, {"reconstructions": sheet(pairs, [""] * len(pairs), columns=8)})

    def extra(self) -> Mapping[str, Any]:
        return {}


def disturbed(latent: Tensor, share: float, seed: int, step: int) -> Tensor:
    """The latents (B, C, h, w) with normal noise of U(0, share) standard deviations, one draw a latent.

    What the decoder cannot tell from noise is worth nothing to it, so the encoder gives fine detail as much amplitude
    as coarse shape. A denoiser learns what stands out of its noise; of latents trained without, it never learned the
    fine half. Source: Zheng 2025 (arXiv:2510.11690), noise-augmented decoding.
    """
    strength = randomness.uniform((len(latent), 1, 1, 1), seed, "strength", step).to(latent) * share
    noise = randomness.normal(latent.shape, seed, "disturbance", step).to(latent)
    return latent + strength * latent.detach().std() * noise


def gradient_loss(decoded: Tensor, image: Tensor) -> Tensor:
    """Mean absolute difference of the differences between neighbours, across and down."""
    error = decoded - image
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    return across.abs().mean() + down.abs().mean()


@torch.no_grad()
def latent_scale(vae: AutoencoderKL, data: Dataset, count: int = 1024) -> float:
    """1 / standard deviation of the latents of `count` images: what makes them unit variance for the denoiser.

    Raises NotFinite when there is no such number.
    """
    count, device = min(count, data.length or count), next(vae.parameters()).device
    chunks = [range(i, min(i + 64, count)) for i in range(0, count, 64)]
    latents = torch.cat([vae.encode(to_pixels(stack(data, chunk), device)).mode() for chunk in chunks])
    scale = float(1.0 / latents.float().std())
    if not math.isfinite(scale):
        raise NotFinite(f"the autoencoder's latents have scale {scale}: train it again with a lower optim.rate")
    return scale
