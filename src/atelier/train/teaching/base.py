"""The model that is taught: any family that generates, with its networks in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.embedded import EMBEDDED, embedded_folder
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.text import TextTower, TextTowers, text_encoder
from atelier.diffusion.parameterization import Parameterization
from atelier.diffusion.types import Levels
from atelier.errors import BadFile
from atelier.families.part import PartSpec
from atelier.families.telling import Said, Telling
from atelier.models.unet import UNet, UNetSpec
from atelier.nn.conv import channels_last
from atelier.nn.ports import NOTHING, Conditioning, Ports
from atelier.prompt import Chunk, Weighted, chunk
from atelier.weights.cast import PRECISIONS

Autoencoder = Any
"""A network with `encode` to a posterior and `decode`, as those of `models.vae`."""


@dataclass(frozen=True, slots=True)
class Base:
    """net: the denoising network; encoder: its text encoders; vae: the autoencoder. None of them has gradients.
    clip_skip: which layer of the text encoders is read, 1 for the last."""

    checkpoint: Checkpoint
    net: nn.Module
    encoder: TextTowers
    vae: Autoencoder
    device: torch.device
    clip_skip: int = 1

    @property
    def levels(self) -> Levels:
        return self.checkpoint.levels

    @property
    def parameterization(self) -> Parameterization:
        return self.checkpoint.parameterization

    @property
    def denoiser(self) -> PartSpec[Any, Any]:
        """The part that `net` is."""
        return denoiser_of(self.checkpoint)

    @property
    def parts(self) -> Mapping[str, PartSpec[Any, Any]]:
        """What can be taught, by name: the denoising network and the text encoders."""
        return parts_of(self.checkpoint)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The denoising network and the text encoders, by the names of their parts."""
        towers = (tower.part.name for tower in self.checkpoint.towers)
        return {self.denoiser.name: self.net, **dict(zip(towers, self.encoder.nets, strict=True))}

    @property
    def net_channels(self) -> int:
        """Of the denoiser's input."""
        weight = self.net.get_parameter("conv_in.weight" if isinstance(self.net, UNet) else "patch_embedding.weight")
        return weight.shape[1]

    @property
    def step(self) -> int:
        """Sides of images are multiples of so many pixels: what a position of the coarsest level covers."""
        return step_of(self.checkpoint)

    @torch.no_grad()
    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the latents of pixels (B, 3, H, W) in [-1, 1], as the network sees them."""
        latent, found = self.checkpoint.latent, self.vae.encode(pixels)
        return latent.scaled(found.mean), torch.exp(0.5 * found.logvar) * latent.scale

    @torch.no_grad()
    def pixels(self, latents: Tensor) -> Tensor:
        """The inverse of that for latents (B, C, h, w)."""
        latent = self.checkpoint.latent
        return self.vae.decode(latents / latent.scale + latent.shift)


def denoiser_of(model: Checkpoint) -> PartSpec[Any, Any]:
    part = model.family.part(model.family.denoiser)
    assert part is not None
    return part


def parts_of(model: Checkpoint) -> Mapping[str, PartSpec[Any, Any]]:
    """See Base.parts."""
    own = denoiser_of(model)
    return {own.name: own, **{tower.part.name: tower.part for tower in model.towers}}


def step_of(model: Checkpoint) -> int:
    """See Base.step."""
    spec, factor = model.spec(denoiser_of(model)), model.latent.factor
    return factor * (2 ** (len(spec.widths) - 1) if isinstance(spec, UNetSpec) else spec.patch)


def opened(source: str) -> Checkpoint:
    """The model at a path; "embedded" is that of this package. Raises BadFile, also for a model that is quantised."""
    path = embedded_folder() if source == EMBEDDED and not Path(source).exists() else Path(source)
    model = open_checkpoint(path)
    if model.dtype not in PRECISIONS:
        raise BadFile(path, f"is kept as {model.dtype}: a model that is quantised cannot be taught; give the full one")
    return model


def base_of(model: Checkpoint, device: torch.device, dtype: torch.dtype, clip_skip: int = 1) -> Base:
    """The model in memory, its denoising network and text encoders in `dtype`; the autoencoder in float32."""
    family = model.family
    denoiser, autoencoder = family.part(family.denoiser), family.part(family.autoencoder)
    assert denoiser is not None
    assert autoencoder is not None

    def placed(net: nn.Module) -> nn.Module:
        return channels_last(net.to(device)).eval().requires_grad_(requires_grad=False)

    return Base(
        model,
        placed(model.load(denoiser, dtype, mapped=False)),
        text_encoder(model, dtype, placed=cast("Any", placed), mapped=False),
        placed(model.load(autoencoder, torch.float32, mapped=False)),
        device,
        clip_skip,
    )


@dataclass(frozen=True, slots=True)
class Caption:
    """A text, and the sizes of its image, which some networks are conditioned on."""

    text: str
    height: int
    width: int
    said: Said = field(default_factory=Said)


def conditioning_of(base: Base, encoder: TextTowers, captions: Sequence[Caption], least: int = 1) -> Conditioning:
    """What captions condition the network on, one row each; gradients reach what of `encoder` has any.

    A caption that is longer than a chunk goes on in further ones, and all rows get as many as the longest, and at least
    so many.
    """
    return told(base, states_of(base, encoder, [caption.text for caption in captions], least), captions)


def states_of(base: Base, encoder: TextTowers, texts: Sequence[str], least: int = 1) -> Conditioning:
    """What the text encoders make of texts, before the family's own is added: tokens (N, chunks * T, C), pooled (N, P);
    least: see conditioning_of."""
    return encoder.join([_rows(tower, texts, least, base.clip_skip) for tower in encoder.towers])


def told(base: Base, states: Conditioning, captions: Sequence[Caption]) -> Conditioning:
    """What the network is conditioned on by the states of captions."""
    tell = base.checkpoint.family.tell
    parts = [
        tell(
            Conditioning(tokens, None if states.pooled is None else states.pooled[number]),
            Telling(caption.height, caption.width, empty=not caption.text, positively=caption.said),
        )
        for number, (caption, tokens) in enumerate(zip(captions, states.tokens, strict=True))
    ]
    return Conditioning(
        torch.stack([part.tokens for part in parts]),
        _stacked([part.pooled for part in parts]),
        _stacked([part.sizes for part in parts]),
    )


def predict(net: nn.Module, x: Tensor, t: Tensor, cond: Conditioning, ports: Ports = NOTHING) -> Tensor:
    """The network's output (B, O, h, w), all of its inputs in its own precision."""
    dtype = next(net.parameters()).dtype
    pooled, channels = (None if part is None else part.to(dtype) for part in (cond.pooled, cond.channels))
    return net(x.to(dtype), t, replace(cond, tokens=cond.tokens.to(dtype), pooled=pooled, channels=channels), ports)


