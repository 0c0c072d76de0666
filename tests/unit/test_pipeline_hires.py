"""The second pass: what it starts from, which steps it takes, and what an infotext says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import tiny
from atelier.checkpoints.write import write_diffusers
from atelier.errors import BadFile, BadInput
from atelier.pipeline.decoding import decode, encode_image
from atelier.pipeline.lent import Lent
from atelier.pipeline.resources import AUTOENCODER
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.pipeline.stages.enlarge import Enlarge, cut
from atelier.pipeline.values import ENLARGED, FIRST_LATENTS, Values
from atelier.request import events
from atelier.request.events import Event
from atelier.request.groups import Hires
from atelier.request.infotext import read, to_request
from atelier.request.resolved import NoHires, ResolvedHires, Size
from atelier.request.second_pass import second_sizes
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.hashes import HashCache
from pipeline_support import (
    CPU,
    TOGETHER,
    Lending,
    Letters,
    Watched,
    engine_on,
    happened,
    planned,
    request,
    two_colours,
)
from upscaler_support import Esrgan, saved

LISTED = {"sampler": "Euler", "hires_scheduler": "14,7,3,1,0", "denoising_strength": 0.5}
"""A second pass that begins at 7: of its four steps, half and one."""


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return engine_on(tiny_folder, budget=2**40)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return two_colours(tmp_path_factory.mktemp("images"))


def twice(**fields: object) -> dict[str, object]:
    """A request with a second pass of twice the size."""
    return {"hires_upscale": 2.0, "steps": 2, **fields}


def only(engine: Engine, **fields: object) -> Image.Image:
    return engine.generate(request(**fields))[0].image


def watched(engine: Engine, **fields: object) -> Watched:
    """What the network is given; it answers 0."""
    net = Watched()
    told = happened(planned(engine, **fields), Lending(engine.resources, {"text": Letters, "denoiser": net.alone}))
    assert isinstance(told[-1], events.Finished), told[-1]
    return net


@dataclass(frozen=True)
class Kept(Stage):
    """Remembers what lies under the keys around an enlargement."""

    latents: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        try:
            self.latents["after"] = values.read(ENLARGED).latent
        except KeyError:
            self.latents["before"] = torch.stack(list(values.read(FIRST_LATENTS).values()))
        yield from ()


def enlarged(engine: Engine, **fields: object) -> Mapping[str, Tensor]:
    """The latents (B, C, h, w) before and after the enlargement of a run without a second sampling."""
    kept = Kept()
    stages = planned(engine, **twice(steps=1, denoising_strength=0.0, **fields))
    at = next(i for i, stage in enumerate(stages) if isinstance(stage, Enlarge))
    told = happened([*stages[:at], kept, stages[at], kept, *stages[at + 1 :]], engine.resources)
    assert isinstance(told[-1], events.Finished), told[-1]
    return kept.latents


def test_ten_steps_at_0_6_are_the_last_of_sixteen(engine: Engine) -> None:
    fields = twice(sampler="Euler", hires_steps=10, denoising_strength=0.6)
    taken = [float(call.t[0]) for call in watched(engine, **fields).calls]
    whole = [float(call.t[0]) for call in watched(engine, sampler="Euler", steps=16).calls]
    assert len(taken) == 2 + 10
    assert taken[2:] == whole[6:]
    told = happened(planned(engine, **fields), engine.resources)
    assert next(e for e in told if isinstance(e, events.Started)).steps == 12
    progress = [e for e in told if isinstance(e, events.Progress)]
    assert [(e.done, e.total) for e in progress] == [(n, 12) for n in range(1, 13)]
    assert next(e for e in told if isinstance(e, events.ImageReady)).image.size == (128, 128)


def test_without_steps_of_its_own_it_takes_as_many_as_the_first(engine: Engine) -> None:
    assert len(watched(engine, **twice(sampler="Euler", steps=3, denoising_strength=0.5)).calls) == 6


def test_the_second_pass_sees_the_larger_latent_with_new_noise(engine: Engine) -> None:
    """x = latent + sigma noise, divided by sqrt(1 + sigma^2), with the noise of that seed at that size."""
    own = twice(steps=1, hires_upscaler="Latent (bicubic)")
    second = watched(engine, **own, **LISTED).calls
    assert [tuple(call.x.shape[2:]) for call in second] == [(16, 16), *[(32, 32)] * 3]
    plain = watched(engine, width=128, height=128, sampler="Euler", scheduler="14,7,3,1,0").calls[0].x
    noise = plain * (1 + 14.0**2) ** 0.5 / 14
    first = watched(engine, sampler="Euler", steps=1).calls[0]
    latents = Kept()
    stages = planned(engine, **own, **LISTED)
    at = next(i for i, stage in enumerate(stages) if isinstance(stage, Enlarge))
    lending = Lending(engine.resources, {"text": Letters, "denoiser": Watched().alone})
    happened([*stages[: at + 1], latents, *stages[at + 1 :]], lending)
    seen = second[1].x[:1] * (1 + 7.0**2) ** 0.5
    assert torch.allclose(seen, latents.latents["after"] + 7 * noise[:1], atol=1e-4)
    assert torch.equal(second[0].x, first.x)
    kept = watched(engine, **own, **LISTED, seed_resize=(64, 64)).calls
    small = watched(engine, sampler="Euler", scheduler="14,7,3,1,0").calls[0].x * (1 + 14.0**2) ** 0.5 / 14
    assert torch.equal(kept[0].x, first.x), "the size of the first pass itself"
    noise[:, :, 8:24, 8:24] = small
    seen = kept[1].x[:1] * (1 + 7.0**2) ** 0.5
    assert torch.allclose(seen, latents.latents["after"] + 7 * noise[:1], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("Latent", {"mode": "bilinear"}),
        ("Latent (antialiased)", {"mode": "bilinear", "antialias": True}),
        ("Latent (bicubic)", {"mode": "bicubic"}),
        ("latent (bicubic antialiased)", {"mode": "bicubic", "antialias": True}),
        ("Latent (nearest)", {"mode": "nearest"}),
        ("Latent (nearest-exact)", {"mode": "nearest-exact"}),
    ],
)
def test_latent_modes_are_those_of_torch(engine: Engine, name: str, how: dict[str, object]) -> None:
    """Of 16x16 to 26x26, a factor at which all of them differ."""
    seen = enlarged(engine, hires_upscaler=name, hires_upscale=1.625)
    assert torch.equal(seen["after"], F.interpolate(seen["before"], (26, 26), **how))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("None", Image.Resampling.LANCZOS),
        ("Lanczos", Image.Resampling.LANCZOS),
        ("Bicubic", Image.Resampling.BICUBIC),
        ("Nearest", Image.Resampling.NEAREST),
    ],
)
def test_image_upscalers_work_between_decoding_and_encoding(engine: Engine, name: str, way: Image.Resampling) -> None:
    seen = enlarged(engine, hires_upscaler=name)
    model = engine.resolve(request()).model
    format_ = engine.resources.checkpoint(model).latent
    with engine.resources.borrow(model, AUTOENCODER) as vae:
        image = decode(seen["before"][0], vae, format_).resize((128, 128), way)
        assert torch.equal(seen["after"], encode_image(image, vae, format_))


@pytest.mark.parametrize("scale", [2.0, 1.25])
def test_edges_that_meet_do_so_between_the_passes(engine: Engine, scale: float) -> None:
    """What was moved over the edge before is moved over it afterwards, and the same."""
    fields = twice(hires_upscaler="Lanczos", hires_upscale=scale, tile="xy")
    (stage,) = (own for own in planned(engine, **fields) if isinstance(own, Enlarge))

    def after(latent: Tensor) -> Tensor:
        values = Values()
        values.put(stage.source, {stage.samples[0].index: latent})
        with Lent(engine.resources, [stage]) as lent, torch.no_grad():
            list(stage.perform(lent, values))
        return values.read(stage.out).latent

    latent = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(1))
    whole, moved = after(latent), after(latent.roll((4, 8), (1, 2)))
    assert float((moved - whole.roll((int(4 * scale), int(8 * scale)), (2, 3))).abs().max()) < 0.05 * float(whole.std())


@pytest.fixture(scope="module")
def with_upscalers(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Beside the model a published upscaler by its name, and what is none."""
    folder = tmp_path_factory.mktemp("more")
    (folder / "ESRGAN").mkdir()
    saved(folder / "ESRGAN" / "RealESRGAN_x4plus.pth", SMALL.tensors())
    (folder / "ESRGAN" / "broken.pth").write_bytes(b"no file of torch")
    return Engine(CPU, Library((tiny_folder.parent, folder)), HashCache(), version="1")


