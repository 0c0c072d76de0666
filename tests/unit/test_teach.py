"""`atelier teach`: what it plans, where its results go, what it refuses; and the same as a job of the server."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from PIL import Image

import tiny
from atelier.cli.app import run
from atelier.errors import BadFile, BadInput, UnknownName
from atelier.request.events import Preview, Warned
from atelier.request.table import request_of
from atelier.runtime.engine import Engine
from atelier.runtime.jobs.courses import course
from atelier.runtime.jobs.job import JobProgress
from atelier.runtime.jobs.lease import MadeImage
from atelier.runtime.jobs.limits import LONG
from atelier.runtime.library import Library
from atelier.runtime.teaching import Planned, Wish, check_free, default_name, install, planned
from atelier.runtime.workers.handed import HandedImages
from atelier.runtime.workers.kind import Bench, Learned, Most, Result, Stopped, Task, kinds
from atelier.runtime.workers.kinds.teach import forecast
from atelier.runtime.workers.messages import Channel, Message
from atelier.runtime.workers.worker import Worker
from atelier.train.checkpoint import FOLDER, newest
from atelier.train.loop import HERE
from atelier.train.teaching.presets import METHODS, SUBJECTS, PresetInput, Subject, changes, method
from atelier.weights.formats import safetensors
from atelier.weights.hashes import HashCache
from pipeline_support import CPU, PLENTY
from teaching_support import save

pytestmark = pytest.mark.usefixtures("no_charts")
COLOURS = ((220, 30, 40), (30, 160, 60), (40, 70, 220))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (80, 64), colour).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.folder(folder / "tiny")
    return folder


GIVEN = PresetInput(data="photos", images=5, base="m", word="zwx", small=False, like="dog")


def test_a_published_model_learns_at_published_rates() -> None:
    assert changes(method("lora"), GIVEN) == {
        "base": "m",
        "data.source": "photos",
        "data.caption": "a photo of zwx dog",
        "samples": ["a photo of zwx dog"],
        "trigger": "zwx dog",
        "base_dtype": "auto",
        "data.buckets": True,
        "run.steps": 750,
        "run.batch": 1,
        "run.validate_every": 375,
        "run.checkpoint_every": 187,
        "run.checkpointing": True,
        "optim.rate": 1e-4,
        "loss.weight": "even",
        "targets.layers": "transformer",
    }


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("dora", "adapter.dora", True),
        ("loha", "adapter.kind", "LoHa"),
        ("lokr", "adapter.kind", "LoKr"),
        ("ia3", "adapter.kind", "IA3"),
        ("oft", "adapter.kind", "OFT"),
        ("locon", "targets.layers", "all"),
        ("inversion", "word.word", "zwx"),
        ("inversion", "word.like", "dog"),
        ("pivotal", "word.word", "zwx"),
        ("custom-diffusion", "targets.layers", "cross-attention"),
    ],
)
def test_methods_change_what_they_are_about(name: str, key: str, value: object) -> None:
    assert changes(method(name), GIVEN)[key] == value


def test_methods_are_known_by_other_names_and_unknown_ones_are_named() -> None:
    assert method("TI") is METHODS["inversion"]
    with pytest.raises(UnknownName, match=r"unknown method 'lorra'.*lora"):
        method("lorra")


def test_steps_grow_with_the_images_within_bounds(images: Path) -> None:
    steps = [changes(method("lora"), PresetInput("d", n, "m", "w", small=True))["run.steps"] for n in (1, 10, 1000)]
    assert steps == [120, 300, 3000]


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("name", ["lora", "dora", "loha", "lokr", "dreambooth", "pivotal", "inversion"])
def test_a_small_model_learns_pure_noise_as_well(name: str, subject: Subject) -> None:
    """There it is decided what is where, and min-SNR weighs it at nothing."""
    small = PresetInput("d", 5, "m", "zwx", small=True, subject=subject)
    assert changes(method(name), small)["loss.weight"] == "even"


@pytest.mark.parametrize("name", ["locon", "custom-diffusion", "ia3", "oft"])
def test_a_small_model_keeps_min_snr_where_the_even_loss_is_not_measured_or_worse(name: str) -> None:
    small = PresetInput("d", 5, "m", "zwx", small=True)
    assert changes(method(name), small)["loss.weight"] == "min-snr"


def test_a_style_is_captioned_as_one_and_faces_teach_the_text_encoder() -> None:
    style = PresetInput("d", 5, "m", "zwx", small=False, subject="style")
    face = PresetInput("d", 5, "m", "zwx", small=False, subject="face")
    assert changes(method("lora"), style)["data.caption"] == "zwx style"
    assert changes(method("lora"), style)["loss.weight"] == "min-snr"
    assert changes(method("lora"), face)["targets.text"] is True


def test_the_embedded_model_keeps_what_it_knows_by_its_own_captions(images: Path) -> None:
    plan = planned(Wish("lora", images, "zwx"), Library())
    data = plan.recipe.model_dump()["data"]
    assert data["class_images"] == 24
    assert len(data["class_captions"]) == 48
    assert plan.results == {"zwx": "Lora"}
    assert plan.uses == "<lora:zwx:1> zwx"
    none = planned(Wish("lora", images, "zwx", prior=0), Library()).recipe.model_dump()["data"]
    assert none["class_images"] == 0
    like = planned(Wish("lora", images, "zwx", like="cat", prior=7), Library()).recipe.model_dump()["data"]
    assert (like["class_images"], like["class_captions"]) == (7, ("a photo of a cat",))


def test_what_may_surprise_is_said(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "one.png")
    heard: list[str] = []
    planned(Wish("lora", tmp_path, "apple", word="apple"), Library(), heard.append)
    assert heard[0] == "'apple' is a word that embedded knows, and its meaning will change: a rarer one keeps it"
    assert "holds one image, which will be learned by heart" in heard[1]


def test_images_that_are_passed_over_are_told(images: Path) -> None:
    save(images / "2024_best" / "a.png")
    heard: list[str] = []
    planned(Wish("lora", images, "zwx"), Library(), heard.append)
    assert f"{images / '0.png'}: is passed over, since the folders beside it are called as 2024_best" in heard


def test_a_name_that_a_word_does_not_get_is_told(images: Path) -> None:
    heard: list[str] = []
    planned(Wish("inversion", images, "my-cat"), Library(), heard.append)
    assert heard == ["the file of a word is called as the word, zwx; my-cat is what the run is called"]


def test_an_optimizer_that_finds_its_rate_gets_the_whole_of_it(images: Path) -> None:
    prodigy = {"optim.kind": "prodigy"}
    recipe = planned(Wish("pivotal", images, "x", subject="face", more=prodigy), Library()).recipe.model_dump()
    assert (recipe["optim"]["rate"], recipe["word"]["rate"], recipe["targets"]["text_rate"]) == (1, 1, 1)
    word = planned(Wish("inversion", images, "zwx", more=prodigy), Library()).recipe.model_dump()
    assert (word["optim"]["rate"], word["word"]["rate"]) == (1, 1)
    own = planned(Wish("lora", images, "zwx", more={**prodigy, "optim.rate": 0.5}), Library()).recipe.model_dump()
    assert own["optim"]["rate"] == 0.5


def test_results_of_words_and_models_go_to_folders_of_their_own(images: Path) -> None:
    assert planned(Wish("inversion", images, "x"), Library()).results == {"zwx": "embeddings"}
    assert planned(Wish("dreambooth", images, "x"), Library()).results == {"x": "Stable-diffusion"}
    assert planned(Wish("pivotal", images, "x"), Library()).results == {"zwx": "embeddings", "x": "Lora"}
    assert [default_name(m, "my word") for m in ("lora", "inversion", "pivotal")] == [
        "my-word",
        "my-word",
        "my-word-pivotal",
    ]
    with pytest.raises(BadInput, match=r"word\.word is called so too"):
        planned(Wish("pivotal", images, "zwx"), Library())


@pytest.fixture
def made(images: Path, tmp_path: Path) -> tuple[Planned, Path, Path]:
    """A plan, the folder of a run that has its result, a folder of models."""
    plan, run_folder = planned(Wish("lora", images, "zwx"), Library()), tmp_path / "run"
    run_folder.mkdir()
    (run_folder / "zwx.safetensors").write_bytes(b"new")
    return plan, run_folder, tmp_path / "models"


TAKEN = r"exists already; choose another --name, or add --overwrite"


def test_results_are_copied_whole_and_never_over_others(
    made: tuple[Planned, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, run_folder, models = made
    target = models / "Lora" / "zwx.safetensors"
    check_free(plan, run_folder, models)
    assert install(plan, run_folder, models) == (target,)
    assert target.read_bytes() == b"new"
    monkeypatch.setattr("atelier.train.checkpoint.reached", lambda _: plan.recipe.run.steps)
    check_free(plan, run_folder, models)
    assert install(plan, run_folder, models) == (target,), "a run that was killed behind the copy goes on"
    target.write_bytes(b"another")
    with pytest.raises(BadFile, match=TAKEN):
        check_free(plan, run_folder, models)
    with pytest.raises(BadFile, match=TAKEN):
        install(plan, run_folder, models)
    assert target.read_bytes() == b"another"
    check_free(plan, run_folder, models, overwrite=True)
    install(plan, run_folder, models, overwrite=True)
    assert target.read_bytes() == b"new"


def test_a_folder_of_models_that_cannot_be_written_is_named(made: tuple[Planned, Path, Path]) -> None:
    plan, run_folder, models = made
    models.write_bytes(b"no folder")
    with pytest.raises(BadFile, match=r"models.*cannot be used"):
        install(plan, run_folder, models)


def test_images_of_the_class_do_not_count_and_replace_the_usual_ones(tmp_path: Path) -> None:
    for name, count in (("img/1_zwx cat", 2), ("reg/1_cat", 9)):
        (tmp_path / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (64, 64), COLOURS[number % 3]).save(tmp_path / name / f"{number}.png")
    plan = planned(Wish("lora", tmp_path, "zwx", more={"data.prefix": "zwx"}), Library())
    recipe = plan.recipe.model_dump()
    assert (recipe["run"]["steps"], recipe["data"]["class_images"]) == (120, 0)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_finds_what_it_trains(name: str, images: Path, models: Path, tmp_path: Path) -> None:
    more = {"run.steps": 2, "run.batch": 1, "base_dtype": "fp32"}
    plan = planned(Wish(name, images, "x", str(models / "tiny"), like="cat", prior=0, more=more), Library())
    task = plan.spec.build(plan.recipe, HERE, tmp_path / "run")
    losses = task.update(0, task.maker(0))
    assert float(losses["loss"]) > 0
    assert float(losses["norm"]) > 0
    assert (
        plan.uses.removesuffix("  (--model x)").removeprefix("<lora:x:1> ")
        in plan.recipe.model_dump()["data"]["caption"]
    )


@pytest.fixture
def results(own: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that results of the command go to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_MODELS", f"{own}{os.pathsep}{models}")
    return own


def taught(*more: str) -> int:
    few = ["--steps", "2", "--set", "run.batch=1", "--prior", "0", "--set", "run.dtype=fp32"]
    return run(["teach", "lora", "--base", "tiny", *few, *more])


def test_the_command_leaves_a_lora_that_prompts_can_name(
    images: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert taught("--data", str(images), "--like", "cat") == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(results / "Lora" / "zwx.safetensors")
    assert "in prompts: <lora:zwx:1> zwx cat" in printed.err
    header = safetensors.read_header(results / "Lora" / "zwx.safetensors")
    assert "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight" in header.tensors
    assert header.metadata["ss_output_name"] == "zwx"
    assert header.metadata["ss_steps"] == "2"
    recipe = json.loads((tmp_path / "runs" / "zwx" / "recipe.json").read_text())
    assert recipe["data"]["caption"] == "a zwx cat"
    (results / "Lora" / "zwx.safetensors").write_bytes(b"another")
    assert taught("--data", str(images), "--like", "cat") == 2
    assert capsys.readouterr().err.strip().endswith("exists already; choose another --name, or add --overwrite")


def test_a_finished_teaching_given_again_changes_nothing(
    images: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert taught("--data", str(images)) == 0
    made = results / "Lora" / "zwx.safetensors"
    before = made.read_bytes()
    capsys.readouterr()
    assert taught("--data", str(images)) == 0
    assert capsys.readouterr().out.strip() == str(made)
    assert made.read_bytes() == before


def test_an_earlier_result_is_not_replaced_by_more_steps_unless_asked(
    images: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before they are made."""
    assert taught("--data", str(images)) == 0
    before = (results / "Lora" / "zwx.safetensors").read_bytes()
    assert taught("--data", str(images), "--steps", "3") == 2
    assert "exists already" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "zwx" / "checkpoints" / "step-00000003").exists()
    assert (results / "Lora" / "zwx.safetensors").read_bytes() == before
    assert taught("--data", str(images), "--steps", "3", "--overwrite") == 0


