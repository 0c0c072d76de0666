"""Emoji scenes: pure functions of seed and index, honest captions, nothing held out in training, nothing cut off."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from atelier.errors import BadInput
from atelier.train.data import art, scenes
from atelier.train.data.scenes import BACKGROUNDS, Placed, Scene

MANY = 3000
TRAIN = [scenes.scene(5, i) for i in range(MANY)]
HELD_OUT = [scenes.scene(5, i, "held_out") for i in range(MANY)]
WORDS = (
    r"(?:(?P<article>an?) )?(?:(?P<adjective>small|large) )?(?P<first>{names})"
    r"(?: (?P<place>{places}))?"
    r"(?: to the (?P<side>left|right) of (?:(?P<other_article>an?) )?(?P<second>{names}))?"
    r"(?: on (?P<ground_article>an?) (?P<ground>{grounds}) background)?"
)


def _either(words: object) -> str:
    return "|".join(re.escape(w) for w in sorted(words, key=len, reverse=True))


CAPTION = re.compile(
    WORDS.format(names=_either(scenes.by_name()), places=_either(scenes.PLACES), grounds=_either(BACKGROUNDS))
)


def _read(scene: Scene) -> dict[str, str | None]:
    match = CAPTION.fullmatch(scene.caption)
    assert match, scene.caption
    return match.groupdict()


def test_concepts_are_many_and_distinct() -> None:
    concepts = scenes.concepts()
    assert 320 <= len(concepts) <= 360
    assert len({c.name for c in concepts}) == len({c.emoji for c in concepts}) == len(concepts)
    assert all(c.name == c.name.lower() and c.article in {"a", "an", ""} for c in concepts)
    assert {"red apple", "cat", "dog", "pizza"} <= {c.name for c in concepts}


def test_every_concept_has_a_glyph_that_differs_from_all_others() -> None:
    small = np.stack([_centred(c.emoji) for c in scenes.concepts()])
    energy = (small**2).sum(1)
    difference = energy[:, None] + energy[None] - 2 * small @ small.T
    relative = difference / ((energy[:, None] + energy[None]) / 2)
    np.fill_diagonal(relative, 2)
    assert relative.min() > 0.05


def _centred(emoji: str) -> np.ndarray:
    canvas = np.full((34, 34, 3), 128.0, np.float32)
    sprite = art.sprite(emoji, 32).astype(np.float32)
    top, left = (34 - sprite.shape[0]) // 2, (34 - sprite.shape[1]) // 2
    region = canvas[top : top + sprite.shape[0], left : left + sprite.shape[1]]
    region[:] = sprite[..., :3] + region * (1 - sprite[..., 3:] / 255)
    return (canvas - 128).reshape(-1) / 255


def test_backgrounds_are_well_separated() -> None:
    colours = np.array(list(BACKGROUNDS.values()), float)
    assert len(colours) == 12
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert distances.min() > 60


def test_a_scene_is_a_function_of_seed_and_index() -> None:
    assert scenes.scene(5, 17) == TRAIN[17]
    assert scenes.scene(6, 17) != TRAIN[17]
    assert len({s.caption for s in TRAIN}) > 0.8 * MANY
    np.testing.assert_array_equal(scenes.render(TRAIN[17]), scenes.render(scenes.scene(5, 17)))


def test_scenes_are_the_same_in_another_process() -> None:
    code = "from atelier.train.data.scenes import scene; print(scene(2**40, 2**50), scene(1, 2, 'held_out'))"
    source = Path(scenes.__file__).parents[3]
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=source
    ).stdout
    assert printed.strip() == f"{scenes.scene(2**40, 2**50)} {scenes.scene(1, 2, 'held_out')}"


def test_shares_of_the_kinds() -> None:
    share = {kind: sum(s.kind == kind for s in TRAIN) / MANY for kind in ("full", "small", "pair")}
    assert share["full"] == pytest.approx(0.40, abs=0.03)
    assert share["small"] == pytest.approx(0.25, abs=0.03)
    assert share["pair"] == pytest.approx(0.35, abs=0.03)
    assert {scenes.scene(0, i, shares=(0, 3, 0)).kind for i in range(50)} == {"small"}
    few = [scenes.scene(0, i, shares=(1, 0, 3)).kind for i in range(MANY)]
    assert few.count("small") == 0
    assert few.count("pair") / MANY == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("made", [TRAIN, HELD_OUT], ids=["train", "held_out"])
def test_captions_say_what_the_picture_shows(made: list[Scene]) -> None:
    for scene in made:
        said = _read(scene)
        assert said["ground"] in {None, scene.background}
        left, right = scene.objects[0].name, scene.objects[-1].name
        shown = {"left": (left, right), "right": (right, left), None: (left, None)}[said["side"]]
        assert (said["first"], said["second"]) == shown
        assert (said["adjective"] == "small") == (scene.kind == "small") or scene.kind == "pair"
        if said["place"]:
            dx, dy = scenes.PLACES[said["place"]]
            assert np.sign(round((scene.objects[0].x - 32) / 10)) == dx
            assert np.sign(round((scene.objects[0].y - 32) / 10)) == dy


def test_captions_use_the_right_article() -> None:
    for scene in TRAIN:
        said = _read(scene)
        own = scenes.by_name()[said["first"] or ""].article
        allowed = {None, "a" if said["adjective"] and own else own or None}
        assert said["article"] in allowed
        assert said["ground_article"] == (said["ground"] and ("an" if said["ground"] == "orange" else "a"))
    assert scenes.with_article("red apple") == "a red apple"
    assert scenes.with_article("eye") == "an eye"
    assert scenes.with_article("eye", "small") == "a small eye"
    assert scenes.with_article("grapes", "small") == "small grapes"


def test_most_captions_say_the_background() -> None:
    said = sum(_read(s)["ground"] is not None for s in TRAIN) / MANY
    assert said == pytest.approx(0.85, abs=0.03)


def test_training_never_shows_what_is_held_out() -> None:
    for scene in TRAIN:
        assert not any(scenes.is_held_out_colour(o.name, scene.background) for o in scene.objects)
        if scene.kind == "pair":
            assert not scenes.is_held_out_pair(*(o.name for o in scene.objects))


def test_the_held_out_split_shows_nothing_else() -> None:
    for scene in HELD_OUT:
        if scene.kind == "pair":
            assert scenes.is_held_out_pair(*(o.name for o in scene.objects))
        else:
            assert scenes.is_held_out_colour(scene.objects[0].name, scene.background)


def test_the_amount_held_out() -> None:
    count = len(scenes.concepts())
    assert len(scenes.held_out_pairs()) / (count * (count - 1)) == pytest.approx(0.08, abs=0.01)
    assert len(scenes.held_out_colours()) / (count * 12) == pytest.approx(0.05, abs=0.012)
    assert ("cat", "cat") not in scenes.held_out_pairs()


@pytest.mark.parametrize("size", [64, 128])
def test_nothing_is_cut_off_and_pairs_do_not_overlap(size: int) -> None:
    """Visible pixels in the image are as many as in the whole sprites, each in its half."""
    for scene in TRAIN[:300]:
        picture = scenes.render(scene, size)
        assert picture.shape == (size, size, 3)
        assert picture.dtype == np.uint8
        generated = np.any(picture != BACKGROUNDS[scene.background], axis=-1)
        for placed, half in zip(scene.objects, (slice(0, size // 2), slice(size // 2, size)), strict=False):
            columns = half if scene.kind == "pair" else slice(None)
            alone = scenes.render(
                Scene("full", (Placed(placed.name, 32, 32, placed.extent),), scene.background, ""), size
            )
            whole = np.any(alone != BACKGROUNDS[scene.background], axis=-1)
            assert generated[:, columns].sum() == pytest.approx(whole.sum(), abs=2 + 0.2 * whole.sum())


def test_sizes_are_those_of_the_kinds() -> None:
    for scene in TRAIN:
        assert {o.extent for o in scene.objects} == {scenes.FULL if scene.kind == "full" else scenes.SMALL}


@pytest.mark.parametrize("size", [64, 128])
def test_a_thing_looks_the_same_a_step_away(size: int) -> None:
    """To the last value, so that it is the same in latents too; corners are on the grid."""
    step, grid = scenes.STEP * size // scenes.CELLS, scenes.GRID * size // scenes.CELLS
    for concept in scenes.concepts()[::23]:
        shown = [
            scenes.render(Scene("small", (Placed(concept.name, x, y, scenes.SMALL),), "black", ""), size)
            for x, y in ((32, 32), (48, 16))
        ]
        assert np.array_equal(shown[1], np.roll(shown[0], (-step, step), (0, 1)))
        rows, columns = np.nonzero(shown[0].any(-1))
        assert max(rows.min() % grid, columns.min() % grid) <= size // scenes.CELLS, "but for edges too faint to see"


def test_compositing_is_that_of_straight_alpha() -> None:
    """Against the textbook formula in floating point on a half-transparent edge."""
    scene = Scene("full", (Placed("red apple", 32, 32, 50),), "blue", "")
    sprite = art.sprite(scenes.by_name()["red apple"].emoji, 50).astype(float)
    height, width = sprite.shape[:2]
    top, left = (math.floor((32 - side / 2) / 4 + 0.5) * 4 for side in (height, width))
    alpha = sprite[..., 3:] / 255
    colour = np.divide(sprite[..., :3], alpha, out=np.zeros_like(sprite[..., :3]), where=alpha > 0)
    expected = colour * alpha + np.array(BACKGROUNDS["blue"]) * (1 - alpha)
    shown = scenes.render(scene)[top : top + height, left : left + width]
    assert np.abs(shown - expected).max() <= 1
    assert (shown[0, 0] == BACKGROUNDS["blue"]).all()


def test_a_picture_at_128_shows_the_same_as_at_64() -> None:
    for scene in TRAIN[:100]:
        fine = scenes.render(scene, 128).astype(float).reshape(64, 2, 64, 2, 3).mean((1, 3))
        assert np.abs(fine - scenes.render(scene)).mean() < 12


def test_a_user_without_a_home_has_the_fonts_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    everywhere = art.font_folders()
    monkeypatch.setattr(Path, "home", homeless)
    assert art.font_folders() == everywhere[:3]


def test_a_missing_font_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(art, "font_folders", lambda: (tmp_path,))
    art.font_path.cache_clear()
    try:
        with pytest.raises(BadInput, match=r"NotoColorEmoji\.ttf.*fonts-noto-color-emoji") as caught:
            art.font_path()
        assert "\n" not in str(caught.value)
    finally:
        art.font_path.cache_clear()


def test_a_font_that_is_none_and_a_glyph_that_is_missing(tmp_path: Path) -> None:
    broken = tmp_path / "NotoColorEmoji.ttf"
    broken.write_bytes(b"no font")
    with pytest.raises(BadInput, match="fonts-noto-color-emoji"):
        art.glyph("🍕", broken)
    with pytest.raises(BadInput, match=r"no glyph.*U\+5B57"):
        art.glyph("字")


def test_sprites_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        art.sprite(scenes.concepts()[0].emoji, 30)[:] = 0
