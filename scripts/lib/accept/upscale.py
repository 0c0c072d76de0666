"""What enlarging 512x512 four times with an ESRGAN needs of memory, and how far tiles are from one whole piece.

    scripts/accept upscale [--blocks N] [--side N] [--json]

Writes an RRDBNet of random weights as torch.save does, with 64 channels and `--blocks` blocks (23, as Real-ESRGAN
x4plus has; 6 is its anime network), and an image of flat areas, edges and noise. Runs `atelier upscale` on it as a
process of its own, in tiles and with one tile for all: 22 TFLOP with 23 blocks, five minutes on one core for both.

Exit code 0: the peak of memory of the run in tiles is at most 1.5 GB, and 99.9 % of its values are within 2 of 255 of
the other's; 1: not so.
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
from PIL import Image

MOST_BYTES, MOST_DIFFERENCE, LEAST_SHARE = 1_500_000_000, 2, 0.999
WIDTH, GROWTH = 64, 32


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=23)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save({"params_ema": weights(options.blocks)}, folder / "random.pth")
        Image.fromarray(pixels(options.side)).save(folder / "image.png")
        tiled, whole = enlarged(folder, "tiled"), enlarged(folder, "whole", "--tile", str(options.side))
        found = {"tiled": tiled, "whole": whole, **compared(folder / "tiled.png", folder / "whole.png")}
    print(json.dumps(found) if options.json else "\n".join(f"{key}: {value}" for key, value in found.items()))
    is_small = tiled["peak_bytes"] <= MOST_BYTES or options.side < 512
    return 0 if is_small and found["share_within_2"] >= LEAST_SHARE else 1


def layers(blocks: int) -> Iterator[tuple[str, int, int]]:
    """(name, channels in, channels out) of every convolution, as BasicSR calls them."""
    yield "conv_first", 3, WIDTH
    for n in range(blocks):
        for k in (1, 2, 3):
            for i in range(1, 6):
                yield f"body.{n}.rdb{k}.conv{i}", WIDTH + (i - 1) * GROWTH, WIDTH if i == 5 else GROWTH
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        yield name, WIDTH, WIDTH
    yield "conv_last", WIDTH, 3


def weights(blocks: int) -> dict[str, torch.Tensor]:
    """Unit gain everywhere, so that every layer's surroundings count; the last gives pixels around the middle grey."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for name, inputs, outputs in layers(blocks):
        gain = (2 / (1 + 0.2**2) / (9 * inputs)) ** 0.5
        tensors[f"{name}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=generator) * gain
        tensors[f"{name}.bias"] = torch.zeros(outputs)
    tensors["conv_last.weight"] *= 0.144 / 1.2**blocks  # each block adds a fifth of what passes it
    tensors["conv_last.bias"] += 0.5
    return tensors


def pixels(side: int) -> np.ndarray:
    """Flat areas and edges on the left, noise on the right."""
    random = np.random.default_rng(0)
    blocks = np.kron(random.integers(0, 256, (side // 32, side // 32, 3)), np.ones((32, 32, 1)))
    noise = random.integers(0, 256, (side, side, 3))
    share = np.linspace(0, 1, side)[None, :, None] ** 2
    return (blocks * (1 - share) + noise * share).astype(np.uint8)


def enlarged(folder: Path, name: str, *arguments: str) -> dict[str, float]:
    """Runs the command line; seconds, and the peak of its memory."""
    command = [sys.executable, "-m", "atelier", "upscale", str(folder / "image.png"), "--scale", "4"]
    paths = ("--upscaler", str(folder / "random.pth"), "--out", str(folder / f"{name}.png"))
    begun = time.perf_counter()
    process = subprocess.Popen([*command, *paths, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(process.returncode)
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": round(time.perf_counter() - begun, 1), "peak_bytes": usage.ru_maxrss * unit}


def compared(tiled: Path, whole: Path) -> dict[str, float]:
    one, other = (np.asarray(Image.open(path)).astype(int) for path in (tiled, whole))
    difference = abs(one - other)
    return {
        "share_within_2": float((difference <= MOST_DIFFERENCE).mean()),
        "largest_difference": int(difference.max()),
        "spread_of_values": round(float(other.std()), 1),
        "share_cut_off": round(float(((other == 0) | (other == 255)).mean()), 4),
    }


if __name__ == "__main__":
    sys.exit(main())
