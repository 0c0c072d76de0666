"""Faces: what a detector's maps mean, the transform that brings a face upright, and the two networks together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import face_support as support
from atelier.adapters.image_features import image_features
from atelier.adapters.steering import Needs
from atelier.errors import BadFile, BadInput
from atelier.vision import onnx
from atelier.vision.face_geometry import TEMPLATE, Found, aligned, joined, similarity
from atelier.vision.faces import FaceReader, crop, open_faces


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(name="pack")
def _pack(tmp_path: Path) -> Path:
    support.detector(tmp_path / "det.onnx")
    support.embedder(tmp_path / "w600k.onnx")
    pytest.importorskip("onnxruntime", reason=support.WHY)
    return tmp_path


def canvas_of(image: Image.Image, side: int) -> tuple[np.ndarray, float]:
    """As insightface puts an image into a square, of sizes that need no rounding."""
    scale = side / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(tensor, size=size[::-1], mode="bilinear", align_corners=False)
    canvas = np.zeros((side, side, 3), np.uint8)
    canvas[: size[1], : size[0]] = resized[0].permute(1, 2, 0).round().numpy()
    return canvas, scale


@pytest.mark.parametrize("size", [(320, 160), (160, 320), (320, 320)])
@pytest.mark.parametrize("batched", [False, True])
def test_faces_are_where_the_maps_say(size: tuple[int, int], batched: bool, tmp_path: Path) -> None:
    path = support.detector(tmp_path / "det.onnx", batched=batched)
    support.embedder(tmp_path / "embed.onnx")
    canvas, scale = canvas_of(picture(*size), 640)
    maps = support.maps_of(path, canvas)
    threshold = support.limit(maps)
    wanted = support.expected(maps, canvas, threshold)
    found = open_faces(tmp_path).found(np.array(picture(*size)), threshold)
    assert len(found.scores) == len(wanted) > 3
    assert np.allclose(found.scores, [score for score, _, _ in wanted], atol=1e-5)
    assert np.allclose(found.boxes, np.array([box for _, box, _ in wanted]) / scale, atol=1e-2)
    assert np.allclose(found.points.reshape(-1, 10), np.array([p for _, _, p in wanted]) / scale, atol=1e-2)


def test_of_two_boxes_of_one_face_the_more_certain_stays() -> None:
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 9.5], [5, 0, 14, 9], [50, 50, 59, 59]], np.float32)
    scores = np.array([0.6, 0.9, 0.8, 0.7], np.float32)
    points = np.arange(40, dtype=np.float32).reshape(4, 5, 2)
    kept = joined([Found(boxes[:2], scores[:2], points[:2]), Found(boxes[2:], scores[2:], points[2:])])
    assert kept.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert kept.points[:, 0, 0].tolist() == [10, 20, 30]


def test_an_image_is_put_into_smaller_squares_until_there_is_a_face() -> None:
    sides: list[int] = []

    class Detector:
        def get_inputs(self) -> list[object]:
            return [type("Input", (), {"shape": [1, 3, "h", "w"], "name": "image"})]

        def run(self, _: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
            side = given["image"].shape[-1]
            sides.append(side)
            counts = [2 * (side // stride) ** 2 for stride in support.STRIDES]
            made = [np.zeros((count, width)) for width in (1, 4, 10) for count in counts]
            made[0][0] = 0.9 if side == 480 else 0.1
            return made

    found = FaceReader(Detector(), None).found(np.zeros((100, 100, 3), np.uint8))
    assert sides == [640, 480]
    assert len(found.scores) == 1


def test_a_detector_of_one_size_is_given_that(tmp_path: Path) -> None:
    path = support.detector(tmp_path / "det.onnx", side=320)
    support.embedder(tmp_path / "embed.onnx")
    image = picture(320, 160)
    canvas, _ = canvas_of(image, 320)
    maps = support.maps_of(path, canvas)
    threshold = support.limit(maps)
    wanted = support.expected(maps, canvas, threshold)
    assert len(open_faces(tmp_path).found(np.array(image), threshold).scores) == len(wanted) > 0


def test_a_turn_and_a_scale_are_found_again() -> None:
    angle, scale, shift = 0.7, 1.8, np.array([30.0, -12.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    source = np.array(TEMPLATE)
    made = similarity(source, scale * source @ turn.T + shift)
    assert np.allclose(made, np.concatenate([scale * turn, shift[:, None]], axis=1))


@pytest.mark.parametrize("seed", range(5))
def test_the_transform_is_the_nearest_of_all(seed: int) -> None:
    """(a, b, x, y) by least squares: a turn with a scale is linear in them."""
    noise = np.random.default_rng(seed)
    source, target = noise.normal(0, 20, (5, 2)) + 40, np.array(TEMPLATE) + noise.normal(0, 3, (5, 2))
    if seed < 2:
        source = np.array(TEMPLATE) * 1.7 + noise.normal(0, 4, (5, 2))
    if seed == 4:
        source = np.array(TEMPLATE) * (-1, 1) + noise.normal(0, 2, (5, 2))  # a mirror image would be nearer
    rows = [row for x, y in source for row in ((x, -y, 1, 0), (y, x, 0, 1))]
    a, b, x, y = np.linalg.lstsq(np.array(rows), target.reshape(-1), rcond=None)[0]
    assert np.allclose(similarity(source, target), [[a, -b, x], [b, a, y]], atol=1e-8)


@pytest.mark.parametrize("side", [112, 224])
def test_a_face_is_cut_out_as_opencv_does(side: int) -> None:
    """OpenCV's sampling has 32 places between two pixels, ours all of them."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    pixels = np.array(picture(240, 200).resize((240, 200)))
    points = np.array(TEMPLATE) * 1.3 @ np.array([[0.95, 0.2], [-0.2, 0.95]]) + [-20.0, 30.0]
    to = similarity(points, np.array(TEMPLATE) * side / 112)
    theirs = cv2.warpAffine(pixels, to, (side, side), borderValue=0.0).astype(int)
    ours = aligned(pixels, points, side).astype(int)
    assert np.abs(ours - theirs).max() <= 12
    assert np.abs(ours - theirs).mean() <= 1.0
    assert (ours.sum(-1) == 0).any(), "some of it lies outside of the image"


