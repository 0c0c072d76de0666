"""Three steps of every training, from the recipe to the checkpoint, against the same steps written out here.

No number of the recipes is at its default, so that each of them is seen: in the loss, in the gradients' bound, in the
optimizers, in the course of the rate, and in the moving average. What is taken from the package has tests of its own:
the networks, the random numbers, Muon's orthogonal matrix and the whitening of the text states.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import training_support as support
from atelier.nn.ports import Conditioning
from atelier.train import checkpoint
from atelier.train.data.dataset import Dataset
from atelier.train.loop import Placement, train
from atelier.train.muon import orthogonal, whitening
from atelier.train.randomness import normal, permutation, uniform
from atelier.train.recipe import Data
from atelier.train.sources import dataset
from atelier.train.tasks.denoiser import DenoiserTask
from atelier.train.tasks.images import to_pixels

STEPS, BATCH, SEED = 3, 8, 5
RATE, BETAS, EPS, DECAY, CLIP, EMA = 0.02, (0.8, 0.95), 1e-2, 0.2, 0.05, 0.22
FACTORS = (0.25, 0.5, 0.75 * (1 - math.sqrt(1 / 2)))
"""Of the rate: a warm-up over four steps, and a cool-down over the last of three."""
AVERAGING = (0.1, 2 / 11, 0.22)
"""The decay of the average: (1 + n) / (10 + n) up to the recipe's."""
NUMBERS = {
    "run.steps": STEPS,
    "run.batch": BATCH,
    "run.seed": SEED,
    "run.checkpoint_every": STEPS,
    "run.validate_every": 99,
    "optim.rate": RATE,
    "optim.betas": list(BETAS),
    "optim.eps": EPS,
    "optim.weight_decay": DECAY,
    "optim.clip": CLIP,
    "optim.ema": EMA,
    "optim.warmup": 4,
    "optim.cooldown": 0.34,
}
Named = dict[str, Tensor]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(support.draw_images(tmp_path_factory.mktemp("data") / "pictures"))


def shaken(net: nn.Module) -> None:
    """No weight at zero, where training begins, so that every gradient counts."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))


class Moved:
    """The parameters of a network, moved by AdamW and by Muon as their papers say, at the rate of `step`."""

    def __init__(self, net: nn.Module, rate: float = RATE, muon: Callable[[str, Tensor], bool] = lambda *_: False):
        self.net, self.rate, self.step, self.count = net, rate, 0, 0
        self.bases: Mapping[str, Tensor] = {}
        self.muon = {name for name, p in net.named_parameters() if muon(name, p)}
        self.first = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
        self.second = {name: torch.zeros_like(p) for name, p in net.named_parameters()}

    @torch.no_grad()
    def down(self, loss: Tensor) -> None:
        """One step, with the gradients of all parameters bounded together."""
        named = dict(self.net.named_parameters())
        with torch.enable_grad():
            gradients = torch.autograd.grad(loss, list(named.values()))
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
        assert norm > 2 * CLIP, "the bound is felt"
        rate = FACTORS[self.step] * self.rate
        self.count += 1
        for (name, p), gradient in zip(named.items(), gradients, strict=True):
            bounded = gradient * (CLIP / (norm + 1e-6))
            decay = DECAY if p.ndim >= 2 else 0.0
            direction = self.orthogonal(name, bounded) if name in self.muon else self.adaptive(name, bounded)
            p.copy_(p - rate * decay * p - rate * direction)

    def adaptive(self, name: str, gradient: Tensor) -> Tensor:
        (one, two), n = BETAS, self.count
        self.first[name] = one * self.first[name] + (1 - one) * gradient
        self.second[name] = two * self.second[name] + (1 - two) * gradient**2
        return (self.first[name] / (1 - one**n)) / ((self.second[name] / (1 - two**n)).sqrt() + EPS)

    def orthogonal(self, name: str, gradient: Tensor) -> Tensor:
        self.first[name] = 0.95 * self.first[name] + 0.05 * gradient
        ahead = 0.05 * gradient + 0.95 * self.first[name]
        matrix = ahead.flatten(1) if ahead.ndim == 2 else ahead.permute(0, 2, 3, 1).flatten(1)
        basis = self.bases.get(name, torch.eye(matrix.shape[1]))
        made = 0.2 * math.sqrt(max(matrix.shape)) * orthogonal(matrix @ basis) @ basis.T
        if ahead.ndim == 2:
            return made
        return made.view(len(ahead), *ahead.shape[2:], ahead.shape[1]).permute(0, 3, 1, 2)


class Averaged:
    """The moving average of a network's parameters."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.now = {name: p.detach().clone() for name, p in net.named_parameters()}

    def follow(self, step: int) -> None:
        d = AVERAGING[step]
        for name, p in self.net.named_parameters():
            self.now[name] = d * self.now[name] + (1 - d) * p.detach()


