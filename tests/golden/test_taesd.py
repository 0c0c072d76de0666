"""Tiny autoencoders against diffusers' AutoencoderTiny, from each of their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from atelier.checkpoints.tiny_autoencoder import find_tiny, load_tiny
from atelier.errors import BadFile
from atelier.families.facts import NO_FACTS
from atelier.families.parts.taesd import DECODER, ENCODER, halves
from atelier.families.shapes import Shapes
from atelier.models.taesd import TinyDecoder, TinyEncoder, TinySpec
from atelier.weights.archive import Stored
from atelier.weights.load import match
from atelier.weights.names.taesd import decoder_names, encoder_names
from atelier.weights.save import stored_as
from key_lists import key_list
from weights_support import assert_close, fill

ENCODER_SIZE, DECODER_SIZE = 1_222_532, 1_222_531
"""Parameters of TAESD's halves."""


@pytest.fixture(scope="module")
def theirs() -> Any:
    """With latents of 16 channels, as TAESD3."""
    from diffusers import AutoencoderTiny

    widths = {"encoder_block_out_channels": (16,) * 4, "decoder_block_out_channels": (16,) * 4}
    net = fill(AutoencoderTiny(latent_channels=16, **widths))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if ".conv.4." in name:
                parameter.mul_(0.3)
    return net


def files(theirs: Any, folder: Path, case: str) -> Path:
    """The same weights as diffusers, ComfyUI and the author keep them; the decoder's layers counted behind the bend."""
    state = {name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}
    counted: dict[str, dict[str, torch.Tensor]] = {"encoder": {}, "decoder": {}}
    for name, tensor in state.items():
        half, _, number, rest = name.split(".", 3)
        counted[half][f"{int(number) + (half == 'decoder')}.{rest}"] = tensor
    match case:
        case "folder":
            save_file(state, folder / "diffusion_pytorch_model.safetensors")
            return folder
        case "one file":
            whole = {f"{half}.{name}": tensor for half, own in counted.items() for name, tensor in own.items()}
            save_file(whole, folder / "taesd3.safetensors")
            return folder / "taesd3.safetensors"
        case "halves":
            for half, own in counted.items():
                save_file(own, folder / f"taesd3_{half}.safetensors")
            return folder / "taesd3_decoder.safetensors"
        case _:
            for half, own in counted.items():
                torch.save(own, folder / f"taesd3_{half}.pth")
            return folder / "taesd3_decoder.pth"


@pytest.mark.parametrize("case", ["folder", "one file", "halves", "pickled"])
def test_numbers_are_those_of_diffusers(case: str, theirs: Any, tmp_path: Path) -> None:
    ours = load_tiny(files(theirs, tmp_path, case))
    torch.manual_seed(0)
    image, latent = torch.rand(2, 3, 32, 48) * 2 - 1, 3 * torch.randn(2, 16, 4, 6)
    with torch.no_grad():
        assert_close(ours.encode(image).mean, theirs.encode(image).latents)
        assert_close(ours.encode(image).mode(), theirs.encode(image).latents)
        assert_close(ours.decode(latent), theirs.decode(latent).sample)


@pytest.mark.parametrize(("name", "latent"), [("taesd_encoder", 4), ("taesd3_encoder", 16)])
def test_true_size_of_encoders(name: str, latent: int) -> None:
    _check(name, TinySpec(latent), TinyEncoder, ENCODER)


@pytest.mark.parametrize(("name", "latent"), [("taesd_decoder", 4), ("taesd3_decoder", 16)])
def test_true_size_of_decoders(name: str, latent: int) -> None:
    _check(name, TinySpec(latent), TinyDecoder, DECODER)


def _check(name: str, spec: TinySpec, kind: type[TinyEncoder | TinyDecoder], network: Any) -> None:
    keys = key_list(name)
    with torch.device("meta"):
        net = kind(spec)
    written = stored_as(net.state_dict(), network.names(spec), "ldm")
    assert {key: tuple(tensor.shape) for key, tensor in written.items()} == keys
    assert network.infer(Shapes("file", "ldm", keys), NO_FACTS) == spec
    (half,) = halves(keys)
    assert (half.name, half.prefix) == (name.split("_")[1], "")


def test_true_size_has_the_published_parameters() -> None:
    with torch.device("meta"):
        encoder, decoder = TinyEncoder(TinySpec()), TinyDecoder(TinySpec())
    assert sum(p.numel() for p in encoder.parameters()) == ENCODER_SIZE
    assert sum(p.numel() for p in decoder.parameters()) == DECODER_SIZE
    assert [n.ours for n in encoder_names(TinySpec())] == list(dict.fromkeys(n.ours for n in encoder_names(TinySpec())))
    assert {n.ours for n in decoder_names(TinySpec())} == decoder.state_dict().keys()


def test_the_decoder_alone_is_enough_and_the_encoder_is_not(theirs: Any, tmp_path: Path) -> None:
    decoder = files(theirs, tmp_path, "halves")
    encoder = tmp_path / "taesd3_encoder.safetensors"
    assert find_tiny(encoder).keys() == {"encoder", "decoder"}
    kept = encoder.rename(tmp_path / "other.safetensors")
    alone = load_tiny(decoder)
    with pytest.raises(ValueError, match="has no encoder"):
        alone.encode(torch.zeros(1, 3, 8, 8))
    with pytest.raises(BadFile, match=r"other.safetensors: has no decoder: put the file of the decoder beside it"):
        load_tiny(kept)


def test_what_is_none_is_refused(theirs: Any, tmp_path: Path) -> None:
    from atelier.weights.archive import open_file

    save_file({"0.weight": torch.ones(1), "a.weight": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(BadFile, match=r"is no tiny autoencoder: it holds 2 tensors \(0.weight, a.weight\)"):
        load_tiny(tmp_path / "a.safetensors")
    whole = files(theirs, tmp_path, "one file")
    stored = Stored(open_file(whole), "ldm", "encoder.")
    with pytest.raises(BadFile, match=r"encoder.12.conv.4.bias"):
        match(
            Stored(stored.archive, "ldm", "encoder.", lambda name: name == "encoder.12.conv.4.bias"),
            encoder_names(TinySpec(16, 16)),
        )
