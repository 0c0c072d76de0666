"""What the three trainings compute, against closed forms and against transformers; and that they learn."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import training_support as support
from atelier.checkpoints.embedded import embedded_folder
from atelier.checkpoints.opening import open_checkpoint
from atelier.diffusion.levels import scaled_linear
from atelier.diffusion.parameterization import EPSILON, VELOCITY
from atelier.errors import BadFile, BadInput, NotFinite
from atelier.families.parts import UNET
from atelier.models.clip import TextSpec, VisionSpec
from atelier.models.unet import UNet
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.nn.conv import channels_last
from atelier.nn.ports import Conditioning
from atelier.request.events import Stepped, Validated
from atelier.train import objective
from atelier.train.batches import Order, captioned, stack
from atelier.train.ema import Ema
from atelier.train.latents import PoolBatches
from atelier.train.loop import averaged
from atelier.train.moving import moved
from atelier.train.muon import Muon, orthogonal, whitening
from atelier.train.objective import ClampedSnr
from atelier.train.optimizers import adamw, clipped, optimizers
from atelier.train.pace import Pace
from atelier.train.parts import part_settings, part_weights
from atelier.train.recipe import Data, Optim
from atelier.train.runs import export_clip, export_model, export_vae, frozen
from atelier.train.sources import dataset
from atelier.train.starts import Vae, towers_at, unet_at, vae_at
from atelier.train.tasks.clip import Clip, ClipTask, assembled, contrastive_loss, normalised, retrieval
from atelier.train.tasks.critic import Critic
from atelier.train.tasks.denoiser import DenoiserTask, dropped
from atelier.train.tasks.images import psnr, to_images, to_pixels
from atelier.train.tasks.vae import VaeTask, disturbed, gradient_loss, latent_scale
from atelier.train.vocabulary import learn
from atelier.weights.names import clip as clip_names
from atelier.weights.tokenizer import BOS, END_OF_WORD, EOS, ClipTokenizer, byte_letters

pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(support.draw_images(tmp_path_factory.mktemp("data") / "pictures", 48))


# The objective


def test_velocity_is_its_closed_form() -> None:
    """v = sqrt(abar) noise - sqrt(1 - abar) clean (Salimans and Ho 2022, section 4)."""
    clean, noise = torch.randn(2, 6, 3, 4, 4, dtype=torch.float64)
    sigma = scaled_linear().sigmas[[0, 1, 300, 600, 900, 999]].double()
    abar = (1 / (1 + sigma**2))[:, None, None, None]
    x = VELOCITY.noised(clean, noise, sigma)
    assert torch.allclose(VELOCITY.target(clean, x, sigma), abar.sqrt() * noise - (1 - abar).sqrt() * clean, atol=1e-10)
    assert torch.allclose(VELOCITY.scale_in(x, sigma), abar.sqrt() * clean + (1 - abar).sqrt() * noise)
    assert torch.allclose(EPSILON.target(clean, EPSILON.noised(clean, noise, sigma), sigma), noise, atol=1e-10)


def test_the_weight_is_its_closed_form() -> None:
    """min(SNR, 5) / SNR for epsilon, min(SNR, 5) / (SNR + 1) for velocity (Hang 2023, section 3.4), with a floor."""
    sigma = torch.tensor([0.0292, 0.2, 5**-0.5, 1.0, 3.0, 14.6146], dtype=torch.float64)
    for floor in (0.0, 1.0):
        for s, epsilon, velocity in zip(
            sigma.tolist(),
            objective.weight(EPSILON, ClampedSnr(floor, 5.0), sigma).tolist(),
            objective.weight(VELOCITY, ClampedSnr(floor, 5.0), sigma).tolist(),
            strict=True,
        ):
            snr = 1 / s**2
            assert epsilon == pytest.approx(max(min(snr, 5), floor) / snr)
            assert velocity == pytest.approx(max(min(snr, 5), floor) / (snr + 1))
    weight = objective.weight(VELOCITY, ClampedSnr(0.0, 1e9), sigma)
    assert weight[0] == pytest.approx(1, abs=1e-3), "without a bound it is the plain error of the velocity"


@pytest.mark.parametrize("parameterization", [EPSILON, VELOCITY], ids=lambda p: p.name)
def test_the_loss_is_the_weighted_error_of_the_clean_latent(parameterization: Any) -> None:
    levels, t = scaled_linear(), torch.tensor([0, 250, 700, 999])
    clean, noise, output = torch.randn(3, 4, 2, 4, 4)
    asked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def net(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        asked.append((x, time))
        return output

    found = objective.loss(net, parameterization, levels, clean, noise, t, ClampedSnr(0.0, 5.0))
    sigma = levels.sigmas[t]
    x = clean + sigma[:, None, None, None] * noise
    denoised = parameterization.denoised(output, x, sigma)
    expected = (sigma**-2).clamp_max(5) * (denoised - clean).square().flatten(1).mean(1)
    assert torch.allclose(found, expected, rtol=2e-3)
    assert torch.equal(asked[0][1], t.float())
    assert torch.allclose(asked[0][0], x / (1 + sigma**2).sqrt()[:, None, None, None])
    perfect = objective.loss(
        lambda *_: parameterization.target(clean, x, sigma),
        parameterization,
        levels,
        clean,
        noise,
        t,
        ClampedSnr(0.0, 5.0),
    )
    assert perfect.abs().max() < 1e-10


def test_detail_weighs_what_halving_the_resolution_would_lose() -> None:
    """A checkerboard of error is all detail, a flat one none."""
    levels, clean = scaled_linear(), torch.zeros(1, 1, 4, 4)
    t = torch.tensor([500])
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(2, 2)[None, None]
    plain = {}
    for name, error in (("board", board), ("flat", torch.ones(1, 1, 4, 4))):
        for detail in (0.0, 2.0):
            arguments = (EPSILON, levels, clean, torch.zeros(1, 1, 4, 4), t, ClampedSnr(0.0, 5.0), detail)
            plain[name, detail] = float(objective.loss(lambda x, _, e=error: e, *arguments))
    assert plain["board", 2.0] == pytest.approx(3 * plain["board", 0.0])
    assert plain["flat", 2.0] == pytest.approx(plain["flat", 0.0])


def test_what_is_finer_than_two_positions_also_of_odd_sides() -> None:
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    expected = torch.tensor([[-2.0, -1.0, -1.5], [1.0, 2.0, 1.5], [-0.5, 0.5, 0.0]])
    assert torch.equal(objective.fine(x)[0, 0], expected)


def test_the_pace_warms_up_stays_and_cools_down() -> None:
    pace = Pace(steps=100, warmup=10, cooldown=20)
    factors = [pace.factor(step) for step in range(100)]
    assert factors[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert factors[9:80] == [1.0] * 71
    assert factors[80:] == pytest.approx([1 - math.sqrt(n / 21) for n in range(1, 21)])
    assert 0 < factors[-1] < 0.03
    assert Pace(1000, 10, 200).factor(50) == 1.0, "a longer run is the same until its cool-down"
    assert Pace(100, 0, 0).factor(0) == Pace(100, 0, 0).factor(99) == 1.0


def test_the_average_warms_up() -> None:
    net = torch.nn.Linear(3, 2)
    ema, expected = Ema(net, 0.5), {name: p.detach().clone() for name, p in net.named_parameters()}
    for step in range(20):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter))
        ema.update(net, step)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, parameter in net.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach()
    assert all(torch.allclose(ema.average[name], value, atol=1e-6) for name, value in expected.items())


def test_without_a_decay_no_copy_is_kept() -> None:
    net = torch.nn.Linear(3, 2)
    ema = Ema(net, 0.0)
    with torch.no_grad():
        net.weight.add_(1)
    ema.update(net, 5)
    assert ema.average["weight"].data_ptr() == net.weight.data_ptr()
    assert torch.equal(ema.average["weight"], net.weight)


def test_decay_is_for_matrices_and_the_norm_is_of_all() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.GroupNorm(1, 2))
    optimizer = adamw([net], Optim(rate=1e-3, weight_decay=0.1))
    assert [(g["weight_decay"], len(g["params"])) for g in optimizer.param_groups] == [(0.1, 1), (0.0, 3)]
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    count = sum(p.numel() for p in net.parameters())
    assert float(clipped(net.parameters(), 0.5)) == pytest.approx(count**0.5)
    total = sum(float(p.grad.square().sum()) for p in net.parameters() if p.grad is not None)
    assert total**0.5 == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("shape", [(16, 16), (8, 200), (200, 8), (64, 96)])
def test_orthogonal_keeps_the_directions_and_evens_their_lengths(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    made = left.T @ orthogonal(matrix) @ right.T
    evened = made.diagonal()
    assert torch.allclose(made, torch.diag(evened), atol=1e-4)
    assert evened.min() > 0.6
    assert evened.max() < 1.35
    assert orthogonal(torch.zeros(shape)).abs().max() == 0


def test_muon_moves_matrices_and_kernels_and_adamw_the_rest() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3).to(memory_format=torch.channels_last),
        torch.nn.Conv2d(4, 6, 3),
        torch.nn.Conv2d(6, 2, 1),
    )
    made = optimizers("net", net, Optim(rate=1e-2, kind="muon", weight_decay=0.1), outer=("0.",))
    assert list(made) == ["net", "net.vectors"]
    muon, adam = made.values()
    assert isinstance(muon, Muon)
    names = {id(p): name for name, p in net.named_parameters()}
    assert [names[id(p)] for g in muon.param_groups for p in g["params"]] == ["1.weight", "2.weight"]
    assert {names[id(p)] for g in adam.param_groups for p in g["params"]} == {"0.weight", "0.bias", "1.bias", "2.bias"}
    before = net[1].weight.detach().clone()
    net(torch.randn(1, 2, 9, 9)).square().sum().backward()
    muon.step()
    gradient = net[1].weight.grad
    assert gradient is not None
    step = 0.2 * 36**0.5 * orthogonal(gradient.reshape(6, 36)).view(gradient.shape)
    assert torch.allclose(net[1].weight, before * (1 - 1e-2 * 0.1) - 1e-2 * step, atol=1e-5)
    assert list(optimizers("net", net, Optim(rate=1e-2), outer=("0.",))) == ["net"]


def test_whitening_evens_what_a_layer_reads() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([10.0, 1.0, 0.1, 0.0])
    inputs = (
        torch.randn(50, 40, 4, generator=generator)
        * spread
        @ torch.linalg.qr(torch.randn(4, 4, generator=generator))[0]
    )
    rows = (inputs @ whitening(inputs, 3.0)).flatten(0, 1)
    squares = rows.T @ rows / len(rows)
    assert torch.allclose(squares[1:, 1:], 9 * torch.eye(3), atol=1e-2)
    assert squares[0, 0] < 1e-3, "what is not there is not made large"


def test_muon_moves_a_matrix_with_a_basis_as_if_it_read_in_it() -> None:
    """The same function of the same inputs, written in the basis, is moved to the same function."""
    generator = torch.Generator().manual_seed(0)
    basis, inputs, target = (torch.randn(shape, generator=generator) for shape in ((5, 5), (30, 5), (30, 3)))
    plain = torch.nn.Parameter(torch.randn(3, 5, generator=generator))
    there = torch.nn.Parameter(torch.linalg.solve(basis, plain.detach().T).T.contiguous())
    for parameter, read, bases in ((plain, inputs, {plain: basis}), (there, inputs @ basis, {})):
        muon = Muon([parameter], 0.1, bases=bases)
        for _ in range(3):
            muon.zero_grad()
            (read @ parameter.T - target).square().mean().backward()
            muon.step()
    assert torch.allclose(inputs @ plain.T, inputs @ basis @ there.T, rtol=1e-3, atol=1e-4)


# The autoencoder


def vae_task(source: str, **changes: Any) -> VaeTask:
    task = support.task(support.recipe("vae", {"data.source": source, **changes}), Path())
    assert isinstance(task, VaeTask)
    return task


def weights(task: VaeTask) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in task.vae.state_dict().items()}


def test_pixels_there_and_back(source: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    image = to_pixels(pixels)
    assert (image.shape, float(image.min()) >= -1, float(image.max()) <= 1) == ((2, 3, 5, 7), True, True)
    assert np.array_equal(to_images(image), pixels)
    assert np.array_equal(
        to_images(image * 3),
        np.clip((image.permute(0, 2, 3, 1).numpy() * 3 + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8),
    )


def test_psnr_and_gradients_are_their_closed_forms() -> None:
    one, other = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    other[0] += 0.2
    other[1, :, :, 2:] = 0.5
    assert psnr(one, other)[0] == pytest.approx(20, abs=1e-3)
    assert gradient_loss(other[:1], one[:1]) == 0
    assert gradient_loss(other[1:], one[1:]) == pytest.approx(0.5 / 3), "one column of three differences across"


def test_a_flat_picture_keeps_its_colour_at_the_start(source: str) -> None:
    """What `initialise` is for: latents of flat images are a linear function of their colour."""
    vae = vae_task(source).vae.eval()
    levels = torch.linspace(-1, 1, 5)
    with torch.no_grad():
        latents = vae.encode(levels[:, None, None, None].expand(5, 3, 16, 16)).mode()[..., 4, 4]
    steps = (latents[1:] - latents[:-1]).norm(dim=1)
    assert steps.min() > 0.3 * steps.max() > 0.05


def test_the_adversarial_term_changes_the_weights_from_its_first_step(source: str) -> None:
    with_it, without = vae_task(source, **{"loss.gan_start": 1}), vae_task(source, **{"loss.gan": 0.0})
    assert all(torch.equal(a, b) for a, b in zip(weights(with_it).values(), weights(without).values(), strict=True))
    for step in range(2):
        batch = with_it.maker(step)
        names = [set(task.update(step, batch)) for task in (with_it, without)]
        same = all(torch.equal(a, b) for a, b in zip(weights(with_it).values(), weights(without).values(), strict=True))
        assert same == (step == 0)
        assert names[0] - names[1] == (set() if step == 0 else {"fooled", "critic"})


def test_without_the_adversarial_term_there_is_no_critic(source: str) -> None:
    task = vae_task(source, **{"loss.gan": 0.0, "optim.kind": "adamw"})
    assert task.aids == {}
    assert task.optimizers.keys() == {"vae"}
    adversarial = vae_task(source, **{"optim.kind": "adamw"})
    assert adversarial.aids.keys() == {"critic"}
    assert adversarial.optimizers.keys() == {"vae", "critic"}


def test_the_critic_learns_to_tell(source: str) -> None:
    """Taught on two fixed batches, its hinge loss falls from about 1 to nearly nothing."""
    chosen = support.recipe("vae", {"data.source": source, "loss.gan_rate": 1e-2})
    real = to_pixels(vae_task(source).maker(0))
    torch.manual_seed(0)
    critic = Critic(chosen, support.placement())
    told = [float(critic.taught(real, -real)) for _ in range(40)]
    assert told[0] > 0.7
    assert told[-1] < 0.2


def test_latents_have_unit_deviation_at_the_measured_scale(source: str, parts: dict[str, str]) -> None:
    vae, data = frozen(Path(parts["vae"]), Path(parts["clip"])).vae, dataset(Data(source=source, size=16), "train")
    scale = latent_scale(vae, data)
    assert data.length is not None
    with torch.no_grad():
        latents = vae.encode(to_pixels(stack(data, range(data.length)))).mode() * scale
    assert float(latents.std()) == pytest.approx(1, abs=1e-4)
    assert part_settings(Path(parts["vae"]), "vae")["latent_scale"] == pytest.approx(scale)
    with torch.no_grad():
        vae.get_parameter("quant_conv.weight").zero_()
        vae.get_parameter("quant_conv.bias").zero_()
    with pytest.raises(NotFinite, match="latents have scale inf"):
        latent_scale(vae, data)


def test_only_the_decoder_learns_when_asked(source: str, parts: dict[str, str]) -> None:
    begun = vae_task(source, begin=parts["vae"], learn="decoder")
    begun.begin()
    before = weights(begun)
    for step in range(3):
        begun.update(step, begun.maker(step))
    changed = {name for name, tensor in weights(begun).items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in changed)
    assert all(torch.equal(before[name], tensor) for name, tensor in part_weights(Path(parts["vae"])).items())
    with pytest.raises(BadFile, match="an autoencoder of another shape"):
        vae_task(source, begin=parts["vae"], **{"model.widths": [8, 32]}).begin()


@pytest.mark.parametrize("kind", ["vae", "denoiser"])
def test_what_a_run_began_from_is_not_needed_to_go_on(
    kind: str, source: str, parts: dict[str, str], tmp_path: Path
) -> None:
    few = {"data.source": source, **(parts if kind == "denoiser" else {})}
    first, second = tmp_path / "first", tmp_path / "second"
    if kind == "vae":
        shutil.copytree(parts["vae"], first)
    else:
        support.trained(support.recipe(kind, {**few, "run.steps": 2}), first)
    begun = {**few, "begin": str(first)}
    support.trained(support.recipe(kind, {**begun, "run.steps": 1}), second)
    first.rename(tmp_path / "elsewhere")
    support.trained(support.recipe(kind, {**begun, "run.steps": 2}), second)
    with pytest.raises(BadFile, match="first"):
        support.trained(support.recipe(kind, {**begun, "run.steps": 2}), tmp_path / "third")


def test_disturbed_latents_differ_by_their_own_share_of_the_deviation() -> None:
    latent = (3 * torch.randn(400, 4, 8, 8, generator=torch.Generator().manual_seed(0))).requires_grad_()
    assert torch.equal(disturbed(latent, 0.0, 0, 0), latent)
    noise = disturbed(latent, 0.5, 0, 7) - latent
    shares = noise.detach().flatten(1).std(1) / 3
    assert float(shares.max()) < 0.6
    assert float(shares.mean()) == pytest.approx(0.25, abs=0.02)
    assert float(shares.std()) == pytest.approx(0.5 / 12**0.5, abs=0.02)
    disturbed(latent, 0.5, 0, 7).sum().backward()
    assert latent.grad is not None
    assert torch.equal(latent.grad, torch.ones_like(latent)), "the deviation is no way to a smaller loss"


def test_the_decoder_is_taught_on_disturbed_latents(source: str) -> None:
    losses = {
        share: vae_task(source, **{"loss.noise": share, "loss.gan": 0.0}).update(0, vae_task(source).maker(0))["l1"]
        for share in (0.0, 2.0)
    }
    assert float(losses[0.0]) != float(losses[2.0])


# CLIP


def test_the_contrastive_loss_is_that_of_transformers(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    text = TextSpec(vocab=90, width=24, layers=2, heads=3, mlp=48, positions=12, projection=10, eos=89)
    vision = VisionSpec(image=16, patch=8, width=20, layers=2, heads=2, mlp=40, projection=10)
    torch.manual_seed(3)
    ours = Clip(text, vision).eval()
    torch.nn.init.normal_(ours.vision.class_embedding)
    theirs = CLIPModel(
        CLIPConfig(
            text_config=CLIPTextConfig(
                vocab_size=90,
                hidden_size=24,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=3,
                max_position_embeddings=12,
                eos_token_id=89,
                bos_token_id=88,
                pad_token_id=89,
            ).to_dict(),
            vision_config=CLIPVisionConfig(
                hidden_size=20,
                intermediate_size=40,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=16,
                patch_size=8,
            ).to_dict(),
            projection_dim=10,
        )
    ).eval()
    state = {name.diffusers: ours.text.state_dict()[name.ours] for name in clip_names.names(text)}
    state |= {name.diffusers: ours.vision.state_dict()[name.ours] for name in clip_names.vision_names(vision)}
    missing = theirs.load_state_dict({**state, "logit_scale": ours.logit_scale.data}, strict=False)
    assert not missing.unexpected_keys
    assert all(key.endswith("position_ids") for key in missing.missing_keys)
    tokens = torch.randint(0, 88, (5, 12))
    tokens[torch.arange(5), torch.tensor([3, 5, 7, 9, 11])] = 89
    pixels = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), np.uint8)
    image = normalised(pixels, torch.device("cpu"))
    with torch.no_grad():
        expected = theirs(input_ids=tokens, pixel_values=image, return_loss=True)
        texts, images = ours.embed_text(tokens), ours.embed_image(image)
        found = contrastive_loss(texts, images, ours.logit_scale.exp())
    assert torch.allclose(texts, expected.text_embeds, atol=1e-5)
    assert torch.allclose(images, expected.image_embeds, atol=1e-5)
    assert float(found) == pytest.approx(float(expected.loss), abs=1e-5)


def test_pictures_are_normalised_as_clip_does() -> None:
    from transformers import CLIPImageProcessor

    pixels = np.random.default_rng(2).integers(0, 256, (2, 16, 16, 3), np.uint8)
    processor = CLIPImageProcessor(do_resize=False, do_center_crop=False)
    expected = processor(list(pixels), return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    assert torch.allclose(normalised(pixels, torch.device("cpu")), expected, atol=1e-5)


THINGS = ("cat", "café", "teapot")
CAPTIONS = [
    f"a {size} {colour} {thing}, it's on a table"
    for size in ("big", "small")
    for colour in support.COLOURS
    for thing in THINGS
]


def test_a_learned_vocabulary_has_the_layout_of_clip() -> None:
    vocabulary = learn(CAPTIONS, 600, 16)
    tokens = sorted(vocabulary.vocabulary, key=lambda token: vocabulary.vocabulary[token])
    letters = list(byte_letters())
    assert tokens[:256] == letters
    assert tokens[256:512] == [letter + END_OF_WORD for letter in letters]
    assert tokens[512:-2] == ["".join(merge) for merge in vocabulary.merges]
    assert tokens[-2:] == [BOS, EOS]
    assert 540 < vocabulary.size <= 600
    assert list(vocabulary.vocabulary.values()) == list(range(vocabulary.size))
    assert [tokens[i] for i in vocabulary.encode("a small teapot")] == ["a</w>", "small</w>", "teapot</w>"]
    assert learn(CAPTIONS, 600, 16).merges == vocabulary.merges, "learned the same every time"
    assert learn(CAPTIONS, 514, 16).merges == ()
    assert learn(CAPTIONS, 520, 16).merges == vocabulary.merges[:6]


def test_transformers_reads_a_learned_vocabulary(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    vocabulary = learn(CAPTIONS, 600, 16)
    vocabulary.save(tmp_path / "tokenizer")
    theirs = CLIPTokenizer.from_pretrained(str(tmp_path / "tokenizer"))
    for text in (*CAPTIONS[:3], "Unseen words, 12 émigrés!", "", "cat " * 30):
        expected = theirs(text, padding="max_length", truncation=True, max_length=16).input_ids
        assert vocabulary.ids(text) == expected, text
    assert ClipTokenizer.from_folder(tmp_path / "tokenizer").same_as(vocabulary)


def test_a_new_clip_run_learns_its_vocabulary_anew(source: str, tmp_path: Path) -> None:
    """What an earlier start without a checkpoint left, or half of it, is not taken for this recipe's."""
    learn(CAPTIONS, 514, 9).save(tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / "vocab.json").unlink()
    task = support.task(support.recipe("clip", {"data.source": source}), tmp_path)
    assert isinstance(task, ClipTask)
    assert task.vocabulary.positions == 16
    assert task.vocabulary.merges
    assert task.vocabulary.same_as(ClipTokenizer.from_folder(tmp_path / "tokenizer"))


