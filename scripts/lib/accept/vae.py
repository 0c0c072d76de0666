"""What decoding a large image needs of memory strip by strip, and how far it is from one piece.

    scripts/accept vae [--side N] [--large N] [--part decode|encode|large]... [--json]

Makes an autoencoder of the size of Stable Diffusion 1.5's with random weights. Decodes and encodes `--side` pixels
(1024) in one piece and in strips, and decodes `--large` pixels (2048) in strips, each in a process of its own, and
tells each as it ends. `work` is how many multiplications strips take, of those in one piece. All parts take two slow
cores about a quarter of an hour, most of it the large one; with `--part` only those are done.

Exit code 0: of the values of the decoded image 99 % are within 2 of 255, the latents within 1e-2 relative, and the peak
of memory of the large one, the whole process with it, is at most 3 GB; 1: not so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.models.vae_strips import decode_in_strips, encode_in_strips
from atelier.nn.norm import GroupNorm
from atelier.runtime.heap import settle_heap

MOST_BYTES, MOST_DIFFERENCE, LEAST_SHARE, MOST_LATENT = 3_000_000_000, 2 / 127.5, 0.99, 1e-2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--large", type=int, default=2048)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; may be given several times")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--run", nargs=3, metavar=("WHAT", "SIDE", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return run(options.run[0], int(options.run[1]), Path(options.run[2]))
    found = dict(measured(options.side, options.large, options.part or list(PARTS), quiet=options.json))
    if options.json:
        print(json.dumps(found))
    is_near = found.get("share_within_2", 1) >= LEAST_SHARE and found.get("relative_latents", 0) <= MOST_LATENT
    return 0 if is_near and found.get("large_peak_bytes", 0) <= MOST_BYTES else 1


def measured(side: int, large: int, parts: list[str], *, quiet: bool) -> Iterator[tuple[str, float]]:
    """The figures of the parts by name; each is printed as it is found unless `quiet`."""
    with tempfile.TemporaryDirectory() as name:
        for part in parts:
            for key, value in PARTS[part](large if part == "large" else side, Path(name)):
                if not quiet:
                    print(f"{key}: {value}", flush=True)
                yield key, value


def decoded(side: int, folder: Path) -> Iterator[tuple[str, float]]:
    whole, strips = folder / "whole.npy", folder / "strips.npy"
    yield from told("decode", side, whole)
    yield from told("decode-strips", side, strips)
    difference = np.abs(np.load(whole) - np.load(strips))
    yield "share_within_2", round(float((difference <= MOST_DIFFERENCE).mean()), 6)
    yield "largest_difference", round(float(difference.max()) * 127.5, 3)
    yield "spread_of_values", round(float(np.load(whole).std()) * 127.5, 1)


def encoded(side: int, folder: Path) -> Iterator[tuple[str, float]]:
    whole, strips = folder / "whole.npy", folder / "strips.npy"
    yield from told("encode", side, whole)
    yield from told("encode-strips", side, strips)
    latent = np.load(whole) - np.load(strips)
    yield "relative_latents", round(float(np.linalg.norm(latent) / np.linalg.norm(np.load(whole))), 6)


def enlarged(side: int, folder: Path) -> Iterator[tuple[str, float]]:
    for key, value in told("decode-strips", side, folder / "large.npy"):
        yield key.replace("decode-strips", "large"), value


PARTS = {"decode": decoded, "encode": encoded, "large": enlarged}


def told(what: str, side: int, file: Path) -> Iterator[tuple[str, float]]:
    """Runs one in a process of its own: its seconds, those of a core, the peak of its memory, and its work."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, "--run", what, str(side), str(file)])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(process.returncode)
    unit = 1 if sys.platform == "darwin" else 1024
    yield f"{what}_seconds", round(time.perf_counter() - begun, 1)
    yield f"{what}_core_seconds", round(usage.ru_utime + usage.ru_stime, 1)
    yield f"{what}_peak_bytes", usage.ru_maxrss * unit
    if what.endswith("strips"):
        yield f"{what}_work", round(work(what, side) / work(what.removesuffix("-strips"), side), 3)


def work(what: str, side: int) -> int:
    """Multiplications, without making them."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counted:
        made(what, AutoencoderKL(VaeSpec()), side)
    return counted.get_total_flops() // 2


def run(what: str, side: int, file: Path) -> int:
    settle_heap()
    vae = network()
    with torch.inference_mode():
        np.save(file, made(what, vae, side).numpy())
    return 0


def made(what: str, vae: AutoencoderKL, side: int) -> torch.Tensor:
    """The image or the latent that the network makes of noise."""
    generator = None if torch.get_default_device().type == "meta" else torch.Generator().manual_seed(1)
    if what.startswith("decode"):
        latent = uneven(torch.randn(1, 4, side // 8, side // 8, generator=generator))
        return decode_in_strips(vae, latent) if what.endswith("strips") else vae.decode(latent)
    image = uneven(torch.randn(1, 3, side, side, generator=generator)).clamp(-1, 1)
    return (encode_in_strips(vae, image) if what.endswith("strips") else vae.encode(image)).mode()


def network() -> AutoencoderKL:
    """Random weights of unit gain; norms have gains and offsets. The image has a deviation of about 0.5."""
    generator, net = torch.Generator().manual_seed(0), AutoencoderKL(VaeSpec())
    for parameter in net.parameters():
        scale = 0.3 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    for module in net.modules():
        if isinstance(module, GroupNorm):
            module.weight.data += 1
    net.requires_grad_(requires_grad=False)
    return net.to(memory_format=torch.channels_last)


def uneven(x: torch.Tensor) -> torch.Tensor:
    """Top and bottom have other moments, so that a strip's own are far from those of the whole."""
    rows = torch.linspace(0, 1, x.shape[2])[:, None]
    return x * (0.2 + 1.6 * rows) + 2 * rows - 1


if __name__ == "__main__":
    sys.exit(main())
