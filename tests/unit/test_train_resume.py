"""A killed training goes on as if nothing had happened, bit by bit."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import training_support as support
from atelier.errors import BadFile, BadInput, Interrupted
from atelier.request.events import CheckpointSaved, Failed, Resumed, Stepped
from atelier.train import checkpoint
from atelier.train.data import art
from atelier.train.folder import claimed
from atelier.train.loop import train

STEPS, EVERY = 9, 3


pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return support.draw_images(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="module")
def source(pictures: Path) -> str:
    """Emoji scenes, whose workers start fastest; images drawn here where the font is not installed."""
    try:
        art.font_path()
    except BadInput:
        return str(pictures)
    return "emoji"


@pytest.fixture(scope="module")
def nursery() -> Iterator[support.Nursery]:
    with support.Nursery() as started:
        yield started


@pytest.fixture(scope="module")
def unbroken(
    nursery: support.Nursery, source: str, parts: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A run of every kind that nobody disturbed, without workers."""
    folders = {kind: tmp_path_factory.mktemp("unbroken") / kind for kind in support.KINDS}
    for kind, folder in folders.items():
        assert nursery.train(kind, _changes(kind, source, parts), folder) == 0
    return folders


def _changes(kind: str, source: str, parts: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"data.source": source, **(parts if kind == "denoiser" else {}), **more}


def _deaths(dice: random.Random) -> Iterator[dict[str, Any]]:
    """Five moments: at the start, after two random steps, and twice in the midst of a save."""
    yield {"after_step": 0, "seconds": dice.uniform(0, 0.3)}
    yield {"fsync": dice.randint(1, 12)}
    yield {"after_step": dice.randint(2, EVERY + 1), "seconds": dice.uniform(0, 0.05)}
    yield {"fsync": dice.randint(13, 24)}
    yield {"after_step": dice.randint(EVERY + 1, STEPS), "seconds": dice.uniform(0, 0.05)}


@pytest.mark.skipif(sys.platform != "linux", reason="children are made by fork, saves are watched in /proc")
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", support.KINDS)
def test_killed_five_times_is_the_unbroken_run(
    kind: str,
    workers: int,
    nursery: support.Nursery,
    unbroken: dict[str, Path],
    source: str,
    parts: dict[str, str],
    tmp_path: Path,
) -> None:
    run, changes = tmp_path / kind, _changes(kind, source, parts, **{"run.workers": workers})
    dice = random.Random(f"{kind} {workers}")
    ends = [nursery.train(kind, changes, run, **death) for death in _deaths(dice)]
    assert ends.count(-9) >= 4, "the run was over before it was killed"
    assert nursery.train(kind, changes, run) == 0
    assert support.result(run) == support.result(unbroken[kind])
    assert support.log(run) == support.log(unbroken[kind])
    with claimed(run, support.recipe(kind, changes)):
        assert not list(run.rglob(".tmp-*")), "what a killed save left is cleared at the next start"


def test_what_the_unbroken_run_left(unbroken: dict[str, Path]) -> None:
    for kind, folder in unbroken.items():
        kept = [path.name for path in sorted((folder / "checkpoints").iterdir())]
        recipe = support.recipe(kind, {})
        falling = recipe.run.steps - int(recipe.run.steps * recipe.optim.cooldown)
        last = [step for step in (3, 6, 9) if step != falling][-recipe.run.keep :]
        assert kept == [f"step-0000000{n}" for n in sorted({*last, falling})], (
            "where the rate began to fall, and the last"
        )
        net = {"vae": "vae", "clip": "clip", "denoiser": "unet"}[kind]
        files = {f"{net}.safetensors", f"{net}.ema.safetensors", f"{net}.optimizer.safetensors", "state.json"}
        assert files <= support.result(folder).keys()
        assert [row["step"] for row in support.log(folder)] == [1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 9]
        assert list((folder / "samples").glob("*-00000009.png"))
    assert {"critic.safetensors", "critic.optimizer.safetensors"} <= support.result(unbroken["vae"]).keys()


