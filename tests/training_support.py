"""Tiny trainings for the tests of train/, and a process that runs them in children which can be killed."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from atelier.train.loop import Placement
    from atelier.train.recipe import Recipe
    from atelier.train.registry import Recipes

KINDS = ("vae", "clip", "denoiser")
COLOURS = {"red": (220, 30, 40), "green": (30, 160, 60), "blue": (40, 70, 220), "yellow": (250, 220, 50)}
SHAPES = ("square", "bar", "frame")

RUN = {
    "data.size": 16,
    "data.validation": 4,
    "run.steps": 9,
    "run.batch": 4,
    "run.checkpoint_every": 3,
    "run.keep": 2,
    "run.validate_every": 6,
    "run.log_every": 1,
    "run.workers": 0,
    "run.dtype": "fp32",
    "optim.warmup": 3,
    "optim.ema": 0.9,
}
MODELS: Mapping[str, dict[str, Any]] = {
    "vae": {
        "model.widths": [8, 16],
        "model.latent": 4,
        "loss.gan": 0.1,
        "loss.gan_start": 4,
        "loss.gan_width": 4,
    },
    "clip": {
        "model.vocab": 600,
        "model.positions": 16,
        "model.width": 16,
        "model.layers": 1,
        "model.heads": 2,
        "model.vision_width": 16,
        "model.vision_layers": 1,
        "model.vision_heads": 2,
        "model.embedding": 8,
        "model.captions": 100,
    },
    "denoiser": {
        "pool": 40,
        "shard": 16,
        "model.widths": [8, 16],
        "model.depth": [0, 1],
        "model.heads": [1, 2],
        "model.groups": 4,
    },
}


def draw_images(folder: Path, count: int = 24, size: int = 20) -> Path:
    """A folder of plain shapes on grounds of another colour, with captions."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(a, b) for a, b in itertools.product(COLOURS, COLOURS) if a != b]
    for number in range(count):
        (colour, ground), shape = pairs[number % len(pairs)], SHAPES[number % len(SHAPES)]
        pixels = np.empty((size, size, 3), np.uint8)
        pixels[:] = COLOURS[ground]
        edge = size // 4
        pixels[edge:-edge, (0 if shape == "bar" else edge) : (size if shape == "bar" else -edge)] = COLOURS[colour]
        if shape == "frame":
            pixels[edge + 2 : -edge - 2, edge + 2 : -edge - 2] = COLOURS[ground]
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
        (folder / f"{number:03d}.txt").write_text(f"a {colour} {shape} on a {ground} ground")
    return folder


def known() -> Recipes:
    """The recipes of the package, and one from outside of it."""
    from atelier.train.registry import recipes
    from outside import trained_line

    return {**recipes(), **{spec.name: spec for spec in trained_line.SPECS}}


def recipe(kind: str, changes: Mapping[str, Any] | None = None) -> Any:
    """A recipe of a fraction of a second, on the emoji scenes unless data.source says otherwise."""
    from atelier.train.registry import read

    tiny = {**RUN, **MODELS[kind]} if kind in MODELS else {}
    return read(kind, known()[kind], {**tiny, **(changes or {})})


def placement() -> Placement:
    import torch

    from atelier.train.loop import Placement

    return Placement(torch.device("cpu"), torch.float32)


def task(recipe: Recipe, folder: Path) -> Any:
    return known()[recipe.kind].build(recipe, placement(), folder)


def events(recipe: Any, folder: Path, **options: Any) -> Iterator[Any]:
    """What a training in this process tells. Raises Failed's error."""
    from atelier.request.events import Failed
    from atelier.train.loop import train

    for event in train(task(recipe, folder), recipe.run, recipe.optim, folder, **options):
        if isinstance(event, Failed):
            raise event.error
        yield event


def trained(recipe: Any, folder: Path, **options: Any) -> list[Any]:
    """All events of a training in this process. Raises Failed's error."""
    return list(events(recipe, folder, **options))


