"""ControlNets of Stable Diffusion 3 in a request: their folders by name, the encoder of hints, several at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_sd3
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.write import write_diffusers
from atelier.models.vae import AutoencoderKL
from atelier.request.model import Request
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.runtime.workers.catalogue import listed
from atelier.weights.hashes import HashCache
from weights_support import fill

diffusers: Any = pytest.importorskip("diffusers", reason="the reference extra is not installed")
CPU = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=None)


def control(model: Path, folder: Path, layers: int) -> None:
    own = json.loads((model / "transformer" / "config.json").read_text())
    names = (
        "sample_size", "patch_size", "in_channels", "attention_head_dim", "num_attention_heads", "qk_norm",
        "joint_attention_dim", "caption_projection_dim", "pooled_projection_dim", "out_channels",
        "pos_embed_max_size", "dual_attention_layers",
    )  # fmt: skip
    net = fill(diffusers.SD3ControlNetModel(num_layers=layers, **{name: own[name] for name in names}))
    net.save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_diffusers(tiny_sd3.modules(), folder / "sd3")
    for name, layers in (("sd3-canny", 1), ("sd3-depth", 3)):
        control(folder / "sd3", folder / "ControlNet" / name, layers)
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (64, 64, 3), np.uint8)).save(folder / "hint.png")
    return folder


def asked(folder: Path, *types: str) -> Request:
    controls = tuple(f"{own}:{folder / 'hint.png'} annotator=none" for own in types)
    fields = {"prompt": "a cat", "model": "sd3", "steps": 2, "sampler": "Euler", "width": 64, "height": 64, "seed": 3}
    return request_of({**fields, "controls": controls})


def test_two_of_different_depth_found_by_the_names_of_their_folders(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, loaded, encoded = Engine(CPU, Library((folder,)), HashCache(), version="1", budget=2**30), [], []
    load, encode = Checkpoint.load, AutoencoderKL.encode

    def loading(self: Checkpoint, part: Any, *rest: Any, **how: Any) -> Any:
        loaded.append(part.name)
        return load(self, part, *rest, **how)

    def encoding(self: AutoencoderKL, image: Any, *rest: Any) -> Any:
        encoded.append(tuple(image.shape))
        return encode(self, image, *rest)

    monkeypatch.setattr(Checkpoint, "load", loading)
    monkeypatch.setattr(AutoencoderKL, "encode", encoding)
    images = {
        types: np.asarray(engine.generate(asked(folder, *types))[0].image).astype(int)
        for types in ((), ("canny",), ("depth",), ("canny", "depth"))
    }
    kinds = list(images)
    for one, other in ((kinds[i], kinds[j]) for i in range(4) for j in range(i)):
        assert abs(images[one] - images[other]).max() > 0, (one, other)
    assert loaded.count("vae") == 1, "it is lent, not read from disk beside the cache"
    assert encoded == [(1, 3, 64, 64)] * 4


def test_they_are_listed_with_their_kind(folder: Path) -> None:
    engine = Engine(CPU, Library((folder,)), HashCache(), version="1", budget=2**30)
    found: Any = listed(engine, HashCache())["controls"]
    own = {entry["name"]: entry for entry in found if str(entry["name"]).startswith("sd3")}
    assert list(own) == ["sd3-canny", "sd3-depth"]
    assert own["sd3-canny"]["more"] | {"hash": None} == {"kind": "hint", "family": "sd3", "hash": None}