def ours(task: Any, recipe: Any, folder: Path) -> Mapping[str, Mapping[str, Tensor]]:
    """What the newest checkpoint holds after the training."""
    last = list(train(task, recipe.run, recipe.optim, folder))[-1]
    assert type(last).__name__ == "Finished", last
    newest = checkpoint.newest(folder / checkpoint.FOLDER)
    assert newest is not None
    return checkpoint.load(newest).tensors


ROUNDING = {"adamw": 1e-3, "muon": 1e-2}
"""Of the way that a tensor went. Muon makes faint directions of a gradient, rounding too, as long as the others."""


def same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], began: Named, matrices: str) -> None:
    """Equal but for rounding."""
    assert found.keys() == expected.keys()
    ways = {name: float((tensor - began[name]).abs().max()) for name, tensor in expected.items()}
    assert sum(way > 1e-5 for way in ways.values()) > 0.8 * len(ways), "most of them were moved"
    for name, tensor in expected.items():
        rounding = 4e-7 * max(1.0, float(tensor.abs().max()))
        assert float((found[name] - tensor).abs().max()) < ROUNDING[matrices] * ways[name] + rounding, name


def copied(net: nn.Module) -> Named:
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def held(data: Dataset, indices: Sequence[int]) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1]."""
    return to_pixels(np.stack([data.image(i) for i in indices]))


# The denoiser

LOSS = {"loss.snr_floor": 0.2, "loss.snr_gamma": 0.5, "loss.detail": 1.5, "loss.time_shift": 2.5, "loss.drop": 0.4}
FLOOR, GAMMA, DETAIL, SHIFT, DROP = LOSS.values()
GAIN = 8.0
VELOCITY = {"loss.prediction": "velocity", "loss.zero_snr": True}
EPSILON = {"loss.prediction": "epsilon", "loss.zero_snr": False}


def signal(*, zero_snr: bool) -> Tensor:
    """abar of every level: Stable Diffusion's; or with no signal at the last (Lin 2023, algorithm 1)."""
    abar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
    if zero_snr:
        root = abar.sqrt()
        abar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        abar[-1] = 4.8973451890853435e-08
    return abar


def weighted(output: Tensor, clean: Tensor, noise: Tensor, abar: Tensor, prediction: str) -> Tensor:
    """The loss of each latent (B,): abar (B, 1, 1, 1)."""
    target = abar.sqrt() * noise - (1 - abar).sqrt() * clean if prediction == "velocity" else noise
    error = output - target
    blocks = error.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
    fine = error - blocks.repeat_interleave(2, 2).repeat_interleave(2, 3)
    snr = (abar / (1 - abar)).flatten()
    weight = snr.clamp(FLOOR, GAMMA) / (snr + 1 if prediction == "velocity" else snr)
    return weight * ((error**2).mean((1, 2, 3)) + DETAIL * (fine**2).mean((1, 2, 3)))


