"""What the trainings make of their recipes, how networks begin, and what a validation shows, with data made up here."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import training_support as support
from atelier.errors import BadFile, BadInput
from atelier.models.clip import ClipText, ClipVision, TextSpec, VisionSpec
from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.train.recipe import Data
from atelier.train.sources import dataset
from atelier.train.tasks import clip as clip_task
from atelier.train.tasks import denoiser as denoiser_task
from atelier.train.tasks import vae as vae_task
from atelier.train.tasks.critic import PatchDiscriminator
from atelier.train.tasks.images import psnr, to_images, to_pixels
from atelier.train.vocabulary import learn
from atelier.weights.tokenizer import ClipTokenizer

PAGE = Image.new("RGB", (1, 1))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(support.draw_images(tmp_path_factory.mktemp("data") / "images", 180))


class Sheets:
    """Stands for `sheet`: remembers the pages."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
        self.pages: list[tuple[list[Any], list[str], int]] = []
        monkeypatch.setattr(module, "sheet", self.made)

    def made(self, images: list[Any], captions: list[str], columns: int) -> Image.Image:
        self.pages.append((images, captions, columns))
        return PAGE


class Numbers:
    """A data set whose image i is i everywhere, and whose captions come twice each."""

    size = 4

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.asked: list[int] = []

    def image(self, index: int) -> NDArray[np.uint8]:
        self.asked.append(index)
        return np.full((4, 4, 3), index % 256, np.uint8)

    def caption(self, index: int) -> str:
        return f"number {index // 2}"


# Pixels


def test_bytes_are_minus_one_to_one() -> None:
    pixels = np.array([[[[0, 51, 255]], [[255, 204, 0]]]], np.uint8)
    found = to_pixels(pixels, torch.device("cpu"))
    assert found.shape == (1, 3, 2, 1)
    assert found[0, :, :, 0].tolist() == [[-1.0, 1.0], [pytest.approx(-0.6), pytest.approx(0.6)], [1.0, -1.0]]
    ranged = torch.tensor([-1.7, -1.0, -0.6, 0.1, 0.6, 1.0, 2.0]).reshape(1, 1, 1, 7).expand(1, 3, 1, 7)
    made = to_images(ranged)
    assert (made.shape, made.dtype) == ((1, 1, 7, 3), np.uint8)
    assert made[0, 0, :, 0].tolist() == [0, 0, 51, 140, 204, 255, 255]


def test_psnr_is_of_what_is_shown() -> None:
    """The range is 2: an error of 0.02 everywhere is 40 dB; beyond the range nothing differs; no error is 120 dB."""
    image = torch.zeros(3, 3, 2, 2)
    other = torch.stack([torch.full((3, 2, 2), 0.02), torch.zeros(3, 2, 2), torch.full((3, 2, 2), 1.0)])
    image[2], other[2] = 1.5, 1.0
    assert psnr(image, other).tolist() == [pytest.approx(40, abs=1e-3), pytest.approx(120), pytest.approx(120)]
    assert psnr(other * 3, image)[2] == pytest.approx(120)


# The autoencoder


def test_the_recipe_shapes_the_autoencoder() -> None:
    changes = {"model.widths": [8, 16, 32], "model.latent": 6, "model.blocks": 3, "model.groups": 4}
    found = vae_task.spec_of(support.recipe("vae", {**changes, "model.mid_attention": False}))
    assert found == VaeSpec(latent=6, widths=(8, 16, 32), blocks=3, groups=4, mid_attention=False)


