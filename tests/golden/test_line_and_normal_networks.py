"""M-LSD, anime lines and surface normals against controlnet_aux's networks, with random weights."""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from annotator_support import Pixels, noise, reference, scene, smooth
from atelier.errors import BadFile
from atelier.families.parts import anime_lines, line_segments, surface_normals
from atelier.models.anime_lines import AnimeLinesSpec
from atelier.models.line_segments import LineSegmentsSpec
from atelier.models.surface_normals import SurfaceNormalsSpec
from atelier.vision.annotate import annotator, ready
from atelier.vision.annotators.mlsd import seen, segments
from atelier.vision.arrays.shapes import Point, thin_line
from atelier.vision.reading import read_file
from atelier.weights.names.batch_norm import counts
from atelier.weights.names.surface_normals import unread
from weights_support import assert_close, fill

cv2: Any = pytest.importorskip("cv2")
CPU = torch.device("cpu")


def filled(net: nn.Module) -> nn.Module:
    """Random weights; variances are above 0."""
    fill(net)
    for name, tensor in net.state_dict().items():
        if name.endswith("running_var"):
            tensor.abs_().add_(0.5)
    return net


def hint(name: str, pixels: Pixels, file: Path, **how: Any) -> Pixels:
    return np.asarray(ready(annotator(name), lambda _: file, CPU).hint(Image.fromarray(pixels), **how))


# ---- straight lines


@pytest.fixture(scope="module")
def mlsd(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    reference("mlsd")  # the whole, before a part of it
    theirs = filled(reference("mlsd.models.mbv2_mlsd_large").MobileV2_MLSD_Large())
    with torch.no_grad():  # centres that differ in how sure they are, ends some pixels away
        last: Any = theirs.get_submodule("block23.conv3")
        last.weight[7] *= 8
        last.bias[7] = -1
        last.weight[8:12] *= 40
    path = tmp_path_factory.mktemp("mlsd") / "mlsd_large_512_fp32.pth"
    torch.save(theirs.state_dict(), path)
    return theirs, path


def test_the_network_of_lines_is_theirs(mlsd: tuple[nn.Module, Path]) -> None:
    theirs, path = mlsd
    ours = read_file(path, line_segments.NETWORK, CPU, counts)
    assert ours.spec == LineSegmentsSpec()
    for pixels in (noise(64, 128), scene(side=192)):
        with torch.no_grad():
            assert_close(ours(seen(pixels)), theirs(seen(pixels)), 1e-5)


@pytest.mark.parametrize("options", [{}, {"score": 0.3}, {"length": 15.0}, {"score": 1.0}])
def test_lines_are_theirs(options: dict[str, float], mlsd: tuple[nn.Module, Path]) -> None:
    theirs, path = mlsd
    pixels = scene(side=128)
    detector = reference("mlsd").MLSDdetector(theirs)
    how = {"thr_v": options.get("score", 0.1), "thr_d": options.get("length", 0.1)}
    wanted = detector(pixels, detect_resolution=128, image_resolution=128, output_type="np", **how)
    ours = hint("mlsd", pixels, path, options=options)
    assert (ours != wanted).any(2).mean() < 2e-3
    assert bool(wanted.any()) == (options.get("score") != 1.0)


def test_the_surest_lines_are_theirs(mlsd: tuple[nn.Module, Path]) -> None:
    """By number and place: their ends in pixels of the image."""
    theirs, path = mlsd
    utils = reference("mlsd.utils")
    pixels = noise(128, 192)
    wanted = utils.pred_lines(pixels, theirs, [128, 192], 0.1, 5.0)
    with torch.no_grad():
        maps = read_file(path, line_segments.NETWORK, CPU, counts)(seen(pixels))[0]
    ours = [[*start, *end] for start, end in segments(maps, 0.1, 5.0)]
    assert len(ours) == len(wanted) > 20
    assert np.abs(np.array(ours) - wanted).max() < 1e-2


def test_a_line_by_hand() -> None:
    """A centre at (3, 2) of the maps whose ends lie 2 left and 4 right of it; and one beside it that is less sure."""
    maps = torch.zeros(9, 8, 8)
    maps[0] = -9
    maps[0, 2, 3], maps[0, 2, 4], maps[0, 6, 6] = 3, 2, -5
    maps[1:5, 2, 3] = torch.tensor([-2.0, 0, 4, 1])
    maps[1:5, 2, 4] = torch.tensor([-3.0, 0, 4, 1])
    assert segments(maps, 0.1, 1.0) == [(Point(2, 4), Point(14, 6))]
    assert segments(maps, 0.1, 6.2) == []
    assert segments(maps, 0.96, 1.0) == []


def test_thin_lines_are_drawn_as_by_opencv() -> None:
    random = np.random.default_rng(3)
    for number in range(400):
        reach = 30 if number % 2 else 150
        low = 0 if number % 2 else -60
        ends = random.integers(low, reach, 4)
        ours, theirs = np.zeros((40, 50, 3), np.uint8), np.zeros((40, 50, 3), np.uint8)
        thin_line(ours, Point(*map(float, ends[:2])), Point(*map(float, ends[2:])), (255, 255, 255))
        x1, y1, x2, y2 = map(int, ends)
        cv2.line(theirs, (x1, y1), (x2, y2), (255, 255, 255), 1)
        assert (ours == theirs).all(), ends


# ---- anime lines


def test_anime_lines_are_theirs(tmp_path: Path) -> None:
    """A narrow one of the same depth, as a training on several devices leaves it."""
    module = reference("lineart_anime")
    norm = functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=False)
    theirs = filled(module.UnetGenerator(3, 1, 8, 8, norm_layer=norm))
    torch.save({f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}, tmp_path / "netG.pth")
    net = read_file(tmp_path / "netG.pth", anime_lines.NETWORK, CPU)
    assert net.spec == AnimeLinesSpec((8, 16, 32, 64, 64, 64, 64, 64))
    x = torch.from_numpy(scene(side=256).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        assert_close(net.double()(x.double()), theirs.double()(x.double()), 1e-5)
    net.float(), theirs.float()
    pixels = smooth(128, 192)
    wanted = module.LineartAnimeDetector(theirs)(pixels, detect_resolution=128, image_resolution=128, output_type="np")
    ours = hint("lineart_anime", pixels, tmp_path / "netG.pth").astype(int)
    assert abs(ours - wanted).max() <= 2
    assert (abs(ours - wanted) > 1).mean() < 0.01
    assert wanted.std() > 1


def test_anime_lines_at_true_size() -> None:
    module = reference("lineart_anime")
    norm = functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=False)
    with torch.device("meta"):
        theirs = module.UnetGenerator(3, 1, 8, 64, norm_layer=norm)
        ours = anime_lines.NETWORK.build(AnimeLinesSpec())
    found = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    own = ours.state_dict()
    assert {n.ldm: tuple(own[n.ours].shape) for n in anime_lines.NETWORK.names(AnimeLinesSpec())} == found


