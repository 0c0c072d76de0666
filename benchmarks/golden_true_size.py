"""Our networks against diffusers' and transformers' at Stable Diffusion 1.5's true size, fp32, same random weights.

    python benchmarks/golden_true_size.py [--tiny] [--device cpu|cuda]

Prints a table of max |ours - theirs| / std(theirs) and of parameter counts; exits 1 if a difference is above 1e-4 or a
count is wrong. The parts are compared one after the other: about 10 GB of memory at most. Not a timing.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import needs  # isort: split

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from atelier.models.clip import TextSpec
from atelier.models.unet import UNetSpec
from atelier.models.vae import VaeSpec
from atelier.nn.ports import Conditioning
from reference import ours_text, ours_unet, ours_vae, randomise, text_of, unet_of, vae_of

BOUND = 1e-4
COUNTS = {"CLIP text": 123_060_480, "U-Net": 859_520_964, "autoencoder": 83_653_863}


@dataclass(frozen=True, slots=True)
class Result:
    """One comparison. parameters: of our network; difference: relative to the standard deviation of theirs."""

    part: str
    what: str
    parameters: int
    difference: float


@dataclass(frozen=True, slots=True)
class Sizes:
    text: TextSpec
    unet: UNetSpec
    vae: VaeSpec
    latent: int
    image: int


TRUE = Sizes(TextSpec(), UNetSpec(), VaeSpec(), latent=64, image=256)
TINY = Sizes(
    TextSpec(vocab=100, width=32, layers=2, heads=4, mlp=64, positions=77, eos=99),
    UNetSpec(widths=(32, 64), depth=(1, 0), heads=(4, 4), context=32, groups=8),
    VaeSpec(widths=(32, 64), blocks=1, groups=8),
    latent=16,
    image=32,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tiny", action="store_true", help="shrink everything, to see that the script runs")
    options = parser.parse_args()
    needs.modules("diffusers", "transformers")
    sizes = TINY if options.tiny else TRUE
    with torch.no_grad():
        results = [*text(sizes, options.device), *unet(sizes, options.device), *vae(sizes, options.device)]
    show(results)
    counted = options.tiny or all(r.parameters == COUNTS[r.part] for r in results)
    sys.exit(0 if counted and all(r.difference <= BOUND for r in results) else 1)


def text(sizes: Sizes, device: str) -> Iterator[Result]:
    spec = sizes.text
    theirs = text_of(spec).eval()
    randomise(theirs, seed=0)
    ours = ours_text(theirs, spec).to(device)
    theirs = theirs.to(device)
    tokens = torch.randint(0, spec.eos, (2, spec.positions), generator=torch.Generator().manual_seed(1))
    tokens[:, 40:] = spec.eos
    tokens = tokens.to(device)
    wanted = theirs(input_ids=tokens, output_hidden_states=True)
    got = ours(tokens)
    yield result("CLIP text", "states", ours, got.last, wanted.last_hidden_state)
    yield result("CLIP text", "states before the last layer", ours, got.hidden[-2], wanted.hidden_states[-2])


def unet(sizes: Sizes, device: str) -> Iterator[Result]:
    spec = sizes.unet
    theirs = unet_of(spec).eval()
    randomise(theirs, seed=2)
    ours = ours_unet(theirs, spec).to(device)
    theirs = theirs.to(device)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, spec.in_channels, sizes.latent, sizes.latent, generator=generator).to(device)
    states = torch.randn(2, 77, spec.context, generator=generator).to(device)
    t = torch.tensor([17.0, 901.0], device=device)
    wanted = theirs(x, t, states, return_dict=False)[0]
    yield result("U-Net", "output", ours, ours(x, t, Conditioning(states)), wanted)
    ours = ours.to(memory_format=torch.channels_last)
    yield result("U-Net", "output, channels last", ours, ours(x, t, Conditioning(states)), wanted)


def vae(sizes: Sizes, device: str) -> Iterator[Result]:
    gc.collect()
    spec = sizes.vae
    theirs = vae_of(spec).eval()
    randomise(theirs, seed=4)
    ours = ours_vae(theirs, spec).to(device)
    theirs = theirs.to(device)
    generator = torch.Generator().manual_seed(5)
    image = torch.rand(1, 3, sizes.image, sizes.image, generator=generator).mul(2).sub(1).to(device)
    wanted, got = theirs.encode(image).latent_dist, ours.encode(image)
    yield result("autoencoder", "encode, mean", ours, got.mean, wanted.mean)
    yield result("autoencoder", "encode, log variance", ours, got.logvar, wanted.logvar)
    latent = torch.randn(wanted.mean.shape, generator=generator).to(device)
    yield result("autoencoder", "decode", ours, ours.decode(latent), theirs.decode(latent, return_dict=False)[0])


def result(part: str, what: str, net: nn.Module, got: Tensor, wanted: Tensor) -> Result:
    count = sum(parameter.numel() for parameter in net.parameters())
    return Result(part, what, count, float((got - wanted).abs().max() / wanted.std()))


def show(results: list[Result]) -> None:
    table = Table("part", "what", "parameters", "max difference / std")
    for each in results:
        verdict = "" if each.difference <= BOUND else f" (above {BOUND:g})"
        table.add_row(each.part, each.what, f"{each.parameters:,}", f"{each.difference:.1e}{verdict}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
