"""What decoding a large image needs of memory strip by strip, and how far it is from one piece.

    scripts/accept vae [--side N] [--large N] [--json]

Makes an autoencoder of the size of Stable Diffusion 1.5's with random weights. Decodes and encodes `--side` pixels
(1024) in one piece and in strips, and decodes `--large` pixels (2048) in strips, each in a process of its own. One core
takes most of an hour for all.

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
from pathlib import Path

import numpy as np
import torch

from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.models.vae_strips import decode_in_strips, encode_in_strips
from atelier.nn.norm import GroupNorm
from atelier.runtime.heap import settle_heap

MOST_BYTES, MOST_DIFFERENCE, LEAST_SHARE, MOST_LATENT = 3_000_000_000, 2 / 127.5, 0.99, 1e-2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--large", type=int, default=2048, help="0 leaves it out")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--run", nargs=3, metavar=("WHAT", "SIDE", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return run(options.run[0], int(options.run[1]), Path(options.run[2]))
    found = measured(options.side, options.large)
    print(json.dumps(found) if options.json else "\n".join(f"{key}: {value}" for key, value in found.items()))
    is_near = found["share_within_2"] >= LEAST_SHARE and found["relative_latents"] <= MOST_LATENT
    return 0 if is_near and found.get("large_peak_bytes", 0) <= MOST_BYTES else 1


def measured(side: int, large: int) -> dict[str, float]:
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        made: dict[str, np.ndarray] = {}
        for what in ("decode", "decode-strips", "encode", "encode-strips"):
            file = Path(name) / f"{what}.npy"
            found |= {f"{what}_{key}": value for key, value in told(what, side, file).items()}
            made[what] = np.load(file)
        if large:
            found |= {f"large_{k}": v for k, v in told("decode-strips", large, Path(name) / "large.npy").items()}
    difference = np.abs(made["decode"] - made["decode-strips"])
    latent = made["encode"] - made["encode-strips"]
    return found | {
        "share_within_2": round(float((difference <= MOST_DIFFERENCE).mean()), 6),
        "largest_difference": round(float(difference.max()) * 127.5, 3),
        "spread_of_values": round(float(made["decode"].std()) * 127.5, 1),
        "relative_latents": round(float(np.linalg.norm(latent) / np.linalg.norm(made["encode"])), 6),
    }


def told(what: str, side: int, file: Path) -> dict[str, float]:
    """Runs one in a process of its own: its seconds, and the peak of its memory."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, "--run", what, str(side), str(file)])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(process.returncode)
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": round(time.perf_counter() - begun, 1), "peak_bytes": usage.ru_maxrss * unit}


def run(what: str, side: int, file: Path) -> int:
    settle_heap()
    vae, generator = network(), torch.Generator().manual_seed(1)
    with torch.inference_mode():
        if what.startswith("decode"):
            latent = uneven(torch.randn(1, 4, side // 8, side // 8, generator=generator))
            made = decode_in_strips(vae, latent) if what.endswith("strips") else vae.decode(latent)
        else:
            image = uneven(torch.randn(1, 3, side, side, generator=generator)).clamp(-1, 1)
            made = (encode_in_strips(vae, image) if what.endswith("strips") else vae.encode(image)).mode()
    np.save(file, made.numpy())
    return 0


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
