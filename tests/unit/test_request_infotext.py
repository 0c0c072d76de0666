"""The text that A1111 and its readers expect."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from atelier.errors import BadInput
from atelier.request.infotext import joined, pixel_hash, quoted, read, settings, to_request, write
from atelier.request.infotext.request import interpret
from atelier.request.model import Provenance
from atelier.request.resolved import Resolved, SaidSize, SampleSettings, Size
from atelier.request.table import flat
from resolved_support import PROVENANCE, RESOLVED, SAMPLING, changed, said

LINE = (
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.0, Seed: 1, Size: 512x768, "
    "Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, "
)


ENDING = "RNG: CPU, Dtype: fp32, Device: cpu, Libraries: torch 2.13.0, Version: atelier-0.1.0"


def infotext(resolved: Resolved, index: int = 0, provenance: Provenance = PROVENANCE) -> str:
    return write(settings(resolved, index, SAMPLING, provenance))


def test_prompt_then_line():
    first, line = infotext(RESOLVED).split("\n")
    assert first == "a red apple"
    assert line == LINE + ENDING  # and nothing for what is usual


def test_each_picture_has_its_own_seed():
    assert "Seed: 2," in infotext(RESOLVED, 1)


def test_the_negative_prompt_has_a_line_of_its_own():
    lines = infotext(said(RESOLVED, "a red apple", "blurry\ndark")).split("\n")
    assert lines[:3] == ["a red apple", "Negative prompt: blurry", "dark"]


def test_without_prompts_the_line_is_all():
    assert infotext(said(RESOLVED, "")).startswith("Steps: 20")


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
    text = infotext(changed(RESOLVED, model__name=name))
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


def test_an_order_of_unipc_that_cannot_be_reckoned_is_refused_and_can_be_changed():
    found = read("x\nSteps: 20, Sampler: UniPC, Seed: 1, UniPC order: 13")
    assert interpret(found).settings.unipc_order == 13, "it is shown"
    with pytest.raises(BadInput, match=r"unipc_order.*13.*1 to 12"):
        to_request(found)
    assert to_request(found, {"unipc_order": 12}).sampling.unipc_order == 12


# A1111's keys, and Atelier's own for what A1111 cannot do, as they are written
SAID = {
    "sampling__eta": (0.5, "Eta: 0.5"),
    "sampling__s_churn": (10.0, "Sigma churn: 10.0"),
    "sampling__s_tmin": (0.5, "Sigma tmin: 0.5"),
    "sampling__s_tmax": (20.0, "Sigma tmax: 20.0"),
    "sampling__s_noise": (1.01, "Sigma noise: 1.01"),
    "sampling__sigma_min": (0.05, "Schedule min sigma: 0.05"),
    "sampling__sigma_max": (12.0, "Schedule max sigma: 12.0"),
    "sampling__rho": (5.0, "Schedule rho: 5.0"),
    "sampling__alpha": (0.8, "Beta schedule alpha: 0.8"),
    "sampling__beta": (1.4, "Beta schedule beta: 1.4"),
    "sampling__order": (2, "UniPC order: 2"),
    "sampling__variant": ("bh2", "UniPC variant: bh2"),
    "sampling__lower_order_final": (False, "UniPC lower order final: False"),
    "sampling__discard_penultimate": (True, "Discard penultimate sigma: True"),
    "sampling__downcast": (True, "Downcast alphas_cumprod: True"),
    "sampling__zero_terminal": (True, "Noise Schedule: Zero Terminal SNR"),
    "guidance__rescale": (0.7, "CFG rescale: 0.7"),
    "guidance__skip_early": (0.1, "Skip Early CFG: 0.1"),
    "guidance__ngms": (1.5, "NGMS: 1.5"),
    "guidance__ngms_all_steps": (True, "NGMS all steps: True"),
    "guidance__apg_eta": (0.5, "APG eta: 0.5"),
    "guidance__apg_norm_threshold": (15.0, "APG norm threshold: 15.0"),
    "guidance__apg_momentum": (-0.5, "APG momentum: -0.5"),
    "guidance__perp_neg_scale": (1.5, "Perp-Neg scale: 1.5"),
    "guidance__slg_scale": (2.5, "SLG scale: 2.5"),
    "guidance__cfg_interval_low": (0.3, "CFG interval low sigma: 0.3"),
    "guidance__cfg_interval_high": (5.0, "CFG interval high sigma: 5.0"),
    "guidance__clip_guidance_scale": (100.0, "CLIP guidance scale: 100.0"),
    "noise__resized_from": (SaidSize(size=Size(640, 384)), "Seed resize from: 640x384"),
    "noise__seed_delta": (31337, "ENSD: 31337"),
    "noise__unit_start": (True, "SGM noise multiplier: True"),
    "prompting__clip_skip": (2, "Clip skip: 2"),
    "prompting__emphasis": ("No norm", "Emphasis: No norm"),
    "prompting__old_timelines": (True, "Old prompt editing timelines: True"),
    "prompting__prompt": ("a {red|green} apple", "Template: a {red|green} apple"),
    "prompting__negative_prompt": ("__bad__", "Negative Template: __bad__"),
    "batch_size": (2, "Batch size: 2"),
}


def pairs(text: str) -> list[str]:
    return text.rsplit("\n", maxsplit=1)[-1].split(", ")


@pytest.mark.parametrize("name", SAID)
def test_what_is_unusual_is_said_once_under_its_key(name: str):
    value, pair = SAID[name]
    found = pairs(infotext(changed(RESOLVED, **{name: value})))
    usual = pairs(infotext(RESOLVED))
    assert [p for p in found if p not in usual] == [pair]
    assert [p for p in found if p != pair] == usual


# guidances with a switch: all that belongs to one is said where it is on, and nothing where it is off
SWITCHED = {
    "PAG Active: True, PAG Scale: 3.0, PAG layers: middle": {"pag_scale": 3.0},
    "PAG Active: True, PAG Scale: 3.0, PAG layers: up.1": {"pag_scale": 3.0, "pag_layers": "up.1"},
    "sag_enabled: True, sag_scale: 0.5, sag_blur_sigma: 2.0": {"sag_scale": 0.5},
    "sag_enabled: True, sag_scale: 0.5, sag_blur_sigma: 1.0": {"sag_scale": 0.5, "sag_blur_sigma": 1.0},
    "Dynamic thresholding enabled: True, Mimic scale: 7.0, Threshold percentile: 100.0": {"mimic_scale": 7.0},
    "Dynamic thresholding enabled: True, Mimic scale: 7.0, Interpolate Phi: 0.5, Threshold percentile: 99.0": {
        "mimic_scale": 7.0,
        "mimic_phi": 0.5,
        "mimic_percentile": 99.0,
    },
    "freeu_enabled: True, freeu_b1: 1.0, freeu_b2: 1.0, freeu_s1: 1.0, freeu_s2: 0.2": {"freeu_s2": 0.2},
    "freeu_enabled: True, freeu_b1: 1.5, freeu_b2: 1.0, freeu_s1: 1.0, freeu_s2: 1.0, FreeU Version: diffusers": {
        "freeu_b1": 1.5,
        "freeu_version": "diffusers",
    },
}


@pytest.mark.parametrize("said", SWITCHED)
def test_a_guidance_is_said_whole_and_read_back(said: str):
    text = infotext(changed(RESOLVED, **{f"guidance__{name}": value for name, value in SWITCHED[said].items()}))
    assert [p for p in pairs(text) if p not in pairs(infotext(RESOLVED))] == said.split(", ")
    asked = flat(to_request(read(text)))
    assert {name: asked[name] for name in SWITCHED[said]} == SWITCHED[said]


@pytest.mark.parametrize("said", SWITCHED)
def test_a_guidance_that_is_said_to_be_off_is_none(said: str):
    text = f"x\nSteps: 20, Sampler: Euler, Seed: 1, {said.replace('True', 'False')}"
    assert to_request(read(text)).guidance == to_request(read("x\nSteps: 20, Sampler: Euler, Seed: 1")).guidance


@pytest.mark.parametrize(("source", "said"), [("portable", "RNG: portable"), ("cpu", "RNG: CPU"), ("nv", "RNG: NV")])
def test_the_source_of_noise_is_said_always(source: str, said: str):
    assert said in pairs(infotext(changed(RESOLVED, noise__source=source)))


@pytest.mark.parametrize("sampler", ["DDIM", "DDIM CFG++"])
def test_the_eta_of_the_ddim_kind_has_a_key_of_its_own(sampler: str):
    own = SAMPLING.model_copy(update={"sampler": sampler, "eta": 0.0})
    asked = changed(RESOLVED, sampling=own.model_copy(update={"eta": 0.3}))
    found = pairs(write(settings(asked, 0, own, PROVENANCE)))
    assert "Eta DDIM: 0.3" in found
    assert not any(p.startswith("Eta: ") for p in found)
    silent = write(settings(changed(RESOLVED, sampling=own), 0, own, PROVENANCE))
    assert "Eta" not in silent


def test_an_eta_of_0_is_said_where_it_is_unusual():
    assert "Eta: 0.0" in pairs(infotext(changed(RESOLVED, sampling__eta=0.0)))


def test_a_variation_is_said_with_the_seed_of_each_image():
    samples = tuple(
        SampleSettings(seed=5, variation_seed=9 + i, prompt="a red apple", negative_prompt="", regions=())
        for i in range(2)
    )
    varied = changed(RESOLVED, samples=samples, noise__variation_strength=0.25)
    for index, wanted in enumerate(("Variation seed: 9", "Variation seed: 10")):
        found = pairs(infotext(varied, index))
        assert [p for p in found if "ariation" in p] == [wanted, "Variation seed strength: 0.25"]
        assert "Seed: 5" in found
    assert "ariation" not in infotext(changed(varied, noise__variation_strength=0.0))


def test_everything_at_once_is_one_line_in_a1111s_order():
    everything = changed(RESOLVED, **{name: value for name, (value, _) in SAID.items()})
    text = infotext(changed(everything, noise__variation_strength=0.25))
    assert text == (
        "a red apple\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.0, CFG rescale: 0.7, Seed: 1, "
        "Size: 512x768, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Variation seed: 0, "
        "Variation seed strength: 0.25, Seed resize from: 640x384, Clip skip: 2, ENSD: 31337, RNG: CPU, NGMS: 1.5, "
        "Eta: 0.5, Sigma churn: 10.0, Sigma tmin: 0.5, Sigma tmax: 20.0, Sigma noise: 1.01, Schedule min sigma: 0.05, "
        "Schedule max sigma: 12.0, Schedule rho: 5.0, Discard penultimate sigma: True, SGM noise multiplier: True, "
        "Beta schedule alpha: 0.8, Beta schedule beta: 1.4, UniPC variant: bh2, UniPC order: 2, "
        "UniPC lower order final: False, NGMS all steps: True, Skip Early CFG: 0.1, CFG interval low sigma: 0.3, "
        "CFG interval high sigma: 5.0, APG eta: 0.5, APG norm threshold: 15.0, APG momentum: -0.5, "
        "Perp-Neg scale: 1.5, SLG scale: 2.5, CLIP guidance scale: 100.0, Emphasis: No norm, "
        "Old prompt editing timelines: True, Downcast alphas_cumprod: True, Noise Schedule: Zero Terminal SNR, "
        "Template: a {red|green} apple, Negative Template: __bad__, Batch size: 2, "
        "Dtype: fp32, Device: cpu, Libraries: torch 2.13.0, Version: atelier-0.1.0"
    )


# the same lines read: what a request asks for then
ASKED: Mapping[str, tuple[str, object]] = {
    "Eta: 0.5": ("eta", 0.5),
    "Eta DDIM: 0.3": ("eta_ddim", 0.3),
    "Sigma churn: 10.0": ("s_churn", 10.0),
    "Sigma tmin: 0.5": ("s_tmin", 0.5),
    "Sigma tmax: 20.0": ("s_tmax", 20.0),
    "Sigma noise: 1.01": ("s_noise", 1.01),
    "Schedule min sigma: 0.05": ("sigma_min", 0.05),
    "Schedule max sigma: 12.0": ("sigma_max", 12.0),
    "Schedule rho: 5.0": ("rho", 5.0),
    "Beta schedule alpha: 0.8": ("beta_alpha", 0.8),
    "Beta schedule beta: 1.4": ("beta_beta", 1.4),
    "UniPC order: 2": ("unipc_order", 2),
    "UniPC variant: bh2": ("unipc_variant", "bh2"),
    "UniPC lower order final: False": ("unipc_lower_order_final", False),
    "Discard penultimate sigma: True": ("discard_penultimate_sigma", True),
    "Downcast alphas_cumprod: True": ("downcast_alphas", True),
    "Noise Schedule: Zero Terminal SNR": ("noise_schedule", "Zero Terminal SNR"),
    "CFG rescale: 0.7": ("cfg_rescale", 0.7),
    "Skip Early CFG: 0.1": ("skip_early_cfg", 0.1),
    "NGMS: 1.5": ("ngms", 1.5),
    "NGMS all steps: True": ("ngms_all_steps", True),
    "APG eta: 0.5": ("apg_eta", 0.5),
    "APG norm threshold: 15.0": ("apg_norm_threshold", 15.0),
    "APG momentum: -0.5": ("apg_momentum", -0.5),
    "Perp-Neg scale: 1.5": ("perp_neg_scale", 1.5),
    "SLG scale: 2.5": ("slg_scale", 2.5),
    "CFG interval low sigma: 0.3": ("cfg_interval_low", 0.3),
    "CFG interval high sigma: 5.0": ("cfg_interval_high", 5.0),
    "CLIP guidance scale: 100.0": ("clip_guidance_scale", 100.0),
    "SAG Guidance Scale: 0.5": ("sag_scale", 0.5),
    "Seed resize from: 640x384": ("seed_resize", (640, 384)),
    "ENSD: 31337": ("ensd", 31337),
    "SGM noise multiplier: True": ("sgm_noise_multiplier", True),
    "Clip skip: 2": ("clip_skip", 2),
    "Emphasis: No norm": ("emphasis", "No norm"),
    "Old prompt editing timelines: True": ("old_timelines", True),
    "Variation seed: 9": ("variation_seed", 9),
    "Variation seed strength: 0.25": ("variation_strength", 0.25),
    "RNG: CPU": ("rng", "cpu"),
    "RNG: NV": ("rng", "nv"),
    "Denoising strength: 0.6": ("denoising_strength", 0.6),
    "Hires upscale: 1.75": ("hires_upscale", 1.75),
    "Hires resize: 640x384": ("hires_resize", (640, 384)),
    "Hires steps: 10": ("hires_steps", 10),
    "Hires upscaler: R-ESRGAN 4x+": ("hires_upscaler", "R-ESRGAN 4x+"),
    "Hires sampler: Euler": ("hires_sampler", "Euler"),
    "Hires prompt: x": ("hires_prompt", "x"),
    "Hires negative prompt: y": ("hires_negative_prompt", "y"),
    "Hires CFG Scale: 4.0": ("hires_cfg_scale", 4.0),
}


@pytest.mark.parametrize("pair", ASKED)
def test_a_key_that_is_read_asks_for_its_field_and_no_other(pair: str):
    field, value = ASKED[pair]
    usual, found = (
        flat(to_request(read(f"x\nSteps: 20, Sampler: Euler, Seed: 1{more}, Version: atelier-1")))
        for more in ("", f", {pair}")
    )
    assert found[field] == value
    assert {name for name in found if found[name] != usual.get(name)} <= {field}


def test_every_option_that_is_said_is_read_back():
    missing = {pair for _, pair in SAID.values()} - ASKED.keys()
    assert missing == {"Template: a {red|green} apple", "Negative Template: __bad__", "Batch size: 2"}


def test_a_canvas_that_grows_has_the_size_that_follows_from_its_image():
    plain = read("x\nSteps: 20, Sampler: Euler, Seed: 1, Size: 512x768, Denoising strength: 0.5")
    grown = read("x\nSteps: 20, Sampler: Euler, Seed: 1, Size: 512x768, Outpaint: left=64")
    for found, changes in ((plain, {"image": "a.png", "outpaint": "left=64"}), (grown, {"image": "a.png"})):
        asked = to_request(found, changes)
        assert (asked.width, asked.height) == (None, None)
        assert to_request(found, {**changes, "width": 576}).width == 576
    assert to_request(grown).width == 512
    assert to_request(plain, {"image": "a.png"}).width == 512


def test_a_pixel_hash_is_of_size_and_pixels():
    """Six black pixels, as sha256sum says of the text `2x3:` and 18 zero bytes."""
    hashes = {
        (2, 3): "2ecec42c1a2e1f2a41760e6700c904aa871fff151c0c48cb84c513b9f1e9a31b",
        (3, 2): "543d80cbbc1c30667c1dc9df4e90b058b4b5a9606ace8b9d3fc1085e8e9e5c7d",
    }
    for size, wanted in hashes.items():
        assert pixel_hash(Image.new("RGB", size)) == wanted
        assert pixel_hash(Image.new("RGBA", size, (0, 0, 0, 255))) == wanted
    assert pixel_hash(Image.new("RGB", (2, 3), (9, 9, 9))) != hashes[2, 3]
