"""Models that see a map of depths: what the network is shown, what is estimated, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
import tiny_sd
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import write_ldm
from atelier.errors import BadFile, BadInput
from atelier.pipeline.stages.encode_depth import normalized
from atelier.runtime.engine import Engine
from atelier.vision import depth as depths
from key_lists import key_list, sparse
from pipeline_support import PLENTY, Lending, Letters, Watched, engine_on, happened, planned, request


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shelf = tmp_path_factory.mktemp("depth")
    write_ldm(tiny_sd.sd2(in_channels=5, prediction="epsilon"), shelf / "tiny.safetensors")
    tiny.folder(shelf / "plain")
    return shelf


@pytest.fixture(scope="module")
def engine(shelf: Path) -> Engine:
    return engine_on(shelf / "tiny.safetensors", budget=PLENTY)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A map of 128x64 whose right half is near, and an image of half the width."""
    folder = tmp_path_factory.mktemp("images")
    near = np.full((64, 128), 50, np.uint8)
    near[:, 64:] = 200
    Image.fromarray(near).save(folder / "depth.png")
    Image.new("RGB", (64, 64), (200, 40, 90)).save(folder / "image.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 32))
    mask.save(folder / "mask.png")
    return {name: str(folder / f"{name}.png") for name in ("depth", "image", "mask")}


def beside(engine: Engine, **fields: object) -> list[torch.Tensor]:
    """What the network sees beside the latent, in each call."""
    net = Watched()
    have = Lending(engine.resources, {"text": Letters, "denoiser": net.alone})
    happened(planned(engine, steps=1, sampler="Euler", **fields), have)
    return [call.channels for call in net.calls if call.channels is not None]


def test_both_branches_see_the_map_at_the_size_of_the_latent(engine: Engine, images: dict[str, str]) -> None:
    (seen,) = beside(engine, depth=images["depth"])
    assert seen.shape == (2, 1, 16, 16)
    assert torch.equal(seen[0], seen[1])
    assert bool((seen[0, 0, :, :6] < -0.9).all())
    assert bool((seen[0, 0, :, 10:] > 0.9).all())
    assert (float(seen.min()), float(seen.max())) == (-1, 1)


def test_the_map_comes_to_the_size_as_the_image_does(engine: Engine, images: dict[str, str], tmp_path: Path) -> None:
    """Far are 40 of 128 columns at the left and 8 of 64 rows at the top; of the 64 columns in the middle that is 8, and
    filled in, the map is 32 high, its first row going on to the edge."""
    near = np.full((64, 128), 50, np.uint8)
    near[8:, 40:] = 200
    Image.fromarray(near).save(tmp_path / "corner.png")
    own = {"depth": str(tmp_path / "corner.png"), "image": images["image"]}
    maps = [beside(engine, resize_mode=how, **own)[0][0, 0] for how in ("stretch", "crop", "fill", "latent")]
    assert [int((seen[-1] < 0).sum()) for seen in maps] == [5, 2, 5, 5]
    assert [int((seen[:, -1] < 0).sum()) for seen in maps] == [2, 2, 5, 2]


def test_where_only_what_is_masked_is_made_the_map_is_cut_too(engine: Engine, images: dict[str, str]) -> None:
    """The mask's square is near all over: there is no edge in it."""
    wanted = {**images, "inpaint_area": "Only masked", "masked_area_padding": 0, "mask_blur": 0.0}
    (seen,) = beside(engine, **wanted)
    assert seen.shape == (2, 1, 16, 16)
    (plain,) = beside(engine, **images, mask_blur=0.0)
    assert bool((plain[0, 0, :, :7] < -0.9).all())
    assert not bool((seen[0, 0, :, :7] < -0.9).all())


def test_a_flat_map_is_the_middle() -> None:
    assert normalized(torch.full((1, 1, 5, 7), 3.0), 4, 4).tolist() == [[[[0.0] * 4] * 4]]
    made = normalized(torch.arange(16.0).reshape(1, 1, 4, 4), 4, 4)
    assert torch.allclose(made.flatten(), torch.linspace(-1, 1, 16), atol=1e-6)


def test_what_is_needed_is_asked_for(engine: Engine, images: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="this is a depth model: give --depth, or --image"):
        engine.resolve(request())
    with pytest.raises(BadInput, match="tiny is a depth model without an estimator of depths in its folder: give --de"):
        engine.resolve(request(image=images["image"]))
    with pytest.raises(BadInput, match="depth: this model sees no depth map"):
        engine.resolve(request(depth=images["depth"], model="plain"))
    with pytest.raises(BadInput, match="cannot outpaint"):
        engine.resolve(request(**{k: images[k] for k in ("image", "depth")}, outpaint="left=32"))
    assert engine.generate(request(depth=images["depth"], steps=1))[0].image.size == (64, 64)


def test_an_estimator_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "depth_estimator").mkdir()
    (tmp_path / "depth_estimator" / "config.json").write_text("{}")
    assert depths.estimator_in(tmp_path) == tmp_path
    monkeypatch.setattr(depths, "PACKAGE", "no_such_package")
    with pytest.raises(BadInput, match=r"estimating depths needs no_such_package: pip install 'atelier\[depth\]', or"):
        depths.open_estimator(tmp_path, torch.device("cpu"))
    monkeypatch.setattr(depths, "PACKAGE", "json")
    with pytest.raises(BadFile, match=r"is no estimator of depths that can be used .*: give --depth") as error:
        depths.open_estimator(tmp_path, torch.device("cpu"))
    assert "\n" not in str(error.value)


def test_the_published_file_opens_and_its_estimator_is_left_out(tmp_path: Path) -> None:
    found = open_checkpoint(sparse(tmp_path / "512-depth-ema.safetensors", key_list("sd2_depth_ldm")))
    assert (found.family.name, found.facts.prediction, found.ends.in_channels) == ("sd2", "epsilon", 5)
    assert any(name.startswith("depth_model.") for name in found.ignored)