@pytest.mark.parametrize("offset", [None, 3.0])
def test_an_autoencoder_begins_near_a_linear_map(offset: float | None) -> None:
    torch.manual_seed(0)
    net = AutoencoderKL(VaeSpec(latent=4, widths=(32, 64), blocks=1, groups=4))
    fresh = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    vae_task.initialise(net, *(() if offset is None else (offset,)))
    made, size = net.state_dict(), offset or 8.0
    for name, tensor in made.items():
        if name.endswith(("conv2.weight", "to_out.weight")):
            assert not tensor.any(), name
        elif "conv1" in name or ".to_" in name:
            assert torch.equal(tensor, fresh[name]), name
        elif name.endswith("weight") and tensor.ndim == 4:
            assert float(tensor.std()) == pytest.approx(tensor[0].numel() ** -0.5, rel=0.15), name
            assert not made[name.replace("weight", "bias")].any(), name
    for norm, before in (
        ("encoder.norm_out", "encoder.middle.resnet2"),
        ("decoder.norm_out", "decoder.up.1.resnets.1"),
    ):
        constant = made[f"{before}.conv2.bias"]
        assert constant[:4].tolist() == [size, -size, size, -size]
        assert torch.equal(constant.abs(), torch.full_like(constant, size))
        assert torch.equal(made[f"{norm}.weight"], torch.full_like(constant, size))
        assert torch.equal(made[f"{norm}.bias"], -constant)


