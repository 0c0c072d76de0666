"""From an image: which steps are taken, from what, and what is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atelier.diffusion.catalogue import samplers
from atelier.diffusion.combine.masked import masked
from atelier.diffusion.partial import Part, part_of
from atelier.diffusion.types import Moment, Prediction
from atelier.errors import AtelierError, BadFile, BadInput
from atelier.pipeline.lent import Lent
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.pipeline.stages.prepare import Prepare
from atelier.pipeline.values import Values
from atelier.request import events
from atelier.request.infotext import interpret, read, to_request
from atelier.request.pictures import data_uri
from atelier.runtime.engine import Engine
from atelier.runtime.images import read_reference, reference_to
from pipeline_support import Lending, Letters, Watched, changed, engine_on, happened, planned, request, two_colours


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return engine_on(tiny_folder, budget=2**40)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return two_colours(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def right_half(tmp_path_factory: pytest.TempPathFactory) -> str:
    image = Image.new("L", (64, 64))
    image.paste(255, (32, 0, 64, 64))
    path = tmp_path_factory.mktemp("images") / "mask.png"
    image.save(path)
    return str(path)


def only(engine: Engine, **fields: object) -> Image.Image:
    return engine.generate(request(**fields))[0].image


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


def watched(engine: Engine, **fields: object) -> Watched:
    """What the network is given; it answers 0."""
    net = Watched()
    told = happened(planned(engine, **fields), Lending(engine.resources, {"text": Letters, "denoiser": net.alone}))
    assert isinstance(told[-1], events.Finished), told[-1]
    return net


def prepared(engine: Engine, **fields: object) -> Image.Image:
    """The image that sampling starts from."""
    (stage,) = (stage for stage in planned(engine, **fields) if isinstance(stage, Prepare))
    values = Values()
    list(stage.perform(Lent(engine.resources, ()), values))
    return values.read(stage.out).image


@pytest.mark.parametrize(
    ("steps", "strength", "exact", "expected"),
    [
        (20, 0.75, False, Part(20, 16)),
        (20, 0.5, False, Part(20, 11)),
        (20, 1.0, False, Part(20, 20)),
        (20, 0.01, False, Part(20, 1)),
        (20, 0.0, False, Part(20, 0)),
        (20, 0.5, True, Part(40, 20)),
        (10, 0.6, True, Part(16, 10)),
        (7, 1.0, True, Part(7, 7)),
    ],
)
def test_the_steps_are_those_of_a1111(steps: int, strength: float, exact: bool, expected: Part) -> None:
    assert part_of(steps, strength, exact=exact) == expected


@pytest.mark.parametrize("sampler", ["Euler", "Heun", "DPM++ 2M SDE", "DDIM", "UniPC", "LMS"])
def test_only_the_last_steps_are_taken(engine: Engine, source: str, sampler: str) -> None:
    plain = watched(engine, sampler=sampler, steps=8)
    part = watched(engine, sampler=sampler, steps=8, image=source, denoising_strength=0.5)
    whole, taken = ([float(call.t[0]) for call in net.calls] for net in (plain, part))
    assert taken[0] < whole[0]
    assert taken[0] in whole
    per_step = samplers()[sampler].calls
    assert len(taken) in range(5 * per_step - per_step, 5 * per_step + 1)
    progress = happened(planned(engine, sampler=sampler, steps=8, image=source), engine.resources)
    started = next(e for e in progress if isinstance(e, events.Started))
    assert started.steps == 7, "0.75 of 8, and one"


def test_the_first_call_sees_the_image_with_noise(engine: Engine, source: str) -> None:
    """x = latent + sigma noise, as the network is shown it: divided by sqrt(1 + sigma^2)."""
    fields = {"sampler": "Euler", "scheduler": "14,7,3,1,0", "image": source, "denoising_strength": 0.5}
    first = watched(engine, **fields).calls[0]
    twice = watched(engine, **fields, noise_multiplier=2.0).calls[0]
    extra = watched(engine, **fields, extra_noise=0.5).calls[0]
    both = watched(engine, **fields, extra_noise=0.5, noise_multiplier=2.0).calls[0]
    still = watched(engine, **fields, noise_multiplier=0.0).calls[0]
    scale = (1 + 7.0**2) ** 0.5
    noise = watched(engine, sampler="Euler", scheduler="14,7,3,1,0").calls[0].x * (1 + 14.0**2) ** 0.5 / 14
    latent = still.x * scale
    assert torch.allclose(first.x * scale, latent + 7 * noise, atol=1e-4)
    assert torch.allclose(twice.x * scale, latent + 14 * noise, atol=1e-4)
    assert torch.allclose(extra.x * scale, latent + 7.5 * noise, atol=1e-4)
    assert torch.allclose(both.x * scale, latent + 15 * noise, atol=1e-4)
    assert len(watched(engine, **fields, exact_steps=True).calls) == 4


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DPM++ SDE", "DDIM"])
def test_at_strength_1_nothing_of_the_image_is_left(engine: Engine, source: str, sampler: str) -> None:
    own = only(engine, sampler=sampler, image=source, denoising_strength=1.0)
    assert own.tobytes() == only(engine, sampler=sampler).tobytes()


def test_at_strength_0_nothing_is_sampled(engine: Engine, source: str) -> None:
    net = watched(engine, image=source, denoising_strength=0.0)
    assert net.calls == []
    one, two = (only(engine, image=source, denoising_strength=0.0, seed=seed) for seed in (1, 2))
    assert one.tobytes() == two.tobytes()


def test_early_steps_without_guidance_are_counted_from_the_first_that_is_taken(engine: Engine, source: str) -> None:
    """Of ten steps five and one are taken; 0.4 of these are the calls 0, 1 and 2."""
    fields = {"sampler": "Euler", "steps": 10, "image": source, "denoising_strength": 0.5, "cfg_scale": 7.0}
    rows = [len(call.x) for call in watched(engine, **fields, skip_early_cfg=0.4).calls]
    assert rows == [1, 1, 1, 2, 2, 2]


def test_paths_of_noise_go_over_the_whole_schedule(engine: Engine, source: str) -> None:
    """A tree of torchsde's is another with another first level, also where that is not used; a portable path needs no
    ends."""
    fields = {"sampler": "DPM++ SDE", "image": source, "denoising_strength": 0.5}
    lower, higher = (only(engine, rng="cpu", scheduler=f"{first},7,3,1,0", **fields) for first in (14, 14.5))
    assert lower.tobytes() != higher.tobytes()
    tail = {**fields, "rng": "portable"}
    short = only(engine, scheduler="14,7,3,1,0", **tail)
    assert short.tobytes() == only(engine, scheduler="14.5,7,3,1,0", **tail).tobytes()
    assert short.tobytes() != only(engine, scheduler="14,7.1,3,1,0", **tail).tobytes()


def test_an_image_comes_to_the_size(engine: Engine, tmp_path: Path) -> None:
    wide = Image.new("RGB", (96, 48), "white")
    wide.paste("black", (0, 0, 60, 24))
    wide.save(tmp_path / "wide.png")
    made = {
        mode: only(engine, image=str(tmp_path / "wide.png"), resize_mode=mode, denoising_strength=0.0)
        for mode in ("stretch", "crop", "fill", "latent")
    }
    assert {image.size for image in made.values()} == {(64, 64)}
    assert len({image.tobytes() for image in made.values()}) == 4


def test_what_the_mask_does_not_show_stays_to_the_pixel(engine: Engine, source: str, right_half: str) -> None:
    fields = {"image": source, "mask": right_half, "mask_blur": 0.0, "denoising_strength": 1.0}
    made = array(only(engine, **fields))
    before = array(Image.open(source))
    assert np.array_equal(made[:, :32], before[:, :32])
    assert np.abs(made[:, 32:] - before[:, 32:]).mean() > 5
    turned = array(only(engine, **fields, mask_mode="Inpaint not masked"))
    assert np.array_equal(turned[:, 32:], before[:, 32:])
    assert np.abs(turned[:, :32] - before[:, :32]).mean() > 5


def test_a_soft_edge_reaches_as_far_as_its_blur(engine: Engine, source: str, right_half: str) -> None:
    made = array(only(engine, image=source, mask=right_half, mask_blur=2.0, denoising_strength=1.0))
    before = array(Image.open(source))
    assert np.array_equal(made[:, :27], before[:, :27])
    assert not np.array_equal(made[:, 27:32], before[:, 27:32])


def test_a_masked_denoiser_knows_what_is_kept() -> None:
    known, mask = torch.full((1, 2, 2, 2), 5.0), torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
    made = masked(known, mask)(lambda x, *_: Prediction(x, x + 1))(
        torch.ones(3, 2, 2, 2), torch.tensor(1.0), Moment(0, 0)
    )
    assert made.clean[2, 1].tolist() == [[5.0, 1.0], [1.0, 5.0]]
    assert made.unguided is not None
    assert made.unguided[0, 0].tolist() == [[5.0, 2.0], [2.0, 5.0]]


def test_the_latent_outside_the_mask_ends_as_it_was(engine: Engine, source: str, right_half: str) -> None:
    """The network answers 0, and what is kept is the image's own latent at every step."""
    net = watched(engine, sampler="Euler", scheduler="14,7,3,1,0", image=source, mask=right_half, mask_blur=0.0)
    calls = [call.x[0] * (1 + sigma**2) ** 0.5 for call, sigma in zip(net.calls, (14.0, 7.0, 3.0, 1.0), strict=True)]
    kept = calls[0].shape[-1] // 2
    noise = (calls[0] - calls[1]) / 7
    for x, sigma in zip(calls, (14.0, 7.0, 3.0, 1.0), strict=True):
        assert torch.allclose((x - sigma * noise)[..., :kept], (calls[0] - 14 * noise)[..., :kept], atol=2e-3)


