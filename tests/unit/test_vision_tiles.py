"""Tiles: they cover, overlap enough, and are put together without a seam."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atelier.vision.tiles import Span, lay, spans


@settings(max_examples=300, deadline=None)
@given(
    length=st.integers(1, 3000),
    tile=st.integers(90, 700),
    multiple=st.sampled_from([1, 2, 4]),
    margin=st.integers(0, 32),
    feather=st.integers(0, 20),
)
def test_they_cover_and_overlap(length: int, tile: int, multiple: int, margin: int, feather: int) -> None:
    length += -length % multiple
    found = spans(length, tile, margin=margin, feather=feather, multiple=multiple)
    assert found[0].start == 0
    assert found[0].fade_to == 0
    assert found[-1].end == length
    assert len({span.size for span in found}) == 1
    assert all(span.start % multiple == span.size % multiple == 0 and span.size <= max(tile, 1) for span in found)
    for before, after in pairwise(found):
        overlap = before.end - after.start
        assert overlap >= 2 * margin - multiple
        assert before.start < after.start
        context = min(after.fade_from, overlap - after.fade_to)
        assert context >= (overlap - feather) // 2
        assert 0 <= after.fade_from <= after.fade_to <= overlap


def test_512_in_tiles_of_288() -> None:
    """Two of 288 overlap by 64; the second fades in over the 16 in the middle."""
    assert spans(512, 288) == [Span(0, 288), Span(224, 288, 24, 40)]
    assert spans(288, 288) == [Span(0, 288)]
    assert [span.start for span in spans(513, 288)] == [0, 149, 299]


def test_a_tile_no_larger_than_its_margins_is_refused() -> None:
    with pytest.raises(ValueError, match="a tile of 64 pixels is too small for margins of 32"):
        spans(100, 64)


def test_pieces_of_one_image_make_that_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (150, 190, 3)).astype(np.uint8)
    canvas = np.zeros((300, 380, 3), np.uint8)
    large = image.repeat(2, 0).repeat(2, 1)
    for down in spans(150, 90, margin=16, feather=8):
        rows = large[down.start * 2 : down.end * 2]
        strip = np.zeros_like(rows)
        for across in spans(190, 90, margin=16, feather=8):
            lay(strip, rows[:, across.start * 2 : across.end * 2].astype(np.float32), across, 2, axis=1)
        lay(canvas, strip, down, 2, axis=0)
    assert (canvas == large).all()


def test_tiles_that_differ_pass_into_each_other() -> None:
    """Left 100, right 200: the step of 100 is spread over the 4 pixels (8 after doubling) of the fade."""
    canvas = np.zeros((4, 40, 3), np.uint8)
    left, right = Span(0, 12), Span(8, 12, 0, 4)
    lay(canvas, np.full((4, 24, 3), 100, np.float32), left, 2, axis=1)
    lay(canvas, np.full((4, 24, 3), 200, np.float32), right, 2, axis=1)
    assert canvas[0, :, 0].tolist() == [100] * 16 + [106, 119, 131, 144, 156, 169, 181, 194] + [200] * 16
    turned = np.zeros((40, 4, 3), np.uint8)
    lay(turned, np.full((24, 4, 3), 100, np.float32), left, 2, axis=0)
    lay(turned, np.full((24, 4, 3), 200, np.float32), right, 2, axis=0)
    assert (turned == canvas.transpose(1, 0, 2)).all()


def test_values_are_rounded_not_cut() -> None:
    canvas = np.zeros((1, 1, 3), np.uint8)
    lay(canvas, np.array([[[0.4, 99.6, 254.7]]], np.float32), Span(0, 1), 1, axis=0)
    assert canvas.tolist() == [[[0, 100, 255]]]
