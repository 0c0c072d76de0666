"""What a run writes for people: a log of numbers, TensorBoard events, curves and sample sheets as PNG."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Logbook:
    """log.jsonl, curves/, samples/ and, where TensorBoard is installed, tensorboard/ inside the run's folder."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        self.path = folder / "log.jsonl"
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        self.rows = [row for row in _rows(self.path) if row["step"] <= step]
        self.path.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        self._board: Any = _board(folder / "tensorboard", step)

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        row = {"step": step, **{name: round(value, 7) for name, value in numbers.items()}}
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: Image.Image) -> None:
        image.save(self.folder / "samples" / f"{name}-{step:08d}.png")
        if self._board is not None:
            pixels: NDArray[np.uint8] = np.asarray(image.convert("RGB"))
            self._board.add_image(name, pixels, step, dataformats="HWC")

    def curves(self) -> None:
        """Draws every number of the log over the steps into curves.png; needs matplotlib, else does nothing."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return
        names = sorted({name for row in self.rows for name in row} - {"step"})
        if not names:
            return
        figure = Figure(figsize=(5 * min(len(names), 3), 3 * -(-len(names) // 3)), layout="constrained")
        for i, name in enumerate(names):
            axes: Any = figure.add_subplot(-(-len(names) // 3), min(len(names), 3), i + 1)
            points = [(row["step"], row[name]) for row in self.rows if name in row]
            axes.plot(*zip(*points, strict=True), linewidth=1)
            axes.set_title(name, fontsize=9)
            axes.grid(alpha=0.3)
        figure.savefig(self.folder / "curves.png", dpi=80)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def _rows(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    rows: list[dict[str, float]] = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _board(folder: Path, step: int) -> object | None:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
