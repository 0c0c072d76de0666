"""A resolved request is total, and the same again after JSON."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel, ValidationError

from atelier.checkpoints.opening import open_checkpoint
from atelier.diffusion.catalogue import samplers, schedules
from atelier.prompt import EMPHASES
from atelier.request.model import Request
from atelier.request.resolve import Offer, resolve
from atelier.request.resolved import (
    AdapterRef,
    AllOver,
    BoxPlace,
    ByFactor,
    DepthChannels,
    EstimatedDepth,
    GivenDepth,
    ImageChannels,
    ImageRef,
    InFile,
    InNetwork,
    MaskedChannels,
    MaskPlace,
    ModelRef,
    NamedUpscaler,
    NetworkRef,
    NoFile,
    NoisedChannels,
    NoNetwork,
    NotRead,
    PassPrompts,
    PersonImage,
    RegionPrompts,
    Resolved,
    ResolvedChannels,
    ResolvedControl,
    ResolvedExample,
    ResolvedFace,
    ResolvedHires,
    ResolvedIdentity,
    ResolvedMask,
    ResolvedPerson,
    ResolvedPostprocess,
    ResolvedReference,
    ResolvedRefiner,
    ResolvedRegion,
    ResolvedRegions,
    ResolvedSoftness,
    ResolvedSource,
    ResolvedTiling,
    ResolvedUpscale,
    ResolvedViews,
    Size,
    ToCover,
    ToSize,
)
from atelier.request.table import FIELDS, flat, request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.images import reference_to, size_of
from atelier.runtime.library import Library
from atelier.runtime.offer import defaults_of, drawing, requested_method
from atelier.weights.hashes import HashCache
from resolved_support import RESOLVED, changed

TEXTS = (
    *("", "a red cat", "{a|b} c", "猫🐈é", "\u2028\u0085\ufeff", "\x01\x7f", 'a "b", \\n', "e\u0301", "null", "a\nb"),
    *("\U0010ffff", "NaN", "Infinity", "[a:b:0.5] AND (c:1.2)", "x" * 3000),
)
PATHS = ("a.png", "out/猫", "C:\\x\\y.png", "/tmp/a b/\n", os.fsdecode(b"bytes-\xff\xfe.png"), '"')
SIGMAS = ("14.6, 7, 3.5, 0", "1e-3, 1e-4", "14.6146412, 0.1, 0.0291671582", "1e6, 1")
EDGES = (5e-324, 1e-300, 0.1 + 0.2, 1 / 3, 1e17 / 7)
"""Floats whose text must be exact: the smallest, a subnormal one, those of many digits."""


def limits(name: str) -> tuple[float, float]:
    found = FIELDS[name].limits
    assert found is not None, name
    return found.low, found.high


def some_number(name: str, draw: random.Random, *, whole: bool) -> int | float:
    low, high = limits(name)
    if whole:
        return draw.choice([int(low), int(high), draw.randint(int(low), int(high))])
    edges = [edge for edge in EDGES if low <= edge <= high]
    return draw.choice([low, high, draw.uniform(low, high), *edges])


IMAGE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4"
    "2mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""One pixel."""
