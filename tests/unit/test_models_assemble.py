"""Models put together from several files, by `atelier models convert --vae … --text-encoder …`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_checkpoints_kinds import published, sparse
from torch import Tensor
from typer.testing import CliRunner

import tiny
import tiny_sd
import tiny_sd3
from atelier.checkpoints.assembling import assembled
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import Modules, write_diffusers, write_ldm
from atelier.cli.models import app
from atelier.errors import AtelierError
from atelier.families.facts import Facts
from atelier.families.sd1 import SD1
from atelier.models.clip import ClipText, TextSpec
from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.weights.formats.safetensors import read_header
from atelier.weights.load import match

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."


WORDS = tiny.tokenizer()
TOKENIZER = {"atelier.tokenizer": WORDS.to_json()}
"""What the file with the text encoder says, which knows fewer words than CLIP's own."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model whose text states are as wide as those of Stable Diffusion 1.x, by which it is known."""
    path = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    text = ClipText(TextSpec(vocab=WORDS.size, width=768, layers=1, heads=12, mlp=32, positions=12, eos=WORDS.eos))
    unet = UNet(UNetSpec(widths=(32, 32), blocks=1, depth=(1, 0), heads=(8, 8), context=768))
    networks = {"unet": unet, "vae": AutoencoderKL(VaeSpec(widths=(32, 32), blocks=1)), "text": text}
    for network in networks.values():
        tiny.randomize(network, 1)
    write_ldm(Modules(SD1, networks, (WORDS,), Facts()), path)
    return path


