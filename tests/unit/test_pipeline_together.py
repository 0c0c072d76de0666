"""What is asked for at once: which ways to generate combine, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from atelier.errors import BadInput
from atelier.nn.seamless import Seamless
from atelier.pipeline.prompted import NoPorts, WithoutEdges
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.pipeline.stages.grow import prepared
from atelier.pipeline.stages.place import Place
from atelier.pipeline.values import PLACED, Values
from atelier.request import events
from atelier.request.infotext import read, to_request
from atelier.request.outpaint import Margins
from atelier.request.resolved import Size
from atelier.runtime.engine import Engine
from atelier.vision.masks import Box
from pipeline_support import PLENTY, Lending, Letters, Watched, engine_on, happened, planned, request

LEFT, RIGHT = "box=0,0,0.5,1: l", "box=0.5,0,1,1: r"


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return engine_on(tiny_folder, budget=PLENTY)


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return engine_on(tiny.folder(tmp_path_factory.mktemp("nine") / "tiny", in_channels=9), budget=PLENTY)


@pytest.fixture(scope="module")
def editing(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return engine_on(tiny.folder(tmp_path_factory.mktemp("eight") / "tiny", in_channels=8), budget=PLENTY)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An image of noise, and a mask whose right half is made anew, the row of positions beside it half."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    mask = Image.new("L", (64, 64))
    mask.paste(128, (28, 0, 32, 64))
    mask.paste(255, (32, 0, 64, 64))
    mask.save(folder / "mask.png")
    return {"image": str(folder / "image.png"), "mask": str(folder / "mask.png")}


def seen(engine: Engine, **fields: Any) -> Watched:
    """What the network is given; it answers 0."""
    net = Watched()
    told = happened(planned(engine, **fields), Lending(engine.resources, {"text": Letters, "denoiser": net.alone}))
    assert isinstance(told[-1], events.Finished), told[-1]
    return net


def pixels(path: str, size: tuple[int, int] | None = None) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.asarray(image if size is None else image.resize(size, Image.Resampling.LANCZOS))


def test_a_mask_regions_and_a_second_pass_are_one_request(engine: Engine, images: dict[str, str]) -> None:
    own: dict[str, Any] = {"mask_blur": 0.0, "denoising_strength": 0.9, "hires_upscale": 2.0, "regions": (LEFT, RIGHT)}
    brief: dict[str, Any] = {"steps": 1}
    calls = seen(engine, **images, **own, sampler="Euler", prompt="b", negative_prompt="n", steps=2).calls
    assert [tuple(call.x.shape[2:]) for call in calls] == [(16, 16)] * 4 + [(32, 32)] * 4
    assert [call.texts for call in calls] == [["n", "l"], ["n", "r"]] * 4
    (made,) = engine.generate(request(**images, **own, **brief))
    result, before = np.asarray(made.image), pixels(images["image"], (128, 128))
    assert np.array_equal(result[:, :48], before[:, :48])
    assert float(np.abs(result[:, 72:].astype(int) - before[:, 72:]).mean()) > 2
    swapped = (LEFT.replace("l", "r"), RIGHT.replace("r", "l"))
    other = engine.generate(request(**images, **{**own, "regions": swapped}, **brief))[0].image
    assert other.tobytes() != made.image.tobytes()
    again = to_request(read(made.infotext), {**images, "model": "tiny"})
    assert engine.generate(again)[0].image.tobytes() == made.image.tobytes()


def test_an_inpainting_model_sees_image_and_mask_at_the_size_of_each_pass(
    inpainting: Engine, images: dict[str, str]
) -> None:
    own: dict[str, Any] = {"mask_blur": 0.0, "hires_upscale": 2.0, "steps": 1, "sampler": "Euler"}
    first, second = (call.channels for call in seen(inpainting, **images, **own).calls)
    assert first is not None
    assert second is not None
    assert (first.shape, second.shape) == ((2, 5, 16, 16), (2, 5, 32, 32))
    assert first[0, 0, 3].tolist() == [0.0] * 7 + [1.0] * 9
    shown = second[0, 0, 3].tolist()
    assert (shown[:14], shown[16:]) == ([0.0] * 14, [1.0] * 16)
    grey = [call.channels for call in seen(inpainting, **images, **own, soft_inpainting=True).calls]
    assert [
        float(shown[0, 0, 3, column]) for shown, column in zip(grey, (7, 15), strict=True) if shown is not None
    ] == (pytest.approx([0.5, 0.5], abs=0.1))
    (made,) = inpainting.generate(request(**images, **own, soft_inpainting=True))
    assert np.array_equal(np.asarray(made.image)[:, :48], pixels(images["image"], (128, 128))[:, :48])


def test_a_canvas_that_grows_has_regions(engine: Engine, images: dict[str, str]) -> None:
    """64 pixels become 192 in two passes; a quarter of 192 is in the middle of the second 64."""
    own: dict[str, Any] = {"image": images["image"], "outpaint": "left=128", "steps": 1, "sampler": "Euler"}
    own |= {"prompt": "b", "negative_prompt": "n", "regions": ("box=0,0,0.5,1: l", "box=0.5,0,1,1: r")}
    calls = seen(engine, **own).calls
    assert [(tuple(call.x.shape[2:]), call.texts[1]) for call in calls] == [
        ((16, 32), "l"),
        ((16, 32), "r"),
        ((16, 48), "l"),
        ((16, 48), "r"),
    ]
    places = [stage for stage in planned(engine, **own) if isinstance(stage, Place)]
    masks = [placed(engine, place) for place in places]
    assert [[int(mask[0, 0, 0].sum()) for mask in found] for found in masks] == [[8, 24], [24, 24]]
    made = engine.generate(request(**own))[0].image
    assert np.array_equal(np.asarray(made)[:, 128:], pixels(images["image"]))


def placed(engine: Engine, stage: Place) -> tuple[torch.Tensor, ...]:
    values = Values()
    list(stage.perform(Lending(engine.resources), values))  # pyright: ignore[reportArgumentType]
    return values.read(PLACED).masks


def test_a_mask_of_a_region_is_seen_through_the_window(engine: Engine, tmp_path: Path) -> None:
    drawn = Image.new("L", (192, 64))
    drawn.paste(255, (0, 0, 96, 64))
    drawn.save(tmp_path / "drawn.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "image.png")
    own: dict[str, Any] = {"image": str(tmp_path / "image.png"), "outpaint": "left=128"}
    stages = planned(engine, **own, regions=(f"mask={tmp_path / 'drawn.png'}: l",))
    masks = [placed(engine, stage)[0][0, 0, 0].tolist() for stage in stages if isinstance(stage, Place)]
    assert masks == [[1.0] * 8 + [0.0] * 24, [1.0] * 24 + [0.0] * 24]


def test_a_canvas_that_grows_is_seen_in_views_and_its_edges_meet_at_last(
    engine: Engine, images: dict[str, str]
) -> None:
    own: dict[str, Any] = {"image": images["image"], "outpaint": "left=128", "steps": 1, "sampler": "Euler"}
    views = {"view_method": "multidiffusion", "view_width": 96, "view_height": 64, "view_overlap": 32}
    shapes = [tuple(call.x.shape[2:]) for call in seen(engine, **own, **views).calls]
    assert shapes == [(16, 24)] * (2 + 3)
    grown = [stage.adapter for stage in planned(engine, **own, tile="x") if isinstance(stage, Diffuse)]
    assert grown == [NoPorts(), WithoutEdges(Seamless(x=True, y=False))]
    plain, tiled, viewed = (engine.generate(request(**own, **more))[0].image for more in ({}, {"tile": "x"}, views))
    assert len({image.tobytes() for image in (plain, tiled, viewed)}) == 3
    assert all(np.array_equal(np.asarray(made)[:, 128:], pixels(images["image"])) for made in (plain, tiled, viewed))


@pytest.mark.parametrize("outpaint", ["left=32,bottom=32", "left=128"])
def test_a_canvas_that_grew_has_a_second_pass(engine: Engine, images: dict[str, str], outpaint: str) -> None:
    """The image itself is enlarged and kept; only the margin is made anew, in both passes."""
    own: dict[str, Any] = {"image": images["image"], "outpaint": outpaint, "steps": 1, "batch_size": 2}
    made = engine.generate(request(**own, hires_upscale=1.5, hires_denoising_strength=0.5))
    kept = pixels(images["image"], (96, 96))
    assert all(np.array_equal(np.asarray(image.image)[:96, -96:], kept) for image in made)
    once = engine.generate(request(**own))[0].image
    enlarged = np.asarray(once.resize(made[0].image.size, Image.Resampling.LANCZOS)).astype(int)
    assert float(np.abs(enlarged - np.asarray(made[0].image))[:, :40].mean()) > 2
    again = to_request(read(made[1].infotext), {"image": images["image"], "model": "tiny"})
    assert engine.generate(again)[0].image.tobytes() == made[1].image.tobytes()


def test_the_enlarged_image_lies_where_its_margins_end() -> None:
    found = prepared(Image.new("RGB", (60, 48)), Margins(20, 16, 0, 16), Size(144, 96))
    assert found.kept == Box(30, 0, 120, 72)
    assert found.image.size == (144, 96)


@pytest.mark.parametrize(
    ("which", "fields", "told"),
    [
        (
            "engine",
            {"outpaint": "left=64", "mask": "alpha"},
            "outpaint and mask cannot both be given: outpainting makes a mask of its own",
        ),
        (
            "editing",
            {"pag_scale": 1.0},
            "PAG and guidance by the image cannot be combined: set image_cfg_scale to 1",
        ),
        (
            "editing",
            {"sag_scale": 1.0},
            "SAG and guidance by the image cannot be combined: set image_cfg_scale to 1",
        ),
        (
            "editing",
            {"perp_neg_scale": 1.0},
            "Perp-Neg and guidance by the image cannot be combined: set image_cfg_scale to 1",
        ),
    ],
)
def test_what_does_not_combine_is_one_line(
    which: str,
    fields: dict[str, Any],
    told: str,
    images: dict[str, str],
    engine: Engine,
    inpainting: Engine,
    editing: Engine,
) -> None:
    own = {name: value.format(**images) if isinstance(value, str) else value for name, value in fields.items()}
    model = {"engine": engine, "inpainting": inpainting, "editing": editing}[which]
    with pytest.raises(BadInput) as caught:
        model.resolve(request(image=images["image"], **own))
    assert str(caught.value) == told


@pytest.mark.parametrize("name", ["pag_scale", "sag_scale", "perp_neg_scale"])
def test_without_guidance_by_the_image_they_combine(editing: Engine, images: dict[str, str], name: str) -> None:
    own: dict[str, Any] = {"image": images["image"], "image_cfg_scale": 1.0, "steps": 1, "negative_prompt": "a dog"}
    plain, steered = (editing.generate(request(**own, **more))[0].image for more in ({}, {name: 1.0}))
    assert plain.tobytes() != steered.tobytes()
