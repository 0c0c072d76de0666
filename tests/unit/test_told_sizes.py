"""What Stable Diffusion XL is told of the image: what is resolved, what the infotext says, what is refused."""

from __future__ import annotations

import pytest

import tiny
import tiny_sd
from atelier.checkpoints.write import write_ldm
from atelier.errors import BadInput
from atelier.request.events import Warned
from atelier.request.infotext import read, to_request
from atelier.request.resolved import AsMade, SaidSize, Size
from atelier.runtime.engine import Engine
from pipeline_support import PLENTY, engine_on, request


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    shelf = tmp_path_factory.mktemp("xl")
    write_ldm(tiny_sd.sdxl(), shelf / "tiny.safetensors")
    tiny.folder(shelf / "plain")
    return engine_on(shelf / "tiny.safetensors", budget=PLENTY)


def test_what_is_not_said_with_the_negative_prompt_is_as_with_the_prompt(engine: Engine) -> None:
    plain = engine.resolve(request())
    assert plain.sizes.original == plain.sizes.target == AsMade()
    assert (plain.sizes.score, plain.negative_sizes.score) == (6.0, 2.5)
    said = engine.resolve(request(original_size=(100, 50), crop_top=3, crop_left=4, negative_crop_left=0))
    assert said.sizes.original == SaidSize(size=Size(100, 50))
    changed = said.sizes.model_copy(update={"left": 0, "score": 2.5})
    assert said.negative_sizes == changed
    other = engine.resolve(request(original_size=(100, 50), negative_original_size=(60, 70)))
    assert other.negative_sizes.original == SaidSize(size=Size(60, 70))


def test_the_infotext_says_them_and_makes_the_image_again(engine: Engine) -> None:
    (plain,) = engine.generate(request(steps=1))
    assert "rop top" not in plain.infotext
    assert "core" not in plain.infotext
    assert "iginal size" not in plain.infotext
    wanted = {"original_size": (100, 50), "crop_top": 30, "negative_target_size": (20, 30), "negative_crop_top": 0}
    (made,) = engine.generate(request(steps=1, aesthetic_score=7.0, **wanted))
    assert made.image.tobytes() != plain.image.tobytes()
    for pair in ("Original size: 100x50", "Crop top: 30", "Negative crop top: 0", "Negative target size: 20x30"):
        assert f", {pair}" in made.infotext
    assert ", Aesthetic score: 7.0" in made.infotext
    assert "Negative original size" not in made.infotext
    (again,) = engine.generate(to_request(read(made.infotext), {"model": "tiny"}))
    assert again.image.tobytes() == made.image.tobytes()


def test_who_is_not_told_sizes_says_so(engine: Engine) -> None:
    events = [engine.events(request(model=model, crop_top=3, steps=1)) for model in ("plain", "tiny")]
    told = [[event.message for event in happened if isinstance(event, Warned)] for happened in events]
    assert told == [["crop_top: only Stable Diffusion XL is told sizes; it has no effect"], []]


def test_half_a_size_is_refused() -> None:
    with pytest.raises(BadInput, match="original_size 100x0: both sides need at least 1 pixel"):
        request(original_size=(100, 0))
