"""What every annotator must do: an RGB image of the size of the image, the same one again, whatever it is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from annotator_support import NETWORKS, noise, saved, scene
from atelier.adapters.control_types import CONTROL_TYPES
from atelier.errors import BadFile, BadInput, UnknownName
from atelier.vision.annotate import (
    Ready,
    annotator,
    annotators,
    at_resolution,
    completed,
    on_white,
    padded,
    ready,
)
from atelier.vision.annotating import Annotator, NeedsFile

CPU = torch.device("cpu")
BUILT_IN = [name for name, spec in annotators().items() if not isinstance(spec.draw, NeedsFile)]
WITH_FILE = [name for name in annotators() if name not in BUILT_IN]
SIZES = [(64, 48), (33, 90), (1, 1), (1, 70), (5, 3)]


NAMES = [*BUILT_IN, *(name for name in WITH_FILE if annotators()[name].draw.files[0] in NETWORKS)]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ready]:
    folder = tmp_path_factory.mktemp("annotators")
    for file, make in NETWORKS.items():
        saved(make(), folder / file)
    return lambda name: ready(annotators()[name], lambda file: folder / file, CPU)


def as_mode(pixels: np.ndarray, mode: str) -> Image.Image:
    layers = np.concatenate([pixels, noise(*pixels.shape[:2], seed=5)[..., :1]], axis=2)
    return Image.fromarray(layers, "RGBA").convert(mode)


@pytest.mark.parametrize("name", NAMES)
def test_any_image_of_any_size_becomes_a_hint_of_its_size(name: str, opened: Callable[[str], Ready]) -> None:
    drawer = opened(name)
    for number, size in enumerate(SIZES):
        image = as_mode(noise(size[1], size[0], number), ("RGB", "RGBA", "L", "LA", "P")[number])
        before = image.tobytes()
        hint = drawer.hint(image)
        assert (hint.mode, hint.size) == ("RGB", size)
        assert hint.tobytes() == drawer.hint(image).tobytes()
        assert image.tobytes() == before


@pytest.mark.parametrize("name", BUILT_IN)
def test_it_draws_something(name: str, opened: Callable[[str], Ready]) -> None:
    pixels = scene(side=128) if name != "normal_from_depth" else np.repeat(scene(side=128)[..., :1], 3, 2)
    assert np.asarray(opened(name).hint(Image.fromarray(pixels))).std() > 1


@pytest.mark.parametrize("name", NAMES)
def test_the_resolution_is_that_of_the_short_side(name: str, opened: Callable[[str], Ready]) -> None:
    hint = opened(name).hint(Image.fromarray(noise(40, 60)), resolution=72)
    assert hint.size == ((60, 40) if annotators()[name].frame == "own" else (108, 72))


@pytest.mark.parametrize("name", NAMES)
def test_no_global_randomness(name: str, opened: Callable[[str], Ready]) -> None:
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    opened(name).hint(Image.fromarray(noise(40, 60)))
    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("name", annotators())
def test_its_options_and_names(name: str) -> None:
    spec = annotators()[name]
    for option in spec.options:
        assert option.low <= option.default <= option.high
        assert option.step > 0
        assert option.help.endswith(".")
    assert spec.help.endswith(".")
    assert all(annotator(alias) is spec for alias in (spec.name, *spec.aliases))


@pytest.mark.parametrize("name", [name for name in NAMES if annotators()[name].options])
def test_every_option_has_an_effect(name: str, opened: Callable[[str], Ready]) -> None:
    """At one of its ends, on an emoji beside noise."""
    spec, drawer = annotators()[name], opened(name)
    image = Image.fromarray(np.hstack([scene(side=128), noise(128, 128)]))
    usual = drawer.hint(image)
    for option in spec.options:
        ends = [drawer.hint(image, options={option.name: end}) for end in (option.low, option.high)]
        assert any(end.size != usual.size or end.tobytes() != usual.tobytes() for end in ends), option.name


@pytest.mark.parametrize("name", WITH_FILE)
def test_without_its_file_it_says_which_and_where(name: str) -> None:
    spec = annotators()[name]
    assert isinstance(spec.draw, NeedsFile)
    with pytest.raises(BadInput) as told:
        ready(spec, lambda _: None, CPU)
    line = str(told.value)
    assert "\n" not in line
    assert spec.draw.files[0] in line
    assert "annotators" in line


@pytest.mark.parametrize("name", [name for name in WITH_FILE if name in NAMES])
def test_another_file_is_refused(name: str, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2, 3)}, tmp_path / "other.pth")
    with pytest.raises(BadFile, match="lacks"):
        ready(annotators()[name], lambda _: tmp_path / "other.pth", CPU)


A1111 = {
    "none": "none",
    "canny": "canny",
    "invert": "invert (from white bg & black line)",
    "threshold": "threshold",
    "scribble_xdog": "scribble_xdog",
    "scribble_hed": "scribble_hed",
    "scribble_pidinet": "pidinet_scribble",
    "lineart_standard": "lineart_standard (from white bg & black line)",
    "lineart": "lineart_realistic",
    "lineart_coarse": "lineart_coarse",
    "softedge_hed": "hed",
    "softedge_hedsafe": "hed_safe",
    "softedge_pidinet": "pidinet",
    "softedge_pidisafe": "pidinet_safe",
    "t2ia_sketch_pidi": "pidinet_sketch",
    "color": "t2ia_color_grid",
    "shuffle": "shuffle",
    "tile_resample": "tile_resample",
    "blur_gaussian": "blur_gaussian",
    "recolor_luminance": "recolor_luminance",
    "recolor_intensity": "recolor_intensity",
    "inpaint_only": "inpaint",
    "depth_midas": "depth",
    "depth_anything": "depth_anything",
    "normal_midas": "normal_map",
    "mlsd": "mlsd",
    "lineart_anime": "lineart_anime",
    "normal_bae": "normal_bae",
    "seg_ufade20k": "seg_ufade20k",
    "seg_ofade20k": "seg_ofade20k",
    "dw_openpose_full": "dw_openpose_full",
    "openpose_hand": "openpose_hand",
    "openpose_face": "openpose_face",
    "openpose_faceonly": "openpose_faceonly",
}
"""What A1111's extension calls them in requests."""


