"""What a teaching leaves opens in diffusers and does the same there, and what diffusers saves does the same here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import taught_support as teaching
import tiny
import training_support as support
from atelier.adapters.attach import Strong, attached
from atelier.adapters.inversion import read_embedding
from atelier.adapters.read import deltas, matched, open_adapter
from atelier.nn.ports import Conditioning
from atelier.train.teaching.base import Base, Caption, base_of, conditioning_of, opened

diffusers = pytest.importorskip("diffusers", reason="the reference extra is not installed")
peft = pytest.importorskip("peft", reason="the reference extra is not installed")

pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")
SAID = "a red cat"
LATENTS = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
TIMES = torch.tensor([30.0, 800.0])
STATES = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teaching.images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def base(model: Path) -> Base:
    return base_of(opened(str(model)), torch.device("cpu"), torch.float32)


def pipeline(model: Path) -> Any:
    return diffusers.StableDiffusionPipeline.from_pretrained(model, safety_checker=None)


def taught(kind: str, model: Path, images: Path, run: Path, **more: Any) -> Path:
    """The file of two steps at a high rate."""
    few = {"run__steps": 2, "optim__rate": 0.05, **more}
    told = teaching.changes(kind, model, images, **few)
    recipe = support.recipe(kind, told)
    support.trained(recipe, run)
    return support.known()[kind].export(recipe, run)


@torch.no_grad()
def theirs(pipe: Any, text: str = SAID) -> tuple[Tensor, Tensor]:
    """(the U-Net's output, the states of the text)"""
    states = pipe.encode_prompt(text, "cpu", 1, do_classifier_free_guidance=False)[0]
    return pipe.unet(LATENTS, TIMES, STATES).sample, states


@torch.no_grad()
def ours(base: Base, file: Path | None) -> tuple[Tensor, Tensor]:
    """The same with the adapter of a file."""
    changes: Mapping[str, Mapping[str, list[Strong]]] = {"unet": {}, "text": {}}
    if file is not None:
        found = matched(open_adapter(file), base.checkpoint)
        assert found.unmatched == ()
        changes = {p: {n: [Strong(d, 1.0)] for n, (d, _) in deltas(found, p).items()} for p in changes}
    with attached(base.net, changes["unet"], "merge"), attached(base.encoder.nets[0], changes["text"], "merge"):
        states = conditioning_of(base, base.encoder, [Caption(SAID, 32, 32)]).tokens
        return base.net(LATENTS, TIMES, Conditioning(STATES)), states


def close(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> None:
    for mine, foreign in zip(one, other, strict=True):
        torch.testing.assert_close(mine, foreign, rtol=1e-5, atol=1e-5)


EXPORTS: Mapping[str, Mapping[str, Any]] = {
    "LoRA": {},
    "LoRA of everything, with text": {
        "targets__layers": [r"attentions\.|resnets\.|samplers\."],
        "targets__text": True,
        "targets__text_rate": 1.0,
        "adapter__conv_rank": 2,
        "adapter__conv_alpha": 3.0,
    },
    "DoRA": {"adapter__dora": True},
}


def readable(file: Path, model: Path) -> Path:
    """In the layout of PEFT: in kohya's diffusers leaves the lengths of a DoRA out, with a warning."""
    from atelier.cli.app import run

    made = file.with_name("peft.safetensors")
    assert run(["models", "convert-lora", str(file), str(made), "--to", "peft", "--base", str(model)]) == 0
    return made


@pytest.mark.parametrize("name", EXPORTS)
def test_what_was_taught_does_the_same_in_diffusers(
    name: str, model: Path, images: Path, base: Base, tmp_path: Path
) -> None:
    file = taught("lora", model, images, tmp_path, **EXPORTS[name])
    pipe = pipeline(model)
    plain = ours(base, None)
    close(plain, theirs(pipe))
    pipe.load_lora_weights(readable(file, model) if name == "DoRA" else file)
    mine = ours(base, file)
    close(mine, theirs(pipe))
    assert float((mine[0] - plain[0]).abs().max()) > 1e-2
    assert (float((mine[1] - plain[1]).abs().max()) > 1e-2) == ("text" in name)


@pytest.mark.parametrize("dora", [False, True])
def test_what_diffusers_saved_does_the_same_here(dora: bool, model: Path, base: Base, tmp_path: Path) -> None:
    """Its alpha is in the metadata alone."""
    pipe = pipeline(model)
    config = peft.LoraConfig(r=4, lora_alpha=6, use_dora=dora, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    pipe.unet.add_adapter(config)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in pipe.unet.named_parameters():
            if "lora" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    layers = peft.get_peft_model_state_dict(pipe.unet)
    told = pipe.unet.peft_config["default"].to_dict()
    diffusers.StableDiffusionPipeline.save_lora_weights(tmp_path, layers, unet_lora_adapter_metadata=told)
    mine = ours(base, tmp_path / "pytorch_lora_weights.safetensors")
    close(mine, theirs(pipe))
    assert float((mine[0] - ours(base, None)[0]).abs().max()) > 1e-2


def test_a_word_says_the_same_in_diffusers(model: Path, images: Path, base: Base, tmp_path: Path) -> None:
    file = taught("inversion", model, images, tmp_path, data__prefix="zwx ", optim__rate=1.0)
    assert file.name == "zwx.safetensors"
    assert {name: tuple(t.shape) for name, t in load_file(file).items()} == {"zwx": (2, 32)}
    pipe = pipeline(model)
    pipe.load_textual_inversion(file)
    text = "a zwx cat"
    with torch.no_grad():
        states = pipe.encode_prompt(text, "cpu", 1, do_classifier_free_guidance=False)[0]
        plain = conditioning_of(base, base.encoder, [Caption(text, 32, 32)]).tokens
        mine = conditioning_of(base, with_word(base, file).encoder, [Caption(text, 32, 32)]).tokens
    torch.testing.assert_close(mine, states, rtol=1e-5, atol=1e-5)
    assert mine.shape == plain.shape
    assert float((mine - plain).abs().max()) > 1e-2


def with_word(base: Base, file: Path) -> Base:
    """The base that reads the file of a word."""
    from dataclasses import replace

    (tower,) = base.encoder.towers
    found = read_embedding(file).fitting([32])
    assert found is not None
    return replace(base, encoder=replace(base.encoder, towers=(replace(tower, vectors={file.stem: found[0]}),)))


def test_a_model_taught_whole_opens_as_one_file(model: Path, images: Path, tmp_path: Path) -> None:
    """What was learned is in it, and the rest is the base's."""
    file = taught("dreambooth", model, images, tmp_path, targets__layers="cross-attention")
    before, after = opened(str(model)), opened(str(file))
    moved: set[str] = set()
    for part in after.family.parts:
        if before.has(part):
            old, new = (own.load(part, torch.float32).state_dict() for own in (before, after))
            assert old.keys() == new.keys()
            moved |= {f"{part.name}.{name}" for name, tensor in new.items() if not torch.equal(tensor, old[name])}
    wanted = {name for name in moved if name.startswith("unet.") and ".attn2.to_" in name and name[-8] in "kv"}
    assert moved == wanted
    assert len(moved) == 14
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    opened_there = diffusers.UNet2DConditionModel.from_config(pipe.unet.config)
    base = base_of(after, torch.device("cpu"), torch.float32)
    names = {name.ours: name for name in base.denoiser.network.names(after.spec(base.denoiser))}
    foreign = opened_there.state_dict()
    state = {names[n].diffusers: t.reshape(foreign[names[n].diffusers].shape) for n, t in base.net.state_dict().items()}
    opened_there.load_state_dict(state)
    with torch.no_grad():
        theirs_ = opened_there(LATENTS, TIMES, STATES).sample
        torch.testing.assert_close(base.net(LATENTS, TIMES, Conditioning(STATES)), theirs_, rtol=1e-5, atol=1e-5)


def test_the_metadata_say_what_was_taught_and_on_what(model: Path, images: Path, base: Base, tmp_path: Path) -> None:
    file = taught("lora", model, images, tmp_path, adapter__conv_rank=2, targets__layers="all")
    said = open_adapter(file).metadata
    assert said["ss_network_module"] == "networks.lora"
    assert (said["ss_network_dim"], said["ss_network_alpha"]) == ("4", "2.0")
    assert '"conv_dim": "2"' in said["ss_network_args"]
    assert said["ss_base_model_version"] == "sd_v1_v"
    assert said["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert base.checkpoint.sha256() in str(said)
