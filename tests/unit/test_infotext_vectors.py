"""Texts as A1111 reads them (docs/compatibility/infotexts.md)."""

from __future__ import annotations

import pytest

from atelier.request.infotext import interpret, read, to_request
from atelier.request.infotext.png_info import by_key, filled
from atelier.request.infotext.version import version_of
from atelier.request.resolved import Size

FIRST = (
    "Steps: 40, Sampler: DPM++ SDE Karras, CFG scale: 7, Seed: 2555331127, Size: 512x768, Model hash: b4201c7c37, "
    "Denoising strength: 0.6, ENSD: 31337, Hires upscale: 1.75, Hires steps: 10, Hires upscaler: R-ESRGAN 4x+"
)
SECOND = (
    "Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 3534095324, Size: 768x512, Model hash: 95afa0d9ea, "
    "Model: chilloutmix_NiPrunedFp32, Denoising strength: 0.5, Hires upscale: 2, Hires steps: 20, "
    "Hires upscaler: Latent"
)
PROMPT = (
    "(stare, realistic, lips, eyelashes:0.75), [:(detailed face:1.2):0.2], <lora:stLouisLuxuriousWheels_v1:1>,"
    r"st. louis \(luxurious wheels\) \(azur lane\)"
)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (
            FIRST,
            {
                "Prompt": "",
                "Negative prompt": "",
                "Steps": "40",
                "Sampler": "DPM++ SDE Karras",
                "CFG scale": "7",
                "Seed": "2555331127",
                "Size-1": "512",
                "Size-2": "768",
                "Model hash": "b4201c7c37",
                "Denoising strength": "0.6",
                "ENSD": "31337",
                "Hires upscale": "1.75",
                "Hires steps": "10",
                "Hires upscaler": "R-ESRGAN 4x+",
            },
        ),
        (
            f"{PROMPT}\n{SECOND}",
            {
                "Prompt": PROMPT,
                "Negative prompt": "",
                "Steps": "20",
                "Sampler": "DPM++ 2M Karras",
                "CFG scale": "7",
                "Seed": "3534095324",
                "Size-1": "768",
                "Size-2": "512",
                "Model hash": "95afa0d9ea",
                "Model": "chilloutmix_NiPrunedFp32",
                "Denoising strength": "0.5",
                "Hires upscale": "2",
                "Hires steps": "20",
                "Hires upscaler": "Latent",
            },
        ),
        (
            "cat\nSteps: 20, Sampler: Euler a, CFG scale: 7",
            {"Prompt": "cat", "Negative prompt": "", "Steps": "20", "Sampler": "Euler a", "CFG scale": "7"},
        ),
        ("a: b, c: d, e: f", {"Prompt": "a: b, c: d, e: f", "Negative prompt": ""}),
        (
            'p\nSteps: 1, Hires prompt: "a, b: c\\n\\"q\\"", Seed: 5, Size: 64x64',
            {
                "Prompt": "p",
                "Negative prompt": "",
                "Steps": "1",
                "Hires prompt": 'a, b: c\n"q"',
                "Seed": "5",
                "Size-1": "64",
                "Size-2": "64",
            },
        ),
        (
            'p\nSteps: 1, Lora hashes: "x: 0123456789ab, y: ffff00001111", TI hashes: "e: aa", Version: v1.9.4',
            {
                "Prompt": "p",
                "Negative prompt": "",
                "Steps": "1",
                "Lora hashes": "x: 0123456789ab, y: ffff00001111",
                "TI hashes": "e: aa",
                "Version": "v1.9.4",
            },
        ),
        (
            "p\nSteps: 1, Model: my,model, Seed: 5, Size: 64x64",
            {
                "Prompt": "p",
                "Negative prompt": "",
                "Steps": "1",
                "Model": "my",
                "Seed": "5",
                "Size-1": "64",
                "Size-2": "64",
            },
        ),
        (
            "p\nNegative prompt: n1\nn2\nSteps: 1, Seed: 5, Size: 64x64",
            {"Prompt": "p", "Negative prompt": "n1\nn2", "Steps": "1", "Seed": "5", "Size-1": "64", "Size-2": "64"},
        ),
        (
            "p\nSteps: 1, Empty: , Seed: 5, Size: 64x64",
            {"Prompt": "p", "Negative prompt": "", "Steps": "1", "Seed": "5", "Size-1": "64", "Size-2": "64"},
        ),
        (
            (
                "p\nSteps: 20, Sampler: Euler, Seed: 1, "
                'ControlNet 0: "Module: canny, Model: control_canny [e3fe7712], Weight: 1.0", Version: v1.10.1'
            ),
            {
                "Prompt": "p",
                "Negative prompt": "",
                "Steps": "20",
                "Sampler": "Euler",
                "Seed": "1",
                "ControlNet 0": "Module: canny, Model: control_canny [e3fe7712], Weight: 1.0",
                "Version": "v1.10.1",
            },
        ),
    ],
    ids=["P1", "P2", "P4", "P5", "P7", "P8", "P10", "P11", "P13", "P14"],
)
def test_what_a1111_reads(text: str, want: dict[str, str]) -> None:
    assert by_key(text) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("cat\nSteps: 20, Sampler: Euler a", {"Prompt": "cat\nSteps: 20, Sampler: Euler a", "Negative prompt": ""}),
        ("aa: b, cc: d, ee: ee", {"Prompt": "", "Negative prompt": "", "aa": "b", "cc": "d", "ee": "ee"}),
        ("aa, bb, cc: d", {"Prompt": "aa, bb, cc: d", "Negative prompt": ""}),
        (
            "p\n aa: 1, bb: 2, cc: 3\nTemplate: x",
            {"Prompt": "p\naa: 1, bb: 2, cc: 3\nTemplate: x", "Negative prompt": ""},
        ),
        (
            " p \nNegative prompt: a\n b\nNegative prompt:c\naa: 1, bb: , cc: 3, dd",
            {"Prompt": "p", "Negative prompt": "a\nb\nc", "aa": "1", "cc": "3"},
        ),
    ],
)
def test_a1111_counts_pairs_and_nothing_else(text: str, want: dict[str, str]) -> None:
    assert by_key(text) == want


