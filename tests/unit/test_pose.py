"""Keypoints as OpenPose's JSON has them, and what is drawn of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from atelier.errors import BadInput
from atelier.vision.arrays.shapes import Point
from atelier.vision.pose import drawn, pose_of, read_poses


def body(**changes: Any) -> dict[str, Any]:
    """Somebody who stands upright at the right of a canvas of 200x100; the nose was not found."""
    points: list[float] = [0.0, 0.0, 0.0]
    for i in range(1, 18):
        points += [120.0 + i, 5.0 * i, 0.9]
    return {"people": [{"pose_keypoints_2d": points}], "canvas_width": 200, "canvas_height": 100, **changes}


def test_points_in_pixels_and_in_shares_are_the_same() -> None:
    pixels = pose_of(body())
    shares = body()
    points = shares["people"][0]["pose_keypoints_2d"]
    points[0::3] = [x / 200 for x in points[0::3]]
    points[1::3] = [y / 100 for y in points[1::3]]
    assert np.allclose(np.asarray(drawn(pose_of(shares))), np.asarray(drawn(pixels)))
    assert pixels.people[0].body[0] is None
    assert pixels.people[0].body[1] == Point(121, 5)


def test_a_point_that_was_not_found_takes_its_limbs_along() -> None:
    image = np.asarray(drawn(pose_of(body())))
    assert image.shape == (100, 200, 3)
    assert image[:, :110].sum() == 0
    assert (image[5, 121] == (255, 85, 0)).all()
    assert not (image == (255, 0, 0)).all(2).any()


def test_a_list_of_poses_and_everything_of_a_person() -> None:
    hand, face = [10.0, 20.0, 1.0] * 21, [30.0, 40.0, 1.0] * 70
    person = {"pose_keypoints_2d": None, "hand_left_keypoints_2d": hand, "face_keypoints_2d": face}
    first, second = read_poses(json.dumps([body(), body(people=[person])]))
    assert len(first.people) == len(second.people) == 1
    image = np.asarray(drawn(second))
    assert (image[20, 10] == (0, 0, 255)).all()
    assert (image[40, 30] == (255, 255, 255)).all()
    assert np.asarray(drawn(pose_of(body(people=[])))).sum() == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "this is no JSON"),
        ("7", "an object with"),
        (json.dumps(body(canvas_width=0)), "canvas_width is 0"),
        (json.dumps(body(canvas_height=10**9)), "canvas_height is 1000000000"),
        (json.dumps(body(people=None)), "people is no list"),
        (json.dumps(body(people=[3])), "a person is no object"),
        (json.dumps(body(people=[{"pose_keypoints_2d": [1, 2, 3]}])), "has 3 numbers; 54 are needed"),
        (json.dumps(body(people=[{"pose_keypoints_2d": ["a"] * 54}])), "no list of numbers"),
        (json.dumps(body(people=[{"pose_keypoints_2d": [1e30] * 54}])), "no list of numbers"),
        (json.dumps(body(people=[{"pose_keypoints_2d": [float("nan")] * 54}])), "no list of numbers"),
        ("[" * 100000, "this is no JSON"),
    ],
)
def test_what_cannot_be_drawn_is_named(text: str, told: str) -> None:
    with pytest.raises(BadInput, match=told) as error:
        read_poses(text)
    assert "\n" not in str(error.value)
