"""One step of teaching an image prompt against one written with diffusers' attention processors, and its files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import taught_support as teaching
import tiny
from atelier.adapters.image_features import image_features
from atelier.adapters.port.ip_adapter import ImagePrompt
from atelier.adapters.steering import Acting, open_steering
from atelier.checkpoints.image_encoder import open_image_encoder
from atelier.checkpoints.kind import identify
from atelier.checkpoints.opening import open_checkpoint
from atelier.errors import BadFile, BadInput, Interrupted
from atelier.models.ip_adapter import IpAdapter, IpAdapterSpec, LinearSpec, ResamplerSpec
from atelier.nn.ports import Conditioning, Ports
from atelier.train.tasks.teaching import TeachingTask
from atelier.train.teaching.dropout import Draw
from atelier.train.teaching.image_prompt import ImagePromptPupil
from atelier.weights.archive import open_any
from atelier.weights.names.ip_adapter import OF_DIFFUSERS, names
from atelier.weights.save import stored_as

diffusers = pytest.importorskip("diffusers", reason="the reference extra is not installed")
pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")

RATE, BETAS, EPS, DECAY, CLIP = 0.01, (0.8, 0.95), 1e-4, 0.2, 0.05
NUMBERS: dict[str, Any] = {
    "run__batch": 3,
    "run__seed": 5,
    "data__dropout": 0.0,
    "optim__rate": RATE,
    "optim__betas": list(BETAS),
    "optim__eps": EPS,
    "optim__weight_decay": DECAY,
    "optim__clip": CLIP,
    "loss__time_shift": 1,
    "image_prompt__dropout": 0.4,
}
CLOSE = 1e-5
READS = ("embedding", "states")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("models") / "model", prediction="epsilon")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teaching.images(tmp_path_factory.mktemp("data") / "images", 5)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=20,
    )
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def taught(model: Path, images: Path, encoder: Path, folder: Path, **more: Any) -> TeachingTask:
    return teaching.task("image-prompt", told(model, images, encoder, **more), folder)


def told(model: Path, images: Path, encoder: Path, **more: Any) -> dict[str, Any]:
    chosen = {**NUMBERS, "image_prompt__encoder": str(encoder), **more}
    return teaching.changes("image-prompt", model, images, **chosen)


def pupil(task: TeachingTask) -> ImagePromptPupil:
    assert isinstance(task.pupil, ImagePromptPupil)
    return task.pupil


def seen(task: TeachingTask, encoder: Path, reads: str) -> tuple[Tensor, Tensor]:
    """What transformers makes of the images of the first step, and of none."""
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    net = CLIPVisionModelWithProjection.from_pretrained(encoder).eval()
    processor = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    rows: list[Image.Image] = []
    for own in task.maker(0):
        with Image.open(own.path) as image:
            scaled = image.convert("RGB").resize(own.scaled, Image.Resampling.LANCZOS)
        rows.append(scaled.crop((own.left, own.top, own.left + own.size[0], own.top + own.size[1])))
    pixels = processor(rows, return_tensors="pt").pixel_values
    with torch.no_grad():
        made, none = (net(given, output_hidden_states=True) for given in (pixels, torch.zeros_like(pixels[:1])))
    if reads == "embedding":
        return made.image_embeds, torch.zeros_like(made.image_embeds[:1])
    return made.hidden_states[-2], none.hidden_states[-2]


def below(net: IpAdapter, prefix: str) -> dict[str, Tensor]:
    return {name: own for name, own in net.state_dict().items() if name.startswith(prefix)}


def load(net: Any, tensors: dict[str, Tensor], spec: IpAdapterSpec) -> None:
    """Into a U-Net of diffusers, which takes perceivers of four layers alone, and of widths that 64 divides: of another
    one the projection is put in by hand."""
    from diffusers.models.embeddings import IPAdapterPlusImageProjection

    plain = isinstance(spec.projection, LinearSpec)
    stand_in = IpAdapterSpec(LinearSpec(8, 4, spec.context), spec.unet)
    whole = (
        tensors if plain else {**IpAdapter(stand_in).state_dict(), **{k: v for k, v in tensors.items() if "to_" in k}}
    )
    flat = stored_as(whole, names(spec if plain else stand_in), "ldm")
    parts = {
        part: {name.removeprefix(f"{part}."): own.clone() for name, own in flat.items() if name.startswith(part)}
        for part in ("image_proj", "ip_adapter")
    }
    net._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    if isinstance(spec.projection, ResamplerSpec):
        own = spec.projection
        made = IPAdapterPlusImageProjection(own.features, own.context, own.width, own.layers, own.width, 1, own.tokens)
        theirs = stored_as(tensors, names(spec), "diffusers")
        made.load_state_dict({k.removeprefix(OF_DIFFUSERS): v for k, v in theirs.items() if k.startswith(OF_DIFFUSERS)})
        net.encoder_hid_proj.image_projection_layers[0] = made


@pytest.mark.parametrize("reads", READS)
def test_a_step_is_one_with_the_processors_of_diffusers(
    reads: str, model: Path, images: Path, encoder: Path, tmp_path: Path
) -> None:
    """With one image left out, as the draw of the step says."""
    task = taught(model, images, encoder, tmp_path, image_prompt__reads=reads, image_prompt__layers=1)
    teaching.shake(task)
    ours = teaching.learning(task)
    spec = pupil(task).prompt.net.spec
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    net = pipe.unet
    load(net, pupil(task).prompt.net.state_dict(), spec)
    net.requires_grad_(requires_grad=False)
    parameters = dict(net.named_parameters())
    pairs = {f"image_prompt.{name.ours}": name.diffusers for name in names(spec)}
    assert {*pairs} == {*ours}
    learning = [parameters[their].requires_grad_() for their in pairs.values()]
    groups = [{"params": [p], "weight_decay": DECAY if p.ndim > 1 else 0.0} for p in learning]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPS)
    batch = task.maker(0)
    drawn = task._noised(0, batch)
    with task.pupil.at_work(Draw(5, 0, range(3))):
        dropped = pupil(task)._dropped(3)
    assert bool(dropped.any())
    assert not bool(dropped.all())
    features, absent = seen(task, encoder, reads)
    features = torch.where(dropped.view(-1, *[1] * (features.ndim - 1)), absent, features)
    scheduler = diffusers.DDPMScheduler.from_config(pipe.scheduler.config)
    states = pipe.encode_prompt([own.caption for own in batch], "cpu", 1, do_classifier_free_guidance=False)[0]
    noisy = scheduler.add_noise(drawn.clean, drawn.noise, drawn.t)
    output = net(noisy, drawn.t, states, added_cond_kwargs={"image_embeds": [features[:, None]]}).sample
    loss = F.mse_loss(output, drawn.noise)
    loss.backward()
    gradients = {their: parameters[their].grad.clone() for their in pairs.values()}
    torch.nn.utils.clip_grad_norm_(learning, CLIP)
    optimizer.step()
    found = task.update(0, batch)
    assert float(found["loss"]) == pytest.approx(loss.item(), rel=CLOSE)
    whole = torch.cat([own.flatten() for own in gradients.values()]).norm()
    assert float(found["norm"]) == pytest.approx(float(whole), rel=CLOSE)
    scale = min(1.0, CLIP / float(whole))
    for own, their in pairs.items():
        gradient, reference = ours[own].grad, gradients[their] * scale
        assert gradient is not None
        assert float((gradient - reference.reshape(gradient.shape)).norm()) < CLOSE * float(whole) * scale, own
        after = parameters[their].detach().reshape(gradient.shape)
        assert float((ours[own].detach() - after).norm() / after.norm()) < CLOSE, own


@pytest.mark.parametrize("reads", READS)
def test_at_first_its_tokens_are_faint(reads: str, model: Path, images: Path, encoder: Path, tmp_path: Path) -> None:
    """Its keys and values are those of the text."""
    task = taught(model, images, encoder, tmp_path, image_prompt__reads=reads, image_prompt__layers=1)
    net = diffusers.UNet2DConditionModel.from_pretrained(model / "unet")
    theirs = [own for name, own in net.named_parameters() if "attn2.to_k" in name or "attn2.to_v" in name]
    prompt = pupil(task).prompt
    ours = [own.get_parameter("weight") for own in (*prompt.net.to_k, *prompt.net.to_v)]
    assert len(ours) == len(theirs)
    assert all(any(own.shape == their.shape and torch.equal(own, their) for their in theirs) for own in ours)
    assert all(not p.requires_grad for p in (*task.base.net.parameters(), *pupil(task).encoder.net.parameters()))
    tokens, _ = prompt.tokens(pupil(task)._features(task.maker(0)))
    assert tokens.shape == (3, 4, 32)
    assert torch.allclose(tokens.std(-1, correction=0), torch.tensor(0.1), atol=1e-3)


@pytest.mark.parametrize("reads", READS)
def test_its_file_acts_as_what_was_taught(reads: str, model: Path, images: Path, encoder: Path, tmp_path: Path) -> None:
    from training_support import known, recipe, trained

    changes = told(model, images, encoder, image_prompt__reads=reads, image_prompt__layers=1)
    chosen = recipe("image-prompt", changes)
    trained(chosen, tmp_path)
    path = known()["image-prompt"].export(chosen, tmp_path)
    identity = identify(open_any(path))
    assert identity is not None
    assert (identity.kind, identity.variant) == ("ip_adapter", "base" if reads == "embedding" else "plus")
    assert open_any(path).metadata["ss_base_model_version"] == "sd_v1"
    net = open_steering(path, open_checkpoint(model), torch.float32)
    assert isinstance(net, ImagePrompt)
    task = teaching.task("image-prompt", changes, tmp_path / "again")
    from atelier.train.teaching.writing import learned

    pupil(task).prompt.net.load_state_dict(learned(tmp_path)["image_prompt"])
    batch, x = task.maker(0), torch.randn(3, 4, 8, 8)
    cond, t = Conditioning(torch.randn(3, 77, 32)), torch.tensor([5, 500, 900])
    with torch.no_grad():
        expected: Ports = pupil(task).ports(batch, x, t, cond)
        shown = [pupil(task).seen.of(own) for own in batch]
        tokens, _ = net.tokens(image_features(open_image_encoder(encoder), shown, net.needs))
        found = net.ports(tokens, Acting(), {})
        wanted, made = (task.base.net(x, t, cond, ports) for ports in (expected, found))
        without = task.base.net(x, t, cond)
    # A training encodes its images one at a time, this test all at once: sums of another order.
    assert torch.allclose(made, wanted, atol=1e-5)
    assert float((made - without).abs().max()) > 1e-4


@pytest.mark.parametrize("reads", READS)
def test_tokens_first_learn_to_be_the_states_of_captions(
    reads: str, model: Path, images: Path, encoder: Path, tmp_path: Path
) -> None:
    """By the text encoder of transformers; then the denoiser's loss follows, and captions are left out as wanted."""
    more = {"image_prompt__reads": reads, "image_prompt__layers": 1, "image_prompt__align": 2, "data__dropout": 1.0}
    task = taught(model, images, encoder, tmp_path, **more)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    batch, prompt = task.maker(0), pupil(task).prompt
    assert [bool(own.caption) for step in range(4) for own in task.maker(step)] == [True] * 6 + [False] * 6
    states = pipe.encode_prompt([own.caption for own in batch], "cpu", 1, do_classifier_free_guidance=False)[0]
    tokens = prompt.net.projection(seen(task, encoder, reads)[0])
    assert torch.allclose(tokens.std(-1, correction=0), torch.ones(()), atol=1e-3)
    wanted = F.mse_loss(tokens, states[:, :4])
    before = {name: own.clone() for name, own in prompt.net.state_dict().items()}
    assert float(task.update(0, batch)["loss"]) == pytest.approx(wanted.item(), rel=1e-4)
    moved = {name for name, own in prompt.net.state_dict().items() if not torch.equal(own, before[name])}
    assert moved == set(below(prompt.net, "projection"))
    other = taught(model, images, encoder, tmp_path / "plain", **{**more, "image_prompt__align": 0})
    pupil(other).prompt.net.load_state_dict(prompt.net.state_dict())
    assert task.update(2, task.maker(2))["loss"] == other.update(2, other.maker(2))["loss"]