SMALL = Esrgan(blocks=1)
"""Enlarges four times."""


@pytest.mark.parametrize("name", ["R-ESRGAN 4x+", "realesrgan_x4PLUS"])
def test_upscalers_from_files_enlarge_between_the_passes(with_upscalers: Engine, name: str) -> None:
    """The formula of ESRGAN on the decoded image, four times as large, then brought to twice with Lanczos."""
    engine = with_upscalers
    seen = enlarged(engine, hires_upscaler=name)
    model = engine.resolve(request()).model
    format_ = engine.resources.checkpoint(model).latent
    with engine.resources.borrow(model, AUTOENCODER) as vae:
        before = np.asarray(decode(seen["before"][0], vae, format_), np.float32) / 255
        large = SMALL.run(SMALL.tensors(), torch.from_numpy(before).permute(2, 0, 1)[None])[0].clamp(0, 1) * 255
        image = Image.fromarray(large.round().byte().permute(1, 2, 0).numpy())
        assert image.size == (256, 256)
        expected = encode_image(image.resize((128, 128), Image.Resampling.LANCZOS), vae, format_)
    assert float((seen["after"] - expected).norm() / expected.norm()) < 1e-3
    assert float((seen["after"] - enlarged(engine, hires_upscaler="Lanczos")["after"]).norm() / expected.norm()) > 0.1


