"""One call of the U-Net of Stable Diffusion 1.5: batch 2, 64x64 latents, 77 tokens, against diffusers in fp32.

    python benchmarks/unet_call.py [--device cpu|cuda] [--rounds N] [--tiny]

Both sides have the same random weights. Rows: fp32 (must take at most 1.0 of diffusers' time), and bf16, where the
device multiplies it in hardware (at most 0.65). `--tiny` shrinks everything, to see that the script runs.
"""

from __future__ import annotations

import argparse

import needs  # isort: split

import torch
from torch import Tensor

from atelier.models.unet import UNet, UNetSpec
from atelier.nn.ports import Conditioning
from atelier.runtime.device import cpu_has_bf16
from atelier.runtime.threads import use_granted_cores
from harness import Call, interleaved, report, row, waiter
from reference import ours_unet, randomise, unet_of

TINY = UNetSpec(widths=(32, 64), depth=(1, 0), heads=(4, 4), context=32, groups=8)
BOUNDS = {"fp32": 1.0, "bf16": 0.65}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    needs.modules("diffusers", "transformers")
    use_granted_cores()
    spec, side = (TINY, 16) if options.tiny else (UNetSpec(), 64)
    calls, difference = contestants(spec, side, options.device)
    timing = interleaved(calls, options.rounds, wait=waiter(options.device))
    rows = [row(name, timing, name, "reference", BOUNDS[name]) for name in BOUNDS if name in calls]
    if "bf16" not in calls:
        rows.append({"what": "bf16", "left_out": "this CPU does not multiply bfloat16 in hardware"})
    report("unet_call", options.device, rows, ("torch", "diffusers"), tiny=options.tiny, fp32_difference=difference)


def contestants(spec: UNetSpec, side: int, device: str) -> tuple[dict[str, Call], float]:
    """The calls to time, and the largest difference of the fp32 outputs over the output's standard deviation."""
    theirs = unet_of(spec).eval()
    randomise(theirs, seed=0)
    ours = ours_unet(theirs, spec)
    half = None
    if device != "cpu" or cpu_has_bf16():
        half = prepared(ours_unet(theirs, spec).to(torch.bfloat16), device)
    theirs, ours = theirs.to(device), prepared(ours, device)
    x, t, tokens = inputs(spec, side, device)

    def reference() -> Tensor:
        return theirs(x, t, tokens, return_dict=False)[0]

    def full() -> Tensor:
        return ours(x, t, Conditioning(tokens))

    calls: dict[str, Call] = {"reference": no_grad(reference), "fp32": no_grad(full)}
    if half is not None:
        calls["bf16"] = no_grad(lambda: half(x.bfloat16(), t, Conditioning(tokens.bfloat16())))
    with torch.no_grad():
        wanted, got = reference(), full()
    return calls, float((wanted - got).abs().max() / wanted.std())


def prepared(net: UNet, device: str) -> UNet:
    """As generating prepares it."""
    return net.to(device=device, memory_format=torch.channels_last)


def inputs(spec: UNetSpec, side: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, spec.in_channels, side, side, generator=generator)
    tokens = torch.randn(2, 77, spec.context, generator=generator)
    return x.to(device), torch.tensor([500.0, 500.0], device=device), tokens.to(device)


def no_grad(call: Call) -> Call:
    return torch.no_grad()(call)


if __name__ == "__main__":
    main()
