"""From pairs of text to settings and requests: names of samplers, odd values, lies."""

from __future__ import annotations

from dataclasses import fields

import pytest

from atelier.errors import BadInput
from atelier.request.infotext import Settings, interpret, read, to_request, without_effect, write
from atelier.request.infotext.keys import ALL_KEYS, BY_NAME, Key
from atelier.request.infotext.sampler import method
from atelier.request.infotext.settings import settings_of
from atelier.request.infotext.version import version_of


def line(pairs: str) -> str:
    return f"p\nSteps: 20, Sampler: Euler, {pairs}, Seed: 5"


def test_the_table_covers_every_field_once() -> None:
    named = [key.field for key in ALL_KEYS]
    assert sorted(named) == sorted(set(named))
    assert set(named) == {f.name for f in fields(Settings)} - {"prompt", "negative_prompt", "extras"}
    assert len(BY_NAME) == sum(1 + len(key.aliases) for key in ALL_KEYS) - _folded_twice()


def _folded_twice() -> int:
    names = [name.casefold() for key in ALL_KEYS for name in (key.name, *key.aliases)]
    same = [key.field for key in ALL_KEYS for name in key.aliases if name.casefold() == key.name.casefold()]
    assert len(names) - len(set(names)) == len(same)
    return len(same)


@pytest.mark.parametrize("key", ALL_KEYS, ids=lambda key: key.name)
def test_every_key_is_written_and_read(key: Key) -> None:
    values = {
        "int": int(max(key.low or 0, 3)),
        "float": max(key.low or 0, 0.5),
        "text": "some: text, here",
        "flag": True,
        "size": (64, 128),
    }
    value = values[key.kind]
    assert value != key.neutral or key.low == value
    settings = Settings(**{"prompt": "p", "steps": 7, "seed": 1, "sampler": "Euler", key.field: value})
    assert settings_of(read(write(settings))).settings == settings
    assert f"{key.name}: " in write(settings)


@pytest.mark.parametrize(
    ("name", "schedule", "version", "want"),
    [
        ("DPM++ 2M Karras", None, None, ("DPM++ 2M", "Karras")),
        ("DPM++ SDE Karras", None, None, ("DPM++ SDE", "Karras")),
        ("Euler a Karras", None, None, ("Euler a", "Karras")),
        ("DPM++ 2M SDE Karras", None, None, ("DPM++ 2M SDE", "Karras")),
        ("DPM++ 2M SDE Exponential", None, None, ("DPM++ 2M SDE", "Exponential")),
        ("DPM++ 2M SDE Heun Exponential", None, "v1.7.0", ("DPM++ 2M SDE Heun", "Exponential")),
        ("Euler", "Karras", None, ("Euler", "Karras")),
        ("LMS Karras", "Uniform", None, ("LMS", "Karras")),
        ("Euler SGM Uniform", None, None, ("Euler", "SGM Uniform")),
        ("Euler Polyexponential", None, None, ("Euler", "Polyexponential")),
        ("DPM++ 2M", "Automatic", None, ("DPM++ 2M", "Automatic")),
        ("DPM++ 2M", None, None, ("DPM++ 2M", None)),
        ("DPM++ 2M", None, "v1.8.0", ("DPM++ 2M", "Uniform")),
        ("DPM++ 2M", None, "v1.9.0", ("DPM++ 2M", None)),
        ("DPM++ 2M", None, "f2.0.1v1.10.1-previous-1-gabc", ("DPM++ 2M", None)),
        ("DDIM", None, None, ("DDIM", None)),
        ("DDIM", None, "v1.8.0", ("DDIM", None)),
        ("UniPC", None, "v1.5.1", ("UniPC", None)),
        ("Restart", None, "v1.6.0", ("Restart", None)),
        ("DPM++ 2M AYS", None, None, ("DPM++ 2M", "Align Your Steps")),
        ("k_dpmpp_2m_ka", None, None, ("DPM++ 2M", "Karras")),
        ("k_euler_ancestral", None, None, ("Euler a", None)),
        ("dpmpp_2m_sde_karras", None, None, ("DPM++ 2M SDE", "Karras")),
        ("euler_ancestral_normal", None, None, ("euler_ancestral", "Normal")),
        ("euler_sgm_uniform", None, None, ("Euler", "SGM Uniform")),
        ("Euler - euler_a", None, None, ("Euler a", None)),
        ("dpmpp_2m_sde_gpu", "karras", None, ("dpmpp_2m_sde_gpu", "Karras")),
        ("Euler", "sgm_uniform", None, ("Euler", "SGM Uniform")),
        ("DPM++ 2M", "default", "v1.8.0", ("DPM++ 2M", None)),
        (None, "Karras", None, (None, "Karras")),
        (None, None, "v1.5.0", (None, None)),
    ],
)
def test_sampler_names(name: str | None, schedule: str | None, version: str | None, want: tuple[str, str]) -> None:
    assert method(name, schedule, version_of(version)) == want