NAMED: Mapping[str, Sequence[object]] = {
    "sampler": (*samplers(), None),
    "scheduler": (*schedules(), *SIGMAS, "Automatic", None),
    "emphasis": tuple(EMPHASES),
    "width": (64, 72, 512, 4096),
    "height": (64, 72, 768, 4096),
    "batch_size": (1, 2, 3),
    "batch_count": (1, 2),
    "seed_resize": ((0, 0), (64, 8), (4096, 512), (3, 512), (512, 640)),
    "denoising_strength": (0.0, 0.25, 1 / 3, 0.1 + 0.2, 1.0),
    "hires_upscale": (1.0, 1.1, 1.75, 2.0, None),
    "hires_resize": ((0, 0), None),
    "hires_upscaler": ("Latent", "latent (nearest-exact)", "Lanczos", "None", None),
    "hires_sampler": (*samplers(), "Use same sampler", None),
    "hires_scheduler": (*schedules(), *SIGMAS, "Use same scheduler", None),
    "hires_denoising_strength": (0.0, 0.25, 1 / 3, 1.0, None),
    "hires_checkpoint": ("Use same checkpoint", None),
    "refiner": ("None", None),
    "hires_refiner": ("first pass", "second pass", "both passes"),
    "styles": ((),),
    "output": PATHS[:-1],
    "rng": ("portable", "cpu", "nv"),
    "noise_schedule": ("Default", "Zero Terminal SNR"),
    "image": (IMAGE,),
    "mask": (IMAGE, "alpha"),
    "outpaint": ("left=63,right=8", "top=127", "65x72", None),
    "resize_mode": ("stretch", "crop", "fill", "latent"),
    "mask_mode": ("Inpaint masked", "Inpaint not masked"),
    "masked_content": ("fill", "original", "latent noise", "latent nothing"),
    "inpaint_area": ("Whole picture", "Only masked"),
    "pag_layers": ("auto", "middle", "up.1.attentions.0,down.1", "mid, up_blocks.0"),
    "freeu_version": ("1", "2", "diffusers"),
    "unipc_variant": ("bh1", "bh2", "vary_coeff", None),
    "regions": ((), ("box=0,0,0.5,1: {a|b} cat", f'mask="{IMAGE}" weight=0.3 negative="猫": a'), "box=0.1,0,1,0.2:a"),
    "controls": ((),),  # settled by an engine: see `some_networks`
    "references": ((),),
    "faces": ((),),
    "region_method": ("latent",),  # the other one excludes much: tests/unit/test_coupling.py
    "tile": ("none", "x", "y", "xy"),
    "view_method": ("multidiffusion", "mixture"),
    "view_width": (64, 72, 512, None),
    "view_height": (64, 72, 4096, None),
    "view_overlap": (0, 32, None),
    "vae_strips": ("auto", "always", "never"),
    "postprocess_upscale_to": ((0, 0), (3, 5), None),
    "postprocess_upscaler": ("Lanczos", "bicubic", "None"),
    "postprocess_upscaler_2": ("Nearest", "None", None),
    "original_size": ((512, 768), (8, 8), None),
    "target_size": ((512, 768), (0, 0), None),
    "negative_original_size": ((512, 768), (8, 8), None),
    "negative_target_size": ((512, 768), (0, 0), None),
    "vae": ("Automatic", "none", None),
    "text_encoders": ((),),
    "sd_upscale_overlap": (0, 32, None),
    "sd_upscale_upscaler": ("Lanczos", "None", "bicubic"),
}
"""Fields whose values have names, or must not be large here."""


def some_value(name: str, draw: random.Random) -> object:
    if name in NAMED:
        return draw.choice(NAMED[name])
    match FIELDS[name].kind:
        case "flag":
            return draw.choice([True, False])
        case "int" | "float" as kind:
            return some_number(name, draw, whole=kind == "int")
        case _:
            return draw.choice(TEXTS if name == "negative_prompt" or name.endswith("prompt") else TEXTS[1:])


def some_request(draw: random.Random, share: float) -> Request:
    """A request that says each field with this chance."""
    names = [name for name in FIELDS if name not in {"prompt", "depth"}]  # the models here see no map of depths
    said = {name: some_value(name, draw) for name in names if draw.random() < share}
    groups = {FIELDS[name].group for name in said}
    images = {name: IMAGE for name, group in (("image", "source"), ("mask", "inpaint")) if group in groups}
    if said.get("outpaint"):
        images.pop("mask", None)
        groups -= {"inpaint", "hires"}  # of one pixel no second pass can be made
        said = {n: v for n, v in said.items() if n not in {"width", "height"} and FIELDS[n].group in groups}
    if "mask" in images:
        images["image"] = IMAGE
    said = {name: value for name, value in said.items() if FIELDS[name].group != "sd_upscale"}  # of more than one pixel
    if "views" in groups:
        images["view_method"] = "mixture"
    return request_of({"prompt": draw.choice(TEXTS), **images, **said})


def leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def refuse(constant: str) -> float:
    raise AssertionError(constant)


def typed(value: object) -> object:
    """The value with the type of everything in it, since 1 == 1.0 == True and a named tuple equals a plain one."""
    if isinstance(value, BaseModel):
        return type(value), [typed(getattr(value, name)) for name in type(value).model_fields]
    if isinstance(value, tuple):
        return type(value), [typed(inner) for inner in value]
    return type(value), repr(value)


def check(resolved: Resolved) -> None:
    text = resolved.to_json()
    back = Resolved.from_json(text)
    assert back == resolved
    assert typed(back) == typed(resolved)
    assert back.to_json() == text
    assert hash(back) == hash(resolved)
    assert None not in leaves(json.loads(text, parse_constant=refuse))


REFERENCE = ModelRef(name="猫", path=os.fsdecode(b"models/\xff.safetensors"), sha256="ab" * 32)


NETWORK = NetworkRef(name="猫", path=os.fsdecode(b"c/\xff.pth"), sha256="ef" * 32)
SEEN = ImageRef(path=IMAGE, sha256="01" * 32)
STEERING = (
    ResolvedControl(
        type="canny",
        network=NETWORK,
        image=SEEN,
        annotator="canny",
        annotator_file=NoNetwork(),
        options=(("low", 50.0), ("high", 1e-7)),
        resolution=0,
        resize="fill",
        weight=0.1 + 0.2,
        start=0.0,
        end=1 / 3,
        mode="control",
        layers=(0.1 + 0.2, 0.0),
        place=MaskPlace(image=SEEN),
        passes="second",
    ),
    ResolvedReference(
        network=NETWORK,
        encoder=InNetwork(file=NETWORK),
        image=SEEN,
        weight=2.0,
        start=0.5,
        end=1.0,
        place=AllOver(),
        passes="both",
        blocks=(("", 0.0), ("up.1", 0.5)),
        more=(SEEN, SEEN),
    ),
    ResolvedExample(image=SEEN, weight=0.5, start=0.0, end=1.0, passes="first", fidelity=0.25),
    ResolvedFace(
        network=NETWORK,
        reader=NETWORK,
        encoder=NotRead(),
        image=SEEN,
        which=3,
        weight=0.7,
        start=0.0,
        end=1 / 3,
        place=AllOver(),
        passes="both",
        blocks=(),
        lora=0.1,
        identity=ResolvedIdentity(network=NETWORK, weight=0.2, pose=SEEN),
        more=(PersonImage(image=SEEN, which=2),),
    ),
    ResolvedPerson(
        network=NETWORK,
        reader=InNetwork(file=NETWORK),
        images=(PersonImage(image=SEEN, which=1), PersonImage(image=SEEN, which=2)),
        weight=0.5,
        start=1 / 3,
        passes="second",
        lora=1.0,
    ),
)


def some_networks(draw: random.Random) -> dict[str, tuple[object, ...]]:
    """As an engine finds them in prompts, and what steers."""
    file = AdapterRef(name="猫, é: x", path=os.fsdecode(b"lora/\xff.pt"), sha256="cd" * 32, digits="cd" * 6)
    found = {name: (file,) * draw.randrange(3) for name in ("adapters", "inversions")}
    return {**found, "steering": tuple(draw.choices(STEERING, k=draw.randrange(3)))}


@pytest.fixture(scope="module")
def offered(tiny_folder: Path) -> Callable[[Request], Offer]:
    model = open_checkpoint(tiny_folder)
    defaults, draw = defaults_of(model), drawing(dict, str)
    return lambda request: Offer(
        REFERENCE,
        defaults,
        requested_method(model, request),
        request.prompting.emphasis,
        draw,
        reference_to,
        size_of,
        refiner=None if request.refining.refiner is None else REFERENCE,
    )


