"""Whole checkpoints: what diffusers wrote opens here, what is written here opens in diffusers, and nothing is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.text import encode, text_encoder
from atelier.checkpoints.write import Modules, write_diffusers, write_ldm
from atelier.families.facts import Facts
from atelier.families.parts import PROJECTION, TEXT, UNET, VAE, VISION
from atelier.families.sd1 import SD1
from atelier.models.clip import ClipJoint, ClipText, ClipVision, JointSpec, TextSpec, VisionSpec
from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.nn.ports import Conditioning
from atelier.weights.tokenizer import ClipTokenizer
from weights_support import assert_close, fill, published

MERGES = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>"), ("o", "n</w>")]
POSITIONS = 12
POSITION_IDS = "cond_stage_model.transformer.text_model.embeddings.position_ids"


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Same names, dtypes, shapes and bits."""
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


def tensors_of(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.rglob("*.safetensors"))
    return {f"{file.parent.name}/{name}": tensor for file in files for name, tensor in load_file(file).items()}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Stable Diffusion as diffusers itself saves it."""
    from diffusers import AutoencoderKL as TheirVae
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("theirs")
    tokenizer = ClipTokenizer.from_merges(MERGES, POSITIONS)
    tokenizer.save(folder / "small")
    text = CLIPTextConfig(
        vocab_size=tokenizer.size,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=POSITIONS,
        bos_token_id=tokenizer.bos,
        eos_token_id=tokenizer.eos,
        pad_token_id=tokenizer.pad,
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=24,
        norm_num_groups=8,
    )
    vae = TheirVae(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        scaling_factor=0.5,
    )
    StableDiffusionPipeline(
        unet=fill(unet),
        vae=fill(vae),
        text_encoder=fill(CLIPTextModel(text)),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "small"),
        scheduler=DDIMScheduler(
            beta_start=0.001, beta_end=0.01, beta_schedule="scaled_linear", prediction_type="v_prediction"
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def modules() -> Modules:
    """A model in memory with everything the embedded one has: own vocabulary, vision tower, projection."""
    torch.manual_seed(0)
    tokenizer = ClipTokenizer.from_merges(MERGES, POSITIONS)
    networks = {
        "unet": UNet(UNetSpec(widths=(16, 32), depth=(1, 2), mid_depth=2, heads=(1, 2), context=24, groups=8)),
        "vae": AutoencoderKL(VaeSpec(widths=(8, 16, 16), groups=4)),
        "text": ClipText(TextSpec(tokenizer.size, 24, 2, 2, 48, POSITIONS, eos=tokenizer.eos)),
        "vision": ClipVision(VisionSpec(16, 8, 24, 2, 3, 48, "gelu", 20)),
        "projection": ClipJoint(JointSpec(24, 20)),
    }
    facts = Facts(prediction="velocity", size=64, latent_scale=0.75, cfg_scale=2.5)
    return Modules(SD1, networks, (tokenizer,), facts, {"modelspec.title": "Small"})


def test_a_folder_of_diffusers_opens_with_its_settings(theirs: Path) -> None:
    found = open_checkpoint(theirs)
    assert (found.layout, found.family.name, found.dtype, found.size) == ("diffusers", "sd1", "fp32", 64)
    assert found.spec(UNET) == UNetSpec(widths=(16, 32), depth=(1, 0), heads=(2, 2), context=24, groups=8)
    assert found.spec(VAE) == VaeSpec(widths=(8, 16, 16), blocks=1, groups=4)
    tokenizer = found.tokenizers[0]
    assert found.spec(TEXT) == TextSpec(tokenizer.size, 24, 2, 2, 48, POSITIONS, eos=tokenizer.eos)
    assert (found.latent.scale, found.latent.factor, found.latent.channels) == (0.5, 4, 4)
    assert (found.parameterization.name, found.facts.beta_start) == ("velocity", 0.001)


def test_networks_of_a_folder_compute_what_diffusers_computes(theirs: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipe, found = StableDiffusionPipeline.from_pretrained(theirs), open_checkpoint(theirs)
    _same_numbers(pipe, found)


def test_levels_are_those_of_their_scheduler(theirs: Path) -> None:
    from diffusers import DDIMScheduler

    alphas = DDIMScheduler.from_pretrained(theirs / "scheduler").alphas_cumprod.double()
    expected = ((1 - alphas) / alphas).sqrt()
    assert torch.allclose(open_checkpoint(theirs).levels.sigmas.double(), expected, rtol=1e-4)


def _same_numbers(pipe: Any, found: Checkpoint) -> None:
    texts = ["a cat on a dog", ""]
    rows = pipe.tokenizer(texts, padding="max_length", truncation=True, max_length=POSITIONS).input_ids
    assert [found.tokenizers[0].ids(text) for text in texts] == rows
    latent, t = torch.randn(2, 4, 16, 16), torch.tensor([3.0, 900.0])
    with torch.no_grad():
        tokens = pipe.text_encoder(torch.tensor(rows)).last_hidden_state
        assert_close(encode(text_encoder(found), texts).tokens, tokens)
        assert_close(found.load(UNET)(latent, t, Conditioning(tokens)), pipe.unet(latent, t, tokens).sample)
        assert_close(found.load(VAE).decode(latent), pipe.vae.decode(latent).sample)


def test_diffusers_to_ldm_and_back_is_bit_identical(theirs: Path, tmp_path: Path) -> None:
    first = open_checkpoint(theirs)
    write_ldm(first, tmp_path / "one.safetensors")
    second = open_checkpoint(tmp_path / "one.safetensors")
    assert (second.layout, second.facts.prediction, second.size) == ("ldm", "velocity", 64)
    assert [second.spec(part) for part in (UNET, VAE, TEXT)] == [first.spec(part) for part in (UNET, VAE, TEXT)]
    assert second.tokenizers[0].same_as(first.tokenizers[0])
    write_diffusers(second, tmp_path / "again")
    original = {name.replace("text_encoder/", "text_encoder/text_model."): t for name, t in tensors_of(theirs).items()}
    assert equal(tensors_of(tmp_path / "again"), original)
    write_ldm(open_checkpoint(tmp_path / "again"), tmp_path / "two.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


@pytest.fixture(scope="module")
def published_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A single file with every name of SD 1.5, leftovers of training too, at a hundredth of the size, mixed dtypes."""
    tensors: dict[str, Tensor] = {}
    for number, (name, shape) in enumerate(published("sd1_ldm_required").items()):
        dtype = torch.float16 if number % 3 else torch.float32
        tensors[name] = torch.full(_small(shape), number / 1131).to(dtype)
    for name, shape in published("sd1_ldm_leftovers").items():
        tensors[name] = torch.ones(_small(shape))
    path = tmp_path_factory.mktemp("single") / "v1-5.safetensors"
    save_file(tensors, path, {"format": "pt", "modelspec.title": "Like SD 1.5"})
    return path


