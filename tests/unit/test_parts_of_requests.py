"""An autoencoder and text encoders that a request names: found, generated with, said, kept apart in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
import tiny_sd3
from atelier.checkpoints.write import Modules, write_ldm
from atelier.cli.app import run
from atelier.errors import BadFile, BadInput, UnknownName
from atelier.families.facts import Facts
from atelier.families.sd1 import SD1
from atelier.models.clip import ClipText, TextSpec
from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.pipeline.resources import AUTOENCODER, DENOISER, TEXT
from atelier.request.events import Warned
from atelier.request.infotext import read, to_request
from atelier.request.resolved import Resolved
from atelier.runtime.engine import Engine, GeneratedImage
from atelier.runtime.library import Library
from atelier.runtime.workers.catalogue import listed
from atelier.weights.hashes import HashCache
from pipeline_support import PLENTY, engine_on, request

VAE, TEXTS, UNET = "first_stage_model.", "cond_stage_model.", "model.diffusion_model."


def part(path: Path, prefix: str, more: float = 0.0) -> dict[str, Tensor]:
    return {name: tensor + more for name, tensor in load_file(path).items() if name.startswith(prefix)}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model; an autoencoder and a text encoder of other weights; its U-Net alone."""
    shelf = tmp_path_factory.mktemp("parts")
    whole = tiny.single_file(shelf / "tiny.safetensors")
    (shelf / "VAE").mkdir()
    save_file(part(whole, VAE, 0.02), shelf / "VAE" / "other.vae.safetensors")
    save_file(part(whole, VAE, -0.02), shelf / "beside.vae.safetensors")
    (shelf / "clip").mkdir()
    said = {"atelier.tokenizer": tiny.tokenizer().to_json()}
    save_file(part(whole, TEXTS, 0.05), shelf / "clip" / "mine.safetensors", said)
    write_ldm(tiny_sd3.modules(), shelf / "wide.safetensors")
    return shelf


@pytest.fixture(scope="module")
def engine(shelf: Path) -> Engine:
    return engine_on(shelf / "tiny.safetensors", budget=PLENTY)


def made(engine: Engine, **fields: object) -> GeneratedImage:
    (image,) = engine.generate(request(**fields))
    return image


def _files(entries: object) -> list[str]:
    assert isinstance(entries, list)
    return [entry["file"] for entry in entries]


def test_a_server_lists_the_autoencoders_and_takes_no_path_to_one(engine: Engine, shelf: Path, tmp_path: Path) -> None:
    library = Library((shelf,), by_path=False)
    assert set(library.autoencoders()) == {"other.vae.safetensors", "beside.vae.safetensors"}
    assert library.autoencoder("other.vae") == shelf / "VAE" / "other.vae.safetensors"
    assert _files(listed(engine, HashCache())["autoencoders"]) == [*engine.library.autoencoders()]
    outside = tmp_path / "outside.vae.safetensors"
    outside.write_bytes((shelf / "VAE" / "other.vae.safetensors").read_bytes())
    with pytest.raises(UnknownName, match="VAE"):
        library.autoencoder(str(outside))
    assert Library((shelf,)).autoencoder(str(outside)) == outside


def test_another_autoencoder_is_found_by_its_names(engine: Engine, shelf: Path) -> None:
    plain = made(engine)
    other = made(engine, vae="other.vae.safetensors")
    assert other.image.tobytes() != plain.image.tobytes()
    for name in ("OTHER.vae.safetensors", "other.vae", str(shelf / "VAE" / "other.vae.safetensors")):
        assert made(engine, vae=name).image.tobytes() == other.image.tobytes(), name
    assert made(engine, vae="beside.vae.safetensors").image.tobytes() != other.image.tobytes()
    for own in ("tiny", "Automatic", "None"):
        assert made(engine, vae=own).image.tobytes() == plain.image.tobytes(), own


def test_the_infotext_says_it_and_makes_it_again(engine: Engine) -> None:
    plain, other = made(engine), made(engine, vae="other.vae", text_encoders=("mine",))
    found = read(other.infotext)
    assert found.get("VAE") == "other.vae.safetensors"
    assert len(found.get("VAE hash") or "") == 10
    assert found.get("Text encoder") == "mine.safetensors"
    assert found.get("Model hash") == read(plain.infotext).get("Model hash")
    assert read(plain.infotext).get("VAE") is None
    again = to_request(found, {"model": "tiny"})
    assert (again.vae, again.text_encoders) == ("other.vae.safetensors", ("mine.safetensors",))
    assert made(engine, vae="other.vae").image.tobytes() != other.image.tobytes()
    assert engine.generate(again)[0].image.tobytes() == other.image.tobytes()