@pytest.fixture
def _masks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of regions are one pixel here, whatever the size of the image."""
    monkeypatch.setattr("atelier.request.resolve._check_alike", lambda *_: None)


@pytest.mark.usefixtures("_masks_of_any_size")
def test_1000_resolved_requests_are_the_same_after_json(offered: Callable[[Request], Offer]) -> None:
    draw = random.Random(1)
    passes = refined = 0
    for _ in range(1_000):
        request = some_request(draw, draw.choice([0.0, 0.1, 0.5, 1.0]))
        resolved = resolve(request, offered(request), draw).model_copy(update=some_networks(draw))
        passes += isinstance(resolved.hires, ResolvedHires)
        refined += isinstance(resolved.refiner, ResolvedRefiner)
        check(resolved)
    assert passes > 100
    assert refined > 50


@pytest.mark.parametrize("sampler", samplers())
def test_so_are_those_of_every_sampler(offered: Callable[[Request], Offer], sampler: str) -> None:
    request = Request(prompt="", sampler=sampler)
    check(resolve(request, offered(request)))


@pytest.mark.usefixtures("_masks_of_any_size")
def test_so_are_those_of_an_engine(tiny_folder: Path, tmp_path: Path) -> None:
    device = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=1)
    engine = Engine(device, Library((tiny_folder.parent,)), HashCache(), version="1")
    draw = random.Random(3)
    for _ in range(25):
        where = {"model": "tiny", "output": str(tmp_path / "out"), "model_hash": None, "lenient": True, "clip_skip": 2}
        where |= {"clip_guidance_scale": 0.0, "slg_scale": 0.0}  # the tiny model has no such networks
        where |= {"sigma_min": 0.0, "sigma_max": 0.0, "rho": 0.0}  # few of all are possible levels
        check(engine.resolve(request_of({**flat(some_request(draw, 0.5)), **where})))


def test_the_form_is_this() -> None:
    """What lies in queues and databases: a change here must be able to read what was written before."""
    assert json.loads(changed(RESOLVED, output__folders=("out",), samples=RESOLVED.samples[:1]).to_json()) == {
        "model": {
            "name": "v1-5-pruned-emaonly",
            "path": "models/v1-5-pruned-emaonly.safetensors",
            "sha256": "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
            "parts": [],
        },
        "size": [512, 768],
        "batch_size": 1,
        "samples": [{"seed": 1, "variation_seed": 0, "prompt": "a red apple", "negative_prompt": "", "regions": []}],
        "prompting": {
            "prompt": "a red apple",
            "negative_prompt": "",
            "emphasis": "Original",
            "clip_skip": 1,
            "old_timelines": False,
        },
        "noise": {
            "source": "cpu",
            "variation_strength": 0.0,
            "resized_from": {"kind": "made"},
            "seed_delta": 0,
            "unit_start": False,
        },
        "sampling": {
            "steps": 20,
            "sampler": "DPM++ 2M",
            "scheduler": "Karras",
            "eta": 1.0,
            "s_churn": 0.0,
            "s_tmin": 0.0,
            "s_tmax": 1e9,
            "s_noise": 1.0,
            "order": 1,
            "variant": "bh1",
            "lower_order_final": True,
            "sigma_min": 0.0291671582,
            "sigma_max": 14.6146412,
            "rho": 7.0,
            "alpha": 0.6,
            "beta": 0.6,
            "discard_penultimate": False,
            "downcast": False,
            "zero_terminal": False,
        },
        "guidance": {
            "scale": 7.0,
            "rescale": 0.0,
            "skip_early": 0.0,
            "ngms": 0.0,
            "ngms_all_steps": False,
            "pag_scale": 0.0,
            "pag_layers": "middle",
            "sag_scale": 0.0,
            "sag_blur_sigma": 2.0,
            "apg_eta": 1.0,
            "apg_norm_threshold": 0.0,
            "apg_momentum": 0.0,
            "mimic_scale": 0.0,
            "mimic_percentile": 100.0,
            "mimic_phi": 1.0,
            "perp_neg_scale": 0.0,
            "slg_scale": 0.0,
            "freeu_b1": 1.0,
            "freeu_b2": 1.0,
            "freeu_s1": 1.0,
            "freeu_s2": 1.0,
            "freeu_version": "2",
            "cfg_interval_low": 0.0,
            "cfg_interval_high": 1e9,
            "clip_guidance_scale": 0.0,
        },
        "source": {"kind": "none"},
        "channels": {"kind": "none"},
        "hires": {"kind": "none"},
        "refiner": {"kind": "none"},
        "regions": {"kind": "none"},
        "sizes": {"original": {"kind": "made"}, "top": 0, "left": 0, "target": {"kind": "made"}, "score": 6.0},
        "negative_sizes": {"original": {"kind": "made"}, "top": 0, "left": 0, "target": {"kind": "made"}, "score": 2.5},
        "views": {"kind": "none"},
        "tiling": {"x": False, "y": False},
        "postprocess": {"kind": "none"},
        "vae_strips": "auto",
        "output": {"folders": ["out"]},
        "adapters": [],
        "inversions": [],
        "steering": [],
    }


def test_one_that_was_written_before_steering_is_read() -> None:
    written = json.loads(RESOLVED.to_json())
    del written["steering"]
    assert Resolved.from_json(json.dumps(written)) == RESOLVED


def test_the_form_with_an_image_is_this() -> None:
    image = ImageRef(path="in.png", sha256="12" * 32)
    mask = ResolvedMask(
        image=image,
        transparent=True,
        invert=False,
        blur=4.0,
        content="fill",
        only_masked=True,
        padding=32,
        soft=ResolvedSoftness(bias=1.0, strength=0.5, boost=4.0, influence=0.0, threshold=0.5, contrast=2.0),
    )
    source = ResolvedSource(
        image=image,
        strength=0.75,
        exact_steps=False,
        resize="crop",
        noise_multiplier=1.0,
        extra_noise=0.0,
        color_correction=True,
        mask=mask,
        upscale=ResolvedUpscale(factor=2.0, upscaler="Lanczos", file=NoFile()),
    )
    assert json.loads(changed(RESOLVED, source=source).to_json())["source"] == {
        "kind": "image",
        "image": {"path": "in.png", "sha256": "12" * 32},
        "strength": 0.75,
        "exact_steps": False,
        "resize": "crop",
        "noise_multiplier": 1.0,
        "extra_noise": 0.0,
        "color_correction": True,
        "mask": {
            "kind": "mask",
            "image": {"path": "in.png", "sha256": "12" * 32},
            "transparent": True,
            "invert": False,
            "blur": 4.0,
            "content": "fill",
            "only_masked": True,
            "padding": 32,
            "soft": {
                "kind": "soft",
                "bias": 1.0,
                "strength": 0.5,
                "boost": 4.0,
                "influence": 0.0,
                "threshold": 0.5,
                "contrast": 2.0,
            },
        },
        "upscale": {"kind": "upscale", "factor": 2.0, "upscaler": "Lanczos", "file": {"kind": "none"}},
    }
    check(changed(RESOLVED, source=source))


@pytest.mark.parametrize(
    ("channels", "form"),
    [
        (MaskedChannels(weight=0.5), {"kind": "masked", "weight": 0.5}),
        (ImageChannels(scale=1.5), {"kind": "image", "scale": 1.5}),
        (
            NoisedChannels(image=ImageRef(path="s.png", sha256="0" * 64), level=20),
            {"kind": "noised", "image": {"path": "s.png", "sha256": "0" * 64}, "level": 20},
        ),
        (DepthChannels(depth=EstimatedDepth()), {"kind": "depth", "depth": {"kind": "estimated"}}),
        (
            DepthChannels(depth=GivenDepth(image=ImageRef(path="d.png", sha256="0" * 64), resize="crop")),
            {
                "kind": "depth",
                "depth": {"kind": "given", "image": {"path": "d.png", "sha256": "0" * 64}, "resize": "crop"},
            },
        ),
    ],
)
def test_the_form_with_channels_is_this(channels: ResolvedChannels, form: object) -> None:
    resolved = changed(RESOLVED, channels=channels)
    assert json.loads(resolved.to_json())["channels"] == form
    check(resolved)


def test_the_form_of_a_layout_is_this() -> None:
    box = BoxPlace(left=0.0, top=0.25, right=0.5, bottom=1.0)
    mask = MaskPlace(image=ImageRef(path="left.png", sha256="12" * 32))
    parts = (ResolvedRegion(place=box, weight=2.0), ResolvedRegion(place=mask, weight=1.0))
    resolved = changed(
        RESOLVED,
        samples=(
            RESOLVED.samples[0].model_copy(update={"regions": (RegionPrompts(prompt="a", negative_prompt="b"),)}),
        ),
        regions=ResolvedRegions(parts=parts, method="attention", ground=0.2),
        views=ResolvedViews(size=Size(512, 512), overlap=64, method="mixture"),
        tiling=ResolvedTiling(x=True, y=False),
    )
    data = json.loads(resolved.to_json())
    assert data["samples"][0]["regions"] == [{"prompt": "a", "negative_prompt": "b"}]
    assert {name: data[name] for name in ("regions", "views", "tiling")} == {
        "regions": {
            "kind": "regions",
            "parts": [
                {"place": {"kind": "box", "left": 0.0, "top": 0.25, "right": 0.5, "bottom": 1.0}, "weight": 2.0},
                {"place": {"kind": "mask", "image": {"path": "left.png", "sha256": "12" * 32}}, "weight": 1.0},
            ],
            "method": "attention",
            "ground": 0.2,
        },
        "views": {"kind": "views", "size": [512, 512], "overlap": 64, "method": "mixture"},
        "tiling": {"x": True, "y": False},
    }
    check(resolved)


def test_the_form_with_a_second_pass_is_this() -> None:
    hires = ResolvedHires(
        model=RESOLVED.model,
        size=Size(1024, 1024),
        scaled=Size(1024, 1536),
        by=ToSize(),
        upscaler="4x-mine",
        upscaler_file=InFile(file=ModelRef(name="4x-mine", path="up/4x-mine.pth", sha256="34" * 32)),
        strength=0.5,
        exact_steps=True,
        sampling=RESOLVED.sampling,
        guidance=RESOLVED.guidance,
        prompts=(PassPrompts(prompt="a dog", negative_prompt=""),) * 2,
    )
    form = json.loads(changed(RESOLVED, hires=hires).to_json())
    assert form["hires"] == {
        "kind": "hires",
        "model": form["model"],
        "size": [1024, 1024],
        "scaled": [1024, 1536],
        "by": {"kind": "size"},
        "upscaler": "4x-mine",
        "upscaler_file": {
            "kind": "file",
            "file": {"name": "4x-mine", "path": "up/4x-mine.pth", "sha256": "34" * 32, "parts": []},
        },
        "strength": 0.5,
        "exact_steps": True,
        "sampling": form["sampling"],
        "guidance": form["guidance"],
        "prompts": [{"prompt": "a dog", "negative_prompt": ""}] * 2,
    }
    check(changed(RESOLVED, hires=hires))
    check(changed(RESOLVED, hires=hires.model_copy(update={"by": ByFactor(factor=1.75)})))


def test_the_form_of_what_is_done_to_finished_images_is_this() -> None:
    mine = ModelRef(name="mine", path="mine.pth", sha256="56" * 32)
    done = ResolvedPostprocess(
        scale=ToCover(size=Size(640, 480)),
        upscalers=(NamedUpscaler(name="mine", file=InFile(file=mine)), NamedUpscaler(name="Lanczos", file=NoFile())),
        visibility=0.25,
    )
    resolved = changed(RESOLVED, postprocess=done)
    assert json.loads(resolved.to_json())["postprocess"] == {
        "kind": "upscale",
        "scale": {"kind": "cover", "size": [640, 480]},
        "upscalers": [
            {
                "name": "mine",
                "file": {
                    "kind": "file",
                    "file": {"name": "mine", "path": "mine.pth", "sha256": "56" * 32, "parts": []},
                },
            },
            {"name": "Lanczos", "file": {"kind": "none"}},
        ],
        "visibility": 0.25,
    }
    check(resolved)


def test_it_is_one_line_of_ascii() -> None:
    text = changed(RESOLVED, prompting__prompt="猫\n\u2028", output__folders=PATHS).to_json()
    assert text.isascii()
    assert text.isprintable()


def groups(value: object, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The ways to all objects inside."""
    if isinstance(value, dict):
        yield way
        for key, inner in value.items():
            yield from groups(inner, (*way, key))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from groups(inner, (*way, index))