def test_what_is_under_the_mask_at_the_start(engine: Engine, source: str, right_half: str) -> None:
    fields = {"image": source, "mask": right_half, "denoising_strength": 0.6, "sampler": "Euler", "mask_blur": 0.0}
    contents = ("original", "fill", "latent noise", "latent nothing")
    seen = {content: watched(engine, **fields, masked_content=content).calls[0].x for content in contents}
    half = seen["fill"].shape[-1] // 2
    inside = [x[..., half:] for x in seen.values()]
    assert all(not torch.allclose(a, b) for i, a in enumerate(inside) for b in inside[:i])
    assert torch.equal(seen["fill"][..., :half], seen["latent noise"][..., :half])
    assert torch.equal(seen["fill"][..., :half], seen["latent nothing"][..., :half])


def test_only_masked_is_generated_larger_and_put_back(engine: Engine, tmp_path: Path) -> None:
    image, mask = Image.new("RGB", (160, 160), (90, 140, 60)), Image.new("L", (160, 160))
    mask.paste(255, (96, 96, 128, 128))
    image.save(tmp_path / "image.png")
    mask.save(tmp_path / "mask.png")
    made = only(
        engine,
        image=str(tmp_path / "image.png"),
        mask=str(tmp_path / "mask.png"),
        mask_blur=0.0,
        inpaint_area="Only masked",
        masked_area_padding=8,
        denoising_strength=1.0,
    )
    assert made.size == (160, 160)
    changed_ = np.abs(array(made) - array(image)).sum(-1) > 0
    ys, xs = np.nonzero(changed_)
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (96, 96, 127, 127)


