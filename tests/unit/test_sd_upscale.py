"""SD upscale: an image enlarged, and generated again tile by tile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atelier.errors import BadInput
from atelier.request import events
from atelier.request.infotext import read, to_request
from atelier.request.resolved import ResolvedSource, ResolvedUpscale, ResolvedViews, Size
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.hashes import HashCache
from pipeline_support import CPU, Lending, Letters, Watched, happened, planned, request
from upscaler_support import Esrgan, saved


@pytest.fixture(scope="module")
def engine(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("more")
    (folder / "upscalers").mkdir()
    saved(folder / "upscalers" / "mine.pth", Esrgan(blocks=1, ups=1).tensors())
    return Engine(CPU, Library((tiny_folder.parent, folder)), HashCache(), version="1", budget=2**40)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("images") / "source.png"
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def asked(source: str, **fields: object) -> dict[str, Any]:
    return {"image": source, "sd_upscale_factor": 2.0, "steps": 2, "denoising_strength": 0.6, **fields}


@pytest.mark.parametrize(("overlap", "tiles"), [(0, 4), (32, 9)])
def test_the_network_sees_tiles_of_the_width_and_height(engine: Engine, source: str, overlap: int, tiles: int) -> None:
    net = Watched()
    own = asked(source, sd_upscale_overlap=overlap, steps=1, sampler="Euler", denoising_strength=1.0)
    told = happened(planned(engine, **own), Lending(engine.resources, {"text": Letters, "denoiser": net.alone}))
    assert next(event for event in told if isinstance(event, events.ImageReady)).image.size == (128, 128)
    assert [tuple(call.x.shape[2:]) for call in net.calls] == [(16, 16)] * tiles


def test_it_is_the_enlarged_image_in_views(engine: Engine, source: str, tmp_path: Path) -> None:
    """Enlarged by hand, and generated in the same views: the same pixels."""
    with Image.open(source) as image:
        image.resize((128, 128), Image.Resampling.BICUBIC).save(tmp_path / "large.png")
    made = engine.generate(request(**asked(source, sd_upscale_upscaler="Bicubic", sd_upscale_overlap=32)))[0]
    views = {"view_method": "mixture", "view_width": 64, "view_height": 64, "view_overlap": 32}
    own = {"image": str(tmp_path / "large.png"), "width": 128, "height": 128, "steps": 2, "denoising_strength": 0.6}
    assert engine.generate(request(**own, **views))[0].image.tobytes() == made.image.tobytes()


def test_it_says_and_repeats_itself_in_a1111s_keys(engine: Engine, source: str) -> None:
    own = asked(source, sd_upscale_upscaler="mine", sd_upscale_overlap=32, sd_upscale_factor=1.5)
    told = list(engine.events(request(**own)))
    assert events.Loading("mine", "upscaler") in told
    made = next(event for event in told if isinstance(event, events.ImageReady))
    for pair in ("Size: 64x64", "SD upscale overlap: 32", "SD upscale upscaler: mine", "SD upscale factor: 1.5"):
        assert f", {pair}" in made.infotext
    assert "View" not in made.infotext
    again = to_request(read(made.infotext), {"image": source, "model": "tiny"})
    assert engine.generate(again)[0].image.tobytes() == made.image.tobytes()
    plain = engine.generate(request(**{**own, "sd_upscale_upscaler": "Lanczos"}))[0].image
    assert plain.tobytes() != made.image.tobytes()


def test_what_a1111_says_of_it_is_understood(engine: Engine, source: str) -> None:
    text = "p\nSteps: 20, Sampler: Euler, Seed: 1, Size: 64x72, Denoising strength: 0.3, SD upscale overlap: 16, "
    text += "SD upscale upscaler: Lanczos"
    resolved = engine.resolve(to_request(read(text), {"image": source, "model": "tiny"}))
    assert resolved.size == Size(128, 128)
    assert resolved.views == ResolvedViews(size=Size(64, 72), overlap=16, method="mixture")
    assert isinstance(resolved.source, ResolvedSource)
    assert isinstance(resolved.source.upscale, ResolvedUpscale)
    assert (resolved.source.upscale.factor, resolved.source.upscale.upscaler) == (2.0, "Lanczos")
    assert to_request(read(text), {"model": "tiny"}).sd_upscale is None


def test_a_mask_is_enlarged_with_the_image(engine: Engine, source: str, tmp_path: Path) -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    mask.save(tmp_path / "mask.png")
    own = asked(source, mask=str(tmp_path / "mask.png"), mask_blur=0.0, sd_upscale_upscaler="Nearest", steps=1)
    made = np.asarray(engine.generate(request(**own))[0].image)
    with Image.open(source) as image:
        before = np.asarray(image.resize((128, 128), Image.Resampling.NEAREST))
    assert np.array_equal(made[:, :56], before[:, :56])
    assert not np.array_equal(made[:, 72:], before[:, 72:])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"image": None}, "sd_upscale enlarges an image: give --image"),
        ({"outpaint": "left=64"}, "sd_upscale and outpaint cannot both be given: do one, and go on from the result"),
        ({"view_method": "mixture"}, "sd_upscale and views cannot both be given: do one, and go on from the result"),
        ({"sd_upscale_overlap": 64}, "sd_upscale_overlap 64: must be less than the sides of a tile, 64x64"),
        (
            {"sd_upscale_factor": 16.0, "image": "wide"},
            "sd_upscale 16: makes 10240x128, each side must be from 64 to 8192",
        ),
        ({"sd_upscale_upscaler": "mien"}, "sd_upscale_upscaler 'mien' is not there: choose one of None, Nearest, "),
    ],
)
def test_bad_input(engine: Engine, source: str, tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    Image.new("RGB", (640, 8)).save(tmp_path / "wide.png")
    own = {**asked(source), **fields}
    own["image"] = str(tmp_path / "wide.png") if own["image"] == "wide" else own["image"]
    with pytest.raises(BadInput) as caught:
        engine.resolve(request(**{name: value for name, value in own.items() if value is not None}))
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_another_upscaler_stands_in_where_the_request_is_lenient(engine: Engine, source: str) -> None:
    warnings: list[str] = []
    resolved = engine.resolve(request(**asked(source, sd_upscale_upscaler="mien", lenient=True)), warnings.append)
    assert warnings == ["sd_upscale_upscaler 'mien' is not there: enlarged with Lanczos"]
    assert isinstance(resolved.source, ResolvedSource)
    assert isinstance(resolved.source.upscale, ResolvedUpscale)
    assert resolved.source.upscale.upscaler == "Lanczos"
    assert isinstance(resolved.views, ResolvedViews)
    assert resolved.views.overlap == 32, "half a tile, which is less than 64"
