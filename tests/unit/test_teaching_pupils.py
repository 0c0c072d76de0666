"""What of a model is taught moves, and nothing else does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import taught_support as teaching
from atelier.errors import BadInput
from atelier.train.tasks.teaching import TeachingTask

pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")
WORD = {"word__word": "zwx", "word__vectors": 3, "word__like": "cat dog", "data__prefix": "zwx "}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teaching.images(tmp_path_factory.mktemp("data") / "images")


def made(kind: str, base: Path, images: Path, folder: Path, **more: Any) -> TeachingTask:
    return teaching.task(kind, teaching.changes(kind, base, images, **more), folder)


def state(task: TeachingTask) -> dict[str, Tensor]:
    """Every parameter and buffer of the base."""
    nets = {**task.base.networks, "vae": task.base.vae}
    return {f"{part}.{name}": t.detach().clone() for part, net in nets.items() for name, t in net.state_dict().items()}


def moved(task: TeachingTask, steps: int = 2) -> tuple[set[str], set[str]]:
    """The names of the base's tensors that changed in a few steps, and those of what is taught."""
    before = {name: p.detach().clone() for name, p in teaching.learning(task).items()}
    base = state(task)
    for step in range(steps):
        task.update(step, task.maker(step))
    after = state(task)
    assert after.keys() == base.keys()
    learned = {name for name, p in teaching.learning(task).items() if not torch.equal(p, before[name])}
    return {name for name, tensor in base.items() if not torch.equal(tensor, after[name])}, learned


def test_a_word_alone_moves_its_vectors_and_no_bit_of_the_model(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    task = made("inversion", tiny_file, images, tmp_path, **WORD)
    (tower,) = task.base.encoder.towers
    table = state(task)["text.token_embedding.weight"]
    first = task.nets["words"].get_parameter("towers.0").detach().clone()
    ids = [tower.tokenize(word)[0] for word in ("cat", "dog", "cat")]
    assert torch.equal(first, table[ids]), "the tokens of `like`, again and again"
    assert moved(task) == (set(), {"words.towers.0"})
    (only,) = task.optimizers.values()
    assert [group["weight_decay"] for group in only.param_groups] == [0.0]
    assert all(p.grad is None for net in task.base.networks.values() for p in net.parameters())
    with task.pupil.at_work() as encoder:
        assert encoder.towers[0].inversions != tower.inversions
    assert tower.vectors == {}


def test_a_word_learns_at_its_own_rate(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    for kind, other in (("inversion", 0), ("lora", 1), ("dreambooth", 1)):
        task = made(kind, tiny_file, images, tmp_path / kind, **WORD, word__rate=3.0, optim__rate=0.01)
        (only,) = task.optimizers.values()
        rates = {id(p): group["lr"] for group in only.param_groups for p in group["params"]}
        own = rates.pop(id(task.nets["words"].get_parameter("towers.0")))
        assert own == pytest.approx(0.03)
        assert set(rates.values()) == ({0.01} if other else set())


def test_captions_without_the_word_teach_it_nothing(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    task = made("inversion", tiny_file, images, tmp_path, **WORD, data__dropout=1.0)
    assert {own.caption for own in task.maker(0)} == {""}
    told = task.update(0, task.maker(0))
    assert float(told["norm"]) == 0
    assert task.nets["words"].get_parameter("towers.0").grad is None


TOGETHER: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "LoRA": ("lora", {}, "unet.layers."),
    "LoRA of both": ("lora", {"targets__text": True}, "text.layers."),
    "weights": ("dreambooth", {"targets__layers": "cross-attention"}, "unet."),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_a_word_and_what_is_taught_with_it_both_move(name: str, tiny_file: Path, images: Path, tmp_path: Path) -> None:
    kind, more, beginning = TOGETHER[name]
    task = made(kind, tiny_file, images, tmp_path, **WORD, **more)
    base, learned = moved(task)
    assert "words.towers.0" in learned
    assert any(own.startswith(beginning) for own in learned)
    assert learned == set(teaching.learning(task)), "all that has gradients"
    if kind == "lora":
        assert base == set(), "beside the model"
    else:
        assert base == learned - {"words.towers.0"}


def test_an_adapter_moves_no_bit_of_the_model(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    task = made("lora", tiny_file, images, tmp_path, adapter__kind="LoKr", targets__text=True)
    base, learned = moved(task)
    assert base == set()
    assert learned == set(teaching.learning(task))


CHOSEN: Mapping[str, tuple[Mapping[str, Any], int, int]] = {
    "all": ({}, 180, 0),
    "with text": ({"targets__text": True}, 180, 36),
    "cross-attention": ({"targets__layers": "cross-attention"}, 14, 0),
    "attention, text attention": (
        {"targets__layers": "attention", "targets__text": True, "targets__text_layers": [r"self_attn\."]},
        70,
        16,
    ),
    "by pattern": ({"targets__layers": [r"^conv_in$", r"mid_block\.resnets\.0\.norm1"]}, 4, 0),
}
"""Targets -> how many weights of the U-Net and of the text encoder learn."""


@pytest.mark.parametrize("name", CHOSEN)
def test_weights_are_chosen_by_the_names_that_diffusers_has(
    name: str, tiny_file: Path, images: Path, tmp_path: Path
) -> None:
    more, unet, text = CHOSEN[name]
    task = made("dreambooth", tiny_file, images, tmp_path, **more)
    learning = teaching.learning(task)
    counts = [sum(own.startswith(f"{part}.") for own in learning) for part in ("unet", "text")]
    parts = [len(list(net.parameters())) for net in task.base.networks.values()]
    assert counts == [parts[0] if unet == 180 else unet, parts[1] if text == 36 else text]
    rates = {group["lr"] for own in task.optimizers.values() for group in own.param_groups}
    assert rates == ({0.01, 0.005} if text else {0.01})


def test_weights_that_are_not_there_are_refused(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"target 'attn9': no layer of the U-Net has that in its name"):
        made("dreambooth", tiny_file, images, tmp_path, targets__layers="attn9")
    with pytest.raises(BadInput, match=r"target '\(': is no regular expression"):
        made("dreambooth", tiny_file, images, tmp_path, targets__layers="(")


def test_the_second_matrices_learn_faster_in_lora_plus(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    more = {"adapter__up_ratio": 16.0, "targets__text": True, "optim__rate": 0.001}
    task = made("lora", tiny_file, images, tmp_path, **more)
    (only,) = task.optimizers.values()
    rates = {id(p): group["lr"] for group in only.param_groups for p in group["params"]}
    found = {
        (name.partition(".")[0], name.rpartition(".")[2]): rates[id(p)] for name, p in teaching.learning(task).items()
    }
    wanted = {("unet", "down"): 0.001, ("unet", "up"): 0.016, ("text", "down"): 0.0005, ("text", "up"): 0.008}
    assert found == pytest.approx(wanted)


def test_a_validation_measures_the_loss(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    """A network of random weights is about as far from the noise as noise is from nothing."""
    task = made("lora", tiny_file, images, tmp_path)
    assert 0.3 < task.validate().numbers["fixed"] < 3
