"""`atelier train` of what cannot be taught: one line, exit code 2, and nothing that was there is touched."""

from __future__ import annotations

import errno
import io
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import taught_support as teaching
import tiny
import training_support as support
from atelier.cli.app import run
from atelier.errors import Interrupted
from atelier.request.events import ClassImageSaved, Failed, Finished, TrainingEvent
from atelier.train.data import cache
from atelier.train.runner import run_recipe

pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")
INVERSION = {"data__prefix": "zwx "}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return teaching.images(tmp_path / "images")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


Spoil = Callable[[Path], None]


def _empty(images: Path) -> None:
    for path in images.iterdir():
        path.unlink()


def _broken(images: Path) -> None:
    path = images / "002.png"
    path.write_bytes(path.read_bytes()[:60])


def _half(images: Path) -> None:
    """Its header is whole."""
    path = images / "002.png"
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _no_caption(images: Path) -> None:
    (images / "001.txt").unlink()


def _small(images: Path) -> None:
    Image.new("RGB", (1, 200)).save(images / "002.png")


def _nothing(_: Path) -> None:
    pass


BAD: Mapping[str, tuple[str, Spoil, Mapping[str, Any], str]] = {
    "no images": ("lora", _empty, {}, "holds no images"),
    "no folder": ("lora", _nothing, {"data__source": "/nowhere"}, "/nowhere: no such folder"),
    "a broken image": ("lora", _broken, {}, "002.png: broken image"),
    "half an image": ("lora", _half, {}, "002.png: broken image"),
    "no caption": ("lora", _no_caption, {}, "001.png: has no caption"),
    "class images without captions": ("lora", _nothing, {"data__class_source": "CLASS"}, "000.png: has no caption"),
    "class images of a control": (
        "control",
        _nothing,
        {"data__class_images": 2, "data__class_captions": ["cat"], "control__annotator": "canny"},
        "data.class_images: this recipe generates none; give a folder of them as data.class_source",
    ),
    "class images of an image prompt": (
        "image-prompt",
        _nothing,
        {"data__class_images": 2, "data__class_captions": ["cat"]},
        "data.class_images: this recipe generates none; give a folder of them as data.class_source",
    ),
    "class captions missing": ("lora", _nothing, {"data__class_images": 2}, "needs data.class_captions"),
    "two kinds of class images": (
        "lora",
        _nothing,
        {"data__class_images": 2, "data__class_captions": ["cat"], "data__class_source": "CLASS"},
        "give one of the two",
    ),
    "rank": ("lora", _nothing, {"adapter__rank": 600}, "rank 600: the largest layer has"),
    "kind": ("lora", _nothing, {"adapter__kind": "LoRRA"}, "unknown kind of adapter 'LoRRA': did you mean lora"),
    "lengths of IA3": ("lora", _nothing, {"adapter__kind": "IA3", "adapter__dora": True}, "choose LoRA, LoHa or LoKr"),
    "a kind that is read alone": ("lora", _nothing, {"adapter__kind": "boft"}, "unknown kind of adapter 'boft'"),
    "a rank of convolutions without any": (
        "lora",
        _nothing,
        {"adapter__conv_rank": 2, "targets__layers": "transformer"},
        "rank 2 of convolutions: none is among the chosen layers",
    ),
    "rates of matrices that are not there": (
        "lora",
        _nothing,
        {"adapter__kind": "LoHa", "adapter__up_ratio": 16.0},
        "adapter.up_ratio: LoHa has no second matrices as LoRA has",
    ),
    "a rate that makes Prodigy stand still": (
        "lora",
        _nothing,
        {"optim__kind": "prodigy", "optim__rate": 1e-4},
        "optim.rate = 0.0001: prodigy finds its rate itself and takes so many times that: set it to 1",
    ),
    "noise alone": (
        "lora",
        _nothing,
        {"loss__zero_snr": True, "base_": "EPSILON"},
        "loss.zero_snr: epsilon predicts epsilon, which says nothing of an image in noise alone",
    ),
    "more layers than there are": ("lora", _nothing, {"clip_skip": 9}, "clip skip 9: this model's text encoder has"),
    "targets": ("lora", _nothing, {"targets__layers": "attn9"}, "target 'attn9': no layer of the U-Net"),
    "targets of weights": ("dreambooth", _nothing, {"targets__layers": "attn9"}, "target 'attn9': no layer of the"),
    "no expression": ("lora", _nothing, {"targets__layers": "("}, "target '(': is no regular expression"),
    "size": ("lora", _nothing, {"data__size": 36}, "data.size = 36: not divisible by 8"),
    "no base": ("lora", _nothing, {"base_": "/nowhere/model.safetensors"}, "/nowhere/model.safetensors"),
    "a word like nothing": ("inversion", _nothing, {**INVERSION, "word__like": " "}, "word.like: say which known word"),
    "no word": ("inversion", _nothing, {**INVERSION, "word__word": " "}, "word.word: say which word is to be learned"),
    "a word that nobody says": ("inversion", _nothing, {}, "word.word = 'zwx': no caption says it"),
    "a word beside a LoRA that nobody says": (
        "lora",
        _nothing,
        {"word__word": "zwx", "word__like": "cat"},
        "word.word = 'zwx': no caption says it",
    ),
    "a word beside weights that nobody says": (
        "dreambooth",
        _nothing,
        {"word__word": "zwx", "word__like": "cat"},
        "word.word = 'zwx': no caption says it",
    ),
    "a word that is a path": ("inversion", _nothing, {**INVERSION, "word__word": "../zwx"}, "word.word"),
    "a word called as its LoRA": (
        "lora",
        _nothing,
        {**INVERSION, "word__word": "Taught", "word__like": "cat"},
        "word.word is called so too",
    ),
    "a word called as its model": (
        "dreambooth",
        _nothing,
        {**INVERSION, "word__word": "zwx", "word__like": "cat", "name": "zwx"},
        "word.word is called so too",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(
    name: str, tiny_file: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, spoil, more, told = BAD[name]
    spoil(images)
    own = {key: str(_class(tmp_path)) if value == "CLASS" else value for key, value in more.items()}
    base = Path(own.pop("base_", tiny_file))
    if str(base) == "EPSILON":
        base = tiny.single_file(tmp_path / "epsilon.safetensors", prediction="epsilon")
    changes = teaching.changes(kind, base, images, **own)
    before = contents(images)
    assert run(teaching.arguments(kind, tmp_path / "run", changes)) == 2
    said = capsys.readouterr().err
    assert told in said.splitlines()[-1]
    assert "Traceback" not in said
    assert contents(images) == before
    assert not list(tmp_path.glob("run/**/*.safetensors"))
    if name != "half an image":  # found at the first step, when latents may lie in the folder
        assert not (tmp_path / "run").exists()


def _class(folder: Path) -> Path:
    others = teaching.images(folder / "class", 2)
    for path in others.glob("*.txt"):
        path.unlink()
    return others


def test_one_image_is_enough(tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = teaching.changes("lora", tiny_file, teaching.images(tmp_path / "one", 1), run__steps=2)
    assert run(teaching.arguments("lora", tmp_path / "run", changes)) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "run" / "taught.safetensors")]


def test_images_of_the_class_take_the_caption_that_is_given(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    more = {"data__class_source": str(_class(tmp_path)), "data__class_captions": ["a cat"]}
    task = teaching.task("lora", teaching.changes("lora", tiny_file, images, **more), tmp_path)
    assert {own.caption for own in task.maker(0) if own.is_class} == {"a cat"}


def test_a_base_that_is_quantised_is_refused(
    tiny_file: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from atelier.checkpoints.opening import open_checkpoint

    tensors = {name: t.to(torch.float8_e4m3fn) if t.ndim > 1 else t for name, t in load_file(tiny_file).items()}
    base = tmp_path / "small.safetensors"
    save_file(tensors, base, dict(open_checkpoint(tiny_file).metadata))
    for kind in ("lora", "dreambooth"):
        assert run(teaching.arguments(kind, tmp_path / "run", teaching.changes(kind, base, images))) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"{base}: is kept as" in said
        assert "a model that is quantised cannot be taught; give the full one" in said
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_recipe_is_not_gone_on_with(
    tiny_file: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = teaching.changes("lora", tiny_file, images, run__steps=2)
    assert run(teaching.arguments("lora", tmp_path / "run", changes)) == 0
    before = contents(tmp_path / "run")
    capsys.readouterr()
    assert run(teaching.arguments("lora", tmp_path / "run", {**changes, "adapter.rank": 2})) == 2
    assert "holds a run of another recipe (adapter.rank was 4, is 2)" in capsys.readouterr().err
    other = teaching.changes("inversion", tiny_file, images, **INVERSION)
    assert run(teaching.arguments("inversion", tmp_path / "run", other)) == 2
    assert "holds a run of another recipe (lora, not inversion)" in capsys.readouterr().err
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("place", ["taught.safetensors", "zwx.safetensors", "model/model_index.json"])
def test_weights_of_others_are_not_replaced(
    place: str, tiny_file: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs" / place
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"precious")
    changes = teaching.changes("lora", tiny_file, images, run__steps=1)
    assert run(teaching.arguments("lora", tmp_path / "theirs", changes)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{theirs}: no checkpoint is left of a run that made it, and it might be replaced" in said
    assert contents(tmp_path / "theirs") == {str(theirs): b"precious"}


def test_a_result_whose_checkpoints_were_deleted_is_not_replaced(
    tiny_file: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = teaching.changes("lora", tiny_file, images, run__steps=1)
    assert run(teaching.arguments("lora", tmp_path / "run", changes)) == 0
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    before = contents(tmp_path / "run")
    for rank in (4, 2):
        assert run(teaching.arguments("lora", tmp_path / "run", {**changes, "adapter.rank": rank})) == 2
        assert "taught.safetensors: no checkpoint is left" in capsys.readouterr().err
    assert contents(tmp_path / "run") == before


def test_a_run_does_not_lie_among_images_of_the_class(
    tiny_file: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = teaching.images(tmp_path / "class", 2)
    changes = teaching.changes("lora", tiny_file, images, data__class_source=str(others))
    assert run(teaching.arguments("lora", others / "run", changes)) == 2
    assert f"{others / 'run'}: lies in the folder of the training images, {others}" in capsys.readouterr().err
    assert not (others / "run").exists()


def test_a_full_disk_ends_the_run_with_a_line(
    tiny_file: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the latents are written; with room again the same command goes on."""
    command = teaching.arguments("lora", tmp_path / "run", teaching.changes("lora", tiny_file, images))
    with monkeypatch.context() as full:

        def refused(path: Path, *_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

        full.setattr(cache, "new_file", refused)
        ended = run(command)
    said = capsys.readouterr().err
    assert "the disk is full; free some space and run again" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert ended != 0
    assert run(command) == 0
    assert (tmp_path / "run" / "taught.safetensors").is_file()


def made(changes: dict[str, Any], folder: Path, stop: Callable[[], bool] = lambda: False) -> list[TrainingEvent]:
    recipe = support.recipe("lora", changes)
    return list(run_recipe(support.known()["lora"], recipe, support.placement(), folder, stop))


def test_images_of_the_class_are_generated_once_by_the_model_as_it_is(
    tiny_file: Path, images: Path, tmp_path: Path
) -> None:
    """Each a function of its number: one that is missing is made again as it was."""
    more = {"data__class_images": 3, "data__class_captions": ["a cat", "a dog"], "run__steps": 1}
    changes = teaching.changes("lora", tiny_file, images, **more)
    first = made(changes, tmp_path)
    (folder,) = (tmp_path / "class").iterdir()
    paths = [folder / f"0000{n}.png" for n in range(3)]
    assert first[:3] == [ClassImageSaved(n + 1, 3, path) for n, path in enumerate(paths)]
    before = contents(tmp_path / "class")
    assert [Path(name).name for name in before] == [f"0000{n}.{end}" for n in range(3) for end in ("png", "txt")]
    assert [before[name] for name in before if name.endswith("txt")] == [b"a cat", b"a dog", b"a cat"]
    assert len({before[name] for name in before if name.endswith("png")}) == 3
    assert {size(before[name]) for name in before if name.endswith("png")} == {(teaching.SIZE, teaching.SIZE)}
    assert sum(own.is_class for own in teaching.task("lora", changes, tmp_path).maker(0)) == 2
    assert not [event for event in made(changes, tmp_path) if isinstance(event, ClassImageSaved)]
    assert contents(tmp_path / "class") == before
    paths[1].unlink()
    assert [event for event in made(changes, tmp_path) if isinstance(event, ClassImageSaved)] == [
        ClassImageSaved(3, 3, paths[1])
    ]
    again = contents(tmp_path / "class")
    assert {name for name in before if again[name] != before[name]} <= {str(paths[1])}
    apart = levels(again[str(paths[1])]).astype(int) - levels(before[str(paths[1])])
    assert abs(apart).max() <= 1, "one at a time it is the same, but for rounding"


def test_a_run_that_is_stopped_between_images_of_the_class_goes_on_with_the_rest(
    tiny_file: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atelier.train.teaching.class_images.AT_ONCE", 1)
    more = {"data__class_images": 3, "data__class_captions": ["a cat"], "run__steps": 1}
    changes = teaching.changes("lora", tiny_file, images, **more)
    *_, saved, failed = made(changes, tmp_path, lambda: any(tmp_path.glob("class/*/00001.png")))
    assert isinstance(saved, ClassImageSaved)
    assert (saved.done, saved.total, saved.path.name) == (2, 3, "00001.png")
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, Interrupted)
    assert not saved.path.with_name("00002.png").exists()
    happened = made(changes, tmp_path)
    assert happened[0] == ClassImageSaved(3, 3, saved.path.with_name("00002.png"))
    assert isinstance(happened[-1], Finished)


@pytest.mark.parametrize("other", ["captions", "size", "base"])
def test_images_of_another_class_size_or_base_are_not_taken_over(
    other: str, tiny_file: Path, images: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    more: dict[str, Any] = {"data__class_images": 2, "data__class_captions": ["a dog"], "run__steps": 1}
    before = teaching.changes("lora", tiny_file, images, **more)
    made(before, tmp_path, lambda: True)
    changed = {**before, **{"captions": {"data.class_captions": ["a cat"]}, "size": {"data.size": 16}}.get(other, {})}
    if other == "base":
        changed["base"] = str(tiny.single_file(elsewhere / "other.safetensors", prediction="epsilon"))
    first, *_ = happened = made(changed, tmp_path)
    assert isinstance(first, ClassImageSaved)
    assert first.done == 1
    assert isinstance(happened[-1], Finished)
    captions = {path.read_text() for path in first.path.parent.glob("*.txt")}
    assert captions == {"a cat" if other == "captions" else "a dog"}


def size(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        return image.size


def levels(content: bytes) -> Any:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)