def test_changes_of_the_images_can_be_accepted(
    images: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the refusal says."""
    assert taught("--data", str(images)) == 0
    (images / "0.txt").write_text("a red zwx", encoding="utf-8")
    longer = ["--data", str(images), "--steps", "3", "--overwrite"]
    assert taught(*longer) == 2
    assert "--accept-changes" in capsys.readouterr().err
    assert taught(*longer, "--accept-changes") == 0
    assert safetensors.read_header(results / "Lora" / "zwx.safetensors").metadata["ss_steps"] == "3"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["teach", "lora", "--data", "nowhere"], "nowhere: no such folder"),
        (["teach", "lorra", "--data", "{images}"], "unknown method 'lorra'"),
        (["teach", "lora", "--data", "{images}", "--preset", "dog"], "unknown preset 'dog'"),
        (["teach", "lora", "--data", "{images}", "--name", "a/b"], "--name a/b: is no name of a file"),
        (["teach", "lora", "--data", "{images}", "--word", " "], "the word is empty"),
        (["teach", "lora", "--data", "{images}", "--base", "nix"], "unknown model 'nix'"),
        (["teach", "lora", "--data", "{images}", "--set", "adapter.rank=0"], "adapter.rank = 0"),
        (["teach", "lora", "--data", "{images}", "--base", "tiny", "--prior", "5"], "--prior: say with --like"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str],
    told: str,
    images: Path,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_MODELS", str(models))
    assert run([part.format(images=images) for part in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert told in error
    assert "\n" not in error
    assert not (tmp_path / "runs").exists()


# As a job.


def upload(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


DATA = [upload(colour) for colour in COLOURS]
NAMES = ["upload:" + hashlib.sha256(data).hexdigest() for data in DATA]
FIELDS: dict[str, Any] = {"images": NAMES, "model": "tiny", "steps": 4, "prior": 0, "captions": ["a", "b", "c"]}


class Stops:
    """Says that the job is to be stopped, after so many questions."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def bench(own: Path, models: Path, stopping: Any = lambda: False) -> Bench:
    images = HandedImages(Most())
    images.hold(dict(zip(NAMES, DATA, strict=True)))
    engine = Engine(CPU, Library((own, models), by_path=False), HashCache(), version="1", budget=PLENTY, images=images)
    return Bench(engine, images, Most(), stopping)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def test_a_job_teaches_and_says_how_to_use_it(own: Path, models: Path, tmp_path: Path) -> None:
    place = bench(own, models)
    settled = kinds()["teach"].settle(FIELDS, place)
    assert settled.uploads == tuple(NAMES)
    told = list(kinds()["teach"].perform(Task(json.loads(json.dumps(settled.resolved)), place=tmp_path / "run"), place))
    assert [t.done for t in told if isinstance(t, JobProgress)] == [1, 2, 3, 4]
    assert isinstance(told[-1], Result)
    said = dict(told[-1].data)
    course = said.pop("course")
    assert said == {
        "files": ["zwx.safetensors"],
        "prompt": "<lora:zwx:1> zwx",
        "use": {"prompt": "<lora:zwx:1> zwx", "model": "tiny"},
    }
    learned = [t for t in told if isinstance(t, Learned)]
    points = [point for one in learned for point in one.points]
    assert [step for step, _ in points] == [1, 2, 3, 4]
    told_checks = [[step, loss] for one in learned for step, loss in one.checks]
    for kept, all_told in ((course["points"], points), (course["checks"], told_checks)):
        assert kept == [[step, pytest.approx(loss, abs=1.1e-6)] for step, loss in all_told], "to six decimals"
    assert [step for step, _ in course["checks"]] == [4]
    assert [(t.index, t.seed) for t in told if isinstance(t, MadeImage)] == [(4, None)]
    assert (own / "Lora" / "zwx.safetensors").is_file()
    looks = [t for t in told if isinstance(t, Preview)]
    assert len(looks) == 1
    assert not [t for t in told if isinstance(t, Warned)]


def test_a_stopped_job_goes_on_to_the_same_file(own: Path, models: Path, tmp_path: Path) -> None:
    """Also with the recipe that is checked before: the run is found by what was settled."""
    place = bench(own, models)
    settled = json.loads(json.dumps(kinds()["teach"].settle(FIELDS, place).resolved))
    teach = kinds()["teach"]
    with pytest.raises(Stopped):
        list(teach.perform(Task(settled, place=tmp_path / "run"), bench(own, models, Stops(2))))
    assert not (own / "Lora").exists()
    later = [t.done for t in teach.perform(Task(settled, place=tmp_path / "run"), place) if isinstance(t, JobProgress)]
    assert later[-1] == 4
    assert later[0] > 1
    first = safetensors.load(safetensors.read_header(own / "Lora" / "zwx.safetensors"))
    other = tmp_path / "other"
    other.mkdir()
    list(teach.perform(Task(settled, place=tmp_path / "another"), bench(other, models)))
    second = safetensors.load(safetensors.read_header(other / "Lora" / "zwx.safetensors"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


class Told:
    """A worker's way to the server, on which the server stops the job behind a step."""

    def __init__(self, after: int) -> None:
        self.after, self.worker, self.messages = after, cast("Worker", None), list[Message]()

    def send(self, message: Message) -> None:
        self.messages.append(message)
        if message.kind == "progress" and message.data["done"] == self.after:
            self.worker._hear(Message("stop", {"job": message.data["job"]}))


def worker_of(place: Bench, way: Told, runs: Path) -> Worker:
    way.worker = Worker(cast("Channel", way), place.engine, place.images, Most(), runs)
    return way.worker


def run_order(place: Bench, fields: dict[str, Any]) -> Message:
    settled = json.loads(json.dumps(kinds()["teach"].settle(fields, place).resolved))
    data: dict[str, Any] = {"job": "a" * 32, "what": "teach", "resolved": settled, "images": NAMES, "there": []}
    return Message("run", data, tuple(DATA))


def test_a_worker_that_is_told_to_stop_loses_no_step(own: Path, models: Path, tmp_path: Path) -> None:
    place, way = bench(own, models), Told(after=2)
    order = run_order(place, FIELDS)
    worker_of(place, way, tmp_path)._do(order)
    assert [message.kind for message in way.messages][-1] == "stopped"
    saved = newest(tmp_path / ("a" * 32) / "run" / FOLDER)
    assert saved is not None
    assert saved.name.endswith("2")
    later = Told(after=99)
    worker_of(place, later, tmp_path)._do(order)
    assert [message.data["done"] for message in later.messages if message.kind == "progress"] == [3, 4]
    assert later.messages[-1].kind == "done"


def test_no_folder_of_the_server_is_told(own: Path, models: Path, tmp_path: Path) -> None:
    """Neither where a job keeps its images, nor where its run is."""
    place, way = bench(own, models), Told(after=99)
    one = run_order(place, {**FIELDS, "images": NAMES[:1], "captions": ["a"], "steps": 1})
    run = tmp_path / "server" / "runs" / ("a" * 32) / "run"
    run.parent.mkdir(parents=True)
    run.write_bytes(b"no folder")
    worker_of(place, way, run.parent.parent)._do(one)
    said = [message.data["message"] for message in way.messages if message.kind == "warning"]
    assert said == [
        "images: holds one image, which will be learned by heart; five or more show what is to stay the same"
    ]
    assert way.messages[-1].kind == "failed"
    told = str(way.messages[-1].object("error")["message"])
    assert told.startswith("run: is a file")
    assert "server" not in told


def test_models_in_memory_make_room_for_a_training(own: Path, models: Path, tmp_path: Path) -> None:
    place = bench(own, models)
    place.engine.generate(request_of({"prompt": "a", "model": "tiny", "steps": 1, "width": 64, "height": 64}))
    assert place.engine.resources.cache.bytes > 0
    settled = json.loads(json.dumps(kinds()["teach"].settle({**FIELDS, "steps": 1}, place).resolved))
    told = kinds()["teach"].perform(Task(settled, place=tmp_path / "run"), place)
    next(event for event in told if isinstance(event, JobProgress))
    assert place.engine.resources.cache.bytes == 0


def test_kinds_that_take_hours_save_where_they_are_stopped() -> None:
    """They have the time for it."""
    assert {name for name, kind in kinds().items() if kind.stops_itself} == LONG


def test_another_job_goes_on_with_the_run_of_a_stopped_one(own: Path, models: Path, tmp_path: Path) -> None:
    """To the same file, with the curve and the samples of the whole run."""
    teach, before, after = kinds()["teach"], tmp_path / ("a" * 32), tmp_path / ("b" * 32)
    asked = {**FIELDS, "samples": ["a zwx", "a red zwx"], "sample_every": 1}
    settled = json.loads(json.dumps(teach.settle(asked, bench(own, models)).resolved))
    with pytest.raises(Stopped):
        list(teach.perform(Task(settled, place=before), bench(own, models, Stops(2))))
    stopped_at = course(before)["points"][-1][0]
    assert 0 < stopped_at < 4
    again = json.loads(json.dumps(teach.settle({**asked, "continues": "a" * 32}, bench(own, models)).resolved))
    told = list(teach.perform(Task(again, place=after), bench(own, models)))
    assert not before.exists()
    assert [t.done for t in told if isinstance(t, JobProgress)] == list(range(stopped_at + 1, 5))
    assert [t.index for t in told if isinstance(t, MadeImage)] == list(range(stopped_at + 1, 5))
    assert [step for step, _ in told[-1].data["course"]["points"]] == [1, 2, 3, 4]
    first = safetensors.load(safetensors.read_header(own / "Lora" / "zwx.safetensors"))
    other = tmp_path / "other"
    other.mkdir()
    list(teach.perform(Task(settled, place=tmp_path / "whole"), bench(other, models)))
    second = safetensors.load(safetensors.read_header(other / "Lora" / "zwx.safetensors"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_that_is_not_kept_begins_anew(own: Path, models: Path, tmp_path: Path) -> None:
    asked = {**FIELDS, "steps": 1, "continues": "c" * 32}
    settled = json.loads(json.dumps(kinds()["teach"].settle(asked, bench(own, models)).resolved))
    told = list(kinds()["teach"].perform(Task(settled, place=tmp_path / ("b" * 32)), bench(own, models)))
    assert [t.done for t in told if isinstance(t, JobProgress)] == [1]


def test_a_forecast_says_what_the_job_then_does(own: Path, models: Path, tmp_path: Path) -> None:
    fields = {key: value for key, value in FIELDS.items() if key not in {"images", "captions"}}
    said = forecast({**fields, "count": 3, "word": "cat"}, bench(own, models))
    assert (said["steps"], said["prompt"], said["model"]) == (4, "<lora:cat:1> cat", "tiny")
    assert (said["files"], said["taken"], said["caption"]) == (["cat.safetensors"], [], "a cat")
    assert said["warnings"] == ["'cat' is a word that tiny knows, and its meaning will change: a rarer one keeps it"]
    (own / "Lora").mkdir()
    (own / "Lora" / "cat.safetensors").write_bytes(b"")
    assert forecast({**fields, "count": 3, "word": "cat"}, bench(own, models))["taken"] == ["cat.safetensors"]
    usual = forecast({"model": "tiny", "count": 5, "prior": 0}, bench(own, models))
    assert (usual["steps"], usual["batch"], usual["sample_every"], usual["samples"]) == (150, 4, 75, 2)
    assert usual["cost"] == pytest.approx(37.5 * said["cost"] * usual["batch"] / said["batch"])
    with pytest.raises(BadInput, match="unknown method"):
        forecast({"method": "lorra", "count": 3}, bench(own, models))


def test_a_forecast_refuses_a_name_that_is_too_long_for_a_file(own: Path, models: Path) -> None:
    with pytest.raises(BadInput, match="takes 312 bytes") as refused:
        forecast({"model": "tiny", "count": 3, "prior": 0, "name": "\u6f22" * 100}, bench(own, models))
    assert refused.value.field == "name"


def test_a_job_teaches_the_model_that_was_settled(own: Path, models: Path, tmp_path: Path) -> None:
    """Not another one that has come by the same name, nor what it was overwritten with."""
    teach, place = kinds()["teach"], bench(own, models)
    settled = json.loads(json.dumps(teach.settle({**FIELDS, "steps": 1}, place).resolved))
    tiny.folder(own / "tiny")
    list(teach.perform(Task(settled, place=tmp_path / "first"), bench(own, models)))
    assert json.loads((tmp_path / "first" / "run" / "recipe.json").read_text())["base"] == str(models / "tiny")
    settled = json.loads(json.dumps(teach.settle({**FIELDS, "steps": 1}, place).resolved))
    assert settled["model"]["path"] == str(own / "tiny")
    weights = next((own / "tiny" / "unet").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for worker in (place, bench(own, models)):
        with pytest.raises(BadFile, match="has changed since the request was resolved"):
            list(teach.perform(Task(settled, place=tmp_path / "second"), worker))


def test_a_model_of_its_own_is_named_apart_from_the_prompt(own: Path, models: Path) -> None:
    fields = {"model": "tiny", "method": "dreambooth", "count": 2, "prior": 0, "like": "cat"}
    said = forecast(fields, bench(own, models))
    assert (said["prompt"], said["model"]) == ("zwx cat", "zwx")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"continues": "../../etc"}, "continues"),
        ({"samples": ["a"] * 5}, "samples"),
        ({"sample_every": 0}, "sample_every"),
        ({"method": "lorra"}, "unknown method 'lorra'"),
        ({"captions": ["a"]}, "captions: there are 1 for 3 images"),
        ({"model": "nix"}, "unknown model 'nix'"),
        ({"images": []}, "images"),
        ({"word": "../up"}, "word"),
        ({"name": "\u6f22" * 100}, "takes 312 bytes and names of files at most 255"),
        ({"name": "a/b"}, "name"),
        ({"images": ["upload:" + "0" * 64] * 3}, "is no image that was uploaded"),
    ],
)
def test_a_job_is_refused_when_it_is_asked_for(
    change: dict[str, Any], told: str, own: Path, models: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=told):
        kinds()["teach"].settle({**FIELDS, **change}, bench(own, models))
