"""Bodies, hands and faces by YOLOX and DWPose: the rules against OpenCV, and whole by small networks in ONNX."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from annotator_support import scene, smooth
from atelier.errors import BadFile, BadInput
from atelier.request.resolved import InNetwork
from atelier.runtime.device import pick
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.runtime.steering import annotator_file
from atelier.runtime.workers.catalogue import listed
from atelier.vision import whole_bodies
from atelier.vision.annotate import annotator, ready
from atelier.vision.annotators.dw_openpose import load
from atelier.vision.pose import Person, Pose, drawn
from atelier.vision.whole_bodies import Keypoints, around, cropped, decoded, found, keypoints, people, person, placed
from atelier.weights.hashes import HashCache

cv2: Any = pytest.importorskip("cv2")
CPU = torch.device("cpu")
POSITIONS = 80 * 80 + 40 * 40 + 20 * 20


class Fake:
    """A session that answers what it was given at first, and keeps what it was asked."""

    def __init__(self, *answers: np.ndarray, size: tuple[int, int] = (640, 640)) -> None:
        self.answers, self.size, self.asked = answers, size, list[np.ndarray]()

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="input", shape=["batch", 3, *self.size])]

    def run(self, _: None, given: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        self.asked.append(given["input"])
        return self.answers


def detections(*persons: tuple[float, float, float, float, float]) -> np.ndarray:
    """(1, 8400, 85) of YOLOX for a side of 640: boxes (left, top, right, bottom) and how sure, on the middle map."""
    said = np.zeros((1, POSITIONS, 85), np.float32)
    for left, top, right, bottom, sure in persons:
        x, y = (left + right) / 2, (top + bottom) / 2
        column, row = int(x // 16), int(y // 16)
        size = np.log((right - left) / 16), np.log((bottom - top) / 16)
        said[0, 80 * 80 + 40 * row + column, :6] = x / 16 - column, y / 16 - row, *size, sure, 1
    return said


def maps(places: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What DWPose says for keypoints at (133, 2) places of what it sees, 288 x 384."""
    across, down = np.zeros((1, 133, 576), np.float32), np.zeros((1, 133, 768), np.float32)
    for number, (x, y) in enumerate(places):
        across[0, number, round(x * 2)] = scores[number]
        down[0, number, round(y * 2)] = 9
    return across, down


def test_the_image_lies_in_the_corner_of_a_grey_square() -> None:
    pixels = smooth(100, 160)
    canvas, scale = placed(pixels, (640, 640))
    assert scale == 4
    assert abs(canvas[:400].astype(int) - cv2.resize(pixels, (640, 400), interpolation=cv2.INTER_LINEAR)).max() <= 1
    assert (canvas[400:] == 114).all()


def test_people_are_found_in_pixels_of_the_image() -> None:
    """Two, of whom one is seen twice; one that is too unsure; and what is there but no person."""
    said = detections((40, 80, 200, 360, 0.9), (44, 84, 204, 368, 0.6), (400, 80, 480, 240, 0.8), (8, 8, 80, 80, 0.2))
    said[0, 0, :8] = 1, 1, 3, 3, 1, 0, 1, 0
    detector = Fake(said)
    pixels = smooth(200, 320)
    boxes = found(pixels, detector)
    assert boxes == pytest.approx(np.array([[20, 40, 100, 180], [200, 40, 240, 120]]), abs=1e-3)
    (asked,) = detector.asked
    assert asked.shape == (1, 3, 640, 640)
    assert asked.max() > 1
    blue_first = placed(pixels, (640, 640))[0][..., ::-1]
    assert (asked[0].transpose(1, 2, 0) == blue_first).all()


def test_boxes_are_in_strides_from_their_position() -> None:
    """By hand: the second position of the second row of the first map, and the last of all."""
    said = np.zeros((POSITIONS, 85), np.float32)
    said[81, :6] = 0.5, 0.25, np.log(4), np.log(2), 0.5, 0.5
    said[-1, :6] = 0.5, 0.5, 0, 0, 1, 1
    boxes, scores = decoded(said, 640, 640)
    assert boxes[81] == pytest.approx([12 - 16, 10 - 8, 12 + 16, 10 + 8])
    assert boxes[-1] == pytest.approx([608, 608, 640, 640])
    assert (scores[81], scores[-1]) == (0.25, 1)