@pytest.mark.parametrize(
    ("fields", "ground"),
    [
        ({"mask": "alpha"}, (200, 40, 40)),
        ({"mask": "alpha", "mask_mode": "Inpaint not masked"}, (255, 255, 255)),
        ({}, (255, 255, 255)),
    ],
)
def test_what_is_transparent_and_made_anew_begins_as_its_surroundings(
    engine: Engine, tmp_path: Path, fields: dict[str, object], ground: tuple[int, int, int]
) -> None:
    """Red at the left, nothing at the right, where a file may hold any colour; kept or made from, it is white."""
    image = Image.new("RGBA", (64, 64), (200, 40, 40, 255))
    image.paste((0, 255, 0, 0), (32, 0, 64, 64))
    image.save(tmp_path / "half.png")
    begun = prepared(engine, image=str(tmp_path / "half.png"), **fields)
    assert begun.getpixel((36, 32)) == pytest.approx(ground, abs=1)


def test_nothing_but_transparency_is_white(engine: Engine, tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64), (200, 40, 40, 0)).save(tmp_path / "none.png")
    assert prepared(engine, image=str(tmp_path / "none.png"), mask="alpha").getextrema() == ((255, 255),) * 3


def test_colours_are_those_of_the_image_where_asked(engine: Engine, source: str) -> None:
    fields = {"image": source, "denoising_strength": 0.9}
    before, plain = array(Image.open(source)).mean((0, 1)), array(only(engine, **fields)).mean((0, 1))
    corrected = array(only(engine, **fields, color_correction=True)).mean((0, 1))
    assert np.ptp(corrected - before) < np.ptp(plain - before)