def test_it_goes_on_from_a_file(model: Path, images: Path, encoder: Path, tmp_path: Path) -> None:
    from training_support import known, recipe, trained

    chosen = recipe("image-prompt", told(model, images, encoder, dtype="fp32"))
    trained(chosen, tmp_path / "first")
    path = known()["image-prompt"].export(chosen, tmp_path / "first")
    more = {"image_prompt__begin": str(path)}
    task = taught(model, images, encoder, tmp_path / "second", **more)
    from atelier.train.teaching.writing import learned

    expected = learned(tmp_path / "first")["image_prompt"]
    assert all(torch.equal(own, expected[name]) for name, own in pupil(task).prompt.net.state_dict().items())
    before = task.identity
    os.utime(path, (1, 1))
    assert taught(model, images, encoder, tmp_path / "second", **more).identity != before, "another file, maybe"
    with pytest.raises(BadFile, match=r"is no IP-Adapter of the shape that is taught \(LinearSpec\(.*tokens=5"):
        taught(model, images, encoder, tmp_path / "third", image_prompt__tokens=5, **more)


@pytest.mark.parametrize("align", [0, 1, 3])
def test_one_that_was_stopped_goes_on_as_if_nothing_had_happened(
    align: int, model: Path, images: Path, encoder: Path, tmp_path: Path
) -> None:
    from training_support import events, known, losses, recipe, trained

    chosen = recipe("image-prompt", told(model, images, encoder, image_prompt__align=align))
    whole = losses(trained(chosen, tmp_path / "whole"))
    happened: list[Any] = []
    with pytest.raises(Interrupted):
        happened.extend(events(chosen, tmp_path / "broken", stop=lambda: len(losses(happened)) >= 2))
    happened.extend(events(chosen, tmp_path / "broken"))
    assert losses(happened) == whole
    files = [known()["image-prompt"].export(chosen, tmp_path / name) for name in ("whole", "broken")]
    ours, theirs = (load_file(path) for path in files)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours.keys() | theirs.keys())


