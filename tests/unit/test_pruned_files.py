"""Single files that leave out what nothing reads, or keep their autoencoder under another name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import tiny
import tiny_sd
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.text import encode, text_encoder
from atelier.checkpoints.write import Modules, write_diffusers, write_ldm
from atelier.errors import BadFile
from atelier.families.sdxl import SDXL
from atelier.models.clip import ClipText, TextSpec
from atelier.nn.ports import Conditioning

FIRST = "conditioner.embedders.0.transformer.text_model."
LAST, NORM = f"{FIRST}encoder.layers.11.", f"{FIRST}final_layer_norm."
TEXTS = ["a red cat", "dog"]


def large() -> Modules:
    """XL whose first text encoder is as wide and as deep as the published one."""
    words = tiny.tokenizer()
    text = ClipText(TextSpec(vocab=words.size, mlp=16, positions=words.positions, eos=words.eos))
    tiny.randomize(text, 7)
    made = tiny_sd.sdxl()
    return Modules(SDXL, {**made.networks, "text": text}, made.tokenizers, made.facts)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("xl") / "whole.safetensors"
    write_ldm(large(), path)
    return path


def without(file: Path, target: Path, *beginnings: str) -> Path:
    state = load_file(file)
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(beginnings)}
    assert len(kept) < len(state)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    save_file(kept, target, metadata)
    return target


def said(path: Path, clip_skip: int = 1) -> Conditioning:
    with torch.no_grad():
        return encode(text_encoder(open_checkpoint(path)), TEXTS, clip_skip)


def same(one: Conditioning, other: Conditioning) -> None:
    assert torch.equal(one.tokens, other.tokens)
    assert one.pooled is not None
    assert other.pooled is not None
    assert torch.equal(one.pooled, other.pooled)


@pytest.mark.parametrize("left_out", [(LAST,), (LAST, NORM), (NORM,)], ids=["layer", "both", "norm"])
def test_a_first_text_encoder_without_what_nobody_reads_says_the_same(
    left_out: tuple[str, ...], whole: Path, tmp_path: Path
) -> None:
    path = without(whole, tmp_path / "pruned.safetensors", *left_out)
    for skip in (1, 2, 3):
        same(said(path, skip), said(whole, skip))
    write_diffusers(open_checkpoint(path), tmp_path / "folder")
    write_ldm(open_checkpoint(tmp_path / "folder"), tmp_path / "again.safetensors")
    for copy in (tmp_path / "folder", tmp_path / "again.safetensors"):
        same(said(copy), said(whole))


def test_transformers_reads_the_same_from_what_is_written(whole: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the reference extra is not installed")
    write_diffusers(open_checkpoint(without(whole, tmp_path / "a.safetensors", LAST, NORM)), tmp_path / "folder")
    net = transformers.CLIPTextModel.from_pretrained(tmp_path / "folder" / "text_encoder")
    ids = torch.randint(1, net.config.vocab_size - 1, (2, 12), generator=torch.Generator().manual_seed(2))
    checkpoint = open_checkpoint(whole)
    ours = checkpoint.load(checkpoint.family.towers[0].part)
    with torch.no_grad():
        theirs = net(ids, output_hidden_states=True).hidden_states[-2]
        torch.testing.assert_close(ours(ids).hidden[-2], theirs, rtol=1e-4, atol=1e-4)


def test_what_is_read_may_not_be_missing(whole: Path, tmp_path: Path) -> None:
    second = "conditioner.embedders.1.model."
    for number, left_out in enumerate((f"{FIRST}encoder.layers.10.", f"{second}ln_final.", f"{LAST}mlp.")):
        path = without(whole, tmp_path / f"{number}.safetensors", left_out)
        with pytest.raises(BadFile):
            said(path)
    sd1 = tiny.single_file(tmp_path / "sd1.safetensors")
    norm = "cond_stage_model.transformer.text_model.final_layer_norm."
    with pytest.raises(BadFile, match="final_layer_norm"):
        said(without(sd1, tmp_path / "no norm.safetensors", norm))


AUTOENCODER = "first_stage_model."
MAKE: dict[str, Callable[[], Modules]] = {"sd1": tiny.modules, "sdxl": tiny_sd.sdxl, "sd2": tiny_sd.sd2}


@pytest.mark.parametrize("layout", ["ldm", "diffusers"])
@pytest.mark.parametrize("family", MAKE)
def test_an_autoencoder_may_be_called_vae(family: str, layout: str, tmp_path: Path) -> None:
    write_ldm(MAKE[family](), tmp_path / "usual.safetensors")
    write_diffusers(MAKE[family](), tmp_path / "folder")
    usual = open_checkpoint(tmp_path / "usual.safetensors")
    state = load_file(tmp_path / "usual.safetensors")
    own = {name: tensor for name, tensor in state.items() if name.startswith(AUTOENCODER)}
    if layout == "diffusers":
        moved = load_file(tmp_path / "folder" / "vae" / "diffusion_pytorch_model.safetensors")
    else:
        moved = {name.removeprefix(AUTOENCODER): tensor.clone() for name, tensor in own.items()}
    others = {name: tensor for name, tensor in state.items() if name not in own}
    named = {f"vae.{name}": tensor for name, tensor in moved.items()}
    spec = {"atelier.spec": usual.facts.to_json()}
    save_file({**others, **named}, tmp_path / "other.safetensors", spec)
    opened = open_checkpoint(tmp_path / "other.safetensors")
    (part,) = (part for part in usual.family.parts if part.name == "vae")
    ours, theirs = opened.tensors(part), usual.tensors(part)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert opened.family is usual.family
    assert not opened.surplus
    if layout == "ldm":
        save_file({**state, **named}, tmp_path / "twice.safetensors", spec)
        with pytest.raises(BadFile, match="vae"):
            open_checkpoint(tmp_path / "twice.safetensors").load(part)
    save_file({**others, **named, "vae.surprise.weight": torch.zeros(2)}, tmp_path / "more.safetensors", spec)
    with pytest.raises(BadFile, match="surprise"):
        open_checkpoint(tmp_path / "more.safetensors").load(part)
