"""An IP-Adapter that learns beside a model: what makes tokens of an image, and the keys and values made of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from atelier.adapters.image_features import image_features
from atelier.adapters.port.ip_adapter import ImagePrompt, needs_of
from atelier.adapters.steering import Acting, Features, open_steering
from atelier.checkpoints.image_encoder import ImageEncoder
from atelier.checkpoints.text import TextTowers
from atelier.errors import BadFile, BadInput
from atelier.models.ip_adapter import (
    FaceTokens,
    IpAdapter,
    IpAdapterSpec,
    LinearTokens,
    MlpTokens,
    Resampler,
    places,
)
from atelier.models.unet import UNet
from atelier.nn.ports import Conditioning, Ports
from atelier.train import randomness
from atelier.train.data.excerpts import Excerpt, pixels
from atelier.train.data.opening import flat, opened, upright
from atelier.train.optimizers import Group
from atelier.train.teaching.base import Base
from atelier.train.teaching.control import beside
from atelier.train.teaching.dropout import Draw

FAINT = 0.1
"""The deviation of tokens at first, in place of 1: those of a small model that mean nothing yet cost it more than it
learns in hundreds of steps. Not 0, where the norm's factors and the layer before them wait for each other."""
SPOKEN = 1.0
"""The same where tokens first learn to be what a text encoder makes of captions: that of its states."""
CACHED = 2**30
"""Bytes of what an encoder makes of images that are kept in memory."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What an encoder sees beside each training image: the image itself, or one of its name in a folder. root: the
    folder of the training images, below which they may lie as those do."""

    folder: Path | None
    root: Path

    def files(self, images: Iterable[Path]) -> tuple[Path, ...]:
        """Those of these images; none where the images themselves are seen. Raises BadFile for one that is missing."""
        return () if self.folder is None else tuple(beside(path, self.folder, self.root) for path in images)

    def of(self, excerpt: Excerpt) -> Image.Image:
        """RGB. Raises BadFile for one that is missing."""
        if self.folder is None:
            return Image.fromarray(pixels(excerpt))
        with opened(beside(excerpt.path, self.folder, self.root)) as image:
            return flat(upright(image))


@dataclass(slots=True)
class _Told:
    """What is dropped in the step that is made, if one is."""

    draw: Draw | None = None