def test_numbers_are_taken_as_written() -> None:
    settings = interpret(read(line("CFG scale: 7.0, Clip skip: 2.0, Eta: 1e-05, NGMS: .5"))).settings
    assert (settings.cfg_scale, settings.clip_skip, settings.eta, settings.ngms) == (7.0, 2, 1e-05, 0.5)


@pytest.mark.parametrize("value", ["[SEE COLUMN]", "abc", "nan", "inf", "1e9999", "--5", "1.2.3", "9" * 5000])
def test_a_value_that_is_no_number_is_left_out(value: str) -> None:
    reading = interpret(read(line(f"CFG scale: {value}")))
    assert reading.settings.cfg_scale is None
    assert len(reading.warnings) == 1
    assert "CFG scale" in reading.warnings[0]
    assert len(reading.warnings[0]) < 120


@pytest.mark.parametrize(
    "pairs",
    [
        "CFG scale: -1",
        "CFG scale: 1e5",
        "Denoising strength: 1.5",
        "Clip skip: 0",
        "Clip skip: 99",
        "Size: 0x512",
        "Size: 99999x8",
        "Variation seed strength: 2",
        "Hires upscale: 0.5",
        "Hires steps: 100000",
        "Variation seed: 36893488147419103232",
    ],
)
def test_an_infotext_that_lies_is_bad_input(pairs: str) -> None:
    found = read(line(pairs))
    assert interpret(found).lies
    with pytest.raises(BadInput, match="out of range") as caught:
        to_request(found)
    assert pairs.split(":", maxsplit=1)[0] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_steps_and_sides_are_those_of_a_request() -> None:
    with pytest.raises(BadInput, match=r"Steps '5000' is out of range: it is from 1 to 1000"):
        to_request(read("p\nSteps: 5000, Sampler: Euler, Seed: 1"))
    with pytest.raises(BadInput, match="width"):
        to_request(read(line("Size: 9000x512")))


def test_sides_are_cut_to_multiples_of_eight() -> None:
    request = to_request(read(line("Size: 1024x683")))
    assert (request.width, request.height) == (1024, 680)


@pytest.mark.parametrize(("said", "want"), [("5", 5), ("-1", -1), ("-353763303", 2**64 - 353763303), ("0", 0)])
def test_negative_seeds_are_those_of_torch(said: str, want: int) -> None:
    assert to_request(read(f"p\nSteps: 20, Sampler: Euler, Seed: {said}")).seed == want


@pytest.mark.parametrize(
    ("pairs", "want"),
    [
        ("RNG: CPU", "cpu"),
        ("RNG: NV", "nv"),
        ("RNG: portable", "portable"),
        ("RNG: GPU", "nv"),
        ("Eta: 1", "nv"),
        ("Version: ComfyUI", "cpu"),
    ],
)
def test_where_the_noise_comes_from(pairs: str, want: str) -> None:
    assert to_request(read(line(pairs))).noise.rng == want


