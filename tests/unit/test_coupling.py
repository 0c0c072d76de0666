"""Attention coupling: one prediction for the whole canvas, whose attention to the text is divided among the regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atelier.diffusion.types import Moment, View
from atelier.errors import BadInput
from atelier.nn.ports import AttentionLayer, Conditioning, Ports
from atelier.pipeline.coupling import Divided, Reads, coupled, divided, together
from atelier.pipeline.layouts import cross_attentions
from atelier.pipeline.prepared import PreparedPrompt
from atelier.pipeline.prompted import Rows
from atelier.pipeline.sample import Sample
from atelier.prompt import Span, Timeline
from atelier.request import events
from atelier.request.infotext import Settings, read, to_request
from atelier.request.resolved import ResolvedRegions
from atelier.runtime.engine import Engine
from pipeline_support import PLENTY, TOGETHER, Lending, Letters, Watched, engine_on, happened, planned, request

ATTENTION = {"region_method": "attention", "region_ground": 0.0}
LEFT, RIGHT = "box=0,0,0.5,1: l", "box=0.5,0,1,1: r"
ALL = torch.zeros(1, dtype=torch.long)
"""The view of a batch of one that shows all of the canvas."""
LONG = " ".join(["cat"] * 40)


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return engine_on(tiny_folder, budget=PLENTY)


def pixels(engine: Engine, **fields: object) -> np.ndarray[Any, Any]:
    return np.asarray(engine.generate(request(**{"steps": 2, "negative_prompt": "a dog", **fields}))[0].image).astype(
        int
    )


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_each_place_attends_to_its_own_text() -> None:
    """Two parts of three tokens on a map of 2x2, whose left column is the first's and whose right the second's."""
    query, key, value = noise(1, 2, 4, 5), noise(1, 2, 6, 5, seed=1), noise(1, 2, 6, 5, seed=2)
    shares = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])[:, None, None, :].expand(2, 1, 4, 4)
    layer = AttentionLayer("down.0", 2, is_cross=True, grid=(2, 2))
    made = divided(shares, ALL)(layer, noise(1, 4, 10), query, key, value, torch.zeros(1, 4, 10))
    for position, tokens in ((0, slice(3)), (1, slice(3, 6)), (2, slice(3)), (3, slice(3, 6))):
        scores = query[0, :, position, None] @ key[0, :, tokens].transpose(1, 2) / 5**0.5
        expected = (scores.softmax(-1) @ value[0, :, tokens]).flatten()
        assert torch.allclose(made[0, position], expected, atol=1e-6)
    own = AttentionLayer("down.0", 2, is_cross=False, grid=(2, 2))
    attended = noise(1, 4, 10)
    assert divided(shares, ALL)(own, attended, query, key, value, attended) is attended


def test_each_view_has_its_part_of_the_regions() -> None:
    """On a canvas of 2x4 positions that two texts halve, a view of the left half reads the first alone, one of the
    middle both, one that goes over the right edge the second and then the first."""
    shares = torch.zeros(2, 1, 2, 4)
    shares[0, ..., :2], shares[1, ..., 2:] = 1, 1
    query, key, value = noise(3, 2, 4, 5), noise(3, 2, 6, 5, seed=1), noise(3, 2, 6, 5, seed=2)
    layer = AttentionLayer("x", 2, is_cross=True, grid=(2, 2))
    moment = Moment(0, 0.0, (View(0, 0, 2, 2), View(0, 1, 2, 2), View(0, 3, 2, 2)))
    rows = Rows(torch.zeros(3, dtype=torch.bool), torch.tensor([1, 0, 2]), Watched())
    x, attended = noise(3, 4, 10), torch.zeros(3, 4, 10)
    ports = Divided(shares, ["x"]).ports(x, x, moment, Conditioning(x), rows)
    made = ports.attention["x"](layer, x, query, key, value, attended)
    alone = [
        divided(torch.ones(1, 1, 2, 2), ALL)(layer, x, query, k, v, attended)
        for k, v in zip(key.chunk(2, 2), value.chunk(2, 2), strict=True)
    ]
    for row, columns in enumerate(((0, 1), (0, 0), (1, 0))):
        for position in range(4):
            assert torch.equal(made[row, position], alone[columns[position % 2]][row, position])


def test_a_canvas_of_views_is_divided_as_a_whole(engine: Engine) -> None:
    """Two views side by side, a region in each: what the network sees in a later call is, in each, what it sees with
    that prompt everywhere."""
    views = {"width": 128, "height": 64, "view_method": "multidiffusion", "view_width": 64, "view_overlap": 0}

    def seen(**fields: object) -> list[torch.Tensor]:
        net, asked = Watched(), {**views, "sampler": "Euler", "steps": 2, "negative_prompt": "n", **fields}
        happened(planned(engine, **asked), Lending(engine.resources, {"denoiser": net.around}))
        return [call.x[:1] for call in net.calls[2:]]

    halves = ("box=0,0,0.5,1: a red cat", "box=0.5,0,1,1: a dog")
    left, right = seen(prompt="b", regions=halves, **ATTENTION)
    cats, dogs = seen(prompt="a red cat"), seen(prompt="a dog")
    assert torch.allclose(left, cats[0], atol=1e-4)
    assert torch.allclose(right, dogs[1], atol=1e-4)
    assert not torch.allclose(left, dogs[0], atol=1e-2)


def test_timelines_become_one() -> None:
    first, second = Timeline((Span(2, "a"), Span(8, "b"))), Timeline((Span(5, "c"), Span(8, "d")))
    line = together([first, second])
    assert line == Timeline((Span(2, "a\0c"), Span(5, "b\0c"), Span(8, "b\0d")))
    assert [line.active(call) for call in range(10)] == [f"{first.active(n)}\0{second.active(n)}" for n in range(10)]


def test_texts_of_several_lengths_stand_one_behind_the_other() -> None:
    """Two tokens of one text and three of the other: six of each."""
    states = {
        ("a",): {"a": Conditioning(torch.tensor([[1.0], [2.0]]), pooled=torch.tensor([7.0]))},
        ("b",): {"b": Conditioning(torch.tensor([[3.0], [4.0], [5.0]]), pooled=torch.tensor([8.0]))},
    }
    one, other = (PreparedPrompt((line,), (1.0,), line) for line in (Timeline((Span(1, t),)) for t in "ab"))
    made = coupled(Reads([Sample(0, 1, 0, one, Settings(), (other,))], states), [torch.ones(1, 1, 2, 2)] * 2, ["x"])
    line = made.samples[0].prompt.parts[0]
    told = made.states[line.texts][line.active(0)]
    assert told.tokens.flatten().tolist() == [1, 2, 1, 2, 1, 2, 3, 4, 5, 3, 4, 5]
    assert told.pooled is not None
    assert told.pooled.tolist() == [7.0]


@pytest.mark.parametrize("prompt", ["a red cat", LONG, "[cat:dog:1] red"])
@pytest.mark.parametrize("more", [{}, {"perp_neg_scale": 1.0}, {"sag_scale": 1.0}], ids=["plain", "Perp-Neg", "SAG"])
def test_a_region_of_everything_is_its_prompt(engine: Engine, prompt: str, more: dict[str, Any]) -> None:
    """Whatever the image's own prompt is, however long, and whatever else the guidance asks the network."""
    own = {"sampler": "Euler a", **more}
    whole = {"regions": (f'box=0,0,1,1 negative="red": {prompt}',), "prompt": "a dog", **own}
    plain = pixels(engine, prompt=prompt, negative_prompt="red", **own)
    assert np.abs(pixels(engine, **whole, **ATTENTION) - plain).max() <= 1
    assert np.abs(plain - pixels(engine, prompt="a dog", **own)).max() > 5


