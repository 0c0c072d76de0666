"""One step of a teaching against diffusers, PEFT and AdamW: the same gradients and weights.

What diffusers' scripts and kohya's do around them is written out here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import taught_support as teaching
import tiny
from atelier.train.data.excerpts import Excerpt
from atelier.train.tasks.teaching import TeachingTask

diffusers = pytest.importorskip("diffusers", reason="the reference extra is not installed")
peft = pytest.importorskip("peft", reason="the reference extra is not installed")

pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")
RANK, ALPHA = 4, 3.0
RATE, BETAS, EPS, DECAY, CLIP = 0.02, (0.8, 0.95), 1e-4, 0.2, 0.05
NUMBERS = {
    "run__batch": 3,
    "run__seed": 5,
    "adapter__rank": RANK,
    "adapter__alpha": ALPHA,
    "optim__rate": RATE,
    "optim__betas": list(BETAS),
    "optim__eps": EPS,
    "optim__weight_decay": DECAY,
    "optim__clip": CLIP,
    "targets__text_rate": 0.25,
    "targets__text_layers": [r"self_attn\."],
}
"""None of them at its default, so that each is seen."""
CLOSE = 1e-5


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The same tiny model, of either prediction, as a folder of diffusers'."""
    folder = tmp_path_factory.mktemp("models")
    return {kind: tiny.folder(folder / kind, prediction=kind) for kind in ("epsilon", "velocity")}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teaching.images(tmp_path_factory.mktemp("data") / "images", 5)


