"""The judge is right on rendered scenes, on degraded ones too, and says what it sees, not what was asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from atelier.train.data import scenes
from atelier.train.data.scenes import Placed, Scene
from atelier.train.judge import Judge, Kind

Picture = np.ndarray
Degrade = Callable[[Picture, int], Picture]
SAMPLE = 48
JUDGE = Judge()


@functools.cache
def _scenes(kind: str) -> tuple[Scene, ...]:
    """The first SAMPLE scenes of that kind, from both splits."""
    both = (scenes.scene(21, i, split) for i in range(10_000) for split in ("train", "held_out"))
    chosen = (s for s in both if s.kind == kind)
    return tuple(next(chosen) for _ in range(SAMPLE))


def _cases(kind: Kind) -> list[tuple[Scene, str]]:
    made = _scenes("pair" if kind in {"left", "right"} else kind)
    return [(s, s.objects[-1 if kind == "right" else 0].name) for s in made]


def _untouched(image: Picture, _seed: int) -> Picture:
    return image


def _as_a_small_autoencoder(image: Picture, seed: int) -> Picture:
    blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(0.8)), float)
    return _eight_bit(blurred + np.random.default_rng(seed).normal(0, 6, image.shape))


def _roughly_painted(image: Picture, seed: int) -> Picture:
    """Bent by about a pixel, at 60 % of the resolution, pale, noisy."""
    random = np.random.default_rng(seed)
    bent = _bent(image, random).resize((38, 38), Image.Resampling.BICUBIC).resize((64, 64), Image.Resampling.BICUBIC)
    pale = (np.asarray(bent, float) - 128) * random.uniform(0.75, 1.0) + 128
    return _eight_bit(pale + random.normal(0, 10, image.shape))


def _bent(image: Picture, random: np.random.Generator) -> Image.Image:
    rows, columns = np.mgrid[:64, :64]
    moved = [random.normal(0, 1.2, (6, 6)).astype(np.float32) for _ in range(2)]
    dy, dx = (np.asarray(Image.fromarray(m).resize((64, 64), Image.Resampling.BICUBIC)) for m in moved)
    nearest = np.rint(rows + dy).clip(0, 63).astype(int), np.rint(columns + dx).clip(0, 63).astype(int)
    return Image.fromarray(np.ascontiguousarray(image[nearest]))


def _eight_bit(image: Picture) -> Picture:
    return image.clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("kind", ["full", "small", "left", "right"])
@pytest.mark.parametrize(
    ("degrade", "least"), [(_untouched, 0.995), (_as_a_small_autoencoder, 0.95), (_roughly_painted, 0.9)]
)
def test_names_the_concept(kind: Kind, degrade: Degrade, least: float) -> None:
    cases = _cases(kind)
    right = [
        JUDGE.concept(degrade(scenes.render(scene), i), kind).name == name for i, (scene, name) in enumerate(cases)
    ]
    assert np.mean(right) >= least


@pytest.mark.parametrize("degrade", [_untouched, _as_a_small_autoencoder, _roughly_painted])
def test_names_the_background(degrade: Degrade) -> None:
    made = [s for kind in ("full", "small", "pair") for s in _scenes(kind)]
    right = [JUDGE.background(degrade(scenes.render(s), i)) == s.background for i, s in enumerate(made)]
    assert np.mean(right) >= 0.99


def test_says_what_is_there() -> None:
    """The same place and background with another thing in it gets the other name, and the first is not close."""
    for (scene, name), (_, other) in zip(_cases("full"), _cases("full")[1:], strict=False):
        swapped = Scene("full", (Placed(other, 32, 32, scene.objects[0].extent),), scene.background, "")
        verdict = JUDGE.concept(scenes.render(swapped), "full")
        assert verdict.name == other
        if other != name:
            assert verdict.ranking.index(name) > 0


def test_sides_are_told_apart() -> None:
    for scene in _scenes("pair")[:20]:
        image = scenes.render(scene)
        mirrored_order = np.concatenate((image[:, 32:], image[:, :32]), axis=1)
        names = tuple(o.name for o in scene.objects)
        assert (JUDGE.concept(image, "left").name, JUDGE.concept(image, "right").name) == names
        swapped = JUDGE.concept(mirrored_order, "left").name, JUDGE.concept(mirrored_order, "right").name
        assert swapped == names[::-1]


def test_distances_grow_with_the_damage() -> None:
    scene, _ = _cases("full")[0]
    image = scenes.render(scene)
    distances = [JUDGE.concept(d(image, 0)).distance for d in (_untouched, _as_a_small_autoencoder, _roughly_painted)]
    assert 0 <= distances[0] < distances[1] < distances[2] < 1


def test_noise_and_nothing_are_far_from_everything() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert JUDGE.concept(noise).distance > 0.5
    assert JUDGE.concept(np.full((64, 64, 3), 128, np.uint8)).distance == pytest.approx(2, abs=0.05)


def test_the_ranking_holds_every_concept_once() -> None:
    verdict = JUDGE.concept(scenes.render(_scenes("small")[0]), "small")
    assert sorted(verdict.ranking) == sorted(c.name for c in scenes.concepts())
    assert verdict.ranking[0] == verdict.name


def test_larger_pictures_get_the_same_verdict() -> None:
    judge = Judge(128)
    for scene, name in _cases("full")[:10]:
        image = scenes.render(scene, 128)
        assert judge.concept(image).name == name
        assert judge.background(image) == scene.background


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        JUDGE.concept(np.zeros((65, 65, 3), np.uint8))
    with pytest.raises(ValueError, match="64"):
        Judge(96).background(np.zeros((96, 96, 3), np.uint8))