# ---- normals


def bae() -> nn.Module:
    """With weights by their names, drawn quickly: there are 72 million."""
    args = SimpleNamespace(mode="client", architecture="BN", pretrained="scannet", sampling_ratio=0.4)
    args.importance_ratio = 0.7
    reference("normalbae.nets.submodules.decoder")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        net = reference("normalbae.nets.NNET").NNET(args).to_empty(device=CPU).eval()
    for name, tensor in net.state_dict().items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        if tensor.ndim > 1:
            bound = (3 / tensor[0].numel()) ** 0.5
            tensor.uniform_(-bound, bound, generator=generator)
        elif tensor.is_floating_point():
            around = 1.0 if name.endswith("running_var") or ("weight" in name) else 0.0
            tensor.uniform_(around - 0.3, around + 0.3, generator=generator)
    return net


def test_normals_are_theirs_at_true_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = bae()
    torch.save({"model": theirs.state_dict()}, tmp_path / "scannet.pt")
    net = read_file(tmp_path / "scannet.pt", surface_normals.NETWORK, CPU, unread)
    assert net.spec == SurfaceNormalsSpec()
    pixels = scene(side=64)
    colours = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = torch.from_numpy(colours).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        wanted = theirs(x)[0][-1][:, :3]
        assert_close(net(x), wanted, 1e-5)
    shown = (((wanted[0] + 1) * 0.5).clip(0, 1) * 255).permute(1, 2, 0).numpy().astype(np.uint8)
    monkeypatch.setattr("atelier.vision.reading.read_file", lambda *_: net)
    assert abs(hint("normal_bae", pixels, tmp_path).astype(int) - shown).max() <= 1
    assert shown.std() > 5


def test_another_file_is_no_network_of_lines(tmp_path: Path) -> None:
    torch.save({"backbone.features.0.0.weight": torch.zeros(4, 4, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(BadFile, match="lacks"):
        read_file(tmp_path / "other.pth", line_segments.NETWORK, CPU, counts)
