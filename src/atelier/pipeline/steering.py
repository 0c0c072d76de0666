"""The guidances that a request asks for, composed around a network: each only where it is not neutral."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from atelier.adapters.port.freeu import by_level, by_width
from atelier.adapters.port.perturbed import chosen, perturbed
from atelier.adapters.port.watched import Watched
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.image_text import ImageText
from atelier.diffusion.catalogue import guidances
from atelier.diffusion.denoise import ConditionedNet
from atelier.diffusion.guidance.apg import ApgOptions, apg
from atelier.diffusion.guidance.branches import Shape, Term
from atelier.diffusion.guidance.dynamic_thresholding import ThresholdOptions, dynamic_thresholding
from atelier.diffusion.guidance.freeu import FreeuStage
from atelier.diffusion.guidance.pag import pag
from atelier.diffusion.guidance.perp_neg import perp_neg
from atelier.diffusion.guidance.sag import SagOptions, sag
from atelier.diffusion.guidance.slg import BLOCKS, slg
from atelier.diffusion.parameterization import Parameterization
from atelier.diffusion.types import Denoiser, Moment
from atelier.families.facts import LatentFormat
from atelier.families.parts import UNET
from atelier.models.unet import UNetSpec
from atelier.models.vae import AutoencoderKL
from atelier.nn.ports import Ports
from atelier.pipeline.prompted import PromptedNet
from atelier.request.resolved import ResolvedGuidance

READS = ".to_k.weight"
"""What the name of an attention's keys ends with, behind its path."""
Denoising = Callable[[ConditionedNet], Denoiser]
"""A network with its prompts -> the denoiser that it is."""


def is_on(name: str, wanted: ResolvedGuidance) -> bool:
    """Whether the guidance of this name is asked for."""
    return guidances()[name].is_on(wanted.model_dump())


def steered(net: PromptedNet, wanted: ResolvedGuidance, model: Checkpoint) -> PromptedNet:
    """The network with what acts in every call of it."""
    return net.with_ports(_free(wanted, model.spec(UNET))) if is_on("FreeU", wanted) else net


def shapes(net: PromptedNet, wanted: ResolvedGuidance, denoising: Denoising) -> Iterator[Shape]:
    """What puts the branches of guidance together otherwise: the direction, its length, the range of the outcome."""
    if is_on("Perp-Neg", wanted):
        yield perp_neg(denoising(net.empty), wanted.perp_neg_scale)
    if is_on("APG", wanted):
        yield apg(ApgOptions(wanted.apg_eta, wanted.apg_norm_threshold, wanted.apg_momentum))
    if is_on("Dynamic thresholding", wanted):
        yield dynamic_thresholding(ThresholdOptions(wanted.mimic_scale, wanted.mimic_percentile, wanted.mimic_phi))


def terms(
    net: PromptedNet,
    wanted: ResolvedGuidance,
    denoising: Denoising,
    parameterization: Parameterization,
    model: Checkpoint,
) -> Iterator[Term]:
    """What is added to the outcome."""
    if is_on("SAG", wanted):
        options = SagOptions(wanted.sag_scale, wanted.sag_blur_sigma)
        yield sag(partial(_observed, net, denoising), denoising(net.negative), options, parameterization)
    if is_on("PAG", wanted):
        worse = net.with_ports(perturbed(chosen(self_attentions(model), wanted.pag_layers)))
        yield pag(denoising(worse.conditional), wanted.pag_scale)
    if is_on("SLG", wanted):
        shallow = net.with_ports(Ports(omitted=frozenset(f"blocks.{index}" for index in BLOCKS)))
        yield slg(denoising(shallow.conditional), wanted.slg_scale)


@dataclass(frozen=True, slots=True)
class ClipScore:
    """How much clean latents are like their prompts, by the model's own CLIP: `diffusion.guidance.clip.Score`."""

    net: PromptedNet
    judge: ImageText
    vae: AutoencoderKL
    format: LatentFormat

    def __call__(self, clean: Tensor, moment: Moment) -> Tensor:
        """clean (B, C, h, w), all samples in the first view, then all in the next. Of several prompts with AND, the
        weighted sum."""
        weight = next(self.vae.parameters())
        pixels = self.vae.decode(self.format.unscaled(clean).to(weight)).float()
        texts = zip(self.net.samples[0].prompt.weights, self.net.pooled(moment), strict=True)
        views = len(clean) // len(self.net.samples)
        told = ((weight, pooled.to(pixels.device).repeat(views, 1)) for weight, pooled in texts)
        found = [weight * self.judge.similarity(pixels, pooled) for weight, pooled in told]
        return torch.stack(found).sum(0)


def self_attentions(model: Checkpoint) -> tuple[str, ...]:
    """The paths of the layers of a U-Net whose positions read each other."""
    return attentions(model, "attn1")


def attentions(model: Checkpoint, kind: Literal["attn1", "attn2"]) -> tuple[str, ...]:
    """The paths of the layers of a U-Net that read its own positions (attn1) or the text (attn2)."""
    names = (name.ours for name in UNET.network.names(model.spec(UNET)))
    return tuple(name.removesuffix(READS) for name in names if name.endswith(f"{kind}{READS}"))


def _free(wanted: ResolvedGuidance, unet: UNetSpec) -> Ports:
    adaptive, blocks = wanted.freeu_version == "2", unet.blocks + 1
    first = FreeuStage(wanted.freeu_b1, wanted.freeu_s1, adaptive)
    second = FreeuStage(wanted.freeu_b2, wanted.freeu_s2, adaptive)
    if wanted.freeu_version == "diffusers":
        return by_level(first, second, blocks)
    return by_width(first, second, unet.widths, blocks)


def _observed(
    net: PromptedNet, denoising: Denoising, x: Tensor, sigma: Tensor, moment: Moment
) -> tuple[Tensor, Tensor]:
    """The prediction for the negative prompts, and how much each position is attended to, row by row of x."""
    seen = Watched()
    clean = denoising(net.with_ports(seen.ports).negative)(x, sigma, moment).clean
    return clean, torch.cat(seen.maps)[net.negative_rows(len(x), moment).argsort()]
