"""Regions, views and edges that meet, from the request to the image: what the network is told, where, and how often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from atelier.errors import AtelierError, BadFile, BadInput
from atelier.nn.ports import NOTHING, Conditioning, Ports
from atelier.nn.seamless import EDGES, Seamless
from atelier.pipeline.lent import Lent
from atelier.pipeline.stages.place import Place
from atelier.pipeline.values import Placed, Values
from atelier.request import events
from atelier.request.infotext import read, to_request
from atelier.runtime.engine import Engine
from pipeline_support import TOGETHER, Lending, Letters, Watched, engine_on, happened, planned, request

EULER = {"sampler": "Euler", "scheduler": "14,7,3,1,0"}
LEFT, RIGHT = "box=0,0,0.5,1: l", "box=0.5,0,1,1: r"


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return engine_on(tiny_folder, budget=2**40)


@pytest.fixture(scope="module")
def left_mask(tmp_path_factory: pytest.TempPathFactory) -> str:
    """64x64, the left half white, the column beside it grey."""
    image = Image.new("L", (64, 64))
    image.paste(255, (0, 0, 32, 64))
    image.paste(128, (32, 0, 36, 64))
    path = tmp_path_factory.mktemp("masks") / "left.png"
    image.save(path)
    return str(path)


def only(engine: Engine, **fields: object) -> Image.Image:
    return engine.generate(request(**fields))[0].image


ANSWERS = {"l": 1.0, "r": 2.0, "b": 3.0, "n": 0.0}


class Answering(Watched):
    """A network whose output is a number for each text."""

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning, ports: Ports = NOTHING) -> Tensor:
        super().__call__(x, t, cond, ports)
        return torch.stack(
            [torch.full_like(row, ANSWERS[text]) for row, text in zip(x, self.calls[-1].texts, strict=True)]
        )


def watched(engine: Engine, **fields: Any) -> Watched:
    return answered(engine, Watched(), **fields)


def answered(engine: Engine, net: Watched, **fields: Any) -> Watched:
    told = happened(planned(engine, **fields), Lending(engine.resources, {"text": Letters, "denoiser": net.alone}))
    assert isinstance(told[-1], events.Finished), told[-1]
    return net


def placed(engine: Engine, **fields: Any) -> Placed:
    """What the stage that places regions leaves, that of the last pass."""
    *_, stage = (stage for stage in planned(engine, **fields) if isinstance(stage, Place))
    values = Values()
    with Lent(engine.resources, [stage]) as lent:
        list(stage.perform(lent, values))
    return values.read(stage.out)


def test_each_region_is_asked_with_its_own_prompts(engine: Engine) -> None:
    """The base is asked for only where something is left for it."""
    regions = ('box=0,0,0.5,1 negative="m": l', RIGHT)
    fields = {"prompt": "b", "negative_prompt": "n", **EULER}
    assert watched(engine, **fields, regions=regions).texts == [["m", "l"], ["n", "r"]] * 4
    assert watched(engine, **fields, regions=regions[:1]).texts == [["m", "l"], ["n", "b"]] * 4


def test_regions_have_timelines_and_parts_of_their_own(engine: Engine) -> None:
    net = watched(engine, prompt="b", regions=("box=0,0,1,1: [l:r:2] AND c",), **EULER)
    assert net.texts == [["", "l", "c"]] * 3 + [["", "r", "c"]]


def test_what_regions_predict_goes_where_they_are(engine: Engine) -> None:
    """Each guided velocity v gives the clean latent skip x + out v: where a region answers, x moves as it says."""
    fields = {"prompt": "b", "negative_prompt": "n", "cfg_scale": 1.0, "sampler": "Euler", "scheduler": "1,0.5,0"}
    plain = {text: answered(engine, Answering(), **{**fields, "prompt": text}).calls[1].x[0] for text in "lrb"}
    net = answered(engine, Answering(), **fields, regions=("box=0,0,0.5,1: l", "box=0.25,0.5,0.75,1 weight=3: r"))
    x = net.calls[3].x[0]
    assert torch.equal(x[:, :8, :8], plain["l"][:, :8, :8])
    assert torch.equal(x[:, 8:, 8:12], plain["r"][:, 8:, 8:12])
    assert torch.equal(x[:, :, 12:], plain["b"][:, :, 12:])
    assert torch.equal(x[:, :8, 8:], plain["b"][:, :8, 8:])
    mixed = (plain["l"] + 3 * plain["r"]) / 4
    assert torch.allclose(x[:, 8:, 4:8], mixed[:, 8:, 4:8], atol=1e-5)


def test_a_region_of_everything_is_its_prompt_alone(engine: Engine) -> None:
    region = "box=0,0,1,1 weight=7: a red cat"
    assert only(engine, prompt="b", regions=(region,)).tobytes() == only(engine, prompt="a red cat").tobytes()


def test_masks_are_averaged_over_positions(engine: Engine, left_mask: str) -> None:
    (mask,) = placed(engine, regions=(f"mask={left_mask}: l",)).masks
    assert mask.shape == (1, 1, 16, 16)
    assert torch.allclose(mask[0, 0, 3], torch.tensor([1.0] * 8 + [128 / 255] + [0.0] * 7))


def test_the_mask_of_a_second_pass_is_that_of_the_first_made_larger(engine: Engine, left_mask: str) -> None:
    (mask,) = placed(engine, regions=(f"mask={left_mask}: l",), hires_upscale=2.0, denoising_strength=0.5).masks
    assert mask.shape == (1, 1, 32, 32)
    row = mask[0, 0, 3]
    assert torch.equal(row[:16], torch.ones(16))
    assert torch.equal(row[18:], torch.zeros(14))
    assert 0.4 < float(row[16:18].mean()) < 0.6


def test_boxes_go_to_the_nearest_position(engine: Engine) -> None:
    first, second = placed(engine, regions=("box=0,0.5,0.46,1: l", "box=0.05,0,1,0.1: r")).masks
    assert first[0, 0].sum(1).tolist() == [0.0] * 8 + [7.0] * 8
    assert second[0, 0].sum(0).tolist() == [0.0] + [2.0] * 15


def test_a_region_stands_alone_at_first(engine: Engine) -> None:
    """For half of the calls it sees outside of its mask nothing of the latent, but a flat colour with noise."""
    fields = {"prompt": "b", "regions": (LEFT, RIGHT), "sampler": "Euler", "scheduler": "14,7,3,1,0"}
    plain, alone = (watched(engine, **fields, region_ground=share) for share in (0.0, 0.5))
    shown = [(a.x, b.x) for a, b in zip(plain.calls, alone.calls, strict=True)]
    assert [torch.equal(a[..., :8], b[..., :8]) for a, b in shown] == [True, False] * 2 + [True] * 4
    assert [torch.equal(a[..., 8:], b[..., 8:]) for a, b in shown] == [False, True] * 2 + [True] * 4
    colours = placed(engine, **fields, region_ground=0.5).colours
    assert len(colours) == len(colours.unique(dim=0)) == 8


def test_every_image_draws_the_choices_of_its_regions(engine: Engine) -> None:
    net = watched(engine, prompt="b", regions=("box=0,0,1,1: {o|p|q|s|t|u}",), batch_size=4, sampler="Euler", steps=1)
    assert len({texts[1] for texts in net.texts}) > 1


@pytest.mark.parametrize("views", [{"view_method": "mixture"}, {"view_method": "multidiffusion", "tile": "none"}])
def test_one_view_is_none(engine: Engine, views: dict[str, object]) -> None:
    assert only(engine, **views).tobytes() == only(engine).tobytes()


@pytest.mark.parametrize(("max_batch", "rows"), [(1, [2] * 12), (None, [8, 4] * 2)])
def test_views_cost_as_many_times_plain(engine: Engine, max_batch: int | None, rows: list[int]) -> None:
    """4:1 in views of the model's own size that overlap by half: 7. Here 3 and 2 views."""
    fields = {"width": 128, "height": 96, "view_method": "multidiffusion", "sampler": "Euler", "steps": 2}
    net = watched(engine, **fields, max_batch=max_batch)
    assert [len(call.x) for call in net.calls] == rows
    assert {tuple(call.x.shape[2:]) for call in net.calls} == {(16, 16)}
    assert len(watched(engine, width=256, view_method="mixture", sampler="Euler", steps=2).calls) == 2 * 7


