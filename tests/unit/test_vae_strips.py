"""The autoencoder strip by strip: the same as in one piece, with maps of bounded size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import tiny
from atelier.models import vae_strips
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.models.vae_strips import decode_in_strips, encode_in_strips, whole_bytes
from atelier.nn.conv import Upsample
from atelier.nn.norm import Gathered, GroupNorm
from atelier.nn.seamless import EDGES, Conv, Seamless
from atelier.pipeline import decoding
from pipeline_support import engine_on, request

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
    """Strips of 8 rows. In double precision, whose maps are kept as they are, only the norms' rounding is left; in
    fp32, whose maps are kept in half precision, 0.5 of 255 for 99 % of the values, and 2 for all."""
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


@pytest.mark.parametrize("seamless", WAYS)
def test_a_map_that_is_too_large_to_be_kept_is_computed_twice(
    seamless: Seamless, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is between the halves of a block: kept or not, in double precision only rounding is left."""
    vae, latent = random_vae(torch.float64), uneven(1, 4, 14, 10).double()
    whole, kept = vae.decode(latent, seamless), decode_in_strips(vae, latent, seamless, most=1)
    monkeypatch.setattr(vae_strips, "BETWEEN_BYTES", 0)
    twice = decode_in_strips(vae, latent, seamless, most=1)
    assert max(float((whole - made).abs().max()) for made in (kept, twice)) < 2e-5


def test_strips_are_little_more_work_than_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted on networks without values; of diffusers' tiles it is 1.5 times at this size."""
    with torch.device("meta"):
        vae, latent = AutoencoderKL(VaeSpec()), torch.empty(1, 4, 128, 128)
    whole, strips = work(lambda: vae.decode(latent)), work(lambda: decode_in_strips(vae, latent))
    assert whole == 5_235_196_297_216
    assert 1.05 < strips / whole < 1.15
    monkeypatch.setattr(vae_strips, "BETWEEN_BYTES", 0)
    assert work(lambda: decode_in_strips(vae, latent)) > 1.2 * whole


def work(run: Callable[[], object]) -> int:
    """Multiplications."""
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        run()
    return counted.get_total_flops() // 2


@pytest.mark.parametrize("seamless", WAYS)
def test_doubling_in_phases_is_doubling(seamless: Seamless) -> None:
    """In double precision: the same but for rounding, also at the edges."""
    up, x = Upsample(6).double(), uneven(2, 6, 5, 7).double()
    whole, made = up(x, seamless=seamless), up.in_phases(x, seamless)
    assert made.shape == whole.shape == (2, 6, 10, 14)
    assert torch.allclose(made, whole, rtol=1e-12, atol=1e-12)


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
    """8 rows with one more at either side, of 16 channels and 64 positions, whatever the height."""
    vae, seen = random_vae(), list[int]()
    for height in (16, 48):
        with largest(vae.decoder.up) as most:
            decode_in_strips(vae, uneven(1, 4, height, 8), most=1)
        seen += most
        with largest(vae.encoder.down) as most:
            encode_in_strips(vae, uneven(1, 3, 8 * height, 64), most=1)
        seen += most
    assert max(seen) == 16 * 64 * (8 + 2) * 4
    assert seen[:2] == seen[2:]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the autoencoder runs strip by strip."""
    seen: Counter[str] = Counter()

    def watch(name: str) -> None:
        real = getattr(decoding, name)

        def run(*arguments: Any) -> Any:
            seen[name.split("_", maxsplit=1)[0]] += 1
            return real(*arguments)

        monkeypatch.setattr(decoding, name, run)

    watch("decode_in_strips")
    watch("encode_in_strips")
    return seen


@pytest.mark.parametrize(
    ("fields", "decoded", "encoded"),
    [
        ({}, 1, 0),
        ({"image": "{image}"}, 1, 1),
        ({"image": "{image}", "outpaint": "left=128"}, 2, 2),
        ({"hires_upscale": 2.0, "hires_upscaler": "Lanczos"}, 2, 1),
    ],
)
def test_every_stage_runs_it_in_strips_where_that_is_asked_for(
    tiny_folder: Path, tmp_path: Path, counted: Counter[str], fields: dict[str, Any], decoded: int, encoded: int
) -> None:
    Image.new("RGB", (64, 64), (200, 90, 10)).save(tmp_path / "image.png")
    own = {name: str(tmp_path / "image.png") if value == "{image}" else value for name, value in fields.items()}
    engine = engine_on(tiny_folder)
    (plain,) = engine.generate(request(**own, steps=1))
    assert not counted
    (made,) = engine.generate(request(**own, steps=1, vae_strips="always"))
    assert (counted["decode"], counted["encode"]) == (decoded, encoded)
    assert np.abs(np.asarray(plain.image).astype(int) - np.asarray(made.image)).max() <= 2
    assert ", VAE in strips: always" in made.infotext


def test_channels_are_read_in_strips(tmp_path_factory: pytest.TempPathFactory, counted: Counter[str]) -> None:
    engine = engine_on(tiny.folder(tmp_path_factory.mktemp("nine") / "tiny", in_channels=9))
    engine.generate(request(steps=1, vae_strips="always"))
    assert counted == {"decode": 1, "encode": 1}


def test_large_images_are_run_in_strips_by_themselves(
    tiny_folder: Path, counted: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, fp32 = VaeSpec(), torch.float32
    assert whole_bytes(spec, (1024, 1024), fp32) == 3 * 256 * 1024 * 1024 * 4 < decoding.MOST_BYTES
    assert whole_bytes(spec, (1184, 1184), fp32) > decoding.MOST_BYTES > whole_bytes(spec, (1600, 1600), torch.float16)
    monkeypatch.setattr(decoding, "MOST_BYTES", 2 * 3 * 64 * 64 * 4)
    engine = engine_on(tiny_folder)
    engine.generate(request(steps=1))
    assert counted == {"decode": 1}
    engine.generate(request(steps=1, vae_strips="never"))
    assert counted == {"decode": 1}


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
