"""Aspect buckets: the published lists, and where images go in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atelier.errors import BadInput
from atelier.train.data.buckets import Buckets, Fit, fitted, sizes

AT_512 = {256: (832, 896, 960, 1024), 320: (704, 768), 384: (640,), 448: (576,), 512: (512,)}
AT_1024 = {
    512: (1856, 1920, 1984, 2048),
    576: (1664, 1728, 1792),
    640: (1536, 1600),
    704: (1408, 1472),
    768: (1280, 1344),
    832: (1216,),
    896: (1152,),
    960: (1088,),
    1024: (1024,),
}
"""Narrow side -> the long sides that go with it, both ways round."""


@pytest.mark.parametrize(
    ("buckets", "table", "count"),
    [(Buckets(512 * 512), AT_512, 17), (Buckets(1024 * 1024, 64, 512, 2048), AT_1024, 33)],
)
def test_the_published_lists(buckets: Buckets, table: dict[int, tuple[int, ...]], count: int) -> None:
    pairs = {(narrow, long) for narrow, longs in table.items() for long in longs}
    assert sizes(buckets) == tuple(sorted(pairs | {(long, narrow) for narrow, long in pairs}))
    assert len(sizes(buckets)) == count


def test_limits_that_are_made_of_a_side() -> None:
    assert Buckets.of(512) == Buckets(512 * 512, 64, 256, 1024)
    assert Buckets.of(1024) == Buckets(1024 * 1024, 64, 512, 2048)
    assert Buckets.of(128, 16, upscale=False) == Buckets(128 * 128, 16, 64, 256, upscale=False)
    assert Buckets.of(48, 32) == Buckets(48 * 48, 32, 32, 96)
    assert sizes(Buckets.of(48, 32)) == ((32, 32), (32, 64), (64, 32))
    half = ((32, 96), (32, 112), (32, 128), (48, 80))
    assert sizes(Buckets.of(64, 16)) == tuple(sorted({*half, (64, 64), *((long, narrow) for narrow, long in half)}))


@pytest.mark.parametrize(
    ("image", "fit"),
    [
        ((512, 512), Fit((512, 512), (512, 512))),
        ((256, 1024), Fit((256, 1024), (256, 1024))),
        ((100, 100), Fit((512, 512), (512, 512))),
        ((1600, 900), Fit((640, 384), (683, 384))),
        ((900, 1600), Fit((384, 640), (384, 683))),
        ((5000, 100), Fit((1024, 256), (12800, 256))),
        ((1001, 999), Fit((512, 512), (513, 512))),
        ((4500, 3500), Fit((576, 448), (576, 448))),
    ],
)
def test_the_nearest_proportions_are_covered(image: tuple[int, int], fit: Fit) -> None:
    assert fitted(image, Buckets(512 * 512)) == fit


def test_one_size_for_all() -> None:
    assert fitted((300, 200), (128, 128)) == Fit((128, 128), (192, 128))
    assert fitted((200, 300), (128, 64)) == Fit((128, 64), (128, 192))


@pytest.mark.parametrize(
    ("image", "fit"),
    [
        ((300, 500), Fit((256, 448), (300, 500))),
        ((512, 512), Fit((512, 512), (512, 512))),
        ((64, 4000), Fit((64, 3968), (64, 4000))),
        ((1600, 900), Fit((640, 384), (683, 384))),
        ((1000, 1000), Fit((512, 512), (512, 512))),
        ((1300, 1000), Fit((576, 448), (582, 448))),
        ((1000, 1900), Fit((320, 576), (320, 608))),
        ((520, 595), Fit((448, 512), (448, 513))),
        ((520, 1039), Fit((320, 704), (352, 704))),
        ((520, 526), Fit((448, 448), (448, 453))),
        ((520, 682), Fit((384, 448), (384, 504))),
        ((534, 532), Fit((448, 448), (450, 448))),
    ],
)
def test_small_images_are_not_enlarged(image: tuple[int, int], fit: Fit) -> None:
    assert fitted(image, Buckets(512 * 512, upscale=False)) == fit


@pytest.mark.parametrize("image", [(63, 500), (500, 63), (1_000_000, 10)])
def test_too_small_without_enlarging(image: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match="too few for a bucket in steps of 64"):
        fitted(image, Buckets(512 * 512, upscale=False))


def test_too_narrow() -> None:
    assert fitted((32 * 64, 64), (64, 64)) == Fit((64, 64), (32 * 64, 64))
    assert fitted((64, 32 * 64), (64, 64)) == Fit((64, 64), (64, 32 * 64))
    for image in ((32 * 64 + 1, 64), (64, 32 * 64 + 1)):
        with pytest.raises(BadInput, match="pixels are too narrow for 64x64: cut the image"):
            fitted(image, (64, 64))
    with pytest.raises(BadInput, match="5x9000 pixels are too narrow for 256x1024"):
        fitted((5, 9000), Buckets(512 * 512))


@given(
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    st.sampled_from([(512, 64), (1024, 64), (128, 16), (128, 32), (64, 8)]),
    st.booleans(),
)
def test_the_image_covers_its_bucket(image: tuple[int, int], kind: tuple[int, int], upscale: bool) -> None:
    buckets = Buckets.of(*kind, upscale=upscale)
    if (not upscale and min(image) < 64) or max(image) / min(image) > 20:
        return
    fit = fitted(image, buckets)
    assert fit.scaled[0] >= fit.size[0]
    assert fit.scaled[1] >= fit.size[1]
    assert not fit.size[0] % buckets.step
    assert not fit.size[1] % buckets.step
    assert fit.size[0] * fit.size[1] <= buckets.area or not upscale
    assert fit.size in sizes(buckets) or not upscale


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((512 * 512, 0, 256, 1024), "in steps of 0: give a step of 1"),
        ((512 * 512, 64, 1024, 256), "buckets from 1024 to 256"),
        ((512 * 512, 64, 32, 256), "a smallest side from the step"),
        ((512 * 512, 64, 250, 1024), "multiples of the step, 64"),
        ((512 * 512, 64, 256, 1000), "multiples of the step, 64"),
        ((60 * 60, 64, 64, 64), "give a larger size or a smaller step"),
    ],
)
def test_numbers_that_make_no_bucket(numbers: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Buckets(*numbers)
