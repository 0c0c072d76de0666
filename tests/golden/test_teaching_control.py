"""One step of teaching a control against diffusers' ControlNet script, and the files that it leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import taught_support as teaching
import tiny
from atelier.adapters.steering import Acting, open_steering
from atelier.checkpoints.kind import identify
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import write_diffusers
from atelier.errors import BadFile, BadInput
from atelier.nn.ports import Conditioning, Ports
from atelier.train.tasks.teaching import TeachingTask
from atelier.train.teaching.control import ControlPupil
from atelier.weights.archive import open_any
from atelier.weights.names.controlnet import names

diffusers = pytest.importorskip("diffusers", reason="the reference extra is not installed")
pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")

RATE, BETAS, EPS, DECAY, CLIP = 0.01, (0.8, 0.95), 1e-4, 0.2, 0.05
WIDTHS = (8, 12, 16)
NUMBERS: dict[str, Any] = {
    "run__batch": 3,
    "run__seed": 5,
    "data__dropout": 0.0,
    "optim__rate": RATE,
    "optim__betas": list(BETAS),
    "optim__eps": EPS,
    "optim__weight_decay": DECAY,
    "optim__clip": CLIP,
    "control__annotator": "",
    "control__widths": list(WIDTHS),
}
CLOSE = 1e-5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("models") / "model", prediction="epsilon")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teaching.images(tmp_path_factory.mktemp("data") / "images", 5)


@pytest.fixture(scope="module")
def hints(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise, another for each image."""
    folder = tmp_path_factory.mktemp("hints")
    random = np.random.default_rng(3)
    for path in sorted(images.glob("*.png")):
        with Image.open(path) as image:
            sides = image.height, image.width, 3
        Image.fromarray(random.integers(0, 255, sides, np.uint8)).save(folder / path.name)
    return folder


def taught(model: Path, images: Path, folder: Path, **more: Any) -> TeachingTask:
    return teaching.task("control", teaching.changes("control", model, images, **{**NUMBERS, **more}), folder)


def shown(task: TeachingTask, hints: Path) -> Tensor:
    """The hints of the first step as diffusers' script reads them, cut out by hand."""
    rows: list[Tensor] = []
    for own in task.maker(0):
        with Image.open(hints / own.path.name) as image:
            scaled = image.convert("RGB").resize(own.scaled, Image.Resampling.LANCZOS)
        box = own.left, own.top, own.left + own.size[0], own.top + own.size[1]
        rows.append(torch.from_numpy(np.array(scaled.crop(box))).permute(2, 0, 1) / 255)
    return torch.stack(rows)


def test_a_step_is_that_of_diffusers(model: Path, images: Path, hints: Path, tmp_path: Path) -> None:
    task = taught(model, images, tmp_path, control__hints=str(hints))
    teaching.shake(task)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    scheduler = diffusers.DDPMScheduler.from_config(pipe.scheduler.config)
    theirs = diffusers.ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=WIDTHS)
    ours = teaching.learning(task)
    assert isinstance(task.pupil, ControlPupil)
    pairs = {f"control.net.{name.ours}": name.diffusers for name in names(task.pupil.spec)}
    parameters = dict(theirs.named_parameters())
    assert {*pairs} == {*ours}
    assert {*pairs.values()} == {*parameters}
    with torch.no_grad():
        for own, their in pairs.items():
            parameters[their].copy_(ours[own].reshape(parameters[their].shape))
    groups = [{"params": [p], "weight_decay": DECAY if p.ndim > 1 else 0.0} for p in parameters.values()]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPS)
    batch = task.maker(0)
    drawn = task._noised(0, batch)
    states = pipe.encode_prompt([own.caption for own in batch], "cpu", 1, do_classifier_free_guidance=False)[0]
    noisy = scheduler.add_noise(drawn.clean, drawn.noise, drawn.t)
    down, middle = theirs(noisy, drawn.t, states, controlnet_cond=shown(task, hints), return_dict=False)
    output = pipe.unet(
        noisy, drawn.t, states, down_block_additional_residuals=down, mid_block_additional_residual=middle
    ).sample
    loss = F.mse_loss(output, drawn.noise)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(list(parameters.values()), CLIP)
    gradients = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
    optimizer.step()
    told = task.update(0, batch)
    assert float(told["loss"]) == pytest.approx(loss.item(), rel=CLOSE)
    assert float(told["norm"]) > CLIP
    for own, their in pairs.items():
        gradient = ours[own].grad
        assert gradient is not None
        reference = gradients[their].reshape(gradient.shape)
        if float(reference.norm()) > 1e-6:  # keys have biases without effect
            assert float((gradient - reference).norm() / reference.norm()) < 3 * CLOSE, own
        after = parameters[their].detach().reshape(gradient.shape)
        assert float((ours[own].detach() - after).norm() / after.norm()) < CLOSE, own


