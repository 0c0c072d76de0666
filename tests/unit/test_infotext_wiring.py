"""Every name under which other programs say a thing, typed here as they write it, arrives under A1111's key.

Each test has all fields of a program at once, or one row for each name of a table; what no key takes must keep its own.
"""

from __future__ import annotations

import json

import pytest

from atelier.request.infotext import interpret, read, to_request, without_effect
from atelier.request.infotext.changes import changes
from atelier.request.infotext.listed import listed_networks
from atelier.request.infotext.png_info import filled
from atelier.request.infotext.record import Infotext
from atelier.request.infotext.resources import Resource, resources, split_hashes

SHA = "ab" * 32


def said(fields: object) -> tuple[str, str, str, dict[str, str]]:
    """(dialect, prompt, negative prompt, pairs) of a JSON object."""
    found = read(json.dumps(fields))
    assert len(dict(found.pairs)) == len(found.pairs)
    return found.dialect, found.prompt, found.negative_prompt, dict(found.pairs)


# JSON


INVOKE = {
    "generation_mode": "txt2img",
    "positive_prompt": "a cat",
    "negative_prompt": "bad",
    "steps": 30,
    "scheduler": "euler_k",
    "cfg_scale": 7.5,
    "cfg_rescale_multiplier": 0.3,
    "seed": 9,
    "width": 512,
    "height": 640,
    "model": {"model_name": "sd-1.5", "hash": SHA},
    "vae": {"name": "mse"},
    "strength": 0.6,
    "clip_skip": 1,
    "rand_device": "cpu",
    "app_version": "3.4.0",
    "guidance": 3.5,
}


def test_invokeai_says_all_of_this() -> None:
    assert said(INVOKE) == (
        *("invokeai", "a cat", "bad"),
        {
            "Steps": "30",
            "Sampler": "Euler",
            "Schedule type": "Karras",
            "CFG scale": "7.5",
            "CFG rescale": "0.3",
            "Seed": "9",
            "Size": "512x640",
            "Model hash": "ababababab",
            "Model": "sd-1.5",
            "VAE": "mse",
            "Denoising strength": "0.6",
            "Clip skip": "2",
            "Distilled CFG Scale": "3.5",
            "RNG": "CPU",
            "generation_mode": "txt2img",
            "Version": "3.4.0",
        },
    )
    other = {"model": {"name": "x", "hash": "blake3:12"}, "vae": {"model_name": "y"}, "clip_skip": 0}
    pairs = said({**INVOKE, **other, "scheduler": "euler", "rand_device": "cuda"})[3]
    assert (pairs["Model"], pairs["VAE"], pairs["RNG"], pairs["Sampler"]) == ("x", "y", "GPU", "Euler")
    assert not {"Model hash", "Clip skip", "Schedule type"} & pairs.keys()


@pytest.mark.parametrize(
    ("known", "more"),
    [
        ("generation_mode scheduler", {"a": 1}),
        ("generation_mode positive_prompt", {"a": 1}),
        ("positive_prompt scheduler", {"a": 1}),
    ],
)
def test_two_fields_tell_invokeai(known: str, more: dict[str, object]) -> None:
    assert said(dict.fromkeys(known.split(), "x") | more)[0] == "invokeai"


@pytest.mark.parametrize("name", ["generation_mode", "positive_prompt", "scheduler"])
def test_one_field_does_not(name: str) -> None:
    assert read(json.dumps({name: "x", "steps": 3, "seed": 4})).dialect != "invokeai"


@pytest.mark.parametrize(
    ("text", "prompt", "flags"),
    [
        ('"a cat" -s 50 -S 1 -W 512 -H 640', "a cat", {"s": "50", "S": "1", "W": "512", "H": "640"}),
        ("a cat -s50 -S1 -cf -f 0.75 -C7.5", "a cat", {"s": "50", "S": "1", "cf": "", "f": "0.75", "C": "7.5"}),
        ('"a cat" --seamless -S1 -s 50', "a cat", {"-seamless": "", "S": "1", "s": "50"}),
        ('"a cat" and more -S1 -s 50', "a cat", {"S": "1", "s": "50"}),
        ("a cat -s50 -S1 --with_variations 2 3", "a cat", {"s": "50", "S": "1", "-with_variations": "2 3"}),
    ],
)
def test_flags_of_invokeais_command_line(text: str, prompt: str, flags: dict[str, str]) -> None:
    found = read(text)
    assert (found.dialect, found.prompt, found.source) == ("invokeai", prompt, flags)