@pytest.mark.parametrize(("wanted", "count"), [(30, 18), (4, 4)])
def test_what_an_autoencoders_validation_shows(
    wanted: int, count: int, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first sixteen of the images that are held out, each before what became of it."""
    sheets = Sheets(monkeypatch, vae_task)
    task = support.task(support.recipe("vae", {"data.source": source, "data.validation": wanted}), Path())
    with torch.no_grad():
        found = task.validate()
        held_out = dataset(task.recipe.data, "held_out")
        images = np.stack([held_out.image(i) for i in range(count)])
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
        decoded = task.vae.decode(task.vae.encode(pixels).mode()).clamp(-1, 1)
    errors = ((decoded - pixels) / 2).square().mean((1, 2, 3))
    assert found.numbers == {"psnr": pytest.approx(float((-10 * errors.log10()).mean()), rel=1e-4)}
    assert found.images == {"reconstructions": PAGE}
    ((shown, captions, columns),) = sheets.pages
    assert (len(shown), captions, columns) == (2 * min(count, 16), [""] * 2 * min(count, 16), 8)
    assert all(np.array_equal(page, image) for page, image in zip(shown[::2], images, strict=False))
    rounded = ((decoded + 1) * 127.5).round().permute(0, 2, 3, 1)
    assert all(
        np.abs(page - image.numpy()).max() <= 1
        for page, image in zip(np.stack(shown[1::2]).astype(float), rounded, strict=False)
    )


@pytest.mark.parametrize(("length", "asked", "batches"), [(None, 70, [64, 6]), (5, 70, [5]), (200, 128, [64, 64])])
def test_the_scale_of_latents_is_measured_on_so_many_images(length: int | None, asked: int, batches: list[int]) -> None:
    seen: list[Tensor] = []

    def encode(images: Tensor) -> Any:
        seen.append(images)
        return SimpleNamespace(mode=lambda: images * 3)

    vae: Any = SimpleNamespace(parameters=lambda: iter([torch.zeros(1)]), encode=encode)
    data = Numbers(length)
    found = vae_task.latent_scale(vae, data, asked)
    assert [len(images) for images in seen] == batches
    assert data.asked == list(range(sum(batches)))
    assert found == pytest.approx(1 / float((3 * torch.cat(seen)).std()))


def test_the_critic_is_three_strided_convolutions() -> None:
    """Of strides 2, 2 and 1, and one that says a number for each patch; leaky by a fifth, normed in groups of eight."""
    torch.manual_seed(0)
    critic, image = PatchDiscriminator(8), torch.randn(2, 3, 16, 12)
    w = dict(critic.named_parameters())
    with torch.no_grad():
        for parameter in w.values():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        x = F.leaky_relu(F.conv2d(image, w["net.0.weight"], w["net.0.bias"], 2, 1), 0.2)
        x = F.conv2d(x, w["net.2.weight"], w["net.2.bias"], 2, 1)
        x = F.leaky_relu(F.group_norm(x, 8, w["net.3.weight"], w["net.3.bias"]), 0.2)
        x = F.conv2d(x, w["net.5.weight"], w["net.5.bias"], 1, 1)
        x = F.leaky_relu(F.group_norm(x, 8, w["net.6.weight"], w["net.6.bias"]), 0.2)
        x = F.conv2d(x, w["net.8.weight"], w["net.8.bias"], 1, 1)
        found = critic(image)
    assert found.shape == (2, 1, 4, 3)
    assert torch.allclose(found, x, atol=1e-5)
    assert {name: tuple(p.shape) for name, p in w.items() if p.ndim == 4} == {
        "net.0.weight": (8, 3, 4, 4),
        "net.2.weight": (16, 8, 4, 4),
        "net.5.weight": (32, 16, 3, 3),
        "net.8.weight": (1, 32, 3, 3),
    }


# CLIP


TOWERS = {
    "data.size": 32,
    "model.positions": 20,
    "model.width": 24,
    "model.layers": 3,
    "model.heads": 2,
    "model.patch": 4,
    "model.vision_width": 30,
    "model.vision_layers": 5,
    "model.vision_heads": 6,
    "model.embedding": 11,
}


def test_the_recipe_shapes_both_towers() -> None:
    recipe, words = support.recipe("clip", TOWERS), learn(["a cat", "a dog"], 530, 20)
    assert clip_task.text_spec(recipe, words) == TextSpec(
        vocab=words.size, width=24, layers=3, heads=2, mlp=96, positions=20, projection=11, eos=words.eos
    )
    assert clip_task.vision_spec(recipe) == VisionSpec(
        image=32, patch=4, width=30, layers=5, heads=6, mlp=120, projection=11
    )


def begun(tower: ClipText | ClipVision) -> dict[str, Tensor]:
    clip_task.initialise(tower)
    return tower.state_dict()


def test_towers_begin_as_clips_do() -> None:
    """Width 64 and three layers: what goes into the residual stream is smaller by the root of six."""
    torch.manual_seed(0)
    text = begun(ClipText(TextSpec(vocab=300, width=64, layers=3, heads=2, mlp=256, positions=70, projection=48)))
    vision = begun(ClipVision(VisionSpec(image=32, patch=4, width=64, layers=3, heads=2, mlp=256, projection=48)))
    deviations = {
        "attn.to_q.weight": 0.125,
        "attn.to_k.weight": 0.125,
        "attn.to_v.weight": 0.125,
        "attn.to_out.weight": 0.125 / 6**0.5,
        "mlp.fc1.weight": 128**-0.5,
        "mlp.fc2.weight": 0.125 / 6**0.5,
    }
    for tower in (text, vision):
        for layer in range(3):
            for name, deviation in deviations.items():
                weight = tower[f"layers.{layer}.{name}"]
                assert float(weight.std()) == pytest.approx(deviation, rel=0.1), name
                assert abs(float(weight.mean())) < 0.1 * deviation
            assert not any(tower[f"layers.{layer}.attn.to_{name}.bias"].any() for name in "qkv")
        assert float(tower["projection.weight"].std()) == pytest.approx(0.125, rel=0.1)
        assert float(tower["position_embedding.weight"].std()) == pytest.approx(0.01, rel=0.1)
    assert float(text["token_embedding.weight"].std()) == pytest.approx(0.02, rel=0.1)
    assert float(vision["class_embedding"].std()) == pytest.approx(0.125, rel=0.35)


def test_what_the_vision_tower_reads() -> None:
    """CLIP's mean and deviation of each channel, as OpenAI gives them."""
    found = clip_task.normalised(np.array([[[[0, 255, 51]], [[255, 0, 0]]]], np.uint8), torch.device("cpu"))
    assert found.shape == (1, 3, 2, 1)
    red, green, blue = found[0, :, :, 0].tolist()
    assert red == pytest.approx([-0.48145466 / 0.26862954, 0.51854534 / 0.26862954])
    assert green == pytest.approx([0.5421725 / 0.26130258, -0.4578275 / 0.26130258])
    assert blue == pytest.approx([(0.2 - 0.40821073) / 0.27577711, -0.40821073 / 0.27577711])


class Alike(nn.Module):
    """Towers by which the image of number i is most like the caption of number i, but for one."""

    def embed_text(self, tokens: Tensor) -> Tensor:
        return torch.eye(len(tokens))

    def embed_image(self, image: Tensor) -> Tensor:
        own = torch.eye(len(image))
        own[1] = torch.tensor([0.6] + [0.0] * (len(image) - 1))
        return own


@pytest.mark.parametrize(("length", "count"), [(None, 150), (40, 20), (400, 150)])
def test_retrieval_looks_among_images_of_different_captions(length: int | None, count: int) -> None:
    tower: Any = Alike()
    data = Numbers(length)
    found = clip_task.retrieval(tower, data, learn(["number 1"], 520, 12), torch.device("cpu"))
    assert found.captions == tuple(f"number {i}" for i in range(count))
    assert found.nearest == (0, 0, *range(2, count))
    assert data.asked == list(range(0, 2 * count, 2)), "the first image of each caption"
    assert found.r_at_1 == pytest.approx((count - 1) / count)
    assert found.pixels[3, 0, 0].tolist() == [6, 6, 6]


def test_a_data_set_of_few_captions_is_not_searched_for_ever() -> None:
    class Same(Numbers):
        def caption(self, index: int) -> str:
            self.asked.append(index)
            return "the same"

    data, tower = Same(None), Alike()
    tower.embed_image = lambda image: torch.eye(len(image))
    given: Any = tower
    assert clip_task.retrieval(given, data, learn(["x"], 520, 12), torch.device("cpu")).captions == ("the same",)
    assert max(data.asked) == 14_999


def test_a_page_of_retrieval_says_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sheets, pixels = Sheets(monkeypatch, clip_task), np.zeros((3, 4, 4, 3), np.uint8)
    found = clip_task.Retrieval(pixels, ("a cat", "a dog", "a hen"), (0, 2, 2))
    assert found.page(2) is PAGE
    ((images, words, columns),) = sheets.pages
    assert (len(images), words, columns) == (2, ["a cat", "WRONG: a hen (is: a dog)"], 8)
    assert found.r_at_1 == pytest.approx(2 / 3)


def test_what_clips_validation_shows(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = support.task(support.recipe("clip", {"data.source": source}), tmp_path)
    sheets, asked = Sheets(monkeypatch, clip_task), list[tuple[Any, ...]]()

    def retrieval(*given: Any) -> clip_task.Retrieval:
        asked.append(given)
        captions = tuple(f"number {i}" for i in range(30))
        return clip_task.Retrieval(np.zeros((30, 4, 4, 3), np.uint8), captions, (1, *range(1, 30)))

    monkeypatch.setattr(clip_task, "retrieval", retrieval)
    found = task.validate()
    assert found.numbers == {"r@1": pytest.approx(29 / 30)}
    assert found.images == {"retrieval": PAGE}
    ((images, words, columns),) = sheets.pages
    assert (len(images), len(words), columns) == (24, 24, 8)
    ((clip, data, vocabulary, device),) = asked
    assert (clip is task.clip, vocabulary is task.vocabulary, device) == (True, True, torch.device("cpu"))
    held_out = dataset(task.recipe.data, "held_out")
    assert [data.caption(i) for i in range(4)] == [held_out.caption(i) for i in range(4)]
    assert (task.nets, task.aids, task.extra()) == ({"clip": task.clip}, {}, {})


@pytest.mark.parametrize(("began", "ends"), [(9.0, 100.0), (-3.0, 1.0)])
def test_the_temperature_of_clip_stays_within_its_bounds(
    began: float, ends: float, source: str, tmp_path: Path
) -> None:
    task = support.task(support.recipe("clip", {"data.source": source, "optim.rate": 1e-6}), tmp_path)
    assert task.clip.logit_scale.tolist() == pytest.approx(math.log(1 / 0.07))
    with torch.no_grad():
        task.clip.logit_scale.fill_(began)
    told = task.update(0, task.maker(0))
    assert told.keys() == {"loss", "norm", "temperature"}
    assert float(told["temperature"]) == pytest.approx(ends, rel=1e-4)
    assert not any(value.requires_grad for value in told.values())


def test_a_vocabulary_is_learned_from_the_first_captions(source: str, tmp_path: Path) -> None:
    recipe = support.recipe("clip", {"data.source": source, "model.captions": 2})
    task, data = support.task(recipe, tmp_path), dataset(recipe.data, "train")
    assert task.vocabulary.same_as(learn([data.caption(0), data.caption(1)], 600, 16))
    everything = [data.caption(i) for i in range(data.length or 0)]
    assert not task.vocabulary.same_as(learn(everything, 600, 16))
    whole = support.task(support.recipe("clip", {"data.source": source, "model.captions": 999}), tmp_path / "whole")
    assert whole.vocabulary.same_as(learn(everything, 600, 16))


def test_a_folder_with_checkpoints_of_another_kind_is_named(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atelier.train.checkpoint.newest", lambda folder: folder)
    with pytest.raises(BadFile, match="holds checkpoints without tokenizer/: a run of another kind"):
        support.task(support.recipe("clip", {"data.source": source}), tmp_path)
    assert not list(tmp_path.iterdir())


# The denoiser


SMALL = UNetSpec(
    in_channels=4,
    out_channels=4,
    widths=(8, 16),
    blocks=1,
    depth=(0, 1),
    mid_depth=1,
    heads=(1, 2),
    context=32,
    groups=4,
)


def test_the_recipe_shapes_the_denoiser() -> None:
    changes = {"vae": "v", "clip": "c", "model.widths": [8, 16, 24], "model.depth": [0, 1, 5], "model.heads": [1, 2, 3]}
    recipe = support.recipe("denoiser", {**changes, "model.blocks": 3, "model.mid_depth": 5, "model.groups": 4})
    assert denoiser_task.spec_of(recipe, 6, 48) == UNetSpec(
        in_channels=6,
        out_channels=6,
        widths=(8, 16, 24),
        blocks=3,
        depth=(0, 1, 5),
        mid_depth=5,
        heads=(1, 2, 3),
        context=48,
        groups=4,
    )


def test_residual_branches_and_the_output_begin_at_nothing() -> None:
    net = UNet(SMALL)
    fresh = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    denoiser_task.initialise(net)
    ends = re.compile(r"(.*conv2|.*attentions?(\.\d+)?\.proj_out|conv_out)\.(weight|bias)")
    nothing = [name for name, tensor in net.state_dict().items() if not tensor.any() and fresh[name].any()]
    assert nothing == [name for name in fresh if ends.fullmatch(name)]
    assert {name.split(".")[-2] for name in nothing} == {"conv2", "proj_out", "conv_out"}
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in net.state_dict().items() if name not in nothing)


def test_dropping_none_and_all() -> None:
    tokens, empty = torch.full((64, 4), 7), torch.arange(4)
    assert torch.equal(denoiser_task.dropped(tokens, empty, 0.0, 1, 2), tokens)
    assert torch.equal(denoiser_task.dropped(tokens, empty, 1.0, 1, 2), empty.expand(64, 4))


def test_a_denoiser_of_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    net, other = UNet(SMALL), UNet(SMALL)
    monkeypatch.setattr(denoiser_task, "unet_at", lambda _: other.state_dict())
    denoiser_task.fill(net, Path("run"), Path("vae"), Data())
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in net.state_dict().items())
    for spoilt in (
        {name: t for name, t in other.state_dict().items() if name != "conv_in.bias"},
        {**other.state_dict(), "conv_in.bias": torch.zeros(9)},
    ):
        monkeypatch.setattr(denoiser_task, "unet_at", lambda _, spoilt=spoilt: spoilt)
        with pytest.raises(BadInput, match=r"begin = run: its denoiser has another shape"):
            denoiser_task.fill(net, Path("run"), Path("vae"), Data())


def frozen(folder: Path, scale: float = 0.3) -> denoiser_task.Frozen:
    """Networks that were never trained."""
    torch.manual_seed(0)
    words = learn(["a red square on a blue ground"], 530, 16)
    words.save(folder / "tokenizer")
    text = ClipText(
        TextSpec(vocab=words.size, width=32, layers=1, heads=2, mlp=64, positions=16, projection=8, eos=words.eos)
    )
    vae = AutoencoderKL(VaeSpec(latent=4, widths=(8, 16), blocks=1, groups=4))
    return denoiser_task.Frozen(vae, folder / "vae", scale, text, folder / "tokenizer")


def made(source: str, folder: Path, parts: denoiser_task.Frozen, **changes: Any) -> denoiser_task.DenoiserTask:
    recipe = support.recipe("denoiser", {"data.source": source, "vae": "v", "clip": "c", **changes})
    return denoiser_task.DenoiserTask(recipe, support.placement(), parts, folder / "cache")


def test_what_a_denoisers_checkpoints_know_of_the_networks_before_it(source: str, tmp_path: Path) -> None:
    """What makes its latents and its text states, and nothing else."""
    parts = frozen(tmp_path)
    before = made(source, tmp_path, parts).extra()
    assert before["latent_scale"] == 0.3
    with torch.no_grad():
        parts.vae.get_parameter("decoder.conv_in.bias").add_(1)
        parts.text.get_parameter("projection.weight").add_(1)
    assert made(source, tmp_path, parts).extra() == before
    with torch.no_grad():
        parts.vae.get_parameter("encoder.conv_in.bias").add_(1)
    other = made(source, tmp_path, parts).extra()
    assert {name for name in before if before[name] != other[name]} == {"autoencoder"}
    with torch.no_grad():
        parts.text.get_parameter("final_norm.bias").add_(1)
    last = made(source, tmp_path, parts).extra()
    assert {name for name in before if other[name] != last[name]} == {"text_encoder"}


def test_what_a_denoisers_validation_shows(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = made(source, tmp_path, frozen(tmp_path), **{"data.validation": 18})
    sheets, asked = Sheets(monkeypatch, denoiser_task), list[list[str]]()

    def generate(captions: list[str]) -> NDArray[np.uint8]:
        asked.append(captions)
        return np.arange(len(captions), dtype=np.uint8)[:, None, None, None]

    monkeypatch.setattr(task, "generate", generate)
    found = task.validate()
    held_out = dataset(task.recipe.data, "held_out")
    captions = [held_out.caption(i) for i in range(16)]
    assert asked == [captions]
    ((images, words, columns),) = sheets.pages
    assert ([int(image[0, 0, 0]) for image in images], words, columns) == (list(range(16)), captions, 8)
    assert found.images == {"images": PAGE}
    assert found.numbers.keys() == {"held_out"}
    assert task.validate().numbers == found.numbers, "at the same noise and times always"
    assert (task.nets, task.aids) == ({"unet": task.unet}, {})


def test_samples_are_generated_in_twenty_calls_that_show_both_prompts(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = made(source, tmp_path, frozen(tmp_path), cfg_scale=3.0)
    seen: list[tuple[torch.Size, Tensor]] = []

    def forward(x: Tensor, _t: Tensor, cond: Any) -> Tensor:
        seen.append((x.shape, cond.tokens))
        return torch.zeros_like(x)

    monkeypatch.setattr(task.unet, "forward", forward)
    captions = ["a red square", "a blue bar", "a green frame"]
    assert task.generate(captions).shape == (3, 16, 16, 3)
    assert [shape for shape, _ in seen] == [(6, 4, 8, 8)] * 20
    words = ClipTokenizer.from_folder(tmp_path / "tokenizer")
    tokens = torch.tensor([words.ids(text) for text in ("", "", "", *captions)])
    with torch.no_grad():
        states = task.parts.text(tokens).last
    assert all(torch.allclose(given, states, atol=1e-5) for _, given in seen)


def test_a_size_that_the_autoencoder_does_not_divide_is_named(source: str, tmp_path: Path) -> None:
    parts = frozen(tmp_path)
    with pytest.raises(BadInput, match=rf"data\.size = 17: not divisible by 2, .* {parts.vae_run}"):
        made(source, tmp_path, parts, **{"data.size": 17})