def test_it_costs_no_more_calls_and_every_layer_is_told(engine: Engine) -> None:
    net = Watched()
    own = {"regions": (LEFT, RIGHT), "prompt": "b", "negative_prompt": "n", "sampler": "Euler", "steps": 2}
    have = Lending(engine.resources, {"text": Letters, "denoiser": net.alone})
    assert isinstance(happened(planned(engine, **own, **ATTENTION), have)[-1], events.Finished)
    plain = Watched()
    happened(planned(engine, sampler="Euler", steps=2), Lending(engine.resources, {"denoiser": plain.alone}))
    assert len(net.calls) == len(plain.calls) == 2
    assert net.texts == [["nnn", "blr"]] * 2
    paths = set(cross_attentions(engine.resources.checkpoint(engine.resolve(request()).model)))
    assert paths == {
        *(f"down.{level}.attentions.0.blocks.0.attn2" for level in (0, 1)),
        "middle.attention.blocks.0.attn2",
        *(f"up.{level}.attentions.{number}.blocks.0.attn2" for level in (0, 1) for number in (0, 1)),
    }
    assert all(isinstance(call.ports, Ports) and set(call.ports.attention) == paths for call in net.calls)


def test_regions_stand_alone_at_first(engine: Engine) -> None:
    """In half of the calls each region is asked for by itself, as with region_method latent; then all are one call."""
    net, latent = Watched(), Watched()
    own = {"regions": (LEFT, RIGHT), "prompt": "b", "negative_prompt": "n", "sampler": "Euler", "steps": 2}
    for seen, more in ((net, ATTENTION), (latent, {})):
        have = Lending(engine.resources, {"text": Letters, "denoiser": seen.alone})
        happened(planned(engine, **{**own, **more, "region_ground": 0.5}), have)
    assert net.texts == [["n", "l"], ["n", "r"], ["nnn", "blr"]]
    assert [bool(call.ports.attention) for call in net.calls] == [False, False, True]
    assert all(torch.equal(one.x, other.x) for one, other in zip(net.calls[:2], latent.calls[:2], strict=True))
    assert latent.texts == [["n", "l"], ["n", "r"]] * 2