def _rows(tower: TextTower, texts: Sequence[str], least: int, clip_skip: int) -> Conditioning:
    """tokens (N, chunks * T, C); pooled (N, P), of the first chunk."""
    own = [chunk([Weighted(text)], tower.tokenize, tower.marks, tower.inversions).chunks for text in texts]
    most = max(least, *(len(chunks) for chunks in own))
    empty = chunk([Weighted("")], tower.tokenize, tower.marks).chunks[0]
    flat: list[Chunk] = [c for chunks in own for c in (*chunks, *[empty] * (most - len(chunks)))]
    found = tower.encode(flat, clip_skip)
    tokens = found.tokens.reshape(len(texts), -1, found.tokens.shape[-1])
    return replace(found, tokens=tokens, pooled=None if found.pooled is None else found.pooled[::most])


def chunks_of(encoder: TextTowers, texts: Iterable[str]) -> int:
    """How many chunks the longest of these texts takes."""
    found = (
        len(chunk([Weighted(text)], tower.tokenize, tower.marks, tower.inversions).chunks)
        for text in set(texts)
        for tower in encoder.towers
    )
    return max(found, default=1)


def _stacked(rows: Sequence[Tensor | None]) -> Tensor | None:
    there = [row for row in rows if row is not None]
    return torch.stack(there) if there else None