def losses(happened: list[Any], name: str = "loss") -> list[float]:
    from atelier.request.events import Stepped

    return [event.losses[name] for event in happened if isinstance(event, Stepped)]


def finished_parts(folder: Path, source: str) -> dict[str, str]:
    """Run folders of a tiny autoencoder and a tiny CLIP, as a denoiser's recipe names them."""
    from atelier.train.runs import export_clip, export_vae

    few = {"data.source": source, "run.steps": 2, "run.checkpoint_every": 2, "run.validate_every": 9}
    vae, clip = recipe("vae", few), recipe("clip", few)
    trained(vae, folder / "vae")
    export_vae(folder / "vae", vae)
    trained(clip, folder / "clip")
    export_clip(folder / "clip", clip)
    return {"vae": str(folder / "vae"), "clip": str(folder / "clip")}


def part_tensors(run: Path) -> dict[str, Any]:
    """The weights of a finished part."""
    from atelier.train.parts import part_weights

    return part_weights(run)


def change_part(run: Path, name: str) -> None:
    """Adds 1 to a tensor of a finished autoencoder."""
    from atelier.train.parts import part_settings, part_weights, write_part

    tensors = part_weights(run)
    write_part(run, {**tensors, name: tensors[name] + 1}, part_settings(run, "vae"))


def result(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the newest checkpoint: weights, averages, optimizers and state, bit by bit."""
    from atelier.train import checkpoint

    newest = checkpoint.newest(folder / checkpoint.FOLDER)
    assert newest is not None
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(newest.iterdir())}


def log(folder: Path) -> list[dict[str, float]]:
    """The log without what the clock says."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


class Nursery:
    """A process that has loaded torch and runs each training in a child of its own, until the child is killed."""

    def __enter__(self) -> Self:
        path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1] / "src")])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def train(self, kind: str, changes: Mapping[str, Any], folder: Path, **death: Any) -> int:
        """Trains; returns the exit status, -9 after a kill.

        after_step and seconds: SIGKILL so long after that step; fsync: SIGKILL at that sync of a file in a save.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        job = {"kind": kind, "changes": dict(changes), "folder": str(folder), "death": death}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


def _main() -> None:
    import torch
    import torch._dynamo

    from atelier.train import runs  # noqa: F401 - imported once, for all children
    from atelier.train.tasks import teaching  # noqa: F401 - so is this

    torch.set_num_threads(1)
    for module in ("tensorboard", "matplotlib.figure"):
        sys.modules[module] = None  # what takes long to load and draw
    for line in sys.stdin:
        print(_in_a_child(json.loads(line)), flush=True)


def _in_a_child(job: dict[str, Any]) -> int:
    child = os.fork()
    if child == 0:
        _exit_code(lambda: _train(job))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return -signal.SIGKILL if code == -signal.SIGALRM else code


def _exit_code(work: Callable[[], None]) -> None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - nothing may leave the child
        os._exit(getattr(error, "exit_code", 1))
    os._exit(0)


def _train(job: dict[str, Any]) -> None:
    from atelier.request.events import Stepped

    death = job["death"]
    if "fsync" in death:
        _die_at_fsync(death["fsync"])
    ahead = ["after_step"] if "after_step" in death else []

    def reached(step: int) -> None:
        if ahead and step >= death["after_step"]:
            ahead.clear()
            _die_in(death.get("seconds", 0.0))

    reached(0)
    for event in events(recipe(job["kind"], job["changes"]), Path(job["folder"])):
        if isinstance(event, Stepped):
            reached(event.step)


def _die_in(seconds: float) -> None:
    """Ends this process then, at once, as SIGKILL does.

    By a timer of its own: another process would wake late on a busy machine.
    """
    if seconds:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def _die_at_fsync(number: int) -> None:
    """Kills this process in the midst of a save: with some files of the checkpoint on the disk and some not."""
    calls, sync = itertools.count(1), os.fsync

    def counted(descriptor: int) -> None:
        inside = "/checkpoints" in str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if inside and next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    os.fsync = counted


if __name__ == "__main__":
    _main()
