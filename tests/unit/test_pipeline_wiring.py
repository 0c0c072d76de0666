"""What stages hand to networks, decoders and resources, seen by fakes that write down what they were given."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from atelier.checkpoints.opening import open_checkpoint
from atelier.diffusion.brownian import brownian
from atelier.diffusion.levels import scaled_linear
from atelier.diffusion.parameterization import EPSILON
from atelier.diffusion.rng import streams
from atelier.diffusion.sampling import SamplerSpec
from atelier.diffusion.types import Moment, Sampler
from atelier.errors import NotFinite
from atelier.families.facts import LatentFormat
from atelier.families.parts import UNET
from atelier.families.telling import Telling
from atelier.models.vae import VaeSpec
from atelier.nn.ports import NOTHING, Conditioning, Ports
from atelier.nn.seamless import EDGES, Seamless
from atelier.pipeline.decoding import decode, not_finite, thumbnail
from atelier.pipeline.denoising import guided, noise_source, schedule_options
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.prepared import PreparedPrompt
from atelier.pipeline.prompted import REMEMBERED, NoPorts, PromptedNet, Rows
from atelier.pipeline.resources import DENOISER, TEXT
from atelier.pipeline.run import run
from atelier.pipeline.sample import Sample
from atelier.pipeline.stage import Stage
from atelier.pipeline.starts import Beginning, FromNoise
from atelier.pipeline.values import Key, Values
from atelier.prompt import Timeline
from atelier.prompt.timeline import Span
from atelier.request import events
from atelier.request.infotext import settings
from pipeline_support import Watched, engine_on, planned, shown
from resolved_support import PROVENANCE, RESOLVED, SAMPLING

# Decoding


class Decoder(nn.Module):
    """Answers with `pixels`, in its own precision, and remembers what it was given."""

    spec = VaeSpec()

    def __init__(self, pixels: Tensor, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=dtype))
        self.pixels, self.given = pixels, list[Tensor]()

    def decode(self, latent: Tensor, seamless: Seamless) -> Tensor:
        assert seamless == EDGES
        self.given.append(latent)
        return self.pixels.to(self.weight.dtype)


MODEL: Any = SimpleNamespace(parameterization=EPSILON)
"""All that guidance without adapters asks of a checkpoint."""
FORMAT = LatentFormat(scale=0.5, shift=1.0, factor=8, channels=2)


def test_an_image_is_rounded_from_minus_one_to_one() -> None:
    """The middle of red's way, a green that is beyond the range, and both ends of blue; two rows and one column."""
    columns = torch.tensor([[[0.0], [-1.0]], [[3.0], [0.502]], [[1.0], [-7.0]]])[None]
    vae: Any = Decoder(columns)
    image = decode(torch.tensor([[[3.0]], [[-1.0]]]), vae, FORMAT)
    assert (image.mode, image.size) == ("RGB", (1, 2))
    assert [image.getpixel((0, y)) for y in range(2)] == [(128, 255, 255), (0, 192, 0)]
    (given,) = vae.given
    assert given.tolist() == [[[[7.0]], [[-1.0]]]], "the latent without the network's scale and shift"


def test_a_decoder_is_given_its_own_precision_and_named_where_it_fails() -> None:
    vae: Any = Decoder(torch.full((1, 3, 8, 8), torch.nan), torch.float16)
    with pytest.raises(NotFinite, match="the decoded image is not finite; ATELIER_DTYPE=fp32 computes in full"):
        decode(torch.zeros(2, 1, 1), vae, FORMAT)
    assert vae.given[0].dtype == torch.float16
    assert str(not_finite("x", torch.float32)) == "x is not finite; the model's weights are damaged"


@pytest.mark.parametrize(
    ("size", "seen"),
    [((16, 16), (16, 16)), ((8, 3), (8, 3)), ((17, 16), (9, 8)), ((16, 33), (6, 11)), ((64, 48), (16, 12))],
)
def test_a_preview_is_decoded_from_at_most_sixteen_positions(size: tuple[int, int], seen: tuple[int, int]) -> None:
    vae: Any = Decoder(torch.zeros(1, 3, 8, 8))
    thumbnail(torch.ones(2, *size), vae, LatentFormat(1.0, 0.0, 8, 2))
    assert vae.given[0].shape == (1, 2, *seen)
    assert torch.equal(vae.given[0], torch.ones(1, 2, *seen))


