"""Annotators, their networks and the drawing of poses against controlnet_aux, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from annotator_support import IMAGES, Pixels, blocks, reference, scene, smooth
from atelier.errors import BadFile
from atelier.vision.annotate import annotator, ready
from atelier.vision.annotating import NeedsFile
from atelier.vision.arrays.shapes import Point
from atelier.vision.arrays.tones import normals
from atelier.vision.palette import ade20k
from atelier.vision.pose import COLOURS, Person, Points, Pose, drawn, face_drawn
from weights_support import fill

cv2: Any = pytest.importorskip("cv2")
CPU = torch.device("cpu")


def hint(name: str, pixels: Pixels, file: Path | None = None, **how: Any) -> Any:
    made = ready(annotator(name), lambda _: file, CPU).hint(Image.fromarray(pixels), **how)
    return np.asarray(made).astype(int)


def test_shuffle_by_the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    shuffle = reference("shuffle")
    random = np.random.default_rng(7)
    monkeypatch.setattr(np.random, "uniform", random.uniform)
    pixels = smooth(512, 768)
    theirs = shuffle.ContentShuffleDetector()(pixels, output_type="np")
    assert abs(hint("shuffle", pixels, seed=7) - theirs).max() <= 1
    assert theirs.std() > 30
    assert abs(hint("shuffle", pixels, seed=8) - theirs).max() > 50


def test_lines_of_a_drawing() -> None:
    line_art = reference("lineart_standard")
    pixels = scene(side=512)
    theirs = line_art.LineartStandardDetector()(pixels, output_type="np")
    ours = hint("lineart_standard", pixels)
    assert abs(ours - theirs).max() <= 1
    assert (ours != theirs).mean() < 1e-3
    assert theirs.max() > 200


def test_scribbles_by_differences_of_gaussians() -> None:
    pixels = scene(side=256)
    values = pixels.astype(np.float32)
    difference = cv2.GaussianBlur(values, (0, 0), 5.0) - cv2.GaussianBlur(values, (0, 0), 0.5)
    kept = (255 - difference.min(2)).clip(0, 255).astype(np.uint8)
    for threshold in (32, 10, 64):
        theirs = np.where(2 * (255 - kept.astype(int)) > threshold, 255, 0)
        assert (hint("scribble_xdog", pixels, options={"threshold": threshold}) == theirs[..., None]).all()
        assert theirs.any()


def test_soft_edges_as_scribbles() -> None:
    """The thinning of controlnet_aux, then its blur."""
    from atelier.vision.arrays.filters import scribbled

    util = reference("util")
    edges = smooth(96, 130)[..., 0]
    thin = cv2.GaussianBlur(util.nms(edges, 127, 3.0), (0, 0), 3.0)
    assert (scribbled(edges) == np.where(thin > 4, 255, 0)).mean() > 0.999
    assert 0 < (thin > 4).mean() < 1


def test_squares_of_colour_lightness_and_intensity() -> None:
    pixels = smooth(320, 200)
    small = cv2.resize(pixels, (3, 5), interpolation=cv2.INTER_CUBIC)
    assert abs(hint("color", pixels) - cv2.resize(small, (200, 320), interpolation=cv2.INTER_NEAREST)).max() <= 1
    light = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[..., :1]
    assert abs(hint("recolor_luminance", pixels) - light).max() <= 1
    bright = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)[..., 2:]
    assert (hint("recolor_intensity", pixels) == bright).all()
    curved = ((bright.astype(np.float32) / 255.0) ** 0.5 * 255).astype(np.uint8)
    assert abs(hint("recolor_intensity", pixels, options={"gamma": 0.5}) - curved).max() <= 1


def test_blur_and_tile() -> None:
    pixels = scene()
    assert (hint("blur_gaussian", pixels) == cv2.GaussianBlur(pixels, (0, 0), 9.0)).all()
    small = cv2.resize(pixels, (102, 102), interpolation=cv2.INTER_AREA)
    assert abs(hint("tile_resample", pixels, options={"rate": 2.5}) - small).max() <= 1


def test_normals_of_depths() -> None:
    """The rule of MiDaS in ControlNet 1.0, with OpenCV's derivatives."""
    depth = smooth(60, 90)[..., 0].astype(np.float32) * 3
    x, y = cv2.Sobel(depth, cv2.CV_32F, 1, 0, ksize=3), cv2.Sobel(depth, cv2.CV_32F, 0, 1, ksize=3)
    share = (depth - depth.min()) / (depth - depth.min()).max()
    x[share < 0.4], y[share < 0.4] = 0, 0
    normal = np.stack([x, y, np.full_like(x, np.pi * 2)], axis=2)
    normal /= np.sum(normal**2, axis=2, keepdims=True) ** 0.5
    theirs = (normal * 127.5 + 127.5).clip(0, 255).astype(np.uint8)[:, :, ::-1]
    assert abs(normals(depth.astype(float), 0.4).astype(int) - theirs).max() <= 1
    assert theirs[..., 1].std() > 10