class Theirs:
    """A pipeline of diffusers with adapters of PEFT, which hold what ours hold."""

    def __init__(self, model: Path, task: TeachingTask, *, dora: bool) -> None:
        self.pipe = diffusers.StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
        self.scheduler = diffusers.DDPMScheduler.from_config(self.pipe.scheduler.config)
        self.task, self.nets = task, {"unet": self.pipe.unet, "text": self.pipe.text_encoder}
        self.targets = {
            "unet": ["to_q", "to_k", "to_v", "to_out.0"],
            "text": ["q_proj", "k_proj", "v_proj", "out_proj"],
        }
        self.own: dict[str, nn.Parameter] = {}
        for part, net in self.nets.items():
            net.requires_grad_(False)
            if part in task.nets:
                net.add_adapter(
                    peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=self.targets[part], use_dora=dora)
                )
                self._fill(part, net, task.nets[part])

    def _fill(self, part: str, net: nn.Module, ours: Any) -> None:
        adapted = {name: module for name, module in net.named_modules() if hasattr(module, "lora_A")}
        paths = {place.path.removeprefix("text_model."): place for place in ours.places}
        assert adapted.keys() == paths.keys(), "both adapt the same layers"
        for path, place in paths.items():
            module: Any = adapted[path]
            theirs = {"down": module.lora_A["default"].weight, "up": module.lora_B["default"].weight}
            if module.lora_magnitude_vector:
                theirs["dora_scale"] = module.lora_magnitude_vector["default"].weight
            for slot, parameter in theirs.items():
                with torch.no_grad():
                    parameter.copy_(getattr(ours.layers[place.name], slot).reshape(parameter.shape))
                self.own[f"{part}.layers.{place.name}.{slot}"] = parameter

    def errors(self, batch: tuple[Excerpt, ...], clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The squared error of each image, and nothing of what is done with it."""
        captions = [own.caption for own in batch]
        states = self.pipe.encode_prompt(captions, "cpu", 1, do_classifier_free_guidance=False)[0]
        noisy = self.scheduler.add_noise(clean, noise, t)
        output = self.pipe.unet(noisy, t, states).sample
        target = noise
        if self.scheduler.config.prediction_type == "v_prediction":
            target = self.scheduler.get_velocity(clean, noise, t)
        return F.mse_loss(output, target, reduction="none").mean(dim=(1, 2, 3))

    def snr(self, t: Tensor) -> Tensor:
        return self.scheduler.alphas_cumprod[t] / (1 - self.scheduler.alphas_cumprod[t])

    def step(self, loss: Tensor) -> dict[str, Tensor]:
        """Moves the adapters; returns their gradients after the bound."""
        rates = {"unet": RATE, "text": 0.25 * RATE}
        groups = [
            {"params": [p], "lr": rates[name.partition(".")[0]], "weight_decay": DECAY if p.ndim > 1 else 0.0}
            for name, p in self.own.items()
        ]
        optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPS)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.own.values()), CLIP)
        gradients = {name: p.grad.clone() for name, p in self.own.items() if p.grad is not None}
        optimizer.step()
        return gradients


def taught(model: Path, images: Path, folder: Path, **more: Any) -> TeachingTask:
    task = teaching.task("lora", teaching.changes("lora", model, images, **{**NUMBERS, **more}), folder)
    teaching.shake(task)
    return task


def stepped(task: TeachingTask) -> tuple[dict[str, Tensor], float]:
    """Our step; its gradients after the bound, its loss."""
    told = task.update(0, task.maker(0))
    assert float(told["norm"]) > CLIP
    found = teaching.learning(task)
    return {name: p.grad.clone() for name, p in found.items() if p.grad is not None}, float(told["loss"])


def same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Equal to 1e-5 of each tensor's length."""
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        other = theirs[name].detach().reshape(tensor.shape)
        assert float(other.norm()) > 0, name
        assert float((tensor.detach() - other).norm() / other.norm()) < CLOSE, name


@pytest.mark.parametrize("prediction", ["epsilon", "velocity"])
@pytest.mark.parametrize(
    ("kind", "weight"),
    [("LoRA", "even"), ("LoRA", "min-snr"), ("LoRA of text too", "min-snr"), ("DoRA", "min-snr")],
)
def test_a_step_is_that_of_diffusers_and_peft(
    kind: str, weight: str, prediction: str, models: Mapping[str, Path], images: Path, tmp_path: Path
) -> None:
    text = kind == "LoRA of text too"
    more = {"adapter__dora": kind == "DoRA", "targets__text": text, "loss__weight": weight, "loss__snr_gamma": 0.7}
    task = taught(models[prediction], images, tmp_path, **more)
    theirs = Theirs(models[prediction], task, dora=kind == "DoRA")
    batch = task.maker(0)
    drawn = task._noised(0, batch)
    errors = theirs.errors(batch, drawn.clean, drawn.noise, drawn.t)
    snr = theirs.snr(drawn.t)
    weights = torch.ones_like(snr)
    if weight == "min-snr":
        weights = snr.clamp(max=0.7) / (snr if prediction == "epsilon" else snr + 1)
        assert 0 < int((snr > 0.7).sum()) < len(snr), "the bound holds for some of the times"
    loss = (errors * weights).mean()
    gradients = theirs.step(loss)
    own, own_loss = stepped(task)
    assert own_loss == pytest.approx(float(loss.detach()), rel=CLOSE)
    assert len(own) == {"LoRA": 2 * 56, "LoRA of text too": 2 * (56 + 8), "DoRA": 3 * 56}[kind]
    same(own, gradients)
    same(teaching.learning(task), theirs.own)


@pytest.mark.parametrize("prior", ["diffusers", "kohya"])
def test_prior_preservation_is_that_of_either_script(
    prior: str, models: Mapping[str, Path], images: Path, tmp_path: Path
) -> None:
    """diffusers adds the mean of the class, weighted, to the mean of the rest; kohya takes one mean of all."""
    others = teaching.images(tmp_path / "others", 4, 50)
    more = {"data__class_source": str(others), "loss__prior": prior, "loss__prior_weight": 0.3, "run__batch": 2}
    task = taught(models["epsilon"], images, tmp_path / "run", **more)
    theirs = Theirs(models["epsilon"], task, dora=False)
    batch = task.maker(0)
    assert [own.is_class for own in batch] == [False, True, False, True]
    assert [own.path.parent == others for own in batch] == [False, True, False, True]
    drawn = task._noised(0, batch)
    errors = theirs.errors(batch, drawn.clean, drawn.noise, drawn.t)
    loss = errors[0::2].mean() + 0.3 * errors[1::2].mean()
    if prior == "kohya":
        loss = (errors * torch.tensor([1.0, 0.3, 1.0, 0.3])).mean()
    gradients = theirs.step(loss)
    own, own_loss = stepped(task)
    assert own_loss == pytest.approx(float(loss.detach()), rel=CLOSE)
    same(own, gradients)
    same(teaching.learning(task), theirs.own)


def test_a_step_of_all_weights_is_that_of_diffusers(models: Mapping[str, Path], images: Path, tmp_path: Path) -> None:
    """DreamBooth with the text encoder."""
    from atelier.families.parts import TEXT, UNET

    own = {key: value for key, value in NUMBERS.items() if "adapter" not in key and "layers" not in key}
    told = teaching.changes("dreambooth", models["velocity"], images, **own, targets__text=True)
    task = teaching.task("dreambooth", told, tmp_path)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(models["velocity"], safety_checker=None)
    theirs = Theirs.__new__(Theirs)
    theirs.pipe, theirs.own = pipe, {}
    theirs.scheduler = diffusers.DDPMScheduler.from_config(pipe.scheduler.config)
    nets = {UNET: dict(pipe.unet.named_parameters()), TEXT: dict(pipe.text_encoder.named_parameters())}
    names: dict[str, str] = {}
    for part, parameters in nets.items():
        for name in part.network.names(task.base.checkpoint.spec(part)):
            found = parameters.get(name.diffusers, parameters.get(name.diffusers.removeprefix("text_model.")))
            assert found is not None, name.diffusers
            names[f"{part.name}.{name.ours}"] = name.diffusers
            theirs.own[f"{part.name}.{name.ours}"] = found
    assert teaching.learning(task).keys() == names.keys()
    batch = task.maker(0)
    drawn = task._noised(0, batch)
    loss = theirs.errors(batch, drawn.clean, drawn.noise, drawn.t).mean()
    gradients = theirs.step(loss)
    mine, own_loss = stepped(task)
    assert own_loss == pytest.approx(float(loss.detach()), rel=CLOSE)
    assert mine.keys() == gradients.keys() == names.keys()
    for name, gradient in mine.items():
        if float(gradients[name].norm()) > 1e-6:  # keys have biases without effect
            assert float((gradient - gradients[name].reshape(gradient.shape)).norm() / gradients[name].norm()) < 3e-5, (
                name
            )
    same(teaching.learning(task), theirs.own)