def test_keys_of_invokeais_command_line() -> None:
    found = read('"a cat [bad] in the [rain, fog] park" -s 50 -S 1 -W 512 -H 640 -C 7.5 -A k_lms -f 0.75')
    assert (found.prompt, found.negative_prompt) == ("a cat in the park", "bad, rain, fog")
    assert dict(found.pairs) == {
        "Steps": "50",
        "Seed": "1",
        "CFG scale": "7.5",
        "Denoising strength": "0.75",
        "Size": "512x640",
        "Sampler": "LMS",
    }


def test_flags_for_images_of_invokeais_command_line() -> None:
    flags = "-I in.png -M mask.png -G 0.8 -U 2 0.6 -v 0.1 --hires_fix --seamless"
    assert dict(read(f'"a cat" -s 50 -S 1 {flags}').pairs) == {
        "Steps": "50",
        "Seed": "1",
        "Init image": "in.png",
        "Mask": "mask.png",
        "Face restoration": "0.8",
        "Upscale": "2 0.6",
        "Variations": "0.1",
        "Hires fix": "True",
        "Tiling": "True",
    }
    assert read('"a cat" -s 50 -S 1 -V 7:0.2 --hires').get("Variations") == "7:0.2"


@pytest.mark.parametrize("text", ['"a cat" -s 50 -W 512', "a cat -S 1", '"a cat -s 50 -S 1', "a cat", "a cat -x 1 -S2"])
def test_a_command_line_says_steps_and_seed(text: str) -> None:
    assert (read(text).dialect, read(text).prompt) == ("text", text)


def test_swarmui_says_all_of_this() -> None:
    inner = {
        "prompt": "a cat",
        "negativeprompt": "bad",
        "steps": 30,
        "sampler": "euler",
        "scheduler": "karras",
        "comfyuisampler": "heun",
        "comfyuischeduler": "simple",
        "cfgscale": 7.5,
        "seed": 9,
        "width": 512,
        "height": 640,
        "resolution": "8x8",
        "model": "x",
        "vae": "mse",
        "clipstopatlayer": -2,
        "variationseed": 3,
        "variationseedstrength": 0.5,
        "initimagecreativity": 0.6,
        "swarm_version": "0.9",
        "loras": "ink",
    }
    wanted = {
        "Steps": "30",
        "Sampler": "euler",
        "Schedule type": "karras",
        "CFG scale": "7.5",
        "Seed": "9",
        "Size": "512x640",
        "Model": "x",
        "VAE": "mse",
        "Clip skip": "2",
        "Variation seed": "3",
        "Variation seed strength": "0.5",
        "Denoising strength": "0.6",
        "loras": "ink",
        "Version": "0.9",
    }
    assert said({"sui_image_params": inner}) == ("swarmui", "a cat", "bad", wanted)
    for vae in ("None", "Automatic", ""):
        assert "VAE" not in said({"sui_image_params": {**inner, "vae": vae}})[3]
    for layer in (-1, "-2"):
        assert "Clip skip" not in said({"sui_image_params": {**inner, "clipstopatlayer": layer}})[3]


