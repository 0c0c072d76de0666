"""What strangers write into texts and images costs work in proportion to its length, and raises nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from atelier.api.sdapi.extras import parameters
from atelier.api.sdapi.names import find_model
from atelier.api.service import Catalogue
from atelier.families.sidecar import prediction
from atelier.pipeline.persons import has_trigger
from atelier.prompt.wildcards import parse_choices
from atelier.request.infotext import interpret, read
from atelier.request.infotext.dialects.invokeai import read_command
from atelier.request.infotext.image import read_image
from atelier.request.infotext.read import read_object
from atelier.request.infotext.resources import Resource, resources
from atelier.request.infotext.units import lacking
from atelier.request.infotext.version import version_of
from atelier.runtime.library import QUOTED_HASH
from effort import little_work

LONG = 60_000
SPACE, LETTERS = " " * LONG, "a" * LONG
NOTHING = Catalogue("", (), (), (), (), (), (), (), (), (), ())
DIVIDED = "Steps: 20, Sampler: Euler, Seed: 1, RP Active: True, RP Divide mode: Horizontal, RP Ratios: 1"
WORK: dict[str, Callable[[], object]] = {
    "a unit without a colon": lambda: lacking(read(f"x\nSteps: 1, Seed: 1, ControlNet 0: {LETTERS}")),
    "a tag without end": lambda: resources(read(f"<lora:{LETTERS}\nSteps: 1, Seed: 1, Size: 8x8")),
    "space between regions": lambda: interpret(read(f"a{SPACE}b BREAK c\n{DIVIDED}")),
    "a version": lambda: version_of("f1v1.10-RC" + "1" * LONG + "\n!"),
    "a flag": lambda: read_command('"a" -s 5 -S 1 "--' + "a" * 19_000 + '\n"'),
    "a word of a command": lambda: parameters('"a" -s 5 -S 1 ' + LETTERS),
    "a number of choices": lambda: parse_choices("{" + " " * 9_000 + "!$$a|b}"),
    "a model's title": lambda: find_model(NOTHING, f"a{SPACE}b"),
    "a name and its hash": lambda: QUOTED_HASH.search(f"a{SPACE}b"),
    "a word for a person": lambda: has_trigger(f"a{SPACE}b"),
}


@pytest.mark.parametrize("kind", WORK)
def test_long_texts_take_little_work(kind: str) -> None:
    with little_work():
        WORK[kind]()


def test_a_configuration_of_empty_lines_takes_little_work(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("\n" * 90_000)
    with little_work():
        assert prediction(tmp_path / "a.safetensors") is None


def test_a_unit_is_read_as_before() -> None:
    unit = "Module: canny,  Model: a (b, Weight: 0.5, Starting/Ending: (0.1, 0.6)"
    text = f'x\nSteps: 1, Seed: 1, Size: 8x8, ControlNet 0: "{unit}"'
    (told,) = lacking(read(text))
    assert "canny" in told
    assert ":0.5 start=0.1 end=0.6 model=a" in told


def _graph(samplers: int, wires: int) -> dict[str, object]:
    """Samplers that all go on from the first node, which has very many wires."""
    hub = {"class_type": "Hub", "inputs": {str(i): ["no", 0] for i in range(wires)}}
    inputs = {"positive": ["h", 0], "steps": 5, "latent_image": ["h", 0]}
    return {"h": hub} | {str(i): {"class_type": "KSampler", "inputs": inputs} for i in range(samplers)}


def test_a_large_graph_takes_little_work() -> None:
    with little_work():
        found = read_object(_graph(20_000, 2_000))
    assert found is not None
    assert found.get("Steps") == "5"


@pytest.mark.parametrize("chunk", ["parameters", "prompt", "Dream"])
def test_no_chunk_of_any_length_is_taken_apart(chunk: str) -> None:
    texts = {
        "parameters": "a\n" + "Steps: 1, Seed: 1, Size: 8x8, " * 5_000,
        "prompt": json.dumps({str(i): {"class_type": "A", "inputs": {}} for i in range(60_000)}),
        "Dream": '"a" -s 5 -S 1 ' + LETTERS,
    }
    info, file = PngInfo(), io.BytesIO()
    info.add_text(chunk, texts[chunk])
    Image.new("L", (1, 1)).save(file, "PNG", pnginfo=info)
    found = read_image(file.getvalue())
    assert found is None or not found.pairs


def test_resources_with_numbers_beyond_all_bounds_are_read() -> None:
    weights = ("1" * 400, "0.5", "NaN")
    items = [f'{{"type":"lora","modelVersionId":{i},"weight":{weight}}}' for i, weight in enumerate(weights, start=1)]
    items.append('{"air":"urn:air:a:lora:civitai:1@' + "1" * 5000 + '"}')
    found = resources(read(f"x\nSteps: 1, Seed: 1, Size: 8x8, Civitai resources: [{','.join(items)}]"))
    assert found == (Resource("lora", "", 1), Resource("lora", "", 2, weight=0.5), Resource("lora", "", 3))