def test_what_programs_write_for_nothing_is_nothing() -> None:
    text = "p\nSteps: 20, Sampler: Undefined, Model hash: unknown, Model: , Seed resize from: -1x-1, Seed: 1"
    reading = interpret(read(text))
    assert reading.settings.given() == {"prompt": "p", "steps": 20, "seed": 1, "rng": "nv"}
    assert not reading.warnings


def test_a_model_in_a_list_loses_its_hash() -> None:
    found = read(line("Model: deliberate_v2.safetensors [10a699c0f3]"))
    assert to_request(found).model == "deliberate_v2.safetensors"
    assert interpret(found).settings.model == "deliberate_v2.safetensors [10a699c0f3]"


def test_changes_come_before_what_the_text_says() -> None:
    assert to_request(read(line("CFG scale: 7")), {"steps": 3, "prompt": "q"}).model_dump(
        include={"steps", "prompt"}
    ) == {
        "steps": 3,
        "prompt": "q",
    }


def test_line_breaks_of_windows() -> None:
    found = read("a,\r\nb\r\nNegative prompt: c\r\nSteps: 20, Sampler: Euler, Seed: 5\r\n")
    assert (found.prompt, found.negative_prompt, found.get("Seed")) == ("a,\nb", "c", "5")


def test_a_schedule_by_another_key() -> None:
    assert to_request(read(line("Scheduler: karras"))).scheduler == "Karras"
    assert to_request(read(line("Scheduler: DPMSolverSDEScheduler"))).scheduler is None


def test_a_batch_is_not_painted_again() -> None:
    found = read(line("Batch size: 4, Batch pos: 1"))
    assert interpret(found).settings.batch_size == 4
    assert to_request(found).batch_size == 1


@pytest.mark.parametrize(
    ("pairs", "dialect"),
    [
        ("CFG scale: 7", "a1111"),
        ("Version: f2.0.1v1.10.1-previous-1-gabc", "forge"),
        ("Version: neo-2.27", "forge-neo"),
        ("Version: ComfyUI", "comfyui"),
        ("App: SD.Next", "sdnext"),
        ('Civitai resources: [{"type":"checkpoint"}]', "civitai"),
        ("Version: atelier-0.1.0", "atelier"),
        ("Template: x", "dynamic-prompts"),
    ],
)
def test_dialects(pairs: str, dialect: str) -> None:
    assert read(line(pairs)).dialect == dialect


def test_swarm_and_old_invoke_objects() -> None:
    swarm = read(
        '{"sui_image_params": {"prompt": "a cat", "negativeprompt": "dog", "model": "m", "seed": 7, "steps": 20,'
        ' "cfgscale": 6.5, "width": 512, "height": 768, "sampler": "euler", "scheduler": "karras"}}'
    )
    assert (swarm.prompt, swarm.negative_prompt, swarm.dialect) == ("a cat", "dog", "swarmui")
    request = to_request(swarm)
    assert (request.steps, request.scheduler, request.width, request.sampler) == (20, "Karras", 512, "Euler")
    invoke = read(
        '{"model": "stable diffusion", "model_weights": "m", "app_id": "invoke-ai/InvokeAI", "app_version": "2.3.0",'
        ' "image": {"prompt": [{"prompt": "a cat [dog]", "weight": 1.0}], "steps": 30, "cfg_scale": 7.5,'
        ' "height": 768, "width": 512, "seed": 3, "sampler": "k_dpmpp_2_a", "seamless": true}}'
    )
    assert (invoke.prompt, invoke.negative_prompt) == ("a cat", "dog")
    settings = interpret(invoke).settings
    assert (settings.sampler, settings.size, settings.tiling, settings.model) == ("DPM++ 2S a", (512, 768), True, "m")


