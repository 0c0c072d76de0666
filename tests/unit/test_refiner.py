"""A model that takes the end of the sampling over: when, with what it is told, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import tiny
import tiny_sd
from atelier.checkpoints.write import Modules, write_diffusers
from atelier.diffusion.combine.handed_over import by_calls, by_noise, handed_over
from atelier.diffusion.types import Denoiser, Moment, Prediction
from atelier.errors import BadInput
from atelier.nn.ports import NOTHING, Conditioning, Ports
from atelier.pipeline.lent import Lent
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.pipeline.values import LATENTS, Values
from atelier.request import events
from atelier.request.events import Event
from atelier.request.infotext import read, to_request
from atelier.request.resolved import NoRefiner, ResolvedRefiner
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.hashes import HashCache
from pipeline_support import CPU, PLENTY, Lending, Letters, Watched, happened, planned, request, two_colours

UNIFORM = {"sampler": "Euler", "scheduler": "Uniform", "steps": 4}
"""Calls at the levels 999, 666, 333 and 0 of 1000."""


def other(prediction: str = "velocity") -> Modules:
    """The tiny model with other weights in all its networks."""
    made = tiny.modules(prediction)
    for network in made.networks.values():
        for parameter in network.parameters():
            parameter.data = parameter.data.flip(0) * 0.9
    return made


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("models")
    tiny.folder(folder / "tiny")
    tiny.folder(folder / "nine", in_channels=9)
    write_diffusers(other(), folder / "other")
    write_diffusers(tiny.modules("epsilon"), folder / "plain")
    write_diffusers(other("epsilon"), folder / "plain-other")
    scaled = other()
    write_diffusers(replace(scaled, facts=replace(scaled.facts, latent_scale=0.25)), folder / "scaled")
    write_diffusers(tiny_sd.sdxl(), folder / "sdxl")
    write_diffusers(tiny_sd.refiner(), folder / "sdxl-refiner")
    (folder / "Lora").mkdir()
    saved_lora(folder / "Lora" / "sd1.safetensors", "lora_te_text_model_encoder_layers_0_mlp_fc1", 32)
    saved_lora(folder / "Lora" / "xl.safetensors", "lora_te1_text_model_encoder_layers_0_mlp_fc1", tiny_sd.L)
    return Engine(CPU, Library((folder,)), HashCache(), version="1", budget=PLENTY)


def saved_lora(path: Path, layer: str, width: int) -> None:
    """As kohya's scripts write it, for one layer of a text encoder."""
    generator = torch.Generator().manual_seed(1)
    down, up = torch.randn(4, width, generator=generator), torch.randn(64, 4, generator=generator)
    save_file({f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}, path, {"format": "pt"})


class Saying(Watched):
    """Says the same everywhere, and writes down which of the two tiny models it is, by a weight of the first one's."""

    def __init__(self, net: Any, seen: list[str], said: Mapping[str, float]) -> None:
        super().__init__()
        own = tiny.modules().networks["unet"].conv_in.weight
        self._name = "b" if torch.equal(net.conv_in.weight, own) else "r"
        self._seen, self._said = seen, said[self._name]

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning, ports: Ports = NOTHING) -> Tensor:
        self._seen.append(self._name)
        return torch.full_like(x, self._said)


def acting(engine: Engine, **fields: object) -> str:
    """Which model the sampler's calls reach, without guidance: b the first, r the refiner."""
    seen: list[str] = []
    stages = planned(engine, **{"cfg_scale": 1.0, "refiner": "other", **fields})
    nets = {"text": Letters, "denoiser": partial(Saying, seen=seen, said={"b": 0.0, "r": 0.0})}
    told = happened(stages, Lending(engine.resources, nets))
    assert isinstance(told[-1], events.Finished), told[-1]
    return "".join(seen)


@pytest.mark.parametrize(
    ("switch_at", "by_levels", "by_calls"),
    [
        (0.0, "rrrr", "rrrr"),
        (0.25, "brrr", "brrr"),
        (0.3333, "bbrr", "bbrr"),
        (0.333, "brrr", "bbrr"),
        (0.5, "bbrr", "bbrr"),
        (0.67, "bbbr", "bbbr"),
        (0.8, "bbbr", "bbbb"),
        (1.0, "bbbb", "bbbb"),
    ],
)
def test_it_takes_over_where_a1111_counts(engine: Engine, switch_at: float, by_levels: str, by_calls: str) -> None:
    """By levels (999 - level) / 1000 >= switch_at, by calls call / 4 >= switch_at."""
    asked = {**UNIFORM, "refiner_switch_at": switch_at}
    assert acting(engine, **asked) == by_levels
    assert acting(engine, **asked, refiner_by_steps=True) == by_calls