def _small(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Widths divided by ten, still divisible by 32 groups and 8 heads: 320 channels become 32."""
    table = {320: 32, 640: 64, 1280: 128, 2560: 256, 5120: 512, 10240: 1024, 960: 96, 1920: 192, 768: 8, 3072: 16}
    table |= {128: 32, 256: 64, 512: 128, 49408: 49408}
    return tuple(table.get(extent, extent) for extent in shape)


def test_ldm_to_diffusers_to_ldm_is_bit_identical(published_like: Path, tmp_path: Path) -> None:
    found = open_checkpoint(published_like)
    assert set(found.ignored) == {*published("sd1_ldm_leftovers"), POSITION_IDS}
    write_diffusers(found, tmp_path / "folder")
    write_ldm(open_checkpoint(tmp_path / "folder"), tmp_path / "back.safetensors")
    back = open_checkpoint(tmp_path / "back.safetensors")
    original = {name: t for name, t in load_file(published_like).items() if name not in found.ignored}
    assert equal(load_file(tmp_path / "back.safetensors"), original)
    assert back.metadata == {"modelspec.title": "Like SD 1.5"}
    assert (back.facts.prediction, back.size, back.spec(UNET)) == ("epsilon", 512, found.spec(UNET))


@pytest.fixture
def messages() -> Iterator[list[str]]:
    """Everything diffusers and transformers log as a warning or worse."""
    found: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler, loggers = Keep(logging.WARNING), [logging.getLogger(name) for name in ("diffusers", "transformers")]
    for logger in loggers:
        logger.addHandler(handler)
    yield found
    for logger in loggers:
        logger.removeHandler(handler)


def test_what_is_written_opens_in_diffusers_without_complaints(
    modules: Modules, tmp_path: Path, messages: list[str]
) -> None:
    from diffusers import AutoencoderKL as TheirVae
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection

    write_diffusers(modules, tmp_path / "model")
    messages.clear()
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "model")
    assert [m for m in messages if "torchvision" not in m] == []
    for kind, part in (
        (UNet2DConditionModel, "unet"),
        (TheirVae, "vae"),
        (CLIPTextModel, "text_encoder"),
        (CLIPVisionModelWithProjection, "image_encoder"),
    ):
        _, info = kind.from_pretrained(tmp_path / "model" / part, output_loading_info=True)
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), (part, info)
    found = open_checkpoint(tmp_path / "model")
    _same_numbers(pipe, found)
    image = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        embedding = found.load(VISION)(image).embedding
        assert embedding is not None
        assert_close(embedding, pipe.image_encoder(image).image_embeds)
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert pipe.vae.config.scaling_factor == 0.75


def test_nothing_of_a_model_is_lost_in_a_single_file(modules: Modules, tmp_path: Path) -> None:
    write_diffusers(modules, tmp_path / "model")
    write_ldm(open_checkpoint(tmp_path / "model"), tmp_path / "one.safetensors")
    single = open_checkpoint(tmp_path / "one.safetensors")
    assert single.ignored == ()
    assert single.spec(VISION) == modules.spec(VISION)
    assert equal(single.tensors(PROJECTION), dict(modules.tensors(PROJECTION)))
    write_diffusers(single, tmp_path / "again")
    for file in (tmp_path / "model").rglob("*"):
        if file.is_file():
            assert (tmp_path / "again" / file.relative_to(tmp_path / "model")).read_bytes() == file.read_bytes(), file


def test_half_precision_and_variants(modules: Modules, tmp_path: Path) -> None:
    write_diffusers(modules, tmp_path / "model", torch.float16)
    found = open_checkpoint(tmp_path / "model")
    assert found.dtype == "fp16"
    assert found.load(UNET, torch.float32).conv_in.weight.dtype == torch.float32
    for part in (UNET, VAE, TEXT):
        weights = tmp_path / "model" / part.folder / f"{part.stem}.safetensors"
        weights.rename(weights.with_suffix(".fp16.safetensors"))
    again = open_checkpoint(tmp_path / "model")
    assert again.dtype == "fp16"
    assert torch.equal(again.load(VAE).decoder.conv_in.weight, modules.networks["vae"].decoder.conv_in.weight.half())


def test_shards_are_read_as_one(modules: Modules, tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    write_diffusers(modules, tmp_path / "model")
    unet = tmp_path / "model" / "unet"
    UNet2DConditionModel.from_pretrained(unet).save_pretrained(unet, max_shard_size="100KB")
    (unet / "diffusion_pytorch_model.safetensors").unlink(missing_ok=True)
    assert (unet / "diffusion_pytorch_model.safetensors.index.json").is_file()
    found = open_checkpoint(tmp_path / "model")
    assert len(found.parts["unet"].archive.files) > 2
    assert equal(found.tensors(UNET), dict(modules.tensors(UNET)))
