"""Going on in the middle of an image: predictions told again give the same image, to the bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import tiny
from atelier.diffusion.catalogue import samplers, schedules
from atelier.diffusion.denoise import timed
from atelier.diffusion.levels import scaled_linear
from atelier.diffusion.rng import fresh, streams
from atelier.diffusion.sampling import SamplerSpec
from atelier.diffusion.scheduling import ScheduleOptions, run_sigmas
from atelier.diffusion.types import Denoiser, Moment, Prediction
from atelier.pipeline.tape import Tape
from atelier.request.events import ImageReady, Progress
from atelier.request.resolved import Resolved
from atelier.runtime.engine import Engine
from control_support import written
from diffusion_support import Mixture, last, start
from pipeline_support import PLENTY, engine_on, request, two_colours

KEYS = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
every = pytest.mark.parametrize("spec", samplers().values(), ids=samplers().keys())


class Died(Exception):
    """Where a process is killed."""


def dying(denoise: Denoiser, calls: int) -> Denoiser:
    def asked(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
        nonlocal calls
        if calls == 0:
            raise Died
        calls -= 1
        return denoise(x, sigma, moment)

    return asked


def unguided_too(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
    """Something else at each moment, as prompts, guidance and adapters may be."""
    clean = Mixture().clean(x, sigma.to(x.dtype)) * (1 + moment.call / 64 + moment.progress / 8)
    return Prediction(clean, clean * 0.9)


def sampled(spec: SamplerSpec, denoise: Denoiser, tape: Tape) -> Tensor:
    x = start(14.6, (2, 1, 2, 2), torch.float32)
    sigmas = run_sigmas(schedules()[spec.schedule].make(ScheduleOptions()), scaled_linear(), 5)
    noise = fresh(streams(range(3, 5)), x)
    model = timed(tape.around(denoise, 0, remembers=False), 5 * spec.calls)
    return last(spec.make(spec.own)(model, x, sigmas, noise))


@every
def test_every_sampler_goes_on_from_any_call(spec: SamplerSpec) -> None:
    whole = Tape()
    expected = sampled(spec, unguided_too, whole)
    for calls in range(1, whole.asked, max(1, whole.asked // 4)):
        killed = Tape()
        with pytest.raises(Died):
            sampled(spec, dying(unguided_too, calls), killed)
        resumed = Tape.of(killed.to_bytes("f"), "f")
        assert torch.equal(sampled(spec, unguided_too, resumed), expected)
        assert (resumed.played, resumed.asked) == (calls, whole.asked - calls)


def test_a_tape_of_another_request_or_a_damaged_one_is_empty() -> None:
    tape = Tape()
    sampled(samplers()["Euler"], unguided_too, tape)
    data = tape.to_bytes("mine")
    assert len(Tape.of(data, "mine")) == 5
    assert len(Tape.of(data, "other")) == 0
    for wrong in (
        b"",
        b"x",
        data[:-1],
        data[:20],
        data[:-1] + bytes([data[-1] ^ 1]),
        data.replace(b"float32", b"float99"),
    ):
        assert len(Tape.of(wrong, "mine")) == 0


def test_beyond_its_size_nothing_is_kept() -> None:
    one = 2 * 2 * 4 * 4
    tape = Tape(most=3 * one)
    whole = sampled(samplers()["Euler"], unguided_too, tape)
    assert len(tape) == 3
    resumed = Tape(0, [kept.prediction for kept in tape._kept], most=3 * one)
    assert torch.equal(sampled(samplers()["Euler"], unguided_too, resumed), whole)
    assert (resumed.played, resumed.asked, len(resumed)) == (3, 2, 3)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """With a ControlNet, an image for it, and a LoRA."""
    models = tmp_path_factory.mktemp("models")
    folder = tiny.folder(models / "tiny")
    for name in ("ControlNet", "Lora"):
        (models / name).mkdir()
    written(models / "ControlNet" / "tiny_canny.safetensors", folder, zero=False)
    two_colours(models)
    random = torch.Generator().manual_seed(4)
    lora = {f"{KEYS}.lora_{side}.weight": torch.randn(32, 32, generator=random) for side in ("down", "up")}
    save_file(lora, models / "Lora" / "late.safetensors")
    return engine_on(folder, budget=PLENTY)


def images(
    engine: Engine, resolved: Resolved, tape: Tape, there: Any = (), stop: int | None = None
) -> dict[int, bytes]:
    """The pixels by index; stop: how many steps are made before it is killed."""
    found: dict[int, bytes] = {}
    for event in _until(engine.run(resolved, tape=tape, there=there), stop):
        if isinstance(event, ImageReady):
            found[event.index] = event.image.tobytes()
    return found


def _until(events: Any, stop: int | None) -> Iterator[Any]:
    for event in events:
        yield event
        if isinstance(event, Progress) and event.done == stop:
            events.close()
            return


HALVES = ("a red cat[ in snow: at sea:0.5]", "[red|blue] cats", "a red cat<lora:late:1:start=0.5>")
WAYS = {
    "plain": {},
    **{prompt: {"prompt": prompt} for prompt in HALVES},
    "a control that ends": {"controls": ["canny:{folder}/source.png annotator=none end=0.5"]},
    "a control that begins": {"controls": ["canny:{folder}/source.png annotator=none start=0.5"]},
    "hires": {"hires_upscale": 2.0, "hires_steps": 2},
    "ancestral": {"sampler": "Euler a"},
    "sde": {"sampler": "DPM++ SDE"},
    "apg": {"apg_eta": 0.0, "apg_norm_threshold": 15.0},
    "pag": {"pag_scale": 2.0},
}


def asked(engine: Engine, way: Mapping[str, Any]) -> Resolved:
    (folder,) = engine.library.folders
    there = {"controls": [text.format(folder=folder) for text in way.get("controls", ())]}
    resolved, told = engine.settle(request(steps=4, width=64, height=64, **{**way, **there}))
    assert not told
    return resolved


@pytest.mark.parametrize("name", WAYS)
def test_a_run_that_was_stopped_goes_on_to_the_same_image(engine: Engine, name: str) -> None:
    """Also where what is told depends on the moment."""
    resolved = asked(engine, WAYS[name])
    whole = Tape()
    expected = images(engine, resolved, whole)
    stop = 5 if name == "hires" else 2
    killed = Tape()
    assert images(engine, resolved, killed, stop=stop) == {}
    fingerprint = engine.fingerprint(resolved)
    resumed = Tape.of(killed.to_bytes(fingerprint), fingerprint)
    assert images(engine, resolved, resumed) == expected
    assert resumed.asked < whole.asked
    assert resumed.played == killed.asked > 0


def test_what_remembers_begins_again(engine: Engine) -> None:
    """Momentum of guidance is no part of predictions: telling them again would lose it."""
    resolved, _ = engine.settle(request(steps=4, apg_momentum=-0.5))
    whole, killed = Tape(), Tape()
    expected = images(engine, resolved, whole)
    images(engine, resolved, killed, stop=3)
    assert len(killed) == 0
    resumed = Tape.of(killed.to_bytes("f"), "f")
    assert images(engine, resolved, resumed) == expected


def test_finished_images_are_not_made_again_and_the_next_one_goes_on(engine: Engine) -> None:
    resolved, _ = engine.settle(request(steps=4, batch_count=3))
    whole, killed = Tape(), Tape()
    expected = images(engine, resolved, whole)
    made = images(engine, resolved, killed, stop=6)
    assert made == {0: expected[0]}
    resumed = Tape.of(killed.to_bytes("f"), "f")
    assert resumed.image == 1
    assert images(engine, resolved, resumed, there=[0]) == {1: expected[1], 2: expected[2]}
    assert resumed.asked + killed.asked == whole.asked


def test_the_fingerprint_is_of_the_request_and_of_who_computes(engine: Engine) -> None:
    one, _ = engine.settle(request())
    other, _ = engine.settle(request(seed=8))
    assert engine.fingerprint(one) == engine.fingerprint(one) != engine.fingerprint(other)