def test_it_may_take_over_within_a_step(engine: Engine) -> None:
    """Heun asks at 999, 666, 666, 333, 333, 0, 0, and is expected to ask 8 times."""
    asked = {**UNIFORM, "sampler": "Heun"}
    assert acting(engine, **asked, refiner_switch_at=0.3) == "brrrrrr"
    assert acting(engine, **asked, refiner_switch_at=0.5, refiner_by_steps=True) == "bbbbrrr"


def test_an_image_counts_its_own_calls(engine: Engine, tmp_path: Path) -> None:
    """At strength 0.5 of 4 steps three are taken, from the level 666 on; of its calls two are left to the first."""
    asked = {**UNIFORM, "image": two_colours(tmp_path), "denoising_strength": 0.5, "refiner_switch_at": 0.5}
    assert acting(engine, **asked) == "brr"
    assert acting(engine, **asked, refiner_by_steps=True) == "bbr"


def test_it_acts_in_the_passes_that_are_said(engine: Engine) -> None:
    asked = {**UNIFORM, "steps": 2, "hires_upscale": 2.0, "denoising_strength": 1.0, "refiner_switch_at": 0.5}
    assert acting(engine, **asked) == "bbbr"
    assert acting(engine, **asked, hires_refiner="first pass") == "brbb"
    assert acting(engine, **asked, hires_refiner="both passes") == "brbr"
    assert acting(engine, **asked, hires_checkpoint="other", hires_refiner="both passes") == "brrr"


def test_once_it_has_taken_over_it_stays() -> None:
    """Also where a sampler such as Restart goes back to more noise."""

    def saying(value: float) -> Denoiser:
        return lambda x, sigma, moment: Prediction(torch.full_like(x, value))

    table = torch.tensor([1.0, 2.0, 4.0, 8.0])
    denoise = handed_over(saying(1.0), by_noise(0.5, table))(saying(0.0))
    found = [float(denoise(torch.zeros(1), torch.tensor(s), Moment(0, 0.0)).clean) for s in (8.0, 4.1, 2.9, 8.0)]
    assert found == [0.0, 0.0, 1.0, 1.0]
    due = by_calls(0.5)
    assert [due(torch.tensor(1.0), Moment(n, n / 3)) for n in range(4)] == [False, False, True, True]


def image(engine: Engine, **fields: object) -> bytes:
    return engine.generate(request(**fields))[0].image.tobytes()


def test_at_0_it_is_the_refiner_alone_and_at_1_the_first_model(engine: Engine) -> None:
    own = {"sampler": "DPM++ 2M", "negative_prompt": "a dog", "cfg_scale": 4.0, "refiner": "other"}
    alone, without = (
        image(engine, **{**own, "model": "other", "refiner": None}),
        image(engine, **{**own, "refiner": None}),
    )
    assert image(engine, **own, refiner_switch_at=0.0) == alone
    assert image(engine, **own, refiner_switch_at=1.0) == without
    assert image(engine, **own, refiner_switch_at=0.5) not in {alone, without}
    assert image(engine, **{**own, "refiner": "tiny"}) == without


def test_the_refiner_of_xl_reads_its_own_texts_and_its_own_telling(engine: Engine) -> None:
    own = {"negative_prompt": "a dog", "cfg_scale": 4.0, "sampler": "Euler", "width": 64, "height": 64}
    alone = image(engine, **own, model="sdxl-refiner")
    assert image(engine, **own, model="sdxl", refiner="sdxl-refiner", refiner_switch_at=0.0) == alone
    without = image(engine, **own, model="sdxl")
    assert image(engine, **own, model="sdxl", refiner="sdxl-refiner", refiner_switch_at=0.5) not in {alone, without}


@dataclass(frozen=True)
class Keep(Stage):
    """Keeps the sampled latents."""

    latents: list[Tensor] = field(default_factory=list[Tensor])

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        self.latents.extend(values.read(LATENTS).values())
        yield from ()


def test_networks_of_the_prompt_act_in_a_refiner_of_the_same_family(engine: Engine) -> None:
    own = {"steps": 2, "sampler": "Euler", "refiner_switch_at": 0.0, "cfg_scale": 1.0}
    tagged, plain = "a red cat<lora:sd1>", image(engine, **own, model="other")
    alone = image(engine, **own, model="other", prompt=tagged)
    assert image(engine, **own, refiner="other", prompt=tagged) == alone != plain
    own |= {"width": 64, "height": 64}
    region = ("box=0,0,1,1: a red cat<lora:sd1>",)
    assert image(engine, **own, model="tiny", refiner="other", regions=region, prompt="b") == image(
        engine, **own, model="tiny", refiner="other", prompt=tagged
    )
    xl = image(engine, **own, model="sdxl", refiner="sdxl-refiner", prompt="a red cat<lora:xl>")
    assert xl == image(engine, **own, model="sdxl-refiner")


