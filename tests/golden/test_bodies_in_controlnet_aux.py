"""Finding bodies against controlnet_aux: the network with the same weights, and people in maps that were drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from annotator_support import reference, scene, smooth
from atelier.errors import BadFile
from atelier.families.parts.body_pose import NETWORK
from atelier.models.body_pose import BodyPose, BodyPoseSpec
from atelier.vision.annotators.openpose import found
from atelier.vision.arrays.shapes import Point
from atelier.vision.bodies import FIELDS, JOINED, Peak, peaks_of
from atelier.vision.reading import read_file

pytest.importorskip("cv2")
CPU = torch.device("cpu")
STANDING = (
    (0, -30), (0, -20), (-10, -20), (-14, -8), (-16, 4), (10, -20), (14, -8), (16, 4), (-6, 4), (-7, 18),
    (-7, 32), (6, 4), (7, 18), (7, 32), (-3, -33), (3, -33), (-6, -31), (6, -31),
)  # fmt: skip
"""Somebody upright, the 18 points around the hips."""
People = list[dict[int, tuple[float, float]]]
THEIR_PAIRS = (
    (2, 3), (2, 6), (3, 4), (4, 5), (6, 7), (7, 8), (2, 9), (9, 10), (10, 11), (2, 12), (12, 13), (13, 14), (2, 1),
    (1, 15), (15, 17), (1, 16), (16, 18), (3, 17), (6, 18),
)  # fmt: skip
THEIR_MAPS = (31, 39, 33, 35, 41, 43, 19, 21, 23, 25, 27, 29, 47, 49, 53, 51, 55, 37, 45)


def test_limbs_and_their_maps_by_hand() -> None:
    """OpenPose counts keypoints from 1, and the maps of limbs from 19."""
    assert tuple((a + 1, b + 1) for a, b in JOINED) == THEIR_PAIRS
    assert tuple(n + 19 for n in FIELDS) == THEIR_MAPS


def someone(x: float, y: float, size: float = 1.0, without: tuple[int, ...] = ()) -> dict[int, tuple[float, float]]:
    """In pixels of what the network sees."""
    return {i: (x + a * size, y + b * size) for i, (a, b) in enumerate(STANDING) if i not in without}


class Drawn(nn.Module):
    """A network that sees these people wherever it looks."""

    def __init__(self, people: People, noise: float = 0.0) -> None:
        super().__init__()
        self.any = nn.Parameter(torch.zeros(1))
        self.people, self.noise = people, noise

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.seen = x
        height, width = x.shape[2] // 8, x.shape[3] // 8
        rows, columns = np.mgrid[:height, :width] * 8 + 3.5
        points, limbs = np.zeros((19, height, width)), np.zeros((38, height, width))
        for person in self.people:
            for part, (px, py) in person.items():
                bump = np.exp(-((columns - px) ** 2 + (rows - py) ** 2) / (2 * 6**2))
                points[part] = np.maximum(points[part], bump)
            for (a, b), across in zip(JOINED, FIELDS, strict=True):
                if a in person and b in person:
                    _draw_limb(limbs[across : across + 2], person[a], person[b], columns, rows)
        random = np.random.default_rng(0)
        points += self.noise * random.uniform(size=points.shape)
        return torch.from_numpy(limbs)[None].float(), torch.from_numpy(points)[None].float()


def _draw_limb(maps: Any, a: tuple[float, float], b: tuple[float, float], columns: Any, rows: Any) -> None:
    way = np.subtract(b, a)
    length = max(float(np.hypot(*way)), 1e-3)
    x, y = columns - a[0], rows - a[1]
    along, aside = (x * way[0] + y * way[1]) / length, (x * way[1] - y * way[0]) / length
    near = (along > -8) & (along < length + 8) & (abs(aside) < 7)
    for n in (0, 1):
        maps[n][near] = way[n] / length


CROWDS: dict[str, Callable[[], tuple[People, float]]] = {
    "two": lambda: ([someone(60, 90), someone(150, 95, 1.3)], 0),
    "parts are gone": lambda: ([someone(60, 90, 1.2, (0, 4)), someone(150, 95, 1.4, (10, 13, 16))], 0),
    "too little of somebody": lambda: ([someone(60, 90, 1.5, tuple(range(2, 16)))], 0),
    "overlapping": lambda: ([someone(90, 90, 1.5), someone(106, 96, 1.5)], 0),
    "noise, and no neck": lambda: ([someone(92, 90, 1.5), someone(180, 90, 1.5, (1,))], 0.06),
}


@pytest.mark.parametrize("crowd", CROWDS)
def test_the_same_people_are_found(crowd: str) -> None:
    reference("open_pose.util")
    their = reference("open_pose.body")
    net = Drawn(*CROWDS[crowd]())
    pixels = smooth(128, 192)
    body = their.Body.__new__(their.Body)
    body.model = net
    candidate, subset = body(pixels[:, :, ::-1].copy())
    wanted = [
        [None if k is None else (k.x, k.y) for k in each.keypoints]
        for each in body.format_body_result(candidate, subset)
    ]
    ours = [[None if p is None else (p.x, p.y) for p in points] for points in found(pixels, net, CPU)]
    assert ours == wanted
    assert bool(ours) == (crowd != "too little of somebody")


def test_the_network_sees_what_theirs_does() -> None:
    """Blue first, 184 high, grey beyond the image."""
    reference("open_pose.util")
    body = reference("open_pose.body").Body.__new__(reference("open_pose.body").Body)
    for pixels in (smooth(128, 200), smooth(250, 130)):
        net = body.model = Drawn([])
        body(pixels[:, :, ::-1].copy())
        wanted = net.seen
        found(pixels, net, CPU)
        assert net.seen.shape == wanted.shape
        assert float((net.seen - wanted).abs().max()) <= 1.01 / 256


def test_points_are_where_they_were_drawn() -> None:
    """To 4 pixels of 128, of which the network sees 184."""
    (points,) = found(smooth(128, 192), Drawn([someone(92, 90, 1.5)]), CPU)
    for part, (x, y) in someone(92, 90, 1.5).items():
        place = points[part]
        assert isinstance(place, Point)
        assert abs(place.x - x * 128 / 184) < 4
        assert abs(place.y - y * 128 / 184) < 4


def test_too_many_peaks_are_cut_to_the_highest() -> None:
    heat = np.zeros((400, 400))
    heat[10::20, 10::20] = np.linspace(50, 90, 400).reshape(20, 20)
    peaks = peaks_of(heat, heat)
    assert len(peaks) == 128
    assert min(peak.score for peak in peaks) == pytest.approx(heat[heat > 0][-128])
    assert peaks == sorted(peaks, key=lambda peak: (peak.y, peak.x))
    assert peaks_of(np.zeros((1, 1)), np.zeros((1, 1))) == []
    assert peaks_of(np.full((1, 1), 5.0), np.full((1, 1), 6.0)) == [Peak(0, 0, 5.0)]


def saved(net: nn.Module, path: Path) -> Path:
    """Under the published names: without the branch before each."""
    torch.save({name.split(".", 1)[1]: tensor for name, tensor in net.state_dict().items()}, path)
    return path


def test_the_network_is_theirs_at_true_size(tmp_path: Path) -> None:
    reference("open_pose.util")
    their = reference("open_pose.model").bodypose_model()
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in their.parameters():
            tensor.uniform_(-1, 1).mul_((6 / tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.1)
    net = read_file(saved(their, tmp_path / "body_pose_model.pth"), NETWORK, CPU)
    assert net.spec == BodyPoseSpec()
    x = torch.from_numpy(scene(side=64).copy()).permute(2, 0, 1)[None].float() / 256 - 0.5
    with torch.no_grad():
        for ours, wanted in zip(net(x), their(x), strict=True):
            assert float(wanted.std()) > 1e-3
            assert float((ours - wanted).abs().max() / wanted.std()) < 1e-4
    with pytest.raises(BadFile, match="lacks"):
        read_file(_other(tmp_path / "other.pth"), NETWORK, CPU)


def _other(path: Path) -> Path:
    torch.save({"conv1_1.weight": torch.zeros(4, 3, 3, 3)}, path)
    return path


def test_its_spec_is_read_from_a_small_one(tmp_path: Path) -> None:
    spec = BodyPoseSpec((4, 5, 6, 7), 8, 9, 10, 3)
    net = BodyPose(spec)
    torch.save({n.ldm: net.state_dict()[n.ours] for n in NETWORK.names(spec)}, tmp_path / "small.pth")
    assert read_file(tmp_path / "small.pth", NETWORK, CPU).spec == spec