def test_views_of_several_images_are_those_of_each(engine: Engine, tiny_folder: Path) -> None:
    fields = {"width": 128, "view_method": "multidiffusion", "regions": (LEFT,), "prompt": "a {red|blue} cat"}
    at_once = engine_on(tiny_folder, device=TOGETHER).generate(request(**fields, batch_size=3))
    one_by_one = engine.generate(request(**fields, batch_size=3))
    for a, b in zip(at_once, one_by_one, strict=True):
        difference = np.abs(np.asarray(a.image).astype(int) - np.asarray(b.image).astype(int))
        assert difference.max() <= 2, "the order of sums only"
    assert len({image.image.tobytes() for image in one_by_one}) == 3


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, EDGES),
        ({"tile": "x"}, Seamless(x=True)),
        ({"tile": "xy"}, Seamless(x=True, y=True)),
        ({"tile": "xy", "width": 128, "view_method": "mixture"}, Seamless(y=True)),
        ({"tile": "y", "width": 128, "view_method": "mixture"}, Seamless(y=True)),
        ({"tile": "x", "width": 128, "view_method": "mixture", "view_width": 128}, Seamless(x=True)),
    ],
    ids=str,
)
def test_edges_meet_where_the_network_sees_both(engine: Engine, fields: dict[str, object], expected: Seamless) -> None:
    assert {call.ports.seamless for call in watched(engine, **fields).calls} == {expected}


def test_views_go_over_edges_that_meet(engine: Engine) -> None:
    """Four of 64 pixels on a ring of 128, three on a line."""
    fields = {"width": 128, "view_method": "mixture", "sampler": "Euler", "steps": 1}
    assert len(watched(engine, **fields).calls) == 3
    assert len(watched(engine, **fields, tile="x").calls) == 4


