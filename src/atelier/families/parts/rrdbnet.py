"""RRDBNet on disk, in each of its three spellings: its spec from its shapes."""

from __future__ import annotations

from collections.abc import Collection
from math import isqrt
from typing import TYPE_CHECKING

from atelier.errors import BadFile
from atelier.families.facts import NO_FACTS, PartFacts
from atelier.families.part import Architecture
from atelier.families.shapes import Shapes
from atelier.weights.names import rrdbnet as names

if TYPE_CHECKING:
    from atelier.models.rrdbnet import RrdbNet, RrdbSpec

_SPELLINGS = (
    ("body.{}.rdb", "body.0.rdb1.conv1", "conv_first", "conv_last"),
    ("RRDB_trunk.{}.RDB", "RRDB_trunk.0.RDB1.conv1", "conv_first", "conv_last"),
    ("model.1.sub.{}.RDB", "model.1.sub.0.RDB1.conv1.0", "model.0", ""),
)
"""(blocks, first convolution of the first block, first convolution, last one). In the third, layers are counted, and
the last of them is the last convolution."""
_MAX_DOUBLINGS = 3


def detect(found: Collection[str]) -> bool:
    """Whether the names of tensors are those of an RRDBNet."""
    return any(f"{first}.weight" in found for _, first, _, _ in _SPELLINGS)


def infer(shapes: Shapes, _: PartFacts) -> RrdbSpec:
    """Raises BadFile where the shapes are no such network's."""
    from atelier.models.rrdbnet import RrdbSpec

    blocks, inner, first, last = next(s for s in _SPELLINGS if f"{s[1]}.weight" in shapes.found)
    last = last or f"model.{_highest(shapes)}"
    width, inputs = shapes.shape(f"{first}.weight", 4)[:2]
    outputs = shapes.shape(f"{last}.weight", 4)[0]
    unshuffle = _unshuffle(shapes, inputs, outputs)
    doublings = _doublings(shapes, last)
    if not 0 <= doublings <= _MAX_DOUBLINGS or 2**doublings % unshuffle:
        raise BadFile(shapes.source, "is an upscaler of an impossible scale: it is damaged or of another kind")
    return RrdbSpec(
        channels=inputs // unshuffle**2,
        out_channels=outputs,
        width=width,
        growth=shapes.shape(f"{inner}.weight", 4)[0],
        blocks=shapes.count(blocks),
        unshuffle=unshuffle,
        doublings=doublings,
        pointwise=f"{inner.removesuffix('.0').removesuffix('conv1')}conv1x1.weight" in shapes.found,
    )


def _highest(shapes: Shapes) -> int:
    """The number of the last layer of an ESRGAN whose layers are counted."""
    numbers = (name.removeprefix("model.").partition(".") for name in shapes.found if name.startswith("model."))
    return max((int(number) for number, _, rest in numbers if number.isdecimal() and rest == "weight"), default=0)


def _doublings(shapes: Shapes, last: str) -> int:
    """How many enlargements lie before the last two convolutions."""
    if last.startswith("model."):
        places, rest = divmod(int(last.removeprefix("model.")) - names.FIRST_UP - 1, 3)
        return -1 if rest else places
    return sum(f"{up}{n}.weight" in shapes.found for up in ("conv_up", "upconv") for n in (1, 2, 3))


def _unshuffle(shapes: Shapes, inputs: int, outputs: int) -> int:
    """Rows of pixels that become channels: 1, 2 or 4, since images in and out have as many channels."""
    factor = isqrt(inputs // outputs)
    if factor not in {1, 2, 4} or inputs != outputs * factor**2:
        raise BadFile(shapes.source, f"takes {inputs} channels and gives {outputs}: it is no upscaler of images")
    return factor


def _facts(_: RrdbSpec) -> PartFacts:
    return NO_FACTS


def _build(spec: RrdbSpec) -> RrdbNet:
    from atelier.models.rrdbnet import RrdbNet

    return RrdbNet(spec)


NETWORK = Architecture(infer, names.names, _build, _facts)
