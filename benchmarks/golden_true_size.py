"""Our networks against diffusers' and transformers' at their true size, fp32, same random weights.

    python benchmarks/golden_true_size.py [--family sd1|sd2|sdxl|sdxl-refiner] [--part text|unet|vae] [--latent N]
        [--tiny] [--device cpu|cuda]

Prints a table of max |ours - theirs| / std(theirs) and of parameter counts; exits 1 if a difference is above 1e-4 or a
count is wrong. The last row is a trajectory of 4 steps with guidance. The parts are compared one after the other: about
5 GB of memory at most for Stable Diffusion 1.5 and 2.1, 12 GB for XL. `--latent` is the side of the latent. Not a
timing.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import needs  # isort: split

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from atelier.diffusion.catalogue import resolve_sampler
from atelier.diffusion.denoise import denoiser, timed
from atelier.diffusion.guidance.cfg import CfgOptions, cfg
from atelier.diffusion.levels import scaled_linear
from atelier.diffusion.parameterization import parameterization
from atelier.diffusion.rng import silent
from atelier.diffusion.sampling import Options
from atelier.diffusion.scheduling import SCHEDULE_DEFAULTS
from atelier.diffusion.types import Moment
from atelier.families.facts import PredictionType
from atelier.models.clip import TextSpec
from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import VaeSpec
from atelier.nn.ports import Conditioning
from reference import ours_text, ours_unet, ours_vae, randomise, text_of, unet_of, vae_of, without_values

BOUND, STEPS, SCALE = 1e-4, 4, 7.0
VAE_COUNT, CLIP_L, BIG_G = 83_653_863, 123_060_480, 694_659_840


@dataclass(frozen=True, slots=True)
class Result:
    """One comparison. parameters: of our network; difference: relative to the standard deviation of theirs."""

    part: str
    what: str
    parameters: int
    difference: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """texts: by name, with the parameters that each has; pooled: width of the pooled state, sizes: how many numbers
    follow it."""

    texts: dict[str, tuple[TextSpec, int]]
    unet: UNetSpec
    unet_count: int
    vae: VaeSpec
    latent: int
    image: int
    prediction: PredictionType = "epsilon"
    pooled: int = 0
    sizes: int = 0


def linear(**more: Any) -> UNetSpec:
    return UNetSpec(linear_proj=True, **more)


BIG = TextSpec(width=1280, layers=32, heads=20, mlp=5120, act="gelu", projection=1280)
H = TextSpec(width=1024, layers=23, heads=16, mlp=4096, act="gelu")
TRUE = {
    "sd1": Sizes(
        texts={"CLIP text": (TextSpec(), CLIP_L)},
        unet=UNetSpec(),
        unet_count=859_520_964,
        vae=VaeSpec(),
        latent=64,
        image=256,
    ),
    "sd2": Sizes(
        texts={"OpenCLIP-H text": (H, 340_387_840)},
        unet=linear(heads=(5, 10, 20, 20), context=1024),
        unet_count=865_910_724,
        vae=VaeSpec(),
        latent=64,
        image=256,
        prediction="velocity",
    ),
    "sdxl": Sizes(
        texts={"CLIP text": (TextSpec(), CLIP_L), "OpenCLIP-bigG text": (BIG, BIG_G)},
        unet=linear(
            widths=(320, 640, 1280), depth=(0, 2, 10), mid_depth=10, heads=(5, 10, 20), context=2048, vector=2816
        ),
        unet_count=2_567_463_684,
        vae=VaeSpec(),
        latent=64,
        image=256,
        pooled=1280,
        sizes=6,
    ),
    "sdxl-refiner": Sizes(
        texts={"OpenCLIP-bigG text": (BIG, BIG_G)},
        unet=linear(
            widths=(384, 768, 1536, 1536),
            depth=(0, 4, 4, 0),
            mid_depth=4,
            heads=(6, 12, 24, 24),
            context=1280,
            vector=2560,
        ),
        unet_count=2_259_526_660,
        vae=VaeSpec(),
        latent=64,
        image=256,
        pooled=1280,
        sizes=5,
    ),
}


def shrunk(own: Sizes) -> Sizes:
    """A family in small, to see that the script runs."""
    text = TextSpec(vocab=100, width=32, layers=2, heads=4, mlp=64, positions=77, eos=99)
    texts = {
        name: (replace(text, act=spec.act, projection=None if spec.projection is None else 24), 0)
        for name, (spec, _) in own.texts.items()
    }
    unet = replace(
        own.unet,
        widths=(32, 64),
        depth=(own.unet.depth[0], 1),
        mid_depth=1,
        heads=(4, 4),
        context=32,
        groups=8,
        vector=None if own.unet.vector is None else 24 + own.sizes * 16,
        size_width=16,
    )
    vae = VaeSpec(widths=(32, 64), blocks=1, groups=8)
    pooled = 24 if own.pooled else 0
    return replace(own, texts=texts, unet=unet, unet_count=0, vae=vae, latent=16, image=32, pooled=pooled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=TRUE, default="sd1")
    parser.add_argument("--part", choices=PARTS, help="only this one")
    parser.add_argument("--latent", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tiny", action="store_true", help="shrink everything, to see that the script runs")
    options = parser.parse_args()
    needs.modules("diffusers", "transformers")
    sizes = shrunk(TRUE[options.family]) if options.tiny else TRUE[options.family]
    sizes = replace(sizes, latent=options.latent or sizes.latent)
    with torch.no_grad():
        chosen = [options.part] if options.part else PARTS
        results = [found for part in chosen for found in PARTS[part](sizes, options.device)]
    show(results)
    counts = {name: count for name, (_, count) in sizes.texts.items()}
    counts |= {"U-Net": sizes.unet_count, "autoencoder": VAE_COUNT}
    counted = options.tiny or all(r.parameters == counts[r.part] for r in results)
    sys.exit(0 if counted and all(r.difference <= BOUND for r in results) else 1)


def texts(sizes: Sizes, device: str) -> Iterator[Result]:
    for name, (spec, _) in sizes.texts.items():
        yield from text(name, spec, device)
        gc.collect()


def text(name: str, spec: TextSpec, device: str) -> Iterator[Result]:
    theirs = text_of(spec).eval()
    randomise(theirs, seed=0)
    ours = ours_text(theirs, spec).to(device)
    theirs = theirs.to(device)
    tokens = torch.randint(0, spec.eos, (2, spec.positions), generator=torch.Generator().manual_seed(1))
    tokens[:, 40:] = spec.eos
    tokens = tokens.to(device)
    wanted = theirs(input_ids=tokens, output_hidden_states=True)
    got = ours(tokens)
    yield result(name, "states", ours, got.last, wanted.last_hidden_state)
    yield result(name, "states before the last layer", ours, got.hidden[-2], wanted.hidden_states[-2])
    if spec.projection is not None:
        yield result(name, "pooled", ours, got.pooled, wanted.text_embeds)


def unet(sizes: Sizes, device: str) -> Iterator[Result]:
    spec = sizes.unet
    theirs = without_values(lambda: unet_of(spec)).eval()
    randomise(theirs, seed=2)
    ours = ours_unet(theirs, spec).to(device)
    theirs = theirs.to(device)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, spec.in_channels, sizes.latent, sizes.latent, generator=generator).to(device)
    states = torch.randn(2, 77, spec.context, generator=generator).to(device)
    t = torch.tensor([17.0, 901.0], device=device)
    cond, added = Conditioning(states), None
    if spec.vector is not None:
        pooled = torch.randn(2, sizes.pooled, generator=generator).to(device)
        numbers = torch.tensor([[1024.0, 768, 0, 12, 1024, 768], [512, 512, 3, 0, 640, 512]], device=device)
        numbers = numbers[:, : sizes.sizes]
        cond, added = Conditioning(states, pooled, numbers), {"text_embeds": pooled, "time_ids": numbers}
    wanted = theirs(x, t, states, added_cond_kwargs=added, return_dict=False)[0]
    yield result("U-Net", "output", ours, ours(x, t, cond), wanted)
    yield result(
        "U-Net", f"{STEPS} steps", ours, our_steps(ours, x[:1], cond, sizes), steps(theirs, x[:1], states, added, sizes)
    )
    ours = ours.to(memory_format=torch.channels_last)
    yield result("U-Net", "output, channels last", ours, ours(x, t, cond), wanted)


def our_steps(net: UNet, noise: Tensor, cond: Conditioning, sizes: Sizes) -> Tensor:
    """A trajectory of Euler's, the first row of the conditioning as the negative prompt."""
    levels = scaled_linear(1000, 0.00085, 0.012)

    def told(x: Tensor, t: Tensor, _: Moment) -> Tensor:
        return net(x, t, cond)

    guided = cfg(denoiser(told, parameterization(sizes.prediction), levels), CfgOptions(SCALE))
    sampler, schedule = resolve_sampler("Euler", "Turbo")
    sigmas = schedule.make(SCHEDULE_DEFAULTS)(levels, STEPS)
    x = sampler.begin(noise, float(sigmas[0]), unit=False)
    for step in sampler.make(Options(levels=levels))(timed(guided, STEPS), x, sigmas, silent):
        x = step.x
    return x


def steps(net: Any, noise: Tensor, states: Tensor, added: dict[str, Tensor] | None, sizes: Sizes) -> Tensor:
    """The same in diffusers."""
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="trailing",
        prediction_type="v_prediction" if sizes.prediction == "velocity" else "epsilon",
    )
    scheduler.set_timesteps(STEPS)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t).repeat(2, 1, 1, 1)
        without, with_text = net(scaled, t, states, added_cond_kwargs=added, return_dict=False)[0].chunk(2)
        x = scheduler.step(without + SCALE * (with_text - without), t, x).prev_sample
    return x


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


PARTS = {"text": texts, "unet": unet, "vae": vae}


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