# Guidance


def line(text: str) -> Timeline:
    return Timeline((Span(9, text),))


def sample(*parts: str, weights: tuple[float, ...], negative: str = "n") -> Sample:
    prompt = PreparedPrompt(tuple(map(line, parts)), weights, line(negative))
    return Sample(0, 7, 0, prompt, settings(RESOLVED, 0, SAMPLING, PROVENANCE))


def conditioning(value: float, length: int = 3) -> Conditioning:
    return Conditioning(torch.full((length, 5), value), torch.full((2,), value))


def unmade(_: object) -> Sampler:
    raise AssertionError("no sampler is made")


def says_its_text(x: Tensor, _t: Tensor, cond: Conditioning, _ports: Ports) -> Tensor:
    """Each row's output is the number that its text is."""
    return cond.tokens[:, 0, :1, None, None].expand(x.shape)


NUMBERS = {"n": 1.0, "a": 2.0, "b": 4.0}
SIGMAS = torch.tensor([10.0, 8.0, 6.0, 4.0, 2.0, 0.0])


def clean(sigma: float, call: int = 0, *, spec: SamplerSpec | None = None, **wanted: float) -> tuple[float, int]:
    """The clean latent at x = 0 that is guided by `a AND b:0.5`, in units of -sigma, and how many rows were asked."""
    net = Watched(says_its_text)
    states = {(text,): {text: conditioning(number)} for text, number in NUMBERS.items()}
    prompted = PromptedNet(net, [sample("a", "b", weights=(1.0, 0.5))], states)
    guidance = RESOLVED.guidance.model_copy(update=wanted)
    made = guided(prompted, guidance, spec or SamplerSpec("x", unmade), SIGMAS, MODEL, scaled_linear())
    found = made(torch.zeros(1, 4, 2, 2), torch.tensor(sigma), Moment(call, 0.0)).clean
    assert float(found.min()) == float(found.max())
    return float(found[0, 0, 0, 0]) / -sigma, len(net.calls[0].x)


def test_guidance_has_the_scale_and_the_weights_of_the_request() -> None:
    """1 + 7 (1 (2 - 1) + 0.5 (4 - 1)), and with a sampler that halves the scale 1 + 3.5 times the same."""
    assert clean(3.0) == (pytest.approx(18.5), 3)
    assert clean(3.0, scale=2.0) == (pytest.approx(6.0), 3)
    assert clean(3.0, spec=SamplerSpec("x", unmade, cfg=0.5)) == (pytest.approx(9.75), 3)


def test_guidance_is_left_out_where_the_request_says_so() -> None:
    """Without it: 2 + 0.5 (4 - 2), and no negative prompt."""
    without = (pytest.approx(3.0), 2)
    assert clean(6.1, skip_early=0.3) == without
    assert clean(5.9, skip_early=0.3) == (pytest.approx(18.5), 3)
    assert clean(2.9, 1, ngms=3.0) == without
    assert clean(2.9, 2, ngms=3.0) == (pytest.approx(18.5), 3)
    assert clean(2.9, 2, ngms=3.0, ngms_all_steps=True) == without
    assert clean(3.1, 1, ngms=3.0, ngms_all_steps=True) == (pytest.approx(18.5), 3)
    assert clean(2.9, 1, ngms=3.0, spec=SamplerSpec("x", unmade, unguided=True)) == (pytest.approx(3.0), 3)


