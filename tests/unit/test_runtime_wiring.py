"""What the runtime asks the machine for, and what it makes of the answers: each with a machine made up here."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from atelier.checkpoints.embedded import EMBEDDED
from atelier.errors import BadFile, BadInput, UnknownName
from atelier.pipeline.resources import AUTOENCODER, DENOISER, TEXT
from atelier.request.resolve import RequestDefaults
from atelier.request.resolved import ModelRef
from atelier.runtime import heap, threads
from atelier.runtime.cache import ModelCache, NetRef
from atelier.runtime.device import Device, choose_device, cpu_has_bf16, memory_of, pick, training_dtype
from atelier.runtime.engine import Engine
from atelier.runtime.images import read_reference, reference_to
from atelier.runtime.library import Library
from atelier.runtime.offer import defaults_of, method_of
from atelier.runtime.resources import LocalResources
from atelier.runtime.store import Destination, encoded, write_png
from atelier.runtime.words import Words, packaged
from atelier.weights.hashes import HashCache
from pipeline_support import CPU, PLENTY, engine_on, request

FP32, FP16, BF16 = torch.float32, torch.float16, torch.bfloat16


# Devices


def machine(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False, capability: int = 8) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (capability, 0))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_the_fastest_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    for there in ({"cuda": 1, "mps": True}, {"mps": True}, {}):
        machine(monkeypatch, **there)
        found += [str(choose_device()), str(pick("auto").torch_device), str(pick().torch_device)]
    assert found == ["cuda"] * 3 + ["mps"] * 3 + ["cpu"] * 3


def test_an_apple_gpu_computes_in_half_precision_but_for_the_autoencoder(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, mps=True)
    mps = torch.device("mps")
    assert pick("mps") == Device(mps, FP16, FP32, None, channels_last=False, small_dtype=None, image_dtype=FP16)
    assert pick("mps", "bf16") == Device(mps, BF16, BF16, None, channels_last=False, small_dtype=None, image_dtype=BF16)


def test_a_card_of_nvidia_has_one_layout_and_no_small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=2)
    card = torch.device("cuda:1")
    assert pick("cuda:1") == Device(card, BF16, BF16, None, channels_last=True, small_dtype=None, image_dtype=FP16)
    assert pick("cuda:1", "fp32") == Device(
        card, FP32, FP32, None, channels_last=True, small_dtype=None, image_dtype=FP32
    )
    machine(monkeypatch, cuda=2, capability=7)
    assert pick("cuda:1") == Device(card, FP16, FP32, None, channels_last=True, small_dtype=None, image_dtype=FP16)
    assert pick("cuda:1", "fp16") == Device(
        card, FP16, FP16, None, channels_last=True, small_dtype=None, image_dtype=FP16
    )


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("cuda:2", "device cuda:2: this machine has 2 of that kind: use cuda"),
        ("cpu:1", "device cpu:1: this machine has 1 of that kind: use cuda"),
        ("mps", "device mps: this machine has none of that kind: use cuda"),
    ],
)
def test_what_this_machine_has_not(monkeypatch: pytest.MonkeyPatch, name: str, problem: str) -> None:
    machine(monkeypatch, cuda=2)
    with pytest.raises(BadInput, match=problem):
        choose_device(name)
    assert [str(choose_device(good)) for good in ("cpu", "cpu:0", "cuda:0", "cuda:1")] == [
        *("cpu", "cpu:0", "cuda:0", "cuda:1"),
    ]


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cuda:-1", "CPU", ""])
def test_what_is_no_device(name: str) -> None:
    if not name:
        assert pick(name) == pick()
        return
    with pytest.raises(UnknownName, match=r"auto|cpu|cuda|mps"):
        choose_device(name)


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", "bf16"])
def test_each_flag_of_bf16_is_enough(tmp_path: Path, flag: str) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor : 0\nFLAGS : fpu {flag}\n")
    assert cpu_has_bf16(path)
    path.write_text(f"processor : {flag}\nflags : fpu x{flag}\n")
    assert not cpu_has_bf16(path)


def test_small_networks_are_those_below_fifty_million() -> None:
    device = Device(torch.device("cpu"), BF16, BF16, 1, small_dtype=FP32)
    assert (device.for_net(49_999_999), device.for_net(50_000_000)) == (FP32, BF16)
    assert Device(torch.device("cpu"), BF16, BF16, 1).for_net(1) == BF16
    assert str(device) == "cpu (bf16)"


def test_memory_is_the_cards_own_or_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: {"cuda:1": (3, 80)}[str(device)])
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 10}.__getitem__)
    assert memory_of(torch.device("cuda:1")) == 80
    assert memory_of(torch.device("cpu")) == memory_of(torch.device("mps")) == 40_960


def test_training_has_the_precision_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=1, capability=7)
    assert training_dtype(torch.device("cuda"), "bf16") == BF16
    assert training_dtype(torch.device("cuda"), "auto") == training_dtype(torch.device("cuda")) == FP32


# The process


def test_the_heap_is_told_its_two_bounds_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """M_MMAP_THRESHOLD is -3 and M_TRIM_THRESHOLD -1 in glibc's malloc.h."""
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=lambda *given: told.append(given)))
    monkeypatch.setattr(sys, "platform", "linux")
    heap.settle_heap.cache_clear()
    heap.settle_heap()
    heap.settle_heap()
    assert told == [(-3, 8 * 1024 * 1024), (-1, 64 * 1024 * 1024)]
    heap.settle_heap.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    heap.settle_heap()
    heap.settle_heap.cache_clear()
    assert len(told) == 2


