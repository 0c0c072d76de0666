"""Kinds of jobs: what is settled, what is refused, what comes out."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import tiny
from atelier import compose
from atelier.errors import BadFile, BadInput, UnknownName
from atelier.models.unet import UNet
from atelier.request.events import Preview
from atelier.request.infotext.image import TEXT_KEY
from atelier.runtime.engine import Engine
from atelier.runtime.jobs.job import JobProgress, TooLarge
from atelier.runtime.jobs.lease import MadeImage, SavedState
from atelier.runtime.library import Library
from atelier.runtime.upscalers import UpscalerNames
from atelier.runtime.workers.child import error_data
from atelier.runtime.workers.handed import HandedImages
from atelier.runtime.workers.kind import Bench, Most, Result, Spent, Stopped, Task, kinds
from atelier.runtime.workers.names import uploads_in
from atelier.runtime.workers.places import outward, without_places
from atelier.weights.hashes import HashCache
from pipeline_support import CPU, PLENTY

SMALL: dict[str, Any] = {"prompt": "a red cat", "model": "tiny", "steps": 3, "seed": 7, "width": 64, "height": 64}


MOST = Most()


def png(size: tuple[int, int] = (64, 48), text: str = "", kind: str = "PNG") -> bytes:
    chunks = PngImagePlugin.PngInfo()
    if text:
        chunks.add_text(TEXT_KEY, text)
    buffer = io.BytesIO()
    options = {"pnginfo": chunks} if kind == "PNG" else {}
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, kind, **options)
    return buffer.getvalue()


def name(data: bytes) -> str:
    return "upload:" + hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.folder(folder / "tiny")
    return folder


@pytest.fixture(scope="module")
def engine(models: Path) -> Engine:
    images = HandedImages(Most())
    return Engine(CPU, Library((models,), by_path=False), HashCache(), version="1", budget=PLENTY, images=images)


def bench(engine: Engine, *data: bytes, most: Most = MOST, stopping: Any = lambda: False) -> Bench:
    images = HandedImages(most)
    images.hold({name(one): one for one in data})
    engine.resources.images = images
    return Bench(engine, images, most, stopping)


def performed(kind: str, fields: Mapping[str, Any], own: Bench) -> list[Any]:
    """What a job tells, after its settled form went through JSON."""
    settled = kinds()[kind].settle(fields, own)
    return list(kinds()[kind].perform(Task(json.loads(json.dumps(settled.resolved))), own))


def test_a_request_is_settled_with_its_seed_its_uploads_and_a_cost(engine: Engine) -> None:
    data = png()
    settled = kinds()["generate"].settle({**SMALL, "seed": -1, "image": name(data)}, bench(engine, data))
    assert settled.resolved is not None
    assert settled.uploads == (name(data),)
    assert settled.resolved["source"]["image"] == {"path": name(data), "sha256": name(data).removeprefix("upload:")}
    again = kinds()["generate"].settle({**SMALL, "seed": -1, "steps": 6, "image": name(data)}, bench(engine, data))
    assert again.resolved["samples"][0]["seed"] != settled.resolved["samples"][0]["seed"]
    assert again.cost == pytest.approx(2 * settled.cost)


def test_what_is_not_meant_is_said_as_by_the_command_line(engine: Engine) -> None:
    settled = kinds()["generate"].settle({**SMALL, "denoising_strength": 0.4}, bench(engine))
    assert settled.warnings == (
        "denoising_strength: needs an image to start from: name it with --image, or it begins with noise alone",
    )


def test_paths_of_the_server_are_no_names(engine: Engine, models: Path) -> None:
    lying = models / "lying.png"
    lying.write_bytes(png())
    refused = {
        "model": str(models / "tiny"),
        "hires_checkpoint": str(models / "tiny"),
        "refiner": str(models / "tiny"),
        "image": str(lying),
        "output": "/tmp/x",
    }
    for field, value in refused.items():
        fields = {**SMALL, field: value}
        if field.startswith("hires"):
            fields["hires_upscale"] = 2.0
        with pytest.raises(BadInput):
            kinds()["generate"].settle(fields, bench(engine))
    with pytest.raises(BadInput):
        kinds()["generate"].settle({**SMALL, "regions": [f"mask={lying}: a cat"]}, bench(engine))
    with pytest.raises(BadInput):
        kinds()["generate"].settle({**SMALL, "prompt": f"a <lora:{models / 'tiny'}:1>"}, bench(engine))
    lying.with_suffix(".pth").write_bytes(b"")
    assert UpscalerNames(engine.library).find(str(lying.with_suffix(".pth"))) is None
    assert UpscalerNames(Library((models,))).find(str(lying.with_suffix(".pth"))) is not None


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"vae": "nix"}, "vae", "unknown VAE 'nix': "),
        ({"text_encoders": ["nix"]}, "text_encoders", "unknown text encoder 'nix': there is none here"),
        ({"styles": ["a"]}, "styles", "unknown style 'a': did you mean"),
        ({"regions": ["no place"]}, "regions", "no place"),
        ({"regions": ["mask=gone.png: a cat"]}, "regions", "gone.png"),
        ({"model": "lying"}, "model", "lying.safetensors"),
        ({"refiner": "lying", "refiner_switch_at": 0.5}, "refiner", "lying.safetensors"),
        ({"vae": "lying"}, "vae", "lying.safetensors"),
        ({"hires_upscale": 2.0, "hires_upscaler": "bad"}, "hires_upscaler", "bad.pth"),
        ({"postprocess_upscale_by": 2.0, "postprocess_upscaler": "bad"}, "postprocess_upscaler", "bad.pth"),
    ],
)
def test_a_refusal_knows_its_field(
    engine: Engine,
    models: Path,
    fields: dict[str, Any],
    field: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    damaged = models / "lying.safetensors", models / "upscalers" / "bad.pth"
    damaged[1].parent.mkdir(exist_ok=True)
    for file in damaged:
        file.write_bytes(b"x" * 100)
    try:
        with pytest.raises(BadInput) as refused:
            kinds()["generate"].settle({**SMALL, **fields}, bench(engine))
    finally:
        for file in damaged:
            file.unlink()
    assert said in str(refused.value)
    assert error_data(refused.value)["field"] == field


@pytest.mark.parametrize("field", ["upscaler", "upscaler_2"])
def test_an_upscaler_that_is_not_there_is_refused_by_its_field(engine: Engine, field: str) -> None:
    data = png()
    with pytest.raises(UnknownName) as refused:
        kinds()["upscale"].settle({"image": name(data), field: "nix"}, bench(engine, data))
    assert error_data(refused.value)["field"] == field


def test_a_mask_of_another_size_is_refused_before_it_is_queued(engine: Engine) -> None:
    """I07."""
    image, mask, good = png((64, 64)), png((32, 64)), png((64, 64), "another")
    fields = {**SMALL, "image": name(image)}
    with pytest.raises(BadInput, match="is 32x64, the image 64x64: give one of the same size") as refused:
        kinds()["generate"].settle({**fields, "mask": name(mask)}, bench(engine, image, mask))
    assert error_data(refused.value)["field"] == "mask"
    for fits in (name(good), "alpha"):
        assert kinds()["generate"].settle({**fields, "mask": fits}, bench(engine, image, good)).cost > 0


def test_the_mask_of_a_region_of_another_size_is_refused_before_it_is_queued(engine: Engine) -> None:
    """I07."""
    mask, good = png((32, 64)), png((64, 64))
    fields = {**SMALL, "regions": ["box=0,0,1,1: a dog", f'mask="{name(mask)}": a cat']}
    with pytest.raises(BadInput, match="is 32x64, the image 64x64: give one of the same size") as refused:
        kinds()["generate"].settle(fields, bench(engine, mask))
    assert error_data(refused.value)["field"] == "regions"
    fits = {**SMALL, "regions": [f'mask="{name(good)}": a cat'], "hires_upscale": 2.0}
    assert kinds()["generate"].settle(fits, bench(engine, good)).cost > 0


def test_messages_name_fields_and_no_flags() -> None:
    from atelier.runtime.workers.resolver import as_fields

    assert as_fields("a mask needs an image: give --image; or --lenient takes it") == (
        "a mask needs an image: give image; or lenient takes it"
    )
    assert as_fields("--text-encoders, --no-such and a--image") == "text_encoders, --no-such and a--image"


def test_too_many_images_and_pixels_are_too_large(engine: Engine) -> None:
    for fields, field in (
        ({"batch_count": 65}, "batch_count"),
        ({"width": 4096, "height": 4096, "hires_upscale": 2.0}, "hires_upscale"),
        ({"postprocess_upscale_by": 8, "width": 2048, "height": 2048}, "postprocess_upscale_by"),
    ):
        with pytest.raises(TooLarge, match=field):
            kinds()["generate"].settle({**SMALL, **fields}, bench(engine))


def test_images_are_told_with_their_files_and_what_they_cost(engine: Engine) -> None:
    told = performed("generate", {**SMALL, "batch_count": 2}, bench(engine))
    made = [one for one in told if isinstance(one, MadeImage)]
    assert [(one.index, one.seed, one.width, one.height, one.format) for one in made] == [
        (0, 7, 64, 64, "png"),
        (1, 8, 64, 64, "png"),
    ]
    assert Image.open(io.BytesIO(made[0].data)).info[TEXT_KEY] == made[0].infotext
    assert Image.open(io.BytesIO(made[0].thumbnail or b"")).format == "JPEG"
    assert told[-1] == Spent(6, 0)


def test_the_middle_of_an_image_is_saved_when_it_is_due_or_the_job_is_to_stop(engine: Engine) -> None:
    told = performed("generate", SMALL, bench(engine, most=Most(save=0.0)))
    saved = [one for one in told if isinstance(one, SavedState)]
    assert [(one.image, one.step) for one in saved][:1] == [(0, 1)]
    assert [one for one in performed("generate", SMALL, bench(engine)) if isinstance(one, SavedState)] == []
    stopped = performed("generate", SMALL, bench(engine, stopping=lambda: True))
    assert [one.step for one in stopped if isinstance(one, SavedState)] == [1, 2, 3]
    settled = kinds()["generate"].settle(SMALL, bench(engine))
    again = list(kinds()["generate"].perform(Task(settled.resolved or {}, (), saved[0].data), bench(engine)))
    assert again[-1] == Spent(2, 1)
    assert [one.data for one in again if isinstance(one, MadeImage)] == [
        one.data for one in told if isinstance(one, MadeImage)
    ]


def test_a_job_that_is_told_to_stop_between_two_steps_saves_before_it_tells_anything_else(engine: Engine) -> None:
    """A preview here, at which its worker would stop."""
    own, stops = bench(engine, most=Most(preview=0.0), stopping=lambda: bool(stops)), list[int]()
    resolved, told = kinds()["generate"].settle(SMALL, own).resolved or {}, list[Any]()
    for one in kinds()["generate"].perform(Task(resolved), own):
        told.append(one)
        if isinstance(one, JobProgress):
            stops.extend([1] * one.done)
    first = next(at for at, one in enumerate(told) if isinstance(one, JobProgress) and one.done == 1)
    saved, seen = told[first + 1 : first + 3]
    assert (saved.image, saved.step, type(seen)) == (0, 1, Preview)


def test_what_another_release_settled_is_refused_in_one_line(engine: Engine) -> None:
    settled = kinds()["generate"].settle(SMALL, bench(engine))
    for resolved in ({}, {**(settled.resolved or {}), "a later field": 1}):
        with pytest.raises(BadInput, match="another release"):
            list(kinds()["generate"].perform(Task(resolved), bench(engine)))


def test_images_are_enlarged_and_say_so(engine: Engine) -> None:
    text = "a cat\nSteps: 3, Sampler: Euler, Seed: 1, Size: 64x48"
    data, other = png(text=text), png((10, 20))
    fields = {"images": [name(data), name(other)], "upscaler": "Lanczos", "upscaler_2": "Nearest", "scale": 1.5}
    told = performed("upscale", fields, bench(engine, data, other))
    first, second = [one for one in told if isinstance(one, MadeImage)]
    assert (first.width, first.height, second.width, second.height) == (96, 72, 15, 30)
    assert first.infotext == (
        f"{text}, Postprocess upscale by: 1.5, Postprocess upscaler: Lanczos, Postprocess upscaler 2: Nearest, "
        "Postprocess upscaler 2 visibility: 0.5"
    )
    assert Image.open(io.BytesIO(first.data)).info[TEXT_KEY] == first.infotext
    expected = compose.upscale(Image.open(io.BytesIO(data)), "Lanczos", 1.5, second="Nearest")
    assert Image.open(io.BytesIO(first.data)).tobytes() == expected.tobytes()
    sized = performed("upscale", {"image": name(data), "width": 40, "height": 40}, bench(engine, data))
    assert next(one for one in sized if isinstance(one, MadeImage)).width == 40


def test_enlarging_stops_between_two_tiles(engine: Engine) -> None:
    data = png()
    with pytest.raises(Stopped):
        performed("upscale", {"image": name(data)}, bench(engine, data, stopping=lambda: True))


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({}, BadInput, "image"),
        ({"image": "UPLOAD", "upscaler": "nothing like it"}, UnknownName, "upscaler"),
        ({"image": "UPLOAD", "scale": 99.0}, BadInput, "scale"),
        ({"image": "UPLOAD", "scale": "x"}, BadInput, "scale"),
        ({"image": "UPLOAD", "width": 10}, BadInput, "height"),
        ({"image": "UPLOAD", "width": 10_000, "height": 10_000}, TooLarge, "scale"),
        ({"image": "UPLOAD", "visibility": 2}, BadInput, "visibility"),
        ({"image": "UPLOAD", "path": "/etc"}, BadInput, "path"),
        ({"image": "/etc/hostname"}, BadInput, "/etc/hostname"),
    ],
)
def test_what_cannot_be_enlarged_is_refused(
    engine: Engine, fields: dict[str, Any], error: type[Exception], said: str
) -> None:
    data = png()
    named = {key: name(data) if value == "UPLOAD" else value for key, value in fields.items()}
    with pytest.raises(error, match=said):
        kinds()["upscale"].settle(named, bench(engine, data))


def test_images_are_said_in_words(engine: Engine) -> None:
    data = png()
    told = performed("interrogate", {"image": name(data), "top": 2}, bench(engine, data))
    result = told[-1]
    assert isinstance(result, Result)
    words = result.data["words"]
    assert {key: len(own) for key, own in words.items()} == {"concepts": 2, "backgrounds": 2}
    assert result.data["caption"] == f"{words['concepts'][0]['word']} {words['backgrounds'][0]['word']}"
    with pytest.raises(BadInput, match="tiny"):
        kinds()["interrogate"].settle({"image": name(data), "model": "tiny"}, bench(engine, data))


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header says so many pixels, and which holds none."""
    data = bytearray(png((1, 1)))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (bomb(14_000, 14_000), TooLarge),
        (bomb(65_535, 1), TooLarge),
        (bomb(9000, 9000), TooLarge),
        (png()[:100], BadFile),
        (b"", BadFile),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", BadFile),
        (png(kind="GIF"), BadFile),
        (png(kind="BMP"), BadFile),
        (png(kind="TIFF"), BadFile),
        (b"%PDF-1.4", BadFile),
    ],
    ids=["14000", "line", "9000", "cut", "empty", "svg", "gif", "bmp", "tiff", "pdf"],
)
def test_hostile_images_are_refused_from_their_headers(engine: Engine, data: bytes, error: type[Exception]) -> None:
    """I01, I02, I05."""
    with pytest.raises(error):
        bench(engine, data).images.size(name(data))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_three_formats_are_read(engine: Engine, kind: str) -> None:
    data = png(kind=kind)
    assert bench(engine, data).images.size(name(data)) == (64, 48)


