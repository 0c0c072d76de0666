"""Networks whose opposite edges meet: rolling what goes in rolls what comes out, and nobody else notices."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.nn.ports import NOTHING, Conditioning, Ports
from atelier.nn.seamless import EDGES, Conv, Seamless, padded
from tiny import randomize

X, Y, BOTH = Seamless(x=True), Seamless(y=True), Seamless(x=True, y=True)
TOLERANCE = 1e-4


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def unet() -> UNet:
    net = UNet(UNetSpec(widths=(32, 64), blocks=1, depth=(1, 1), heads=(2, 2), context=32, groups=8)).eval()
    randomize(net, 0)
    return net


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    net = AutoencoderKL(VaeSpec(widths=(16, 32), blocks=1, groups=8)).eval()
    randomize(net, 1)
    return net


def test_what_lies_beyond_an_edge() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert padded(x, (1, 1), X)[0, 0].tolist() == [[0, 0, 0, 0], [2, 1, 2, 1], [4, 3, 4, 3], [0, 0, 0, 0]]
    assert padded(x, (1, 1), Y)[0, 0].tolist() == [[0, 3, 4, 0], [0, 1, 2, 0], [0, 3, 4, 0], [0, 1, 2, 0]]
    assert padded(x, (0, 1), BOTH)[0, 0].tolist() == [[1, 2, 1], [3, 4, 3], [1, 2, 1]]
    assert padded(x, (0, 1), EDGES)[0, 0].tolist() == [[1, 2, 0], [3, 4, 0], [0, 0, 0]]


@pytest.mark.parametrize("stride", [1, 2])
@torch.no_grad()
def test_it_is_the_convolution_of_torch(stride: int) -> None:
    conv, x = Conv(2, 3, 3, stride=stride, padding=1), noise(1, 2, 6, 8)
    assert torch.equal(conv(x), F.conv2d(x, conv.weight, conv.bias, stride=stride, padding=1))
    around = torch.cat([x[..., -1:], x, x[..., :1]], dim=-1)
    expected = F.conv2d(around, conv.weight, conv.bias, stride=stride, padding=(1, 0))
    assert torch.allclose(conv(x, seamless=X), expected, atol=1e-6)


def called(net: UNet, x: Tensor, seamless: Seamless) -> Tensor:
    ports = NOTHING if seamless == EDGES else Ports(seamless=seamless)
    return net(x, torch.full((1,), 500.0), Conditioning(noise(1, 5, 32, seed=3)), ports)


@pytest.mark.parametrize(("seamless", "axes"), [(X, [3]), (Y, [2]), (BOTH, [2, 3])], ids=["x", "y", "xy"])
@torch.no_grad()
def test_a_rolled_latent_is_denoised_rolled(unet: UNet, seamless: Seamless, axes: list[int]) -> None:
    """By an even number of positions, since the network halves the resolution once."""
    x = noise(1, 4, 8, 12)
    for axis in axes:
        rolled = called(unet, x.roll(4, axis), seamless)
        assert torch.allclose(rolled, called(unet, x, seamless).roll(4, axis), atol=TOLERANCE)
    for axis in {2, 3} - set(axes):
        assert not torch.allclose(called(unet, x.roll(4, axis), seamless), called(unet, x, seamless).roll(4, axis))
    assert not torch.allclose(called(unet, x.roll(4, axes[0]), EDGES), called(unet, x, EDGES).roll(4, axes[0]))


@torch.no_grad()
def test_so_is_it_decoded_and_encoded(vae: AutoencoderKL) -> None:
    latent, image = noise(1, 4, 6, 8), noise(1, 3, 12, 16)
    decoded, encoded = vae.decode(latent, BOTH), vae.encode(image, BOTH).mean
    for axis in (2, 3):
        assert torch.allclose(vae.decode(latent.roll(3, axis), BOTH), decoded.roll(6, axis), atol=TOLERANCE)
        assert torch.allclose(vae.encode(image.roll(4, axis), BOTH).mean, encoded.roll(2, axis), atol=TOLERANCE)
        assert not torch.allclose(vae.decode(latent.roll(3, axis)), vae.decode(latent).roll(6, axis), atol=0.01)
        assert not torch.allclose(vae.encode(image.roll(4, axis)).mean, vae.encode(image).mean.roll(2, axis), atol=0.01)


@torch.no_grad()
def test_two_threads_on_one_network_do_not_notice_each_other(unet: UNet) -> None:
    x, made = noise(1, 4, 8, 12), dict[Seamless, list[Tensor]]()
    alone = {seamless: called(unet, x, seamless) for seamless in (EDGES, X)}
    together = threading.Barrier(2)

    def run(seamless: Seamless) -> None:
        together.wait()
        with torch.no_grad():
            made[seamless] = [called(unet, x, seamless) for _ in range(5)]

    threads = [threading.Thread(target=run, args=(seamless,)) for seamless in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not torch.allclose(alone[EDGES], alone[X])
    assert all(torch.allclose(own, alone[seamless]) for seamless, every in made.items() for own in every)