def test_a_new_vision_tower_for_a_finished_text_tower(source: str, parts: dict[str, str], tmp_path: Path) -> None:
    chosen = support.recipe("clip", {"data.source": source, "begin": parts["clip"], "model.vision_width": 24})
    support.trained(chosen, tmp_path)
    export_clip(tmp_path, chosen)
    before, after = assembled(towers_at(Path(parts["clip"]))), assembled(towers_at(tmp_path))
    assert after.vision.spec.width == 24
    for name, tensor in before.text.state_dict().items():
        assert torch.equal(after.text.state_dict()[name], tensor)
    with pytest.raises(BadFile, match="a text tower of another shape"):
        support.task(
            support.recipe("clip", {"data.source": source, "begin": parts["clip"], "model.layers": 2}), tmp_path / "x"
        ).begin()


# The denoiser


def denoiser_task(source: str, parts: dict[str, str], folder: Path, **changes: Any) -> DenoiserTask:
    task = support.task(support.recipe("denoiser", {"data.source": source, **parts, **changes}), folder)
    assert isinstance(task, DenoiserTask)
    return task


def test_a_folder_of_images_is_shuffled_from_the_first_epoch_on(
    source: str, parts: dict[str, str], tmp_path: Path
) -> None:
    task = denoiser_task(source, parts, tmp_path)
    assert isinstance(task.maker, PoolBatches)
    assert task.maker.order == Order(44, 4, task.recipe.run.seed, first_in_turn=False, rank=0, world=1)


