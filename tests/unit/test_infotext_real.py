"""Real infotexts of many programs. The collection is data beside the project; without it this is skipped."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from atelier.request.infotext import Infotext, interpret, read, to_request, write
from atelier.request.infotext.image import read_image
from atelier.request.infotext.resources import resources
from atelier.request.infotext.settings import settings_of
from facts import FACTS

HERE = FACTS / "infotext.json"
if not HERE.is_file():
    pytest.skip(f"{HERE} is not here (ATELIER_FACTS names its folder)", allow_module_level=True)
RECORDS: list[dict[str, Any]] = json.loads(HERE.read_text(encoding="utf-8"))
IDS = [f"{number}-{record['kind']}" for number, record in enumerate(RECORDS)]
WITHOUT_PARAMETERS = ("no parameter line at all", "no parameters")
DIALECTS = {
    "a1111-stealth": "a1111",
    "fooocus-json": "fooocus",
    "invokeai-invokeai_metadata": "invokeai",
    "invokeai-Dream": "invokeai",
    "novelai-chunks": "novelai",
    "draw-things-json": "draw-things",
    "a1111-dynamic-prompts": "dynamic-prompts",
    "civitai-onsite": "civitai",
    "comfyui-saver": "comfyui",
    "reforge": "a1111",
}
NAMES = {
    "cfg_scale": "CFG scale",
    "cfgScale": "CFG scale",
    "steps": "Steps",
    "sampler": "Sampler",
    "scheduler": "Schedule type",
    "seed": "Seed",
    "size": "Size",
    "model": "Model",
    "model_hash": "Model hash",
}


def said(found: Infotext, name: str) -> object:
    """What the record says of something that a source calls `name`."""
    match name:
        case "prompt":
            return found.prompt
        case "negative_prompt":
            return found.negative_prompt
        case "keys":
            return [key for key, _ in found.pairs]
        case "loras":
            return {r.name: r.version for r in resources(found) if r.kind == "lora"}
        case "width" | "height":
            size = interpret(found).settings.size
            return size and size[name == "height"]
        case _ if name.startswith("extra."):
            return json.loads(found.get("Civitai metadata") or "{}")[name.removeprefix("extra.")]
        case "source":
            return found.source["Source"]
        case _:
            own = found.source.get(name)
            return own if own is not None and not isinstance(own, dict) else found.get(NAMES.get(name, name))


def same(got: object, want: object) -> bool:
    if got == want or str(got).casefold() == str(want).casefold():
        return True
    if isinstance(want, dict):
        return isinstance(got, str) and json.loads(got) == want
    try:
        return float(str(got)) == float(str(want))
    except ValueError:
        return False


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_it_is_recognised(record: dict[str, Any]) -> None:
    found = read(record["text"])
    if record.get("note", "").startswith(WITHOUT_PARAMETERS):
        assert found.dialect == "text"
        assert not found.pairs
        return
    settings = interpret(found).settings
    assert settings.steps is not None
    assert len(settings.given()) >= 4
    assert "Steps:" not in found.prompt
    assert "Negative prompt:" not in found.prompt
    assert "Sampler:" not in found.negative_prompt
    if record["kind"] in {*DIALECTS, "forge", "forge-neo", "sdnext", "krita", "civitai-copy", "draw-things"}:
        wanted = DIALECTS.get(record["kind"], record["kind"])
        assert found.dialect == wanted or (wanted == "a1111" and found.dialect == "dynamic-prompts")


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_it_becomes_a_request(record: dict[str, Any]) -> None:
    found = read(record["text"])
    assert not interpret(found).lies
    request = to_request(found, {"model": None})
    assert request.prompt == interpret(found).settings.prompt


@pytest.mark.parametrize(
    ("record", "name"),
    [
        pytest.param(r, name, id=f"{i}-{name}")
        for r, i in zip(RECORDS, IDS, strict=True)
        for name in r.get("expected") or {}
    ],
)
def test_it_says_what_its_source_expects(record: dict[str, Any], name: str) -> None:
    got = said(read(record["text"]), name)
    if record["kind"] == "invokeai-Dream" and name == "sampler":
        assert got == "LMS"  # k_lms in the words of A1111
        return
    assert same(got, record["expected"][name])


@pytest.mark.parametrize("record", [r for r in RECORDS if "file_base64" in r], ids=lambda r: r["carrier"])
def test_it_is_found_in_its_picture(record: dict[str, Any]) -> None:
    found = read_image(base64.b64decode(record["file_base64"]))
    assert found is not None
    text = read(record["text"])
    if record["kind"] == "invokeai-Dream":  # the image says more in another chunk
        assert found.get("Model") == "deliberateForInvoke_v08"
        assert interpret(found).settings.seed == interpret(text).settings.seed
        assert (found.prompt, found.negative_prompt) == (text.prompt, text.negative_prompt)
        return
    assert found == text


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_what_it_says_can_be_written_and_read_again(record: dict[str, Any]) -> None:
    settings = settings_of(read(record["text"])).settings
    again = settings_of(read(write(settings)))
    assert again.settings == settings
    assert not again.lies
