"""Jobs on models: what a server says of files, and what it makes of them; hashes and numbers computed by hand."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import tiny
from atelier.checkpoints.trained_on import trained_on
from atelier.errors import AtelierError, BadInput, UnknownName
from atelier.runtime.engine import Engine
from atelier.runtime.index import Index
from atelier.runtime.jobs.job import JobProgress
from atelier.runtime.library import Library
from atelier.runtime.workers.handed import HandedImages
from atelier.runtime.workers.kind import Bench, Most, Result, Stopped, Task, kinds
from atelier.runtime.workers.shelf import card, shelf
from atelier.runtime.workers.stepwise import stepwise
from atelier.train.data import scenes
from atelier.weights.formats.safetensors import Tell, read_header, save_each
from atelier.weights.hashes import HashCache
from pipeline_support import CPU, PLENTY

SAID = {
    "ss_sd_model_name": "C:\\models\\anything.safetensors",
    "ss_network_module": "networks.lora",
    "ss_network_dim": "8",
    "ss_network_alpha": "4.0",
    "ss_num_train_images": "60",
    "ss_num_reg_images": "0",
    "ss_steps": "300",
    "ss_unet_lr": "0.0001",
    "ss_resolution": "(512, 512)",
    "ss_training_started_at": "1700000000.0",
    "ss_training_finished_at": "1700000600.0",
    "ss_training_comment": "None",
    "ss_tag_frequency": json.dumps({"10_cat": {"zwx": 6, "garden": 2}, "5_cat": {"zwx": 5}}),
    "atelier.recipe": json.dumps({"data.source": "/home/anna/secret/photos", "url": "https://a.org/b/c"}),
    "modelspec.license": "CC0-1.0",
}


def lora(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    state = {f"{name}.lora_down.weight": torch.ones(4, 768), f"{name}.lora_up.weight": torch.ones(640, 4)}
    save_file(state, path, SAID)
    return path


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of one kind in one file each, one in a folder, and a LoRA."""
    folder = tmp_path_factory.mktemp("given")
    base = tiny.single_file(folder / "a.safetensors")
    state = load_file(base)
    torch.manual_seed(1)
    save_file(
        {name: t + 0.1 * torch.randn(t.shape) for name, t in state.items()},
        folder / "b.safetensors",
        dict(read_header(base).metadata),
    )
    tiny.folder(folder / "tiny")
    lora(folder / "Lora" / "cat.safetensors")
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The first folder of models, which gets what is made."""
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def bench(*folders: Path, stopping: Callable[[], bool] = lambda: False, images: tuple[bytes, ...] = ()) -> Bench:
    held = HandedImages(Most())
    held.hold({upload(data): data for data in images})
    library = Library(folders, by_path=False)
    return Bench(Engine(CPU, library, HashCache(), version="1", budget=PLENTY, images=held), held, Most(), stopping)


def upload(data: bytes) -> str:
    return "upload:" + hashlib.sha256(data).hexdigest()


def performed(kind: str, fields: dict[str, Any], place: Bench) -> dict[str, Any]:
    """The result of a job whose settled form went through JSON; its progress only grows."""
    settled = json.loads(json.dumps(kinds()[kind].settle(fields, place).resolved))
    told = list(kinds()[kind].perform(Task(settled), place))
    shares = [one.share for one in told if isinstance(one, JobProgress)]
    assert shares == sorted(shares)
    assert shares
    assert isinstance(told[-1], Result)
    return dict(told[-1].data)


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_shelf_names_every_file_by_an_id_and_no_place(given: Path, own: Path) -> None:
    library = Library((own, given), by_path=False)
    entries: list[Any] = shelf(library, Index())
    assert [(e["name"], e["kind"], e["file"]) for e in entries] == [
        ("embedded", "checkpoint", "embedded"),
        ("a", "checkpoint", "a.safetensors"),
        ("b", "checkpoint", "b.safetensors"),
        ("cat", "lora", "Lora/cat.safetensors"),
        ("tiny", "checkpoint", "tiny"),
    ]
    assert len({e["id"] for e in entries}) == 5
    assert str(given) not in json.dumps(entries)
    assert [e["id"] for e in shelf(library, Index())] == [e["id"] for e in entries]


def test_a_damaged_file_is_on_the_shelf_with_its_problem(own: Path) -> None:
    (own / "bad.safetensors").write_bytes(b"x" * 100)
    found: Any = next(e for e in shelf(Library((own,)), Index()) if e["name"] == "bad")  # type: ignore[index, call-overload]
    assert not found["supported"]
    assert found["problem"]
    assert str(own) not in json.dumps(found)


def test_a_card_says_what_it_is_its_licence_and_what_it_was_trained_on(given: Path) -> None:
    library = Library((given,), by_path=False)
    entry: Any = next(e for e in shelf(library, Index()) if e["name"] == "cat")  # type: ignore[index, call-overload]
    said: Any = card(library, HashCache(), entry["id"])
    assert (said["kind"], said["family"], said["licence"], said["path"]) == ("lora", "sd1", "CC0-1.0", None)
    assert (said["sha256"], said["file"]) == (None, "Lora/cat.safetensors")
    trained = said["trained_on"]
    assert (trained["images"], trained["steps"], trained["rate"], trained["rank"]) == (60, 300, 1e-4, "8")
    assert (trained["seconds"], trained["comment"], trained["tags"]) == (600.0, None, {"zwx": 11, "garden": 2})
    text = json.dumps(said)
    for place in (str(given), "/home/anna", "secret", "C:\\\\models"):
        assert place not in text, place
    assert "https://a.org/b/c" in said["metadata"]["atelier.recipe"]
    assert trained["base"] == "anything.safetensors"


@pytest.mark.parametrize("name", ["0" * 24, "", "../../etc/passwd", "a" * 5000])
def test_an_id_that_is_none_leads_nowhere(given: Path, name: str) -> None:
    with pytest.raises(BadInput, match="no file of this id"):
        card(Library((given,), by_path=False), HashCache(), name)


def test_a_file_without_a_training_says_none() -> None:
    assert trained_on({}) is None
    assert trained_on({"ss_steps": "None", "ss_unet_lr": "x", "ss_tag_frequency": "[1]"}) is None
    found = trained_on({"ss_steps": "1e400", "ss_epoch": "3", "ss_tag_frequency": '{"a": {"b": "c"}, "d": 1}'})
    assert found is not None
    assert (found.steps, found.epochs, found.tags) == (None, 3, {"b": 0})


def test_an_inspection_hashes_and_finds_what_is_broken(given: Path, own: Path) -> None:
    state = load_file(given / "a.safetensors")
    broken, zero = sorted(name for name, t in state.items() if t.ndim > 1)[:2]
    state[broken][0] = float("nan")
    state[zero].zero_()
    save_file(state, own / "broken.safetensors", dict(read_header(given / "a.safetensors").metadata))
    place = bench(own)
    entry: Any = next(e for e in shelf(place.engine.library, Index()) if e["name"] == "broken")  # type: ignore[index, call-overload]
    said = performed("inspect", {"id": entry["id"], "check": True}, place)
    assert said["sha256"] == hashlib.sha256((own / "broken.safetensors").read_bytes()).hexdigest()
    assert said["short"] == said["sha256"][:10]
    assert (said["not_finite"], said["zero"]) == ([broken], [zero])
    plain = performed("inspect", {"id": entry["id"]}, place)
    assert plain.keys() & {"not_finite", "zero"} == set()


@pytest.mark.parametrize("source", ["a", "tiny"])
def test_a_model_is_converted_to_a_file_and_to_a_folder(given: Path, own: Path, source: str) -> None:
    place = bench(own, given)
    said = performed("convert", {"model": source, "name": "as file", "dtype": "fp16"}, place)
    target = own / "Stable-diffusion" / "as file.safetensors"
    assert (said["model"], said["files"], said["bytes"]) == (
        "as file",
        ["Stable-diffusion/as file.safetensors"],
        target.stat().st_size,
    )
    before, after = load_file(given / "a.safetensors"), load_file(target)
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], before[name].half()) for name in before)
    said = performed("convert", {"model": "as file", "name": "folder", "layout": "diffusers"}, place)
    assert (own / "Stable-diffusion" / "folder" / "model_index.json").is_file()
    assert said["files"] == ["Stable-diffusion/folder"]
    assert {model.name for model in place.engine.library.models()} >= {"as file", "folder"}


def test_models_are_merged_with_a_weight(given: Path, own: Path) -> None:
    place = bench(own, given)
    said = performed("merge", {"first": "a", "second": "b", "name": "m", "weight": 0.25, "dtype": "fp32"}, place)
    a, b = load_file(given / "a.safetensors"), load_file(given / "b.safetensors")
    merged = load_file(own / "Stable-diffusion" / "m.safetensors")
    assert said["merged"] == sum(t.numel() > 0 for t in a.values())
    for name, tensor in merged.items():
        assert torch.allclose(tensor, 0.75 * a[name] + 0.25 * b[name], atol=1e-6), name
    performed("merge", {"first": "a", "second": "b", "third": "a", "name": "d", "weight": 1.0}, place)
    beyond = load_file(own / "Stable-diffusion" / "d.safetensors")
    assert all(torch.allclose(beyond[name], b[name], atol=1e-6) for name in b)


CONVERT = ("convert", {"model": "a", "name": "x"})
MERGE = ("merge", {"first": "a", "second": "b", "name": "x"})


@pytest.mark.parametrize(("kind", "fields"), [CONVERT, MERGE])
def test_nothing_is_overwritten_unless_that_is_asked(given: Path, own: Path, kind: str, fields: dict[str, Any]) -> None:
    place = bench(own, given)
    settled = json.loads(json.dumps(kinds()[kind].settle(fields, place).resolved))
    target = own / "Stable-diffusion" / "x.safetensors"
    target.parent.mkdir()
    target.write_bytes(b"mine")
    for refused in (
        lambda: kinds()[kind].settle(fields, place),
        lambda: list(kinds()[kind].perform(Task(settled), place)),  # it came there while the job waited
    ):
        with pytest.raises(BadInput, match=r"^name: Stable-diffusion/x.safetensors: exists already"):
            refused()
    assert target.read_bytes() == b"mine"
    performed(kind, {**fields, "overwrite": True}, place)
    assert target.stat().st_size > 1000
    assert left_over(own) == ["x.safetensors"]


@pytest.mark.parametrize(("kind", "fields"), [CONVERT, MERGE])
def test_a_job_that_is_stopped_leaves_nothing(given: Path, own: Path, kind: str, fields: dict[str, Any]) -> None:
    asked = []
    place = bench(own, given, stopping=lambda: asked.append(1) or len(asked) > 10)  # type: ignore[func-returns-value]
    settled = json.loads(json.dumps(kinds()[kind].settle(fields, place).resolved))
    with pytest.raises(Stopped):
        list(kinds()[kind].perform(Task(settled), place))
    assert left_over(own) == []


def test_a_model_that_changed_since_it_was_asked_for_is_not_converted(given: Path, own: Path) -> None:
    changing = own / "c.safetensors"
    changing.write_bytes((given / "a.safetensors").read_bytes())
    settled = json.loads(json.dumps(kinds()["convert"].settle({"model": "c", "name": "x"}, bench(own)).resolved))
    changing.write_bytes((given / "b.safetensors").read_bytes())
    with pytest.raises(AtelierError, match="has changed"):
        list(kinds()["convert"].perform(Task(settled), bench(own)))
    assert left_over(own) == ["c.safetensors"]


@pytest.mark.parametrize(
    ("kind", "fields", "error", "field"),
    [
        ("convert", {"model": "nix", "name": "x"}, UnknownName, "model"),
        ("convert", {"model": "GIVEN/a.safetensors", "name": "x"}, UnknownName, "model"),
        ("convert", {"model": "a", "name": "../x"}, BadInput, None),
        ("convert", {"model": "a", "name": "x", "vae": "nix"}, UnknownName, "vae"),
        ("convert", {"model": "a", "name": "x", "vae": "a", "ema": True}, BadInput, None),
        ("convert", {"model": "a", "name": "x", "dtype": "int8"}, BadInput, None),
        ("merge", {"first": "a", "second": "nix", "name": "x"}, UnknownName, "second"),
        ("merge", {"first": "tiny", "second": "b", "name": "x"}, BadInput, "first"),
        ("merge", {"first": "a", "second": "b", "name": "x", "weight": 11}, BadInput, None),
        ("merge", {"first": "a", "second": "b", "name": "x", "blocks": [0.5]}, BadInput, None),
        ("merge", {"first": "a", "second": "b", "name": "..", "weight": 0.5}, BadInput, None),
        ("inspect", {"id": "../x"}, BadInput, None),
    ],
)
def test_what_cannot_be_done_is_refused_when_it_is_asked_for(
    given: Path, own: Path, kind: str, fields: dict[str, Any], error: type[Exception], field: str | None
) -> None:
    named = {key: str(value).replace("GIVEN", str(given)) if key == "model" else value for key, value in fields.items()}
    with pytest.raises(error) as refused:
        kinds()[kind].settle(named, bench(own, given))
    assert field is None or getattr(refused.value, "field", None) == field
    assert left_over(own) == []


def test_without_a_folder_of_models_nothing_can_be_made() -> None:
    with pytest.raises(BadInput, match="no folder of models"):
        kinds()["convert"].settle({"model": "embedded", "name": "x"}, bench())


def test_captions_come_in_the_order_of_the_images(own: Path) -> None:
    """As the embedded model sees two scenes of its own kind, with the words that a caption is to begin with."""
    images = tuple(scene(name, ground) for name, ground in (("banana", "white"), ("red apple", "blue")))
    place = bench(own, images=images)
    names = [upload(data) for data in images]
    said = performed("caption", {"images": names, "before": "photo: "}, place)
    assert [("banana" in one, "apple" in one, one.startswith("photo: ")) for one in said["captions"]] == [
        (True, False, True),
        (False, True, True),
    ]
    turned = performed("caption", {"images": names[::-1], "before": "photo: "}, place)
    assert turned["captions"] == said["captions"][::-1]
    with pytest.raises(BadInput):
        kinds()["caption"].settle({"images": ["upload:" + "0" * 64]}, place)


def scene(name: str, background: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(scenes.render(scenes.large(name, background))).save(file, "PNG")
    return file.getvalue()


def test_work_in_a_thread_tells_hundredths_and_gives_its_result() -> None:
    def work(tell: Tell) -> str:
        for number in range(1000):
            tell(number, 1000)
        return "made"

    results: list[str] = []

    def listening() -> Iterator[JobProgress]:
        results.append((yield from stepwise(work, lambda: False)))

    assert [one.done for one in listening()] == list(range(100))
    assert results == ["made"]


def test_work_in_a_thread_raises_what_it_raises_and_ends_when_nobody_listens() -> None:
    def failing(_tell: Tell) -> None:
        raise BadInput("no")

    with pytest.raises(BadInput, match="no"):
        list(stepwise(failing, lambda: False))
    ended = []

    def endless(tell: Tell) -> None:
        try:
            for number in range(10**9):
                tell(number % 1000, 1000)
        finally:
            ended.append(True)

    steps = stepwise(endless, lambda: False)
    next(steps)
    steps.close()
    assert ended == [True]


def test_a_file_is_told_of_tensor_by_tensor_and_not_left_half_written(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2), "b": torch.ones(3)}
    declared = {name: ("F32", tuple(t.shape)) for name, t in tensors.items()}
    told: list[tuple[int, int]] = []
    save_each(tmp_path / "x.safetensors", declared, tensors.__getitem__, None, lambda *at: told.append(at))
    assert told == [(0, 3), (1, 3), (2, 3)]

    def refuse(done: int, _total: int, /) -> None:
        if done == 2:
            raise Stopped("told to stop")

    with pytest.raises(Stopped):
        save_each(tmp_path / "y.safetensors", declared, tensors.__getitem__, None, refuse)
    assert left_over(tmp_path) == ["x.safetensors"]