def part(whole: Path, prefix: str, kept: str = "") -> dict[str, Tensor]:
    state = load_file(whole)
    return {kept + name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def put_together(*arguments: object) -> AtelierError | None:
    done = CliRunner().invoke(app, ["convert", *map(str, arguments)])
    assert done.exit_code == 0 or isinstance(done.exception, AtelierError), done.exception
    return done.exception if isinstance(done.exception, AtelierError) else None


@pytest.mark.parametrize("kept", [UNET, ""])
def test_parts_of_three_files_make_the_model(kept: str, whole: Path, tmp_path: Path) -> None:
    save_file(part(whole, UNET, kept), tmp_path / "unet.safetensors")
    torch.save({"state_dict": part(whole, VAE)}, tmp_path / "kl.vae.pt")
    text = part(whole, TEXT) | {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    save_file(text, tmp_path / "clip.safetensors", TOKENIZER)
    made = tmp_path / "made.safetensors"
    files = ("--vae", tmp_path / "kl.vae.pt", "--text-encoder", tmp_path / "clip.safetensors")
    assert put_together(tmp_path / "unet.safetensors", made, *files) is None
    expected, found = load_file(whole), load_file(made)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_an_autoencoder_in_the_other_layout_takes_the_place_of_the_model_s_own(whole: Path, tmp_path: Path) -> None:
    write_diffusers(open_checkpoint(whole), tmp_path / "folder")
    file = tmp_path / "folder" / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, tmp_path / "vae.safetensors")
    assert put_together(whole, tmp_path / "made.safetensors", "--vae", tmp_path / "vae.safetensors") is None
    expected, found = load_file(whole), load_file(tmp_path / "made.safetensors")
    assert all(torch.equal(found[name], expected[name] + name.startswith(VAE)) for name in expected)


@pytest.mark.parametrize("inside", ["", "vae"])
def test_an_autoencoder_of_a_folder_takes_its_place_too(inside: str, whole: Path, tmp_path: Path) -> None:
    """The folder of the autoencoder, or of the whole model."""
    folder = tmp_path / "folder"
    write_diffusers(open_checkpoint(whole), folder)
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    assert put_together(whole, tmp_path / "made.safetensors", "--vae", folder / inside) is None
    expected, found = load_file(whole), load_file(tmp_path / "made.safetensors")
    assert all(torch.equal(found[name], expected[name] + name.startswith(VAE)) for name in expected)
    error = put_together(whole, tmp_path / "none.safetensors", "--vae", folder / "text_encoder")
    assert str(error).endswith("is a folder without weights for the autoencoder of this model")


def test_what_the_file_says_of_itself_stays(tiny_file: Path, tmp_path: Path) -> None:
    """The prediction, the scale of the latents: shapes say neither."""
    state, said = load_file(tiny_file), dict(read_header(tiny_file).metadata)
    lacking, made = tmp_path / "lacking.safetensors", tmp_path / "made.safetensors"
    save_file({name: tensor for name, tensor in state.items() if not name.startswith(VAE)}, lacking, said)
    assert str(put_together(lacking, made)) == (
        f"{lacking}: lacks its autoencoder: no tensor is called first_stage_model.*; name one with --vae FILE or "
        "--text-encoder FILE, or keep it with the model (`atelier models convert`)"
    )
    assert put_together(lacking, made, "--vae", tiny_file) is None
    facts = open_checkpoint(made).facts
    assert (facts.prediction, facts.size, facts.latent_scale) == ("velocity", 64, 0.5)
    assert str(put_together(tiny_file, tmp_path / "other.safetensors", "--variant", "fp16")).endswith(
        "is one file, which has no variant fp16: name a folder, or leave the variant out"
    )


def test_what_is_missing_or_does_not_fit_is_one_line(whole: Path, tmp_path: Path) -> None:
    unet, vae, made = (tmp_path / f"{name}.safetensors" for name in ("unet", "vae", "made"))
    save_file(part(whole, UNET, UNET), unet)
    save_file(part(whole, VAE), vae)
    for arguments, said in (
        ((unet, made, "--vae", vae), "has no text encoder: name a file that has one (--text-encoder)"),
        ((unet, made, "--text-encoder", whole), "has no autoencoder: name a file that has one (--vae)"),
        ((whole, made, "--vae", unet), "it has no autoencoder that fits this model"),
        ((whole, made, "--text-encoder", vae), "it has no text encoder that fits this model"),
        ((vae, made, "--vae", vae), "and no denoiser of a family that can be read"),
        ((whole, made, "--vae", vae, "--ema"), "neither --variant nor --ema"),
    ):
        error = put_together(*arguments)
        assert error is not None
        assert said in str(error)
    assert not made.exists()


def test_an_autoencoder_of_a_training_is_taken_without_what_only_that_needs(whole: Path, tmp_path: Path) -> None:
    """vae-ft-mse-840000 and kl-f8 have a loss beside the network, and running means."""
    kept = {"loss.logvar": torch.ones(()), "loss.discriminator.main.0.weight": torch.ones(2, 2, 4, 4)}
    means = {"model_ema.decay": torch.ones(()), "model_ema.decoderconv_inweight": torch.ones(2)}
    for kept_as in ("", VAE):
        file = tmp_path / "vae.ckpt"
        inner = {kept_as + name: tensor for name, tensor in (kept | means).items()}
        torch.save({"state_dict": {**part(whole, VAE, kept_as), **inner}}, file)
        assert put_together(whole, tmp_path / "made.safetensors", "--vae", file, "--overwrite") is None
        expected, found = load_file(whole), load_file(tmp_path / "made.safetensors")
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


PUBLISHED_PARTS = {
    "sdxl_refiner_sgm": ("sdxl-refiner", "conditioner.embedders.0.model."),
    "sdxl_base_sgm": ("sdxl", "conditioner.embedders.1.model."),
    "sd2_ldm": ("sd2", "cond_stage_model.model."),
}


@pytest.mark.parametrize("name", PUBLISHED_PARTS)
def test_open_clips_own_files_and_lone_denoisers_are_put_together(name: str, tmp_path: Path) -> None:
    """The denoiser as it is, and the text tower as OpenCLIP publishes it, beside its tower of images."""
    family, tower = PUBLISHED_PARTS[name]
    shapes = published(name)
    inner = {key.removeprefix(UNET): shape for key, shape in shapes.items() if key.startswith(UNET)}
    unet = sparse(tmp_path / "unet.safetensors", inner)
    words = {key.removeprefix(tower): shape for key, shape in shapes.items() if key.startswith(tower)}
    clip = sparse(tmp_path / "open_clip.safetensors", words | {"visual.conv1.weight": (1280, 3, 14, 14)})
    vae = sparse(tmp_path / "vae.safetensors", {key: s for key, s in shapes.items() if key.startswith(VAE)})
    more = {key: s for key, s in shapes.items() if key.startswith("conditioner.embedders.0.transformer.")}
    first = (sparse(tmp_path / "clip_l.safetensors", more),) if name == "sdxl_base_sgm" else ()
    made = assembled(unet, vae, (*first, clip))
    assert made.family.name == family
    for part in made.family.parts:
        made.spec(part)


def test_t5_keeps_its_words_twice_in_some_files(tmp_path: Path) -> None:
    words = published("text_encoder_t5xxl")
    twice = sparse(tmp_path / "t5.safetensors", words | {"encoder.embed_tokens.weight": words["shared.weight"]})
    model = sparse(tmp_path / "sd3.safetensors", published("sd3_medium_comfy"))
    assert assembled(model, text_encoders=(twice,)).family.name == "sd3"


def test_a_lone_denoiser_that_sees_a_mask_predicts_epsilon(tmp_path: Path) -> None:
    """In either layout, as whole models of Stable Diffusion 2.x do."""
    whole = published("sd2_inpainting_ldm")
    vae = sparse(tmp_path / "vae.safetensors", {key: s for key, s in whole.items() if key.startswith(VAE)})
    towers = {key: s for key, s in whole.items() if key.startswith("cond_stage_model.")}
    tower = sparse(tmp_path / "tower.safetensors", towers)
    alone = {key.removeprefix(UNET): shape for key, shape in whole.items() if key.startswith(UNET)}
    for shapes in (alone, {f"diffusion_model.{key}": shape for key, shape in alone.items()}):
        unet = sparse(tmp_path / "unet.safetensors", shapes)
        assert assembled(unet, vae, (tower,)).facts.prediction == "epsilon"
    diffusers = published("sd2_depth_unet_diffusers")
    unet = sparse(tmp_path / "unet.safetensors", diffusers)
    assert assembled(unet, vae, (tower,)).facts.prediction == "epsilon"


NAMES = {
    "clip_l": "text_encoder_clip_l_hf",
    "clip_g": "text_encoder_clip_g_hf",
    "vae": "vae_ldm_sd1_sd2_sdxl",
    "xl": "sdxl_unet_diffusers",
    "sd1": "sd1_unet_diffusers",
}


def list_of(name: str, folder: Path, prefix: str = "") -> Path:
    """A file of zeros with the names and shapes of a published one, a prefix before all of them."""
    shapes = {prefix + key: shape for key, shape in published(NAMES[name]).items()}
    return sparse(folder / f"{name}.safetensors", shapes)


def test_text_encoders_find_their_places_in_any_order(tmp_path: Path) -> None:
    unet, vae, first, second = (list_of(name, tmp_path) for name in ("xl", "vae", "clip_l", "clip_g"))
    for towers in ([first, second], [second, first]):
        made = assembled(unet, vae, towers)
        assert [made.parts[part].archive.path for part in ("text", "text2")] == [first, second]
    with pytest.raises(AtelierError, match="has no text encoder: name a file that has one"):
        assembled(unet, vae, [second])


def test_all_encoders_of_a_file_are_taken(tmp_path: Path) -> None:
    sd3 = published("sd3_medium_comfy")
    heads = {"net": "model.diffusion_model.", "text": "text_encoders.", "vae": "first_stage_model."}
    own = {
        name: sparse(tmp_path / f"{name}.safetensors", {key: s for key, s in sd3.items() if key.startswith(prefix)})
        for name, prefix in heads.items()
    }
    assert assembled(own["net"], own["vae"], [own["text"]]).parts.keys() == {
        "transformer",
        "vae",
        "text",
        "text2",
        "t5",
    }
    xl = sparse(tmp_path / "xl.safetensors", published("sdxl_base_sgm"))
    unet = sparse(tmp_path / "unet.safetensors", published("sdxl_unet_diffusers"))
    assert assembled(unet, xl, [xl, xl]).parts.keys() == {"unet", "vae", "text", "text2"}


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        *(("clip_l", prefix) for prefix in ("module.", "transformer.", "text_encoders.clip_l.transformer.")),
        *(("vae", prefix) for prefix in ("module.", "state_dict.", "vae.")),
        *(("sd1", prefix) for prefix in ("module.", "unet.", "transformer.")),
    ],
)
def test_parts_are_read_behind_whatever_they_are_recognised_behind(name: str, prefix: str, tmp_path: Path) -> None:
    files = {own: list_of(own, tmp_path, prefix if own == name else "") for own in ("sd1", "vae", "clip_l")}
    assert assembled(files["sd1"], files["vae"], [files["clip_l"]]).parts.keys() == {"unet", "vae", "text"}