def test_the_palette_is_theirs_and_some_of_it_by_hand() -> None:
    util = reference("util")
    assert [list(colour) for colour in ade20k().values()] == util.ade_palette()
    assert [ade20k()[name] for name in ("wall", "sky", "person", "bridge", "flag")] == [
        (120, 120, 120), (6, 230, 230), (150, 5, 61), (255, 82, 0), (92, 0, 255),
    ]  # fmt: skip


# ---- networks

Detect = dict[str, Any]


def networks() -> dict[str, tuple[nn.Module, Any, Detect]]:
    """Annotator -> (controlnet_aux's network, what runs it, how)."""
    hed, lines, pidi = reference("hed"), reference("lineart"), reference("pidi")
    edges, wide, sketch = fill(hed.ControlNetHED_Apache2()), fill(pidi.pidinet()), fill(lines.Generator(3, 1, 3))
    with torch.no_grad():
        for block in (edges.block1, edges.block2, edges.block3, edges.block4, edges.block5):
            for conv in block.convs:
                conv.weight *= 1.4
            block.projection.weight *= 0.05
    by_hed, by_pidi = hed.HEDdetector(edges), pidi.PidiNetDetector(wide)
    return {
        "softedge_hed": (edges, by_hed, {}),
        "softedge_hedsafe": (edges, by_hed, {"safe": True}),
        "scribble_hed": (edges, by_hed, {"scribble": True}),
        "softedge_pidinet": (wide, by_pidi, {}),
        "softedge_pidisafe": (wide, by_pidi, {"safe": True}),
        "scribble_pidinet": (wide, by_pidi, {"scribble": True}),
        "t2ia_sketch_pidi": (wide, by_pidi, {"apply_filter": True}),
        "lineart": (sketch, lines.LineartDetector(sketch, sketch), {}),
        "lineart_coarse": (sketch, lines.LineartDetector(sketch, sketch), {"coarse": True}),
    }


@pytest.fixture(scope="module")
def theirs() -> dict[str, tuple[nn.Module, Any, Detect]]:
    return networks()