def test_uploads_are_whole_values_or_in_regions() -> None:
    one, two, three = ("upload:" + digit * 64 for digit in "123")
    fields = {"image": one, "prompt": f"a cat {two}", "regions": [f'mask="{three}": a dog'], "images": [two, one]}
    assert uploads_in(fields) == (one, three, two)
    assert uploads_in({"image": one + "0", "mask": "Upload:" + "1" * 64}) == ()


def test_nothing_says_where_files_lie(tmp_path: Path) -> None:
    assert without_places(f"{tmp_path}/models/a.ckpt: is damaged", [tmp_path / "models"]) == "a.ckpt: is damaged"
    assert outward({"model": {"path": "/x/y.ckpt", "name": "/z"}, "list": [{"path": "/a/b"}]}) == {
        "model": {"path": "y.ckpt", "name": "/z"},
        "list": [{"path": "b"}],
    }


def test_memory_that_ends_at_any_call_fails_the_job_and_nothing_else(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O05: the allocator refuses at the k-th call of the network, k = 1, 2, … until it is not asked so often."""
    own, real = bench(engine), UNet.forward
    expected = [one.data for one in performed("generate", SMALL, own) if isinstance(one, MadeImage)]
    refused: list[str] = []
    for k in range(1, 20):
        calls = itertools.count(1)

        def forward(*given: Any, k: int = k, calls: Any = calls, **named: Any) -> Any:
            if next(calls) == k:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
            return real(*given, **named)

        monkeypatch.setattr(UNet, "forward", forward)
        try:
            made = performed("generate", SMALL, own)
        except BadInput as error:
            refused.append(str(error))
            continue
        break
    assert len(refused) >= 3
    assert all("does not fit in memory" in told for told in refused)
    assert [one.data for one in made if isinstance(one, MadeImage)] == expected
    monkeypatch.undo()
    assert error_data(MemoryError())["exit_code"] == 2


@pytest.mark.parametrize("size", [(64, 48), (128, 96), (16, 32)])
def test_a_mask_is_brought_to_the_size_of_the_image_where_its_name_says_so(
    engine: Engine, size: tuple[int, int]
) -> None:
    image, mask = png(), png(size)
    brought = f"{name(mask)} as large as {name(image)}"
    own = bench(engine, image, mask)
    with own.images.read(own.images.refer(brought)) as found:
        assert found.size == (64, 48)
        assert np.asarray(found.convert("L"))[[0, -1], 0].tolist() == pytest.approx([0, 255], abs=12)
    assert own.images.refer(brought).sha256 == own.images.refer(brought).sha256
    assert (own.images.refer(brought).sha256 == hashlib.sha256(mask).hexdigest()) == (size == (64, 48))
    fields = {**SMALL, "image": name(image), "mask": brought, "mask_blur": 0.0}
    assert set(uploads_in(fields)) == {name(image), name(mask)}
    settled = kinds()["generate"].settle(fields, own)
    told = list(kinds()["generate"].perform(Task(settled.resolved), own))
    assert [one.index for one in told if isinstance(one, MadeImage)] == [0]


def test_a_name_that_only_looks_like_a_mask_is_no_upload(engine: Engine) -> None:
    assert uploads_in({"mask": f"{name(png())} as large as /etc/passwd"}) == ()
    with pytest.raises(BadInput, match="no image that was uploaded"):
        bench(engine, png()).images.refer(f"{name(png())} as large as /etc/passwd")
