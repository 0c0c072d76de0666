"""What steers the embedded model and comes with it: controls put things where hints say, an image is a prompt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import atelier
from atelier.checkpoints.embedded import embedded_controls
from atelier.request.pictures import data_uri
from atelier.request.table import request_of
from atelier.runtime.engine import Engine
from atelier.train.data.scene_hints import HINTS
from atelier.train.data.scenes import Placed, Scene, concepts, large, render
from atelier.train.judge import Judge
from atelier.vision.annotate import annotator, ready
from atelier.weights.archive import open_any

SCENES = (
    Scene("small", (Placed("fox", 20.0, 44.0, 30.0),), "purple", ""),
    Scene("small", (Placed("pizza", 44.0, 18.0, 32.0),), "blue", ""),
)
"""Places that captions have no words for."""
LEAST = {"canny": 0.6, "depth": 0.6, "keypoints": 0.4, "normal": 0.6, "segmentation": 0.6}
"""Of each type, how much of a thing lies where it is asked for; a skeleton says no more than the thing's box."""
SIZE = 128


@pytest.fixture(scope="module")
def engine() -> Engine:
    return atelier.engine(device="cpu", dtype="fp32")


def things(image: np.ndarray) -> np.ndarray:
    """Where an image is not as its border."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return np.sqrt(np.square(image - np.median(border, axis=0)).sum(2)) > 48


def overlap(engine: Engine, scene: Scene, controls: tuple[str, ...]) -> float:
    """The intersection over union of what is generated and of the scene."""
    prompt = f"a {scene.objects[0].name} on a {scene.background} background"
    wanted = {"prompt": prompt, "seed": 3, "steps": 8, "sampler": "Euler", "controls": controls}
    found = things(np.asarray(engine.generate(request_of(wanted))[0].image, np.float64))
    asked = things(render(scene, SIZE).astype(np.float64))
    return float((found & asked).sum() / (found | asked).sum())


@pytest.fixture(scope="module")
def without(engine: Engine) -> tuple[float, ...]:
    return tuple(overlap(engine, scene, ()) for scene in SCENES)


@pytest.mark.parametrize("kind", LEAST)
def test_a_thing_stands_where_the_hint_says(kind: str, engine: Engine, without: tuple[float, ...]) -> None:
    for scene, alone in zip(SCENES, without, strict=True):
        if kind == "canny":
            maker = ready(annotator("canny"), lambda _: None, torch.device("cpu"))
            hint = maker.hint(Image.fromarray(render(scene, SIZE)))
        else:
            hint = HINTS[kind](scene, SIZE)
        controlled = overlap(engine, scene, (f"{kind}:{data_uri(hint)} annotator=none",))
        assert controlled > LEAST[kind], scene
        assert controlled > alone + 0.2, scene


def test_an_image_is_a_prompt(engine: Engine) -> None:
    """By no words: its thing, which the model gives no other way, and its background."""
    judge, seen, grounds = Judge(SIZE), 0, 0
    for number, ground in enumerate(("red", "blue", "white", "black", "purple", "pink")):
        shown = large(concepts()[57 * number].name, ground)
        reference = f"{data_uri(Image.fromarray(render(shown, SIZE)))} model=image-prompt"
        wanted = {"prompt": "", "seed": number, "steps": 10, "sampler": "Euler", "references": (reference,)}
        image = np.asarray(engine.generate(request_of(wanted))[0].image)
        seen += judge.concept(image).name == shown.objects[0].name
        grounds += judge.background(image) == ground
    assert seen >= 3
    assert grounds >= 5


def test_there_is_one_of_each_type_and_none_is_large() -> None:
    found = embedded_controls()
    assert set(found) == {*LEAST, "image-prompt"}
    for name in found:
        assert found[name].stat().st_size < 6_000_000
        assert {info.dtype for info in open_any(found[name]).tensors.values()} == {"F16"}
