"""Training the KL autoencoder: reconstruction, gradients, KL, and an optional patch discriminator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.nn.attention import SingleHeadAttention
from atelier.nn.conv import ResBlock
from atelier.train import randomness
from atelier.train.data.dataset import Dataset
from atelier.train.data.sheet import sheet
from atelier.train.loop import Machine, Validation
from atelier.train.optimizers import adamw, clipped
from atelier.train.parts import part_settings, part_weights
from atelier.train.recipe import VaeRecipe, digest
from atelier.train.tasks.images import Order, dataset, psnr, stack, to_image, to_pixels


def spec_of(recipe: VaeRecipe) -> VaeSpec:
    m = recipe.model
    return VaeSpec(latent=m.latent, widths=m.widths, blocks=m.blocks, groups=m.groups, mid_attention=m.mid_attention)


def initialise(net: AutoencoderKL, offset: float = 8.0) -> None:
    """Begins near a linear map that keeps absolute colour.

    Residual branches begin at zero and the layers between them keep variance. A group norm forgets the level of a flat
    picture, so the channels before both last norms carry a large constant of alternating sign: next to it the norm
    changes little, and its own weight and bias take the constant away again.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and not name.endswith(("conv1", "conv2")):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            nn.init.zeros_(module.bias) if module.bias is not None else None
        if isinstance(module, ResBlock):
            nn.init.zeros_(module.conv2.weight)
        if isinstance(module, SingleHeadAttention):
            nn.init.zeros_(module.to_out.weight)
    last_up = net.decoder.up[-1].get_submodule("resnets")[-1]
    _pass_level(net.encoder.norm_out, net.encoder.middle.resnet2, offset)
    _pass_level(net.decoder.norm_out, last_up, offset)


@torch.no_grad()
def _pass_level(norm: nn.GroupNorm, before: nn.Module, offset: float) -> None:
    constant = torch.full((norm.num_channels,), offset)
    constant[1::2] = -offset
    before.get_parameter("conv2.bias").copy_(constant)
    norm.weight.fill_(offset)
    norm.bias.copy_(-constant)