def test_contrast_is_brought_back_on_what_the_network_says() -> None:
    """Outputs that differ in one place: the guided one has the deviation of the unguided sum at rescale 1."""

    def spotted(x: Tensor, t: Tensor, cond: Conditioning, ports: Ports) -> Tensor:
        output = says_its_text(x, t, cond, ports).clone()
        output[..., 0, 0] = 0
        return output

    net = Watched(spotted)
    states = {(text,): {text: conditioning(number)} for text, number in NUMBERS.items()}
    prompted = PromptedNet(net, [sample("a", weights=(1.0,))], states)
    wanted = RESOLVED.guidance.model_copy(update={"rescale": 1.0})
    made = guided(prompted, wanted, SamplerSpec("x", unmade), SIGMAS, MODEL, scaled_linear())
    x = torch.arange(16.0).reshape(1, 4, 2, 2)
    output = (x - made(x, torch.tensor(3.0), Moment(0, 0.0)).clean) / 3
    assert output.flatten().tolist() == pytest.approx([0.0, 2.0, 2.0, 2.0] * 4, abs=1e-5)


def test_freeu_has_its_first_factors_where_features_are_widest(tiny_folder: Path) -> None:
    factors: dict[str, Any] = {"freeu_b1": 3.0, "freeu_b2": 2.0, "freeu_s1": 1.0, "freeu_s2": 1.0, "freeu_version": "1"}
    engine = engine_on(tiny_folder)
    call, *_ = shown(engine, planned(engine, steps=1, sampler="Euler", **factors)).calls
    next_one, widest = sorted(set(open_checkpoint(tiny_folder).spec(UNET).widths))[-2:]
    for patch in call.ports.skips.values():
        for width, factor in ((widest, 3.0), (next_one, 2.0)):
            features, _ = patch(torch.ones(1, width, 2, 2), torch.ones(1, 2, 2, 2))
            assert features[0, :, 0, 0].tolist() == [factor] * (width // 2) + [1.0] * (width - width // 2)


# The network with its prompts


@dataclass
class Asked:
    """An adapter that remembers what it was asked."""

    seen: list[tuple[Tensor, Tensor, Moment, Conditioning, Rows]] = field(default_factory=list[Any])

    def ports(self, x: Tensor, t: Tensor, moment: Moment, cond: Conditioning, rows: Rows, /) -> Ports:
        self.seen.append((x, t, moment, cond, rows))
        return NOTHING


def test_a_network_and_its_adapter_are_shown_the_same() -> None:
    net, adapter = Watched(dtype=torch.float64), Asked()
    states = {(text,): {text: conditioning(number)} for text, number in NUMBERS.items()}
    prompted = PromptedNet(net, [sample("a", weights=(1.0,))], states, adapter)
    x, t, moment = torch.randn(2, 4, 2, 2), torch.tensor([5.0, 6.0]), Moment(1, 0.5)
    prompted.both(x, t, moment)
    ((seen, times, when, cond, rows),) = adapter.seen
    assert (rows.negative.tolist(), rows.view.tolist()) == ([True, False], [0, 0])
    (call,) = net.calls
    assert (seen.dtype, cond.tokens.dtype, when) == (torch.float64, torch.float64, moment)
    assert torch.equal(seen, x.double())
    assert torch.equal(call.x, seen)
    assert torch.equal(times, t)
    assert cond.tokens[:, 0, 0].tolist() == [1.0, 2.0]
    assert cond.pooled is not None
    assert (cond.pooled.tolist(), cond.pooled.dtype) == ([[1.0, 1.0], [2.0, 2.0]], torch.float64)
    assert cond.sizes is None
    assert NoPorts().ports() is NOTHING


def test_rows_of_several_lengths_come_back_in_their_order() -> None:
    net = Watched(says_its_text)
    states = {("n",): {"n": conditioning(1.0)}, ("a",): {"a": conditioning(2.0, 6)}, ("b",): {"b": conditioning(4.0)}}
    prompted = PromptedNet(net, [sample("a", "b", weights=(1.0, 0.5))], states)
    found = prompted.both(torch.zeros(3, 4, 2, 2), torch.tensor([7.0, 8.0, 9.0]), Moment(0, 0.0))
    assert found[:, 0, 0, 0].tolist() == [1.0, 2.0, 4.0]
    assert [call.t.tolist() for call in net.calls] == [[7.0, 9.0], [8.0]]
    assert [call.tokens.shape for call in net.calls] == [(2, 3, 5), (1, 6, 5)]


def test_a_cycle_of_texts_is_told_once_for_each() -> None:
    """[a|b] comes back to a few; not all of a long timeline is kept."""
    told: list[str] = []

    def tell(cond: Conditioning, _: Telling) -> Conditioning:
        told.append(f"{cond.tokens[0, 0]:g}")
        return cond

    words = ["a", "b"] + [f"w{number}" for number in range(REMEMBERED)]
    turns = Timeline(tuple(Span(number, word) for number, word in enumerate(words)))
    states = {tuple(words): {word: conditioning(float(number)) for number, word in enumerate(words)}}
    prompt = PreparedPrompt((turns,), (1.0,), line("n"))
    own = Sample(0, 7, 0, prompt, settings(RESOLVED, 0, SAMPLING, PROVENANCE))
    prompted = PromptedNet(Watched(), [own], states, tell=tell)

    def called(*calls: int) -> list[str]:
        told.clear()
        for call in calls:
            prompted.conditional(torch.zeros(1, 4, 2, 2), torch.tensor([7.0]), Moment(call, 0.0))
        return list(told)

    assert called(0, 1, 0, 1, 0) == ["0", "1"]
    assert called(*range(2, REMEMBERED), 0) == [str(number) for number in range(2, REMEMBERED)]
    assert called(REMEMBERED, 0) == [str(REMEMBERED), "0"]


# Noise and schedules


def test_the_noise_of_a_path_goes_from_the_least_level_to_the_largest() -> None:
    x, sigmas = torch.zeros(1, 4, 8, 8), torch.tensor([10.0, 4.0, 1.0, 0.0])
    spec = SamplerSpec("x", unmade, noise="brownian")
    for source in ("cpu", "portable"):
        made = noise_source(spec, [3], streams([3]), x, sigmas, source)
        expected = brownian([3], x, 1.0, 10.0, source)
        assert torch.equal(made(sigmas[0], sigmas[1]), expected(sigmas[0], sigmas[1]))


def test_a_family_without_a_table_has_the_usual_one() -> None:
    assert schedule_options(SAMPLING, "sdxl").table == "sdxl"
    assert schedule_options(SAMPLING, None).table == "sd1"


def test_sampling_from_noise_begins_at_the_first_level() -> None:
    noise, sigmas, raised = torch.ones(1, 4, 2, 2), torch.tensor([7.0, 3.0, 0.0]), list[float]()

    def raise_to(given: Tensor, sigma: float) -> Tensor:
        raised.append(sigma)
        return given * sigma

    def never(*_: object) -> Tensor:
        raise AssertionError("there is no latent to begin with")

    x, used = FromNoise().begin(Beginning(noise, sigmas, 2, raise_to, never, (), Values(), 8))
    assert (raised, used is sigmas) == ([7.0], True)
    assert torch.equal(x, noise * 7)


def test_a_value_that_was_taken_is_gone() -> None:
    values = Values()
    key: Key[int] = Key("count")
    values.put(key, 3)
    assert values.read(Key("count")) == values.read(key) == values.take(key) == 3
    with pytest.raises(KeyError):
        values.take(key)


# What a run lends and tells


@dataclass(frozen=True)
class Steps(Stage):
    """Makes other numbers of steps than it said, with an image at the end."""

    said: int
    made: int

    @property
    def steps(self) -> int:
        return self.said

    @property
    def images(self) -> int:
        return 1

    def perform(self, have: Lent, values: Values) -> Iterator[events.Event]:
        for done in range(1, self.made + 1):
            yield events.Progress(done, self.made, 5)


class Nothing:
    """Resources of a run that needs none; its parts are texts, and it remembers what was lent and given back."""

    device = torch.device("cpu")

    def __init__(self, *loaded: str) -> None:
        self.loaded, self.log = loaded, list[str]()

    def is_loaded(self, _: object, part: Any, __: object) -> bool:
        return part.name in self.loaded

    @contextmanager
    def borrow(self, _: object, part: Any, __: object) -> Iterator[str]:
        self.log.append(f"+{part.name}")
        yield part.name
        self.log.append(f"-{part.name}")


def ticking(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """The clock shows these, one after the other."""
    times = iter(seconds)
    monkeypatch.setattr(time, "monotonic", lambda: next(times))


def test_progress_is_counted_over_all_stages_as_they_turn_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking(monkeypatch, 100.0, 102.5)
    have: Any = Nothing()
    told = list(run([Steps(2, 3), Steps(4, 1)], have))
    assert told == [
        events.Started(2, 6),
        *(events.Progress(done, 7, 5) for done in (1, 2, 3)),
        events.Progress(4, 4, 5),
        events.Finished(2, 2.5),
    ]


@dataclass(frozen=True)
class Uses(Stage):
    parts: tuple[Any, ...]

    def needs(self) -> tuple[Need[object], ...]:
        return tuple(Need(RESOLVED.model, part) for part in self.parts)

    def perform(self, have: Lent, values: Values) -> Iterator[events.Event]:
        for part in self.parts:
            assert have.is_ready(Need(RESOLVED.model, part))
            yield events.Warned(str(have.take(Need(RESOLVED.model, part))))


def test_parts_in_memory_are_held_from_the_beginning_and_others_from_their_stage() -> None:
    have: Any = Nothing("denoiser")
    seen = [
        (event, len(have.log))
        for event in run([Uses((TEXT,)), Uses((TEXT, DENOISER)), Uses(())], have)
        if not isinstance(event, events.Started | events.Finished)
    ]
    assert have.log == ["+denoiser", "+text", "-denoiser", "-text"]
    assert seen == [
        (events.Loading(RESOLVED.model.name, "text"), 1),
        *((events.Warned("text"), 2), (events.Warned("text"), 2), (events.Warned("denoiser"), 2)),
    ]


def test_what_is_held_is_given_back_wherever_a_run_ends() -> None:
    have: Any = Nothing("denoiser")
    running = run([Uses((TEXT, DENOISER)), Uses((TEXT,))], have)
    for event in running:
        if event == events.Warned("text"):
            break
    assert have.log == ["+denoiser", "+text"]
    running.close()
    assert sorted(have.log) == ["+denoiser", "+text", "-denoiser", "-text"]


def test_previews_are_neither_too_often_nor_too_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 2 seconds at most, and 9 s of pause, or ten times the cost, behind one that took 1.5 s."""
    image, made = Image.new("RGB", (8, 8)), list[int]()

    def make() -> Image.Image:
        made.append(1)
        return image

    have: Any = Nothing()
    ticking(monkeypatch, 10.0)
    lent = Lent(have, [], previews=2.0)
    for clock, is_shown in (
        ((11.9,), False),
        ((12.0, 12.1), True),
        ((14.0,), False),
        ((14.2, 15.7), True),
        ((30.6,), False),
        ((30.8, 30.8), True),
    ):
        ticking(monkeypatch, *clock)
        assert (lent.preview(make) is image) is is_shown, clock
    assert len(made) == 3
    assert Lent(have, []).preview(make) is None


def test_what_a_run_lends_is_what_its_resources_have(tmp_path: Path) -> None:
    class Disk(Nothing):
        def image(self, path: Path) -> tuple[str, Path]:
            return "image", path

        def checkpoint(self, model: object) -> tuple[str, object]:
            return "checkpoint", model

        def save(self, *given: object, **named: object) -> tuple[object, ...]:
            return (*given, *sorted(named.items()))

    have: Any = Disk()
    lent, image = Lent(have, []), Image.new("RGB", (8, 8))
    assert (lent.device, lent.image(tmp_path)) == (torch.device("cpu"), ("image", tmp_path))
    assert lent.checkpoint(RESOLVED.model) == ("checkpoint", RESOLVED.model)
    assert lent.save(image, "text", output="out", index=1, count=2, seed=3) == (
        *(image, "text", ("count", 2), ("index", 1), ("output", "out"), ("seed", 3)),
    )


def test_every_step_but_the_last_is_shown_where_there_is_time(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_on(tiny_folder)
    stages = planned(engine, previews=True, steps=4, sampler="Euler", batch_size=2, max_batch=None)
    now, told = [0.0], list[str]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for event in run(stages, engine.resources, previews=2.0):
        if isinstance(event, events.Progress | events.Preview):
            told.append(type(event).__name__)
        now[0] += 3
    assert told == ["Progress", "Preview"] * 3 + ["Progress"]