def test_a_c_library_without_these_bounds_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> object:
        raise OSError("no such library")

    for library in (missing, lambda _: SimpleNamespace()):
        monkeypatch.setattr(ctypes, "CDLL", library)
        heap.settle_heap.cache_clear()
        assert heap.settle_heap() is None
    heap.settle_heap.cache_clear()


@pytest.mark.parametrize(
    ("environment", "given", "done"),
    [
        ({}, {}, ["heap", "free"]),
        ({}, {"leave_busy_cores": False}, ["heap", "granted"]),
        ({"OMP_NUM_THREADS": "2"}, {}, ["heap"]),
        ({"OMP_NUM_THREADS": "2"}, {"threads": 3}, ["heap", "3"]),
        ({}, {"threads": 3, "leave_busy_cores": False}, ["heap", "3"]),
    ],
    ids=str,
)
def test_a_program_of_ours_settles_its_process(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], given: dict[str, Any], done: list[str]
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(heap, "settle_heap", lambda: seen.append("heap"))
    monkeypatch.setattr(threads, "use_free_cores", lambda: seen.append("free"))
    monkeypatch.setattr(threads, "use_granted_cores", lambda: seen.append("granted"))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: seen.append(str(count)))
    threads.settle_process(environment, **given)
    assert seen == done


# Files


def test_a_home_is_found_in_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.safetensors").touch()
    assert Library().find("~/x.safetensors").path == tmp_path / "x.safetensors"
    assert Destination.of("~/cats") == Destination(tmp_path / "cats", None, ".png")
    assert Destination.of("~/cat.webp") == Destination(tmp_path, "cat.webp", ".webp")


def test_a_model_is_called_as_what_its_path_leads_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    monkeypatch.chdir(tmp_path / "real")
    assert Library().find(".").name == "real"


def test_models_are_sorted_whatever_their_case_behind_the_embedded_one(tmp_path: Path) -> None:
    for name in ("b", "A", "c", "zoo/D"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.safetensors").touch()
    assert [model.name for model in Library((tmp_path,)).models()] == [EMBEDDED, "A", "b", "c", "D"]


def test_what_is_a_folder_and_what_is_a_file_of_another_format(tmp_path: Path) -> None:
    assert Destination.of(f"{tmp_path}/cat.png/").file is None
    assert Destination.of(str(tmp_path / "cats.v2")) == Destination(tmp_path / "cats.v2", None, ".png")
    for ending in ("gif", "bmp", "tif", "tiff", "jxl", "jp2", "heic", "ico", "tga", "ppm"):
        with pytest.raises(
            BadInput, match=rf"cat\.{ending}: images are written as PNG, JPEG, WebP or AVIF: use .*\.png"
        ):
            Destination.of(str(tmp_path / f"cat.{ending}"))


def test_numbers_go_on_from_names_of_five_digits_and_more(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8))
    kept = ("00007-1.png", "00008.JPEG", "000012 a cat.webp", "00020x.png", "0099-1.png", "00030-1.gif", "a00040-1.png")
    for name in kept:
        (tmp_path / name).touch()
    names = [Destination.of(str(tmp_path)).save(image, "", index=0, count=1, seed=5).name for _ in range(2)]
    assert names == ["00013-5.png", "00014-5.png"]
    (tmp_path / "100000-1.avif").touch()
    assert Destination.of(str(tmp_path)).save(image, "", index=0, count=1, seed=5).name == "100001-5.png"


