"""Graphs of ComfyUI whose prompts and values come from nodes of others: joined, chosen, replaced, combined."""

from __future__ import annotations

import json
import time

import pytest

from atelier.request.infotext import interpret, read
from atelier.request.infotext_record import Infotext

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
    start = time.process_time()
    assert wired(*nodes, node("PrimitiveString", value="cat")).prompt.replace("cat", "") == ""
    found = plain(positive=["100", 0]) | {str(100 + i): one for i, one in enumerate(combine)}
    assert interpret(read(json.dumps(found))).warnings
    assert time.process_time() - start < 2


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
