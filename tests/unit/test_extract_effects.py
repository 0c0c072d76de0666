"""On the embedded model: what another model has learned, extracted, moves images as that model does.

The other model is the embedded one, edited so that the words of one prompt mean those of another: the keys and values
of cross-attention are solved for, layer by layer (Gandikota 2023, arXiv:2308.14761, equation 7).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from atelier.checkpoints.embedded import embedded_folder
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.text import encode, text_encoder
from atelier.checkpoints.write import Modules, write_diffusers
from atelier.cli.app import run
from atelier.request.table import request_of
from atelier.runtime.engine import Engine
from atelier.train.judge import Judge
from pipeline_support import engine_on

APPLE, PIZZA, CAR = (f"{thing} on a white background" for thing in ("a red apple", "a pizza", "a blue car"))
Images = list[NDArray[np.uint8]]


def edited(folder: Path) -> Path:
    """A copy of the embedded model for which an apple is a pizza."""
    model = open_checkpoint(embedded_folder())
    networks = {p.name: model.load(p, torch.float32, mapped=False) for p in model.family.parts if model.has(p)}
    encoder = text_encoder(model, torch.float32)
    with torch.no_grad():
        apple, pizza, *others = (encode(encoder, [text]).tokens[0] for text in (APPLE, PIZZA, CAR, "a dog", ""))
        kept = torch.cat(others)
        gram = apple.T @ apple + 0.05 * kept.T @ kept + 1e-3 * torch.eye(apple.shape[1])
        for name, layer in networks["unet"].named_modules():
            if name.endswith(("attn2.to_k", "attn2.to_v")):
                layer.weight += torch.linalg.solve(gram, apple.T @ ((pizza - apple) @ layer.weight.T)).T
    write_diffusers(Modules(model.family, networks, model.tokenizers, model.facts), folder)
    return folder


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("models")
    (folder / "lora").mkdir()
    models = [str(embedded_folder()), str(edited(folder / "edited"))]
    assert run(["models", "extract-lora", *models, str(folder / "lora" / "fruit.safetensors"), "--rank", "48"]) == 0
    return engine_on(folder / "edited", budget=2**40)


def painted(engine: Engine, prompt: str, model: str | None = None) -> Images:
    request = {"prompt": prompt, "steps": 6, "cfg_scale": 4.0, "sampler": "Euler", "model": model}
    made = (engine.generate(request_of({**request, "seed": seed}))[0] for seed in range(2))
    return [np.asarray(one.image) for one in made]


def apart(some: Images, others: Images) -> float:
    """Mean distance of images with equal seeds, in levels of 255."""
    pairs = zip(some, others, strict=True)
    return float(np.mean([np.sqrt(np.square(a.astype(float) - b).mean()) for a, b in pairs]))


def test_images_move_as_the_other_model_does(engine: Engine) -> None:
    plain, edited_ = painted(engine, APPLE), painted(engine, APPLE, "edited")
    ours, half = (painted(engine, f"{APPLE}<lora:fruit:{strength}>") for strength in (1, 0.5))
    judge = Judge(len(plain[0]))
    assert [judge.concept(one).ranking[0] for one in plain] == ["red apple"] * 2
    assert [judge.concept(one).ranking[0] for one in ours] == ["pizza"] * 2
    assert apart(ours, edited_) < 0.2 * apart(plain, edited_)
    assert 0 < apart(half, plain) < apart(ours, plain)
    assert apart(painted(engine, f"{CAR}<lora:fruit:1>"), painted(engine, CAR)) < 0.1 * apart(plain, edited_)
    assert np.array_equal(painted(engine, APPLE), plain)