def test_a_second_pass_with_a_file_says_and_repeats_itself(with_upscalers: Engine) -> None:
    engine, fields = with_upscalers, twice(hires_upscaler="R-ESRGAN 4x+", denoising_strength=0.6)
    told = list(engine.events(request(**fields)))
    assert events.Loading("R-ESRGAN 4x+", "upscaler") in told
    made = next(event for event in told if isinstance(event, events.ImageReady))
    assert ", Hires upscaler: R-ESRGAN 4x+" in made.infotext
    (again,) = engine.generate(to_request(read(made.infotext), {"model": "tiny"}))
    assert again.image.tobytes() == made.image.tobytes()


def test_the_file_of_an_upscaler_is_the_one_that_was_resolved(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "upscalers").mkdir()
    file = saved(tmp_path / "upscalers" / "mine.pth", SMALL.tensors())
    engine = Engine(CPU, Library((tiny_folder.parent, tmp_path)), HashCache(), version="1")
    resolved = engine.resolve(request(**twice(hires_upscaler="mine", steps=1)))
    saved(file, Esrgan(blocks=1, ups=1).tensors())
    *_, last = engine.run(resolved)
    assert isinstance(last, events.Failed)
    assert str(last.error) == f"{file}: has changed since the request was resolved; resolve it again"