def test_a_damaged_newest_checkpoint_is_passed_over(unbroken: dict[str, Path], source: str, tmp_path: Path) -> None:
    run = shutil.copytree(unbroken["vae"], tmp_path / "run")
    newest = run / "checkpoints" / "step-00000009"
    weights = bytearray((newest / "vae.safetensors").read_bytes())
    weights[-1] ^= 1
    (newest / "vae.safetensors").write_bytes(weights)
    first, *others = support.trained(support.recipe("vae", {"data.source": source}), run)
    assert first == Resumed(6, run / "checkpoints" / "step-00000006", (newest,))
    assert [event.step for event in others if isinstance(event, Stepped)] == [7, 8, 9]
    assert support.result(run) == support.result(unbroken["vae"])
    assert support.log(run) == support.log(unbroken["vae"])


@pytest.mark.parametrize("kind", ["vae", "denoiser"])
def test_made_longer_from_before_the_cool_down(
    kind: str, unbroken: dict[str, Path], source: str, parts: dict[str, str], tmp_path: Path
) -> None:
    """Nine steps of which the last are a cool-down; five are the same whether it ends at nine or at six."""
    nine = support.recipe(kind, _changes(kind, source, parts, **{"optim.cooldown": 0.4}))
    support.trained(nine, tmp_path / "nine")
    shorter = _changes(kind, source, parts, **{"optim.cooldown": 0.2, "run.steps": 6, "run.keep": 1})
    saves = [
        e.step
        for e in support.trained(support.recipe(kind, shorter), tmp_path / "run")
        if isinstance(e, CheckpointSaved)
    ]
    assert saves == [3, 5, 6]
    left = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert left == ["step-00000005", "step-00000006"], "the one before the cool-down stays"
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000006")
    support.trained(nine, tmp_path / "run")
    assert support.result(tmp_path / "run") == support.result(tmp_path / "nine")
    assert support.log(tmp_path / "run")[-1] == support.log(tmp_path / "nine")[-1]


def test_stopping_saves_and_ends(unbroken: dict[str, Path], source: str, tmp_path: Path) -> None:
    chosen = support.recipe("vae", {"data.source": source})
    happened: list[Any] = []
    with pytest.raises(Interrupted, match="stopped at step 4; the same command goes on from there"):
        happened.extend(support.events(chosen, tmp_path, stop=lambda: len(support.losses(happened)) >= 4))
    assert happened[-1] == CheckpointSaved(4, tmp_path / "checkpoints" / "step-00000004")
    support.trained(chosen, tmp_path)
    assert support.result(tmp_path) == support.result(unbroken["vae"])


def test_stopping_while_waiting_for_data_needs_no_step(source: str, tmp_path: Path) -> None:
    chosen = support.recipe("vae", {"data.source": source, "run.workers": 1})
    task = support.task(chosen, tmp_path)
    (only,) = train(task, chosen.run, chosen.optim, tmp_path, stop=lambda: True)
    assert isinstance(only, Failed)
    assert isinstance(only.error, Interrupted)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"optim.rate": 5e-4}, "digest"),
        ({"run.batch": 5}, "digest"),
        ({"data.seed": 1}, "digest"),
    ],
)
def test_a_changed_recipe_is_refused(
    change: dict[str, Any], told: str, unbroken: dict[str, Path], source: str, tmp_path: Path
) -> None:
    run = shutil.copytree(unbroken["vae"], tmp_path / "run")
    before = support.result(run)
    with pytest.raises(BadInput, match=f"holds a run of another recipe .*{told}.*--accept-changes"):
        support.trained(support.recipe("vae", {"data.source": source, **change}), run)
    assert support.result(run) == before


def test_the_recorded_recipe_says_what_changed(unbroken: dict[str, Path], source: str, tmp_path: Path) -> None:
    run = shutil.copytree(unbroken["vae"], tmp_path / "run")
    with claimed(run, support.recipe("vae", {"data.source": source})):
        pass
    slower, other = support.recipe("vae", {"data.source": source, "optim.rate": 5e-4}), support.recipe("clip")
    with pytest.raises(BadInput, match=r"\(optim.rate was 0.001, is 0.0005\)"), claimed(run, slower):
        pytest.fail("the folder was given away")
    with pytest.raises(BadInput, match=r"\(vae, not clip\)"), claimed(run, other):
        pytest.fail("the folder was given away")
    longer = {"data.source": source, "run.steps": 12, "run.keep": 5, "optim.cooldown": 0.1}
    with claimed(run, support.recipe("vae", longer)):
        assert json.loads((run / "recipe.json").read_text())["run"]["steps"] == 12