@pytest.mark.parametrize(
    ("pairs", "want"),
    [
        ("Sampler: UniPC, Schedule type: Karras, Version: v1.9.4", ("UniPC", None)),
        ("Sampler: DDIM, Schedule type: Karras, Version: f2.0.1v1.10.1-previous-1-gabc", ("DDIM", None)),
        ("Sampler: DDIM, Schedule type: Karras, Version: atelier-0.1.0", ("DDIM", "Karras")),
        ("Sampler: Euler, Schedule type: Karras, Version: v1.9.4", ("Euler", "Karras")),
    ],
)
def test_a1111_ignores_the_schedule_of_samplers_that_count_in_timesteps(pairs: str, want: tuple[str, str]) -> None:
    settings = interpret(read(f"x\nSteps: 5, {pairs}")).settings
    assert (settings.sampler, settings.scheduler) == want


COMFY = (
    '{"3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 12, "cfg": 8.0, "sampler_name": "%s",'
    ' "scheduler": "%s", "denoise": 1, "positive": ["6", 0], "negative": ["6", 0]}},'
    ' "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "(a:1.2)"}}}'
)


@pytest.mark.parametrize(
    ("names", "want"),
    [
        (("ddim", "ddim_uniform"), ("Euler", "DDIM", None)),
        (("euler", "beta"), ("Euler", "Beta in time", None)),
        (("euler", "kl_optimal"), ("Euler", "KL Optimal to zero", None)),
        (("dpmpp_3m_sde_gpu", "karras"), ("dpmpp_3m_sde_gpu", "Karras", False)),
        (("uni_pc", "normal"), ("uni_pc", "Normal", True)),
    ],
)
def test_comfy_means_other_things_by_some_names(names: tuple[str, str], want: tuple[str, str, bool | None]) -> None:
    asked = to_request(read(COMFY % names))
    assert (asked.sampler, asked.scheduler, asked.sampling.discard_penultimate_sigma) == want
    assert (asked.prompting.emphasis, asked.noise.sgm_noise_multiplier) == ("Comfy", True)


FORGES = (
    "dynthres_enabled: True, dynthres_mimic_scale: 7, dynthres_threshold_percentile: 0.95, "
    "dynthres_mimic_mode: Constant, dynthres_mimic_scale_min: 0, dynthres_cfg_mode: Constant, "
    "dynthres_cfg_scale_min: 0, dynthres_sched_val: 1, dynthres_separate_feature_channels: enable, "
    "dynthres_scaling_startpoint: MEAN, dynthres_variability_measure: AD, dynthres_interpolate_phi: 0.8"
)
"""As Forge writes it."""


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (FORGES, (True, 7, 95, 0.8)),
        ("dynthres_enabled: True, dynthres_mimic_scale: 7, dynthres_threshold_percentile: 1.0", (True, 7, 100, None)),
        ("dynthres_enabled: True, dynthres_mimic_scale: 7, dynthres_threshold_percentile: 1", (True, 7, 100, None)),
        ("dynthres_enabled: True, dynthres_mimic_scale: 7, dynthres_threshold_percentile: 95", (True, 7, 95, None)),
        ("Dynamic thresholding enabled: True, Mimic scale: 7, Threshold percentile: 1", (True, 7, 1, None)),
        ("dynthres_enabled: False, dynthres_mimic_scale: 7", (None, None, None, None)),
    ],
)
def test_forges_dynamic_thresholding_is_that_of_the_extension(pairs: str, said: tuple[object, ...]) -> None:
    found = settings_of(read(f"x\nSteps: 5, Sampler: Euler, {pairs}")).settings
    own = (found.dynamic_thresholding, found.mimic_scale, found.mimic_percentile, found.mimic_phi)
    assert own == said


