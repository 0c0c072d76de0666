"""What other programs write: graphs of ComfyUI, JSON of many kinds, and the carriers they choose."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from atelier.diffusion.catalogue import resolve_sampler, resolve_schedule
from atelier.errors import BadInput
from atelier.request.infotext import interpret, read, to_request
from atelier.request.infotext.image import read_image
from atelier.request.infotext.record import Infotext

TEXT = "a cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x64"


def node(kind: str, **inputs: object) -> dict[str, object]:
    return {"class_type": kind, "inputs": inputs}


def graph(**nodes: dict[str, object]) -> Infotext:
    """Nodes by number: _3=node(...)."""
    return read(json.dumps({name.removeprefix("_"): value for name, value in nodes.items()}))


def core(**changes: object) -> dict[str, dict[str, object]]:
    sampler = {"seed": 7, "steps": 20, "cfg": 6.5, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0}
    wires = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    return {
        "_3": node("KSampler", **{**sampler, **wires, **changes}),
        "_4": node("CheckpointLoaderSimple", ckpt_name="sub\\v1-5.safetensors"),
        "_5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
        "_6": node("CLIPTextEncode", text="a cat", clip=["4", 1]),
        "_7": node("CLIPTextEncode", text="blurry", clip=["4", 1]),
    }


def said(found: Infotext) -> tuple[str, str, dict[str, str]]:
    return found.prompt, found.negative_prompt, dict(found.pairs)


PLAIN = {
    "Steps": "20",
    "Sampler": "euler",
    "Schedule type": "karras",
    "CFG scale": "6.5",
    "Seed": "7",
    "Size": "512x768",
    "Model": "v1-5",
}


def test_the_standard_graph() -> None:
    assert said(graph(**core())) == ("a cat", "blurry", PLAIN)


def test_outputs_of_a_node_with_two_sides_are_told_apart() -> None:
    nodes = core(positive=["9", 0], negative=["9", 1])
    nodes["_9"] = node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], strength=1, image=["10", 0])
    assert said(graph(**nodes))[:2] == ("a cat", "blurry")


def test_a_zeroed_conditioning_says_nothing() -> None:
    nodes = core(negative=["9", 0])
    nodes["_9"] = node("ConditioningZeroOut", conditioning=["6", 0])
    assert said(graph(**nodes))[:2] == ("a cat", "")


@pytest.mark.parametrize(
    "held", [node("PrimitiveInt", value=99), node("Seed (rgthree)", seed=99), node("INTConstant", value=99)]
)
def test_widgets_that_became_wires_are_followed(held: dict[str, object]) -> None:
    nodes = core(seed=["20", 0], steps=["20", 0])
    nodes["_20"] = held
    nodes["_6"] = node("CLIPTextEncode", text=["21", 0], clip=["4", 1])
    nodes["_21"] = node("PrimitiveStringMultiline", value="a dog")
    prompt, _, pairs = said(graph(**nodes))
    assert (prompt, pairs["Seed"], pairs["Steps"]) == ("a dog", "99", "99")


def test_a_wire_to_nowhere_is_not_known() -> None:
    _, _, pairs = said(graph(**core(seed=["99", 0])))
    assert "Seed" not in pairs


def custom(guider: dict[str, object]) -> dict[str, dict[str, object]]:
    return {
        "_1": node(
            "SamplerCustomAdvanced",
            noise=["2", 0],
            guider=["8", 0],
            sampler=["9", 0],
            sigmas=["10", 0],
            latent_image=["5", 0],
        ),
        "_2": node("RandomNoise", noise_seed=4),
        "_4": node("UNETLoader", unet_name="flux1-dev.safetensors"),
        "_5": node("EmptySD3LatentImage", width=1024, height=768, batch_size=1),
        "_6": node("CLIPTextEncode", text="a cat", clip=["11", 0]),
        "_7": node("CLIPTextEncode", text="bad", clip=["11", 0]),
        "_8": guider,
        "_9": node("KSamplerSelect", sampler_name="dpmpp_2m"),
        "_10": node("BasicScheduler", scheduler="simple", steps=28, denoise=1.0, model=["4", 0]),
        "_12": node("FluxGuidance", guidance=3.5, conditioning=["6", 0]),
    }


def test_graphs_of_parts() -> None:
    prompt, negative, pairs = said(graph(**custom(node("BasicGuider", model=["4", 0], conditioning=["12", 0]))))
    wanted = {"Steps": "28", "Sampler": "dpmpp_2m", "Schedule type": "simple", "Seed": "4", "Size": "1024x768"}
    assert (prompt, negative) == ("a cat", "")
    assert pairs == {**wanted, "CFG scale": "1", "Distilled CFG Scale": "3.5", "Model": "flux1-dev"}
    wires = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0]}
    prompt, negative, pairs = said(graph(**custom(node("CFGGuider", cfg=4.0, **wires))))
    assert (prompt, negative, pairs["CFG scale"]) == ("a cat", "bad", "4.0")


def test_a_custom_sampler_with_levels_of_one_kind() -> None:
    nodes = core()
    sampler = {"add_noise": True, "noise_seed": 11, "cfg": 8.0, "sampler": ["9", 0], "sigmas": ["10", 0]}
    wires = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    nodes["_3"] = node("SamplerCustom", **sampler, **wires)
    nodes["_9"] = node("SamplerDPMPP_2M_SDE", eta=1.0)
    nodes["_10"] = node("KarrasScheduler", steps=25, sigma_max=14.6, sigma_min=0.03, rho=7.0)
    found = graph(**nodes)
    assert said(found)[2]["Steps"] == "25"
    assert interpret(found).settings.sampler == "DPM++ 2M SDE"
    assert interpret(found).settings.scheduler == "Karras"


def test_the_first_pass_is_what_is_read_wherever_it_stands() -> None:
    second = node(
        "KSampler",
        seed=1,
        steps=8,
        cfg=3.0,
        sampler_name="lcm",
        scheduler="simple",
        denoise=0.5,
        model=["4", 0],
        positive=["6", 0],
        negative=["7", 0],
        latent_image=["13", 0],
    )
    upscale = node("LatentUpscale", width=1152, height=1152, samples=["3", 0])
    detailer = node("FaceDetailer", image=["15", 0], seed=2, steps=4, positive=["6", 0], negative=["7", 0])
    decoded = node("VAEDecode", samples=["3", 0], vae=["4", 2])
    told = {"Node KSampler": "a further pass", "Node FaceDetailer": "a further pass"}
    found = said(graph(_1=second, _13=upscale, _14=detailer, _15=decoded, **core()))
    assert found == ("a cat", "blurry", {**PLAIN, **told})


def test_loaders_that_hold_everything() -> None:
    loader = {"ckpt_name": "x.safetensors", "positive": "a cat", "negative": "bad", "lora_name": "None"}
    loader |= {"empty_latent_width": 640, "empty_latent_height": 448}
    nodes = core(model=["20", 0], positive=["20", 1], negative=["20", 2], latent_image=["20", 3])
    nodes["_20"] = node("Efficient Loader", **loader)
    prompt, negative, pairs = said(graph(**nodes))
    assert (prompt, negative, pairs["Size"], pairs["Model"]) == ("a cat", "bad", "640x448", "x")


def test_networks_and_skipped_layers_are_kept() -> None:
    nodes = core(model=["21", 0])
    nodes["_20"] = node(
        "LoraLoader", lora_name="ink.safetensors", strength_model=0.8, strength_clip=0.5, model=["4", 0]
    )
    power = {"lora_1": {"on": True, "lora": "wool.safetensors", "strength": 0.3}, "lora_2": {"on": False, "lora": "no"}}
    nodes["_21"] = node("Power Lora Loader (rgthree)", model=["20", 0], **power)
    nodes["_22"] = node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["4", 1])
    nodes["_6"] = node("CLIPTextEncode", text="a cat", clip=["22", 0])
    _, _, pairs = said(graph(**nodes))
    assert (pairs["LoRAs"], pairs["Clip skip"]) == ("<lora:wool:0.3>, <lora:ink:0.5:0.8>", "2")


def test_a_graph_without_a_sampler_is_nothing_to_paint() -> None:
    found = graph(_1=node("LoadImage", image="a.png"), _2=node("SaveImage", images=["1", 0]))
    assert found.dialect == "comfyui"
    with pytest.raises(BadInput, match="nothing that can be generated"):
        to_request(found)
    assert to_request(found, {"prompt": "a cat"}).prompt == "a cat"


def test_a_graph_in_circles_ends() -> None:
    nodes = core(positive=["6", 0], seed=["8", 0], latent_image=["5", 0])
    nodes["_6"] = node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["6", 0])
    nodes["_8"] = node("Reroute", value=["8", 0])
    nodes["_5"] = node("LatentUpscale", samples=["5", 0], width=["8", 0], height=8)
    prompt, _, pairs = said(graph(**nodes))
    assert prompt == ""
    assert not {"Seed", "Size"} & pairs.keys()


# JSON of other programs


def pairs_of(fields: Mapping[str, Any]) -> tuple[str, str, str, dict[str, str]]:
    found = read(json.dumps(fields))
    return (found.dialect, *said(found))


def test_what_civitai_writes_beside_its_graph() -> None:
    extra = {"prompt": "a cat", "negativePrompt": "bad", "cfgScale": 5, "steps": 25, "seed": 9, "sampler": "Euler a"}
    nodes = {name.removeprefix("_"): value for name, value in core().items()}
    fields = {"resource-stack": node("X"), **nodes, "extra": {"airs": []}, "extraMetadata": json.dumps(extra)}
    dialect, prompt, negative, pairs = pairs_of(fields)
    assert (dialect, prompt, negative) == ("civitai", "a cat", "bad")
    assert pairs["Sampler"] == "Euler a"
    assert (pairs["Steps"], pairs["CFG scale"], pairs["Seed"], pairs["Size"]) == ("25", "5", "9", "512x768")
    del fields["extraMetadata"]
    assert pairs_of(fields)[0] == "comfyui"


def test_invokeai_says_where_its_noise_is_drawn() -> None:
    new = {"generation_mode": "txt2img", "positive_prompt": "p", "scheduler": "euler", "seed": 1, "steps": 9}
    old = {"app_id": "invoke-ai/InvokeAI", "image": {"prompt": "p", "steps": 9, "seed": 1, "sampler": "k_euler"}}
    several = {"app_id": "invoke-ai/InvokeAI", "images": [old["image"]]}
    expected = {"cuda": "nv", "cpu": "cpu", None: "cpu"}
    for device, rng in expected.items():
        assert to_request(read(json.dumps({**new, "rand_device": device}))).noise.rng == rng
    assert to_request(read(json.dumps(old))).noise.rng == to_request(read('"p" -s 9 -S 1 -A k_euler')).noise.rng == "nv"
    assert said(read(json.dumps(several))) == said(read(json.dumps(old)))


def test_invokeai_with_guidance_and_long_flags() -> None:
    flux = {"generation_mode": "flux_txt2img", "positive_prompt": "p", "guidance": 4, "steps": 30, "seed": 3}
    dialect, prompt, _, pairs = pairs_of(flux)
    assert (dialect, prompt, pairs["Steps"], pairs["Distilled CFG Scale"]) == ("invokeai", "p", "30", "4")
    found = read('"a cat" -s 50 -S 1 -W 512 -H 512 -A k_euler_a --seamless --hires_fix')
    assert found.get("Sampler") == "Euler a"


def test_swarmui_with_comfys_names() -> None:
    inner = {"prompt": "p", "negativeprompt": "n", "seed": 2, "steps": 5, "cfgscale": 7.0, "width": 64, "height": 64}
    inner |= {"comfyuisampler": "euler_ancestral", "comfyuischeduler": "karras", "vae": "None", "clipstopatlayer": -2}
    inner |= {"variationseed": 3, "variationseedstrength": 0.2, "initimagecreativity": 0.6}
    dialect, _, _, pairs = pairs_of({"sui_image_params": inner})
    assert dialect == "swarmui"
    assert "VAE" not in pairs
    found = interpret(read(json.dumps({"sui_image_params": inner}))).settings
    assert (found.sampler, found.scheduler, found.clip_skip) == ("euler_ancestral", "Karras", 2)
    assert (found.variation_seed, found.variation_strength, found.denoising_strength) == (3, 0.2, 0.6)


def test_novelai_in_an_envelope() -> None:
    comment = {"steps": 28, "sampler": "k_euler", "seed": 3, "scale": 5.0, "uc": "bad", "prompt": "a cat"}
    assert pairs_of({"Comment": json.dumps(comment)})[:3] == ("novelai", "a cat", "bad")


def test_characters_of_novelai() -> None:
    comment = {"steps": 28, "sampler": "k_euler", "seed": 3, "scale": 5.0, "uc": "bad", "prompt": "a park"}
    people = [{"char_caption": "a girl", "centers": [{"x": 0.5, "y": 0.5}]}, {"char_caption": " "}, {"char_caption": 4}]
    captions = {"base_caption": "a park", "char_captions": [*people, {"char_caption": "a boy"}]}
    comment |= {"v4_prompt": {"caption": captions, "use_coords": False}}
    comment |= {"v4_negative_prompt": {"caption": {"base_caption": "bad", "char_captions": [{"char_caption": "hat"}]}}}
    found = ("novelai", "a park BREAK a girl BREAK a boy", "bad BREAK hat")
    assert pairs_of({"Comment": json.dumps(comment)})[:3] == found
    del comment["prompt"]
    assert pairs_of({"Comment": json.dumps(comment)})[:3] == found
    for odd in (None, [], "x", {"caption": []}, {"caption": {"char_captions": "x"}}):
        assert pairs_of({"Comment": json.dumps({**comment, "prompt": "p", "v4_prompt": odd})})[1] == "p"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {
                "Prompt": "p",
                "Negative": "n",
                "steps": 30,
                "cfg": 8,
                "width": 64,
                "height": 32,
                "seed": 5,
                "sampler_name": "x",
            },
            ("p", "n", {"Steps": "30", "Sampler": "x", "CFG scale": "8", "Seed": "5", "Size": "64x32"}),
        ),
        (
            {
                "prompt": "p",
                "num_inference_steps": 9,
                "guidance_scale": 2.5,
                "seed": 1,
                "resolution": "(64, 48)",
                "lcm": 1,
            },
            ("p", "", {"Steps": "9", "CFG scale": "2.5", "Seed": "1", "Size": "64x48", "lcm": "1"}),
        ),
    ],
)
def test_json_that_names_things_plainly(fields: dict[str, Any], expected: tuple[str, str, dict[str, str]]) -> None:
    assert pairs_of(fields) == ("json", *expected)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"scheduler": "EulerAncestralDiscreteScheduler"}, {"Sampler": "EulerAncestralDiscreteScheduler"}),
        ({"scheduler": "karras"}, {"Schedule type": "karras"}),
        ({"sampler": "x", "scheduler": "y"}, {"Sampler": "x", "Schedule type": "y"}),
        ({"sampler_name": "euler", "scheduler_name": "karras"}, {"Sampler": "Euler", "Schedule type": "karras"}),
        ({"distilled_guidance_scale": 3.5, "clip_skip": True}, {"Distilled CFG Scale": "3.5", "Clip skip": "2"}),
        ({"clip_skip": False}, {}),
        ({"num_steps": 8, "img_width": 64, "img_height": 32}, {"Steps": "8", "Size": "64x32"}),
        ({"width": "64", "height": "32"}, {"Size": "64x32"}),
        (
            {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.5},
            {"Denoising strength": "0.5", "Hires upscale": "2", "Hires upscaler": "Latent"},
        ),
        ({"enable_hr": False, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.5}, {}),
        (
            {"enable_hr": False, "init_images": ["…"], "denoising_strength": 0.5},
            {"Denoising strength": "0.5", "init_images": '["…"]'},
        ),
        ({"subseed": 3, "subseed_strength": 0.2}, {"Variation seed": "3", "Variation seed strength": "0.2"}),
        ({"subseed": 3, "subseed_strength": 0}, {}),
        ({"sd_model_hash": "6ce0161689", "sd_model_name": "v1-5"}, {"Model hash": "6ce0161689", "Model": "v1-5"}),
        ({"base_model_name": "x", "base_model_hash": "ab" * 32}, {"Model hash": "ababababab", "Model": "x"}),
        (
            {"baseModel": {"modelFileName": "x", "hash": "6CE0161689"}, "samplerName": "Euler a", "clipSkip": 2},
            {"Sampler": "Euler a", "Model hash": "6CE0161689", "Model": "x", "Clip skip": "2"},
        ),
    ],
)
def test_names_that_programs_give_to_things(fields: dict[str, Any], expected: dict[str, str]) -> None:
    found = interpret(read(json.dumps({"prompt": "p", "seed": 1, **fields})))
    assert pairs_of({"prompt": "p", "seed": 1, **fields}) == ("json", "p", "", {"Seed": "1", **expected})
    assert not found.warnings
    assert not found.lies


def test_a_pipeline_of_diffusers_is_painted() -> None:
    fields = {"prompt": "x", "num_inference_steps": 2, "guidance_scale": 7.5, "seed": 1, "width": 64, "height": 64}
    request = to_request(read(json.dumps({**fields, "scheduler": "EulerAncestralDiscreteScheduler"})))
    assert (request.steps, request.cfg_scale, request.width, request.scheduler) == (2, 7.5, 64, None)
    assert request.sampler is not None
    assert resolve_sampler(request.sampler, None)[0].name == "Euler a"


def test_sizes_of_fooocus_and_old_swarmui() -> None:
    fooocus = {"prompt": "p", "guidance_scale": 4, "base_model": "x", "steps": 3, "seed": 1}
    for size in ({"width": 64, "height": 32}, {"resolution": "(64, 32)"}, {"resolution": "64x32"}):
        dialect, _, _, pairs = pairs_of({**fooocus, **size})
        assert (dialect, pairs["Size"]) == ("fooocus", "64x32")
        assert not {"width", "height", "resolution"} & pairs.keys()
    pairs = pairs_of({"sui_image_params": {"prompt": "p", "seed": 1, "steps": 3, "resolution": "64x32"}})[3]
    assert pairs == {"Seed": "1", "Steps": "3", "Size": "64x32"}


def test_fooocus_and_stable_diffusion_cpp_are_not_a1111() -> None:
    line = "Steps: 30, Sampler: DPM++ 2M SDE Karras, Seed: 12, Size: 512x512, CFG scale: 4, Sharpness: 2, Version: "
    found = read(f"p\n{line}Fooocus v2.5.5")
    assert (found.dialect, to_request(found).noise.rng) == ("fooocus", "cpu")
    line = "Steps: 9, CFG scale: 7, Guidance: 3.5, Seed: 4, Size: 64x64, Model: x, RNG: cuda, Sampler: euler_a karras, "
    found = read(f"p\n{line}Version: stable-diffusion.cpp")
    request = to_request(found)
    assert (found.dialect, request.noise.rng, request.sampler, request.scheduler) == (
        *("stable-diffusion.cpp", "nv", "Euler a", "Karras"),
    )


def test_an_unknown_source_of_noise_is_said() -> None:
    reading = interpret(read("p\nSteps: 9, Sampler: Euler, Seed: 4, Size: 64x64, RNG: dice"))
    assert reading.settings.rng == "nv", "as where nothing is said"
    assert "RNG: 'dice' is left out" in reading.warnings[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Default", (None, None)),
        ("Euler SGM", ("Euler", "SGM Uniform")),
        ("DPM++ 2M EDM", ("DPM++ 2M", "Karras")),
        ("DPM2++ 3M SDE FlowMatch", ("DPM++ 3M SDE", None)),
        ("KDPM2 a", ("KDPM2 a", None)),
    ],
)
def test_names_of_sdnext(name: str, expected: tuple[str | None, str | None]) -> None:
    found = interpret(read(f"p\nSteps: 9, Sampler: {name}, Seed: 4, Size: 64x64, App: SD.Next, Version: abc")).settings
    assert (found.sampler, found.scheduler) == expected
    if found.sampler:
        resolve_sampler(found.sampler, found.scheduler)


@pytest.mark.parametrize(
    "name", ["SA-Solver", "sa solver", "UniPC bh1", "UniPC (bh2)", "UniPC BH2", "dpmpp-2m", "LMSD"]
)
def test_names_are_found_however_they_are_divided(name: str) -> None:
    assert resolve_sampler(name)[0].name == resolve_sampler(name.replace("-", "_"))[0].name


@pytest.mark.parametrize(
    "name", ["DDIM uniform", "ddim_uniform", "SGM Uniform", "sgm_uniform", "kl-optimal", "Linear quadratic"]
)
def test_schedules_are_found_however_they_are_divided(name: str) -> None:
    assert resolve_schedule(name).name in {"DDIM", "SGM Uniform", "KL Optimal", "Linear Quadratic"}


def test_choices_of_a_new_prompt_are_made_and_those_of_the_old_are_not() -> None:
    found = read(TEXT)
    assert not to_request(found).prompting.choices
    assert to_request(found, {"prompt": "a {red|blue} cat"}).prompting.choices


# Carriers


def jpeg(**options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, format="JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP"])
def test_a_comment_in_the_main_directory(image_format: str) -> None:
    exif = Image.Exif()
    exif[0x9286], exif[0x0131] = TEXT, "Fooocus v2.5.5"
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, format=image_format, exif=exif)
    assert read_image(buffer.getvalue()) == read(TEXT)


def test_a_graph_in_exif() -> None:
    nodes = {name.removeprefix("_"): value for name, value in core().items()}
    exif = Image.Exif()
    exif[0x0110], exif[0x010F] = f"prompt:{json.dumps(nodes)}", "workflow:{}"
    found = read_image(jpeg(exif=exif))
    assert found is not None
    assert said(found) == ("a cat", "blurry", PLAIN)


def png(**texts: str) -> bytes:
    info, buffer = PngInfo(), io.BytesIO()
    for key, value in texts.items():
        info.add_text(key.replace("__", ":").replace("_", "."), value)
    Image.new("RGB", (16, 16)).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def test_chunks_of_one_field_each() -> None:
    fields = {"prompt": "a cat", "negative_prompt": "bad", "seed": "5", "num_inference_steps": "9", "clip_skip": "True"}
    fields |= {"guidance_scale": "7.5", "width": "64", "height": "32", "use_stable_diffusion_model": "x"}
    found = read_image(_chunks({**fields, "sampler_name": "euler_a", "use_vae_model": "None"}))
    assert found is not None
    assert said(found)[:2] == ("a cat", "bad")
    wanted = {"Steps": "9", "Sampler": "Euler a", "CFG scale": "7.5", "Seed": "5", "Size": "64x32", "Model": "x"}
    assert dict(found.pairs) == {**wanted, "Clip skip": "2"}
    assert read_image(_chunks({"prompt": "a cat", "Title": "x"})) is None


@pytest.mark.parametrize("end", ["", "\0", "\0\0"])
def test_a_chunk_of_data(end: str) -> None:
    fields = {"prompt": "a cat", "negativePrompt": "bad", "steps": 9, "seed": "5", "cfgScale": 7, "sdVae": "Automatic"}
    found = read_image(_chunks({"generation_data": json.dumps(fields) + end}))
    assert found is not None
    assert said(found)[:2] == ("a cat", "bad")
    assert (found.get("Steps"), found.get("Seed"), found.get("CFG scale")) == ("9", "5", "7")


def test_fields_alone_in_exif() -> None:
    exif = Image.Exif()
    exif[0x0110] = json.dumps({"sui_image_params": {"prompt": "p", "seed": 1, "steps": 3}})
    found = read_image(jpeg(exif=exif))
    assert found is not None
    assert (found.dialect, found.prompt) == ("swarmui", "p")
    exif[0x0110] = "Canon EOS 5D {"
    assert read_image(jpeg(exif=exif)) is None


@pytest.mark.parametrize(
    "text",
    [
        "a cat -s50 -S123 -W512 -H512 -C7.5 -Ak_lms",
        "a cat -Ak_lms -s 50 -S 123 -W 512 -H512 -C 7.5",
        'dream> "a cat" -s50 -S123 -W512 -H512 -C7.5 -Ak_lms',
        "invoke> a cat --seamless -s50 -S123 -W512 -H512 -C7.5 -Ak_lms",
    ],
)
def test_command_lines_of_invokeai(text: str) -> None:
    wanted = {"Steps": "50", "Seed": "123", "CFG scale": "7.5", "Size": "512x512", "Sampler": "LMS"}
    for found in (read(text), read_image(_chunks({"Dream": text}))):
        assert found is not None
        seamless = {"Tiling": "True"} if "--seamless" in text else {}
        assert said(found) == ("a cat", "", wanted | seamless)


def test_a_dash_before_a_word_is_no_flag() -> None:
    found = read("a well -known cat -s50 -S123")
    assert found.prompt == "a well -known cat"


def _chunks(texts: Mapping[str, str]) -> bytes:
    info, buffer = PngInfo(), io.BytesIO()
    for key, value in texts.items():
        info.add_text(key, value)
    Image.new("RGB", (16, 16)).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def test_a_text_behind_the_pixels() -> None:
    chunk = b"tEXtparameters\0" + TEXT.encode()
    late = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = png()
    end = data.rindex(b"IEND") - 4
    assert read_image(data[:end] + late + data[end:]) == read(TEXT)


def test_a_graph_beside_parameters_that_nobody_knows() -> None:
    nodes = {name.removeprefix("_"): value for name, value in core().items()}
    found = read_image(png(parameters='{"foo": 1}', prompt=json.dumps(nodes)))
    assert found is not None
    assert found.prompt == "a cat"
    assert read_image(png(parameters='{"foo": 1}')) is None
    found = read_image(png(parameters="just a cat"))
    assert found is not None
    assert found.prompt == "just a cat", "parameters are what A1111 wrote, with or without numbers"


def test_what_anybody_writes_into_pictures_is_no_infotext() -> None:
    assert read_image(jpeg(comment=b"CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90")) is None
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0Screenshot"
    assert read_image(jpeg(exif=exif)) is None
    assert read_image(jpeg(comment=TEXT.encode())) == read(TEXT)


def xmp(text: str) -> bytes:
    return png(XML__com_adobe_xmp=text)


def test_xmp_with_and_without_a_list() -> None:
    for inner in (TEXT, f'<rdf:Alt><rdf:li xml:lang="x-default">{TEXT}</rdf:li></rdf:Alt>'):
        assert read_image(xmp(f"<x><exif:UserComment>{inner}</exif:UserComment></x>")) == read(TEXT)


@pytest.mark.parametrize(
    "text", ["<exif:UserComment>" * 200_000, f"<exif:UserComment>{'<rdf:li>' * 200_000}</exif:UserComment>"]
)
def test_xmp_that_never_closes_is_no_infotext(text: str) -> None:
    """Where the work is quadratic in the text, this takes half an hour."""
    assert read_image(xmp(text)) is None