def drawn_times(step: int) -> list[int]:
    """One in every eighth, in random order, moved towards the noise (Esser 2024, equation 23)."""
    spread = (torch.arange(BATCH) + uniform((1,), SEED, "time", step)) / BATCH
    times = spread[permutation(BATCH, SEED, "turn", step)].tolist()
    return [int(1000 * SHIFT * t / (1 + (SHIFT - 1) * t)) for t in times]


def denoiser_loss(task: DenoiserTask, step: int, prediction: str, abar: Tensor, empty: list[int]) -> Tensor:
    batch = task.maker(step)
    clean = torch.from_numpy(batch.latents).float()
    noise = normal(clean.shape, SEED, "noise", step)
    t = drawn_times(step)
    dropped = uniform((BATCH, 1), SEED, "drop", step)[:, 0] < DROP
    tokens = torch.from_numpy(batch.tokens.copy())
    tokens[dropped] = torch.tensor(empty)
    a = abar[t].float()[:, None, None, None]
    with torch.no_grad():
        states = task.parts.text(tokens).last
    x = a.sqrt() * clean + (1 - a).sqrt() * noise
    output = task.unet(x, torch.tensor(t).float(), Conditioning(states))
    return weighted(output, clean, noise, a, prediction).mean()


def vocabulary_of(parts: dict[str, str]) -> Any:
    from atelier.weights.tokenizer import ClipTokenizer

    return ClipTokenizer.from_folder(Path(parts["clip"]) / "tokenizer")


@pytest.mark.parametrize(
    ("matrices", "kind"), [("adamw", EPSILON), ("adamw", VELOCITY), ("muon", VELOCITY)], ids=["epsilon", "v", "muon"]
)
def test_the_denoiser(matrices: str, kind: dict[str, Any], source: str, parts: dict[str, str], tmp_path: Path) -> None:
    changes = {"data.source": source, **parts, **NUMBERS, **LOSS, **kind, "optim.kind": matrices}
    changes["optim.text_gain"] = GAIN if matrices == "muon" else 0.0
    recipe = support.recipe("denoiser", changes)
    task, own = support.task(recipe, tmp_path / "ours"), support.task(recipe, tmp_path / "hand")
    for one in (task, own):
        shaken(one.unet)
    began, vocabulary = copied(own.unet), vocabulary_of(parts)
    ends = ("conv_in.", "conv_out.")
    moved = Moved(own.unet, muon=lambda name, p: matrices == "muon" and p.ndim >= 2 and not name.startswith(ends))
    if matrices == "muon":
        data = dataset(Data(source=source, size=16, validation=4), "train")
        captions = torch.tensor([vocabulary.ids(data.caption(i)) for i in range(data.length or 0)])
        basis = whitening(own.parts.text(captions).last.detach(), GAIN)
        readers = ("attn2.to_k.weight", "attn2.to_v.weight")
        moved.bases = {name: basis for name in began if name.endswith(readers)}
        assert moved.bases
    average, abar = Averaged(own.unet), signal(zero_snr=bool(kind["loss.zero_snr"]))
    dropped = torch.cat([uniform((BATCH, 1), SEED, "drop", step) < DROP for step in range(STEPS)])
    assert 0 < int(dropped.sum()) < len(dropped)
    for step in range(STEPS):
        moved.step = step
        moved.down(denoiser_loss(own, step, str(kind["loss.prediction"]), abar, vocabulary.ids("")))
        average.follow(step)
    tensors = ours(task, recipe, tmp_path / "run")
    same(tensors["unet"], copied(own.unet), began, matrices)
    same(tensors["unet.ema"], average.now, began, matrices)


