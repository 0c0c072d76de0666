"""A recipe from outside the package trains; and what is not trained is neither saved nor lost."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import training_support as support
from atelier.cli.train import application
from atelier.errors import BadFile, BadInput
from atelier.request.events import Exported, Failed, Finished, Resumed
from atelier.train import checkpoint
from atelier.train.recipes.vae import VAE
from atelier.train.registry import find, recipes
from atelier.train.runner import run_recipe
from outside import trained_line

KNOWN = {spec.name: spec for spec in trained_line.SPECS}


pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")


def command(*arguments: str) -> str:
    """Standard output of the generic command with the recipes from outside."""
    result = CliRunner().invoke(application(KNOWN), list(arguments), catch_exceptions=False, standalone_mode=False)
    return result.stdout


def test_it_trains_by_the_generic_command(tmp_path: Path) -> None:
    path = tmp_path / "run" / "line.json"
    told = command("line", "--out", str(path.parent), "--set=run.steps=150", "--set=run.threads=1", "--device=cpu")
    assert told == f"{path}\n"
    found = json.loads(path.read_text())
    assert found["slope"] == pytest.approx(3.0, abs=0.1)
    assert found["offset"] == pytest.approx(-1.0, abs=0.1)
    own = tmp_path / "mine.toml"
    own.write_text(trained_line.SPECS[0].defaults.read_text().replace("slope = 3.0", "slope = -2.0"))
    assert find(str(own), KNOWN) is trained_line.SPECS[0]
    command(str(own), "--out", str(tmp_path / "mine"), "--set=run.steps=150", "--set=run.threads=1", "--device=cpu")
    assert json.loads((tmp_path / "mine" / "line.json").read_text())["slope"] == pytest.approx(-2.0, abs=0.1)
    known = "clip, control, denoiser, dreambooth, image-prompt, inversion, lora, vae"
    with pytest.raises(BadFile, match=f"is a recipe of kind 'line': the kinds are {known}"):
        find(str(own), recipes())


@pytest.mark.skipif(sys.platform != "linux", reason="children are made by fork, saves are watched in /proc")
def test_killed_it_goes_on_exactly(tmp_path: Path) -> None:
    with support.Nursery() as nursery:
        assert nursery.train("line", {}, tmp_path / "unbroken") == 0
        assert nursery.train("line", {}, tmp_path / "run", after_step=5) == -9
        assert nursery.train("line", {}, tmp_path / "run", fsync=9) == -9
        assert nursery.train("line", {}, tmp_path / "run") == 0
    assert support.result(tmp_path / "run") == support.result(tmp_path / "unbroken")
    assert support.log(tmp_path / "run") == support.log(tmp_path / "unbroken")


def test_the_events_end_with_finished_or_failed(tmp_path: Path) -> None:
    spec, chosen = KNOWN["line"], support.recipe("line")
    *_, exported, last = run_recipe(spec, chosen, support.placement(), tmp_path)
    assert exported == Exported(tmp_path / "line.json")
    assert isinstance(last, Finished)
    assert last.count == 9
    first, _, last = run_recipe(spec, chosen, support.placement(), tmp_path)
    assert first == Resumed(9, tmp_path / "checkpoints" / "step-00000009")
    assert isinstance(last, Finished)
    before = (tmp_path / "recipe.json").read_bytes()
    (only,) = run_recipe(spec, support.recipe("line", {"slope": 4.0}), support.placement(), tmp_path)
    assert isinstance(only, Failed)
    assert isinstance(only.error, BadInput)
    assert "slope was 3.0, is 4.0" in str(only.error)
    assert (tmp_path / "recipe.json").read_bytes() == before


def test_the_command_forecasts(tmp_path: Path) -> None:
    arguments = ["line", "--out", str(tmp_path / "run"), "--set=run.threads=1", "--device=cpu"]
    told = CliRunner().invoke(application(KNOWN), arguments, catch_exceptions=False, standalone_mode=False).stderr
    needed = r"forecast: 0\.0 GB of memory, of \d+\.\d free \(weights 0\.0, gradients 0\.0, optimizer 0\.0, averages"
    assert re.search(f"^{needed}", told, re.MULTILINE)
    assert "pip install 'atelier[train]'" in told
    assert re.search(r"^forecast: 0:00:\d\d for the 5 steps that are left$", told, re.MULTILINE)


def test_help_lists_the_recipes_without_torch() -> None:
    code = "import sys; from atelier.cli.app import run; run(['train', '--help']); sys.exit('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    for spec in recipes().values():
        assert f"{spec.name}: {spec.help.split()[0]}" in told


# What is not trained


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(support.draw_images(tmp_path_factory.mktemp("data") / "pictures"))


def tensors(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    newest = checkpoint.newest(run / "checkpoints")
    assert newest is not None
    return {stem: dict(named) for stem, named in checkpoint.load(newest).tensors.items()}


def test_only_what_is_trained_is_saved(source: str, parts: dict[str, str], tmp_path: Path) -> None:
    """The decoder of a finished autoencoder: killed, gone on with, and exported with the encoder that it belongs to."""
    few = {"data.source": source, "begin": parts["vae"], "learn": "decoder", "loss.gan": 0.0, "optim.cooldown": 0.0}
    support.trained(support.recipe("vae", {**few, "run.steps": 6}), tmp_path / "run")
    kept = tensors(tmp_path / "run")
    for stem in ("vae", "vae.ema"):
        assert kept[stem]
        assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in kept[stem]), stem
    nine = support.recipe("vae", few)
    support.trained(nine, tmp_path / "run")
    support.trained(nine, tmp_path / "nine")
    assert support.result(tmp_path / "run") == support.result(tmp_path / "nine")
    path = VAE.export(nine, tmp_path / "run")
    exported, begun = support.part_tensors(path.parent), support.part_tensors(Path(parts["vae"]))
    assert exported.keys() == begun.keys()
    for name, tensor in exported.items():
        assert torch.equal(tensor, begun[name]) != name.startswith(("decoder.", "post_quant_conv.")), name


def test_a_text_tower_that_is_kept_is_not_saved(source: str, parts: dict[str, str], tmp_path: Path) -> None:
    chosen = support.recipe("clip", {"data.source": source, "begin": parts["clip"], "run.steps": 2})
    support.trained(chosen, tmp_path)
    names = tensors(tmp_path)["clip"].keys()
    assert "logit_scale" in names
    assert all(name.startswith("vision.") for name in names - {"logit_scale"})


def test_another_base_is_refused(source: str, parts: dict[str, str], tmp_path: Path) -> None:
    start = Path(shutil.copytree(parts["vae"], tmp_path / "start"))
    few = {"data.source": source, "begin": str(start), "learn": "decoder", "loss.gan": 0.0, "optim.cooldown": 0.0}
    support.trained(support.recipe("vae", {**few, "run.steps": 3}), tmp_path / "run")
    support.change_part(start, "encoder.conv_in.bias")
    with pytest.raises(BadInput, match="base is no longer what this run began with"):
        support.trained(support.recipe("vae", few), tmp_path / "run")
    accepted = support.trained(support.recipe("vae", few), tmp_path / "run", accept_changes=True)
    assert support.losses(accepted)


def test_a_checkpoint_that_holds_the_base_too_is_gone_on_from(
    source: str, parts: dict[str, str], tmp_path: Path
) -> None:
    """As checkpoints of version 0.1.0 do."""
    few = {"data.source": source, "begin": parts["vae"], "learn": "decoder", "loss.gan": 0.0, "optim.cooldown": 0.0}
    support.trained(support.recipe("vae", few), tmp_path / "new")
    support.trained(support.recipe("vae", {**few, "run.steps": 6}), tmp_path / "old")
    newest = checkpoint.load(tmp_path / "old" / "checkpoints" / "step-00000006")
    base = support.part_tensors(Path(parts["vae"]))
    whole = {stem: {**base, **named} if stem in {"vae", "vae.ema"} else named for stem, named in newest.tensors.items()}
    state = {key: value for key, value in newest.state.items() if key != "base"}
    checkpoint.save(tmp_path / "old" / "checkpoints", checkpoint.Snapshot(6, whole, state), keep=2)
    support.trained(support.recipe("vae", few), tmp_path / "old")
    assert support.result(tmp_path / "old") == support.result(tmp_path / "new")