def test_the_infotext_says_it_and_makes_it_again(engine: Engine, source: str, right_half: str) -> None:
    fields = {
        "image": source,
        "mask": right_half,
        "denoising_strength": 0.6,
        "mask_mode": "Inpaint not masked",
        "masked_content": "latent noise",
        "inpaint_area": "Only masked",
        "masked_area_padding": 16,
        "noise_multiplier": 1.5,
        "exact_steps": True,
    }
    (made,) = engine.generate(request(**fields))
    for pair in (
        "Denoising strength: 0.6",
        "Mask mode: Inpaint not masked",
        "Mask blur: 4.0",
        "Masked content: latent noise",
        "Inpaint area: Only masked",
        "Masked area padding: 16",
        "Noise multiplier: 1.5",
        "Exact steps: True",
        "Init image hash: ",
    ):
        assert f", {pair}" in made.infotext
    again = engine.generate(to_request(read(made.infotext), {"image": source, "mask": right_half, "model": "tiny"}))
    assert again[0].image.tobytes() == made.image.tobytes()
    settings = interpret(read(made.infotext)).settings
    assert settings.init_image_hash == reference_to(source).sha256[:10]
    assert to_request(read(made.infotext)).source is None


def test_an_image_in_memory_is_the_same(engine: Engine, source: str) -> None:
    with Image.open(source) as image:
        uri = data_uri(image)
    fields = {"denoising_strength": 0.5}
    assert only(engine, image=uri, **fields).tobytes() == only(engine, image=source, **fields).tobytes()


def test_an_image_that_changed_is_refused(engine: Engine, source: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.open(source).save(path)
    resolved = engine.resolve(request(image=str(path)))
    Image.new("RGB", (64, 64)).save(path)
    told = list(engine.run(resolved))
    assert isinstance(told[-1], events.Failed)
    assert "a.png has changed" in str(told[-1].error).replace(":", "")


def test_upright_as_its_orientation_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 10), "red")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_reference(reference_to(str(tmp_path / "turned.jpg"))).size == (10, 20)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"image": "{missing}"}, "missing.png: does not exist"),
        ({"image": "{text}"}, "text.png: is no image"),
        ({"image": "{bomb}"}, "80,000,000"),
        ({"image": "data:image/png;base64,!"}, "holds no base64"),
        ({"image": "data:image/png,abc"}, "is no data: URI in base64"),
        ({"mask": "{source}"}, "a mask needs an image"),
        ({"image": "{source}", "mask": "{small}"}, "small.png: is 8x8, the image 64x64"),
        ({"image": "{source}", "mask": "{black}"}, "black.png: shows nothing to be made anew"),
        ({"image": "{source}", "mask": "alpha"}, "shows nothing to be made anew"),
        ({"image": "{source}", "denoising_strength": 1.5}, "denoising_strength 1.5: must be a number from 0 to 1"),
        ({"resize_mode": "crop"}, "image is missing"),
    ],
)
def test_bad_input(engine: Engine, source: str, tmp_path: Path, fields: dict[str, object], told: str) -> None:
    names = {name: tmp_path / f"{name}.png" for name in ("missing", "text", "small", "black", "bomb")}
    names["text"].write_text("no image")
    Image.new("L", (8, 8), 255).save(names["small"])
    Image.new("L", (64, 64)).save(names["black"])
    Image.new("1", (20_000, 20_000)).save(names["bomb"])
    known = {"source": source, **{name: str(path) for name, path in names.items()}}
    filled = {name: value.format(**known) if isinstance(value, str) else value for name, value in fields.items()}
    with pytest.raises(AtelierError) as caught:
        engine.generate(request(**filled))
    assert isinstance(caught.value, BadInput | BadFile)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_images_have_noise_of_their_own(engine: Engine, source: str) -> None:
    made = engine.generate(request(image=source, batch_size=2))
    alone = engine.generate(request(image=source, seed=8))
    assert made[0].image.tobytes() != made[1].image.tobytes()
    assert made[1].image.tobytes() == alone[0].image.tobytes()


def test_the_plan_says_what_it_starts_from(engine: Engine, source: str) -> None:
    stages = planned(engine, image=source)
    assert [type(stage).__name__ for stage in stages] == ["Encode", "Prepare", "EncodeImage", "Diffuse", "Decode"]
    (diffuse,) = (stage for stage in stages if isinstance(stage, Diffuse))
    assert diffuse.combine == ()
    assert changed(stages, lambda stage: stage) == stages