class PatchDiscriminator(nn.Module):
    """Says of each patch whether it is real: three strided convolutions (Isola 2017), with group norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.GroupNorm(8, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 3, 1, 1),
            nn.GroupNorm(8, 4 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 3, 1, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image)


@dataclass(frozen=True, slots=True)
class Maker:
    data: Dataset
    order: Order

    def __call__(self, step: int) -> NDArray[np.uint8]:
        return stack(self.data, self.order.indices(step))


class VaeTask:
    def __init__(self, recipe: VaeRecipe, machine: Machine) -> None:
        self.recipe, self.machine = recipe, machine
        self._data, self._held_out = dataset(recipe.data, "train"), dataset(recipe.data, "held_out")
        torch.manual_seed(recipe.run.seed)
        self.vae = AutoencoderKL(spec_of(recipe))
        if recipe.begin:
            part_settings(Path(recipe.begin), "vae")
            self.vae.load_state_dict(part_weights(Path(recipe.begin)))
        else:
            initialise(self.vae)
        if recipe.learn == "decoder":
            self.vae.encoder.requires_grad_(False)
            if self.vae.quant_conv is not None:
                self.vae.quant_conv.requires_grad_(False)
        self.vae = self.vae.to(machine.device, memory_format=torch.channels_last)
        self.critic = PatchDiscriminator(recipe.loss.gan_width).to(machine.device, memory_format=torch.channels_last)
        self._painter = adamw([self.vae], recipe.optim)
        self._judge = adamw([self.critic], recipe.optim, recipe.loss.gan_rate)

    @property
    def nets(self) -> Mapping[str, nn.Module]:
        return {"vae": self.vae}

    @property
    def aids(self) -> Mapping[str, nn.Module]:
        return {"critic": self.critic} if self.recipe.loss.gan else {}

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"vae": self._painter, "critic": self._judge} if self.recipe.loss.gan else {"vae": self._painter}

    @property
    def digest(self) -> str:
        return digest(self.recipe)

    @property
    def maker(self) -> Callable[[int], NDArray[np.uint8]]:
        return Maker(self._data, Order(self._data.length, self.recipe.run.batch, self.recipe.run.seed))

    def update(self, step: int, batch: NDArray[np.uint8]) -> Mapping[str, Tensor]:
        image = to_image(batch, self.machine.device)
        weights = self.recipe.loss
        with self.machine.autocast():
            posterior = self.vae.encode(image)
            noise = randomness.normal(posterior.mean.shape, self.recipe.run.seed, "posterior", step)
            painted = self.vae.decode(posterior.sample(noise.to(image.device)))
        painted = painted.float()
        l1, gradient = (painted - image).abs().mean(), gradient_loss(painted, image)
        kl = posterior.kl().float().mean() / image[0].numel()
        total = weights.l1 * l1 + weights.gradient * gradient + weights.kl * kl
        losses = {"l1": l1, "gradient": gradient, "kl": kl}
        adversarial = weights.gan > 0 and step >= weights.gan_start
        if adversarial:
            fooled = -self.critic(painted).mean()
            total = total + self._balance(total, fooled) * fooled
            losses["fooled"] = fooled
        self._painter.zero_grad(set_to_none=True)
        total.backward()
        losses["norm"] = clipped([self.vae], self.recipe.optim.clip)
        self._painter.step()
        if adversarial:
            losses["critic"] = self._teach_critic(image, painted.detach())
        return {"loss": total.detach(), **{name: loss.detach() for name, loss in losses.items()}}

    def _balance(self, rest: Tensor, fooled: Tensor) -> Tensor:
        """The adaptive weight: both terms pull equally on the last layer (Esser 2021, eq. 7), times loss.gan."""
        last = self.vae.decoder.conv_out.weight
        pulls = [torch.autograd.grad(term, last, retain_graph=True)[0].norm() for term in (rest, fooled)]
        return (pulls[0] / (pulls[1] + 1e-4)).clamp(0, 1e4).detach() * self.recipe.loss.gan

    def _teach_critic(self, real: Tensor, painted: Tensor) -> Tensor:
        loss = 0.5 * (F.relu(1 - self.critic(real)).mean() + F.relu(1 + self.critic(painted)).mean())
        self._judge.zero_grad(set_to_none=True)
        loss.backward()
        clipped([self.critic], self.recipe.optim.clip)
        self._judge.step()
        return loss

    def validate(self, step: int) -> Validation:
        images = to_image(stack(self._held_out, range(self.recipe.data.validation)), self.machine.device)
        painted: list[Tensor] = []
        for chunk in images.split(64):
            painted.append(self.vae.decode(self.vae.encode(chunk).mode()))
        quality = psnr(torch.cat(painted), images).mean()
        pairs = [p for pair in zip(to_pixels(images[:16]), to_pixels(painted[0][:16]), strict=True) for p in pair]
        return Validation({"psnr": float(quality)}, {"reconstructions": sheet(pairs, [""] * len(pairs), columns=8)})

    def extra(self) -> Mapping[str, Any]:
        return {}


def gradient_loss(painted: Tensor, image: Tensor) -> Tensor:
    """Mean absolute difference of the differences between neighbours, across and down."""
    error = painted - image
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    return across.abs().mean() + down.abs().mean()


@torch.no_grad()
def latent_scale(vae: AutoencoderKL, data: Dataset, count: int = 1024) -> float:
    """1 / standard deviation of the latents of `count` pictures: what makes them unit variance for the denoiser."""
    device = next(vae.parameters()).device
    latents = [
        vae.encode(to_image(stack(data, range(i, min(i + 64, count))), device)).mode() for i in range(0, count, 64)
    ]
    return float(1.0 / torch.cat(latents).float().std())