def test_fooocus_says_all_of_this() -> None:
    fields = {
        "prompt": "a cat",
        "negative_prompt": "bad",
        "full_prompt": ["a cat", "x"],
        "full_negative_prompt": ["bad"],
        "steps": 30,
        "sampler": "dpmpp_2m_sde_gpu",
        "scheduler": "karras",
        "guidance_scale": 4.0,
        "seed": "9",
        "resolution": "(512, 640)",
        "base_model": "juggernaut",
        "base_model_hash": "0123456789",
        "clip_skip": 2,
        "refiner_model": "sdxl",
        "refiner_switch": 0.5,
        "version": "Fooocus v2.5.5",
        "sharpness": 2.0,
    }
    wanted = {
        "Steps": "30",
        "Sampler": "dpmpp_2m_sde_gpu",
        "Schedule type": "karras",
        "CFG scale": "4.0",
        "Seed": "9",
        "Size": "512x640",
        "Model hash": "0123456789",
        "Model": "juggernaut",
        "Clip skip": "2",
        "Refiner": "sdxl",
        "Refiner switch at": "0.5",
        "sharpness": "2.0",
        "Version": "Fooocus v2.5.5",
    }
    assert said(fields) == ("fooocus", "a cat", "bad", wanted)
    for none in ("None", None):
        assert not {"Refiner", "Refiner switch at"} & said({**fields, "refiner_model": none})[3].keys()


def test_draw_things_says_all_of_this() -> None:
    fields = {
        "c": "a cat",
        "uc": "bad",
        "steps": 30,
        "sampler": "Euler a",
        "scale": 7.5,
        "shift": 3,
        "seed": 9,
        "size": "512x640",
        "model": "x",
        "strength": 0.6,
        "mask_blur": 1.5,
        "profile": {"a": 1},
        "v2": {"guidanceEmbed": 3.5, "clipSkip": 2},
        "lora": [],
    }
    wanted = {
        "Steps": "30",
        "Sampler": "Euler a",
        "CFG scale": "7.5",
        "Distilled CFG Scale": "3.5",
        "Shift": "3",
        "Seed": "9",
        "Size": "512x640",
        "Model": "x",
        "Denoising strength": "0.6",
        "Clip skip": "2",
        "Mask blur": "1.5",
        "lora": "[]",
    }
    assert said(fields) == ("draw-things", "a cat", "bad", wanted)
    assert "Denoising strength" not in said({**fields, "strength": 1})[3]


def test_civitai_says_all_of_this() -> None:
    extra = {
        "prompt": "a cat",
        "negativePrompt": "bad",
        "steps": 30,
        "sampler": "Euler a",
        "cfgScale": 7.5,
        "seed": 9,
        "width": 512,
        "height": 640,
        "clipSkip": 2,
        "workflowId": "txt2img",
    }
    wanted = {
        "Steps": "30",
        "Sampler": "Euler a",
        "CFG scale": "7.5",
        "Seed": "9",
        "Size": "512x640",
        "Clip skip": "2",
        "workflowId": "txt2img",
    }
    assert said({"extraMetadata": json.dumps(extra)}) == ("civitai", "a cat", "bad", wanted)


# ComfyUI


Nodes = dict[str, dict[str, object]]


def node(kind: str, **inputs: object) -> dict[str, object]:
    return {"class_type": kind, "inputs": inputs}


