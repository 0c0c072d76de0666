"""Every dialect of infotexts knows its own texts, and takes none of another's."""

from __future__ import annotations

import json

import pytest

from atelier.request.infotext.dialect import Dialect, Source, dialect_of, dialects, forms, recognised
from atelier.request.infotext.read import source_of

LINE = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x768"
GRAPH = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 5,
            "steps": 20,
            "cfg": 7,
            "sampler_name": "euler",
            "scheduler": "normal",
            "positive": ["6", 0],
        },
    },
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}},
}
COMMENT = {"prompt": "a cat", "uc": "dog", "steps": 28, "sampler": "k_euler", "scale": 11, "seed": 5}
SAMPLES: dict[str, tuple[str, ...]] = {
    "a1111": (
        f"a cat\nNegative prompt: dog\n{LINE}, Model hash: 6ce0161689, Version: v1.10.1",
        f"a cat\n{LINE}",
        json.dumps({"parameters": f"a cat\n{LINE}"}),
    ),
    "atelier": (f"a cat\n{LINE}, Version: atelier-0.1.0",),
    "civitai": (
        f"a cat\n{LINE}, Created Date: 2024-05-01T00:00:00, Civitai resources: []",
        json.dumps({**GRAPH, "extraMetadata": {"prompt": "a cat", "steps": 20, "seed": 5}}),
    ),
    "civitai-copy": ("a cat\nSteps: 20, Size: 512x768, Seed: 5, Sampler: Euler a, CFG scale: 7",),
    "comfyui": (
        json.dumps(GRAPH),
        json.dumps({"prompt": GRAPH}),
        f"a cat\n{LINE}, Version: ComfyUI",
        f"a cat\n{LINE}, Batch index: 0, Batch size: 1",
    ),
    "draw-things": (
        json.dumps({"c": "a cat", "uc": "dog", "sampler": "Euler a", "steps": 20, "scale": 7, "seed": 5}),
        json.dumps({"uc": "dog", "v2": {}, "sampler": "Euler a", "steps": 20, "scale": 7, "seed": 5}),
        "a cat\nSteps: 20, Sampler: Euler a, Guidance Scale: 7.0, Seed: 5, Size: 512x768, Strength: 1.0",
    ),
    "dynamic-prompts": (f"a red cat\n{LINE}\nTemplate: a {{red|blue}} cat",),
    "fooocus": (
        json.dumps({"prompt": "a cat", "guidance_scale": 4, "base_model": "juggernaut", "steps": 30, "seed": 5}),
        f"a cat\n{LINE}, Version: Fooocus v2.5.3",
    ),
    "forge": (f"a cat\n{LINE}, Version: f2.0.1v1.10.1-previous-659-gc055f2d4",),
    "forge-neo": (f"a cat\n{LINE}, Version: neo",),
    "invokeai": (
        json.dumps({"positive_prompt": "a cat", "scheduler": "euler_a", "steps": 20, "seed": 5}),
        json.dumps({"generation_mode": "txt2img", "positive_prompt": "a cat", "steps": 20, "seed": 5}),
        json.dumps({"app_id": "invoke-ai/InvokeAI", "image": {"prompt": "a cat", "steps": 20, "seed": 5}}),
        '"a cat [dog]" -s 50 -S 5 -W 512 -H 512 -C 7.5 -A k_lms',
    ),
    "json": (json.dumps({"prompt": "a cat", "num_inference_steps": 20, "seed": 5}),),
    "krita": ("a cat\nSteps: 20, Sampler: Default - DPM++ 2M, CFG scale: 7, Seed: 5, Size: 512x768",),
    "novelai": (
        json.dumps({"Software": "NovelAI", "Description": "a cat", "Comment": json.dumps(COMMENT)}),
        json.dumps(COMMENT),
    ),
    "sdnext": (
        f"a cat\n{LINE}, App: SD.Next, Version: f2a1b3c",
        f"a cat\n{LINE}, Parser: native, Operations: txt2img, Version: 0123abc",
    ),
    "stable-diffusion.cpp": (f"a cat\n{LINE}, Guidance: 3.5, Eta: 0, Version: stable-diffusion.cpp",),
    "swarmui": (json.dumps({"sui_image_params": {"prompt": "a cat", "steps": 20, "seed": 5}}),),
    "text": ("a cat, (sitting:1.2)", ""),
}
"""Short texts as the programs write them, by dialect."""
ALL = [(name, text) for name, texts in SAMPLES.items() for text in texts]


def test_every_dialect_has_a_sample_for_each_form():
    assert SAMPLES.keys() == dialects().keys()
    for name, dialect in dialects().items():
        for form in dialect.forms:
            assert any(form.detects(source_of(text)) for text in SAMPLES[name]), (name, form.order)


@pytest.mark.parametrize(("name", "text"), ALL)
def test_it_is_recognised_as_what_it_is(name: str, text: str):
    found = recognised(source_of(text))
    assert found is not None
    assert found.dialect == name
    assert dialect_of(found) is dialects()[name]
    assert found.prompt.replace(" red", "") in {"a cat", "a cat, (sitting:1.2)", ""}


@pytest.mark.parametrize("dialect", dialects().values(), ids=lambda d: d.name)
def test_it_takes_no_text_that_comes_before_it(dialect: Dialect):
    """A form that would take another's text stands behind the form that does."""
    for name, text in ALL:
        source = source_of(text)
        taken = min(form.order for form in dialects()[name].forms if form.detects(source))
        for form in dialect.forms:
            assert form.order >= taken or not form.detects(source), (name, text)


def test_the_order_is_one():
    orders = [form.order for form in forms()]
    assert orders == sorted(set(orders))


def test_objects_come_before_texts():
    """So that a form of objects need not look whether it has a text, nor one of texts whether it has an object."""
    nothing = Source()
    for form in forms():
        for _, text in ALL:
            source = source_of(text)
            assert not form.detects(source) or (form.order < 100) == bool(source.fields), (form.order, text)
        assert form.order >= 100 or not form.detects(nothing)


def test_what_no_program_writes_is_nothing():
    assert recognised(source_of('{"a": 1}')) is None
