"""From a base that sees the latent alone to an inpainting model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import tiny
from atelier.checkpoints.opening import open_checkpoint
from atelier.errors import BadInput
from atelier.nn.ports import Conditioning
from atelier.request.events import Exported
from atelier.train.loop import HERE
from atelier.train.registry import read, recipes
from atelier.train.runner import run_recipe
from atelier.train.teaching.base import Base, base_of, opened, predict
from atelier.train.teaching.inpainting import all_new, beside, holes, sees_holes, widened


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def base(model: Path) -> Base:
    return base_of(opened(str(model)), torch.device("cpu"), torch.float32)


def test_new_channels_change_nothing_at_first(base: Base) -> None:
    wide = widened(base)
    latent = base.checkpoint.latent.channels
    assert (base.net_channels, wide.net_channels) == (latent, 2 * latent + 1)
    assert (sees_holes(base), sees_holes(wide)) == (False, True)
    assert widened(wide) is wide
    torch.manual_seed(0)
    x, t = torch.randn(2, latent, 8, 8), torch.tensor([10.0, 500.0])
    said = Conditioning(torch.randn(2, 77, base.checkpoint.ends.context))
    other = replace(said, channels=torch.randn(2, latent + 1, 8, 8))
    assert torch.allclose(predict(base.net, x, t, said), predict(wide.net, x, t, other), atol=1e-4)


def test_holes_are_rectangles_or_everything_and_those_of_a_step_are_always_the_same() -> None:
    made = holes(200, 32, 48, seed=1, step=2)
    assert made.shape == (200, 1, 32, 48)
    assert set(made.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(made, holes(200, 32, 48, seed=1, step=2))
    assert not torch.equal(made, holes(200, 32, 48, seed=1, step=3))
    whole = [bool(row.all()) for row in made]
    assert 30 <= sum(whole) <= 70
    for row in (row for row, everything in zip(made, whole, strict=True) if not everything):
        rows, columns = row[0].any(1).nonzero().flatten(), row[0].any(0).nonzero().flatten()
        box = row[0, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert bool(box.all())
        assert float(row.sum()) == box.numel()
        assert 6 <= len(rows) <= 26
        assert 10 <= len(columns) <= 38


def test_the_mask_and_the_rest_of_the_image_lie_beside_the_latent(base: Base) -> None:
    pixels, hole = torch.rand(1, 3, 64, 64) * 2 - 1, torch.zeros(1, 1, 64, 64)
    hole[..., 32:, :] = 1
    seen = beside(base, pixels, hole)
    side, latent = 64 // base.checkpoint.latent.factor, base.checkpoint.latent.channels
    assert seen.shape == (1, 1 + latent, side, side)
    assert torch.equal(seen[0, 0], torch.cat([torch.zeros(side // 2, side), torch.ones(side // 2, side)]))
    grey = pixels.clone()
    grey[..., 32:, :] = 0
    assert torch.equal(seen[:, 1:], base.posterior(grey)[0])
    assert all_new(base, 2, 64) is None
    everything = all_new(widened(base), 2, 64)
    assert everything is not None
    assert torch.equal(everything[1, 1:], base.posterior(torch.zeros(1, 3, 64, 64))[0][0])
    assert bool((everything[:, 0] == 1).all())


def test_a_model_that_sees_something_else_is_refused(base: Base) -> None:
    strange = widened(base)
    weight = strange.net.get_parameter("conv_in.weight")
    strange.net.get_submodule("conv_in").weight = torch.nn.Parameter(weight[:, :-1])
    with pytest.raises(BadInput, match="channels beside the latent, of which training images say nothing"):
        sees_holes(strange)


def test_the_recipe_leaves_an_inpainting_model_that_uses_what_it_sees(model: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (64, 64), colour).save(tmp_path / "images" / f"{number}.png")
    spec = recipes()["dreambooth"]
    changes = {
        "base": str(model),
        "data.source": str(tmp_path / "images"),
        "data.caption": "a thing",
        "inpainting": True,
        "samples": ["a thing"],
        "name": "filler",
        "dtype": "fp32",
        "run.steps": 3,
        "run.batch": 2,
        "run.accumulate": 2,
        "optim.warmup": 0,
    }
    events = list(run_recipe(spec, read("dreambooth", spec, changes), HERE, tmp_path / "run"))
    (exported,) = (event for event in events if isinstance(event, Exported))
    made = open_checkpoint(exported.path)
    before = open_checkpoint(model)
    latent = made.latent.channels
    assert made.ends.in_channels == 2 * latent + 1 == before.ends.in_channels + latent + 1
    net = base_of(made, torch.device("cpu"), torch.float32).net
    assert float(net.get_parameter("conv_in.weight")[:, latent:].abs().max()) > 0
