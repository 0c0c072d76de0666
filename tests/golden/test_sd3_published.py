"""Published files of Stable Diffusion 3 and 3.5, as headers over nothing: recognised, every tensor has its place."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.report import report
from atelier.errors import BadFile
from atelier.families.facts import NO_FACTS
from atelier.families.family import Family
from atelier.families.part import PartSpec
from atelier.families.sd3 import SD3
from atelier.families.shapes import Shapes
from atelier.models.clip import TextSpec
from atelier.models.mmdit import MMDiTSpec
from atelier.models.t5 import T5Spec
from atelier.models.vae import VaeSpec
from atelier.weights.archive import Stored, open_file
from atelier.weights.load import match
from key_lists import key_list

SD3_VAE = 83_819_683
"""Parameters of the autoencoder of 16 channels."""


def hollow(path: Path, keys: dict[str, tuple[int, ...]]) -> Path:
    """A safetensors file in half precision whose tensors take no room on the disk."""
    header: dict[str, object] = {}
    end = 0
    for name, shape in keys.items():
        begin, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


def _part(family: Family, name: str) -> PartSpec[Any, Any]:
    part = family.part(name)
    assert part is not None
    return part


def _matched(model: Checkpoint) -> dict[str, int]:
    """How many tensors of each part have a name; raises for one that is left over or missing."""
    counts: dict[str, int] = {}
    for name, stored in model.parts.items():
        part = _part(model.family, name)
        counts[name] = len(set(match(stored, part.network.names(model.spec(part))).values()))
    return counts


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("published")


def test_medium_with_all_text_encoders(shelf: Path) -> None:
    model = open_checkpoint(hollow(shelf / "sd3_medium.safetensors", key_list("sd3_medium_comfy")))
    assert model.family.name == "sd3"
    assert _matched(model) == {"transformer": 491, "vae": 244, "text": 196, "text2": 517, "t5": 219}
    specs = {name: model.spec(_part(model.family, name)) for name in model.parts}
    assert specs == {
        "transformer": MMDiTSpec(),
        "vae": VaeSpec(latent=16, quant_conv=False),
        "text": TextSpec(projection=768),
        "text2": TextSpec(width=1280, layers=32, heads=20, mlp=5120, act="gelu", projection=1280),
        "t5": T5Spec(),
    }
    said = report(model)
    assert (said.family, said.prediction, said.size, said.latent_channels) == ("sd3", "flow", 1024, 16)
    assert (said.latent_scale, said.latent_shift, said.context) == (1.5305, 0.0609, 4096)
    assert said.parts["vae"].parameters == SD3_VAE
    assert set(model.ignored) == {
        "model.model_sampling.sigmas",
        "text_encoders.clip_g.logit_scale",
        "text_encoders.clip_l.logit_scale",
        "text_encoders.clip_l.transformer.text_projection.weight",
        "text_encoders.t5xxl.logit_scale",
    }


def test_medium_with_nothing_but_the_network_and_the_autoencoder(shelf: Path) -> None:
    keys = {name: shape for name, shape in key_list("sd3_medium_comfy").items() if not name.startswith("text_enc")}
    model = open_checkpoint(hollow(shelf / "bare.safetensors", keys))
    assert (model.family.name, model.towers) == ("sd3", ())
    assert _matched(model) == {"transformer": 491, "vae": 244}


def test_large(shelf: Path) -> None:
    model = open_checkpoint(hollow(shelf / "sd3.5_large.safetensors", key_list("sd35_large_sai")))
    assert _matched(model) == {"transformer": 923, "vae": 244}
    large = MMDiTSpec(width=2432, depth=38, heads=38, qk_norm=True)
    assert model.spec(_part(model.family, "transformer")) == large
    assert model.defaults.steps == 28


@pytest.mark.parametrize(
    ("listed", "named"),
    [
        ("sd35_medium_transformer_diffusers", "transformer"),
        ("vae_sd3_diffusers", "vae"),
        ("text_encoder_clip_l_hf", "text"),
        ("text_encoder_clip_g_hf", "text2"),
        ("text_encoder_t5xxl", "t5"),
    ],
)
def test_the_parts_of_published_folders(listed: str, named: str, shelf: Path) -> None:
    part = _part(SD3, named)
    path = hollow(shelf / f"{listed}.safetensors", key_list(listed))
    stored = Stored(open_file(path), "diffusers", "", SD3.single.tolerated)
    names = part.network.names(part.network.infer(Shapes.of(stored), NO_FACTS))
    assert set(match(stored, names).values()) == stored.shapes().keys()


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("sd35_medium_transformer_diffusers", "is a denoiser alone of Stable Diffusion 3: name what it lacks"),
        ("text_encoder_t5xxl", "is a text encoder alone of Stable Diffusion 3, and no whole checkpoint"),
    ],
)
def test_parts_alone_are_named(listed: str, said: str, shelf: Path) -> None:
    with pytest.raises(BadFile, match=said):
        open_checkpoint(hollow(shelf / f"{listed}.safetensors", key_list(listed)))
