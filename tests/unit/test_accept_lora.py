"""`scripts/accept lora` and `memory`: what they train on and how they judge, without training or generating."""

from __future__ import annotations

import gc
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from atelier.checkpoints.opening import open_checkpoint
from atelier.train.data import scenes

CHECKS = Path(__file__).parents[2] / "scripts" / "lib" / "accept"


@pytest.fixture
def lora(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(CHECKS))
    return import_module("lora")


@pytest.fixture
def memory() -> ModuleType:
    """Under a name of its own: a benchmark is called so too."""
    spec = spec_from_file_location("accept_memory", CHECKS / "memory.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_new_thing_is_new(lora: ModuleType) -> None:
    known = scenes.concepts()
    assert lora.WORD not in {concept.name for concept in known}
    assert lora.EMOJI not in {concept.emoji for concept in known}
    assert not [concept.name for concept in known if lora.WORD in concept.name.split()]


def test_known_things_are_drawn_as_scenes_draw_them(lora: ModuleType) -> None:
    for concept in scenes.concepts()[::60]:
        assert np.array_equal(
            lora.drawn(concept.emoji, "red"), scenes.render(scenes.large(concept.name, "red"), lora.SIZE)
        )


def test_an_image_shows_what_it_is_nearest_to(lora: ModuleType) -> None:
    rough = np.random.default_rng(0).normal(0, 30, (lora.SIZE, lora.SIZE, 3))
    for name, emoji in ((lora.WORD, lora.EMOJI), ("dog", "\U0001f415"), ("bus", "\U0001f68c")):
        own = next((c.emoji for c in scenes.concepts() if c.name == name), emoji)
        image = np.clip(lora.drawn(own, "cyan") + rough, 0, 255).astype(np.uint8)
        assert lora.nearest(image, "cyan") == name


def test_what_is_trained_on_is_on_every_background_among_known_things(lora: ModuleType, tmp_path: Path) -> None:
    lora.write_images(tmp_path)
    captions = [path.read_text() for path in sorted(tmp_path.glob("*.txt"))]
    assert [own for own in captions if lora.WORD in own] == [lora.caption(lora.WORD, g) for g in scenes.BACKGROUNDS]
    assert len(captions) == len(scenes.BACKGROUNDS) + lora.KNOWN
    with Image.open(tmp_path / "001.png") as image:
        assert np.array_equal(np.asarray(image), lora.drawn(lora.EMOJI, tuple(scenes.BACKGROUNDS)[1]))


@pytest.mark.parametrize(
    ("base", "tuned", "share", "good"),
    [(0.0, 0.9, 0.8, True), (0.2, 0.9, 0.9, False), (0.0, 0.5, 0.5, False), (0.0, 0.9, 0.7, False)],
)
def test_the_bounds(base: float, tuned: float, share: float, good: bool, lora: ModuleType) -> None:
    assert lora.is_good({"base": base, "tuned": tuned, "lora": share}) is good


def test_what_takes_turns_is_a_model_that_opens(memory: ModuleType, tmp_path: Path) -> None:
    made = open_checkpoint(memory.made(tmp_path / "a.safetensors", 0))
    assert (made.family.name, made.dtype) == ("sd1", "fp16")
    gc.collect()
    before = memory.held()
    block = np.ones(400 * memory.MB, np.uint8)
    assert 300 <= memory.held() - before <= 450
    assert block[-1] == 1
