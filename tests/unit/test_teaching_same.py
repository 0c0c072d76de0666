"""What changes memory and time alone: the gradients of a teaching stay what they are."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import taught_support as teaching
from atelier.checkpoints.text import TextTowers
from atelier.nn.ports import Conditioning
from atelier.train.loop import Placement
from atelier.train.tasks.teaching import TeachingTask
from atelier.train.teaching import kept_captions
from atelier.train.teaching.base import Base, states_of

pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")
TAUGHT: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "LoRA": ("lora", {"targets__text": True}),
    "DoRA": ("lora", {"adapter__dora": True, "targets__layers": "all", "adapter__conv_rank": 2, "targets__text": True}),
    "LoRA and a word": (
        "lora",
        {"word__word": "zwx", "word__like": "cat", "data__prefix": "zwx ", "targets__layers": "cross-attention"},
    ),
    "inversion": ("inversion", {"data__prefix": "zwx "}),
    "dreambooth": ("dreambooth", {"targets__text": True}),
    "Custom Diffusion": ("dreambooth", {"targets__layers": "cross-attention"}),
}
BATCH = 4


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teaching.images(tmp_path_factory.mktemp("data") / "images", 5)


def made(name: str, base: Path, images: Path, folder: Path, **more: Any) -> TeachingTask:
    kind, own = TAUGHT[name]
    told = {"run__batch": BATCH, "optim__clip": 1e6, **own, **more}
    task = teaching.task(kind, teaching.changes(kind, base, images, **told), folder)
    teaching.shake(task, size=0.02)
    return task


def same(ours: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert ours.keys() == wanted.keys()
    largest = max(float(tensor.norm()) for tensor in wanted.values())
    assert largest > 1e-3
    for name, tensor in wanted.items():
        assert float((ours[name] - tensor).norm()) <= 1e-5 * (float(tensor.norm()) + largest), name


WAYS: Mapping[str, Mapping[str, Any]] = {
    "checkpointing": {"run__checkpointing": True},
    "four parts": {"run__accumulate": 4},
}


@pytest.mark.parametrize("name", TAUGHT)
def test_checkpointing_and_parts_change_no_gradient(name: str, tiny_file: Path, images: Path, tmp_path: Path) -> None:
    wanted = teaching.gradients(made(name, tiny_file, images, tmp_path))
    for more in WAYS.values():
        same(teaching.gradients(made(name, tiny_file, images, tmp_path, **more)), wanted)


def test_parts_see_as_many_chunks_as_the_whole_batch(tiny_file: Path, tmp_path: Path) -> None:
    images = teaching.images(tmp_path / "images", BATCH)
    next(iter(sorted(images.glob("*.txt")))).write_text("a cat and a dog, " * 30)
    wanted = teaching.gradients(made("LoRA", tiny_file, images, tmp_path / "whole"))
    same(teaching.gradients(made("LoRA", tiny_file, images, tmp_path / "parts", run__accumulate=4)), wanted)


def test_checkpointing_computes_again_what_it_did_not_keep(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    kept: list[int] = []
    for checkpointing in (False, True):
        task = made("LoRA", tiny_file, images, tmp_path, run__checkpointing=checkpointing)
        held: dict[int, int] = {}

        def keep(tensor: Tensor, held: dict[int, int] = held) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = task.dry(task.maker(0))
        kept.append(sum(held.values()))
        del loss
    assert kept[1] < kept[0] / 2


def test_what_captions_say_depends_on_no_other_caption(
    tiny_file: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products of matrices may round otherwise with other numbers of rows, and a run that goes on sees a caption beside
    others than before."""

    def rounded(base: Base, encoder: TextTowers, texts: Sequence[str], least: int = 1) -> Conditioning:
        found = states_of(base, encoder, texts, least)
        return replace(found, tokens=found.tokens + 0.5 * len(texts))

    monkeypatch.setattr("atelier.train.teaching.kept_captions.states_of", rounded)
    unbroken, resumed = (made("Custom Diffusion", tiny_file, images, tmp_path / name, run__batch=3) for name in "ab")
    unbroken.dry(unbroken.maker(0))
    teaching.gradients(unbroken, 0)
    resumed.dry(resumed.maker(1))
    same(teaching.gradients(resumed, 1), teaching.gradients(unbroken, 1))


