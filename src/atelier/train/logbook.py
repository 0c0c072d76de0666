"""What a run writes for people: a log of numbers, TensorBoard events, curves and sample sheets as PNG."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from PIL import Image

from atelier.train.board import Board
from atelier.weights.formats.atomic import new_file

Row = dict[str, float]

LOG, CURVES, SAMPLES, BOARD = "log.jsonl", "curves.png", "samples", "tensorboard"
COLUMNS = 3


class Logbook:
    """log.jsonl, curves.png, samples/ and, where TensorBoard is installed, tensorboard/ inside the run's folder.

    Beginning at `step` cuts off what the log says of later steps: they will be made again.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        self.path = folder / LOG
        (folder / SAMPLES).mkdir(parents=True, exist_ok=True)
        self.rows = [row for row in _rows(self.path) if row["step"] <= step]
        with new_file(self.path) as file:
            file.write("".join(json.dumps(row) + "\n" for row in self.rows).encode())
        self._board = _board(folder / BOARD, step)

    @property
    def seconds(self) -> float:
        """What training took until now, after the last validation."""
        return next((row["seconds"] for row in reversed(self.rows) if "seconds" in row), 0.0)

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        row = {"step": step, **{name: round(value, 7) for name, value in numbers.items()}}
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self._board is not None:
            for name, value in numbers.items():
                self._board.number(step, name, value)

    def add_image(self, step: int, name: str, image: Image.Image) -> None:
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        with new_file(self.folder / SAMPLES / f"{name}-{step:08d}.png") as file:
            file.write(buffer.getvalue())
        if self._board is not None:
            self._board.image(step, name, buffer.getvalue(), image.size)

    def curves(self) -> None:
        """Draws every number of the log over the steps; needs matplotlib, else does nothing."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return
        names = sorted({name for row in self.rows for name in row} - {"step"})
        if not names:
            return
        lines, columns = -(-len(names) // COLUMNS), min(len(names), COLUMNS)
        figure = Figure(figsize=(5 * columns, 3 * lines))
        left, below = 0.8 / (5 * columns), 0.3 / (3 * lines)
        figure.subplots_adjust(left, below, 1 - left / 4, 1 - below, wspace=0.25, hspace=0.25)
        for place, name in enumerate(names, start=1):
            axes: Any = figure.add_subplot(lines, columns, place)
            points = [(row["step"], row[name]) for row in self.rows if name in row]
            axes.plot(*zip(*points, strict=True), linewidth=1, marker="." if len(points) == 1 else None)
            axes.set_title(name, fontsize=9)
            axes.grid(alpha=0.3)
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=80, format="png")
        with new_file(self.folder / CURVES) as file:
            file.write(buffer.getvalue())

    def close(self) -> None:
        if self._board is not None:
            with contextlib.suppress(OSError):  # the last events do not fit: the log has their numbers
                self._board.close()


def missing_extras() -> list[str]:
    """Which of the packages that draw are not installed."""
    from importlib.util import find_spec

    return [name for name in ("tensorboard", "matplotlib") if find_spec(name) is None]


def _rows(path: Path) -> list[Row]:
    """All rows up to the first that is torn."""
    rows: list[Row] = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            row: object = json.loads(line)
        except (ValueError, RecursionError):
            break
        numbers = cast("dict[str, object]", row) if isinstance(row, dict) else {}
        if "step" not in numbers or not all(isinstance(number, int | float) for number in numbers.values()):
            break
        rows.append(cast("Row", numbers))
    return rows


def _board(folder: Path, step: int) -> Board | None:
    try:
        return Board(folder, step)
    except ImportError:
        return None