def test_several_images_of_one_file_are_numbered_from_one(tmp_path: Path) -> None:
    destination, image = Destination.of(str(tmp_path / "new" / "cat.png")), Image.new("RGB", (8, 8))
    names = [destination.save(image, "", index=index, count=2, seed=5).name for index in range(2)]
    assert names == ["cat-1.png", "cat-2.png"]
    assert destination.save(image, "", index=1, count=1, seed=5).name == "cat.png"


def test_sides_of_a_format_may_be_as_long_as_it_holds() -> None:
    assert encoded(Image.new("RGB", (1, 16_383)), "a", ".webp")
    with pytest.raises(BadInput, match="a WebP has at most 16383 pixels a side, the image has 16384"):
        encoded(Image.new("RGB", (16_384, 1)), "a", ".webp")
    assert encoded(Image.new("L", (8, 8)), "a", ".jpg")
    with pytest.raises(BadInput, match="a JPEG cannot hold an image of mode CMYK"):
        encoded(Image.new("CMYK", (8, 8)), "a", ".jpg")


def read_image(path: Path) -> Image.Image:
    return read_reference(reference_to(str(path)))


def test_an_image_is_read_upright_in_two_modes(tmp_path: Path) -> None:
    """EXIF's orientation 6 is a camera that was turned to its right."""
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (16, 8)).save(tmp_path / "a.jpg", exif=turned)
    Image.new("L", (16, 8), 7).save(tmp_path / "b.png")
    Image.new("LA", (16, 8), (7, 9)).save(tmp_path / "c.png")
    found = [read_image(tmp_path / name) for name in ("a.jpg", "b.png", "c.png")]
    assert [(image.mode, image.size) for image in found] == [("RGB", (8, 16)), ("RGB", (16, 8)), ("RGBA", (16, 8))]
    assert [image.getpixel((0, 0)) for image in found[1:]] == [(7, 7, 7), (7, 7, 7, 9)]


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(BadFile, match=r"a\.png: is no image that can be read"):
        read_image(tmp_path / "a.png")
    with pytest.raises(BadFile, match=r"none\.png: does not exist"):
        read_image(tmp_path / "none.png")
    write_png(tmp_path / "new" / "b.png", Image.effect_noise((64, 64), 80))
    data = (tmp_path / "new" / "b.png").read_bytes()
    (tmp_path / "c.png").write_bytes(data[:300])
    assert read_image(tmp_path / "new" / "b.png").size == (64, 64)
    with pytest.raises(BadFile, match=r"c\.png: is damaged and cannot be read as an image"):
        read_image(tmp_path / "c.png")


def test_words_on_disk(tmp_path: Path) -> None:
    (tmp_path / "wild" / "animals").mkdir(parents=True)
    (tmp_path / "wild" / "animals" / "pet.txt").write_text("\ufeffcat\ndog\n", encoding="utf-8")
    (tmp_path / "wild" / "colour.txt").write_text("red\n")
    (tmp_path / "wild" / "notes.md").write_text("x")
    (tmp_path / "styles.csv").write_text('name,prompt,negative_prompt\nbig,"{prompt}, huge",tiny\noil,oil,\n')
    words = Words(tmp_path / "styles.csv", tmp_path / "wild")
    assert words.wildcards() == {"animals/pet": ("cat", "dog"), "colour": ("red",)}
    assert words.styled("a", "b", ["big", "oil"]) == ("a, huge, oil", "b, tiny")
    assert words.styled("a", "b", []) == ("a", "b")
    assert Words(tmp_path / "none.csv", tmp_path / "none").styled("a", "b", ()) == ("a", "b")
    assert Words(tmp_path / "none.csv", tmp_path / "none").wildcards() == {}
    with pytest.raises(UnknownName, match="unknown style 'bgi': did you mean big"):
        words.styled("a", "b", ["big", "bgi"])


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"a,b\n1,2\n", "its first line must name the columns"), (b"\xff\xfe\xff", "is no text in UTF-8")],
)
def test_a_file_of_styles_that_is_none_is_named(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "s.csv").write_bytes(data)
    with pytest.raises(BadFile, match=problem) as caught:
        Words(tmp_path / "s.csv").styles()
    assert str(caught.value).startswith(str(tmp_path / "s.csv"))
    assert set(Words(tmp_path / "none.csv").styles()) == set(packaged())


