"""Foreign models with deterministic weights, and checkpoints made of them, for tests of names and layouts."""

from __future__ import annotations

import functools
import gzip
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from atelier.weights.archive import Stored, open_file
from atelier.weights.names.name import Layout


def weight_of(name: str, shape: torch.Size) -> Tensor:
    """A tensor that is a function of its foreign name and shape alone: unit gain for layers, about one for norms."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        return noise / math.sqrt(math.prod(shape[1:]))
    return 1 + 0.2 * noise if name.endswith("weight") else 0.2 * noise


def fill(module: nn.Module) -> nn.Module:
    """Gives a foreign module weights by its own names."""
    tensors = {name: weight_of(name, tensor.shape) for name, tensor in module.state_dict().items()}
    module.load_state_dict({n: t.to(module.state_dict()[n].dtype) for n, t in tensors.items()})
    return module.eval()


def stored(module: nn.Module, folder: Path, prefix: str = "") -> Stored:
    """A foreign module's state as a file in diffusers' layout, opened."""
    path = folder / "model.safetensors"
    save_file({prefix + n: t.contiguous() for n, t in module.state_dict().items()}, path, {"format": "pt"})
    return Stored(open_file(path), "diffusers")


def assert_close(ours: Tensor, theirs: Tensor, bound: float = 1e-4) -> None:
    """The issue's measure: the largest difference in standard deviations of the reference."""
    assert ours.shape == theirs.shape
    assert float(theirs.std()) > 1e-3
    difference = float((ours - theirs).abs().max() / theirs.std())
    assert difference <= bound, f"{difference:.2e} standard deviations"


@functools.cache
def published(name: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a published file; see golden/data/README.md."""
    lists = json.loads(gzip.decompress((Path(__file__).parent / "golden/data/published_sd1.json.gz").read_bytes()))
    return {key: tuple(shape) for key, shape in lists[name].items()}


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


LAYOUTS: tuple[Layout, ...] = ("ldm", "diffusers")
