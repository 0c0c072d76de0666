"""Graphs of ComfyUI whose prompts and values come from nodes of others: joined, chosen, replaced, combined."""

from __future__ import annotations

import json

import pytest

from atelier.request.infotext import interpret, read, without_effect
from atelier.request.infotext.record import Infotext
from counting import lines_run

MOST_LINES = 200_000
"""Of Python, for a graph of 16,000 characters: about 20 ms."""
Nodes = dict[str, dict[str, object]]


def node(kind: str, **inputs: object) -> dict[str, object]:
    return {"class_type": kind, "inputs": inputs}


def plain(**changes: object) -> Nodes:
    sampler = {"seed": 7, "steps": 20, "cfg": 6.5, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0}
    wires = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    return {
        "3": node("KSampler", **{**sampler, **wires, **changes}),
        "4": node("CheckpointLoaderSimple", ckpt_name="v1-5.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
        "6": node("CLIPTextEncode", text="a cat", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="blurry", clip=["4", 1]),
        "8": node("CLIPTextEncode", text="a dog", clip=["4", 1]),
        "9": node("CLIPTextEncode", text="a pig", clip=["4", 1]),
    }


def wired(*nodes: dict[str, object]) -> Infotext:
    """The graph whose prompt comes from nodes 20, 21, …"""
    found = plain()
    found["6"] = node("CLIPTextEncode", text=["20", 0], clip=["4", 1])
    return read(json.dumps(found | {str(20 + i): one for i, one in enumerate(nodes)}))


WILDCARDS = {"wildcard_text": "a {red|blue} cat", "populated_text": "a red cat", "mode": "populate", "seed": 4}
THREE = {"text_a": "a cat", "text_b": " , in the ", "text_c": "rain,,"}
FOUR = {"text_a": ["21", 0], "text_b": ["22", 0], "text_c": ["21", 0], "text_d": ["22", 0]}
HELD = (node("Text Multiline", text="a cat"), node("PrimitiveString", value="rain"))


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("StringFunction|pysssss", action="append", tidy_tags="yes", **THREE)], "a cat, in the, rain,"),
        ([node("StringFunction|pysssss", action="append", tidy_tags="no", **THREE)], "a cat , in the rain,,"),
        ([node("ImpactWildcardProcessor", **WILDCARDS)], "a red cat"),
        (
            [node("Text Concatenate", delimiter=", ", clean_whitespace="true", **FOUR), *HELD],
            "a cat, rain, a cat, rain",
        ),
        ([node("Text Concatenate", delimiter="\\n", text_a=["21", 0], text_b="x"), *HELD], "a cat\nx"),
        ([node("StringConcatenate", string_a="a ", string_b=["21", 0], delimiter=""), *HELD], "a a cat"),
        ([node("CR Text Input Switch", Input=2, text1=["21", 0], text2=["22", 0]), *HELD], "rain"),
        ([node("Any Switch (rgthree)", any_01=["21", 0], any_02=["22", 0]), *HELD], "a cat"),
        ([node("ShowText|pysssss", text=["21", 0], text_0="old"), *HELD], "a cat"),
        ([node("easy positive", positive="a cat")], "a cat"),
    ],
)
def test_texts_of_other_nodes(nodes: list[dict[str, object]], expected: str) -> None:
    found = wired(*nodes)
    assert found.prompt == expected
    assert found.negative_prompt == "blurry"
    assert not interpret(found).warnings


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("Some LLM", api="x", image=["21", 0])], ""),
        ([node("LoadText", file="C:\\prompt.txt")], ""),
        ([], ""),
        (
            [
                node("Text Concatenate", delimiter=", ", text_a="a cat", text_b=["21", 0]),
                node("Some LLM", api="x", n=2),
            ],
            "a cat",
        ),
        ([node("Mystery", text_1="a cat", text_2="a dog")], "a cat"),
        ([node("StringFunction|pysssss", action="replace", text_a="a cat", text_b="/c/", text_c="h")], "a cat"),
    ],
)
def test_what_cannot_be_read_is_told(nodes: list[dict[str, object]], expected: str) -> None:
    found = wired(*nodes)
    assert found.prompt == expected
    (note,) = interpret(found).warnings
    assert note.startswith("positive prompt: node 2")
    assert note.endswith("cannot be read")


