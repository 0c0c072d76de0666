"""The text that A1111 and its readers expect."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atelier.request.groups import Noise
from atelier.request.infotext import joined, quoted, read, settings, to_request, write
from atelier.request.model import ModelRef, Provenance, Request, Resolved
from atelier.request.table import flat, request_of

REQUEST = Resolved(
    asked=Request(prompt="a red apple", noise=Noise(rng="cpu")),
    prompt="a red apple",
    negative_prompt="",
    model=ModelRef(
        "v1-5-pruned-emaonly", "somewhere", "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa"
    ),
    steps=20,
    sampler="DPM++ 2M",
    scheduler="Karras",
    cfg_scale=7.0,
    seeds=(1, 2),
    variation_seeds=(0, 0),
    width=512,
    height=768,
)
LINE = (
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.0, Seed: 1, Size: 512x768, "
    "Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, "
)


def infotext(request: Resolved, picture: int, version: str) -> str:
    words = request.prompt, request.negative_prompt
    return write(settings(request, picture, words, Provenance(version, "fp32", "cpu", "torch 2.13.0")))


def test_prompt_then_line():
    first, line = infotext(REQUEST, 0, "0.1.0").split("\n")
    assert first == "a red apple"
    assert line.startswith(LINE)
    assert line.endswith("RNG: CPU, Dtype: fp32, Device: cpu, Libraries: torch 2.13.0, Version: atelier-0.1.0")


def test_each_picture_has_its_own_seed():
    assert "Seed: 2," in infotext(REQUEST, 1, "0.1.0")


def test_the_negative_prompt_has_a_line_of_its_own():
    lines = infotext(replace(REQUEST, negative_prompt="blurry\ndark"), 0, "0").split("\n")
    assert lines[:3] == ["a red apple", "Negative prompt: blurry", "dark"]


def test_without_prompts_the_line_is_all():
    assert infotext(replace(REQUEST, prompt=""), 0, "0").startswith("Steps: 20")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("abc", "abc"),
        ("a,b", '"a,b"'),
        ("a:b", '"a:b"'),
        ("a\nb", '"a\\nb"'),
        ('a"b', 'a"b'),
        ('a "b", c', '"a \\"b\\", c"'),
        ("é,ü", '"é,ü"'),
        ("Latent (nearest-exact)", "Latent (nearest-exact)"),
        (7.0, "7.0"),
        (7, "7"),
    ],
)
def test_quoting(value: object, text: str):
    assert quoted(value) == text


def test_pairs_without_a_value_are_left_out_and_equal_ones_stand_bare():
    assert joined([("A", 1), ("B", None), ("C", "C")]) == "A: 1, C"


PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""The reader of the format, from its description: a key, a colon, a quoted or comma-free value."""


@given(st.text(min_size=1).map(str.strip).filter(lambda t: t and not t.startswith('"') and t.isprintable()))
@example("Model")
@example("NULL")
@example("sd [0123456789]")
def test_any_model_name_is_read_back(name: str):
    request = replace(REQUEST, prompt="p", model=replace(REQUEST.model, name=name))
    text = infotext(request, 0, "0")
    assert to_request(read(text)).model == name
    pairs = dict(PAIR.findall(text.split("\n")[-1]))
    value = pairs.get("Model", "Model")  # a value that is its key stands alone, as A1111 writes it
    assert (json.loads(value) if value.startswith('"') else value.strip()) == name
    assert pairs["Seed"] == "1"
    assert pairs["Size"] == "512x768"


def test_unipc_is_painted_as_it_was():
    text = "x\nSteps: 20, Sampler: UniPC, Seed: 1, UniPC variant: bh2, UniPC skip type: logSNR, UniPC order: 2"
    found = to_request(read(text))
    assert (found.scheduler, found.sampling.unipc_variant, found.sampling.unipc_order) == ("logSNR", "bh2", 2)


def test_every_option_is_said_and_read_back():
    fields = dict(  # noqa: C408 - names of fields
        prompt="a {b|c}",
        negative_prompt="d",
        emphasis="No norm",
        clip_skip=2,
        old_timelines=True,
        variation_strength=0.25,
        seed_resize=(512, 640),
        ensd=31337,
        cfg_rescale=0.7,
        skip_early_cfg=0.1,
        ngms=1.5,
        ngms_all_steps=True,
        eta=0.5,
        eta_ddim=0.25,
        s_churn=10,
        s_tmin=0.5,
        s_tmax=20,
        s_noise=1.01,
        sigma_min=0.05,
        sigma_max=12,
        rho=5,
        discard_penultimate_sigma=True,
        sgm_noise_multiplier=True,
        denoising_strength=0.6,
        hires_upscale=1.75,
        hires_steps=10,
        hires_upscaler="R-ESRGAN 4x+",
        hires_resize=(1024, 1024),
        hires_prompt="x",
        hires_sampler="Euler",
        hires_scheduler="Karras",
        hires_cfg_scale=4,
        rng="nv",
        downcast_alphas=True,
        noise_schedule="Zero Terminal SNR",
    )
    asked = request_of(fields)
    request = replace(REQUEST, asked=asked, prompt=asked.prompt, negative_prompt="d", variation_seeds=(5, 6))
    provenance = Provenance("1", "fp32", "cpu", "torch 2.13.0")
    text = write(settings(request, 1, ("a b", "d"), provenance))
    found = to_request(read(text))
    left = {"prompt", "model", "seed", "variation_seed", "choices", "steps", "sampler", "scheduler", "cfg_scale"}
    left |= {"width", "height", "model_hash"}
    got, wanted = flat(found), flat(asked)
    assert {name: got[name] for name in got.keys() - left} == {name: wanted[name] for name in wanted.keys() - left}
    assert (found.prompt, found.seed, got["variation_seed"], got["choices"]) == ("a b", 2, 6, False)
    assert "Template: a {b|c}" in text
