"""What `atelier evaluate` measures: painters that are right, wrong or half right get the numbers they deserve."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tiny
from atelier.cli.app import run
from atelier.compose import studio
from atelier.errors import BadFile
from atelier.families.checkpoint import open_checkpoint
from atelier.request.model import Request
from atelier.runtime.library import embedded_folder
from atelier.train import evaluate
from atelier.train.data import scenes
from atelier.train.data.scenes import Placed, Scene
from atelier.train.evaluate import Trial
from atelier.train.judge import Judge

PLACES = {"full": (32, 50), "small": (32, 30), "left": (16, 29), "right": (48, 29)}
"""Where a thing stands, and how long it is, in cells."""


def _spread(trials: list[Trial], count: int = 6) -> list[Trial]:
    return trials[:: len(trials) // count]


TRIALS = {name: _spread(trials) for name, trials in evaluate.rounds().items()}


def _painted(trial: Trial) -> np.ndarray:
    objects = tuple(Placed(name, PLACES[kind][0], 32, PLACES[kind][1]) for name, kind in trial.things)
    return scenes.render(Scene("pair" if len(objects) == 2 else "full", objects, trial.background, ""))


class _Painter:
    """Paints what is asked, then does something to it."""

    def __init__(self, spoil=lambda picture: picture) -> None:
        self.asked = {trial.prompt: trial for group in TRIALS.values() for trial in group}
        self.spoil = spoil

    def __call__(self, prompt: str, seed: int) -> np.ndarray:
        assert self.asked[prompt].seed == seed
        return self.spoil(_painted(self.asked[prompt]))


def _numbers(painter: _Painter) -> dict[str, float]:
    return evaluate.accuracies(
        {name: list(evaluate.judged(trials, painter, Judge())) for name, trials in TRIALS.items()}
    )


def test_a_perfect_painter_gets_every_point():
    assert set(_numbers(_Painter()).values()) == {1.0}


def test_a_painter_who_swaps_the_sides_gets_no_point_for_pairs():
    numbers = _numbers(_Painter(lambda picture: np.concatenate((picture[:, 32:], picture[:, :32]), axis=1)))
    assert numbers["pair_accuracy_held_out"] == 0
    assert numbers["background_accuracy"] == 1


def test_a_painter_of_empty_backgrounds_gets_those_alone():
    numbers = _numbers(_Painter(lambda picture: np.broadcast_to(picture[:1, :1], picture.shape).copy()))
    assert numbers["background_accuracy"] == 1
    assert max(v for name, v in numbers.items() if name != "background_accuracy") < 0.5


def test_wrong_backgrounds_are_counted():
    assert _numbers(_Painter(lambda picture: 255 - picture))["background_accuracy"] < 0.5


@pytest.mark.parametrize("kind", ["full", "small"])
def test_every_concept_is_asked_for_once_with_another_seed_on_backgrounds_in_turn(kind):
    trials = evaluate.concept_trials(kind)
    assert [trial.things for trial in trials] == [((concept.name, kind),) for concept in scenes.concepts()]
    assert len({trial.seed for trial in trials}) == len(trials)
    counts = Counter(trial.background for trial in trials)
    assert counts.keys() == scenes.BACKGROUNDS.keys()
    assert max(counts.values()) - min(counts.values()) <= 1


def test_pairs_are_held_out_and_different():
    trials = evaluate.pair_trials()
    pairs = [tuple(name for name, _ in trial.things) for trial in trials]
    assert len(set(pairs)) == len(pairs) == evaluate.PAIRS
    assert all(scenes.is_held_out_pair(*pair) for pair in pairs)


def test_prompts_are_worded_as_captions_of_training():
    """Each is what some scene of its kind says, with other names in it."""
    said = {"full": set(), "small": set(), "pair": set()}
    for number in range(600):
        scene = scenes.scene(3, number)
        said[scene.kind].add(_pattern(scene.caption, [thing.name for thing in scene.objects], scene.background))
    for name, kind in (("full", "full"), ("small", "small"), ("pairs", "pair")):
        for trial in TRIALS[name]:
            assert _pattern(trial.prompt, [thing for thing, _ in trial.things], trial.background) in said[kind]


def _pattern(caption: str, names: list[str], background: str) -> str:
    head, _, ground = caption.rpartition(" on ")
    for name in sorted(names, key=len, reverse=True):
        head = head.replace(name, "THING")
    words = (head + " on " + ground.replace(background, "COLOUR")).split()
    return " ".join("a" if word == "an" else word for word in words)


def test_other_sizes_than_the_references_multiples_are_refused(tmp_path: Path):
    folder = tiny.folder(tmp_path / "model")
    config = folder / "unet/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": 24}))
    with pytest.raises(BadFile, match=r"96 pixels.*multiples of 64"):
        evaluate.judge_of(open_checkpoint(folder))


def test_reconstruction_tells_a_trained_autoencoder_from_a_random_one(tmp_path: Path):
    trained = evaluate.reconstruction(open_checkpoint(embedded_folder()), 8)
    assert trained > 20 > evaluate.reconstruction(open_checkpoint(tiny.folder(tmp_path / "model")), 8)


def test_the_embedded_model_is_as_good_as_its_card_says():
    """Eight trials of each kind: one may go wrong, where the card says one in fifty; of pairs half (one in five)."""
    checkpoint, painter = open_checkpoint(embedded_folder()), studio()
    judge = evaluate.judge_of(checkpoint)

    def paint(prompt: str, seed: int) -> NDArray[np.uint8]:
        return np.asarray(painter.paint(Request(prompt=prompt, seed=seed, steps=20))[0].image)

    found = {
        name: list(evaluate.judged(_spread(trials, 8)[:8], paint, judge)) for name, trials in evaluate.rounds().items()
    }
    right = {name: sum(outcome.right for outcome in outcomes) for name, outcomes in found.items()}
    grounds = sum(o.background == o.trial.background for name in ("full", "small") for o in found[name])
    assert right["full"] >= 7
    assert right["small"] >= 7
    assert right["pairs"] >= 4
    assert grounds >= 14
    assert evaluate.reconstruction(checkpoint, 32) > 27
    assert sum(path.stat().st_size for path in embedded_folder().rglob("*") if path.is_file()) <= 40_000_000


def test_the_command_prints_every_number_and_writes_the_sheets(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sheets = tmp_path / "deep/sheets"
    assert run(["evaluate", "--limit", "1", "--steps", "1", "--json", "--sheets", str(sheets)]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert list(numbers) == ["vae_psnr", "clip_r_at_1", *evaluate.accuracies(_one_outcome_each())]
    assert sorted(path.name for path in sheets.iterdir()) == ["full.png", "pairs.png", "small.png"]


def _one_outcome_each() -> dict[str, list[evaluate.Outcome]]:
    painter = _Painter()
    return {name: list(evaluate.judged(trials[:1], painter, Judge())) for name, trials in TRIALS.items()}


def test_a_folder_that_cannot_hold_sheets_is_said_before_anything_is_painted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_bytes(b"")

    def paints(*_: object) -> None:
        raise AssertionError("painted")

    monkeypatch.setattr("atelier.runtime.studio.Studio.paint", paints)
    assert run(["evaluate", "--sheets", str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_a_full_disk_leaves_no_half_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        assert run(["evaluate", "--limit", "2", "--steps", "1", "--json", "--sheets", str(tmp_path)]) == 2
        shown = capsys.readouterr()
        assert "full.png: the disk is full" in shown.err
        assert shown.err.count("\n") == 1
        assert "vae_psnr" in json.loads(shown.out), "the numbers are not lost with the sheets"
        assert not list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