def test_a_resolved_request_has_them_wherever_it_is_run(engine: Engine, shelf: Path, tmp_path: Path) -> None:
    wanted = {"vae": "other.vae", "text_encoders": ("mine",), "output": str(tmp_path / "a.png")}
    resolved = Resolved.from_json(engine.resolve(request(**wanted)).to_json())
    assert [part.role for part in resolved.model.parts] == ["autoencoder", "text encoder"]
    fresh = engine_on(shelf / "tiny.safetensors")
    list(fresh.run(resolved))
    with Image.open(tmp_path / "a.png") as image:
        assert image.convert("RGB").tobytes() == made(engine, vae="other.vae", text_encoders=("mine",)).image.tobytes()
    lie = resolved.model.parts[0].model_copy(update={"sha256": "0" * 64})
    changed = resolved.model_copy(update={"model": resolved.model.model_copy(update={"parts": (lie,)})})
    with pytest.raises(BadFile, match=r"other.vae.safetensors: has changed since the request was resolved"):
        list(engine_on(shelf / "tiny.safetensors").run(changed))


def test_what_it_does_not_change_is_one_network_in_memory(shelf: Path) -> None:
    engine = engine_on(shelf / "tiny.safetensors", budget=PLENTY)
    made(engine)
    other = engine.resolve(request(vae="other.vae")).model
    held = [engine.resources.is_loaded(other, part) for part in (DENOISER, TEXT, AUTOENCODER)]
    assert held == [True, True, False]


def known() -> Modules:
    """As wide as Stable Diffusion 1.x where that is what its U-Net is told by."""
    words = tiny.tokenizer()
    spec = TextSpec(vocab=words.size, width=768, layers=1, heads=12, mlp=32, positions=words.positions, eos=words.eos)
    unet = UNet(UNetSpec(widths=(32, 32), blocks=1, depth=(1, 0), heads=(8, 8), context=768))
    networks = {"unet": unet, "vae": AutoencoderKL(VaeSpec(widths=(32, 32), blocks=1)), "text": ClipText(spec)}
    for network in networks.values():
        tiny.randomize(network, 1)
    return Modules(SD1, networks, (words,), Facts(size=64))


def test_a_denoiser_alone_generates_with_the_rest_named(engine: Engine, tmp_path: Path) -> None:
    whole, alone = tmp_path / "whole.safetensors", tmp_path / "alone.safetensors"
    write_ldm(known(), whole)
    with safe_open(whole, "pt") as file:
        save_file(part(whole, UNET), alone, file.metadata())
    given = {"model": str(alone), "vae": str(whole), "text_encoders": (str(whole),)}
    assert engine.hashing(request(**given)) != ()
    assert made(engine, **given).image.tobytes() == made(engine, model=str(whole)).image.tobytes()
    with pytest.raises(BadFile, match=r"has no text encoder: name a file that has one \(--text-encoder\)"):
        made(engine, model=str(alone), vae=str(whole))


def test_what_is_not_there_or_does_not_fit_is_one_line(engine: Engine, shelf: Path) -> None:
    with pytest.raises(BadInput, match=r"unknown VAE 'othr.vae'.*; or --lenient takes the model's own"):
        made(engine, vae="othr.vae")
    with pytest.raises(BadFile, match="it has no autoencoder that fits this model"):
        made(engine, vae=str(shelf / "clip" / "mine.safetensors"))
    with pytest.raises(BadFile, match="has latents of 16 channels, where this model's have 4"):
        made(engine, vae="wide")
    events = engine.events(request(vae="othr.vae", lenient=True, steps=1))
    told = [event.message for event in events if isinstance(event, Warned)]
    assert len(told) == 1
    assert told[0].endswith("generated with the model's own")


def test_models_of_an_installation_are_found(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_DEVICE", "cpu")
    monkeypatch.setenv("ATELIER_MODELS", str(tmp_path / "none"))
    root = tmp_path / "webui" / "models"
    (root / "VAE").mkdir(parents=True)
    (root / "Stable-diffusion").mkdir()
    (root / "Stable-diffusion" / "photo.safetensors").write_bytes((shelf / "tiny.safetensors").read_bytes())
    (root / "VAE" / "kl.safetensors").write_bytes((shelf / "VAE" / "other.vae.safetensors").read_bytes())
    asked = ["generate", "a cat", "--model", "photo", "--vae", "kl", "--steps", "1", "--seed", "1"]
    assert run([*asked, "--output", "a.png"]) == 2
    assert "photo" in capsys.readouterr().err
    assert run([*asked, "--output", "a.png", "--webui-dir", "webui"]) == 0, capsys.readouterr().err
    monkeypatch.setenv("ATELIER_WEBUI", "webui")
    assert run([*asked, "--output", "b.png"]) == 0, capsys.readouterr().err
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    monkeypatch.setenv("ATELIER_WEBUI", "nowhere")
    assert run([*asked, "--output", "b.png"]) == 2
    assert "nowhere: is no folder of an installation" in capsys.readouterr().err
