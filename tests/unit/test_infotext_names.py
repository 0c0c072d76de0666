"""What other programs call samplers, schedules and fields, typed here by hand as they write it, and small rules of the
texts and images that it stands in."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from atelier.request.infotext import interpret, read, to_request
from atelier.request.infotext.image import read_image
from atelier.request.infotext.png_info import filled
from atelier.request.infotext.resources import Resource, resources
from atelier.request.infotext.sampler import (
    OTHER_NAMES,
    PRESETS,
    chooses_levels,
    comfy_method,
    is_schedule,
    is_titled,
    method,
    novelai_sampler,
    split_name,
)
from atelier.request.infotext.settings import settings_of
from atelier.request.infotext.version import version_of

SCHEDULES = {
    "Align Your Steps GITS": "Align Your Steps GITS",  # Forge
    "GITS": "Align Your Steps GITS",
    "Align Your Steps": "Align Your Steps",
    "Align Your Steps 11": "Align Your Steps",  # SD.Next
    "Align Your Steps 32": "Align Your Steps",
    "AYS": "Align Your Steps",
    "Polyexponential": "Polyexponential",
    "Exponential": "Exponential",
    "Karras": "Karras",
    "SGM Uniform": "SGM Uniform",
    "SGMUniform": "SGM Uniform",
    "sgm_uniform": "SGM Uniform",
    "SGM": "SGM Uniform",
    "Trailing": "Turbo",  # Draw Things
    "Turbo": "Turbo",
    "DDIM": None,  # a sampler
    "DDIM Uniform": "DDIM",
    "ddim_uniform": "DDIM",
    "Linear Quadratic": "Linear quadratic",
    "linear_quadratic": "Linear quadratic",
    "KL Optimal": "KL Optimal",
    "kl_optimal": "KL Optimal",
    "Discrete": "Uniform",
    "Uniform": "Uniform",
    "Automatic": "Automatic",
    "Simple": "Simple",
    "Normal": "Normal",
    "EDM": "Karras",
    "Beta": "Beta",
    "LCM": "LCM",
}
SAMPLERS = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "lms": "LMS",
    "ddim": "DDIM",
    "ddim_v3": "DDIM",
    "ddpm": "DDPM",
    "deis": "DEIS",
    "plms": "PLMS",
    "pndm": "PLMS",
    "unipc": "UniPC",
    "lcm": "LCM",
    "tcd": "TCD",
    "dpm++2s_a": "DPM++ 2S a",
    "dpm++2m": "DPM++ 2M",
    "dpm++2mv2": "DPM++ 2M",
    "dpm2": "DPM2",
    "ipndm": "IPNDM",
    "kdpm_2": "DPM2",
    "kdpm_2_a": "DPM2 a",
    "k_lms": "LMS",
    "k_heun": "Heun",
    "k_euler": "Euler",
    "k_euler_a": "Euler a",
    "k_euler_ancestral": "Euler a",
    "k_dpm_2": "DPM2",
    "k_dpm_2_a": "DPM2 a",
    "k_dpm_2_ancestral": "DPM2 a",
    "k_dpm_fast": "DPM fast",
    "k_dpm_adaptive": "DPM adaptive",
    "k_dpmpp_2": "DPM++ 2M",
    "k_dpmpp_2_a": "DPM++ 2S a",
    "k_dpmpp_2m": "DPM++ 2M",
    "k_dpmpp_2m_sde": "DPM++ 2M SDE",
    "k_dpmpp_2s_ancestral": "DPM++ 2S a",
    "k_dpmpp_sde": "DPM++ SDE",
    "dpmpp_2s": "DPM++ 2S",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m": "DPM++ 3M",
    "dpmpp_sde": "DPM++ SDE",
}
OF_KRITA = {
    "Default - DPM++ 2M": ("DPM++ 2M", "Karras"),
    "Alternative - Euler A": ("Euler a", "Normal"),
    "Creative - DPM++ 2M SDE": ("DPM++ 2M SDE", "Karras"),
    "Fast - UniPC BH2": ("UniPC BH2", "Align Your Steps GITS"),
    "Turbo/Lightning Merge - DPM++ SDE": ("DPM++ SDE", "Karras"),
    "Lightning Merge - Euler A Uniform": ("Euler a", "SGM Uniform"),
    "Realtime - Hyper": ("Euler", "SGM Uniform"),
    "Realtime - LCM": ("LCM", "SGM Uniform"),
    "Realtime - Lightning": ("Euler", "SGM Uniform"),
    "SD3 - DPM++ 2M Uniform": ("DPM++ 2M", "SGM Uniform"),
    "Flux - Euler simple": ("Euler", "Simple"),
    "Flux - Turbo": ("Euler", "Simple"),
}
ENDINGS = {
    "k_dpmpp_2m_ka": ("DPM++ 2M", "Karras"),
    "k_dpmpp_2m_sde_exp": ("DPM++ 2M SDE", "Exponential"),
    "euler_karras": ("Euler", "Karras"),
    "euler_exponential": ("Euler", "Exponential"),
    "euler_sgm_uniform": ("Euler", "SGM Uniform"),
    "euler_ddim_uniform": ("Euler", "DDIM"),
    "euler_normal": ("Euler", "Normal"),
    "euler_simple": ("Euler", "Simple"),
    "euler_beta": ("Euler", "Beta"),
    "_beta": ("_beta", None),
    "ddim_trailing": ("DDIM", "Turbo"),
    "ddim_trailing karras": ("DDIM", "Turbo"),
    "tcd karras": ("TCD", None),
    "DPM2++ 2M": ("DPM++ 2M", None),
    "Euler FlowMatch": ("Euler", None),
}
PLAIN = {
    "Steps": (20, "steps num_inference_steps numInferenceSteps sampling_steps num_steps"),
    "Sampler": ("DPM++ 2M", "sampler sampler_name samplerName"),
    "Schedule type": ("Karras", "scheduler schedule_type scheduler_name"),
    "CFG scale": (7.5, "cfg_scale cfgScale guidance_scale guidanceScale cfg guidance"),
    "Distilled CFG Scale": (3.5, "distilled_cfg_scale distilledCfgScale distilled_guidance_scale"),
    "Model hash": ("6ce0161689", "model_hash modelHash sd_model_hash base_model_hash"),
    "Model": (
        "v1-5",
        "model model_name modelName base_model base_model_name use_stable_diffusion_model sd_model_name checkpoint",
    ),
    "VAE": ("a.vae.pt", "vae vae_name sd_vae_name sd_vae use_vae_model"),
    "Variation seed strength": (0.5, "subseed_strength variation_seed_strength variation_strength"),
    "Denoising strength": (0.6, "denoising_strength denoisingStrength prompt_strength"),
    "Clip skip": (2, "clip_skip clipSkip"),
    "ENSD": (31337, "eta_noise_seed_delta"),
    "Tiling": (True, "tiling"),
    "Hires upscale": (1.5, "hr_scale"),
    "Hires upscaler": ("Latent", "hr_upscaler"),
    "Hires steps": (9, "hr_second_pass_steps"),
}
CORE = {"prompt": "a cat", "seed": 5}


def pairs(**fields: object) -> dict[str, str]:
    """What a JSON object says beside its seed."""
    found = read(json.dumps(CORE | fields))
    assert (found.dialect, found.prompt) == ("json", "a cat")
    said = dict(found.pairs)
    assert said.pop("Seed") == "5"
    return said


def test_every_name_of_a_schedule():
    assert {name: label for name in SCHEDULES if (label := split_name(f"Euler {name}")[1])} == {
        name: label for name, label in SCHEDULES.items() if label
    }
    assert {split_name(f"Euler {name}")[0] for name, label in SCHEDULES.items() if label} == {"Euler"}
    assert {name: is_schedule(name) for name in SCHEDULES} == {n: label is not None for n, label in SCHEDULES.items()}
    assert {name: method("Euler", name, None)[1] for name in SCHEDULES} == SCHEDULES | {"DDIM": "DDIM"}


def test_every_name_of_a_sampler():
    assert {name: split_name(name) for name in SAMPLERS} == {name: (label, None) for name, label in SAMPLERS.items()}
    assert {*SAMPLERS, "ddim_trailing"} == set(OTHER_NAMES)
    assert {name: split_name(name) for name in ENDINGS} == ENDINGS


def test_every_sampler_of_krita():
    assert {name: split_name(name) for name in OF_KRITA} == OF_KRITA
    assert {name.casefold() for name in OF_KRITA} == set(PRESETS)
    assert all(map(is_titled, OF_KRITA))
    assert not is_titled("Euler")


@pytest.mark.parametrize("label", [*sorted(set(SAMPLERS.values())), "UniPC BH2", "DPM++ 2M SDE Heun"])
def test_names_behind_a_title_and_of_novelai(label: str):
    assert split_name(f"Mine - {label.upper()}") == (label, None)
    assert novelai_sampler(label) == label


def test_other_words_of_samplers():
    assert novelai_sampler("nai_smea") == "Euler a"
    for name in ("Default", "Same as primary", "None"):
        assert method(name, "Karras", None) == (None, "Karras")
    for name in ("Default", "None"):
        assert method("Euler", name, None) == ("Euler", None)
    old = version_of("v1.8.0")
    own = ("DDIM", "DDIM CFG++", "PLMS", "UniPC", "DPM fast", "DPM adaptive", "LCM", "Restart")
    assert [method(name, None, old) for name in (*own, "Heun")] == [
        *((name, None) for name in own),
        ("Heun", "Uniform"),
    ]


def test_what_comfyui_calls_otherwise():
    assert comfy_method("ddim", "Karras") == ("Euler", "Karras")
    assert comfy_method("Euler", None) == ("Euler", "Normal")
    assert comfy_method("Euler", "Beta") == ("Euler", "Beta in time")
    assert comfy_method("Euler", "KL Optimal") == ("Euler", "KL Optimal to zero")
    assert comfy_method("dpm_fast", "Karras") == ("dpm_fast", "Karras")
    assert [chooses_levels(name) for name in ("DPM fast", "dpm_adaptive", "Euler", None)] == [True, True, False, False]


@pytest.mark.parametrize("key", PLAIN)
def test_every_field_of_plain_json(key: str):
    value, names = PLAIN[key]
    for name in names.split():
        assert pairs(**{name: value}) == {key: str(value)}, name


def test_fields_of_plain_json_that_belong_together():
    for name in ("prompt", "positive_prompt", "positivePrompt", "positive"):
        assert read(json.dumps({name: "a dog", "seed": 5})).prompt == "a dog"
    for name in ("negative_prompt", "negativePrompt", "negative", "uc"):
        assert read(json.dumps(CORE | {name: "bad"})).negative_prompt == "bad"
    for width, height in (("width", "height"), ("img_width", "img_height"), ("image_width", "image_height")):
        assert pairs(**{width: 512, height: 768}) == {"Size": "512x768"}
    for name in ("resolution", "size"):
        assert pairs(**{name: "512x768"}) == {"Size": "512x768"}
    for name in ("subseed", "variation_seed"):
        assert pairs(**{name: 3, "subseed_strength": 0.5}) == {"Variation seed": "3", "Variation seed strength": "0.5"}
        for none in (0, "0", None):
            assert "Variation seed" not in pairs(**{name: 3, "subseed_strength": none})


def test_a_model_in_plain_json_may_be_an_object():
    for name in ("modelFileName", "model_name", "name"):
        assert pairs(model={name: "v1-5", "hash": "6ce0161689"}) == {"Model": "v1-5", "Model hash": "6ce0161689"}


def test_a_second_pass_in_plain_json_counts_if_it_is_on():
    second = {"hr_scale": 2, "hr_upscaler": "Latent", "hr_second_pass_steps": 9, "denoising_strength": 0.5}
    keys = {"Hires upscale", "Hires upscaler", "Hires steps", "Denoising strength"}
    assert pairs(enable_hr=True, **second).keys() == keys
    assert pairs(enable_hr=False, **second) == {}
    for name in ("init_images", "init_image"):
        assert pairs(enable_hr=False, **second, **{name: "x.png"})["Denoising strength"] == "0.5"


def test_what_a1111_assumes():
    assert {k: v for k, v in filled("a cat").items() if k not in {"Prompt", "Negative prompt"}} == {
        "Clip skip": "1",
        "Hires resize-1": 0,
        "Hires resize-2": 0,
        "Hires sampler": "Use same sampler",
        "Hires schedule type": "Use same scheduler",
        "Hires checkpoint": "Use same checkpoint",
        "Hires prompt": "",
        "Hires negative prompt": "",
        "Mask mode": "Inpaint masked",
        "Masked content": "original",
        "Inpaint area": "Whole picture",
        "Masked area padding": 32,
        "RNG": "GPU",
        "Schedule type": "Automatic",
        "Schedule max sigma": 0,
        "Schedule min sigma": 0,
        "Schedule rho": 0,
        "VAE Encoder": "Full",
        "VAE Decoder": "Full",
        "FP8 weight": "Disable",
        "Refiner switch by sampling steps": False,
    }


def test_old_keys_in_the_caption_of_a_grid_stay_as_they_are():
    found = settings_of(read("p\nSteps: 20, Seed: 5, Size: 64x64, Hypernet: [SEE ROW], First pass size: [SEE COLUMN]"))
    assert found.settings.extras == (("Hypernet", "[SEE ROW]"), ("First pass size", "[SEE COLUMN]"))
    assert (found.settings.prompt, found.settings.size, found.settings.hires_resize) == ("p", (64, 64), None)


def test_lists_of_hashes_without_a_key_are_one_where_the_first_stood():
    found = read('p\nSteps: 20, Seed: 5, "ink: 0123456789", Model: x, "wool: abcdef0123", Version: v1.10.1')
    assert found.pairs[2:] == (
        ("Lora hashes", "ink: 0123456789, wool: abcdef0123"),
        ("Model", "x"),
        ("Version", "v1.10.1"),
    )


def test_a_bare_word_ends_no_parameters_and_makes_none():
    found = read("p\nSteps: 20, something, Sampler: Euler, Seed: 5")
    assert (found.prompt, found.get("Sampler"), found.get("Seed")) == ("p", "Euler", "5")
    assert read("p\nSteps: 20, something, else").prompt == "p\nSteps: 20, something, else"


@pytest.mark.parametrize(
    "wrap", [lambda entries: entries, lambda entries: {"__value__": entries}], ids=["list", "held"]
)
def test_networks_of_the_lora_manager(wrap):
    entries = [
        {"name": "ink", "active": True, "strength": 0.8, "clipStrength": 0.5},
        {"name": "wool", "active": True},
        {"name": "off", "active": False, "strength": 1},
    ]
    wires = {"model": ["2", 0], "positive": ["4", 0], "negative": ["4", 0], "latent_image": ["5", 0]}
    nodes = (
        ("KSampler", {"seed": 7, "steps": 20, "cfg": 7, "sampler_name": "euler", "scheduler": "normal", **wires}),
        ("Lora Loader (LoraManager)", {"loras": wrap(entries), "model": ["3", 0]}),
        ("CheckpointLoaderSimple", {"ckpt_name": "v1-5.safetensors"}),
        ("CLIPTextEncode", {"text": "a cat", "clip": ["3", 1]}),
        ("EmptyLatentImage", {"width": 512, "height": 512, "batch_size": 1}),
    )
    graph = {str(i): {"class_type": kind, "inputs": inputs} for i, (kind, inputs) in enumerate(nodes, start=1)}
    assert read(json.dumps(graph)).get("LoRAs") == "<lora:ink:0.5:0.8>, <lora:wool:1>"


def test_novelai_says_all_of_this():
    comment = {
        "prompt": "a cat",
        "uc": "bad",
        "steps": 28,
        "sampler": "k_euler_ancestral",
        "noise_schedule": "karras",
        "scale": 5.5,
        "cfg_rescale": 0.2,
        "seed": 9,
        "width": 832,
        "height": 1216,
    }
    found = read(json.dumps({"Software": "NovelAI", "Source": "NovelAI Diffusion V3", "Comment": json.dumps(comment)}))
    assert (found.prompt, found.negative_prompt) == ("a cat", "bad")
    assert dict(found.pairs) == {
        "Steps": "28",
        "Sampler": "Euler a",
        "Schedule type": "Karras",
        "CFG scale": "5.5",
        "CFG rescale": "0.2",
        "Seed": "9",
        "Size": "832x1216",
        "Model": "NovelAI Diffusion V3",
        "Clip skip": "2",
        "ENSD": "31337",
    }


def test_invokeai_before_its_third_version_says_all_of_this():
    image = {
        "prompt": [{"prompt": "a cat [bad]", "weight": 1}],
        "steps": 50,
        "sampler": "k_lms",
        "cfg_scale": 7.5,
        "seed": 9,
        "width": 512,
        "height": 640,
        "strength": 0.75,
        "seamless": True,
    }
    found = read(
        json.dumps(
            {
                "model": "stable diffusion",
                "model_weights": "sd-1.4",
                "model_hash": "ab" * 32,
                "app_id": "invoke-ai/InvokeAI",
                "app_version": "2.2.0",
                "image": image,
            }
        )
    )
    assert (found.prompt, found.negative_prompt) == ("a cat", "bad")
    assert dict(found.pairs) == {
        "Steps": "50",
        "Sampler": "LMS",
        "CFG scale": "7.5",
        "Seed": "9",
        "Size": "512x640",
        "Version": "2.2.0",
        "Model hash": "ababababab",
        "Model": "sd-1.4",
        "Denoising strength": "0.75",
        "Tiling": "True",
    }


def test_invokeai_may_say_no_weights():
    found = {"app_id": "invoke-ai/InvokeAI", "model": "stable diffusion", "images": [{"prompt": "a cat", "seed": 9}]}
    said = read(json.dumps(found))
    assert (said.prompt, said.pairs) == ("a cat", (("Seed", "9"), ("Model", "stable diffusion")))


@pytest.mark.parametrize(
    ("said", "sampler", "schedule"),
    [
        ("Hires schedule type: Karras", None, "Karras"),
        ("Hires sampler: DPM++ 2M Karras", "DPM++ 2M", "Karras"),
        ("Hires upscale: 2", None, None),
    ],
)
def test_the_method_of_the_second_pass(said: str, sampler: str | None, schedule: str | None):
    found = read(f"p\nSteps: 20, Sampler: Euler, Seed: 5, {said}")
    settings, request = interpret(found).settings, to_request(found)
    assert (settings.hires_sampler, settings.hires_scheduler) == (sampler, schedule)
    assert (request.hires.sampler, request.hires.scheduler) == (sampler, schedule)


TEXT = "a cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, Seed: 5"


@pytest.mark.parametrize(
    ("packet", "is_read"),
    [
        (f"<exif:UserComment><rdf:Alt><rdf:li x='1'>{TEXT}</rdf:li></rdf:Alt></exif:UserComment>", True),
        (f"<exif:UserComment>{TEXT}</exif:UserComment>", True),
        (f"</exif:UserComment><exif:UserComment>{TEXT}</exif:UserComment>", True),
        (f"<exif:UserComment>{TEXT}", False),
        (f"<dc:title>{TEXT}</dc:title>", False),
        (f"<dc:title>{TEXT}</dc:title></exif:UserComment>", False),
    ],
)
def test_xmp_in_a_plain_chunk(packet: str, is_read: bool):
    """Pillow itself knows it in an international chunk only."""
    chunks, file = PngInfo(), io.BytesIO()
    chunks.add_text("XML:com.adobe.xmp", packet)
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=chunks)
    assert read_image(file.getvalue()) == (read(TEXT) if is_read else None)


def test_resources_by_their_air():
    items = [
        {"air": "urn:air:sd1:LoRA:civitai:122@345", "modelName": "Ink", "weight": 0.8},
        {"type": "Checkpoint", "modelVersionId": 77, "modelName": "Photo"},
        {"air": "urn:air:sd1:lora:huggingface:122@345", "modelName": "no number of Civitai"},
        {"modelName": "nothing known"},
    ]
    found = read(f"p\nSteps: 20, Sampler: Euler, Seed: 5, Civitai resources: {json.dumps(items)}")
    assert resources(found) == (Resource("lora", "Ink", 345, weight=0.8), Resource("checkpoint", "Photo", 77))