def plain(**changed: object) -> Nodes:
    sampler = {"seed": 7, "steps": 20, "cfg": 6.5, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0}
    wires = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    return {
        "3": node("KSampler", **{**sampler, **wires, **changed}),
        "4": node("CheckpointLoaderSimple", ckpt_name="v1-5.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
        "6": node("CLIPTextEncode", text="a cat", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="blurry", clip=["4", 1]),
    }


def graph(nodes: Nodes, **more: dict[str, object]) -> Infotext:
    return read(json.dumps(nodes | {name.removeprefix("n"): value for name, value in more.items()}))


def told(**inputs: object) -> str:
    """The prompt where a node of these inputs is what leads to the sampler."""
    return graph(plain(positive=["20", 0]), n20=node("X", **inputs)).prompt


@pytest.mark.parametrize(
    "name",
    [
        *("populated_text", "text", "text_g", "prompt", "t5xxl", "clip_l", "string", "value", "wildcard_text"),
        *("positive", "negative", "Text", "String", "Prompt"),
    ],
)
def test_what_comfyuis_nodes_call_a_text(name: str) -> None:
    assert told(**{name: "a fox"}, other=3) == "a fox"


@pytest.mark.parametrize("name", ["conditioning", "conditioning_1", "conditioning_to", "positive", "cond1"])
def test_what_comfyuis_nodes_call_a_conditioning(name: str) -> None:
    assert told(decoy=["7", 0], **{name: ["6", 0]}) == "a cat"


@pytest.mark.parametrize(
    "name", ["clip", "model", "vae", "image", "images", "pixels", "mask", "latent_image", "control_net"]
)
def test_wires_of_comfyui_that_lead_to_no_text(name: str) -> None:
    assert told(**{name: ["7", 0]}, thing=["6", 0]) == "a cat"


def test_the_more_telling_text_comes_first() -> None:
    assert told(wildcard_text="a {fox|hen}", text="a", populated_text="a fox") == "a fox"
    assert told(prompt="late", text_g="a fox", text="") == "a fox"
    assert told(text="", other=3) == ""


@pytest.mark.parametrize("name", ["select", "Input", "index", "input"])
def test_what_chooses_a_text(name: str) -> None:
    assert told(**{name: 2}, text1="a hen", text2="a fox") == "a fox"


@pytest.mark.parametrize(
    ("tidy", "expected"),
    [("yes", "a, fox"), ("true", "a, fox"), ("True", "a, fox"), (True, "a, fox"), ("no", "a fox"), (None, "a fox")],
)
def test_texts_that_are_tidied(tidy: object, expected: str) -> None:
    assert told(action="append", tidy_tags=tidy, text_a="a", text_b=" fox") == expected


def test_what_stands_between_joined_texts() -> None:
    assert told(separator="+", text_a="a", text_b="fox") == "a+fox"
    assert told(delimiter="\\n", text_a="a", text_b="fox") == "a\nfox"
    for kind in ("StringConcatenate", "AppendText", "JoinStrings", "CombineText"):
        found = graph(plain(positive=["20", 0]), n20=node(kind, text_a="a", text_b="fox"))
        assert found.prompt == "afox", kind


VALUES = ("value", "seed", "noise_seed", "string", "text", "int", "float", "number", "prompt", "Value", "Number")


@pytest.mark.parametrize("name", VALUES)
def test_what_comfyuis_nodes_call_a_value(name: str) -> None:
    found = graph(plain(steps=["20", 0]), n20=node("X", first="no", **{name: 99}))
    assert found.get("Steps") == "99"


def test_a_switch_is_no_value() -> None:
    assert graph(plain(steps=["20", 0]), n20=node("X", value=True)).get("Steps") is None


SIGMAS = {
    "KarrasScheduler": "Karras",
    "ExponentialScheduler": "Exponential",
    "PolyexponentialScheduler": "Polyexponential",
    "SDTurboScheduler": "Turbo",
    "AlignYourStepsScheduler": "Align Your Steps",
    "BetaSamplingScheduler": "beta",
    "BasicScheduler": None,
}
SAMPLERS = {
    "SamplerEulerAncestral": "euler_ancestral",
    "SamplerLMS": "lms",
    "SamplerDPMPP_2M_SDE": "dpmpp_2m_sde",
    "SamplerDPMPP_3M_SDE": "dpmpp_3m_sde",
    "SamplerDPMPP_2S_Ancestral": "dpmpp_2s_ancestral",
    "SamplerDPMPP_SDE": "dpmpp_sde",
    "SamplerDPMAdaptative": "dpm_adaptive",
    "SamplerER_SDE": "er_sde",
    "SamplerSASolver": "sa_solver",
    "SamplerUnheardOf": None,
}


def custom(sampler: str, sigmas: str) -> Infotext:
    nodes = plain()
    wires = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    nodes["3"] = node("SamplerCustom", noise_seed=11, cfg=8.0, sampler=["9", 0], sigmas=["10", 0], **wires)
    return graph(nodes, n9=node(sampler, eta=1.0), n10=node(sigmas, steps=25))


@pytest.mark.parametrize("kind", SIGMAS)
def test_nodes_that_are_one_schedule(kind: str) -> None:
    assert custom("SamplerLMS", kind).get("Schedule type") == SIGMAS[kind]


@pytest.mark.parametrize("kind", SAMPLERS)
def test_nodes_that_are_one_sampler(kind: str) -> None:
    found = custom(kind, "KarrasScheduler")
    assert found.get("Sampler") == SAMPLERS[kind]
    assert (found.get("Steps"), found.get("Seed"), found.get("CFG scale")) == ("25", "11", "8.0")


@pytest.mark.parametrize("name", ["ckpt_name", "unet_name", "model_name"])
def test_what_loaders_call_a_model(name: str) -> None:
    nodes = plain()
    nodes["4"] = node("Loader", **{name: "sub/other.ckpt"})
    assert graph(nodes).get("Model") == "other"


@pytest.mark.parametrize("name", ["latent_image", "latent", "optional_latent", "samples"])
def test_what_samplers_call_a_latent(name: str) -> None:
    nodes = plain(latent_image=0)
    inputs = nodes["3"]["inputs"]
    assert isinstance(inputs, dict)
    inputs[name] = ["5", 0]
    assert graph(nodes).get("Size") == "512x768"


@pytest.mark.parametrize("name", ["stop_at_clip_layer", "clip_skip"])
def test_what_nodes_call_the_last_layer(name: str) -> None:
    nodes = plain()
    nodes["6"] = node("CLIPTextEncode", text="a cat", clip=["20", 0])
    assert graph(nodes, n20=node("X", clip=["4", 1], **{name: -2})).get("Clip skip") == "2"
    assert graph(nodes, n20=node("X", clip=["4", 1], **{name: -1})).get("Clip skip") is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"model_weight_1": 0.5, "clip_weight_1": 0.7}, "<lora:ink:0.7:0.5>"),
        ({"model_str_1": 0.5, "clip_str_1": 0.7}, "<lora:ink:0.7:0.5>"),
        ({"lora_1_model_strength": 0.5, "lora_1_clip_strength": 0.7}, "<lora:ink:0.7:0.5>"),
        ({"lora_wt_1": 0.5}, "<lora:ink:0.5>"),
        ({"lora_1_strength": 0.5}, "<lora:ink:0.5>"),
        ({"strength_1": 0.5}, "<lora:ink:0.5>"),
        ({"strength_01": 0.5}, "<lora:ink:0.5>"),
        ({"lora_wt_1": 0.5, "model_str_1": 0.6, "clip_str_1": 0.7, "input_mode": "simple"}, "<lora:ink:0.5>"),
        ({"lora_1_strength": 0.5, "model_str_1": 0.6, "mode": "simple"}, "<lora:ink:0.5>"),
        ({"strength_1": 0.5, "lora_count": 0}, None),
        ({"strength_1": 0.5, "num_loras": 0}, None),
        ({"strength_1": 0.5, "num_loras": 1}, "<lora:ink:0.5>"),
        ({"strength_1": 0.5, "switch_1": "Off"}, None),
        ({"strength_1": 0.5, "switch_1": "On"}, "<lora:ink:0.5>"),
        ({"strength_1": 0.5, "toggle": False}, None),
    ],
)
def test_weights_of_networks_in_a_stack(names: dict[str, object], expected: str | None) -> None:
    stack = node("Stacker", model=["4", 0], lora_name_1="sub/ink.safetensors", **names)
    assert graph(plain(model=["20", 0]), n20=stack).get("LoRAs") == expected


