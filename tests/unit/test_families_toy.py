"""A family is data: one from outside the package, with two text encoders on a flow, is opened and generates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
import toy
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.report import report
from atelier.checkpoints.text import encode, text_encoder
from atelier.checkpoints.write import write_diffusers
from atelier.diffusion.levels import FlowLevels
from atelier.errors import BadFile, BadInput
from atelier.families.parts import TEXT, VISION
from atelier.pipeline.conditioning import encode as states
from atelier.prompt import Weighted, chunk
from atelier.request.model import Request
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.hashes import HashCache

CPU = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=1)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.single_file(tmp_path_factory.mktemp("toy") / "toy.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "toy"
    write_diffusers(toy.modules(), path)
    return path


@pytest.fixture(scope="module")
def engine(single: Path) -> Engine:
    return Engine(CPU, Library((single.parent,)), HashCache(), version="1", families=(toy.FAMILY,))


def request(**fields: object) -> Request:
    return request_of({"prompt": "a red cat", "model": "toy", "steps": 2, "seed": 7} | fields)


def test_it_is_opened_by_those_who_know_it(single: Path, folder: Path) -> None:
    for path in (single, folder):
        with pytest.raises(BadFile):
            open_checkpoint(path)
        found = open_checkpoint(path, known=(toy.FAMILY,))
        assert (found.family.name, found.size, found.parameterization.name) == ("toy", 64, "flow")
        assert isinstance(found.levels, FlowLevels)
        assert float(found.levels.sigma_max) == 1.0
        assert found.ends == (4, 4, 80, 0)
        assert report(found).prediction == "flow"
        assert list(report(found).parts) == ["net", "vae", "text", "text2"]


def test_a_part_is_its_name_and_its_architecture(single: Path) -> None:
    found, made = open_checkpoint(single, known=(toy.FAMILY,)), toy.modules()
    assert found.load(toy.NET).spec == made.networks["net"].spec
    assert found.spec(TEXT) == made.networks["text"].spec
    assert found.spec(toy.SECOND) == made.networks["text2"].spec
    assert not found.has(VISION)
    with pytest.raises(BadFile, match="has no image encoder"):
        found.load(VISION)


@torch.no_grad()
def test_both_encoders_say_what_they_say_alone(single: Path, folder: Path) -> None:
    made = toy.modules()
    first, second = toy.tokenizers()
    texts = ["a red cat", ""]
    one = made.networks["text"](torch.tensor([first.ids(text) for text in texts]))
    two = made.networks["text2"](torch.tensor([second.ids(text) for text in texts]))
    for path in (single, folder):
        said = encode(text_encoder(open_checkpoint(path, known=(toy.FAMILY,))), texts)
        assert said.tokens.shape == (2, 12, 80)
        assert torch.equal(said.tokens[..., :32], one.last)
        assert torch.equal(said.tokens[..., 32:], two.hidden[-2])
        assert said.pooled is not None
        assert said.pooled.shape == (2, 20)
        assert torch.equal(said.pooled, two.pooled)


def test_each_encoder_has_its_own_marks(single: Path) -> None:
    encoder = text_encoder(open_checkpoint(single, known=(toy.FAMILY,)))
    first, second = toy.tokenizers()
    assert [tower.marks.pad for tower in encoder.towers] == [first.eos, second.vocabulary["!"]]
    assert [tower.marks.length for tower in encoder.towers] == [10, 10]
    dogs = "dog dog dog dog"
    counts = [len(chunk([Weighted(dogs)], tower.tokenize, tower.marks).chunks) for tower in encoder.towers]
    assert counts == [1, 2]


def test_it_generates(engine: Engine) -> None:
    (image,) = engine.generate(request())
    assert image.image.size == (64, 64)
    pixels = np.asarray(image.image)
    assert float(pixels.std()) > 1
    for fields in ({"prompt": "a dog"}, {"prompt": "a (red:1.3) cat"}, {"prompt": "dog dog dog dog"}, {"seed": 8}):
        assert engine.generate(request(**fields))[0].image.tobytes() != image.image.tobytes(), fields
    assert engine.generate(request(sampler="Euler"))[0].image.tobytes() == image.image.tobytes()


def test_what_no_flow_model_can_do_is_refused_by_name(engine: Engine) -> None:
    with pytest.raises(BadInput, match=r"the sampler DDIM cannot .* Toy: choose one of .*Euler"):
        engine.resolve(request(sampler="DDIM"))
    with pytest.raises(BadInput, match="the schedule Align Your Steps has no levels for Toy"):
        engine.resolve(request(scheduler="Align Your Steps"))
    for fields in ({"downcast_alphas": True}, {"noise_schedule": "Zero Terminal SNR"}):
        with pytest.raises(BadInput, match="no table of noise levels"):
            engine.resolve(request(**fields))
    assert engine.resolve(request(sampler="Heun", scheduler="Karras")).sampling.sampler == "Heun"


def test_a_family_that_predicts_otherwise_is_refused(single: Path, tmp_path: Path) -> None:
    """A file that says epsilon is none of this family's, whatever its tensors are called."""
    from safetensors.torch import load_file, save_file

    said = open_checkpoint(single, known=(toy.FAMILY,)).facts.to_json().replace('"flow"', '"epsilon"')
    save_file(load_file(single), tmp_path / "a.safetensors", {"atelier.spec": said})
    with pytest.raises(BadFile, match="says that it predicts epsilon"):
        open_checkpoint(tmp_path / "a.safetensors", known=(toy.FAMILY,))


