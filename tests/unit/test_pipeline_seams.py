"""What comes later is only new objects: networks, combinators, starts, adapters and stages that this file defines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.checkpoints.text import TextTowers
from atelier.diffusion.partial import Part
from atelier.diffusion.types import Combinator, Denoiser, Moment, Prediction
from atelier.nn.ports import NOTHING, Conditioning, Ports
from atelier.pipeline.lent import Lent
from atelier.pipeline.prompted import Rows
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.decode import Decode
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.pipeline.stages.encode import Encode
from atelier.pipeline.starts import Beginning
from atelier.pipeline.values import LATENTS, Images, Key, Latents, Values
from atelier.request import events
from atelier.request.resolved import Size
from atelier.runtime.engine import Engine
from pipeline_support import Lending, Letters, Watched, changed, engine_on, happened, planned, request, shown

PLAIN = {"prompt": "[a:b:1] AND c", "negative_prompt": "[n|m]", "sampler": "Euler", "steps": 4}


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return engine_on(tiny_folder, budget=2**40)


def pixels(told: list[events.Event]) -> list[bytes]:
    assert isinstance(told[-1], events.Finished), told[-1]
    return [event.image.tobytes() for event in told if isinstance(event, events.ImageReady)]


def usual(engine: Engine, **fields: object) -> list[bytes]:
    return [image.image.tobytes() for image in engine.generate(request(**fields))]


def test_a_network_that_is_no_module_generates(engine: Engine) -> None:
    net = Watched()
    have = Lending(engine.resources, {"denoiser": net.around})
    assert pixels(happened(planned(engine, **PLAIN), have)) == usual(engine, **PLAIN)
    assert len(net.calls) == 4


def test_a_network_gets_its_own_precision(engine: Engine) -> None:
    net = Watched(dtype=torch.bfloat16)
    told = happened(planned(engine, **PLAIN), Lending(engine.resources, {"denoiser": net.alone}))
    assert len(pixels(told)) == 1
    assert {(call.x.dtype, call.tokens.dtype, call.t.dtype) for call in net.calls} == {
        (torch.bfloat16, torch.bfloat16, torch.float32)
    }


@dataclass(frozen=True)
class Always:
    """Wraps a denoiser in the same way whatever the run is."""

    combinator: Combinator

    def around(self, given: Beginning, /) -> Combinator:
        return self.combinator


def tiles(side: int, stride: int) -> Combinator:
    """Denoises square tiles of x, one after the other, and averages where they overlap."""

    def combine(denoise: Denoiser) -> Denoiser:
        def tiled(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
            total, count = torch.zeros_like(x), torch.zeros_like(x)
            for top in range(0, x.shape[2] - side + 1, stride):
                for left in range(0, x.shape[3] - side + 1, stride):
                    place = ..., slice(top, top + side), slice(left, left + side)
                    total[place] += denoise(x[place], sigma, moment).clean
                    count[place] += 1
            return Prediction(total / count)

        return tiled

    return combine


def test_one_tile_changes_no_bit(engine: Engine) -> None:
    stages = changed(planned(engine, **PLAIN), lambda stage: replace(stage, combine=(Always(tiles(16, 16)),)))
    assert pixels(happened(stages, engine.resources)) == usual(engine, **PLAIN)


@pytest.mark.parametrize("sampler", ["Euler", "Heun", "DPM adaptive"])
def test_tiles_change_no_timeline(engine: Engine, sampler: str) -> None:
    stages = planned(engine, **{**PLAIN, "sampler": sampler})
    whole = shown(engine, stages)
    tiled = shown(engine, changed(stages, lambda stage: replace(stage, combine=(Always(tiles(10, 6)),))))
    assert {call.x.shape[2:] for call in tiled.calls} == {(10, 10)}
    seen = tiled.texts
    assert all(seen[i : i + 4] == [seen[i]] * 4 for i in range(0, len(seen), 4))
    common = min(len(whole.calls), len(seen) // 4)
    assert common >= 4
    assert seen[: 4 * common : 4] == whole.texts[:common]
    assert {"n", "m", "a", "b", "c"} == {text for row in seen for text in row}


def test_tiles_change_the_image(engine: Engine) -> None:
    stages = changed(planned(engine, **PLAIN), lambda stage: replace(stage, combine=(Always(tiles(10, 6)),)))
    assert pixels(happened(stages, engine.resources)) != usual(engine, **PLAIN)


def test_combinators_are_composed_from_the_inside_out(engine: Engine) -> None:
    order: list[str] = []

    def named(name: str) -> Combinator:
        def combine(denoise: Denoiser) -> Denoiser:
            def asked(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
                order.append(f"{name}{moment.call}")
                return denoise(x, sigma, moment)

            return asked

        return combine

    inside_out = (Always(named("inner")), Always(named("outer")))
    shown(engine, changed(planned(engine, sampler="Euler"), lambda stage: replace(stage, combine=inside_out)))
    assert order == ["outer0", "inner0", "outer1", "inner1", "outer2", "inner2"]


@dataclass(frozen=True)
class Residual:
    """An adapter that remembers when it was asked, and for what."""

    asked: list[tuple[Moment, int, int, Ports]] = field(default_factory=list[tuple[Moment, int, int, Ports]])

    def ports(self, x: Tensor, t: Tensor, moment: Moment, cond: Conditioning, rows: Rows, /) -> Ports:
        made = Ports(residuals=(torch.tensor(float(moment.call)),))
        self.asked.append((moment, len(x), len(cond.tokens), made))
        assert len(t) == len(x)
        return made


def test_an_adapter_sees_the_moment_of_each_call(engine: Engine) -> None:
    adapter = Residual()
    stages = changed(planned(engine, **PLAIN), lambda stage: replace(stage, adapter=adapter))
    net = shown(engine, stages)
    moments = [moment for moment, *_ in adapter.asked]
    assert moments == [Moment(0, 0.0), Moment(1, 0.25), Moment(2, 0.5), Moment(3, 0.75)]
    assert [rows for _, *rows, _ in adapter.asked] == [[3, 3]] * 4
    assert all(call.ports is made for call, (*_, made) in zip(net.calls, adapter.asked, strict=True))


def test_prompts_of_two_lengths_are_two_calls_of_one_moment(engine: Engine) -> None:
    adapter = Residual()
    long = {"prompt": "a" * 80, "negative_prompt": "n", "sampler": "Heun", "steps": 2}
    stages = changed(planned(engine, **long), lambda stage: replace(stage, adapter=adapter))
    assert shown(engine, stages).texts == [["n"], ["a" * 80]] * 3
    assert [(moment.call, moment.progress) for moment, *_ in adapter.asked] == [
        *((0, 0.0), (0, 0.0), (1, 0.25), (1, 0.25), (2, 0.5), (2, 0.5)),
    ]


@dataclass(frozen=True)
class Doubled(Stage):
    """From latents of one size to those of twice that size."""

    source: Key[Latents]
    out: Key[Latents]

    def perform(self, have: Lent, values: Values) -> Iterator[events.Event]:
        assert have.device.type == "cpu"
        small = values.take(self.source)
        values.put(self.out, {i: F.interpolate(latent[None], scale_factor=2)[0] for i, latent in small.items()})
        yield events.Warned("doubled")


@dataclass(frozen=True)
class Midway:
    """Begins at a sigma on the way, from latents."""

    source: Key[Latents]
    skipped: int

    def part(self, steps: int, /) -> Part:
        return Part(steps, steps - self.skipped)

    def begin(self, given: Beginning, /) -> tuple[Tensor, Tensor]:
        latents = values = given.values.read(self.source)
        clean = torch.stack([values[sample.index] for sample in given.samples])
        assert clean.shape == given.noise.shape == (len(latents), 4, 32, 32)
        sigmas = given.sigmas[self.skipped :]
        return clean + given.raised(given.noise, float(sigmas[0])), sigmas


@dataclass(frozen=True)
class Collect(Stage):
    """Hands images over to the test."""

    source: Key[Images]
    found: list[tuple[int, int]]

    def perform(self, have: Lent, values: Values) -> Iterator[events.Event]:
        del have
        self.found.extend(made.image.size for made in values.take(self.source).values())
        yield from ()


LARGE: Key[Latents] = Key("large latents")
SECOND: Key[Latents] = Key("latents of the second pass")
KEPT: Key[Images] = Key("kept")


def second_pass(stages: list[Stage], found: list[tuple[int, int]], skipped: int = 2) -> list[Stage]:
    """The stages of two samples at once with an enlargement and a second pass before they are decoded."""
    encode, diffuse, decode = stages
    assert isinstance(encode, Encode)
    assert isinstance(diffuse, Diffuse)
    assert isinstance(decode, Decode)
    again = replace(diffuse, size=Size(128, 128), start=Midway(LARGE, skipped), out=SECOND)
    last = replace(decode, source=SECOND, out=KEPT)
    return [encode, diffuse, Doubled(LATENTS, LARGE), again, last, Collect(KEPT, found)]


def test_a_second_pass_is_new_stages_and_a_start(engine: Engine) -> None:
    found: list[tuple[int, int]] = []
    stages = second_pass(planned(engine, sampler="Euler", steps=5, batch_size=2, max_batch=None), found)
    told = happened(stages, engine.resources)
    assert found == [(128, 128)] * 2
    assert len(set(pixels(told))) == 2
    assert told[0] == events.Started(2, 8)
    progress = [(e.done, e.total) for e in told if isinstance(e, events.Progress)]
    assert progress == [(i, 8) for i in range(1, 9)]
    assert told.index(events.Warned("doubled")) == 1 + next(
        i for i, e in enumerate(told) if isinstance(e, events.Progress) and e.done == 5
    )


def test_a_start_decides_where_sampling_begins(engine: Engine) -> None:
    """The network is shown the sigmas that are left, and their moments are counted from 0 of those."""
    plain = planned(engine, sampler="Euler", steps=5, batch_size=2, max_batch=None)
    net, adapter = Watched(), Residual()
    stages = changed(second_pass(plain, []), lambda stage: replace(stage, adapter=adapter))
    happened(stages, Lending(engine.resources, {"text": Letters, "denoiser": net.alone}))
    times = [float(call.t[0]) for call in net.calls]
    assert len(times) == 8
    assert times[5:] == times[2:5]
    assert [moment.call for moment, *_ in adapter.asked] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert adapter.asked[-1][0].progress == pytest.approx(2 / 3)


def steady(clean: float) -> Combinator:
    return lambda _: lambda x, _sigma, _moment: Prediction(torch.full_like(x, clean))


def test_previews_are_of_the_clean_latent(engine: Engine) -> None:
    """Where the prediction is the same all along, each preview is the finished image; x is not."""
    stages = planned(engine, previews=True, sampler="Euler", steps=4)
    told = happened(
        changed(stages, lambda stage: replace(stage, combine=(Always(steady(0.7)),))), engine.resources, previews=0.0
    )
    previews = [event.image.tobytes() for event in told if isinstance(event, events.Preview)]
    assert previews
    assert set(previews) == set(pixels(told))


def test_previews_are_made_only_where_a_stage_and_a_caller_want_them(engine: Engine) -> None:
    for wanted, pace in ((True, None), (False, 0.0)):
        told = happened(planned(engine, previews=wanted), engine.resources, previews=pace)
        assert not [event for event in told if isinstance(event, events.Preview)]


class Sized(Letters):
    """A text encoder whose family tells its network sizes and a pooled state as well."""

    def join(self, states: Sequence[Conditioning], /) -> Conditioning:
        (own,) = states
        count = len(own.tokens)
        return Conditioning(own.tokens, torch.full((count, 3), 5.0), torch.full((count, 2), 64.0))


def test_pooled_states_and_sizes_reach_the_network(engine: Engine) -> None:
    seen: list[tuple[list[list[float]], list[list[float]]]] = []

    class Net(Watched):
        def __call__(self, x: Tensor, t: Tensor, cond: Conditioning, ports: Ports = NOTHING) -> Tensor:
            assert cond.pooled is not None
            assert cond.sizes is not None
            seen.append((cond.pooled.tolist(), cond.sizes.tolist()))
            return super().__call__(x, t, cond, ports)

    net = Net()
    happened(planned(engine, prompt="a", steps=1), Lending(engine.resources, {"text": Sized, "denoiser": net.alone}))
    assert seen == [([[5.0] * 3] * 2, [[64.0] * 2] * 2)], "the negative prompt's row and the prompt's"


def test_textual_inversions_reach_the_encoder_in_a_run(engine: Engine) -> None:
    """A name whose vectors are the embeddings of another word means that word."""

    def taught(encoder: TextTowers) -> TextTowers:
        (tower,) = encoder.towers
        own = tower.net.token_embedding.weight[tower.tokenize("cat")].detach().clone()
        return replace(encoder, towers=(replace(tower, vectors={"dog": own}),))

    have = Lending(engine.resources, {"text": taught})
    assert pixels(happened(planned(engine, prompt="a red dog"), have)) == usual(engine, prompt="a red cat")
    assert usual(engine, prompt="a red dog") != usual(engine, prompt="a red cat")