@pytest.mark.parametrize(
    ("unet", "text"), [("strength_model", "strength_clip"), ("lora_model_strength", "lora_clip_strength")]
)
def test_weights_of_one_network(unet: str, text: str) -> None:
    loader = node("LoraLoader", model=["4", 0], lora_name="ink.safetensors", **{unet: 0.8, text: 0.5})
    assert graph(plain(model=["20", 0]), n20=loader).get("LoRAs") == "<lora:ink:0.5:0.8>"


@pytest.mark.parametrize(
    "name", ["control_net_name", "ipadapter_file", "gligen_name", "style_model_name", "model_name", "hypernetwork_name"]
)
def test_files_of_nodes_that_change_the_image(name: str) -> None:
    loader = node("Loader", **{name: "sub\\depth.safetensors"})
    change = node("ControlNetApply", conditioning=["6", 0], control_net=["21", 0])
    found = graph(plain(positive=["20", 0]), n20=change, n21=loader)
    assert found.get("Node ControlNetApply") == "depth"


# Lines


LINE = "Steps: 20, Sampler: Euler, Seed: 5, Size: 64x64"


@pytest.mark.parametrize(
    "tail", ["Template", "Negative Template", "Additional networks", "Used embeddings", "Time taken"]
)
def test_lines_behind_the_parameters(tail: str) -> None:
    found = read(f"a cat\n{LINE}\n\n{tail}: one\ntwo")
    assert (found.prompt, found.get("Size"), found.get(tail)) == ("a cat", "64x64", "one\ntwo")
    wrapped = read(f"a cat\nSteps: 20, Sampler: Euler,\nSeed: 5, Size: 64x64\n{tail}: one")
    assert (wrapped.prompt, wrapped.get("Size"), wrapped.get(tail)) == ("a cat", "64x64", "one")