def inside(value: object, way: tuple[str | int, ...]) -> dict[str, object]:
    for key in way:
        value = value[key]
    assert isinstance(value, dict)
    return value


DATA: Mapping[str, object] = json.loads(RESOLVED.to_json())


@pytest.mark.parametrize("way", tuple(groups(DATA)), ids=str)
def test_a_key_too_few_or_too_many_is_refused(way: tuple[str | int, ...]) -> None:
    for key in inside(DATA, way):
        if key in {"parts", "steering"}:  # where there are none, they need not be said
            continue
        without = json.loads(RESOLVED.to_json())
        del inside(without, way)[key]
        with pytest.raises(ValidationError, match=key):
            Resolved.from_json(json.dumps(without))
        empty = json.loads(RESOLVED.to_json())
        inside(empty, way)[key] = None
        with pytest.raises(ValidationError, match=key):
            Resolved.from_json(json.dumps(empty))
    more = json.loads(RESOLVED.to_json())
    inside(more, way)["another"] = 1
    with pytest.raises(ValidationError, match="another"):
        Resolved.from_json(json.dumps(more))


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "{}", '"x"', "NaN"])
def test_what_is_no_resolved_request_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of JSON or of pydantic, whose errors share this one
        Resolved.from_json(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_neither_read_nor_written(value: float) -> None:
    for name in ("eta", "s_tmax", "sigma_max", "rho"):
        text = RESOLVED.to_json().replace(f'"{name}":', f'"{name}":{json.dumps(value)},"x":', 1)
        data = json.loads(text)
        del data["sampling"]["x"]
        with pytest.raises(ValidationError, match=name):
            Resolved.from_json(json.dumps(data))
        with pytest.raises(ValueError, match="JSON"):
            changed(RESOLVED, **{f"sampling__{name}": value}).to_json()


def test_it_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RESOLVED.batch_size = 2
    with pytest.raises(ValidationError, match="frozen"):
        RESOLVED.sampling.steps = 2


@pytest.mark.parametrize(
    "changes",
    [{"batch_size": 0}, {"batch_size": -1}, {"samples": []}, {"size": [0, 64]}, {"size": [64]}, {"size": "64x64"}],
)
def test_what_no_request_can_become_is_refused(changes: dict[str, object]) -> None:
    table = json.loads(RESOLVED.to_json())
    with pytest.raises(ValueError, match=next(iter(changes))):
        Resolved.from_json(json.dumps({**table, **changes}))


@pytest.mark.parametrize("text", ["[" * 100_000, "null", "", "{"])
def test_what_is_no_json_of_a_request_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever its words
        Resolved.from_json(text)