@pytest.mark.parametrize("box", [(40, 30, 90, 150), (40, 30, 170, 60), (-20, -10, 60, 120)])
def test_a_person_is_seen_as_theirs(box: tuple[float, ...]) -> None:
    """By OpenCV: a quarter larger than the box, at 288 x 384, black outside the image."""
    pixels = smooth(160, 200)
    left, top, right, bottom = box
    width, height = 1.25 * (right - left), 1.25 * (bottom - top)
    width, height = (width, width * 384 / 288) if width > height * 0.75 else (height * 0.75, height)
    x, y = (left + right) / 2, (top + bottom) / 2
    source = np.array([[x, y], [x + width / 2, y], [x, y + height / 2]], np.float32)
    target = np.array([[144, 192], [288, 192], [144, 384]], np.float32)
    wanted = cv2.warpAffine(pixels, cv2.getAffineTransform(source, target), (288, 384), flags=cv2.INTER_LINEAR)
    middle, size = around(np.array(box, np.float32), 384, 288)
    ours = cropped(pixels, middle, size, 384, 288)
    assert ours.shape == (384, 288, 3)
    assert abs(ours - wanted).mean() < 0.5
    assert abs(ours - wanted).max() <= 12
    assert (ours == 0).all(2).any() == (wanted == 0).all(2).any()


def test_keypoints_come_back_to_the_image() -> None:
    """Places of what is seen; how sure is the smaller of both sides."""
    places = np.random.default_rng(0).integers(0, 288, (133, 2)).astype(float)
    scores = np.linspace(0.1, 0.9, 133).astype(np.float32)
    posing = Fake(*maps(places, scores), size=(384, 288))
    own = keypoints(smooth(160, 200), np.array([40, 30, 90, 150], np.float32), posing)
    assert own.scores == pytest.approx(scores)
    size = np.array([112.5, 150])
    assert own.places == pytest.approx(places / (288, 384) * size + (65, 90) - size / 2)
    colours = (posing.asked[0][0].transpose(1, 2, 0) * (58.395, 57.12, 57.375)) + (123.675, 116.28, 103.53)
    assert abs(colours - np.rint(colours)).max() < 1e-3
    assert colours.max() > 100


COCO = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
OPENPOSE = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
    "right_ear", "left_ear",
)  # fmt: skip


def test_cocos_keypoints_are_openposes_by_name() -> None:
    places = np.stack([np.arange(133), 500 + np.arange(133)], 1).astype(float)
    own = person(Keypoints(places, np.ones(133, np.float32)))
    for name, point in zip(OPENPOSE, own.body, strict=True):
        assert point is not None
        assert point.x == (5.5 if name == "neck" else COCO.index(name))
    assert [point.x for point in own.face if point] == list(range(23, 91))
    assert [point.x for point in own.left_hand if point] == list(range(91, 112))
    assert [point.y for point in own.right_hand if point] == list(range(612, 633))


def test_what_is_unsure_is_not_there() -> None:
    scores = np.ones(133, np.float32)
    scores[[5, 30, 100]] = 0.2
    own = person(Keypoints(np.ones((133, 2)), scores))
    assert [n for n, point in enumerate(own.body) if point is None] == [1, 5]
    assert [n for n, point in enumerate(own.face) if point is None] == [7]
    assert [n for n, point in enumerate(own.left_hand) if point is None] == [9]
    assert None not in own.right_hand


def test_where_nobody_is_found_the_whole_image_is_somebody() -> None:
    posing = Fake(*maps(np.full((133, 2), 144.0), np.ones(133)), size=(384, 288))
    (own,) = people(smooth(120, 90), Fake(detections()), posing)
    (expected,) = (person(keypoints(smooth(120, 90), np.array([0, 0, 90, 120], np.float32), posing)),)
    assert own == expected
    two = detections((40, 80, 200, 360, 0.9), (400, 80, 480, 240, 0.8))
    assert len(people(smooth(120, 90), Fake(two), posing)) == 2


# ---- networks in ONNX


def constant(path: Path, side: tuple[int, int], *answers: np.ndarray) -> Path:
    """A network that always says the same."""
    onnx: Any = pytest.importorskip("onnx")
    make = onnx.helper
    names = [f"out{n}" for n in range(len(answers))]
    nodes = [
        make.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(answer))
        for name, answer in zip(names, answers, strict=True)
    ]
    given = make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, *side])
    said = [
        make.make_tensor_value_info(n, onnx.TensorProto.FLOAT, a.shape) for n, a in zip(names, answers, strict=True)
    ]
    graph = make.make_graph(nodes, "g", [given], said)
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9), str(path))
    return path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    pytest.importorskip("onnxruntime")
    constant(tmp_path / "yolox_l.onnx", (640, 640), detections((100, 60, 340, 560, 0.9)))
    random = np.random.default_rng(5)
    places = random.uniform(60, 230, (133, 2))
    said = maps(places, np.ones(133))
    return constant(tmp_path / "dw-ll_ucoco_384.onnx", (384, 288), *said)