def test_where_words_are_unless_somebody_says_it() -> None:
    assert (str(Words().styles_file), str(Words().wildcard_folder)) == ("styles.csv", "wildcards")


# Networks in memory


def test_making_room_takes_the_sizes_of_what_goes() -> None:
    """Two of three have to go for the fourth, not one and not all."""
    cache = ModelCache(10)

    def use(name: str, size: int) -> None:
        ref: NetRef[str] = NetRef(ModelRef(name=name, path=name, sha256=name), "denoiser", "fp32")
        with cache.lease(ref, lambda: name, lambda _: size):
            pass

    for name, size in (("a", 3), ("b", 3), ("c", 4), ("d", 6)):
        use(name, size)
    assert [ref.model.name for ref in cache.held()] == ["c", "d"]


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return engine_on(tiny_folder, budget=PLENTY)


def networks(borrowed: Any) -> Iterator[nn.Module]:
    yield from ([tower.net for tower in borrowed.towers] if hasattr(borrowed, "towers") else [borrowed])


def layouts(device: Device, engine: Engine) -> dict[str, tuple[torch.dtype, bool]]:
    """The precision of each part, and whether its kernels lie channels last."""
    resources, found = LocalResources(device, 0), dict[str, tuple[torch.dtype, bool]]()
    model = engine.resolve(request()).model
    for part in (TEXT, DENOISER, AUTOENCODER):
        with resources.borrow(model, part) as borrowed:
            assert resources.is_loaded(model, part)
            (net,) = networks(borrowed)
            kernels = [p for p in net.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
            last = {p.is_contiguous(memory_format=torch.channels_last) for p in kernels} or {False}
            (dtype,) = {p.dtype for p in net.parameters()}
            found[part.name] = dtype, last == {True}
        assert not resources.is_loaded(model, part)
    return found


def test_each_part_is_loaded_in_its_precision_and_layout(engine: Engine) -> None:
    cpu = torch.device("cpu")
    assert layouts(Device(cpu, BF16, FP32, 1), engine) == {
        "text": (BF16, False),
        "denoiser": (BF16, True),
        "autoencoder": (FP32, True),
    }
    assert layouts(Device(cpu, BF16, BF16, 1, channels_last=False, small_dtype=FP32), engine) == {
        "text": (FP32, False),
        "denoiser": (FP32, False),
        "autoencoder": (FP32, False),
    }


def test_the_budget_counts_the_bytes_of_parameters_and_buffers(engine: Engine) -> None:
    model = engine.resolve(request()).model
    with engine.resources.borrow(model, TEXT) as borrowed:
        (net,) = networks(borrowed)
        size = sum(t.nbytes for t in (*net.parameters(), *net.buffers()))
    for budget, stays in ((size, True), (size - 1, False)):
        resources = LocalResources(CPU, budget)
        with resources.borrow(model, TEXT):
            pass
        assert resources.is_loaded(model, TEXT) is stays


def test_a_model_is_opened_once_and_again_where_a_file_has_changed(tiny_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(tiny_file.read_bytes())
    resources = LocalResources(CPU, 0)
    first = resources.open(path)
    assert resources.open(path) is first
    os.utime(path, ns=(1, 1))
    second = resources.open(path)
    assert second is not first
    named = resources.refer("x", second)
    assert (named.name, named.path, named.sha256) == ("x", str(path), second.sha256(HashCache()))
    assert resources.checkpoint(named) is second
    with pytest.raises(BadFile, match="has changed since the request was resolved"):
        resources.checkpoint(named.model_copy(update={"sha256": "0" * 64}))
    with pytest.raises(BadFile, match=r"none: cannot be read"):
        resources.open(tmp_path / "none")


def test_a_model_that_was_touched_or_replaced_by_equal_bytes_is_read_anew(tiny_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(tiny_file.read_bytes())
    resources = LocalResources(CPU, 0)
    named = resources.refer("x", resources.open(path))
    other = tmp_path / "b.safetensors"
    other.write_bytes(tiny_file.read_bytes())
    os.utime(other, ns=(1, 1))
    other.replace(path)
    with resources.borrow(named, TEXT):
        pass
    first = resources.checkpoint(named)
    path.write_bytes(tiny_file.read_bytes()[:-4] + b"else")
    assert resources.checkpoint(named) is first
    with pytest.raises(BadFile, match="changed since it was opened"), resources.borrow(named, TEXT):
        pass


# What a model offers, and what an engine says of a request


def test_what_a_model_has_in_pixels(engine: Engine) -> None:
    model = engine.resources.checkpoint(engine.resolve(request()).model)
    own = model.defaults
    assert defaults_of(model) == RequestDefaults(own.steps, own.cfg_scale, 64, 64, side_step=8, latent_step=4)
    assert (own.steps, own.cfg_scale) == (20, 7.0)


def test_a_list_of_sigmas_has_its_own_steps(engine: Engine) -> None:
    model = engine.resources.checkpoint(engine.resolve(request()).model)

    def method(sampler: str | None, scheduler: str | None = None) -> Any:
        return method_of(model, sampler, scheduler, is_downcast=False, is_zero_terminal=False)

    assert method(None).own.sampler == model.defaults.sampler == "DPM++ 2M"
    assert (method("Euler").steps, method("Euler", "3, 1, 0").steps) == (None, 2)
    assert (method("Euler").own.steps, method("Euler", "3, 1, 0").own.steps) == (20, 2)


def noted(engine: Engine, **fields: object) -> list[str]:
    warnings: list[str] = []
    engine.resolve(request(**fields), warnings.append)
    return warnings


def test_hashes_that_differ_are_told_where_they_can_be_compared(engine: Engine) -> None:
    model = engine.resolve(request()).model
    assert noted(engine, model_hash=model.sha256[:10].upper()) == []
    assert noted(engine, model_hash="0123456789") == [
        f"model hash 0123456789 was asked for; 'tiny' has {model.sha256[:10]}"
    ]
    (old,) = noted(engine, model_hash="01234567")
    assert "8 digits may be A1111's hash of before 2023, which is another" in old


def test_a_hash_alone_finds_a_file_in_any_case(tiny_file: Path) -> None:
    here = Engine(CPU, Library((tiny_file.parent,)), HashCache(), version="1")
    digest = here.resolve(request(model=str(tiny_file))).model.sha256
    assert here.resolve(request(model=None, model_hash=digest[:8].upper())).model.sha256 == digest


def test_steps_of_a_list_and_options_that_nobody_reads_are_told(engine: Engine) -> None:
    assert noted(engine, sampler="Euler", scheduler="3, 1, 0", steps=3) == [
        "3 steps are ignored: the list of sigmas has 2"
    ]
    assert noted(engine, sampler="Euler", scheduler="3, 1, 0", steps=2) == []
    events = engine.events(request(sampler="DPM++ 2M", eta=0.5, s_churn=1, denoising_strength=0.5, hires_steps=4))
    told = [next(events) for _ in range(3)]
    events.close()
    assert [getattr(event, "message", None) for event in told] == [
        "hires_steps: no second pass is asked for, give hires_upscale (--hires) or hires_resize",
        "denoising_strength: needs an image to start from: name it with --image, or it begins with noise alone",
        "eta, s_churn: DPM++ 2M with Karras has no such option",
    ]


@pytest.mark.parametrize("name", ["prompt", "negative_prompt", "hires_prompt", "hires_negative_prompt"])
def test_each_prompt_has_a_limit(engine: Engine, name: str) -> None:
    with pytest.raises(BadInput, match=f"{name.replace('negative_prompt', 'negative.prompt')} has 16,001 characters"):
        engine.resolve(request(**{name: "a" * 16_001, "choices": False}))
    engine.resolve(request(**{name: "a" * 16_000, "choices": False}))