def test_a_second_negative_prompt_is_appended() -> None:
    assert read("p\nNegative prompt: a\nNegative prompt: b\nSteps: 1, Seed: 5, Size: 64x64").negative_prompt == "a\nb"


def test_a1111_fills_in_its_defaults() -> None:
    got = filled(f"(a)\n{FIRST}")
    assert got["Clip skip"] == "1"
    assert got["Hires sampler"] == "Use same sampler"
    assert got["Masked area padding"] == 32
    assert (got["RNG"], got["Schedule type"], got["FP8 weight"]) == ("GPU", "Automatic", "Disable")
    assert got["Emphasis"] == "Original"
    assert "Cache FP16 weight for LoRA" not in got
    assert filled("p\nSteps: 1, FP8 weight: Enable, Seed: 1")["Cache FP16 weight for LoRA"] is False
    assert "Emphasis" not in filled(FIRST)


def test_old_hypernets_become_tags() -> None:
    text = "p\nSteps: 1, Hypernet: anime, Hypernet strength: 0.5, Seed: 5, Size: 64x64"
    assert filled(text)["Prompt"] == "p<hypernet:anime:0.5>"
    assert read(text).prompt == "p"
    assert interpret(read(text)).settings.prompt == "p<hypernet:anime:0.5>"
    assert interpret(read("p\nSteps: 1, Hypernet: x, Seed: 5")).settings.prompt == "p<hypernet:x:1.0>"


