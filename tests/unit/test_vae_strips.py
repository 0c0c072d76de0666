"""The autoencoder strip by strip: the same as in one piece, with maps of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.models.vae_strips import decode_in_strips, encode_in_strips
from atelier.nn.norm import Gathered, GroupNorm
from atelier.nn.seamless import EDGES, Conv, Seamless

WAYS = [EDGES, Seamless(x=True), Seamless(y=True), Seamless(x=True, y=True)]


def random_vae(dtype: torch.dtype = torch.float32) -> AutoencoderKL:
    """The depth of Stable Diffusion's, narrow. Norms have gains and offsets, groups of several channels."""
    generator = torch.Generator().manual_seed(0)
    net = AutoencoderKL(VaeSpec(widths=(8, 16, 16, 24), groups=4))
    for parameter in net.parameters():
        scale = 0.5 if parameter.ndim < 2 else 1.4 * parameter[0].numel() ** -0.5
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    for module in net.modules():
        if isinstance(module, nn.GroupNorm):
            module.weight.data += 1
    return net.requires_grad_(requires_grad=False).to(dtype)


def uneven(*shape: int) -> Tensor:
    """A map whose top is another than its bottom, so that a strip's own moments are far from those of the whole."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    return x * torch.linspace(0.2, 3, shape[2])[:, None] + torch.linspace(-2, 2, shape[2])[:, None]


@contextmanager
def largest(net: nn.Module) -> Iterator[list[int]]:
    """The bytes of the largest map that a convolution of the decoder's or encoder's levels is shown."""
    seen = [0]

    def look(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen[0] = max(seen[0], given[0].numel() * given[0].element_size())

    handles = [module.register_forward_pre_hook(look) for module in net.modules() if isinstance(module, Conv)]
    yield seen
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("seamless", WAYS)
def test_decoding_is_as_in_one_piece(seamless: Seamless) -> None:
    """Strips of 8 rows. In double precision, whose maps are kept as they are, only the norms' rounding is left; in fp32,
    whose maps are kept in half precision, 0.5 of 255 for 99 % of the values, and 2 for all."""
    vae, latent = random_vae(), uneven(1, 4, 22, 10)
    whole, made = vae.decode(latent, seamless), decode_in_strips(vae, latent, seamless, most=1)
    assert made.shape == (1, 3, 176, 80)
    assert float(whole.std()) > 0.5
    difference = (whole - made).abs()
    assert float(difference.max()) < 2 / 127.5
    assert float((difference < 0.5 / 127.5).float().mean()) > 0.99
    exact = decode_in_strips(random_vae(torch.float64), latent.double(), seamless, most=1)
    assert float((random_vae(torch.float64).decode(latent.double(), seamless) - exact).abs().max()) < 2e-5
    split = torch.cat([vae.decode(part, seamless) for part in latent.chunk(2, dim=2)], dim=2)
    assert float((whole - split).abs().mean()) > 20 / 127.5, "pieces with norms of their own are another image"


@pytest.mark.parametrize("seamless", WAYS)
def test_encoding_is_as_in_one_piece(seamless: Seamless) -> None:
    vae, image = random_vae(), uneven(1, 3, 176, 80).clamp(-1, 1)
    whole, made = vae.encode(image, seamless), encode_in_strips(vae, image, seamless, most=1)
    assert made.mean.shape == (1, 4, 22, 10)
    for one, other in ((whole.mean, made.mean), (whole.logvar, made.logvar)):
        assert float((one - other).norm() / one.norm()) < 2e-3


@pytest.mark.parametrize("rows", [1, 40 * 80 * 16 * 4, 10**9])
def test_batches_and_every_height_of_strips(rows: int) -> None:
    vae, latent = random_vae(), uneven(2, 4, 13, 5)
    difference = (vae.decode(latent) - decode_in_strips(vae, latent, most=rows)).abs()
    assert float(difference.max()) < 2 / 127.5


def test_other_precisions_are_kept() -> None:
    vae, latent = random_vae(torch.bfloat16), uneven(1, 4, 16, 8).bfloat16()
    whole, made = vae.decode(latent), decode_in_strips(vae, latent, most=1)
    assert made.dtype == torch.bfloat16
    assert float((whole.float() - made.float()).abs().mean()) < 0.02 * float(whole.float().std())


def test_no_map_is_larger_than_a_strip_with_the_rows_around_it() -> None:
    """8 rows with 8 around them, of 16 channels and 64 positions, whatever the height."""
    vae, seen = random_vae(), list[int]()
    for height in (16, 48):
        with largest(vae.decoder.up) as most:
            decode_in_strips(vae, uneven(1, 4, height, 8), most=1)
        seen += most
        with largest(vae.encoder.down) as most:
            encode_in_strips(vae, uneven(1, 3, 8 * height, 64), most=1)
        seen += most
    assert max(seen) == 16 * 64 * (8 + 8) * 4
    assert seen[:2] == seen[2:]


def test_moments_of_parts_are_those_of_the_whole() -> None:
    """Also far from zero, where a sum of squares would lose them: values of 1000 with a deviation of 0.1."""
    x = 1000 + 0.1 * torch.randn(2, 4, 37, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = Gathered(2)
    for part in x.float().split(7, dim=2):
        found.add(part)
    groups = x.float().double().reshape(2, 2, -1)
    assert torch.allclose(found.moments().mean.double(), groups.mean(2), rtol=1e-6)
    assert torch.allclose(found.moments().variance.double(), groups.var(2, correction=0), rtol=1e-2)


def test_a_norm_that_is_told_its_own_moments_is_the_plain_one() -> None:
    x, norm = uneven(2, 6, 9, 7), GroupNorm(3, 6, eps=1e-3)
    norm.weight.data, norm.bias.data = torch.arange(1.0, 7.0), torch.arange(6.0)
    found = Gathered(3)
    found.add(x)
    assert torch.allclose(
        norm(x, found.moments()), nn.functional.group_norm(x, 3, norm.weight, norm.bias, 1e-3), atol=1e-5
    )
