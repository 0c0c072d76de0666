"""Texts in A1111's form that people and programs have cut, wrapped, and written on."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier.cli.regenerate import Original
from atelier.errors import BadFile
from atelier.request.infotext import Settings, interpret, read, to_request, without_effect, write
from atelier.request.infotext.record import Infotext
from atelier.request.infotext.settings import settings_of

LINE = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1993765611, Size: 768x512"


def read_back(text: str) -> Infotext:
    """What a text says, if it can be written and read again."""
    found = read(text)
    settings = settings_of(found).settings
    assert settings_of(read(write(settings))).settings == settings
    return found


@pytest.mark.parametrize(
    ("behind", "key", "value"),
    [
        ("\nUsed embeddings: easynegative [119b], bad [1eff]", "Used embeddings", "easynegative [119b], bad [1eff]"),
        ("Time taken: 12.3s | Torch active/reserved: 3/4", "Time taken", "12.3s | Torch active/reserved: 3/4"),
        ("\n\nTemplate: a {b|c}", "Template", "a {b|c}"),
        ("\nposted: by me, 2023\n\nwith love", "Text behind", "posted: by me, 2023\n\nwith love"),
    ],
)
def test_lines_behind_the_parameters_are_kept(behind: str, key: str, value: str):
    found = read_back(f"a cat\nNegative prompt: b\n{LINE}\n{behind}")
    assert (found.prompt, found.negative_prompt, found.get("Size")) == ("a cat", "b", "768x512")
    assert found.get(key) == value


def test_of_several_lines_with_text_behind_the_last_one_counts():
    found = read_back(f"a\n{LINE}\nb\n{LINE.replace('20', '30')}\nc")
    assert (found.prompt, found.get("Steps"), found.get("Text behind")) == (f"a\n{LINE}\nb", "30", "c")


def test_a_line_of_few_parameters_with_text_behind_is_prompt():
    text = "a\nSteps: 20, Sampler: Euler a, Seed: 1\nb"
    assert (read_back(text).prompt, read(text).dialect) == (text, "text")


def test_parameters_wrapped_over_four_lines_are_one():
    found = read_back(
        "p, q,\nNegative prompt: n,\nSteps: 20, Size: 1312x1408, Seed: 1561296656, CFG scale: 6,\n"
        "CFG rescale: 0.7, Model: m, Model hash: 847403d47a,\nApp: SD.Next, Version: 8b73cb6, Pipeline: X,\n"
        "Operations: txt2img"
    )
    assert (found.prompt, found.negative_prompt, found.dialect) == ("p, q,", "n,", "sdnext")
    assert (found.get("Steps"), found.get("Operations")) == ("20", "txt2img")


def test_wrapped_parameters_end_before_an_empty_line():
    found = read_back("p\nSteps: 20, Sampler: Euler, CFG scale: 6,\nSeed: 5, Size: 5x5\n\nfor you")
    assert (found.get("Size"), found.get("Text behind")) == ("5x5", "for you")


@pytest.mark.parametrize("end", ["\n", ",\n", " | "])
@pytest.mark.parametrize("fence", ["", "\n```"])
def test_parameters_on_lines_of_their_own_or_with_bars_between(end: str, fence: str):
    pairs = ("Steps: 25", "Sampler: DPM++ 2M Karras", "Clip skip: 2", "CFG scale: 7", "Seed: 1", "Size: 512x512")
    found = read_back(f"a | cat\nNegative prompt: b\n{end.join(pairs)}{fence}")
    assert (found.prompt, found.negative_prompt) == ("a | cat", "b")
    assert tuple(f"{key}: {value}" for key, value in found.pairs) == pairs
    assert interpret(found).settings.scheduler == "Karras"


@pytest.mark.parametrize("text", ["a\nSteps: 25\nSeed: 1", "a | b: c | d", "Model: a\nVAE: b\nClip skip: 2"])
def test_fewer_than_three_are_prompt(text: str):
    assert read_back(text).prompt == text


@pytest.mark.parametrize(
    ("name", "sampler", "schedule"),
    [
        ("Default - DPM++ 2M", "DPM++ 2M", "Karras"),
        ("Fast - UniPC BH2", "UniPC BH2", "Align Your Steps GITS"),
        ("Alternative - Euler A", "Euler a", "Normal"),
        ("Creative - DPM++ 2M SDE", "DPM++ 2M SDE", "Karras"),
        ("My own - Euler A", "Euler a", None),
    ],
)
def test_titles_of_krita_are_samplers(name: str, sampler: str, schedule: str | None):
    found = read(f"p\n{LINE.replace('Euler a', name)}")
    settings = interpret(found).settings
    assert (found.dialect, settings.sampler, settings.scheduler) == ("krita", sampler, schedule)


def test_a_dash_makes_no_title():
    found = read(f"p\n{LINE.replace('Euler a', 'Some - Thing 5')}")
    assert (found.dialect, interpret(found).settings.sampler) == ("a1111", "Some - Thing 5")


CPP = (
    "p\nSteps: 20, CFG scale: 7.000000, SLG scale: 7.000000, Skip layers: [7, 8, 9, ], Guidance: 3.500000, "
    "Eta: 0.000000, Seed: 42, Size: 512x512, Model: m.gguf, RNG: std_default, Sampler: {}, "
    "Version: stable-diffusion.cpp"
)


@pytest.mark.parametrize(
    ("name", "sampler", "schedule", "eta"),
    [
        ("euler_a discrete", "Euler a", "Uniform", None),
        ("lcm discrete", "LCM", "Uniform", None),
        ("dpm++2mv2 karras", "DPM++ 2M", "Karras", None),
        ("dpm2 gits", "DPM2", "Align Your Steps GITS", None),
        ("ddim_trailing discrete", "DDIM", "Turbo", 0.0),
        ("ddim_trailing", "DDIM", "Turbo", 0.0),
        ("tcd discrete", "TCD", None, 0.0),
    ],
)
def test_stable_diffusion_cpp(name: str, sampler: str, schedule: str | None, eta: float | None):
    found = read_back(CPP.format(name))
    reading = interpret(found)
    settings = reading.settings
    assert (settings.sampler, settings.scheduler, settings.eta) == (sampler, schedule, eta)
    assert (settings.distilled_cfg_scale, found.get("Skip layers"), reading.warnings) == (3.5, "[7, 8, 9, ]", ())
    assert "Distilled CFG Scale" not in without_effect(found)


@pytest.mark.parametrize(
    ("name", "sampler", "schedule"),
    [
        ("dpmpp_3m", "DPM++ 3M", None),
        ("dpmpp_2s", "DPM++ 2S", None),
        ("DPM++ SDE Trailing", "DPM++ SDE", "Turbo"),
        ("DPM++ 2M Align Your Steps 32", "DPM++ 2M", "Align Your Steps"),
        ("DPM++ 2M, Schedule type: Align Your Steps 11", "DPM++ 2M", "Align Your Steps"),
    ],
)
def test_names_of_samplers(name: str, sampler: str, schedule: str | None):
    settings = interpret(read(f"p\n{LINE.replace('Euler a', name)}")).settings
    assert (settings.sampler, settings.scheduler) == (sampler, schedule)


def test_several_lists_of_hashes_without_a_key_are_one():
    found = read_back(f'p\n{LINE}, "foo: 1234567890ab", "easynegative: c74b4e810b03", Version: v1.9.0')
    assert found.get("Lora hashes") == "foo: 1234567890ab, easynegative: c74b4e810b03"
    assert found.pairs[-1] == ("Version", "v1.9.0")


@pytest.mark.parametrize(("name", "sampler"), [("nai_smea_dyn", "Euler a"), ("k_dpmpp_2m", "DPM++ 2M")])
def test_novelai_draws_on_a_graphics_card_with_a_sampler_that_is_known(name: str, sampler: str):
    comment = f'{{"prompt": "a", "steps": 28, "sampler": "{name}", "scale": 5, "seed": 1, "uc": "b"}}'
    found = read(comment)
    assert (found.dialect, to_request(found).sampler, to_request(found).noise.rng) == ("novelai", sampler, "nv")


@pytest.mark.parametrize(
    ("mode", "rng"), [("NVIDIA GPU Compatible", "nv"), ("Torch CPU Compatible", "cpu"), ("Scale Alike", None)]
)
def test_draw_things_says_how_it_draws(mode: str, rng: str | None):
    found = read(f"mist.Steps: 30, Sampler: DPM++ 2M AYS, Guidance Scale: 5, Seed: 1, Size: 64x64, Seed Mode: {mode}")
    assert (found.dialect, interpret(found).settings.rng) == ("draw-things", rng)


GRAPH = (
    '{"1": {"class_type": "KSampler", "inputs": {"steps": 3, "seed": 1, "positive": ["2", 0]}}, '
    '"2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}}}'
)


def test_what_is_sent_to_comfyui_is_its_graph():
    found = read(f'{{"prompt": {GRAPH}, "workflow": {{"nodes": []}}}}')
    assert (found.dialect, found.prompt, found.get("Steps")) == ("comfyui", "a cat", "3")


@pytest.mark.parametrize("text", ['{"nodes": [{"id": 1}], "links": []}', '{"prompt": "a", "params": {"models": []}}'])
def test_json_in_which_nothing_is_known_is_nothing(text: str):
    found = read(text)
    assert (found.dialect, found.prompt, found.pairs) == ("text", "", ())
    assert read(write(settings_of(Infotext(prompt=text)).settings)).prompt == text


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (
            b'{"nodes": [{"id": 1}], "links": []}',
            "is JSON in which no prompt with its settings is found: it is the wor",
        ),
        (b'[{"a": 1}]', "is JSON in which no prompt with its settings is found"),
        (b"{}", "is JSON in which no prompt with its settings is found"),
        (b"a \0 cat", "is no text: it has a character of code 0"),
        (b"a \xff cat", "is no text in UTF-8 (byte 2)"),
    ],
)
def test_a_file_that_says_nothing_is_refused(data: bytes, problem: str, tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(BadFile) as caught:
        Original.read(path)
    assert str(caught.value).startswith(f"{path}: {problem}")
    assert "\n" not in str(caught.value)


def test_lines_above_a_line_that_quotes_the_prompts_are_none_of_its_own() -> None:
    prompt = "Seed: 1, Steps: 2, Size: 3x3,"
    text = write(Settings(prompt=prompt, seed=7, sampler="Euler"))
    assert prompt in text.split("\n")
    found = settings_of(read(text)).settings
    assert (found.prompt, found.seed, found.steps, found.size) == (prompt, 7, None, None)


@pytest.mark.parametrize(
    "more", ["Batch index: 0, Batch size: 4", "Lora_0 Model name: a.safetensors", "Embedding_1 hash: ab"]
)
def test_texts_of_a_saver_of_comfyui_are_known_by_its_keys(more: str) -> None:
    found = read(f"p\nNegative prompt: n\n{LINE}, Clip skip: 2, {more}, Hashes: {{}}")
    assert (found.dialect, to_request(found).noise.rng) == ("comfyui", "cpu")
    assert read(f"p\n{LINE}, {more}, Version: v1.10.1").dialect == "a1111"


def test_two_pairs_are_parameters_only_behind_a_number_of_steps() -> None:
    assert read("cat\nSteps: 20, Sampler: Euler a").get("Sampler") == "Euler a"
    text = "cat\nSteps: to heaven, Size: big"
    assert (read(text).prompt, read(text).pairs) == (text, ())


@pytest.mark.parametrize("first", ["CFG scale: 7", '"a: b", Size: 64x64'])
def test_steps_may_come_last_where_known_pairs_begin_the_line(first: str) -> None:
    found = read(f"{first}, Sampler: Euler, Steps: 20")
    assert (found.prompt, found.get("Sampler"), found.get("Steps")) == ("", "Euler", "20")


def test_a_list_without_a_key_is_of_hashes_if_all_of_it_is() -> None:
    line = "a cat\nSteps: 20, Sampler: Euler, Seed: 5, Size: 64x64"
    assert read(f'{line}, "ink: 0123456789, wool: abcdef"').get("Lora hashes") == "ink: 0123456789, wool: abcdef"
    assert read(f'{line}, "ink: 0123456789, plain"').get("Lora hashes") is None


SAID = {"Steps": "20", "Sampler": "Euler a", "CFG scale": "7", "Seed": "5"}
BOLD = "**Prompt:** a cat\n**Negative prompt:** bad\n**Steps:** 20, **Sampler:** Euler a, **CFG scale:** 7, **Seed:** 5"


@pytest.mark.parametrize(
    "text",
    [
        "a cat\nNegative prompt: bad\nSteps: 20; Sampler: Euler a; CFG scale: 7; Seed: 5",
        "a cat\nNegative prompt: bad\nSteps: 20; Sampler: Euler a;\nCFG scale: 7; Seed: 5;",
        "a cat\nNegative: bad\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5",
        "Prompt: a cat\nnegative : bad\nSteps: 20; Sampler: Euler a; CFG scale: 7; Seed: 5",
        BOLD,
        BOLD.replace(":**", "**:"),
        BOLD.replace(", **", "\n**").replace("Negative prompt", "Negative"),
    ],
)
def test_semicolons_short_signs_and_bold_keys(text: str) -> None:
    found = read(text)
    assert (found.prompt, found.negative_prompt, dict(found.pairs)) == ("a cat", "bad", SAID)


@pytest.mark.parametrize(
    "prompt",
    ["a **red** cat: small", "a cat\n**mood:** calm", "one; two: three; four", "negative: space", "a negative: b"],
)
def test_prompts_that_only_look_so_stay_whole(prompt: str) -> None:
    """A prompt alone, without parameters; with A1111's own sign behind, also with them."""
    assert (read(prompt).prompt, read(prompt).negative_prompt) == (prompt, "")
    found = read(f"{prompt}\nNegative prompt: bad\n{LINE}")
    assert (found.prompt, found.negative_prompt) == (prompt, "bad")


@pytest.mark.parametrize("prompt", ["negative: space", "a\n**Steps:** 3", "a cat; Steps: 20; Seed: 5; CFG scale: 7"])
def test_such_prompts_are_written_so_that_they_are_read_back(prompt: str) -> None:
    settings = Settings(prompt=prompt, steps=20, sampler="Euler", seed=5)
    assert settings_of(read(write(settings))).settings.prompt == prompt


def test_a_key_that_was_broken_between_its_words_is_whole_again() -> None:
    found = read("a cat\nSteps: 20, Sampler: Euler a, CFG\nscale: 7")
    assert (found.prompt, dict(found.pairs)) == ("a cat", {"Steps": "20", "Sampler": "Euler a", "CFG scale": "7"})
