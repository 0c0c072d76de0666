"""What every guidance must do: nothing where it is neutral, something where it is not, no change of timelines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from atelier.compose import engine as standard
from atelier.diffusion.catalogue import guidances
from atelier.diffusion.guidance.spec import GuidanceSpec
from atelier.errors import BadInput
from atelier.nn.ports import AttentionLayer, Conditioning, Ports
from atelier.request.table import FIELDS, request_of
from atelier.runtime.engine import Engine
from pipeline_support import TOGETHER, Lending, Letters, Watched, engine_on, happened, planned, request

SPECS = [pytest.param(spec, id=name) for name, spec in guidances().items()]
ALONE = [pytest.param(spec, id=name) for name, spec in guidances().items() if spec.needs <= {"U-Net"}]
"""Those that a model of three networks, one of them a U-Net, can be guided with."""
PROMPTS: Mapping[str, object] = {"prompt": "[a:b:1]", "negative_prompt": "[n|m]", "sampler": "Euler", "steps": 4}


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> Engine:
    return engine_on(tiny_folder, budget=2**40)


@pytest.fixture(scope="module")
def embedded() -> Engine:
    return standard(device="cpu")


def made(engine: Engine, **fields: object) -> list[bytes]:
    return [image.image.tobytes() for image in engine.generate(request(**fields))]


def test_there_are_nine() -> None:
    assert sorted(guidances()) == [
        *("APG", "CFG interval", "CLIP guidance", "Dynamic thresholding", "FreeU", "PAG", "Perp-Neg", "SAG", "SLG"),
    ]


@pytest.mark.parametrize("spec", SPECS)
def test_its_settings_are_fields(spec: GuidanceSpec) -> None:
    assert spec.neutral.keys() | spec.usual.keys() <= FIELDS.keys()
    for name, neutral in spec.neutral.items():
        assert not spec.is_on(spec.neutral)
        assert spec.is_on({**spec.neutral, name: neutral + 1})
    asked = request_of({"prompt": "x"}).guidance
    assert all(getattr(asked, name) in {value, 0.0} for name, value in spec.neutral.items()), "off is the default"


@pytest.mark.parametrize("spec", ALONE)
def test_neutral_is_absent_bit_for_bit_and_usual_is_not(tiny: Engine, spec: GuidanceSpec) -> None:
    plain = made(tiny, negative_prompt="dog", cfg_scale=7)
    assert made(tiny, negative_prompt="dog", cfg_scale=7, **spec.neutral) == plain
    assert made(tiny, negative_prompt="dog", cfg_scale=7, **spec.usual) != plain


def test_clip_guidance_is_absent_where_it_is_neutral(embedded: Engine) -> None:
    fields = {"model": "embedded", "steps": 2, "prompt": "a red apple"}
    plain, spec = made(embedded, **fields), guidances()["CLIP guidance"]
    assert made(embedded, **fields, **spec.neutral) == plain
    assert made(embedded, **fields, **spec.usual) != plain


def attending(x: Tensor, t: Tensor, cond: Conditioning, ports: Ports) -> Tensor:
    """A network of nothing but the attentions that somebody patches, on a map of 2 x 2."""
    for path, patch in ports.attention.items():
        states, heads = torch.zeros(len(x), 4, 6), torch.zeros(len(x), 2, 4, 3)
        assert patch(AttentionLayer(path, 2, False, (2, 2)), states, heads, heads, heads, states).shape == states.shape
    return torch.zeros_like(x)


def watched(engine: Engine, **fields: object) -> Watched:
    net = Watched(attending)
    happened(
        planned(engine, **{**PROMPTS, **fields}), Lending(engine.resources, {"text": Letters, "denoiser": net.alone})
    )
    return net


@pytest.mark.parametrize("spec", ALONE)
def test_it_changes_no_timeline(tiny: Engine, spec: GuidanceSpec) -> None:
    """What it asks more of the network is of the same texts, at the same time."""
    plain, guided = watched(tiny), watched(tiny, **spec.usual)
    expected = {float(call.t[0]): {*texts} for call, texts in zip(plain.calls, plain.texts, strict=True)}
    found: dict[float, set[str]] = {}
    for call, texts in zip(guided.calls, guided.texts, strict=True):
        found.setdefault(float(call.t[0]), set()).update(texts)
    assert found.keys() == expected.keys()
    if spec.name != "CFG interval":
        assert {t: texts - {""} for t, texts in found.items()} == expected


@pytest.mark.parametrize("spec", ALONE)
def test_a_batch_changes_no_image(tiny_folder: Path, tiny: Engine, spec: GuidanceSpec) -> None:
    fields = {"batch_size": 2, "negative_prompt": "dog", "cfg_scale": 7, **spec.usual}
    one, both = made(tiny, **fields), made(engine_on(tiny_folder, device=TOGETHER), **fields)
    for alone, together in zip(one, both, strict=True):
        difference = np.frombuffer(alone, np.uint8).astype(int) - np.frombuffer(together, np.uint8)
        assert abs(difference).max() <= 2


def test_all_at_once_inside_a_mask(tiny: Engine, tmp_path: Path) -> None:
    """What the mask hides stays as it was, to the pixel."""
    source = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255
    Image.fromarray(source).save(tmp_path / "a.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    usual = {
        name: value for spec in guidances().values() if spec.needs <= {"U-Net"} for name, value in spec.usual.items()
    }
    (image,) = tiny.generate(
        request(
            image=str(tmp_path / "a.png"), mask=str(tmp_path / "m.png"), mask_blur=0, denoising_strength=0.9, **usual
        )
    )
    assert np.array_equal(np.asarray(image.image)[:, :32], source[:, :32])
    assert not np.array_equal(np.asarray(image.image)[:, 32:], source[:, 32:])


def test_a_model_without_an_image_encoder_is_not_guided_by_clip(tiny: Engine) -> None:
    way_out = "CLIP guidance needs an image encoder, which tiny has not: leave out clip_guidance_scale"
    with pytest.raises(BadInput, match=way_out):
        tiny.resolve(request(clip_guidance_scale=100))


PERTURBED = "middle.attention.blocks.0.attn1"


def test_what_the_network_is_asked(tiny: Engine) -> None:
    """Row by row: texts, and whether the middle's attention is patched."""

    def asked(**fields: object) -> list[tuple[list[str], bool, int]]:
        net = watched(tiny, steps=1, prompt="a", negative_prompt="n", **fields)
        return [(call.texts, PERTURBED in call.ports.attention, len(call.ports.skips)) for call in net.calls]

    assert asked() == [(["n", "a"], False, 0)]
    assert asked(pag_scale=3) == [(["n", "a"], False, 0), (["a"], True, 0)]
    assert asked(pag_scale=3, cfg_scale=1) == [(["a"], False, 0), (["a"], True, 0)]
    assert asked(perp_neg_scale=1) == [(["n", "a"], False, 0), ([""], False, 0)]
    assert asked(perp_neg_scale=1, cfg_scale=1) == [(["a"], False, 0)]
    assert asked(sag_scale=1) == [(["n", "a"], False, 0), (["n"], True, 0), (["n"], False, 0)]
    assert asked(freeu_b1=1.5) == [(["n", "a"], False, 4)]
    assert asked(freeu_s2=0.5, freeu_version="diffusers", pag_scale=1) == [(["n", "a"], False, 4), (["a"], True, 4)]
    assert asked(cfg_interval_high=1) == [(["a"], False, 0)]
