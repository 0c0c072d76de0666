"""Noise: the published bits, the distribution, and independence from batch, order and the global generators."""

from __future__ import annotations

import hashlib
import itertools
import math

import numpy as np
import pytest
import torch

from atelier.diffusion.brownian import brownian
from atelier.diffusion.philox import log, normals, philox
from atelier.diffusion.rng import SOURCES, draw, fresh, silent, stream, streams
from atelier.errors import BadInput, UnknownName

SHAPE = (4, 4, 4)

# Random123's known answers for philox4x32-10
KNOWN = [
    (0, (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (2**64 - 1, (2**32 - 1,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        0x299F31D0A4093822,
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

# (seed, first four of the first call, first four of the second call) of torch.randn on a CUDA device
CUDA = [
    (0, (-0.9246624, -0.42534396, -2.6438458, 0.14518388), (0.18082589, -0.5522627, 0.9238134, -0.73497033)),
    (1, (-0.29627782, 2.676448, -0.1408464, -0.84409505), (-0.6339837, -0.64313126, -0.6420136, -1.4471009)),
    (42, (0.19401887, 2.1613739, -0.17205095, 0.84906), (0.13913749, -0.10821616, -0.7174222, 0.75664866)),
    (2555331127, (0.88916487, -1.3547289, -0.6546753, -0.68018115), (-1.3113363, -0.7434167, 0.1018794, 1.3568736)),
]


@pytest.mark.parametrize(("key", "counter", "answer"), KNOWN)
def test_philox_gives_its_known_answers(key: int, counter: tuple[int, int, int, int], answer: tuple[int, ...]) -> None:
    assert tuple(int(w) for w in philox(key, counter)) == answer


@pytest.mark.parametrize(("seed", "first", "second"), CUDA)
def test_nv_draws_the_bits_of_a_cuda_device(seed: int, first: tuple[float, ...], second: tuple[float, ...]) -> None:
    s = stream(seed, "nv")
    for expected in (first, second):
        assert np.array_equal(s.normal((4,)).numpy(), np.array(expected, dtype=np.float32))


def test_nv_continues_the_table() -> None:
    values = stream(0, "nv").normal((16384,)).double()
    assert float(values.mean()) == pytest.approx(-0.0069454, abs=1e-7)
    assert float(values.std(correction=0)) == pytest.approx(1.0008463, abs=1e-7)
    following = (-0.12086647, -0.57972564, -0.62285122, -0.32838709, -1.07454231, -0.36314407, -1.67105067, 2.26550497)
    assert values[4:12].tolist() == pytest.approx(following, abs=1e-6)


def test_cpu_draws_what_torch_draws_and_leaves_its_global_generator_alone() -> None:
    before = torch.get_rng_state()
    s = stream(1234, "cpu")
    generator = torch.Generator().manual_seed(1234)
    for _ in range(3):
        assert torch.equal(s.normal(SHAPE), torch.randn(SHAPE, generator=generator))
    assert torch.equal(torch.get_rng_state(), before)


def test_portable_bits_are_pinned() -> None:
    """The same digest on every machine: nothing in the source depends on the libraries' own log and cos."""
    first = stream(2**63 + 12345, "portable")
    digest = hashlib.sha256(first.normal((4, 64, 64)).numpy().tobytes() + first.normal((3, 5, 7)).numpy().tobytes())
    assert digest.hexdigest() == "435ad5ca1ee4b8583a16f5e9d30a84a1d6b81ffb84a233a6038640e1c0462586"
    like = torch.zeros(1, 4, 8, 8)
    path = brownian([77], like, 0.03, 14.6)(torch.tensor(14.6), torch.tensor(0.4))
    assert (
        hashlib.sha256(path.numpy().tobytes()).hexdigest()
        == "e8a10774f5642424583095595f37607dec618517076d0368057c9253b480a650"
    )


def test_portable_normals_are_normal() -> None:
    z = normals(3, (0, 0, 0), 1_000_000).astype(np.float64)
    assert abs(z.mean()) < 4e-3
    assert abs(z.std() - 1) < 3e-3
    assert abs((z**3).mean()) < 1e-2
    assert abs((z**4).mean() - 3) < 3e-2
    assert abs(np.mean(z[::2] * z[1::2])) < 6e-3
    ordered = np.sort(z)
    expected = 0.5 * (1 + torch.erf(torch.from_numpy(ordered) / math.sqrt(2)).numpy())
    assert np.abs(expected - np.arange(1, len(z) + 1) / len(z)).max() < 2.5e-3


def test_the_portable_logarithm_is_accurate() -> None:
    u = np.concatenate([2.0 ** -np.arange(1.0, 54.0), np.linspace(1e-6, 1 - 2**-53, 10_001)])
    assert np.allclose(log(u), [math.log(v) for v in u], rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("source", SOURCES)
def test_a_batch_draws_what_each_picture_draws_alone(source: str) -> None:
    batch = streams([5, 6, 7], source)
    first, second = draw(batch, SHAPE), draw(batch, SHAPE)
    alone = stream(6, source)
    assert torch.equal(first[1], alone.normal(SHAPE))
    assert torch.equal(second[1], alone.normal(SHAPE))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[1], second[1])


def test_fresh_noise_has_the_latents_shape_and_type() -> None:
    like = torch.zeros(2, *SHAPE, dtype=torch.float64)
    noise = fresh(streams([1, 2]), like)(torch.tensor(1.0), torch.tensor(0.5))
    assert (noise.shape, noise.dtype) == (like.shape, like.dtype)
    with pytest.raises(RuntimeError):
        silent(torch.tensor(1.0), torch.tensor(0.5))


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_seeds_out_of_range_are_named(seed: int) -> None:
    with pytest.raises(BadInput, match=str(seed)):
        stream(seed)


def test_sources_resolve_by_the_names_of_infotexts() -> None:
    assert torch.equal(stream(1, "GPU").normal((4,)), stream(1, "NV").normal((4,)))
    with pytest.raises(UnknownName, match="cup"):
        stream(1, "cup")


SIGMAS = [14.6146, 9.1, 5.48, 3.17, 1.75, 0.914, 0.447, 0.201, 0.0819, 0.0292]


@pytest.mark.parametrize("source", SOURCES)
def test_a_brownian_path_is_the_same_in_any_order_and_batch(source: str) -> None:
    like = torch.zeros(3, *SHAPE)
    pairs = [*list(itertools.pairwise(SIGMAS)), (5.0, 4.0), (0.914, 0.6), (0.0292, 14.6146)]
    forward, backward = (brownian([3, 4, 5], like, SIGMAS[-1], SIGMAS[0], source) for _ in range(2))
    alone = brownian([4], like[:1], SIGMAS[-1], SIGMAS[0], source)
    one = [forward(torch.tensor(a), torch.tensor(b)) for a, b in pairs]
    two = [backward(torch.tensor(a), torch.tensor(b)) for a, b in reversed(pairs)][::-1]
    for (a, b), x, y in zip(pairs, one, two, strict=True):
        assert torch.equal(x, y)
        assert torch.equal(x[1], alone(torch.tensor(a), torch.tensor(b))[0])


@pytest.mark.parametrize("source", SOURCES)
def test_brownian_increments_add_up_are_independent_and_of_unit_variance(source: str) -> None:
    like = torch.zeros(1, 4, 48, 48)
    noise = brownian([11], like, SIGMAS[-1], SIGMAS[0], source)
    times = [torch.tensor(s, dtype=torch.float64) for s in SIGMAS]
    parts = [noise(a, b) for a, b in itertools.pairwise(times)]
    for part in parts:
        assert abs(float(part.mean())) < 0.05
        assert abs(float(part.std()) - 1) < 0.04
    for p, q in itertools.pairwise(parts):
        assert abs(float((p * q).mean())) < 0.05
    spans = [float(a - b) for a, b in itertools.pairwise(times)]
    whole = sum(p * math.sqrt(s) for p, s in zip(parts, spans, strict=True)) / math.sqrt(SIGMAS[0] - SIGMAS[-1])
    assert torch.allclose(whole, noise(times[0], times[-1]), atol=5e-3)


def test_portable_paths_do_not_depend_on_the_range_and_survive_equal_times() -> None:
    like = torch.zeros(1, 4, 64, 64)
    narrow, wide = brownian([1], like, 0.1, 10.0), brownian([1], like, 0.001, 200.0)
    a, b = torch.tensor(9.0), torch.tensor(0.2)
    assert torch.equal(narrow(a, b), wide(a, b))
    close = narrow(torch.tensor(9.0), torch.tensor(8.9999))
    assert abs(float(close.std()) - 1) < 0.03
    assert torch.equal(close, wide(torch.tensor(9.0), torch.tensor(8.9999)))