def test_the_old_size_of_the_first_pass() -> None:
    old = "p\nSteps: 1, Size: 960x1600, Seed: 5, First pass size: 0x0"
    assert interpret(read(old)).settings.size == Size(448, 704)
    assert interpret(read(old)).settings.hires_resize == Size(960, 1600)
    got = filled("p\nSteps: 1, Size: 1024x768, Seed: 5, First pass size: 512x384")
    assert [got[k] for k in ("Size-1", "Size-2", "Hires resize-1", "Hires resize-2")] == ["512", "384", "1024", "768"]


@pytest.mark.parametrize(
    ("version", "sampler", "extra", "flags"),
    [
        ("v1.5.1", "DDIM", "", {"old_timelines", "pad_conds_v0", "downcast_alphas"}),
        ("v1.6.0", "DDIM", "", {"downcast_alphas"}),
        ("v1.7.0", "Euler", ", Refiner: r", {"downcast_alphas", "refiner_by_steps"}),
        ("v1.7.0-224-gabc", "Euler", "", {"downcast_alphas"}),
        ("v1.7.0-225-gabc", "Euler", "", set()),
        ("v1.8.0-RC-12-gabcdef0", "Euler", ", Refiner: r", {"refiner_by_steps"}),
        ("v1.8.0", "Euler", ", Refiner: r", set()),
        ("1.8.0-RC", "Euler", "", set()),
        ("f2.0.1v1.5.0-previous-1-gabc", "DDIM", "", set()),
        ("ComfyUI", "DDIM", "", set()),
    ],
)
def test_what_old_versions_did(version: str, sampler: str, extra: str, flags: set[str]) -> None:
    text = f"[a:b:.5]\nSteps: 1, Sampler: {sampler}, Seed: 5{extra}, Version: {version}"
    settings = interpret(read(text)).settings
    names = ("old_timelines", "pad_conds_v0", "downcast_alphas", "refiner_by_steps")
    assert {name for name in names if getattr(settings, name)} == flags


def test_versions_in_order() -> None:
    texts = ["v1.5.1", "1.8.0-RC", "v1.8.0", "v1.8.0-3-gabc", "v1.9", "v1.9.1", "f2.0.1v1.10.1-previous-9-gabc"]
    found = [version_of(text) for text in texts]
    assert None not in found
    assert found == sorted(found)
    assert [version_of(t) for t in ("cb0eb55", "neo", "atelier-0.1.0", None, "ComfyUI")] == [None] * 5


def test_the_first_reference_string() -> None:
    settings = interpret(read(FIRST)).checked()
    assert settings.given() == {
        "steps": 40,
        "sampler": "DPM++ SDE",
        "scheduler": "Karras",
        "cfg_scale": 7,
        "seed": 2555331127,
        "size": (512, 768),
        "model_hash": "b4201c7c37",
        "denoising_strength": 0.6,
        "ensd": 31337,
        "rng": "nv",
        "hires_upscale": 1.75,
        "hires_steps": 10,
        "hires_upscaler": "R-ESRGAN 4x+",
    }
    request = to_request(read(FIRST))
    assert (request.steps, request.sampler, request.scheduler) == (40, "DPM++ SDE", "Karras")
    assert (request.seed, request.width, request.height, request.cfg_scale) == (2555331127, 512, 768, 7)


def test_the_second_reference_string() -> None:
    found = read(f"{PROMPT}\nNegative prompt: lowres\n{SECOND}")
    settings = interpret(found).checked()
    assert settings.given() == {
        "prompt": PROMPT,
        "negative_prompt": "lowres",
        "steps": 20,
        "sampler": "DPM++ 2M",
        "scheduler": "Karras",
        "cfg_scale": 7,
        "seed": 3534095324,
        "size": (768, 512),
        "model_hash": "95afa0d9ea",
        "model": "chilloutmix_NiPrunedFp32",
        "denoising_strength": 0.5,
        "rng": "nv",
        "hires_upscale": 2,
        "hires_steps": 20,
        "hires_upscaler": "Latent",
    }
    request = to_request(found, {"model": None})
    assert (request.prompt, request.negative_prompt, request.model) == (PROMPT, "lowres", None)
