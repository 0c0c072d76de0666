"""What guidances do to the images of the embedded model: the direction of one effect each, without CFG."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from atelier.checkpoints.text import encode
from atelier.compose import engine as standard
from atelier.pipeline.resources import IMAGE_TEXT, TEXT
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.hashes import HashCache

PROMPTS = ("a red apple", "a cat on a blue background", "a snowman on a red background", "a calendar", "a guitar")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return standard(device="cpu")


def pixels(engine: Engine, **fields: object) -> Tensor:
    """(prompts, 3, H, W) in [-1, 1]."""
    asked = [request_of({"prompt": p, "seed": 1, "steps": 6, "cfg_scale": 1, **fields}) for p in PROMPTS]
    images = [np.asarray(engine.generate(request)[0].image) for request in asked]
    return torch.tensor(np.stack(images)).float().permute(0, 3, 1, 2) / 127.5 - 1


@pytest.fixture(scope="module")
def plain(engine: Engine) -> Tensor:
    return pixels(engine)


@pytest.fixture(scope="module")
def likeness(engine: Engine) -> Callable[[Tensor], Tensor]:
    """How much each image is like its prompt, by the model's own CLIP."""
    model = engine.resolve(request_of({"prompt": "x"})).model
    with engine.resources.borrow(model, TEXT) as text, engine.resources.borrow(model, IMAGE_TEXT) as judge:
        pooled = encode(text, PROMPTS).pooled
        assert pooled is not None
        return lambda images: judge.similarity(images, pooled)


def test_clip_guidance_makes_images_more_like_their_prompts(
    engine: Engine, plain: Tensor, likeness: Callable[[Tensor], Tensor]
) -> None:
    """Measured: 0.040 more on average."""
    better = likeness(pixels(engine, clip_guidance_scale=100)) - likeness(plain)
    assert float(better.mean()) > 0.01


def test_clip_guidance_goes_with_views_of_a_batch() -> None:
    """Four views of two samples in one call: each view is scored by the prompt of its own sample."""
    device = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=None)
    together = Engine(device, Library(()), HashCache(), version="1", budget=2**30)
    fields = {"prompt": "{a red apple|a snowman} on the left", "steps": 2, "cfg_scale": 1, "width": 128, "height": 128}
    fields |= {"seed": 5, "clip_guidance_scale": 1000}
    fields |= {"view_method": "multidiffusion", "view_width": 80, "view_height": 80, "view_overlap": 16}
    both = together.generate(request_of({**fields, "batch_size": 2}))
    alone = together.generate(request_of({**fields, "batch_count": 2}))
    assert both[0].infotext.partition("\n")[0] != both[1].infotext.partition("\n")[0]
    for one, other in zip(both, alone, strict=True):
        assert int(np.abs(np.asarray(one.image, np.int16) - np.asarray(other.image, np.int16)).max()) <= 2


def fine(images: Tensor) -> float:
    """How much images differ from themselves under a blur of 3 x 3 pixels, on average."""
    blurred = torch.nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    return float((images - blurred).std((1, 2, 3)).mean())


def test_perturbed_attention_guidance_adds_structure(engine: Engine, plain: Tensor) -> None:
    """Neighbouring pixels differ more in every image, by 0.39 to 0.98 of 127.5. By itself PAG takes down.1, where it
    does little here: the network's middle sees 4x4 positions."""

    def differences(images: Tensor) -> Tensor:
        return images.diff(dim=-1).abs().mean((1, 2, 3)) * 127.5

    assert engine.resolve(request_of({"prompt": "x", "pag_scale": 20})).guidance.pag_layers == "down.1"
    more = differences(pixels(engine, pag_scale=0.5, pag_layers="up.1")) - differences(plain)
    assert float(more.min()) > 0.1


def test_self_attention_guidance_smooths_what_is_looked_at(engine: Engine, plain: Tensor) -> None:
    """The clean prediction moves to where it is blurred. Measured: from 0.0541 to 0.0528."""
    assert fine(pixels(engine, sag_scale=0.75, sag_blur_sigma=1.0)) < 0.995 * fine(plain)


def test_freeu_sharpens(engine: Engine, plain: Tensor) -> None:
    """Measured: from 0.0541 to 0.0592."""
    assert fine(pixels(engine, freeu_b1=1.3, freeu_b2=1.4, freeu_s1=0.9, freeu_s2=0.2)) > 1.05 * fine(plain)