@dataclass(frozen=True, slots=True)
class ImagePromptPupil:
    """Learns beside the base, which stays as it is. encoder: sees the images, and stays too; dropout: the share of
    images that are left out, so that guidance has something to compare with."""

    base: Base
    prompt: ImagePrompt
    encoder: ImageEncoder
    seen: Seen
    dropout: float
    seed: int
    _known: OrderedDict[Excerpt, Tensor] = field(default_factory=OrderedDict[Excerpt, Tensor], init=False, repr=False)
    _told: _Told = field(default_factory=_Told, init=False, repr=False)
    reads = False

    @property
    def nets(self) -> Mapping[str, nn.Module]:
        return {"image_prompt": self.prompt.net}

    @property
    def groups(self) -> tuple[Group, ...]:
        return (Group("image_prompt", list(self.prompt.net.parameters())),)

    @contextmanager
    def at_work(self, draw: Draw | None = None, /) -> Generator[TextTowers]:
        self._told.draw = draw
        try:
            yield self.base.encoder
        finally:
            self._told.draw = None

    def tokens(self, batch: Sequence[Excerpt]) -> Tensor:
        """What the images of a batch become: (B, T, context)."""
        return self.prompt.tokens(self._features(batch))[0]

    def ports(
        self, batch: Sequence[Excerpt], _x: Tensor, _t: Tensor, _cond: Conditioning, negative: Tensor | None = None
    ) -> Ports:
        """What enters the denoiser beside the captions of a batch. negative: (B,), the rows that see no image."""
        tokens, nothing = self.prompt.tokens(self._features(batch))
        dropped = self._dropped(len(batch)).to(tokens.device)
        dropped = dropped if negative is None else dropped | negative.to(tokens.device)
        return self.prompt.ports(torch.where(dropped[:, None, None], nothing, tokens), Acting(), {})

    def _dropped(self, count: int) -> Tensor:
        """(B,), which images of a step are left out: the same after a break."""
        draw = self._told.draw
        if draw is None or not self.dropout:
            return torch.zeros(count, dtype=torch.bool)
        keys = ((self.seed, "image dropout", draw.step, place) for place in draw.images)
        return torch.cat([randomness.uniform((1,), *key) < self.dropout for key in keys])

    def _features(self, batch: Sequence[Excerpt]) -> Features:
        return Features(torch.cat([self._of_one(own) for own in batch]), self._absent())

    def _of_one(self, excerpt: Excerpt) -> Tensor:
        """What the encoder makes of one image: (1, …)."""
        excerpt = replace(excerpt, caption="", weight=1.0, is_class=False, mask=None)
        if excerpt not in self._known:
            features = image_features(self.encoder, [self.seen.of(excerpt)], self.prompt.needs)
            assert features.image is not None
            self._known[excerpt] = features.image
            while len(self._known) > max(1, CACHED // features.image.nbytes):
                self._known.popitem(last=False)
        self._known.move_to_end(excerpt)
        return self._known[excerpt]

    def _absent(self) -> Tensor:
        """The same of no image."""
        if self.prompt.needs.image == "states":
            return self.encoder.nothing().hidden[-2]
        weight = self.encoder.net.patch_embedding.weight
        return torch.zeros(1, self.prompt.needs.width, device=weight.device, dtype=weight.dtype)


def begun(spec: IpAdapterSpec, net: UNet, seed: int, deviation: float = FAINT) -> ImagePrompt:
    """One that has not learned. Its keys and values are the model's own to the text, as in the authors' script; the
    rest is drawn, but for the last norm, which gives the tokens their deviation."""
    torch.manual_seed(seed)
    made = IpAdapter(spec)
    with torch.no_grad():
        if isinstance(made.projection, Resampler) and made.projection.queries is not None:
            made.projection.queries.normal_(0, made.projection.queries.shape[-1] ** -0.5)
        last = last_norm(made.projection)
        nn.init.constant_(last.weight, deviation)
        nn.init.zeros_(last.bias)
        for place, to_k, to_v in zip(places(spec.unet), made.to_k, made.to_v, strict=True):
            for kind, own in (("k", to_k), ("v", to_v)):
                own.get_parameter("weight").copy_(net.get_parameter(f"{place.path}.attn2.to_{kind}.weight"))
    return ImagePrompt(made)


def finished(path: Path, base: Base, spec: IpAdapterSpec) -> Mapping[str, Tensor]:
    """The weights in a file of an IP-Adapter, float32. Raises BadFile for one of another shape."""
    found = open_steering(path, base.checkpoint, torch.float32)
    if not isinstance(found, ImagePrompt) or found.net.spec != spec:
        raise BadFile(path, f"is no IP-Adapter of the shape that is taught ({spec.projection})")
    return found.net.state_dict()


def last_norm(projection: LinearTokens | MlpTokens | Resampler | FaceTokens) -> nn.LayerNorm:
    """What the tokens come out of; of FaceID-plus, those of the face alone."""
    match projection:
        case Resampler():
            return projection.norm_out
        case FaceTokens():
            return projection.face.norm
        case _:
            return projection.norm


def unet_of(base: Base) -> UNet:
    """Raises BadInput for a base without a U-Net."""
    if not isinstance(base.net, UNet):
        raise BadInput(f"base {base.checkpoint.name}: has no U-Net, and only U-Nets are taught image prompts")
    return base.net


def pupil_of(
    base: Base,
    spec: IpAdapterSpec,
    encoder: ImageEncoder,
    seen: Seen,
    dropout: float,
    seed: int,
    deviation: float = FAINT,
) -> ImagePromptPupil:
    """A pupil that has not learned."""
    assert needs_of(spec).image is not None
    prompt = begun(spec, unet_of(base), seed, deviation)
    prompt.net.to(base.device)
    encoder.net.to(base.device).requires_grad_(requires_grad=False)
    return ImagePromptPupil(base, prompt, encoder, seen, dropout, seed)