@pytest.mark.parametrize(("method", "calls"), [("attention", 2), ("latent", 4)])
def test_a_second_pass_has_no_ground(engine: Engine, method: str, calls: int) -> None:
    """All regions are shown the image, or are one call."""
    own = {"regions": (LEFT, RIGHT), "prompt": "b", "negative_prompt": "n", "sampler": "Euler", "steps": 2}
    second = {"hires_upscale": 2.0, "hires_steps": 2, "hires_upscaler": "Latent", "region_method": method}
    net = Watched()
    have = Lending(engine.resources, {"text": Letters, "denoiser": net.alone})
    happened(planned(engine, **own, **second, region_ground=1.0), have)
    large = [call for call in net.calls if call.x.shape[-1] > net.calls[0].x.shape[-1]]
    assert len(large) == calls
    assert all(torch.equal(large[0].x[0], call.x[0]) for call in large[: calls // 2])
    assert [call.texts for call in large[:1]] == [{"attention": ["nnn", "blr"], "latent": ["n", "l"]}[method]]


@pytest.mark.parametrize(
    ("fields", "ground", "said"),
    [
        ({}, 0.0, ""),
        ({"region_ground": 0.4}, 0.4, "Region ground: 0.4"),
        ({"region_method": "attention"}, 0.6, ""),
        ({"region_method": "attention", "region_ground": 0.0}, 0.0, "Region ground: 0.0"),
    ],
)
def test_how_long_regions_stand_alone(engine: Engine, fields: dict[str, Any], ground: float, said: str) -> None:
    """What is usual for the method is not said."""
    asked = request(regions=(LEFT,), steps=1, **fields)
    resolved = engine.resolve(asked)
    assert isinstance(resolved.regions, ResolvedRegions)
    assert resolved.regions.ground == ground
    infotext = engine.generate(asked)[0].infotext
    assert said in infotext
    assert ("Region ground" in infotext) == bool(said)
    assert engine.resolve(to_request(read(infotext), {"model": "tiny"})).regions == resolved.regions


def test_it_combines_and_is_said(tiny_folder: Path, engine: Engine) -> None:
    """With a second pass, a guidance of its own ports, AND in the image's prompt, and batches in one call."""
    own: dict[str, Any] = {
        "prompt": "a dog AND red",
        "regions": ("box=0,0,0.5,1: red cat",),
        "hires_upscale": 1.5,
        "pag_scale": 1.0,
        "freeu_b1": 1.2,
        "steps": 2,
        "sampler": "Euler",
    }
    (made,) = engine.generate(request(**own, **ATTENTION))
    assert ", Region method: attention" in made.infotext
    again = engine.generate(to_request(read(made.infotext), {"model": "tiny"}))[0]
    assert again.image.tobytes() == made.image.tobytes()
    latent, without = (engine.generate(request(**fields))[0].image for fields in (own, {**own, "regions": ()}))
    assert len({image.tobytes() for image in (made.image, latent, without)}) == 3
    together_ = engine_on(tiny_folder, device=TOGETHER).generate(request(**own, **ATTENTION, batch_size=2))[0].image
    assert np.abs(np.asarray(together_).astype(int) - np.asarray(made.image)).max() <= 1


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"regions": (LEFT, "box=0.5,0,1,1: a AND b")},
            "region 2: AND cannot be in it with region_method attention: make two regions of it",
        ),
    ],
)
def test_what_does_not_combine_is_one_line(engine: Engine, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput) as caught:
        engine.generate(request(**{"regions": (LEFT,), **ATTENTION, **fields}))
    assert str(caught.value) == told