@pytest.fixture(scope="module")
def files(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each network as it is published: PiDiNet as a training on several devices leaves it."""
    folder = tmp_path_factory.mktemp("annotators")
    found: dict[str, Path] = {}
    for name, (net, _, _) in theirs.items():
        spec = annotator(name)
        assert isinstance(spec.draw, NeedsFile)
        found[name] = folder / spec.draw.files[0]
        tensors = net.state_dict()
        if "pidi" in name:
            torch.save({"state_dict": {f"module.{key}": t for key, t in tensors.items()}}, found[name])
        else:
            torch.save(tensors, found[name])
    return found


NAMES = [
    "softedge_hed", "softedge_hedsafe", "scribble_hed", "softedge_pidinet", "softedge_pidisafe", "scribble_pidinet",
    "t2ia_sketch_pidi", "lineart", "lineart_coarse",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_network_draws_what_theirs_does(name: str, theirs: Any, files: dict[str, Path]) -> None:
    pixels = blocks(64, 128)
    _, detector, how = theirs[name]
    wanted = detector(pixels, detect_resolution=64, image_resolution=64, output_type="np", **how).astype(int)
    ours = hint(name, pixels, files[name], resolution=64)
    assert len(np.unique(wanted)) > 1
    if wanted.max() == 255 and len(np.unique(wanted)) < 4:
        assert (ours == wanted).mean() > 0.99
    else:
        assert abs(ours - wanted).max() <= 1
        assert (ours != wanted).mean() < 0.01


@pytest.mark.parametrize("name", ["softedge_hed", "softedge_pidinet", "lineart"])
def test_a_file_of_another_network_is_refused(name: str, files: dict[str, Path]) -> None:
    other = files["lineart" if name != "lineart" else "softedge_hed"]
    with pytest.raises(BadFile, match="lacks"):
        hint(name, IMAGES["banana"], other)


# ---- poses


def people() -> tuple[Person, ...]:
    """Two, the second without some points, partly outside."""
    random = np.random.default_rng(4)

    def points(count: int, gone: tuple[int, ...] = (), low: float = 10, high: float = 240) -> Points:
        places = random.uniform(low, high, (count, 2))
        return tuple(None if i in gone else Point(float(x), float(y)) for i, (x, y) in enumerate(places))

    return Person(points(18), points(21), points(21), points(70)), Person(points(18, (0, 4, 9), -30, 290), (), (), ())


def test_poses_are_drawn_as_theirs() -> None:
    """But for rims of limbs and lines: 1 % of the pixels drawn."""
    pytest.importorskip("matplotlib")
    util, body = reference("open_pose.util"), reference("open_pose.body")
    width, height = 300, 256
    canvas = np.zeros((height, width, 3), np.uint8)
    for person in people():

        def keypoints(points: Points) -> list[Any]:
            return [None if p is None else body.Keypoint(p.x / width, p.y / height) for p in points]

        canvas = util.draw_bodypose(canvas, keypoints(person.body))
        canvas = util.draw_handpose(canvas, keypoints(person.left_hand))
        canvas = util.draw_handpose(canvas, keypoints(person.right_hand))
        canvas = util.draw_facepose(canvas, keypoints(person.face))
    ours = np.asarray(drawn(Pose(width, height, people())))
    wrong = (abs(ours.astype(int) - canvas) > 1).any(2).sum()
    assert wrong <= 0.01 * canvas.any(2).sum(), wrong / canvas.any(2).sum()


def test_colours_of_a_body_by_hand() -> None:
    shown = " ".join(bytes(colour).hex().upper() for colour in COLOURS)
    assert shown == (
        "FF0000 FF5500 FFAA00 FFFF00 AAFF00 55FF00 00FF00 00FF55 00FFAA "
        "00FFFF 00AAFF 0055FF 0000FF 5500FF AA00FF FF00FF FF00AA FF0055"
    )


def test_a_face_for_instant_id() -> None:
    """Written out with OpenCV."""
    import math

    places = [(40.2, 50.7), (90.0, 48.1), (64.4, 80.9), (45.0, 110.0), (85.5, 108.2)]
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)]
    canvas = np.zeros((150, 130, 3))
    for start in (0, 1, 3, 4):
        (x1, y1), (x2, y2) = places[start], places[2]
        angle, length = math.degrees(math.atan2(y1 - y2, x1 - x2)), math.hypot(x1 - x2, y1 - y2)
        middle = int(np.mean([x1, x2])), int(np.mean([y1, y2]))
        corners = cv2.ellipse2Poly(middle, (int(length / 2), 4), int(angle), 0, 360, 1)
        canvas = cv2.fillConvexPoly(canvas.copy(), corners, colours[start])
    canvas = (canvas * 0.6).astype(np.uint8)
    for (x, y), colour in zip(places, colours, strict=True):
        canvas = cv2.circle(canvas.copy(), (int(x), int(y)), 10, colour, -1)
    ours = np.asarray(face_drawn([Point(*place) for place in places], 130, 150))
    assert (ours != canvas).any(2).sum() <= 0.006 * canvas.any(2).sum()
