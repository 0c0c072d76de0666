"""What is done to finished images: enlarged with upscalers, as A1111's Extras tab does, and said in its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atelier.errors import BadInput
from atelier.request import events
from atelier.request.infotext import pixel_hash, read, to_request
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.runtime.notes import contradictions
from atelier.vision.catalogue import open_upscaler
from atelier.weights.hashes import HashCache
from pipeline_support import CPU, request
from upscaler_support import Esrgan, saved


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("more") / "upscalers"
    folder.mkdir()
    return saved(folder / "RealESRGAN_x2plus.pth", Esrgan(blocks=1, ups=1).tensors())


@pytest.fixture(scope="module")
def engine(tiny_folder: Path, file: Path) -> Engine:
    return Engine(CPU, Library((tiny_folder.parent, file.parents[1])), HashCache(), version="1", budget=2**40)


def made(engine: Engine, **fields: object) -> Any:
    return engine.generate(request(**{"steps": 1, **fields}))


def test_by_a_factor_with_two_upscalers(engine: Engine, file: Path) -> None:
    """A network of x2 and Lanczos, a quarter of it; every image of a batch, each told once and saved enlarged."""
    own = {"postprocess_upscale_by": 1.5, "postprocess_upscaler": "R-ESRGAN 2x+", "postprocess_upscaler_2": "Lanczos"}
    plain = made(engine, batch_size=2)
    done = made(engine, batch_size=2, **own, postprocess_upscaler_2_visibility=0.25)
    assert len(done) == 2
    network = open_upscaler(file, CPU.torch_device, CPU.dtype)
    for before, after in zip(plain, done, strict=True):
        first, second = network.enlarge(before.image, (96, 96)), before.image.resize((96, 96), Image.Resampling.LANCZOS)
        assert np.array_equal(np.asarray(after.image), np.asarray(Image.blend(first, second, 0.25)))
        assert f"Pixel hash: {pixel_hash(after.image)}" in after.infotext
    for pair in (
        "Postprocess upscale by: 1.5",
        "Postprocess upscaler: R-ESRGAN 2x+",
        "Postprocess upscaler 2: Lanczos",
        "Postprocess upscaler 2 visibility: 0.25",
    ):
        assert f", {pair}" in done[1].infotext
    again = engine.generate(to_request(read(done[1].infotext), {"model": "tiny"}))[0]
    assert again.image.tobytes() == done[1].image.tobytes()
    assert "Postprocess" not in plain[0].infotext


def test_to_a_size_that_is_covered(engine: Engine, tmp_path: Path) -> None:
    own = {"postprocess_upscale_to": (128, 96), "postprocess_upscaler": "Nearest", "output": str(tmp_path)}
    told = list(engine.events(request(steps=1, **own)))
    (ready,) = (event for event in told if isinstance(event, events.ImageReady))
    large = made(engine)[0].image.resize((128, 128), Image.Resampling.NEAREST).crop((0, 16, 128, 112))
    assert ready.image.tobytes() == large.tobytes()
    (path,) = (event.path for event in told if isinstance(event, events.Saved))
    with Image.open(path) as saved_image:
        assert saved_image.size == (128, 96)
    assert ", Postprocess upscale to: 128x96, Postprocess upscaler: Nearest" in ready.infotext


def test_what_a1111_says_is_done(engine: Engine) -> None:
    text = "cat\nSteps: 1, Sampler: Euler, Seed: 1, Postprocess upscale to: 80x64, Postprocess crop to: 80x64, "
    text += "Postprocess upscaler: R-ESRGAN 2x+, Postprocess upscaler 2: None"
    told = list(engine.events(to_request(read(text), {"model": "tiny"})))
    assert events.Loading("R-ESRGAN 2x+", "upscaler") in told or engine.resources.cache.held()
    assert [event.image.size for event in told if isinstance(event, events.ImageReady)] == [(80, 64)]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"postprocess_upscale_by": 2, "postprocess_upscaler": "nobody"},
            "postprocess_upscaler 'nobody' is not there: ",
        ),
        (
            {"postprocess_upscale_by": 2, "postprocess_upscaler_2": "nobody"},
            "postprocess_upscaler_2 'nobody' is not there: ",
        ),
        ({"postprocess_upscale_to": (64, 0)}, "postprocess_upscale_to 64x0: both sides need at least 1 pixel"),
        (
            {"postprocess_upscale_to": (65_536, 65_536), "postprocess_upscaler": "Nearest"},
            "postprocess: 65536x65536 is more than 268,435,456 pixels: choose a smaller size",
        ),
    ],
)
def test_bad_input(engine: Engine, fields: dict[str, object], told: str) -> None:
    with pytest.raises(BadInput) as caught:
        made(engine, **fields)
    assert str(caught.value).startswith(told)


def test_without_a_size_nothing_is_done(engine: Engine) -> None:
    plain = made(engine)[0]
    assert made(engine, postprocess_upscaler="nobody", postprocess_upscale_to=(0, 0))[0].infotext == plain.infotext


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"postprocess_upscaler": "Lanczos"},
            "postprocess_upscaler: nothing is enlarged, give postprocess_upscale_by or postprocess_upscale_to",
        ),
        (
            {"postprocess_upscale_by": 2, "postprocess_upscale_to": (80, 80)},
            "postprocess_upscale_by: it has no effect, as postprocess_upscale_to is given",
        ),
        ({"region_method": "attention"}, "region_method: there are no regions, give --region"),
        ({"postprocess_upscale_by": 2, "regions": ("box=0,0,1,1: a dog",), "region_method": "attention"}, None),
    ],
)
def test_what_has_no_effect_is_told(fields: dict[str, object], told: str | None) -> None:
    assert contradictions(request(**fields)) == ([] if told is None else [told])