def test_steps_go_through_the_compiled_network_where_the_recipe_says_so(
    source: str, parts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And validation does not: its batches have other shapes, for each of which torch would compile anew."""
    seen: list[int] = []

    def fake(net: UNet, *, dynamic: bool) -> Any:
        assert not dynamic

        def call(x: torch.Tensor, t: torch.Tensor, conditioning: Any) -> torch.Tensor:
            seen.append(len(x))
            return net(x, t, conditioning)

        return call

    monkeypatch.setattr(torch, "compile", fake)
    support.trained(support.recipe("denoiser", {"data.source": source, **parts, "compile": True}), tmp_path / "a")
    assert seen == [4] * 9
    support.trained(support.recipe("denoiser", {"data.source": source, **parts}), tmp_path / "b")
    assert len(seen) == 9
    ours, plain = (support.result(tmp_path / name)["unet.safetensors"] for name in "ab")
    assert ours == plain


@pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")  # of torch.compile itself
def test_without_a_compiler_the_way_out_is_named(
    source: str, parts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "/nowhere/g++"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    chosen = support.recipe("denoiser", {"data.source": source, **parts, "compile": True})
    with pytest.raises(BadInput, match=r"^compile = true: .*C\+\+ compiler.*set compile = false$"):
        support.trained(chosen, tmp_path / "run")


def test_a_time_that_is_rounded_up_to_one_is_the_last_level(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = torch.nextafter(torch.ones(1), torch.zeros(1))
    monkeypatch.setattr("atelier.train.randomness.uniform", lambda shape, *_: largest.expand(shape))
    times = objective.strata(48, 0, 0)
    assert float(times.max()) == 1.0, "48 of them are where float32 rounds up"
    assert int(objective.indices(objective.shifted(times, 4.0), 1000).max()) == 999
    assert objective.indices(torch.tensor([0.0, 0.0009, 0.001, 0.5, 0.9999]), 1000).tolist() == [0, 0, 1, 500, 999]


def test_a_zero_terminal_denoiser_is_trained_and_exported_as_one(
    source: str, parts: dict[str, str], tmp_path: Path
) -> None:
    """Lin 2023 (arXiv:2305.08891): no signal at the last level, and diffusers begins its steps there."""
    chosen = support.recipe("denoiser", {"data.source": source, **parts, "run.steps": 1})
    support.trained(chosen, tmp_path)
    task = support.task(chosen, tmp_path)
    assert isinstance(task, DenoiserTask)
    assert task.levels.sigma_max == pytest.approx(4518.8, rel=1e-3)
    assert task.levels.sigma_min == pytest.approx(0.02917, rel=1e-3)
    scheduler = json.loads((export_model(tmp_path, chosen) / "scheduler/scheduler_config.json").read_text())
    assert scheduler["rescale_betas_zero_snr"] is True
    assert scheduler["timestep_spacing"] == "trailing"
    plain = support.recipe("denoiser", {"data.source": source, **parts, "loss.zero_snr": False})
    unchanged = support.task(plain, tmp_path / "plain")
    assert isinstance(unchanged, DenoiserTask)
    assert unchanged.levels.sigma_max == pytest.approx(14.6146, rel=1e-4)
    with pytest.raises(BadFile, match="pure noise says nothing about epsilon"):
        support.recipe("denoiser", {**parts, "loss.prediction": "epsilon"})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, source: str, parts: dict[str, str]) -> Path:
    """A whole model, made of one step."""
    folder = tmp_path_factory.mktemp("model")
    chosen = support.recipe("denoiser", {"data.source": source, **parts, "run.steps": 1})
    support.trained(chosen, folder)
    return export_model(folder, chosen)


def test_a_training_starts_from_a_model_as_from_the_runs_that_made_it(
    model: Path, source: str, parts: dict[str, str], tmp_path: Path
) -> None:
    """But for the half precision in which a model is written."""
    run = model.parent
    vae, of_run = vae_at(model), vae_at(Path(parts["vae"]))
    assert vae.spec == of_run.spec
    assert vae.latent_scale == of_run.latent_scale
    towers, of_runs = towers_at(model), towers_at(Path(parts["clip"]))
    assert (towers.text, towers.vision) == (of_runs.text, of_runs.vision)
    pairs = ((vae.tensors, of_run.tensors), (towers.tensors, of_runs.tensors), (unet_at(model), unet_at(run)))
    for ours, theirs in pairs:
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert tensor.dtype == torch.float32
            assert torch.allclose(tensor, theirs[name], rtol=1e-3, atol=1e-6), name
    begun = denoiser_task(source, {"vae": str(model), "clip": str(model)}, tmp_path, begin=str(model))
    begun.begin()
    assert all(torch.equal(p, unet_at(model)[name]) for name, p in begun.unet.named_parameters())
    assert math.isfinite(float(begun.update(0, begun.maker(0))["loss"]))
    assert vae_task(source, begin=str(model), learn="decoder").begin() is None
    others = support.draw_images(tmp_path / "others", 8)
    for caption in others.rglob("*.txt"):
        caption.write_text("zebra quilt", encoding="utf-8")
    clip = support.task(support.recipe("clip", {"data.source": str(others), "begin": str(model)}), tmp_path / "clip")
    assert isinstance(clip, ClipTask)
    assert clip.vocabulary.same_as(ClipTokenizer.from_folder(towers.vocabulary))


def test_a_denoiser_is_moved_to_the_latents_of_another_autoencoder(model: Path, source: str, tmp_path: Path) -> None:
    """New latents that are M times the old ones: the moved network makes of M x what M makes of its own output."""
    old = vae_at(model)
    mixing = torch.linalg.qr(torch.randn(5, 4, generator=torch.Generator().manual_seed(2))).Q
    twice = torch.block_diag(mixing, mixing)
    spec = replace(old.spec, latent=5)
    net = AutoencoderKL(spec)
    tensors = {name: t for name, t in old.tensors.items() if t.shape == net.state_dict()[name].shape}
    with torch.no_grad():
        whole = torch.einsum(
            "oc,cikl->oikl", old.tensors["quant_conv.weight"][..., 0, 0], old.tensors["encoder.conv_out.weight"]
        )
        bias = old.tensors["quant_conv.weight"][..., 0, 0] @ old.tensors["encoder.conv_out.bias"]
        tensors["encoder.conv_out.weight"] = torch.einsum("oc,cikl->oikl", twice, whole)
        tensors["encoder.conv_out.bias"] = twice @ (bias + old.tensors["quant_conv.bias"])
    tensors = {**net.state_dict(), **tensors}
    tensors["quant_conv.weight"], tensors["quant_conv.bias"] = torch.eye(10)[..., None, None], torch.zeros(10)
    own = Vae(spec, tensors, old.latent_scale)
    stored = unet_at(model)
    stored = {
        name: t + 0.1 * torch.randn(t.shape, generator=torch.Generator().manual_seed(len(name)))
        for name, t in stored.items()
    }
    made = moved(stored, model, own, support.recipe("denoiser", {"data.source": source, "vae": "x", "clip": "x"}).data)
    shape = open_checkpoint(model).spec(UNET)
    before, after = UNet(shape).eval(), UNet(replace(shape, in_channels=5, out_channels=5)).eval()
    before.load_state_dict(stored)
    after.load_state_dict(made)
    x, t, states = torch.randn(2, 4, 8, 8), torch.tensor([10.0, 900.0]), Conditioning(torch.randn(2, 7, shape.context))
    mixed = torch.einsum("nc,bchw->bnhw", mixing, x)
    with torch.no_grad():
        wanted = torch.einsum("nc,bchw->bnhw", mixing, before(x, t, states))
        assert (after(mixed, t, states) - wanted).norm() < 0.02 * wanted.norm()
    with pytest.raises(BadInput, match="no model that has them"):
        moved(stored, tmp_path, own, Data(source=source, size=16))


def test_a_start_of_other_latents_is_moved_where_it_begins(
    model: Path, source: str, parts: dict[str, str], tmp_path: Path
) -> None:
    wider = tmp_path / "vae"
    chosen = support.recipe("vae", {"data.source": source, "run.steps": 1, "model.latent": 6})
    support.trained(chosen, wider)
    export_vae(wider, chosen)
    task = denoiser_task(source, {**parts, "vae": str(wider)}, tmp_path / "run", begin=str(model))
    task.begin()
    stored = unet_at(model)
    own = dict(task.unet.named_parameters())
    assert own["conv_in.weight"].shape[1] == 6
    assert all(torch.equal(own[name], stored[name]) for name in own if not name.startswith(("conv_in.w", "conv_out")))
    expected = moved(stored, model, vae_at(wider), task.recipe.data)
    assert all(torch.equal(own[name], expected[name]) for name in own)


@pytest.mark.parametrize("learn", ["decoder", "all"])
def test_a_start_is_moved_where_its_autoencoder_went_on(
    learn: str, model: Path, source: str, parts: dict[str, str], tmp_path: Path
) -> None:
    """Latents of the same shape are others once their encoder has learned; a new decoder alone changes none."""
    later = tmp_path / "vae"
    chosen = support.recipe(
        "vae", {"data.source": source, "begin": parts["vae"], "learn": learn, "run.steps": 3, "optim.rate": 0.02}
    )
    support.trained(chosen, later)
    export_vae(later, chosen)
    task = denoiser_task(source, {**parts, "vae": str(later)}, tmp_path / "run", begin=str(model))
    task.begin()
    stored, own = unet_at(model), dict(task.unet.named_parameters())
    expected = moved(stored, model, vae_at(later), task.recipe.data) if learn == "all" else stored
    assert all(torch.equal(own[name], expected[name]) for name in own)
    assert not torch.equal(
        vae_at(later).tensors["decoder.conv_out.weight"], vae_at(model).tensors["decoder.conv_out.weight"]
    )
    if learn == "all":
        assert (own["conv_in.weight"] - stored["conv_in.weight"]).norm() > 0.01 * stored["conv_in.weight"].norm()


def test_the_embedded_model_is_a_start_by_name() -> None:
    assert vae_at(Path("embedded")).spec == vae_at(embedded_folder()).spec
    assert towers_at(Path("embedded")).vocabulary == embedded_folder() / "tokenizer"


def test_text_gain_is_for_the_layers_that_read_text(source: str, parts: dict[str, str], tmp_path: Path) -> None:
    moved: dict[float, dict[str, torch.Tensor]] = {}
    for gain in (0.0, 8.0):
        task = denoiser_task(source, parts, tmp_path, **{"optim.kind": "muon", "optim.text_gain": gain})
        before = {name: p.detach().clone() for name, p in task.unet.named_parameters()}
        for step in range(3):
            task.update(step, task.maker(step))
        moved[gain] = {name: (p.detach() - before[name]).norm() for name, p in task.unet.named_parameters()}
    ratio = {name: float(moved[8.0][name] / moved[0.0][name].clamp_min(1e-12)) for name in moved[0.0]}
    readers = {name for name in ratio if ".attn2.to_" in name and name.split(".")[-2] in {"to_k", "to_v"}}
    assert readers
    assert min(ratio[name] for name in readers) > 3
    assert all(0.5 < ratio[name] < 2 for name in ratio if name not in readers and moved[0.0][name] > 1e-4)
    with pytest.raises(BadInput, match="text_gain"):
        support.recipe("denoiser", {"data.source": source, **parts, "optim.text_gain": 8.0, "optim.kind": "adamw"})


def test_times_are_spread() -> None:
    for step in range(20):
        drawn = objective.strata(8, 0, step)
        assert torch.equal((torch.sort(drawn).values * 8).floor(), torch.arange(8.0)), "one in every eighth"
        assert not torch.equal(drawn, objective.strata(8, 0, step + 1))
    times = objective.shifted((torch.arange(1000.0) + 0.5) / 1000, 3.0)
    assert float((times >= 0.5).float().mean()) == 0.75
    assert 0 < float(times.min()) < float(times.max()) < 1


def test_captions_are_dropped() -> None:
    tokens, empty = torch.full((400, 16), 7), torch.arange(16)
    found = dropped(tokens, empty, 0.25, 0, 3)
    emptied = (found == empty).all(1)
    assert 0.15 < float(emptied.float().mean()) < 0.35
    assert torch.equal(found[~emptied], tokens[~emptied])
    assert torch.equal(dropped(tokens, empty, 0.25, 0, 3), found)
    assert not torch.equal(dropped(tokens, empty, 0.25, 0, 4), found)


def test_at_the_start_the_velocity_is_nothing(source: str, parts: dict[str, str], tmp_path: Path) -> None:
    """The last layer begins at zero (Ho 2020): the first loss is the weighted power of the target itself."""
    task = denoiser_task(source, parts, tmp_path, **{"loss.detail": 0.0})
    first = float(task.update(0, task.maker(0))["loss"])
    again = denoiser_task(source, parts, tmp_path, **{"loss.detail": 0.0})
    held_out = again.validate().numbers["held_out"]
    assert float(again.update(0, again.maker(0))["loss"]) == first
    task.unet.forward = lambda x, t, conditioning: torch.zeros_like(x)
    assert task.validate().numbers["held_out"] == held_out
    batch = torch.from_numpy(task.maker(0).latents).float()
    low, high = sorted((1.0, float(batch.square().mean())))
    assert 0.4 * low < first < 1.1 * high, "between the powers of noise and of latents, at weights of 0.5 to 1"


def test_an_autoencoder_that_does_not_divide_the_size(source: str, parts: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"data\.size = 17: not divisible by 2, the factor of the autoencoder"):
        denoiser_task(source, parts, tmp_path, **{"data.size": 17})


def _settings(content: object) -> Callable[[Path], object]:
    return lambda run: (run / "part.json").write_text(json.dumps(content))


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no settings": (lambda run: (run / "part.json").unlink(), "no finished training; run `atelier train vae --out"),
    "settings of another": (_settings({"kind": "clip"}), "holds a training of clip, not of vae"),
    "no spec": (_settings({"kind": "vae", "latent_scale": 1.0, "spec": 3}), "lacks|has"),
    "a foreign spec": (_settings({"kind": "vae", "spec": {"depth": 3}}), r"is damaged \(spec"),
    "no weights": (lambda run: (run / "part.safetensors").unlink(), "does not exist"),
    "foreign weights": (lambda run: (run / "part.safetensors").write_bytes(b"1234"), "is no safetensors file"),
}


@pytest.mark.parametrize(("spoil", "told"), SPOILED.values(), ids=SPOILED)
def test_an_unusable_part_is_named(spoil: Any, told: str, parts: dict[str, str], tmp_path: Path) -> None:
    import shutil

    run = Path(shutil.copytree(parts["vae"], tmp_path / "vae"))
    spoil(run)
    with pytest.raises(BadFile, match=told) as caught:
        frozen(run, Path(parts["clip"]))
    assert str(run) in str(caught.value)


# Learning


def falls(kind: str, source: str, folder: Path, **changes: Any) -> tuple[float, float]:
    """The mean loss of the first and of the last five steps."""
    happened = support.trained(
        support.recipe(
            kind, {"data.source": source, "run.validate_every": 999, "run.checkpoint_every": 999, **changes}
        ),
        folder,
    )
    steps = support.losses(happened)
    return sum(steps[:5]) / 5, sum(steps[-5:]) / 5


def test_the_autoencoder_learns(source: str, tmp_path: Path) -> None:
    changes = {"run.steps": 120, "run.batch": 8, "optim.rate": 4e-3, "loss.gan": 0.0}
    first, last = falls("vae", source, tmp_path, **changes)
    assert last < 0.35 * first
    numbers = support.log(tmp_path)[-1]
    assert numbers["psnr"] > 15


def test_clip_learns(source: str, tmp_path: Path) -> None:
    changes = {"run.steps": 100, "run.batch": 12, "optim.rate": 4e-3}
    first, last = falls("clip", source, tmp_path, **changes)
    assert first > 0.8 * math.log(12)
    assert last < 0.6 * first


def test_the_denoiser_learns(source: str, parts: dict[str, str], tmp_path: Path) -> None:
    changes = {**parts, "run.steps": 120, "run.batch": 8, "optim.rate": 4e-3}
    first, last = falls("denoiser", source, tmp_path, **changes)
    assert last < 0.75 * first
    chosen = support.recipe("denoiser", {"data.source": source, **changes})
    model = export_model(tmp_path, chosen)
    index = json.loads((model / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert {"unet", "vae", "text_encoder", "tokenizer", "image_encoder", "projection"} <= {
        p.name for p in model.iterdir()
    }


def test_retrieval_of_perfect_and_of_useless_towers(source: str, parts: dict[str, str]) -> None:
    class Oracle(torch.nn.Module):
        def __init__(self, right: bool) -> None:
            super().__init__()
            self.right = right

        def embed_text(self, tokens: torch.Tensor) -> torch.Tensor:
            return torch.eye(len(tokens))

        def embed_image(self, image: torch.Tensor) -> torch.Tensor:
            return torch.eye(len(image)) if self.right else torch.eye(len(image)).roll(1, 0)

    data = dataset(Data(source=source, size=16), "train")
    vocabulary = ClipTokenizer.from_folder(Path(parts["clip"]) / "tokenizer")
    pages: list[Any] = []
    for right in (True, False):
        tower: Any = Oracle(right)
        found = retrieval(tower, data, vocabulary, torch.device("cpu"))
        assert found.r_at_1 == float(right)
        assert set(found.captions) == {data.caption(i) for i in range(data.length or 0)}
        pages.append(np.asarray(found.page(4)))
    assert pages[0].shape[1] == pages[1].shape[1]
    assert pages[1].shape[0] > pages[0].shape[0], "a wrong caption stands there with the right one"


# The loop around them


def test_validation_sees_the_averaged_weights_and_gives_the_own_back(source: str) -> None:
    task = vae_task(source)
    averages = {"vae": Ema(task.vae, 0.9)}
    began = weights(task)
    for step in range(2):
        task.update(step, task.maker(step))
    own = weights(task)
    with averaged(task, averages):
        assert all(torch.equal(tensor, began[name]) for name, tensor in weights(task).items())
        assert not task.vae.training
    assert all(torch.equal(tensor, own[name]) for name, tensor in weights(task).items())
    assert task.vae.training


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_the_step_and_the_way_back(
    bad: float, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = support.recipe("vae", {"data.source": source})
    update = VaeTask.update

    def poisoned(self: VaeTask, step: int, batch: Any) -> Any:
        if step == 4:
            batch = batch.copy()
            with torch.no_grad():
                self.vae.get_parameter("decoder.conv_out.bias").fill_(bad)
        return update(self, step, batch)

    monkeypatch.setattr(VaeTask, "update", poisoned)
    with pytest.raises(NotFinite) as caught:
        support.trained(chosen, tmp_path)
    last = tmp_path / "checkpoints" / "step-00000003"
    assert str(caught.value).startswith(f"step 5: l1 is {bad}") or str(caught.value).startswith("step 5: loss is ")
    assert f"the last good checkpoint is {last}: go on from it with a lower optim.rate" in str(caught.value)
    assert caught.value.exit_code == 3
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [last.name]
    monkeypatch.setattr(VaeTask, "update", update)
    slower = support.recipe("vae", {"data.source": source, "optim.rate": 1e-4})
    happened = support.trained(slower, tmp_path, accept_changes=True)
    assert [event.step for event in happened if isinstance(event, Stepped)] == list(range(4, 10))


def test_without_a_checkpoint_the_way_is_a_new_start(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VaeTask, "update", lambda *_: {"loss": torch.tensor(float("nan"))})
    with pytest.raises(NotFinite, match="step 1: loss is nan; there is no checkpoint yet: start again"):
        support.trained(support.recipe("vae", {"data.source": source}), tmp_path)


def test_without_tensorboard_and_matplotlib_the_log_remains(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"data.source": source, "run.steps": 2, "run.validate_every": 2}
    loaded = [name for name in sys.modules if name.partition(".")[0] in {"tensorboard", "matplotlib"}]
    for module in ("tensorboard", "matplotlib", *loaded):
        monkeypatch.setitem(sys.modules, module, None)
    support.trained(support.recipe("vae", few), tmp_path / "without")
    monkeypatch.undo()
    for module in ("tensorboard", "matplotlib.figure"):
        monkeypatch.delitem(sys.modules, module)
    support.trained(support.recipe("vae", few), tmp_path / "with")
    left = {path.name for path in (tmp_path / "without").iterdir()}
    assert left == {"checkpoints", "samples", "log.jsonl"}
    assert {path.name for path in (tmp_path / "with").iterdir()} - left == {"tensorboard", "curves.png"}
    assert support.log(tmp_path / "without") == support.log(tmp_path / "with")
    assert support.result(tmp_path / "without") == support.result(tmp_path / "with")


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b"\xff\xfe", b'{"step": "3"}', b"[" * 100_000, b'{"loss": 1}'])
def test_the_clock_of_a_run_goes_on(torn: bytes, source: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b'{"step": 0, "seconds": 5000.0}\n' + torn)
    happened = support.trained(support.recipe("vae", {"data.source": source, "run.steps": 1}), tmp_path)
    (validated,) = (event for event in happened if isinstance(event, Validated))
    assert 5000 < validated.numbers["seconds"] < 5600


def test_kernels_channel_last_change_no_number() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(VaeSpec(latent=4, widths=(8, 16), blocks=1, groups=4)).eval()
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    image = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        expected = vae.decode(vae.encode(image).mode())
        found = channels_last(vae).decode(vae.encode(image).mode())
    assert vae.get_parameter("encoder.conv_in.weight").is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())
    assert F.mse_loss(found, expected) < 1e-10


def test_batches_of_captioned_pictures(source: str) -> None:
    data, vocabulary = dataset(Data(source=source, size=16), "train"), learn(CAPTIONS, 520, 16)
    batch = captioned(data, [3, 1], vocabulary)
    assert np.array_equal(batch.pixels[0], data.image(3))
    assert batch.tokens.tolist() == [vocabulary.ids(data.caption(i)) for i in (3, 1)]


def test_exports_name_what_is_missing(source: str, parts: dict[str, str], tmp_path: Path) -> None:
    chosen = support.recipe("vae", {"data.source": source})
    with pytest.raises(BadFile, match="holds no whole checkpoint; train first"):
        export_vae(tmp_path, chosen)
    with pytest.raises(BadFile, match="holds no vae: a run of another kind"):
        export_vae(Path(parts["clip"]), chosen)


def test_an_export_that_does_not_fit_leaves_no_half_of_it(
    source: str, parts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os
    import shutil

    from atelier.errors import StorageFull

    run, chosen = Path(shutil.copytree(parts["vae"], tmp_path / "vae")), support.recipe("vae", {"data.source": source})

    def refused(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refused)
        with pytest.raises(StorageFull, match="the disk is full"):
            export_vae(run, chosen)
    assert not list(run.rglob(".tmp-*"))
    with pytest.raises(BadFile, match="holds no finished training"):
        part_settings(run, "vae")
    export_vae(run, chosen)
    assert frozen(run, Path(parts["clip"])).latent_scale > 0