def test_a_text_whose_lines_became_dots() -> None:
    """As exiftool shows it: the negative prompt begins in the middle of a line."""
    found = read("Parameters                      : a cat..Negative prompt: dog..Steps: 20, Sampler: Euler, Seed: 5")
    assert (found.prompt, found.negative_prompt, found.get("Seed")) == ("a cat", "dog", "5")
    found = read("User Comment  : a cat.Negative prompt: dog\nSteps: 20, Sampler: Euler, Seed: 5")
    assert (found.prompt, found.negative_prompt) == ("a cat", "dog")


@pytest.mark.parametrize(
    ("text", "rng"),
    [
        ("RNG: CPU", "cpu"),
        ("RNG: portable", "portable"),
        ("RNG: std_default", "cpu"),
        ("RNG: NV, Version: ComfyUI", "nv"),
        ("RNG: GPU, Version: ComfyUI", "nv"),
        ("RNG: cuda, Version: ComfyUI", "nv"),
        ("Version: ComfyUI", "cpu"),
        ("Version: v1.10.1", "nv"),
    ],
)
def test_where_noise_is_drawn(text: str, rng: str) -> None:
    found = read(f"a cat\n{LINE}, {text}")
    assert to_request(found).noise.rng == rng
    assert interpret(found).warnings == ()


HARMLESS = (
    *("Batch size: 2", "Batch pos: 1", "Template: a", "Negative Template: b", "Dtype: fp32", "Device: cpu"),
    *("Libraries: torch", "Pixel hash: ab", "VAE hash: ab", "Lora hashes: a", "TI hashes: a", "Init image hash: ab"),
    *("Cache FP16 weight for LoRA: True", "UniPC skip type: logSNR", "Hypertile U-Net: True", "User: me"),
    *("Hypertile U-Net second pass: True", "Hypertile VAE: True", "Version: v1.10.1", "Size: 64x128"),
)


@pytest.mark.parametrize("pair", HARMLESS)
def test_what_changes_no_image_is_not_told(pair: str) -> None:
    assert without_effect(read(f"a cat\nSteps: 20, Sampler: Euler, Seed: 5, {pair}")) == ()


@pytest.mark.parametrize("pair", ["FP8 weight: Enable", "Token merging ratio: .5"])
def test_what_changes_an_image_is_told(pair: str) -> None:
    assert without_effect(read(f"a cat\n{LINE}, {pair}")) == (pair.partition(":")[0],)


