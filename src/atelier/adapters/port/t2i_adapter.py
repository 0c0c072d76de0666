"""T2I-Adapters through the port for features on the way down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from atelier.adapters.hints import denoiser, like, located, settings, whole
from atelier.adapters.steering import Acting, Encode, Prepared, SteeringKind
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadFile
from atelier.families.facts import NO_FACTS
from atelier.families.parts.t2i_adapter import NETWORK
from atelier.families.shapes import Shapes
from atelier.models.t2i_adapter import AdapterSpec, T2IAdapter
from atelier.models.unet import UNetSpec
from atelier.nn.ports import NOTHING, Conditioning, FeaturePatch, Ports
from atelier.weights.archive import Archive, Stored
from atelier.weights.load import load_into, read
from atelier.weights.names.name import Layout

PREFIXES = ("", "adapter.")
MARKS: Mapping[str, Layout] = {
    "body.0.block1.weight": "ldm",
    "body.0.body.0.block1.weight": "ldm",
    "body.0.resnets.0.block1.weight": "diffusers",
}
TYPES = ("full_adapter", "light_adapter", "full_adapter_xl")
"""As diffusers calls them; the last halves the resolution once."""
FADED = (0.25, 0.62, 0.825, 1.0)
"""How much each level counts, from the outermost, where prompt or control is to win (A1111's numbers)."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A `HintNet`. unet: of the U-Net whose way down it adds to."""

    net: T2IAdapter
    unet: UNetSpec
    tasks: tuple[str, ...] = ()
    positive: bool = False

    @property
    def nets(self) -> tuple[T2IAdapter]:
        return (self.net,)

    @property
    def layers(self) -> int:
        return len(self.net.spec.widths)

    @torch.no_grad()
    def read(self, hint: Tensor, _: str = "", __: Encode | None = None, /) -> tuple[Tensor, ...]:
        """Features of each level."""
        spec, weight = self.net.spec, next(self.net.parameters())
        hint = hint.mean(dim=1, keepdim=True) if spec.channels == 1 else hint
        return self.net(whole(like(hint, weight), spec.unshuffle))

    def ports(self, read: Sequence[Tensor], x: Tensor, _t: Tensor, _: Conditioning, acting: Acting, /) -> Ports:
        """Raises ValueError for a hint of another size than the image's."""
        if not acting.acts:
            return NOTHING
        factors = _factors(len(read), acting)
        patches: dict[str, FeaturePatch] = {}
        for level, (features, factor) in enumerate(zip(read, factors, strict=True)):
            added = acting.placed(acting.shared(features, len(x)) * factor, len(x))
            patches[self._place(level, features, x)] = partial(_plus, added)
        return Ports(features=patches)

    def _place(self, level: int, features: Tensor, x: Tensor) -> str:
        """Where features of this size belong: behind the last block of a level or, at half its resolution, behind the
        whole of it; what is left over, in the middle."""
        last, size = len(self.unet.widths) - 1, (features.shape[-2], features.shape[-1])
        here, below = _size(x, min(level, last)), _size(x, min(level + 1, last))
        if size == here:
            return "middle" if level > last else f"down.{level}.{self.unet.blocks - 1}"
        if size == below and level < last:
            return f"down.{level}"
        raise ValueError(f"features of {size} positions for level {level} of a latent of {x.shape[-2:]}")


def _factors(levels: int, acting: Acting) -> tuple[float, ...]:
    if acting.layers or not acting.fades:
        return acting.factors(levels)
    faded = (FADED[0],) * (levels - len(FADED)) + FADED[-levels:]
    return tuple(acting.weight * own for own in faded)


def _plus(added: Tensor, features: Tensor, /) -> Tensor:
    return features + added


def _size(x: Tensor, level: int) -> tuple[int, int]:
    return -(-x.shape[-2] // 2**level), -(-x.shape[-1] // 2**level)


def prepare(archive: Archive, model: Checkpoint) -> Prepared:
    """Raises BadFile for one that is for another U-Net."""
    stored, unet, config = located(archive, MARKS, PREFIXES), denoiser(archive, model), settings(archive)
    spec = NETWORK.infer(Shapes.of(stored), NO_FACTS)
    if config is not None:
        spec = replace(spec, xl=config.choice("adapter_type", TYPES) == TYPES[-1])
    if not _fits(spec, unet):
        sizes = f"widths {_listed(spec.widths)}, and {model.name} has {_listed(unet.widths)}"
        raise BadFile(archive.path, f"is for U-Nets with {sizes}: choose one that was made for this model")
    return Prepared(partial(_loaded, stored, spec, unet))


def _loaded(stored: Stored, spec: AdapterSpec, unet: UNetSpec, dtype: torch.dtype) -> Adapter:
    tensors = read(stored, NETWORK.names(spec), dtype=dtype, mapped=False)
    return Adapter(load_into(lambda: T2IAdapter(spec), tensors, source=stored.archive.path), unet)


def _fits(spec: AdapterSpec, unet: UNetSpec) -> bool:
    """Whether each level's features have a place of their width and resolution, see `Adapter._place`."""
    last, scale = len(unet.widths) - 1, 2 if spec.xl else 1
    for level, width in enumerate(spec.widths):
        scale *= 2 if spec.halves(level) else 1
        places = (2**level, 2 ** min(level + 1, last)) if level <= last else (2**last,)
        if width != unet.widths[min(level, last)] or scale not in places:
            return False
    return last < len(spec.widths) <= last + 2


def _listed(widths: Sequence[int]) -> str:
    return ", ".join(map(str, widths))


SPECS = (SteeringKind("T2I-Adapter", "t2i_adapter", prepare, variants=("full", "light")),)