def test_names_of_a1111() -> None:
    for name, theirs in A1111.items():
        assert annotator(theirs).name == name == annotator(name).name
    with pytest.raises(UnknownName, match="did you mean canny"):
        annotator("cany")


def test_every_type_of_control_is_drawn_by_annotators_that_there_are() -> None:
    drawn = {kind.name: [annotator(name).name for name in kind.annotators] for kind in CONTROL_TYPES.values()}
    assert [names[0] for names in drawn.values()] == [
        "canny", "depth_midas", "normal_bae", "openpose", "mlsd", "lineart_standard", "softedge_hed", "scribble_xdog",
        "seg_ofade20k", "shuffle", "tile_resample", "inpaint_only", "none", "recolor_luminance", "color", "none",
    ]  # fmt: skip


def test_numbers_of_a1111() -> None:
    canny = annotator("canny")
    assert completed(canny, {}) == {"low": 100, "high": 200}
    assert completed(canny, {"low": 30}) == {"low": 30, "high": 200}
    assert completed(canny, {"high": 90}) == {"low": 100, "high": 90}
    usual = {name: completed(annotator(name), {}) for name in ("scribble_xdog", "threshold", "tile_resample")}
    assert usual == {"scribble_xdog": {"threshold": 32}, "threshold": {"threshold": 127}, "tile_resample": {"rate": 1}}
    assert completed(annotator("blur_gaussian"), {}) == {"sigma": 9}
    assert completed(annotator("normal_midas"), {}) == {"background": 0.4}
    assert completed(annotator("mlsd"), {}) == {"score": 0.1, "length": 0.1}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lo": 5.0}, "annotator canny: there is no option 'lo': did you mean low?"),
        ({"low": 300.0}, "annotator canny: low is 300, and 0 to 256 can be used"),
        ({"low": float("nan")}, "low is nan"),
    ],
)
def test_options_that_cannot_be(options: dict[str, float], told: str) -> None:
    with pytest.raises(BadInput, match=told.replace("?", r"\?")):
        completed(annotator("canny"), options)
    with pytest.raises(BadInput, match="it has none"):
        completed(annotator("none"), {"low": 1})


def test_transparency_lies_on_white_and_fractions_are_cut() -> None:
    image = Image.fromarray(np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [10, 20, 30, 100]]], np.uint8), "RGBA")
    assert on_white(image).tolist() == [[[10, 20, 30], [255, 255, 255], [158, 162, 166]]]
    assert on_white(Image.new("L", (1, 1), 7)).tolist() == [[[7, 7, 7]]]


def test_resolutions() -> None:
    assert at_resolution(noise(40, 61), 64).shape == (64, 98, 3)
    assert at_resolution(noise(400, 300), 64).shape == (85, 64, 3)
    for resolution in (63, 2049):
        with pytest.raises(BadInput, match="it can be 64 to 2048"):
            at_resolution(noise(9, 9), resolution)
    with pytest.raises(BadInput, match="524288x512"):
        at_resolution(noise(1, 1024), 512)
    assert padded(noise(64, 65)).shape == (64, 128, 3)
    assert (padded(noise(64, 65))[:, 65:] == noise(64, 65)[:, 64:]).all()


def test_shuffles_differ_by_seed(opened: Callable[[str], Ready]) -> None:
    image = Image.fromarray(scene(side=128))
    assert opened("shuffle").hint(image, seed=1).tobytes() != opened("shuffle").hint(image, seed=2).tobytes()


def test_a_spec_is_data() -> None:
    assert all(isinstance(spec, Annotator) for spec in annotators().values())
    assert len(annotators()) >= 26