CONVERTED = {
    "sd2_ldm": ("cond_stage_model.", "cond_stage_model.transformer.", "text_encoder_sd2_hf", "sd2", 23),
    "sdxl_base_sgm": (
        "conditioner.embedders.1.",
        "conditioner.embedders.1.transformer.",
        "text_encoder_clip_g_hf",
        "sdxl",
        32,
    ),
}
"""List -> where its OpenCLIP tower lies, where a converted one does, its list, the family, and its layers."""


@pytest.mark.parametrize("name", CONVERTED)
def test_a_converted_text_encoder_changes_no_family(name: str, tmp_path: Path) -> None:
    place, other, tower, family, layers = CONVERTED[name]
    shapes = {key: shape for key, shape in published(name).items() if not key.startswith(place)}
    shapes |= {other + key: shape for key, shape in published(tower).items()}
    model = open_checkpoint(sparse(tmp_path / "converted.safetensors", shapes))
    last = model.family.towers[-1].part
    assert (model.family.name, model.spec(last).layers, model.spec(last).act) == (family, layers, "gelu")
    assert model.parts[last.name].layout == "diffusers"
    assert len(match(model.parts[last.name], last.network.names(model.spec(last)))) == len(published(tower))


def test_one_encoder_takes_one_place_where_widths_tell_nothing(tmp_path: Path) -> None:
    """Those of a small model are none of the published widths: a file is the encoder that is missing."""
    path, first = tmp_path / "whole.safetensors", "conditioner.embedders.0.transformer."
    write_ldm(tiny_sd.sdxl(), path)
    state = load_file(path)
    tower = {name.removeprefix(first): tensor for name, tensor in state.items() if name.startswith(first)}
    save_file(tower, tmp_path / "tower.safetensors")
    bare = {name: tensor for name, tensor in state.items() if not name.startswith(first)}
    save_file(bare, tmp_path / "bare.safetensors", dict(read_header(path).metadata))
    made = assembled(tmp_path / "bare.safetensors", None, [tmp_path / "tower.safetensors"])
    assert [made.parts[part].archive.path.stem for part in ("text", "text2")] == ["tower", "bare"]
    wide = {name: torch.cat([tensor, tensor], -1) for name, tensor in tower.items()}
    save_file(wide, tmp_path / "wide.safetensors")
    with pytest.raises(AtelierError, match="has no text encoder that fits"):
        assembled(path, None, [tmp_path / "wide.safetensors"])


def test_one_encoder_takes_one_place_of_several_that_are_free(tmp_path: Path) -> None:
    path, first = tmp_path / "whole.safetensors", "text_encoders.clip_l.transformer."
    write_ldm(tiny_sd3.modules(), path)
    state = load_file(path)
    tower = {name.removeprefix(first): tensor for name, tensor in state.items() if name.startswith(first)}
    save_file(tower, tmp_path / "tower.safetensors")
    bare = {name: tensor for name, tensor in state.items() if not name.startswith("text_encoders.")}
    save_file(bare, tmp_path / "bare.safetensors", dict(read_header(path).metadata))
    made = assembled(tmp_path / "bare.safetensors", None, [tmp_path / "tower.safetensors"])
    assert made.parts.keys() == {"transformer", "vae", "text"}