def combined(**changes: dict[str, object]) -> Infotext:
    return read(
        json.dumps(plain(positive=["10", 0]) | {name.removeprefix("_"): value for name, value in changes.items()})
    )


def test_conditionings_that_are_combined() -> None:
    pair = node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["8", 0])
    assert combined(_10=pair).prompt == "a cat :0.5 AND a dog :0.5"
    three = node("ConditioningCombine", conditioning_1=["11", 0], conditioning_2=["9", 0])
    assert combined(_10=three, _11=pair).prompt == "a cat :0.3333 AND a dog :0.3333 AND a pig :0.3333"
    row = node("ConditioningConcat", conditioning_to=["6", 0], conditioning_from=["8", 0])
    assert combined(_10=row).prompt == "a cat BREAK a dog"
    both = plain(negative=["10", 0])
    both["10"] = pair
    assert read(json.dumps(both)).negative_prompt == "a cat BREAK a dog", "AND is plain text there"


def test_sampler_and_scheduler_of_one_node() -> None:
    nodes = plain(sampler_name=["20", 0], scheduler=["20", 1])
    nodes["20"] = node("Sampler Selector", sampler_name="dpmpp_2m", scheduler="karras")
    found = interpret(read(json.dumps(nodes))).settings
    assert (found.sampler, found.scheduler) == ("DPM++ 2M", "Karras")
    nodes["20"] = node("Selector", sampler="heun", scheduler_name="normal")
    found = interpret(read(json.dumps(nodes))).settings
    assert (found.sampler, found.scheduler) == ("Heun", "Normal")


@pytest.mark.parametrize(("layer", "expected"), [(-2, "2"), (-1, None), (2, "2"), (0, None)])
def test_skipped_layers_of_a_loader(layer: int, expected: str | None) -> None:
    nodes = plain(model=["20", 0], positive=["20", 1], negative=["20", 2], latent_image=["20", 3])
    loader = {"ckpt_name": "x.safetensors", "clip_skip": layer, "positive": ["8", 0], "negative": "bad"}
    nodes["20"] = node("Efficient Loader", empty_latent_width=640, empty_latent_height=448, **loader)
    found = read(json.dumps(nodes))
    assert (found.prompt, found.negative_prompt, found.get("Clip skip")) == ("a dog", "bad", expected)


def test_graphs_that_double_a_text_over_and_over_end() -> None:
    nodes = [node("Concat", text_a=[str(21 + i), 0], text_b=[str(21 + i), 0]) for i in range(60)]
    combine = [
        node("ConditioningCombine", conditioning_1=[str(i), 0], conditioning_2=[str(i), 0]) for i in range(101, 160)
    ]
    assert wired(*nodes, node("PrimitiveString", value="cat")).prompt.replace("cat", "") == ""
    found = plain(positive=["100", 0]) | {str(100 + i): one for i, one in enumerate(combine)}
    assert interpret(read(json.dumps(found))).warnings
    assert lines_run(read, json.dumps(found)) < MOST_LINES


@pytest.mark.parametrize("kind", ["Concat", "ConditioningCombine", "ShowText", "Reroute"])
def test_long_rows_of_nodes_are_told(kind: str) -> None:
    name = {"Concat": "text_a", "ConditioningCombine": "conditioning_1", "ShowText": "text", "Reroute": ""}[kind]
    also = {"conditioning_2": ["8", 0]} if kind == "ConditioningCombine" else {}
    row = {str(i): node(kind, **{name: [str(i + 1), 0], **also}) for i in range(100, 1100)}
    assert interpret(read(json.dumps(plain(positive=["100", 0]) | row))).warnings


