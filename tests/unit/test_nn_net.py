"""What may stand for a network: a module, or anything with its call, its device and its dtype."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from atelier.models.unet import UNet, UNetSpec
from atelier.nn.net import Net
from atelier.nn.ports import NOTHING, Conditioning, Ports

SMALL = UNetSpec(widths=(8,), depth=(1,), heads=(1,), blocks=1, context=4, groups=4)


@dataclass(frozen=True)
class Toy:
    """No module: shifts x by what it is told beside the tokens, as SDXL's U-Net shifts its time embedding."""

    device: torch.device
    dtype: torch.dtype

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning, ports: Ports = NOTHING) -> Tensor:
        assert cond.pooled is not None
        assert cond.sizes is not None
        told = cond.tokens.mean((1, 2)) + cond.pooled.sum(1) + cond.sizes.sum(1)
        shifted = x + (t + told)[:, None, None, None]
        return ports.features.get("end", lambda features: features)(shifted)


def _called(net: Net, cond: Conditioning, ports: Ports = NOTHING) -> Tensor:
    """As a pipeline calls a network of which it knows no more than the protocol."""
    x = torch.zeros(2, 4, 8, 8, device=net.device, dtype=net.dtype)
    return net(x, torch.tensor([1.0, 2.0], device=net.device), cond, ports)


def test_a_net_need_not_be_a_module() -> None:
    cond = Conditioning(torch.full((2, 3, 4), 10.0), pooled=torch.full((2, 5), 20.0), sizes=torch.full((2, 6), 100.0))
    out = _called(Toy(torch.device("cpu"), torch.float32), cond, Ports(features={"end": lambda features: -features}))
    assert torch.equal(out, torch.tensor([-711.0, -712.0])[:, None, None, None].expand(2, 4, 8, 8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_u_net_says_where_and_what_its_weights_are(dtype: torch.dtype) -> None:
    net = UNet(SMALL).to(dtype)
    out = _called(net, Conditioning(torch.zeros(2, 3, 4, dtype=dtype)))
    assert (net.dtype, out.dtype, net.device, out.device) == (dtype, dtype, torch.device("cpu"), torch.device("cpu"))
    assert net.to("meta").device == torch.device("meta")
