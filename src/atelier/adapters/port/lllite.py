"""ControlNet-LLLite through the port for what projections read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from atelier.adapters.hints import denoiser, like, whole
from atelier.adapters.steering import Acting, Encode, Prepared, SteeringKind
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadFile
from atelier.families.parts.lllite import infer
from atelier.families.shapes import Shapes
from atelier.models.lllite import Lite, LiteSpec, LLLite
from atelier.models.unet import UNetSpec
from atelier.nn.ports import NOTHING, Conditioning, InputPatch, Ports
from atelier.nn.tokens import to_map, to_tokens
from atelier.weights.archive import Archive, Stored
from atelier.weights.load import load_into, read
from atelier.weights.names.lllite import names, places

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Lites:
    """A `HintNet`. levels: of each layer, the level of the U-Net that it is on, the middle's behind the last."""

    net: LLLite
    levels: Mapping[str, int]
    tasks: tuple[str, ...] = ()
    positive: bool = False

    @property
    def nets(self) -> tuple[LLLite]:
        return (self.net,)

    @property
    def middle(self) -> int:
        """The number of the middle among the levels."""
        return max(self.levels.values())

    @property
    def layers(self) -> int:
        """The levels, each with what lies on it, and the middle."""
        return self.middle + 1

    @torch.no_grad()
    def read(self, hint: Tensor, _: str = "", __: Encode | None = None, /) -> tuple[Tensor, ...]:
        """What each layer makes of it, (N, C, h, w)."""
        side = max(own.factor for own in self.net.spec)
        return self.net(whole(like(hint, next(self.net.parameters())), side) * 2 - 1)

    def ports(self, read: Sequence[Tensor], x: Tensor, _t: Tensor, _: Conditioning, acting: Acting, /) -> Ports:
        """Raises ValueError for a hint of another size than the image's."""
        if not acting.acts:
            return NOTHING
        factors = acting.factors(self.layers)
        patches: dict[str, InputPatch] = {}
        for own, layer, hint in zip(self.net.spec, self.net.lites(), read, strict=True):
            level = self.levels[own.path]
            grid = _grid(x, min(level, self.middle - 1))
            tokens = acting.shared(to_tokens(_cut(hint, grid)), len(x))
            patches[own.path] = partial(_changed, layer, tokens, factors[level], acting, grid)
        return Ports(inputs=patches)


def _grid(x: Tensor, level: int) -> Grid:
    return -(-x.shape[-2] // 2**level), -(-x.shape[-1] // 2**level)


def _cut(hint: Tensor, grid: Grid) -> Tensor:
    """Without what was added to make its sides whole."""
    missing = [have - needed for have, needed in zip(hint.shape[-2:], grid, strict=True)]
    if not all(0 <= more <= 1 for more in missing):
        raise ValueError(f"a hint of {tuple(hint.shape[-2:])} positions for a map of {grid}")
    return hint[..., : grid[0], : grid[1]]


@torch.no_grad()
def _changed(layer: Lite, hint: Tensor, factor: float, acting: Acting, grid: Grid, x: Tensor, /) -> Tensor:
    added = to_map(layer(acting.picked(x), hint) * factor, grid)
    return x + to_tokens(acting.placed(added, len(x)))


def prepare(archive: Archive, model: Checkpoint) -> Prepared:
    """Raises BadFile for one that is for another U-Net."""
    stored, unet = Stored(archive, "ldm"), denoiser(archive, model)
    spec, count = infer(Shapes.of(stored), unet), len(unet.widths)
    levels = {own.path: _level(own.path, count) for own in spec} | {"middle": count}
    for own in spec:
        needed = unet.widths[min(levels[own.path], count - 1)]
        if own.width != needed:
            sizes = f"reads states of width {own.width} at {own.path}, and {model.name} has {needed}"
            raise BadFile(archive.path, f"{sizes}: choose one that was made for this model")
    return Prepared(partial(_loaded, stored, spec, unet, levels))


def _loaded(
    stored: Stored, spec: tuple[LiteSpec, ...], unet: UNetSpec, levels: Mapping[str, int], dtype: torch.dtype
) -> Lites:
    tensors = read(stored, names(spec, places(unet)), dtype=dtype, mapped=False)
    return Lites(load_into(lambda: LLLite(spec), tensors, source=stored.archive.path), levels)


def _level(path: str, levels: int) -> int:
    side, number, *_ = path.split(".")
    if side == "middle":
        return levels
    return int(number) if side == "down" else levels - 1 - int(number)


SPECS = (SteeringKind("ControlNet-LLLite", "controlnet", prepare, variants=("lllite",), aliases=("LLLite",)),)