@pytest.mark.parametrize("odd", [None, 3, True, {"a": 1}, [], ["6"], ["6", "x"], [["6"], 0], "\0", [True, 0], 1e400])
@pytest.mark.parametrize("name", ["text", "text_a", "select", "conditioning_1", "positive", "delimiter", "prompt"])
def test_odd_values_raise_nothing(name: str, odd: object) -> None:
    for kind in ("CLIPTextEncode", "Text Concatenate", "ConditioningCombine", "Switch", "Efficient Loader"):
        for more in ({}, {"text_b": ["8", 0], "conditioning_2": ["8", 0], "conditioning_to": "x", "tidy_tags": []}):
            nodes = plain(seed=["6", 0], sampler_name=odd) | {"6": node(kind, **{**more, name: odd})}
            interpret(read(json.dumps(nodes)))


STACK = {"lora_name_1": "x/a.safetensors", "lora_name_2": "b.safetensors", "lora_name_3": "None"}
EASY = {"lora_1_name": "a.safetensors", "lora_1_strength": 0.5, "lora_1_model_strength": 1, "lora_2_name": "b"}
MANAGED = [{"name": "a", "strength": "0.7", "active": True}, {"name": "b", "strength": 1, "active": False}]


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        (
            {"model_weight_1": 0.8, "clip_weight_1": 0.5, "switch_1": "On", "switch_2": "Off", "model_weight_2": 1},
            "<lora:a:0.5:0.8>",
        ),
        ({"input_mode": "simple", "lora_wt_1": 0.7, "model_str_1": 1, "lora_wt_2": 1, "lora_count": 1}, "<lora:a:0.7>"),
        ({"input_mode": "advanced", "model_str_1": 1, "clip_str_1": 0, "model_str_2": 2}, "<lora:a:0:1>, <lora:b:2>"),
        ({"lora_wt_1": 0.7, "lora_wt_2": 1, "lora_count": ["30", 0]}, "<lora:a:0.7>"),
        ({**EASY, "toggle": True, "mode": "simple", "num_loras": 1}, "<lora:a:0.5>"),
        ({**EASY, "toggle": True, "mode": "advanced", "num_loras": 1, "lora_1_clip_strength": 0}, "<lora:a:0:1>"),
        ({**EASY, "toggle": False}, None),
        ({"lora_01": "a.safetensors", "strength_01": 0.3, "lora_02": "None", "strength_02": 1}, "<lora:a:0.3>"),
        ({"lora_name": {"content": "a.safetensors", "image": None}, "strength_model": 2}, "<lora:a:2>"),
        ({"lora_1": {"on": True, "lora": "a", "strength": 0.8, "strengthTwo": 0}}, "<lora:a:0:0.8>"),
        ({"lora_1": {"on": False, "lora": "a", "strength": 0.8}}, None),
        ({"loras": {"__value__": MANAGED}}, "<lora:a:0.7>"),
        ({"loras": MANAGED}, "<lora:a:0.7>"),
    ],
)
def test_networks_of_a_stack(stack: dict[str, object], expected: str | None) -> None:
    found = plain(model=["20", 0])
    found["20"] = node("CR Apply LoRA Stack", model=["4", 0], clip=["4", 1], lora_stack=["21", 0])
    found["21"] = node(
        "Stack", **(STACK if not {*stack} & {*EASY, "lora_01", "lora_name", "lora_1", "loras"} else {}), **stack
    )
    found["30"] = node("PrimitiveInt", value=1)
    record = read(json.dumps(found))
    assert record.get("LoRAs") == expected
    assert without_effect(record) == (("LoRAs",) if expected else ())