def test_latents_come_from_the_disk_as_they_were(
    tiny_file: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made("LoRA", tiny_file, images, tmp_path)
    wanted = teaching.gradients(first)
    second = made("LoRA", tiny_file, images, tmp_path)
    monkeypatch.setattr(type(second.base), "posterior", lambda *_: pytest.fail("an image was encoded again"))
    same(teaching.gradients(second), wanted)
    batch = second.maker(0)
    for own in batch:
        for one, other in zip(first._posterior([own]), second._posterior([own]), strict=True):
            assert torch.equal(one, other), "bit by bit"


def test_without_the_cache_it_is_the_same(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    """A part that is drawn anew is never kept; where the image is no larger than the part there is one only."""
    small = teaching.images(tmp_path / "small", 5, teaching.SIZE)
    wanted = teaching.gradients(made("LoRA", tiny_file, small, tmp_path / "kept"))
    loose = made("LoRA", tiny_file, small, tmp_path / "loose", data__random_crop=True)
    same(teaching.gradients(loose), wanted)
    assert list((tmp_path / "kept" / "latents").rglob("*.*"))
    assert not list((tmp_path / "loose" / "latents").rglob("*.*"))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide and tall images."""
    folder = teaching.images(tmp_path_factory.mktemp("data") / "shapes", 6, 48)
    for number, path in enumerate(sorted(folder.glob("*.png"))):
        size = (48, 24) if number % 2 else (24, 48)
        Image.open(path).resize(size).save(path)
    return folder


def test_buckets_keep_proportions_and_change_no_gradient(tiny_file: Path, shapes: Path, tmp_path: Path) -> None:
    more = {"data__buckets": True, "data__size": 32}
    plain = made("LoRA", tiny_file, shapes, tmp_path, **more)
    parts = made("LoRA", tiny_file, shapes, tmp_path, **more, run__accumulate=2, run__checkpointing=True)
    seen: set[tuple[int, int]] = set()
    for step in range(2):
        (size,) = {own.size for own in plain.maker(step)}
        seen.add(size)
        same(teaching.gradients(parts, step), teaching.gradients(plain, step))
    assert seen == {(24, 40), (40, 24)}


def test_buckets_of_one_shape_are_no_buckets(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    wanted = teaching.gradients(made("LoRA", tiny_file, images, tmp_path))
    same(teaching.gradients(made("LoRA", tiny_file, images, tmp_path, data__buckets=True)), wanted)


def test_states_of_texts_are_kept_only_where_nothing_of_them_learns(
    tiny_file: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atelier.train.tasks import teaching as own

    asked: list[int] = []
    for module, name in ((own, "conditioning_of"), (kept_captions, "states_of")):
        encode = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, encode=encode: asked.append(1) or encode(*given))
    for text, wanted in ((False, 0), (True, 1)):
        task = made("LoRA", tiny_file, images, tmp_path, targets__text=text)
        first = teaching.gradients(task)
        asked.clear()
        same(teaching.gradients(task), first)
        assert len(asked) == wanted
    monkeypatch.setattr(own, "CACHED", 1)
    task = made("LoRA", tiny_file, images, tmp_path, targets__text=False)
    teaching.gradients(task)
    assert len(task._latents) == 1, "and no more than fit"


TOGETHER = {
    "LoRA": {},
    "inversion": {"data__prefix": ""},
    "dreambooth": {"run__accumulate": 2},
}


@pytest.mark.skipif(sys.platform != "linux", reason="processes are made by fork")
@pytest.mark.parametrize("name", TOGETHER)
def test_two_processes_are_one_with_the_whole_batch(name: str, tiny_file: Path, tmp_path: Path) -> None:
    """Images of the class among the others; of a word, one process's captions do not say it."""
    images, others = teaching.images(tmp_path / "images", 4), teaching.images(tmp_path / "others", 3)
    if name == "inversion":
        for number, path in enumerate(sorted(images.glob("*.txt"))):
            path.write_text("a cat" if number else "zwx", encoding="utf-8")
    more = {**TOGETHER[name], "data__class_source": str(others), "loss__prior_weight": 0.5, "run__batch": BATCH}
    wanted = teaching.gradients(made(name, tiny_file, images, tmp_path / "one", **more))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [_forked(name, tiny_file, images, tmp_path / "two", rank, port, more) for rank in range(2)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    for rank in range(2):
        same(torch.load(tmp_path / f"two{rank}.pt"), wanted)


def _forked(name: str, base: Path, images: Path, folder: Path, rank: int, port: int, more: Mapping[str, Any]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        from atelier.train.world import joined

        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
        os.environ.update(place)
        with joined(torch.device("cpu"), place) as world:
            kind, own = TAUGHT[name]
            told = teaching.changes(kind, base, images, optim__clip=1e6, **{**own, **more})
            task = teaching.task(kind, told, folder, Placement(torch.device("cpu"), torch.float32, world))
            teaching.shake(task, size=0.02)
            assert len(task.maker(0)) == BATCH
            torch.save(teaching.gradients(task), f"{folder}{rank}.pt")
        os._exit(0)
    finally:
        os._exit(1)