def test_the_denoisers_validation(
    source: str, parts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that says the first mean text state everywhere, at a latent scale far from 1."""
    scale, guidance = 0.3, 4.0
    changes = {"data.source": source, **parts, **NUMBERS, **LOSS, **VELOCITY, "cfg_scale": guidance}
    recipe = support.recipe("denoiser", changes)
    from dataclasses import replace

    from atelier.train.runs import frozen

    made = replace(frozen(Path(parts["vae"]), Path(parts["clip"])), latent_scale=scale)
    task = DenoiserTask(recipe, support.placement(), made, tmp_path)
    held_out, vocabulary = dataset(recipe.data, "held_out"), vocabulary_of(parts)

    def said(tokens: Tensor) -> Tensor:
        return made.text(tokens).last[..., 0].mean(1)[:, None, None, None]

    def forward(x: Tensor, _t: Tensor, conditioning: Conditioning) -> Tensor:
        return conditioning.tokens[..., 0].mean(1)[:, None, None, None].expand(x.shape)

    monkeypatch.setattr(task.unet, "forward", forward)
    captions = [held_out.caption(0), held_out.caption(1)]
    tokens, empty = (torch.tensor([vocabulary.ids(c) for c in words]) for words in (captions, [""]))
    abar = signal(zero_snr=True)
    log = ((1 - abar) / abar).sqrt().log()
    times = torch.linspace(999, 0, 20, dtype=torch.float64)
    low = times.floor().long().clamp(max=998)
    sigmas = [*torch.lerp(log[low], log[low + 1], times - low).exp().tolist(), 0.0]
    with torch.no_grad():
        x = normal((2, 4, 8, 8), 0, "validation") * sigmas[0]
        velocity = said(empty) + guidance * (said(tokens) - said(empty))
        for sigma, following in itertools.pairwise(sigmas):
            clean = x / (1 + sigma**2) - velocity * sigma / math.sqrt(1 + sigma**2)
            x = x + (x - clean) / sigma * (following - sigma)
        generated = ((made.vae.decode(x / scale).clamp(-1, 1) + 1) * 127.5).round()
        found = torch.from_numpy(task.generate(captions)).permute(0, 3, 1, 2).float()
        assert float((found - generated).abs().max()) <= 1
        count = held_out.length or 0
        clean = made.vae.encode(held(held_out, range(count))).mean * scale
        noise = normal(clean.shape, "validation", "noise")
        level = [int((i + 0.5) / count * 1000) for i in range(count)]
        words = torch.tensor([vocabulary.ids(held_out.caption(i)) for i in range(count)])
        output = said(words).expand(clean.shape)
        expected = weighted(output, clean, noise, abar[level].float()[:, None, None, None], "velocity").mean()
    monkeypatch.setattr(task, "generate", lambda captions: np.zeros((len(captions), 16, 16, 3), np.uint8))
    monkeypatch.setattr("atelier.train.tasks.denoiser.SHOWN", count)
    assert task.validate().numbers["held_out"] == pytest.approx(float(expected), rel=1e-3)


# The autoencoder

TERMS = {"loss.l1": 0.7, "loss.gradient": 0.4, "loss.kl": 0.3, "loss.noise": 0.5}
L1, GRADIENT, KL, NOISE = TERMS.values()
GAN = {"loss.gan": 0.2, "loss.gan_start": 1, "loss.gan_rate": 0.03, "loss.gan_width": 4}


@pytest.mark.parametrize("matrices", ["adamw", "muon"])
def test_the_autoencoder(matrices: str, source: str, tmp_path: Path) -> None:
    changes = {"data.source": source, **NUMBERS, **TERMS, **GAN, "optim.kind": matrices}
    recipe = support.recipe("vae", changes)
    task, own = support.task(recipe, tmp_path), support.task(recipe, tmp_path)
    vae, critic = own.vae, own.aids["critic"]
    for one in (task, own):
        shaken(one.vae)
    began, critic_began = copied(vae), copied(critic)
    ends = ("encoder.conv_in.", "decoder.conv_out.")
    painter = Moved(vae, muon=lambda name, p: matrices == "muon" and p.ndim >= 2 and not name.startswith(ends))
    judge, average = Moved(critic, rate=0.03), Averaged(vae)
    for step in range(STEPS):
        painter.step = judge.step = step
        image = to_pixels(own.maker(step))
        posterior = vae.encode(image)
        deviation = torch.exp(posterior.logvar / 2)
        latent = posterior.mean + deviation * normal(posterior.mean.shape, SEED, "posterior", step)
        share = NOISE * uniform((BATCH, 1, 1, 1), SEED, "strength", step)
        latent = latent + share * latent.detach().std() * normal(latent.shape, SEED, "disturbance", step)
        generated = vae.decode(latent)
        error = generated - image
        steps = error.diff(dim=3).abs().mean() + error.diff(dim=2).abs().mean()
        divergence = (posterior.mean**2 + deviation**2 - 1 - posterior.logvar).sum() / 2 / image.numel()
        loss = L1 * error.abs().mean() + GRADIENT * steps + KL * divergence
        if step >= 1:
            fooled = -critic(generated).mean()
            last = vae.decoder.conv_out.weight
            pulls = [torch.autograd.grad(term, last, retain_graph=True)[0].norm() for term in (loss, fooled)]
            loss = loss + 0.2 * (pulls[0] / (pulls[1] + 1e-4)).detach() * fooled
        painter.down(loss)
        if step >= 1:
            hinge = torch.relu(1 - critic(image)).mean() + torch.relu(1 + critic(generated.detach())).mean()
            judge.down(hinge / 2)
        average.follow(step)
    tensors = ours(task, recipe, tmp_path / "run")
    same(tensors["vae"], copied(vae), began, matrices)
    same(tensors["vae.ema"], average.now, began, matrices)
    same(tensors["critic"], copied(critic), critic_began, matrices)


# CLIP


@pytest.mark.parametrize("matrices", ["adamw", "muon"])
def test_clip(matrices: str, source: str, tmp_path: Path) -> None:
    recipe = support.recipe("clip", {"data.source": source, **NUMBERS, "optim.kind": matrices})
    task, own = support.task(recipe, tmp_path / "ours"), support.task(recipe, tmp_path / "hand")
    clip = own.clip
    for one in (task, own):
        shaken(one.clip)
    began, average = copied(clip), Averaged(clip)
    ends = ("text.token_embedding", "text.position_embedding", "vision.patch_embedding", "vision.position_embedding")
    moved = Moved(clip, muon=lambda name, p: matrices == "muon" and p.ndim >= 2 and not name.startswith(ends))
    mean, spread = torch.tensor([[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]])
    for step in range(STEPS):
        moved.step = step
        batch = own.maker(step)
        pixels = ((torch.from_numpy(batch.pixels) / 255 - mean) / spread).permute(0, 3, 1, 2)
        texts, images = clip.text(torch.from_numpy(batch.tokens)).pooled, clip.vision(pixels).embedding
        texts, images = (e / e.norm(dim=1, keepdim=True) for e in (texts, images))
        logits = clip.logit_scale.exp() * images @ texts.T
        right = logits.diagonal()
        loss = (logits.logsumexp(1) - right).mean() / 2 + (logits.logsumexp(0) - right).mean() / 2
        moved.down(loss)
        with torch.no_grad():
            clip.logit_scale.clamp_(max=math.log(100))
        average.follow(step)
    tensors = ours(task, recipe, tmp_path / "run")
    same(tensors["clip"], copied(clip), began, matrices)
    same(tensors["clip.ema"], average.now, began, matrices)


# The precision


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", support.KINDS)
def test_products_are_made_in_the_placements_precision(
    kind: str, dtype: torch.dtype, source: str, parts: dict[str, str], tmp_path: Path
) -> None:
    recipe = support.recipe(kind, {"data.source": source, **(parts if kind == "denoiser" else {})})
    task = support.known()[kind].build(recipe, Placement(torch.device("cpu"), dtype), tmp_path)
    (net,) = task.nets.values()
    seen: dict[torch.dtype, int] = {}

    def count(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        seen[output.dtype] = seen.get(output.dtype, 0) + 1

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    task.update(0, task.maker(0))
    assert set(seen) == {dtype}
    assert all(p.dtype == torch.float32 for p in net.parameters())
