"""What an annotator is: something that draws of an image what a model is steered by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    Pixels = NDArray[np.uint8]
    """(h, w, 3), RGB."""
    Draw = Callable[["Pixels", "Asked"], "Pixels"]
    """An image to its hint, deterministic. Most hints are of the size of the image."""

Frame = Literal["own", "sized", "padded"]
"""What an annotator is given: the image as it is; its short side brought to a resolution; and its outermost pixels
repeated, at the right and at the bottom, until the sides are multiples of 64."""


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """A number that changes a hint. step: how finely it is set in a form."""

    name: str
    default: float
    low: float
    high: float
    step: float
    help: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of an annotator beside the image. options: all that it has; random: for those that draw lots."""

    options: Mapping[str, float]
    random: np.random.Generator


@dataclass(frozen=True, slots=True)
class Drawer:
    """A network that draws, in memory. nets: what it consists of, as far as that is torch's; bytes: of the rest."""

    draw: Draw
    nets: tuple[nn.Module, ...] = ()
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class NeedsFile:
    """The annotator is a network that lies in a file, or in a folder that transformers reads.

    load: reads it. It raises BadFile for what is no such network, BadInput where a package is not installed. files:
    what it may be called where it is published; the first is what messages name. beside: other files that it takes,
    which lie in the same folder.
    """

    load: Callable[[Path, torch.device], Drawer]
    files: tuple[str, ...]
    beside: tuple[str, ...] = ()

    def lacking(self, path: Path) -> str | None:
        """Which file beside the one at a path is not there, if any."""
        return next((name for name in self.beside if not path.with_name(name).is_file()), None)


@dataclass(frozen=True, slots=True)
class Annotator:
    """draw: how, or what it takes to know; aliases: what A1111's ControlNet extension and controlnet_aux call it;
    options: the first two are A1111's threshold_a and threshold_b."""

    name: str
    help: str
    draw: Draw | NeedsFile
    aliases: tuple[str, ...] = ()
    options: tuple[OptionSpec, ...] = ()
    frame: Frame = "padded"
