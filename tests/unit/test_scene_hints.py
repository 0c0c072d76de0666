"""Hints of emoji scenes: what they show lies where the scene's things lie."""

from __future__ import annotations

import numpy as np
import pytest

from atelier.train.data.scene_hints import HINTS, moved, what
from atelier.train.data.scenes import Placed, Scene, large, pair, render, small

FOX = small("fox", "blue", "in the top left")
SIZE = 128


def drawn(kind: str, scene: Scene) -> np.ndarray:
    return np.asarray(HINTS[kind](scene, SIZE).convert("RGB"), np.int16)


def covered(scene: Scene) -> np.ndarray:
    """Where the rendered image is not its background, which the corner at the bottom right shows."""
    image = render(scene, SIZE).astype(np.int16)
    return abs(image - image[-1, -1]).max(2) > 40


def test_segmentation_has_the_colour_of_the_kind_where_the_thing_is() -> None:
    hint, thing = drawn("segmentation", FOX), covered(FOX)
    assert {tuple(colour) for colour in hint.reshape(-1, 3)} == {(0, 0, 0), (0, 255, 0)}
    is_green = hint[..., 1] == 255
    assert (is_green & thing).sum() > 0.95 * (is_green | thing).sum()


def test_of_a_pair_each_has_its_own_colour() -> None:
    hint = drawn("segmentation", pair("fox", "pizza", "white"))
    left, right = ({tuple(colour) for colour in half.reshape(-1, 3)} for half in (hint[:, :64], hint[:, 64:]))
    assert left == {(0, 0, 0), (0, 255, 0)}
    assert right == {(0, 0, 0), (255, 0, 0)}


def test_what_is_larger_is_nearer_and_a_thing_is_nearest_in_its_middle() -> None:
    near, far = drawn("depth", large("pizza", "white")), drawn("depth", small("pizza", "white"))
    assert (near[0, 0] == 0).all()
    assert near.max() == 255
    assert far.max() == pytest.approx(255 * 0.8, abs=1)
    assert near[near > 0].min() == pytest.approx(96, abs=1)
    assert (near[..., 0] == near[..., 2]).all()


def test_normals_point_to_the_viewer_inside_of_a_thing_alone() -> None:
    hint, thing = drawn("normal", large("pizza", "white")), covered(large("pizza", "white"))
    assert hint.shape == (SIZE, SIZE, 3)
    assert np.unique(hint[~thing].reshape(-1, 3), axis=0).shape[0] < 100 < np.unique(hint[thing], axis=0).shape[0]


def test_a_skeleton_reaches_the_corners_of_the_box() -> None:
    hint, thing = drawn("keypoints", FOX), covered(FOX)
    rows, columns = np.flatnonzero(thing.any(1)), np.flatnonzero(thing.any(0))
    for row, column, colour in (
        (rows[0], columns[0], (255, 170, 0)),
        (rows[0], columns[-1], (85, 255, 0)),
        (rows[-1], columns[-1], (0, 255, 255)),
        (rows[-1], columns[0], (85, 0, 255)),
        (rows.mean(), columns.mean(), (255, 0, 0)),
    ):
        places = np.argwhere((hint == colour).all(2))
        assert abs(places - (row, column)).max(1).min() <= 2, colour


@pytest.mark.parametrize(
    ("scene", "caption"),
    [
        (FOX, "a fox on a blue background"),
        (large("fireworks", "orange"), "fireworks on an orange background"),
        (pair("wrench", "owl", "gray"), "a wrench and an owl on a gray background"),
    ],
)
def test_a_caption_says_what_and_leaves_the_rest_to_the_hint(scene: Scene, caption: str) -> None:
    assert what(scene) == caption


def test_a_thing_is_moved_anywhere_within_the_image() -> None:
    random = np.random.default_rng(3)
    found = [moved(FOX, random) for _ in range(200)]
    assert {own.caption for own in found} == {"a fox on a blue background"}
    things = np.array([(thing.x, thing.y, thing.extent) for own in found for thing in own.objects])
    assert len(things) == 200
    (x, y, extent), ends = things.T, (things[:, :2] - things[:, 2:] / 2, things[:, :2] + things[:, 2:] / 2)
    assert 30 <= extent.min() < 32 < 48 < extent.max() <= 50
    assert ends[0].min() >= 0
    assert ends[1].max() <= 64
    assert x.min() < 20 < 44 < x.max()
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.3


def test_a_pair_is_not_moved() -> None:
    own = pair("fox", "pizza", "white")
    assert moved(own, np.random.default_rng(1)) == own


def test_the_hint_moves_with_the_thing() -> None:
    own = Scene("small", (Placed("fox", 40.5, 22.0, 30.0),), "purple", "")
    hint, thing = drawn("segmentation", own)[..., 1] == 255, covered(own)
    assert (hint & thing).sum() > 0.95 * (hint | thing).sum()