@pytest.mark.parametrize("rank", [0, 3])
def test_at_first_it_changes_nothing_and_learns_at_once(
    rank: int, model: Path, images: Path, hints: Path, tmp_path: Path
) -> None:
    task = taught(model, images, tmp_path, control__hints=str(hints), control__rank=rank)
    assert isinstance(task.pupil, ControlPupil)
    batch, x = task.maker(0), torch.randn(3, 4, 8, 8)
    ports = task.pupil.ports(batch, x, torch.tensor([5, 500, 900]), Conditioning(torch.randn(3, 77, 32)))
    assert ports.residuals
    assert not any(bool(own.any()) for own in ports.residuals)
    assert all(not p.requires_grad for p in task.base.net.parameters())
    task.update(0, batch)
    moved = {name for name, p in teaching.learning(task).items() if p.grad is not None and bool(p.grad.any())}
    assert any("outs" in name for name in moved) if not rank else moved


@pytest.mark.parametrize("rank", [0, 3])
def test_its_file_acts_as_what_was_taught(rank: int, model: Path, images: Path, hints: Path, tmp_path: Path) -> None:
    from training_support import known, recipe, trained

    told = teaching.changes("control", model, images, **NUMBERS, control__hints=str(hints), control__rank=rank)
    chosen = recipe("control", told)
    trained(chosen, tmp_path)
    path = known()["control"].export(chosen, tmp_path)
    identity = identify(open_any(path))
    assert identity is not None
    assert identity.kind == ("control_lora" if rank else "controlnet")
    assert open_any(path).metadata["ss_base_model_version"] == "sd_v1"
    checkpoint = open_checkpoint(model)
    net: Any = open_steering(path, checkpoint, torch.float32)
    task = taught(model, images, tmp_path / "again", control__hints=str(hints), control__rank=rank)
    assert isinstance(task.pupil, ControlPupil)
    from atelier.train.teaching.writing import learned

    task.pupil.learner.load_state_dict(learned(tmp_path)["control"])
    batch, x, t = task.maker(0), torch.randn(3, 4, 8, 8), torch.tensor([5, 500, 900])
    cond = Conditioning(torch.randn(3, 77, 32))
    with torch.no_grad():
        expected: Ports = task.pupil.ports(batch, x, t, cond)
    found: Ports = net.ports(net.read(shown(task, hints)), x, t, cond, Acting())
    assert any(bool(own.any()) for own in expected.residuals)
    for mine, wanted in zip(found.residuals, expected.residuals, strict=True):
        assert torch.allclose(mine, wanted, atol=1e-5)


@pytest.mark.parametrize("rank", [0, 3])
def test_beside_an_inpainting_model_it_sees_the_hole_too(rank: int, images: Path, hints: Path, tmp_path: Path) -> None:
    """In steps and in validation."""
    write_diffusers(tiny.modules(in_channels=9), tmp_path / "inpaints")
    told = {"control__hints": str(hints), "control__rank": rank, "samples": ["a cat"]}
    task = taught(tmp_path / "inpaints", images, tmp_path / "run", **told)
    assert isinstance(task.pupil, ControlPupil)
    teaching.shake(task)
    batch = task.maker(0)
    assert float(task.update(0, batch)["norm"]) > 0
    assert task.validate().images["images"].width > 1
    x, t = torch.randn(3, 4, 8, 8), torch.tensor([5, 500, 900])
    whole = Conditioning(torch.randn(3, 77, 32), channels=torch.zeros(3, 5, 8, 8))
    holed = replace(whole, channels=torch.ones(3, 5, 8, 8))
    one, other = (task.pupil.ports(batch, x, t, cond).residuals for cond in (whole, holed))
    assert not torch.allclose(one[0], other[0])


def test_hints_are_drawn_where_an_annotator_is_named(model: Path, images: Path, tmp_path: Path) -> None:
    task = taught(model, images, tmp_path, control__annotator="invert")
    assert isinstance(task.pupil, ControlPupil)
    (first, *_) = task.maker(0)
    from atelier.train.data.excerpts import pixels

    assert np.array_equal(task.pupil.hints.of(first), 255 - pixels(first))


def test_what_cannot_be_is_told(model: Path, images: Path, tmp_path: Path) -> None:
    for more, why in (
        ({"control__hints": str(tmp_path / "none")}, r"is not there: .* needs one of its name"),
        ({"control__annotator": "invert", "control__widths": [8, 8]}, "control.widths: model needs 3 of them, not 2"),
        ({"control__annotator": "invert", "control__hints": "x"}, "give an annotator, or a folder of hints"),
        ({"control__annotator": ""}, "give an annotator, or a folder of hints"),
        (
            {"control__annotator": "", "control__hints": "x", "control__options": {"low": 50}},
            "control.options: are an annotator's, and hints in a folder are drawn: leave them out",
        ),
        ({"control__annotator": "nothing"}, "unknown annotator 'nothing'"),
    ):
        with pytest.raises((BadFile, BadInput), match=why):
            first_step(model, images, tmp_path / "run", **more)


def first_step(model: Path, images: Path, folder: Path, **more: Any) -> None:
    task = taught(model, images, folder, **more)
    task.update(0, task.maker(0))