def test_accepted_changes_go_on(unbroken: dict[str, Path], source: str, tmp_path: Path) -> None:
    run = shutil.copytree(unbroken["vae"], tmp_path / "run")
    slower = support.recipe("vae", {"data.source": source, "optim.rate": 1e-5, "run.steps": 10})
    happened = support.trained(slower, run, accept_changes=True)
    assert [event.step for event in happened if isinstance(event, Stepped)] == [10]
    assert checkpoint.load(run / "checkpoints" / "step-00000010").state["recipe"] != "", "and are recorded"
    with pytest.raises(BadInput, match="another recipe"):
        support.trained(support.recipe("vae", {"data.source": source, "run.steps": 11}), run)


def test_accepted_changes_cannot_change_shapes(unbroken: dict[str, Path], source: str, tmp_path: Path) -> None:
    run = shutil.copytree(unbroken["vae"], tmp_path / "run")
    wider = support.recipe("vae", {"data.source": source, "model.widths": [8, 32]})
    with pytest.raises(BadFile, match="holds no vae of this recipe's shape"):
        support.trained(wider, run, accept_changes=True)


def test_a_refused_change_leaves_the_recipe_that_the_run_began_with(
    unbroken: dict[str, Path], source: str, tmp_path: Path
) -> None:
    run = shutil.copytree(unbroken["vae"], tmp_path / "run")
    first = support.recipe("vae", {"data.source": source})
    with claimed(run, first, accept_changes=True):
        pass
    before = (run / "recipe.json").read_bytes()
    wider = support.recipe("vae", {"data.source": source, "model.widths": [8, 32]})
    with pytest.raises(BadFile), claimed(run, wider, accept_changes=True):
        support.trained(wider, run, accept_changes=True)
    assert (run / "recipe.json").read_bytes() == before
    with claimed(run, first):
        pass
    slower = support.recipe("vae", {"data.source": source, "optim.rate": 1e-5, "run.steps": 10})
    with pytest.raises(KeyboardInterrupt), claimed(run, slower, accept_changes=True):
        raise KeyboardInterrupt
    assert (run / "recipe.json").read_bytes() != before, "what was accepted stays"


def test_a_run_of_another_kind_is_refused(unbroken: dict[str, Path], source: str, tmp_path: Path) -> None:
    run = shutil.copytree(unbroken["vae"], tmp_path / "run")
    with pytest.raises(BadFile, match="a run of another kind"):
        support.trained(support.recipe("clip", {"data.source": source}), run)
    assert not (run / "tokenizer").exists(), "nothing was written into it"


def test_changed_pictures_are_refused(pictures: Path, tmp_path: Path) -> None:
    own = shutil.copytree(pictures, tmp_path / "pictures")
    chosen = support.recipe("vae", {"data.source": str(own)})
    support.trained(chosen, tmp_path / "run")
    (own / "003.txt").write_text("something else")
    with pytest.raises(BadInput, match="the training images changed"):
        support.trained(support.recipe("vae", {"data.source": str(own), "run.steps": 12}), tmp_path / "run")


def test_another_autoencoder_under_a_denoiser_is_refused(
    unbroken: dict[str, Path], source: str, parts: dict[str, str], tmp_path: Path
) -> None:
    run = shutil.copytree(unbroken["denoiser"], tmp_path / "run")
    vae = shutil.copytree(parts["vae"], tmp_path / "vae")
    task = support.task(support.recipe("denoiser", _changes("denoiser", source, parts)), run)
    support.change_part(vae, "encoder.conv_in.bias")
    other = support.task(support.recipe("denoiser", {"data.source": source, **parts, "vae": str(vae)}), tmp_path)
    assert {key for key, value in task.extra().items() if other.extra()[key] != value} == {"autoencoder"}
    newest = checkpoint.load(run / "checkpoints" / "step-00000009")
    began = checkpoint.Snapshot(10, newest.tensors, {**newest.state, **other.extra()})
    checkpoint.save(run / "checkpoints", began, keep=9)
    with pytest.raises(BadInput, match="autoencoder is no longer what this run began with"):
        support.trained(support.recipe("denoiser", _changes("denoiser", source, parts)), run)


def test_one_process_at_a_time(source: str, tmp_path: Path) -> None:
    chosen = support.recipe("vae", {"data.source": source})
    told = "another process trains there"
    with claimed(tmp_path / "run", chosen), pytest.raises(BadInput, match=told), claimed(tmp_path / "run", chosen):
        pytest.fail("the folder was given away twice")
    assert not (tmp_path / "run").exists(), "nothing came of it, nothing is left"
