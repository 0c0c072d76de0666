"""What a ControlNet costs a step at Stable Diffusion 1.5's size, in calls of the U-Net, in the same run.

    python benchmarks/control.py [--device cpu|cuda] [--side N] [--rounds N] [--dtype fp32|bf16]

Both networks have random weights. A step with guidance asks the U-Net for two rows; the ControlNet computes two rows
where the prompt and the control count alike, and one where the control counts more (`mode=control`). The hint is read
once for a run, which is timed apart. Prints one JSON object; the bound is 0.45 of the U-Net's time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import needs
from harness import machine, peak_memory, waiter

BOUND = 0.45
CONTEXT = 77


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--side", type=int, default=32, help="positions of the latent along a side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    options = parser.parse_args()
    needs.modules()
    print(
        json.dumps({"benchmark": "control", **machine(options.device), **measured(options), "bound": BOUND}, indent=1)
    )


def measured(options: argparse.Namespace) -> dict[str, object]:
    import torch

    from atelier.adapters.port.controlnet import Control
    from atelier.adapters.steering import Acting
    from atelier.models.controlnet import ControlNet, ControlSpec
    from atelier.models.unet import UNet, UNetSpec
    from atelier.nn.ports import Conditioning

    dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
    spec = UNetSpec()
    unet, net = (made.to(options.device, dtype).eval() for made in (UNet(spec), ControlNet(ControlSpec(spec))))
    control, wait = Control(net), waiter(options.device)
    x = torch.randn(2, 4, options.side, options.side, device=options.device, dtype=dtype)
    t = torch.tensor([500.0, 500.0], device=options.device)
    cond = Conditioning(torch.randn(2, CONTEXT, spec.context, device=options.device, dtype=dtype))
    hint = torch.rand(1, 3, 8 * options.side, 8 * options.side, device=options.device, dtype=dtype)
    one = Acting(rows=torch.tensor([1], device=options.device))
    read = control.read(hint)
    with torch.no_grad():
        calls: dict[str, Callable[[], object]] = {
            "unet": lambda: unet(x, t, cond),
            "control": lambda: control.ports(read, x, t, cond, Acting()),
            "control, prompts alone": lambda: control.ports(read, x, t, cond, one),
            "hint": lambda: control.read(hint),
        }
        seconds = {name: [_timed(call, wait) for _ in range(options.rounds + 1)][1:] for name, call in calls.items()}
    middle = {name: statistics.median(own) for name, own in seconds.items()}
    return {
        "side": options.side,
        "dtype": options.dtype,
        "seconds": middle,
        "ratio": middle["control"] / middle["unet"],
        "ratio, prompts alone": middle["control, prompts alone"] / middle["unet"],
        "peak_bytes": peak_memory(),
    }


def _timed(call: Callable[[], object], wait: Callable[[], None]) -> float:
    begun = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
