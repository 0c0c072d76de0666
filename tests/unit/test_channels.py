"""Models whose network sees more than the latent: which rows it sees it in, what is said, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

import tiny
from atelier.diffusion.guidance.image import by_image
from atelier.diffusion.types import Moment, Prediction
from atelier.errors import BadInput
from atelier.request.infotext import read, to_request
from atelier.runtime.engine import Engine
from pipeline_support import PLENTY, TOGETHER, Lending, Letters, Watched, engine_on, happened, planned, request


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return engine_on(tiny.folder(tmp_path_factory.mktemp("nine") / "tiny", in_channels=9), budget=PLENTY)


@pytest.fixture(scope="module")
def editing(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tiny.folder(tmp_path_factory.mktemp("eight") / "tiny", in_channels=8)
    return engine_on(folder, budget=PLENTY, device=TOGETHER)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("images")
    Image.new("RGB", (64, 64), (200, 40, 90)).save(folder / "image.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 64, 30))
    mask.save(folder / "mask.png")
    return {"image": str(folder / "image.png"), "mask": str(folder / "mask.png")}


def beside(engine: Engine, **fields: object) -> list[torch.Tensor]:
    """What the network sees beside the latent, in each call."""
    net = Watched()
    have = Lending(engine.resources, {"text": Letters, "denoiser": net.alone})
    happened(planned(engine, max_batch=4, steps=1, sampler="Euler", **fields), have)
    assert all(call.channels is not None for call in net.calls)
    return [call.channels for call in net.calls if call.channels is not None]


def test_an_inpainting_model_sees_the_mask_and_the_rest_of_the_image(
    inpainting: Engine, images: dict[str, str]
) -> None:
    """Rows of 4 pixels: the mask ends at 30, and the eighth row of positions begins at 28."""
    (seen,) = beside(inpainting, **images, mask_blur=0.0)
    assert seen.shape == (2, 5, 16, 16)
    assert torch.equal(seen[0], seen[1])
    assert seen[0, 0, :, 3].tolist() == [1.0] * 8 + [0.0] * 8
    (all_of_it,) = beside(inpainting, **images, mask_blur=0.0, conditional_mask_weight=0.0)
    assert not torch.allclose(all_of_it[0, 1:, :4], seen[0, 1:, :4], atol=1e-3)
    (nothing,) = beside(inpainting)
    assert bool((nothing[:, 0] == 1).all())


def test_a_blurred_mask_is_seen_hard_unless_inpainting_is_soft(inpainting: Engine, images: dict[str, str]) -> None:
    (hard,) = beside(inpainting, **images, mask_blur=8.0)
    (soft,) = beside(inpainting, **images, mask_blur=8.0, soft_inpainting=True)
    assert set(hard[0, 0].flatten().tolist()) == {0.0, 1.0}
    assert len(soft[0, 0].unique()) > 2


def test_an_editing_model_sees_the_image_but_for_one_branch(editing: Engine, images: dict[str, str]) -> None:
    """Of two samples the first two rows are without it."""
    (seen,) = beside(editing, image=images["image"], batch_size=2)
    assert seen.shape == (6, 4, 16, 16)
    assert bool((seen[:2] == 0).all())
    assert all(torch.equal(row, seen[2]) for row in seen[2:])
    assert float(seen[2].abs().mean()) > 0.05
    (plain,) = beside(editing, image=images["image"], image_cfg_scale=1.0)
    assert torch.equal(plain, seen[2:4])


@pytest.mark.parametrize("tile", ["none", "x"])
def test_each_view_sees_its_part_of_the_image(editing: Engine, images: dict[str, str], tile: str) -> None:
    """Two images of twice the width in views of 16 positions that overlap by 8: 3, or 4 in a ring; up to 2 in a call.
    The first two rows of each view in a call, the branch without the image, are 0."""
    own: dict[str, object] = {"image": images["image"], "width": 128, "height": 64, "batch_size": 2, "tile": tile}
    (whole,) = beside(editing, **own)
    assert whole.shape == (6, 4, 16, 32)
    calls = beside(editing, **own, view_method="mixture", view_overlap=32)
    lefts = [[0, 8], [16, 24]] if tile == "x" else [[0, 8], [16]]
    ring = torch.cat([whole[2:4], whole[2:4]], dim=-1)
    for call, own_lefts in zip(calls, lefts, strict=True):
        branches = call.chunk(3)
        assert bool((branches[0] == 0).all())
        cut = torch.cat([ring[..., left : left + 16] for left in own_lefts])
        assert all(torch.equal(branch, cut) for branch in branches[1:])


def test_views_with_an_inpainting_model(inpainting: Engine, images: dict[str, str]) -> None:
    """Three views, all in one call, see the mask over their upper half; one view is none; the tiles of SD upscale are
    views, too."""
    wide: dict[str, Any] = {**images, "width": 128, "height": 64, "mask_blur": 0.0}
    seen = beside(inpainting, **wide, view_method="multidiffusion")
    assert [call.shape for call in seen] == [(2 * 3, 5, 16, 16)]
    assert [float(row[0].mean()) for row in seen[0]] == [0.5] * 6
    (made,) = inpainting.generate(request(**wide, view_method="multidiffusion", steps=1))
    assert made.image.size == (128, 64)
    one, none = (
        inpainting.generate(request(**images, steps=1, **more))[0] for more in ({"view_method": "mixture"}, {})
    )
    assert one.image.tobytes() == none.image.tobytes()
    (larger,) = inpainting.generate(request(**images, steps=1, sd_upscale_factor=2.0))
    assert larger.image.size == (128, 128)


def test_a_second_pass_of_an_inpainting_model(inpainting: Engine, images: dict[str, str]) -> None:
    """It sees the image and the mask at its own size."""
    first, second = beside(inpainting, **images, mask_blur=0.0, hires_upscale=2.0, hires_upscaler="Lanczos")
    assert (first.shape[-1], second.shape[-1]) == (16, 32)
    assert torch.equal(second[:, :1, ::2, ::2], first[:, :1])


def test_prompts_of_several_lengths_have_their_own_rows(editing: Engine, images: dict[str, str]) -> None:
    long = " ".join(["cat"] * 40)
    calls = beside(editing, image=images["image"], prompt=f"{long} AND cat")
    (whole,) = beside(editing, image=images["image"])
    assert len(calls) > 1
    assert sum(len(call) for call in calls) == 4
    assert sum(int((row == 0).all()) for call in calls for row in call) == 1
    assert all(bool((row == 0).all()) or torch.equal(row, whole[1]) for call in calls for row in call)


def test_guidance_by_the_image_shifts_every_branch() -> None:
    """b = 1, u = 3, c = 10 at an image scale of 4: u' = 1 + 4 * 2 = 9, c' = 10 + 6."""
    seen: list[tuple[list[float], list[float]]] = []

    def edited(x: torch.Tensor, sigma: torch.Tensor, _: Moment, /) -> Prediction:
        seen.append((x.flatten().tolist(), sigma.tolist()))
        return Prediction(torch.tensor([1.0, 1.0, 3.0, 3.0, 10.0, 20.0]).reshape(6, 1, 1, 1))

    x = torch.tensor([5.0, 6.0, 5.0, 6.0]).reshape(4, 1, 1, 1)
    made = by_image(edited, 4.0, 2)(x, torch.tensor([7.0, 8.0, 7.0, 8.0]), Moment(0, 0))
    assert made.clean.flatten().tolist() == [9.0, 9.0, 16.0, 26.0]
    assert seen == [([5.0, 6.0] * 3, [7.0, 8.0] * 3)]


def test_the_infotext_says_it_and_makes_it_again(inpainting: Engine, editing: Engine, images: dict[str, str]) -> None:
    (edited,) = editing.generate(request(image=images["image"], image_cfg_scale=1.5))
    (masked,) = inpainting.generate(request(**images, conditional_mask_weight=1.0))
    assert ", Image CFG scale: 1.5, " in edited.infotext
    assert ", Conditional mask weight: 1.0, " in masked.infotext
    assert "Image CFG scale" not in masked.infotext
    for engine, made in ((editing, edited), (inpainting, masked)):
        own = {name: path for name, path in images.items() if engine is inpainting or name == "image"}
        again = engine.generate(to_request(read(made.infotext), {**own, "model": "tiny"}))
        assert again[0].image.tobytes() == made.image.tobytes()


def test_what_they_need_is_asked_for(inpainting: Engine, editing: Engine, images: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="this is an editing model, which changes an image: give --image"):
        editing.generate(request())
    with pytest.raises(BadInput, match="this is an inpainting model: give --mask, or generate without --image"):
        inpainting.generate(request(image=images["image"]))
    assert inpainting.generate(request())[0].image.size == (64, 64)
    grown = inpainting.generate(request(image=images["image"], outpaint="left=32", steps=1))[0].image
    assert grown.size == (96, 64)