def test_a_multistep_sampler_remembers_what_the_first_model_said(engine: Engine) -> None:
    """DPM++ 2M (Lu 2022, algorithm 2) by hand; epsilon is b in the first two of four calls and r in the others.

    All steps but the last halve sigma, so that the direction is 1.5 clean - 0.5 of the one before:

        x1 = X - 4b, clean0 = clean1 = X - 8b, x2 = X - 6b, clean2 = X - 6b - 2r, x3 = X - 5.5b - 1.5r, x4 = x3 - r

    Had the sampler begun anew where the other took over, x4 were X - 6b - 2r.
    """
    models = {"model": "plain", "refiner": "plain-other", "cfg_scale": 1.0}
    asked = {"sampler": "DPM++ 2M", "scheduler": "8,4,2,1,0", **models}
    stages = planned(engine, **asked, refiner_switch_at=0.5, refiner_by_steps=True)
    at = next(i for i, stage in enumerate(stages) if isinstance(stage, Diffuse))
    kept, seen = Keep(), list[str]()
    for said in ({"b": 0.0, "r": 0.0}, {"b": 0.4, "r": 0.2}):
        nets = {"text": Letters, "denoiser": partial(Saying, seen=seen, said=said)}
        told = happened([*stages[: at + 1], kept], Lending(engine.resources, nets))
        assert isinstance(told[-1], events.Finished), told[-1]
    plain, moved = kept.latents
    assert "".join(seen) == "bbrr" * 2
    assert torch.allclose(moved - plain, torch.tensor(-5.5 * 0.4 - 2.5 * 0.2), atol=1e-5)


def test_an_infotext_says_what_takes_over_and_asks_for_it_again(engine: Engine) -> None:
    asked = request(refiner="other", refiner_switch_at=0.6)
    made = engine.generate(asked)[0]
    refiner = engine.resolve(asked).refiner
    assert isinstance(refiner, ResolvedRefiner)
    assert f", Refiner: other [{refiner.model.sha256[:10]}], Refiner switch at: 0.6, " in made.infotext
    assert "Hires refiner" not in made.infotext
    assert "Refiner switch by" not in made.infotext
    assert engine.resolve(to_request(read(made.infotext))).refiner == refiner
    more = {"refiner_by_steps": True, "hires_refiner": "both passes", "hires_upscale": 1.5}
    second = engine.generate(request(**more, refiner="other"))[0].infotext
    said = "Refiner switch at: 0.8, Hires refiner: both passes, Refiner switch by sampling steps: True"
    assert said in second
    assert "Refiner" not in engine.generate(request(refiner="other", refiner_switch_at=1.0))[0].infotext
    for nobody in ("None", "tiny"):
        assert engine.resolve(request(refiner=nobody)).refiner == NoRefiner()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"refiner": "othr"}, "refiner: unknown model 'othr': did you mean other"),
        ({"refiner": "nine"}, "refiner nine: sees image and mask beside it, tiny the latent alone: choose another"),
        ({"refiner": "scaled"}, "refiner scaled: its latents are others than those of tiny: choose another"),
        (
            {"refiner": "scaled", "hires_upscale": 1.5, "hires_checkpoint": "other"},
            "refiner scaled: its latents are others than those of other: choose another",
        ),
        ({"refiner": "other", "refiner_switch_at": 1.1}, "refiner_switch_at 1.1: must be a number from 0 to 1"),
    ],
)
def test_what_cannot_take_over_is_one_line(engine: Engine, fields: dict[str, object], told: str) -> None:
    with pytest.raises(BadInput) as raised:
        engine.resolve(request(**fields))
    assert str(raised.value).startswith(told)


def test_one_that_is_not_there_is_left_out_where_that_is_wanted(engine: Engine) -> None:
    warnings: list[str] = []
    assert engine.resolve(request(refiner="othr", lenient=True), warnings.append).refiner == NoRefiner()
    assert [text for text in warnings if text.endswith("generated with no refiner")]


def test_its_weights_are_told_of(tiny_file: Path, tmp_path: Path) -> None:
    (tmp_path / "again.safetensors").write_bytes(tiny_file.read_bytes())
    told = Engine(CPU, Library((tiny_file.parent, tmp_path)), HashCache(), version="1")
    asked = request(refiner="again")
    assert told.hashing(asked) == (events.Hashing("tiny"), events.Hashing("again"))


def test_an_inpainting_model_hands_over_to_a_plain_one(engine: Engine, tmp_path: Path) -> None:
    Image.new("L", (64, 64), 255).save(tmp_path / "mask.png")
    mask = {"mask": str(tmp_path / "mask.png"), "denoising_strength": 1.0}
    own = {"model": "nine", "image": two_colours(tmp_path), **mask}
    without = image(engine, **own)
    assert image(engine, **own, refiner="other", refiner_switch_at=0.5) != without
