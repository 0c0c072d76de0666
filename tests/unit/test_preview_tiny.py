"""Previews from a tiny autoencoder beside the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import tiny_sd3
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.tiny_autoencoder import tiny_beside
from atelier.checkpoints.write import write_ldm
from atelier.errors import BadFile, BadInput
from atelier.families.facts import LatentFormat
from atelier.models.taesd import TinyAutoencoder, TinyDecoder, TinySpec
from atelier.models.vae import AutoencoderKL
from atelier.pipeline.decoding import sketched
from atelier.pipeline.resources import AUTOENCODER, TINY
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.request import events
from atelier.runtime.engine import Engine, GeneratedImage
from atelier.weights.names.taesd import decoder_names
from atelier.weights.save import stored_as
from pipeline_support import engine_on, planned, request

COLOUR = (51, 102, 153)


def _flat(latent: int = 16) -> TinyDecoder:
    """One that sees one colour in everything: 0.2, 0.4, 0.6."""
    net = TinyDecoder(TinySpec(latent, width=8))
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    net.conv_out.bias.data = torch.tensor(COLOUR) / 255
    return net.requires_grad_(requires_grad=False)


def _write(net: TinyDecoder, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    save_file(stored_as(net.state_dict(), decoder_names(net.spec), "ldm"), path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "small.safetensors"
    path.parent.mkdir()
    write_ldm(tiny_sd3.modules(("text",)), path)
    return path


def _previews(model: Path) -> tuple[list[object], list[bytes]]:
    told = list(engine_on(model).events(request(model=str(model), sampler="Euler", steps=3), previews=0.0))
    shown = [event.image.getcolors() for event in told if isinstance(event, events.Preview)]
    return shown, [event.image.tobytes() for event in told if isinstance(event, events.ImageReady)]


def test_they_come_from_it_and_the_image_does_not(model: Path) -> None:
    plain, images = _previews(model)
    _write(_flat(), model.parent / "taesd3_decoder.safetensors")
    shown, again = _previews(model)
    assert plain
    assert shown
    assert all(colours == [(tiny_sd3.SIZE**2, COLOUR)] for colours in shown)
    assert plain[0] != shown[0]
    assert images == again
    stages = planned(engine_on(model), previews=True, model=str(model), sampler="Euler")
    (without,) = (stage for stage in stages if isinstance(stage, Diffuse))
    assert [need.part for need in without.needs()][1:] == [AUTOENCODER]
    assert [need.part for need in replace(without, tiny=True).needs()][1:] == [TINY]
    assert len(replace(without, tiny=True, previews=False).needs()) == 1


@pytest.mark.parametrize("place", ["models", "models/vae_approx", "VAE-approx"])
def test_it_is_found_where_others_keep_it(place: str, model: Path) -> None:
    assert tiny_beside(open_checkpoint(model)) is None
    path = model.parent.parent / place / "taesd3_decoder.safetensors"
    _write(_flat(), path)
    found = tiny_beside(open_checkpoint(model))
    assert found is not None
    assert found.samefile(path)


def test_another_models_is_left_alone(model: Path) -> None:
    _write(_flat(), model.parent / "taesd_decoder.safetensors")
    _write(_flat(4), model.parent / "taesd3_decoder.safetensors")
    assert tiny_beside(open_checkpoint(model)) is None


def test_large_latents_are_made_smaller_first() -> None:
    small = sketched(torch.zeros(16, 100, 130), TinyAutoencoder(_flat()), LatentFormat(1.5305, 0.0609, 8, 16))
    assert small.size == (-(-130 // 3) * 8, -(-100 // 3) * 8)


def test_no_scale_is_applied() -> None:
    """It knows latents as the network does."""
    seen: list[torch.Tensor] = []

    class Watching(TinyDecoder):
        def forward(self, latent: torch.Tensor, *more: object) -> torch.Tensor:
            seen.append(latent)
            return super().forward(latent)

    net, latent = Watching(TinySpec(16, width=8)), torch.randn(16, 4, 4)
    sketched(latent, TinyAutoencoder(net.requires_grad_(requires_grad=False)), LatentFormat(1.5305, 0.0609, 8, 16))
    assert torch.equal(seen[0][0], latent)


def _made(engine: Engine, **fields: object) -> GeneratedImage:
    (image,) = engine.generate(request(model="small", sampler="Euler", steps=1, **fields))
    return image


def test_it_makes_the_image_itself_where_it_is_the_vae(model: Path) -> None:
    """By its author's name, by its file's, and by a path."""
    _write(_flat(), model.parent / "taesd3_decoder.safetensors")
    engine = engine_on(model)
    plain = _made(engine)
    for name in ("taesd3", "TAESD3", str(model.parent / "taesd3_decoder.safetensors")):
        image = _made(engine, vae=name)
        assert image.image.getcolors() == [(tiny_sd3.SIZE**2, COLOUR)], name
        assert "VAE: taesd3, " in image.infotext
    assert "VAE: " not in plain.infotext
    assert plain.image.getcolors() != [(tiny_sd3.SIZE**2, COLOUR)]


def test_it_reads_latents_as_the_denoiser_makes_them(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the autoencoder reads is scaled and shifted."""
    seen: list[Tensor] = []
    for network in (TinyAutoencoder, AutoencoderKL):
        decode = network.decode

        def watched(self: object, x: Tensor, *more: object, decode: Any = decode) -> Tensor:
            seen.append(x)
            return decode(self, x, *more)

        monkeypatch.setattr(network, "decode", watched)
    _write(_flat(), model.parent / "taesd3_decoder.safetensors")
    engine = engine_on(model)
    _made(engine)
    _made(engine, vae="taesd3")
    torch.testing.assert_close(seen[0], seen[1] / 1.5305 + 0.0609)


def test_one_that_is_not_there_or_not_for_the_model_is_refused(model: Path, tmp_path: Path) -> None:
    engine = engine_on(model)
    with pytest.raises(BadInput, match=r"taesd3 is not there: put taesd3_decoder.safetensors beside small or into"):
        _made(engine, vae="taesd3")
    with pytest.raises(BadInput, match=r"taesdxl is not for the latents of small: taesd3 is; or --lenient takes"):
        _made(engine, vae="taesdxl")
    _write(_flat(4), tmp_path / "taesd_decoder.safetensors")
    with pytest.raises(BadFile, match="has no decoder for the latents of small, which have 16 channels") as caught:
        _made(engine, vae=str(tmp_path / "taesd_decoder.safetensors"))
    assert caught.value.field == "vae"