def test_images_in_a_folder_are_seen_in_place_of_the_training_images(
    model: Path, images: Path, encoder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    for number, path in enumerate(sorted(images.glob("*.png"))):
        Image.new("RGB", (40, 30), (number, 20, 30)).save(folder / path.name)
    task = taught(model, images, encoder, tmp_path / "run", image_prompt__references=str(folder))
    number = sorted(path.name for path in images.glob("*.png")).index(task.maker(0)[0].path.name)
    shown = pupil(task).seen.of(task.maker(0)[0])
    assert (shown.size, shown.getpixel((0, 0))) == ((40, 30), (number, 20, 30))


def test_in_validation_the_rows_without_a_prompt_see_no_image(
    model: Path, images: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first half of them (`train.sampling.sampled`): guidance compares with no image, as when it generates."""
    task, given = taught(model, images, encoder, tmp_path), list[Tensor]()
    own = pupil(task).prompt
    ports = type(own).ports

    def watched(self: Any, tokens: Tensor, *rest: Any) -> Ports:
        given.append(tokens)
        return ports(self, tokens, *rest)

    monkeypatch.setattr(type(own), "ports", watched)
    task.generate(["a cat", "a dog"])
    first, *_ = given
    _, nothing = own.tokens(pupil(task)._features(task.maker(0)[:1]))
    assert torch.equal(first[:2], nothing.expand(2, -1, -1))
    assert (first[2:] - nothing).abs().amax((1, 2)).min().item() > 1e-3


def test_what_cannot_be_is_told(model: Path, images: Path, encoder: Path, tmp_path: Path) -> None:
    for more, why in (
        ({"image_prompt__encoder": ""}, "model: has no encoder of images of its own: name one as image_prompt.encoder"),
        ({"image_prompt__encoder": str(model / "unet")}, "has no weights of an image encoder"),
        ({"image_prompt__references": str(tmp_path)}, r"is not there: .* needs one of its name"),
        ({"image_prompt__tokens": 0}, "image_prompt.tokens"),
    ):
        with pytest.raises((BadFile, BadInput), match=why):
            first_step(model, images, encoder, tmp_path / "run", **more)


def first_step(model: Path, images: Path, encoder: Path, folder: Path, **more: Any) -> None:
    task = taught(model, images, encoder, folder, **more)
    task.update(0, task.maker(0))
