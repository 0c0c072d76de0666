"""A killed teaching goes on as if nothing had happened, and leaves the same file."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file

import taught_support as teaching
import tiny
import training_support as support
from atelier.errors import BadFile, BadInput
from atelier.request.events import Finished, Stepped
from atelier.train.teaching.image_prompt import Seen

pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")
TAUGHT: dict[str, tuple[str, dict[str, Any]]] = {
    "word and DoRA": (
        "lora",
        {
            "adapter__dora": True,
            "targets__text": True,
            "word__word": "zwx",
            "word__like": "cat",
            "data__prefix": "zwx ",
            "data__flip": True,
            "data__dropout": 0.3,
        },
    ),
    "inversion": ("inversion", {"data__prefix": "zwx ", "data__random_crop": True}),
}
DEATHS = ({"after_step": 0, "seconds": 0.05}, {"after_step": 1}, {"fsync": 3}, {"after_step": 3, "seconds": 0.01})
"""At the start, before the first checkpoint, in the midst of a save, after it."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[support.Nursery]:
    with support.Nursery() as started:
        yield started


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teaching.images(tmp_path_factory.mktemp("data") / "images")


def exported(kind: str, told: dict[str, Any], run: Path) -> dict[str, str]:
    """SHA-256 of every tensor of every file that the run leaves."""
    support.known()[kind].export(support.recipe(kind, told), run)
    found = {f"{file.name} {name}": t for file in run.glob("*.safetensors") for name, t in load_file(file).items()}
    return {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in found.items()}


@pytest.mark.skipif(sys.platform != "linux", reason="children are made by fork, saves are watched in /proc")
@pytest.mark.parametrize("name", TAUGHT)
def test_killed_again_and_again_it_is_the_unbroken_run(
    name: str, nursery: support.Nursery, tiny_file: Path, images: Path, tmp_path: Path
) -> None:
    kind, more = TAUGHT[name]
    told = teaching.changes(kind, tiny_file, images, **more)
    assert nursery.train(kind, told, tmp_path / "unbroken") == 0
    ends = [nursery.train(kind, told, tmp_path / "killed", **death) for death in DEATHS]
    assert ends.count(-9) >= 3, "the run was over before it was killed"
    assert nursery.train(kind, told, tmp_path / "killed") == 0
    assert support.result(tmp_path / "killed") == support.result(tmp_path / "unbroken")
    assert support.log(tmp_path / "killed") == support.log(tmp_path / "unbroken")
    files = exported(kind, told, tmp_path / "unbroken")
    assert exported(kind, told, tmp_path / "killed") == files
    assert {key.partition(" ")[0] for key in files} == {
        "word and DoRA": {"taught.safetensors", "zwx.safetensors"},
        "inversion": {"zwx.safetensors"},
    }[name]


def test_the_checkpoint_holds_what_is_taught_and_not_the_base(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    told = teaching.changes("lora", tiny_file, images)
    support.trained(support.recipe("lora", told), tmp_path)
    held = sum(path.stat().st_size for path in (tmp_path / "checkpoints" / "step-00000004").iterdir())
    assert held < tiny_file.stat().st_size / 4


def test_another_base_is_refused(images: Path, tmp_path: Path) -> None:
    """Of the same name, with other weights."""
    base = tiny.single_file(tmp_path / "base.safetensors")
    told = teaching.changes("lora", base, images, run__steps=2)
    support.trained(support.recipe("lora", told), tmp_path / "run")
    before = support.result(tmp_path / "run")
    overwritten(base)
    longer = support.recipe("lora", {**told, "run.steps": 4})
    with pytest.raises(BadInput, match="model is no longer what this run began with"):
        support.trained(longer, tmp_path / "run")
    assert support.result(tmp_path / "run") == before


def overwritten(base: Path) -> None:
    """With other weights."""
    content = bytearray(base.read_bytes())
    content[-1] ^= 1
    base.write_bytes(content)


def test_a_base_that_is_overwritten_or_moved_meanwhile_is_noticed_and_ends_no_run(images: Path, tmp_path: Path) -> None:
    base = tiny.single_file(tmp_path / "base.safetensors")
    told = teaching.changes("lora", base, images, run__steps=2, run__checkpoint_every=1)
    recipe, kept = support.recipe("lora", told), base.with_name("kept")
    events = support.events(recipe, tmp_path / "run")
    next(event for event in events if isinstance(event, Stepped))
    base.rename(kept)
    assert isinstance(list(events)[-1], Finished)
    kept.rename(base)
    overwritten(base)
    with pytest.raises(BadInput, match="model is no longer what this run began with"):
        support.trained(support.recipe("lora", {**told, "run.steps": 4}), tmp_path / "run")
    with pytest.raises(
        BadFile, match=r"base\.safetensors: is no longer what .*run learned on: put the earlier file back"
    ):
        support.known()["lora"].export(recipe, tmp_path / "run")


def test_changed_images_are_refused(tiny_file: Path, tmp_path: Path) -> None:
    images = teaching.images(tmp_path / "images")
    told = teaching.changes("lora", tiny_file, images, run__steps=2)
    support.trained(support.recipe("lora", told), tmp_path / "run")
    next(images.glob("*.txt")).write_text("cat dog", encoding="utf-8")
    with pytest.raises(BadInput, match="the training images changed"):
        support.trained(support.recipe("lora", {**told, "run.steps": 4}), tmp_path / "run")


def test_changed_hints_are_changed_training_images(tiny_file: Path, tmp_path: Path) -> None:
    images, hints = (teaching.images(tmp_path / name) for name in ("images", "hints"))
    told = teaching.changes(
        "control", tiny_file, images, control__annotator="", control__hints=str(hints), control__widths=[4, 4, 4]
    )

    def identity() -> tuple[str, ...]:
        return tuple(teaching.task("control", told, tmp_path / "run").identity.split("-"))

    before = identity()
    assert identity() == before
    Image.new("RGB", (40, 40), "blue").save(hints / "002.png")
    assert identity()[0] == before[0]
    assert identity()[1] != before[1]
    (hints / "002.png").unlink()
    with pytest.raises(BadFile, match=r"hints/002\.png: is not there: .*images/002\.png needs one of its name"):
        identity()


def test_references_that_lie_beside_images_are_found(tmp_path: Path) -> None:
    images, others = (teaching.images(tmp_path / name, 2) for name in ("images", "others"))
    seen = Seen(others, images)
    assert [path.relative_to(tmp_path).as_posix() for path in seen.files([images / "000.png", images / "001.png"])] == [
        "others/000.png",
        "others/001.png",
    ]
    assert Seen(None, images).files([images / "000.png"]) == ()