CHANGES = (
    *("ControlNetApplyAdvanced", "ACN_AdvancedControlNetApply", "CR Apply Multi-ControlNet", "IPAdapterAdvanced"),
    *("ApplyInstantID", "unCLIPConditioning", "StyleModelApply", "GLIGENTextBoxApply", "InstructPixToPixConditioning"),
    *("ConditioningSetArea", "ConditioningSetTimestepRange", "ConditioningAverage", "ModelMergeSimple", "FreeU_V2"),
    *("RescaleCFG", "HyperTile", "TomePatchModel", "SelfAttentionGuidance", "PerturbedAttentionGuidance"),
    *("PerturbedAttention", "PatchModelAddDownscale", "DynamicThresholdingFull", "ModelSamplingDiscrete"),
    *("LatentComposite", "LatentBlend", "ADE_AnimateDiffLoaderGen1", "AnimateDiffLoaderV1", "ApplyPulid"),
)


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("wire", ["model", "positive", "negative", "latent_image"])
def test_nodes_that_change_the_picture_are_told(kind: str, wire: str) -> None:
    before = {"model": "4", "positive": "6", "negative": "7", "latent_image": "5"}[wire]
    found = plain(**{wire: ["20", 0]})
    found["20"] = node(kind, **{wire: [before, 0], "control_net": ["21", 0]})
    found["21"] = node("ControlNetLoader", control_net_name="x/canny.pth")
    record = read(json.dumps(found))
    assert record.get(f"Node {kind}") == "canny.pth"
    assert without_effect(record) == (f"Node {kind}",)
    assert record.get("Model") == "v1-5"


def test_nodes_that_change_nothing_are_not_told() -> None:
    levels = node("ModelSamplingDiscrete", model=["4", 0], sampling="eps", zsnr=False)
    found = plain(model=["20", 0], positive=["21", 0]) | {"20": levels, "21": node("Reroute", any=["6", 0])}
    assert without_effect(read(json.dumps(found))) == ()
    levels["inputs"] = {"model": ["4", 0], "sampling": "eps", "zsnr": True}
    assert without_effect(read(json.dumps(found))) == ("Node ModelSamplingDiscrete",)


def test_a_motion_module_is_no_checkpoint() -> None:
    found = plain(model=["20", 0])
    found["20"] = node("ADE_AnimateDiffLoaderGen1", model=["4", 0], model_name="mm_sd_v15.ckpt")
    record = read(json.dumps(found))
    assert (record.get("Model"), record.get("Node ADE_AnimateDiffLoaderGen1")) == ("v1-5", "mm_sd_v15")


def test_further_passes_and_parts_of_the_steps_are_told() -> None:
    wires = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["31", 0]}
    found = plain() | {"30": node("KSamplerAdvanced", steps=20, **wires)}
    found["31"] = node("LatentUpscale", samples=["3", 0], width=1024, height=1536)
    record = read(json.dumps(found))
    assert record.get("Node KSamplerAdvanced") == "a further pass"
    assert record.get("Size") == "512x768"
    part = plain(start_at_step=5, end_at_step=10)
    assert read(json.dumps(part)).get("Node KSampler") == "steps 5 to 10 alone"
    assert read(json.dumps(plain(start_at_step=0, end_at_step=10000))).get("Node KSampler") is None


def test_a_vae_of_its_own() -> None:
    other = {"28": node("VAEDecode", samples=["5", 0], vae=["29", 0]), "29": node("VAELoader", vae_name="other.pt")}
    found = plain() | other | {"30": node("VAEDecode", samples=["3", 0], vae=["31", 0])}
    assert read(json.dumps(found)).get("VAE") is None
    assert read(json.dumps(found | {"31": node("VAELoader", vae_name="x/ft.safetensors")})).get("VAE") == "ft"


def test_rings_of_nodes_are_read_at_once() -> None:
    names = ("control_net_name", "ipadapter_file", "gligen_name", "style_model_name", "model", "lora_name", "vae")
    for kind in ("FreeU", "ControlNet", "LoraLoader", "Foo", "VAEDecode"):
        ring = {str(20 + i): node(kind, **{key: [str(20 + (i + 1) % 50), 0] for key in names}) for i in range(50)}
        found = plain(**{key: ["20", 0] for key in ("positive", "negative", "model", "latent_image")}) | ring
        assert lines_run(read, json.dumps(found)) < MOST_LINES, kind