def test_tiling_leaves_nothing_behind(engine: Engine) -> None:
    before = only(engine)
    tiled = only(engine, tile="xy")
    assert tiled.tobytes() != before.tobytes()
    assert only(engine).tobytes() == before.tobytes()


def test_an_image_to_start_from_is_read_as_it_repeats(engine: Engine, left_mask: str) -> None:
    fields = {"image": left_mask, "denoising_strength": 0.0}
    assert only(engine, **fields, tile="x").tobytes() != only(engine, **fields).tobytes()


def test_all_of_it_is_one_request(engine: Engine, left_mask: str) -> None:
    """Regions in views of a ring, in what a mask leaves of an image."""
    fields = {
        "prompt": "b",
        "negative_prompt": "n",
        "width": 128,
        "tile": "x",
        "view_method": "mixture",
        "steps": 2,
        "regions": (LEFT,),
        "region_ground": 0.5,
        "sampler": "Euler",
        "view_overlap": 16,
        "image": left_mask,
        "mask": left_mask,
        "denoising_strength": 1.0,
    }
    assert [call.texts for call in watched(engine, **fields).calls] == ([["n", "l"]] * 3 + [["n", "b"]] * 3) * 2


def test_the_infotext_says_it_and_makes_it_again(engine: Engine, left_mask: str) -> None:
    fields = {
        "prompt": "b",
        "negative_prompt": "n, m",
        "width": 128,
        "tile": "x",
        "view_method": "mixture",
        "regions": (
            'box=0,0,0.5,1 weight=2 negative="": {l|m}\n: c',
            f"mask={left_mask.replace('left', 'wide')}: r",
        ),
        "region_ground": 0.25,
        "view_height": 64,
        "view_overlap": 24,
        "steps": 2,
    }
    Image.open(left_mask).resize((128, 64)).save(left_mask.replace("left", "wide"))
    (made,) = engine.generate(request(**fields))
    for pair in (
        "Tiling: True",
        "Tiling axes: x",
        'Regions: "box=0,0,0.5,1 weight=2 negative=\\"\\": ',
        "Region ground: 0.25",
        "Views: mixture",
        "View width: 64",
        "View height: 64",
        "View overlap: 24",
    ):
        assert f", {pair}" in made.infotext
    again = to_request(read(made.infotext), {"model": "tiny"})
    assert (again.layout.tile, len(again.layout.regions), again.layout.region_ground) == ("x", 2, 0.25)
    assert engine.generate(again)[0].image.tobytes() == made.image.tobytes()


@pytest.mark.parametrize(
    ("text", "tile"),
    [("Tiling: True", "xy"), ("Tiling: True, Tiling axes: y", "y"), ("Tiling axes: y", "none"), ("Seed: 1", "none")],
)
def test_tiling_of_others_is_both_ways(text: str, tile: str) -> None:
    assert to_request(read(f"p\nSteps: 20, Sampler: Euler, {text}")).layout.tile == tile


def test_nothing_is_said_of_what_is_not_there(engine: Engine) -> None:
    (made,) = engine.generate(request(steps=1))
    assert not [key for key in ("Region", "View", "Tiling") if key in made.infotext]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"regions": ("mask={missing}: a",)}, "missing.png: does not exist"),
        ({"regions": ("mask={small}: a",)}, "small.png: is 8x8, the image 64x64: give one of the same size"),
        ({"regions": (LEFT, "mask={black}: a")}, "region 2 covers none of the 16x16 positions"),
        ({"regions": ("box=0,0,0.01,1: a",)}, "region 1 covers none of the 16x16 positions"),
        ({"regions": ("box=0,0,2,1: a",)}, "a box is four shares of the image"),
        ({"regions": ("box=0,0,1,1: <lora:x:1>",)}, "lora 'x' is not there"),
        ({"region_ground": 2}, "region_ground 2: must be a number from 0 to 1"),
        ({"tile": "z"}, "tile 'z'"),
        ({"view_method": "both"}, "view_method 'both'"),
        ({"view_width": 64}, "view_method is missing"),
        ({"view_method": "mixture", "view_width": 70}, "view_width 70 is not a multiple of 8: use 64 or 72"),
        (
            {"view_method": "mixture", "view_overlap": 64},
            "view_overlap 64: must be less than the sides of a view, 64x64",
        ),
    ],
)
def test_bad_input(engine: Engine, tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    names = {name: str(tmp_path / f"{name}.png") for name in ("missing", "small", "black")}
    Image.new("L", (8, 8), 255).save(names["small"])
    Image.new("L", (64, 64)).save(names["black"])
    if "regions" in fields:
        fields = {**fields, "regions": tuple(text.format(**names) for text in fields["regions"])}
    with pytest.raises(AtelierError) as caught:
        engine.generate(request(**fields))
    assert isinstance(caught.value, BadInput | BadFile)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