def test_the_annotator_draws_everybody_found(files: Path) -> None:
    pixels = scene(side=256)
    hint = ready(annotator("dw_openpose_full"), lambda _: files, CPU).hint(Image.fromarray(pixels))
    said = maps(np.random.default_rng(5).uniform(60, 230, (133, 2)), np.ones(133))
    posing = Fake(*said, size=(384, 288))
    expected: tuple[Person, ...] = people(pixels, Fake(detections((100, 60, 340, 560, 0.9))), posing)
    assert len(expected) == 1
    assert (np.asarray(hint) == np.asarray(drawn(Pose(256, 256, expected)))).all()
    assert np.asarray(hint).any()


PARTS = {
    "openpose_full": ("body", "left_hand", "right_hand", "face"),
    "openpose_hand": ("body", "left_hand", "right_hand"),
    "openpose_face": ("body", "face"),
    "openpose_faceonly": ("face",),
}


@pytest.mark.parametrize("name", PARTS)
def test_a1111s_other_names_draw_some_of_it(name: str, files: Path) -> None:
    pixels = scene(side=256)
    hint = ready(annotator(name), lambda _: files, CPU).hint(Image.fromarray(pixels))
    said = maps(np.random.default_rng(5).uniform(60, 230, (133, 2)), np.ones(133))
    (whole,) = people(pixels, Fake(detections((100, 60, 340, 560, 0.9))), Fake(*said, size=(384, 288)))
    some = Person(**{part: getattr(whole, part) for part in PARTS[name]})
    assert (np.asarray(hint) == np.asarray(drawn(Pose(256, 256, (some,))))).all()
    assert np.asarray(hint).any()


def test_what_it_holds_is_counted(files: Path) -> None:
    size = files.stat().st_size + files.with_name("yolox_l.onnx").stat().st_size
    assert ready(annotator("dw_openpose_full"), lambda _: files, CPU).bytes == size > 1e6


def test_without_the_detector_it_says_where_to_put_it(files: Path) -> None:
    """Before a request is accepted, too; and the list of annotators says that it cannot be used."""
    folder = files.parent / "models" / "annotators"
    folder.mkdir(parents=True)
    for name in (files.name, "yolox_l.onnx"):
        (folder / name).write_bytes(files.with_name(name).read_bytes())
    library, hashes = Library((folder.parent,)), HashCache()
    told = r"annotator dw_openpose_full: yolox_l.onnx is not there: put it beside dw-ll_ucoco_384.onnx"
    spec = annotator("dw_openpose_full")
    engine = Engine(pick("cpu"), library, hashes, version="1", budget=0)

    def there() -> bool:
        listing: Any = listed(engine, hashes)["annotators"]
        return next(own["there"] for own in listing if own["name"] == spec.name)

    assert there()
    found = annotator_file(spec, library, engine.resources.hash_of)
    assert isinstance(found, InNetwork)
    assert found.file.sha256 == hashlib.sha256(files.read_bytes()).hexdigest()
    (folder / "yolox_l.onnx").unlink()
    with pytest.raises(BadInput, match=told):
        annotator_file(spec, library, hashes.sha256)
    with pytest.raises(BadInput, match=told):
        ready(spec, library.annotator, CPU)
    assert not there()


def test_files_that_cannot_be(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = files.with_name("swapped.onnx")
    swapped.write_bytes(files.with_name("yolox_l.onnx").read_bytes())
    with pytest.raises(BadFile, match="is another network: its outputs are"):
        load(swapped, CPU)
    (files.with_name("broken.onnx")).write_bytes(b"no network")
    with pytest.raises(BadFile, match="is no network in ONNX"):
        load(files.with_name("broken.onnx"), CPU)
    files.with_name("yolox_l.onnx").write_bytes(files.read_bytes())
    with pytest.raises(BadFile, match=r"get yolox_l.onnx of"):
        load(files, CPU)
    monkeypatch.setattr(whole_bodies.onnx, "PACKAGE", "no_such_package")
    with pytest.raises(BadInput, match="finding poses needs no_such_package"):
        load(files, CPU)