def test_faces_come_with_their_embeddings(pack: Path) -> None:
    image = picture(320, 240)
    canvas, _ = canvas_of(image, 640)
    found = open_faces(pack).faces(image, support.limit(support.maps_of(pack / "det.onnx", canvas), 5))
    assert [face.area for face in found] == sorted((face.area for face in found), reverse=True)
    face = found[0]
    upright = np.array(crop(image, face, 112)).astype(np.float32)
    means = ((upright - 127.5) / 127.5).reshape(7, 16, 7, 16, 3).mean((1, 3)).transpose(2, 0, 1).reshape(-1)
    matrix = np.random.default_rng(1).normal(0, 0.1, (147, 512)).astype(np.float32)
    assert np.allclose(face.embedding.numpy(), means @ matrix, atol=1e-5)
    assert crop(image, face).size == (224, 224)
    assert face.embedding.shape == (512,)
    features = image_features(None, [image], Needs(face="unit"), face.embedding[None])
    assert features.face is not None
    assert float(features.face.norm()) == pytest.approx(1, abs=1e-5)


def test_a_folder_without_both_networks_is_refused(pack: Path) -> None:
    (pack / "w600k.onnx").unlink()
    with pytest.raises(BadFile, match="has no network that tells faces apart"):
        open_faces(pack)
    (pack / "det.onnx").unlink()
    with pytest.raises(BadFile, match=r"has no detector of faces \(SCRFD\): put the .onnx files"):
        open_faces(pack)
    (pack / "x.onnx").write_bytes(b"no network")
    with pytest.raises(BadFile, match="is no network in ONNX"):
        open_faces(pack)


def test_the_package_that_is_missing_is_named(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "PACKAGE", "no_such_package")
    with pytest.raises(BadInput, match=r"pip install 'atelier\[faces\]'"):
        open_faces(pack)