def test_keys_that_no_request_can_say_are_told() -> None:
    text = "x\nSteps: 5, Sampler: Euler, Refiner: r, FP8 weight: Enable, Tiling: True, VAE hash: abc, Version: v1.6.0"
    assert without_effect(read(text)) == ("FP8 weight",)
    assert without_effect(read("x\nSteps: 5, Sampler: Euler, Seed: 1, Size: 64x64, Eta: 0.5")) == ()


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ('ControlNet 0: "Module: canny, Weight: 1", ControlNet 1: "Module: depth"', ("ControlNet 0",)),
        ("ADetailer model: face.pt, ADetailer confidence: 0.3, ADetailer version: 24.3", ("ADetailer model",)),
        (
            'Tiled Diffusion: {"a": 1}, Dynamic thresholding enabled: True',
            ("Dynamic thresholding enabled", "Tiled Diffusion"),
        ),
        ("Dynamic thresholding enabled: False, Mimic scale: 7", ()),
        ("Dynamic thresholding enabled: True, Mimic scale: 7, Threshold percentile: 100", ()),
        ("freeu_enabled: True, freeu_b1: 1.3, PAG Active: True, PAG Scale: 1", ()),
        ("CFG Interval Enable: True, CFG Interval Low: 0.1", ("CFG Interval Enable",)),
        ("Mimic scale: 7, Scaling Startpoint: MEAN, Variability Measure: AD, Separate Feature Channels: True", ()),
        ("Mimic scale: 7, Scaling Startpoint: ZERO", ("Scaling Startpoint",)),
        ("Mimic scale: 7, Mimic mode: Constant, CFG mode: Constant", ()),
        ("Mimic scale: 7, Mimic mode: Half Cosine Up, Mimic scale minimum: 3", ("Mimic mode",)),
        ("Mimic scale: 7, CFG mode: Linear Down", ("CFG mode",)),
        ("Denoising strength: 0.4, Final denoising strength: 0.5, Denoising curve: Lazy", ()),
        ("dynthres_enabled: True, dynthres_mimic_scale: 7", ()),
        (FORGES, ()),
        (f"{FORGES}, dynthres_separate_feature_channels: disable", ("dynthres_separate_feature_channels",)),
        ("dynthres_mimic_mode: Linear Up, dynthres_mimic_scale_min: 3", ("dynthres_mimic_mode",)),
        ("RP Active: False, RP Ratios: 1", ()),
        ("RP Active: True, RP Ratios: 1", ("RP Active",)),
        ("freeu_enabled: True, kohya_hrfix_block_number: 3", ("freeu_enabled", "kohya_hrfix_block_number")),
        ("LoRAs: <lora:x:1>, VAE: v", ("LoRAs",)),
        ("loras: [], Hashes: {}, Some Future Key: 42", ()),
        ("VAE: Automatic", ()),
        ("VAE: None", ()),
        ("VAE: Default (model)", ()),
        ("VAE: sdxl.vae", ()),
    ],
)
def test_what_changed_a_picture_is_told(pairs: str, told: tuple[str, ...]) -> None:
    assert without_effect(read(f"x\nSteps: 5, Sampler: Euler, Seed: 1, {pairs}")) == told


def test_a_comfy_graph() -> None:
    found = read(
        '{"3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 12, "cfg": 8.0, "sampler_name": "euler",'
        ' "scheduler": "normal", "denoise": 0.5, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],'
        ' "latent_image": ["5", 0]}}, "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name":'
        ' "sub\\\\v1.safetensors"}}, "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 640}},'
        ' "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}},'
        ' "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "dog", "clip": ["4", 1]}}}'
    )
    assert (found.dialect, found.prompt, found.negative_prompt) == ("comfyui", "a cat", "dog")
    assert dict(found.pairs) == {
        "Steps": "12",
        "Sampler": "euler",
        "Schedule type": "normal",
        "CFG scale": "8.0",
        "Seed": "5",
        "Size": "512x640",
        "Model": "v1",
        "Denoising strength": "0.5",
    }