@pytest.mark.parametrize(
    "value", ["", "None", "false", "OFF", "no", "0", "0.0", "[]", "{}", "null", "Disabled", "Use same choices"]
)
def test_an_extension_that_is_off_changes_nothing(value: str) -> None:
    assert changes((("ADetailer model", value),)) == ()
    assert changes((("FreeU B1", "1.1"), ("FreeU Enabled", value), ("FreeU S1", "0.9"))) == ()
    assert changes((("FreeU B1", "1.1"), ("FreeU Active", value))) == ()


def test_extensions_are_told_once_under_their_first_key() -> None:
    pairs = (
        ("FreeU Enabled", "True"),
        ("FreeU B1", "1.1"),
        ("ADetailer model", "face"),
        ("LoRA", "ink"),
        ("Mood", "x"),
    )
    assert changes(pairs) == ("FreeU Enabled", "ADetailer model", "LoRA")
    assert changes((("init_image", "a.png"), ("Node FreeU", "on"))) == ("init_image", "Node FreeU")


@pytest.mark.parametrize(
    ("version", "more", "key"),
    [
        ("v1.5.1", "Sampler: Euler", "Old prompt editing timelines"),
        ("v1.5.1", "Sampler: DDIM", "Pad conds v0"),
        ("v1.6.0", "Sampler: Euler", "Downcast alphas_cumprod"),
        ("v1.7.0", "Sampler: Euler, Refiner: sdxl", "Refiner switch by sampling steps"),
    ],
)
def test_what_a1111_shows_of_what_old_versions_did(version: str, more: str, key: str) -> None:
    found = filled(f"[a:b:3]\nSteps: 20, Seed: 5, {more}, Version: {version}\n")
    assert found[key] is True
    assert found["Prompt"] == "[a:b:3]"
    newer = filled(f"[a:b:3]\nSteps: 20, Seed: 5, {more}, Version: v1.10.1")
    assert newer.get(key, False) is False


# Models that a text names


@pytest.mark.parametrize("kind", ["lora", "LoRA", "LyCORIS", "locon", "DoRA"])
def test_kinds_of_networks(kind: str) -> None:
    items = json.dumps([{"type": kind, "modelVersionId": 7, "modelName": "Ink", "weight": 1}])
    found = read(f"a <lora:ink_v1:0.5> cat\n{LINE}, Civitai resources: {items}")
    assert resources(found) == (Resource("lora", "ink_v1", 7, weight=1.0),)


EMBEDS = ["embed", "Embedding", "TextualInversion", "hypernet", "Hypernetwork"]


@pytest.mark.parametrize("kind", ["lora", "LyCORIS", "locon", "dora", "lyco", *EMBEDS])
def test_kinds_of_networks_in_hashes(kind: str) -> None:
    hashes = json.dumps({f"{kind}:ink": "0123456789"})
    assert listed_networks(read(f"a cat\n{LINE}, Hashes: {hashes}")) == ("Hashes",)
    if kind not in EMBEDS:
        assert listed_networks(read(f"a <lora:ink:1> cat\n{LINE}, Hashes: {hashes}")) == ()


def test_models_by_their_hashes() -> None:
    line = f'{LINE}, Model hash: 0123456789, Model: v1-5, Lora hashes: "ink: 12ab, wool: 34cd", TI hashes: "e: 56ef"'
    assert resources(read(f"a cat\n{line}")) == (
        Resource("checkpoint", "v1-5", hash="0123456789"),
        Resource("lora", "ink", hash="12ab"),
        Resource("lora", "wool", hash="34cd"),
        Resource("embedding", "e", hash="56ef"),
    )
    assert split_hashes("a: b: 12, : 3, x:, y: 4 ") == (("a: b", "12"), ("y", "4"))


def test_networks_keep_their_titles_where_there_are_other_tags() -> None:
    items = json.dumps([{"type": "lora", "modelVersionId": 7, "modelName": "Ink"}, {"type": "", "modelVersionId": 8}])
    found = read(f"a <lora:one:1> <lyco:two> cat\n{LINE}, Civitai resources: {items}")
    assert resources(found) == (Resource("lora", "Ink", 7),)
