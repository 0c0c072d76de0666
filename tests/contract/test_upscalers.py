"""What every upscaler must do: the exact size, the range of an image, no seams, progress; the filters and each
architecture of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atelier.errors import BadInput, NotFinite
from atelier.vision.blended import Blended
from atelier.vision.catalogue import file_kinds, filters, open_upscaler
from atelier.vision.networked import Networked
from atelier.vision.upscaling import ScaleNet, Upscaler
from upscaler_support import Compact, Esrgan, saved

CPU = torch.device("cpu")
FILES: dict[str, Callable[[], dict[str, torch.Tensor]]] = {
    "RRDBNet": lambda: Esrgan(fold=2).tensors(),
    "SRVGGNetCompact": lambda: Compact(scale=3).tensors(),
}
NAMES = [*filters(), *file_kinds(), "blended"]


def image(width: int = 61, height: int = 37) -> Image.Image:
    """Flat areas, edges and noise."""
    random = np.random.default_rng(0)
    flat = np.kron(random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)), np.ones((8, 8, 1)))[:height, :width]
    flat[:, width // 2 :] = random.integers(0, 256, flat[:, width // 2 :].shape)
    return Image.fromarray(flat.astype(np.uint8))


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Upscaler]:
    def open_(name: str, tile: int | None = None) -> Upscaler:
        if name in filters():
            return filters()[name]
        if name == "blended":
            return Blended(filters()["Nearest"], filters()["Lanczos"], 0.25)
        return open_upscaler(saved(tmp_path / f"{name}.pth", FILES[name]()), CPU, torch.float32, tile=tile)

    return open_


def test_every_architecture_has_a_file_here() -> None:
    assert FILES.keys() == file_kinds().keys()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(122, 74), (150, 100), (61, 37), (30, 20), (61, 100), (1, 1)])
def test_the_size_is_exact_and_the_image_one(name: str, size: tuple[int, int], opened: Callable[..., Upscaler]) -> None:
    before = image()
    pixels = before.tobytes()
    result = opened(name).enlarge(before, size)
    assert (result.size, result.mode) == (size, "RGB")
    assert before.tobytes() == pixels


@pytest.mark.parametrize("name", NAMES)
def test_it_is_that_image_and_the_same_again(name: str, opened: Callable[..., Upscaler]) -> None:
    """A flat grey is no edge for anybody: networks of random weights change it, and evenly away from the border."""
    upscaler = opened(name)
    once, again = (np.asarray(upscaler.enlarge(image(), (122, 74))) for _ in range(2))
    assert (once == again).all()
    assert once.std() > 5
    flat = np.asarray(upscaler.enlarge(Image.new("RGB", (96, 96), (128, 128, 128)), (192, 192)))
    assert int(np.ptp(flat[80:112:6, 80:112:6].reshape(-1, 3), axis=0).max()) <= 1


@pytest.mark.parametrize("name", FILES)
def test_tiles_leave_no_seam(name: str, opened: Callable[..., Upscaler]) -> None:
    """In tiles and whole: at most 2 of 255 apart for 99.9 % of the values."""
    size = (2 * 230, 2 * 130)
    whole = opened(name, 512).enlarge(image(230, 130), size)
    tiled = opened(name, 96).enlarge(image(230, 130), size)
    difference = abs(np.asarray(whole).astype(int) - np.asarray(tiled))
    assert float((difference <= 2).mean()) >= 0.999


@pytest.mark.parametrize("name", NAMES)
def test_progress_ends_with_all_and_cancelling_works(name: str, opened: Callable[..., Upscaler]) -> None:
    told: list[tuple[int, int]] = []
    upscaler = opened(name, 96)
    upscaler.enlarge(image(200, 60), (400, 120), lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 0
    shares = [done / total for done, total in told]
    assert shares == sorted(shares)
    assert len(told) == {"RRDBNet": 5, "SRVGGNetCompact": 5, "blended": 2}.get(name, 1)

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscaler.enlarge(image(), (122, 74), stop)


# What a network is run on


def net(scale: int, shapes: list[tuple[int, ...]], multiple: int = 1, value: float | None = None) -> Networked:
    """A network that repeats pixels, and remembers what it was given."""

    def run(x: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(x.shape[2:]))
        made = x.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        return made if value is None else torch.full_like(made, value)

    return Networked("fake", ScaleNet(run, scale, CPU, torch.float32, multiple, 512))


@pytest.mark.parametrize(
    ("scale", "size", "runs"),
    [
        (4, (40, 40), 1),
        (4, (20, 20), 1),
        (4, (41, 40), 2),
        (2, (80, 80), 3),
        (2, (90, 90), 3),  # three times and no more: the rest is resized
        (4, (10, 10), 1),  # the size stays: the image is improved
        (4, (9, 10), 0),  # smaller: resized alone
        (1, (20, 20), 1),
        (1, (10, 10), 1),
    ],
)
def test_a_network_runs_as_often_as_it_takes(scale: int, size: tuple[int, int], runs: int) -> None:
    shapes: list[tuple[int, ...]] = []
    assert net(scale, shapes).enlarge(image(10, 10), size).size == size
    assert len(shapes) == runs


def test_sides_are_padded_to_what_the_network_needs() -> None:
    shapes: list[tuple[int, ...]] = []
    result = net(2, shapes, multiple=4).enlarge(image(61, 37), (122, 74))
    assert shapes == [(40, 64)]
    assert (np.asarray(result) == np.asarray(image(61, 37)).repeat(2, 0).repeat(2, 1)).all()


def test_what_a_network_overshoots_is_cut() -> None:
    assert net(2, [], value=1.7).enlarge(image(), (122, 74)).getextrema() == ((255, 255),) * 3
    assert net(2, [], value=-0.3).enlarge(image(), (122, 74)).getextrema() == ((0, 0),) * 3


def test_what_is_not_finite_is_an_error_with_a_name() -> None:
    with pytest.raises(NotFinite, match="upscaler fake: it left the finite numbers"):
        net(2, [], value=float("nan")).enlarge(image(), (122, 74))


def test_a_tile_that_is_too_small_is_refused() -> None:
    with pytest.raises(BadInput, match="tile 40: a tile of 40 pixels is too small"):
        Networked("x", net(2, []).net, tile=40).enlarge(image(), (122, 74))


def test_two_are_mixed() -> None:
    first, second = (net(2, [], value=value) for value in (0.0, 1.0))
    assert Blended(first, second, 0.25).enlarge(image(), (122, 74)).getextrema() == ((63, 63),) * 3