@pytest.fixture(scope="module")
def two_models(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Beside the tiny model one with other weights and another meaning of its latents, and an inpainting one."""
    folder = tmp_path_factory.mktemp("models")
    other = tiny.modules()
    for network in other.networks.values():
        for parameter in network.parameters():
            parameter.data = parameter.data.flip(0) * 0.9
    write_diffusers(replace(other, facts=replace(other.facts, latent_scale=0.25)), folder / "other")
    tiny.folder(folder / "nine", in_channels=9)
    return Engine(CPU, Library((tiny_folder.parent, folder)), HashCache(), version="1", budget=2**40)


def test_a_second_pass_with_another_model_is_that_models(two_models: Engine) -> None:
    """At strength 1 nothing of the first pass is left: it is what the other model makes of the prompt at that size."""
    own = {"sampler": "Euler a", "steps": 2, "negative_prompt": "a dog", "cfg_scale": 4.0}
    asked = request(**own, hires_checkpoint="other", hires_upscaler="Nearest", denoising_strength=1.0)
    told = list(two_models.events(asked))
    loaded = {event.part for event in told if isinstance(event, events.Loading) and event.model == "other"}
    assert loaded == {"text", "denoiser", "autoencoder"}
    made = next(event for event in told if isinstance(event, events.ImageReady))
    alone = two_models.generate(request(**own, model="other", width=128, height=128))[0]
    assert made.image.tobytes() == alone.image.tobytes()
    assert f", Hires checkpoint: other [{two_models.resolve(asked).hires.model.sha256[:10]}]," in made.infotext
    again = two_models.resolve(to_request(read(made.infotext), {"model": "tiny"}))
    assert again.hires == two_models.resolve(asked).hires


def test_the_weights_of_both_models_are_told_of(tiny_file: Path, tmp_path: Path) -> None:
    (tmp_path / "again.safetensors").write_bytes(tiny_file.read_bytes())
    engine = Engine(CPU, Library((tiny_file.parent, tmp_path)), HashCache(), version="1")
    asked = request(hires_checkpoint="again", hires_upscaler="Nearest")
    assert engine.hashing(asked) == (events.Hashing("tiny"), events.Hashing("again"))
    assert engine.hashing(asked.model_copy(update={"hires": None})) == (events.Hashing("tiny"),)
    engine.resolve(asked)
    assert engine.hashing(asked) == ()


def test_what_enlarges_goes_from_one_autoencoder_to_the_other(two_models: Engine) -> None:
    seen = enlarged(two_models, hires_upscaler="Nearest", hires_checkpoint="other")
    first, second = (two_models.resolve(request(model=name)).model for name in ("tiny", "other"))
    checkpoints = [two_models.resources.checkpoint(model) for model in (first, second)]
    with (
        two_models.resources.borrow(first, AUTOENCODER) as vae,
        two_models.resources.borrow(second, AUTOENCODER) as into,
    ):
        image = decode(seen["before"][0], vae, checkpoints[0].latent).resize((128, 128), Image.Resampling.NEAREST)
        assert torch.equal(seen["after"], encode_image(image, into, checkpoints[1].latent))


@pytest.mark.parametrize(
    ("name", "upscaler", "told"),
    [
        (
            "nine",
            "Nearest",
            "hires_checkpoint nine: sees image and mask beside it, tiny the latent alone: choose another",
        ),
        (
            "other",
            "Latent",
            "hires_checkpoint other: its latents are others than those of tiny: choose an hires_upscaler of images ",
        ),
        ("othr", "Nearest", "hires_checkpoint: unknown model 'othr': did you mean other"),
    ],
)
def test_a_model_that_cannot_go_on_is_one_line(two_models: Engine, name: str, upscaler: str, told: str) -> None:
    with pytest.raises(BadInput) as raised:
        two_models.resolve(request(hires_checkpoint=name, hires_upscaler=upscaler))
    assert str(raised.value).startswith(told)


def test_the_first_model_stands_in_for_a_second_one_that_is_not_there(two_models: Engine) -> None:
    warnings: list[str] = []
    asked = request(hires_checkpoint="othr", hires_upscaler="Nearest", lenient=True)
    resolved = two_models.resolve(asked, warnings.append)
    assert isinstance(resolved.hires, ResolvedHires)
    assert resolved.hires.model == resolved.model
    assert [text for text in warnings if text.endswith("generated with that of the first pass")]
    same = two_models.resolve(request(hires_checkpoint="Use same checkpoint", hires_upscaler="Nearest")).hires
    assert same == resolved.hires


def test_what_is_no_upscaler_is_one_line(with_upscalers: Engine) -> None:
    with pytest.raises(BadFile) as raised:
        with_upscalers.resolve(request(**twice(hires_upscaler="broken")))
    assert "ESRGAN/broken.pth: " in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_names_the_folders(with_upscalers: Engine) -> None:
    first, second = with_upscalers.library.folders
    with pytest.raises(BadInput) as raised:
        with_upscalers.resolve(request(**twice(hires_upscaler="R-ESRGAN 2x+")))
    assert str(raised.value) == (
        "hires_upscaler 'R-ESRGAN 2x+' is not there: choose one of Latent, Latent (antialiased), Latent (bicubic), "
        "Latent (bicubic antialiased), Latent (nearest), Latent (nearest-exact), None, Nearest, Bicubic, Lanczos, "
        f"broken, R-ESRGAN 4x+; or put RealESRGAN_x2plus.pth into one of {first}/upscalers, {second}/upscalers; "
        "or --lenient takes Lanczos"
    )


@pytest.mark.parametrize(
    ("first", "hires", "size", "scaled"),
    [
        ((512, 768), Hires(upscale=1.75), (896, 1344), (896, 1344)),
        ((512, 512), Hires(upscale=1.3), (664, 664), (664, 664)),
        ((512, 768), Hires(upscaler="Latent"), (1024, 1536), (1024, 1536)),
        ((512, 768), Hires(resize=(1024, 0)), (1024, 1536), (1024, 1536)),
        ((512, 768), Hires(resize=(0, 1152)), (768, 1152), (768, 1152)),
        ((768, 512), Hires(resize=(1003, 0), upscale=4), (1000, 664), (1000, 664)),
        ((512, 768), Hires(resize=(1024, 1024)), (1024, 1024), (1024, 1536)),
        ((512, 512), Hires(resize=(1024, 512)), (1024, 512), (1024, 1024)),
        ((512, 768), Hires(resize=(768, 1536)), (768, 1536), (1024, 1536)),
    ],
)
def test_sizes_are_those_of_a1111(
    first: tuple[int, int], hires: Hires, size: tuple[int, int], scaled: tuple[int, int]
) -> None:
    assert second_sizes(hires, Size(*first), 8) == (size, scaled)


def test_the_excess_is_cut_off_evenly(engine: Engine) -> None:
    latent = torch.arange(30.0).reshape(1, 1, 5, 6)
    assert cut(latent, (2, 4)).tolist() == [[[[7, 8, 9, 10], [13, 14, 15, 16]]]]
    seen = enlarged(engine, hires_upscale=None, hires_resize=(128, 64))
    whole = F.interpolate(seen["before"], (32, 32), mode="bilinear")
    assert torch.equal(seen["after"], whole[:, :, 8:24])


@pytest.mark.parametrize("upscaler", ["Latent", "Lanczos"])
def test_at_strength_0_the_larger_image_is_left(engine: Engine, upscaler: str) -> None:
    fields = twice(steps=1, denoising_strength=0.0, hires_upscaler=upscaler)
    assert len(watched(engine, **fields).calls) == 1
    latent = enlarged(engine, hires_upscaler=upscaler)["after"][0]
    model = engine.resolve(request()).model
    with engine.resources.borrow(model, AUTOENCODER) as vae:
        image = decode(latent, vae, engine.resources.checkpoint(model).latent)
    assert image.size == (128, 128)
    assert only(engine, **fields).tobytes() == image.tobytes()


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ SDE"])
def test_images_of_a_batch_are_those_made_alone(tiny_folder: Path, engine: Engine, sampler: str) -> None:
    fields = twice(sampler=sampler, batch_size=2, denoising_strength=0.6)
    together = engine_on(tiny_folder, device=TOGETHER).generate(request(**fields))
    for i, made in enumerate(together):
        alone = only(engine, **(fields | {"batch_size": 1, "seed": 7 + i}))
        difference = np.abs(np.asarray(made.image).astype(int) - np.asarray(alone))
        assert difference.max() <= 1


def test_fractions_of_a_timeline_go_on_in_the_second_pass(engine: Engine) -> None:
    """1.5 is the middle of the second: an entry is used up to the call that it ends with, counted from 0."""
    fields = twice(sampler="Euler", steps=4, denoising_strength=0.8, prompt="[p:q:1.5]")
    assert [call.texts[-1] for call in watched(engine, **fields).calls] == ["p"] * 7 + ["q"]


def test_the_second_pass_has_prompts_of_its_own(engine: Engine) -> None:
    fields = twice(prompt="p", negative_prompt="n", denoising_strength=0.5, sampler="Euler")
    own = {"hires_prompt": "q", "hires_negative_prompt": "m"}
    assert watched(engine, **fields).texts == [["n", "p"]] * 4
    assert watched(engine, **fields, **own).texts == [["n", "p"]] * 2 + [["m", "q"]] * 2


def test_choices_are_drawn_from_the_seed_of_the_image(engine: Engine) -> None:
    drawn = engine.resolve(request(**twice(prompt="{r|s|t}", hires_prompt="{r|s|t}", batch_size=6))).hires
    assert isinstance(drawn, ResolvedHires)
    samples = engine.resolve(request(prompt="{r|s|t}", batch_size=6)).samples
    assert [own.prompt for own in drawn.prompts] == [sample.prompt for sample in samples]
    assert len({own.prompt for own in drawn.prompts}) > 1


def test_sampler_schedule_steps_and_cfg_are_its_own(engine: Engine) -> None:
    fields = twice(
        sampler="Euler", cfg_scale=3.0, hires_sampler="Heun", hires_scheduler="Karras", hires_steps=5, hires_cfg_scale=9
    )
    first, second = (stage for stage in planned(engine, **fields) if isinstance(stage, Diffuse))
    assert (first.sampling.sampler, first.sampling.steps, first.guidance.scale) == ("Euler", 2, 3.0)
    own = second.sampling
    assert (own.sampler, own.scheduler, own.steps, second.guidance.scale) == ("Heun", "Karras", 5, 9.0)
    same = {"hires_sampler": "Use same sampler", "hires_scheduler": "Use same scheduler"}
    first, second = (s for s in planned(engine, **twice(sampler="Euler", **same)) if isinstance(s, Diffuse))
    assert first.sampling == second.sampling


ASKED = (
    (
        {"hires_upscaler": "Lanczos", "denoising_strength": 0.6, "hires_steps": 3},
        ("Denoising strength: 0.6", "Hires upscale: 2.0", "Hires steps: 3", "Hires upscaler: Lanczos"),
    ),
    (
        {"hires_upscale": None, "hires_resize": (128, 64), "hires_denoising_strength": 0.5, "denoising_strength": 0.1},
        ("Denoising strength: 0.5", "Hires resize: 128x64", "Hires upscaler: Latent"),
    ),
    (
        {
            "sampler": "Euler",
            "eta": 0.5,
            "hires_sampler": "Euler a",
            "hires_scheduler": "Karras",
            "hires_prompt": "a dog, {x|y}",
            "hires_negative_prompt": "no",
            "hires_cfg_scale": 4.0,
        },
        (
            *("Hires sampler: Euler a", "Hires schedule type: Karras", "Eta: 0.5", "Hires negative prompt: no"),
            *('Hires prompt: "a dog, ', "Hires CFG Scale: 4.0", "Denoising strength: 0.75"),
        ),
    ),
)


@pytest.mark.parametrize(("fields", "pairs"), ASKED)
def test_the_infotext_says_it_and_makes_it_again(
    engine: Engine, fields: dict[str, object], pairs: tuple[str, ...]
) -> None:
    (made,) = engine.generate(request(**twice(**fields)))
    for pair in (*pairs, "Size: 64x64"):
        assert f", {pair}" in made.infotext
    (again,) = engine.generate(to_request(read(made.infotext), {"model": "tiny"}))
    assert again.image.tobytes() == made.image.tobytes()
    assert again.infotext == made.infotext


def test_an_image_inside_a_mask_can_have_a_second_pass(engine: Engine, source: str, tmp_path: Path) -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    mask.save(tmp_path / "mask.png")
    images = {"image": source, "mask": str(tmp_path / "mask.png")}
    own = {"denoising_strength": 0.9, "hires_denoising_strength": 0.5, "mask_blur": 0.0}
    (made,) = engine.generate(request(**twice(**images, **own)))
    before = Image.open(source).resize((128, 128), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(made.image)[:, :56], np.asarray(before)[:, :56])
    assert not np.array_equal(np.asarray(made.image)[:, 72:], np.asarray(before)[:, 72:])
    assert ", Denoising strength: 0.9" in made.infotext
    assert ", Hires strength: 0.5" in made.infotext
    (again,) = engine.generate(to_request(read(made.infotext), {**images, "model": "tiny"}))
    assert again.image.tobytes() == made.image.tobytes()
    with pytest.raises(BadInput, match="hires_resize 128x64: the second pass of an image keeps the proportions"):
        engine.resolve(request(image=source, hires_resize=(128, 64)))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"hires_upscaler": "R-ESRGAN 4x+"}, r"hires_upscaler 'R-ESRGAN 4x\+' is not there: choose one of Latent, "),
        ({"hires_upscale": 16.0, "width": 1024}, "hires_upscale 16: makes 16384x1024 of 1024x64"),
        ({"hires_resize": (8, 0)}, "hires_resize 8x8: makes 8x8 of 64x64, each side must be from 64 to 8192"),
        ({"hires_upscale": 2.0, "hires_denoising_strength": 1e-4}, "second pass: 3 steps at a strength of 0.0001"),
        ({"hires_upscale": 2.0, "hires_sampler": "Eular"}, "unknown sampler 'Eular'"),
        ({"image": "", "exact_steps": True, "denoising_strength": 5e-324}, "3 steps at a strength of 4.94066e-324"),
    ],
)
def test_what_cannot_be_made_is_one_line(engine: Engine, source: str, fields: dict[str, object], told: str) -> None:
    if "image" in fields:
        fields = {**fields, "image": source}
    with pytest.raises(BadInput, match=told) as raised:
        engine.resolve(request(**fields))
    assert "\n" not in str(raised.value)


def warned(engine: Engine, **fields: object) -> list[str]:
    return [event.message for event in engine.events(request(**fields)) if isinstance(event, events.Warned)]


def test_an_upscaler_that_is_not_there_has_a_stand_in(engine: Engine) -> None:
    fields = twice(hires_upscaler="R-ESRGAN 4x+", lenient=True, steps=1)
    assert warned(engine, **fields) == ["hires_upscaler 'R-ESRGAN 4x+' is not there: enlarged with Lanczos"]
    resolved = engine.resolve(request(**fields)).hires
    assert isinstance(resolved, ResolvedHires)
    assert resolved.upscaler == "Lanczos"


def test_without_a_size_or_an_upscaler_there_is_no_second_pass(engine: Engine) -> None:
    fields = {"hires_steps": 3, "hires_resize": (0, 0), "steps": 1}
    assert isinstance(engine.resolve(request(**fields)).hires, NoHires)
    (told,) = warned(engine, **fields)
    assert told.startswith("hires_resize, hires_steps: no second pass is asked for")


def test_networks_of_its_prompt_are_looked_for(engine: Engine) -> None:
    with pytest.raises(BadInput, match="'ink' is not there"):
        engine.resolve(request(**twice(hires_prompt="<lora:ink:1>")))