def test_the_table_of_a_schedule_is_the_familys(tmp_path: Path) -> None:
    """The columns of Align Your Steps for the two families differ; each family's models take their own."""
    from dataclasses import replace

    from atelier.families.sd1 import SD1

    tiny.single_file(tmp_path / "tiny.safetensors")
    made = {}
    for table in ("sd1", "sdxl"):
        known = (replace(SD1, table=table),)
        engine = Engine(CPU, Library((tmp_path,)), HashCache(), version="1", families=known)
        asked = request(model="tiny", scheduler="Align Your Steps", steps=4)
        made[table] = engine.generate(asked)[0].image.tobytes()
    assert made["sd1"] != made["sdxl"]


@torch.no_grad()
def test_emphasis_acts_on_each_encoder_before_they_are_joined(single: Path) -> None:
    """Original emphasis keeps the mean of each encoder's own states; the pooled state knows no weights."""
    encoder = text_encoder(open_checkpoint(single, known=(toy.FAMILY,)))
    group = ("a (red:1.5) cat",)
    said = states((group,), encoder, "Original", 1)[group][group[0]]
    plain = encode(encoder, ["a red cat"])
    expected = []
    for tower, width in zip(encoder.towers, (slice(0, 32), slice(32, 80)), strict=True):
        before = len(tower.tokenize("a "))
        weights = torch.ones(12, 1)
        weights[1 + before : 1 + before + len(tower.tokenize("red"))] = 1.5
        own = plain.tokens[0, :, width]
        expected.append(own * weights * (own.mean() / (own * weights).mean()))
    assert torch.allclose(said.tokens, torch.cat(expected, dim=-1), atol=1e-5)
    assert said.pooled is not None
    assert torch.equal(said.pooled, plain.pooled[0])


@torch.no_grad()
def test_a_text_that_is_longer_for_one_encoder_is_as_long_for_the_other(single: Path) -> None:
    encoder = text_encoder(open_checkpoint(single, known=(toy.FAMILY,)))
    group = ("dog dog dog dog",)
    said = states((group,), encoder, "Original", 1)[group][group[0]]
    first = encode(encoder, [group[0], ""]).tokens[..., :32]
    assert said.tokens.shape == (24, 80)
    assert torch.equal(said.tokens[:12, :32], first[0])
    assert torch.equal(said.tokens[12:, :32], first[1])
