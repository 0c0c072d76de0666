"""TensorBoard's event files, written by the thread that asks: what the disk refuses is raised where it happens."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

VERSION = "brain.Event:2"
RGB = 3


class Board:
    """One file of events in `folder`, for a run that begins at `step`: what older files say of later steps is void.

    Raises ImportError where TensorBoard is not installed, OSError when the disk refuses.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        events: Any = event_pb2
        summaries: Any = summary_pb2
        self._event: Any = events.Event
        self._summary: Any = summaries.Summary
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._file: Any = RecordWriter((folder / name).open("xb"))
        self._write(file_version=VERSION)
        self._write(step=step + 1, session_log=events.SessionLog(status=events.SessionLog.START))

    def number(self, step: int, name: str, value: float) -> None:
        """One point of the curve `name`."""
        self._show(step, tag=name, simple_value=value)

    def image(self, step: int, name: str, png: bytes, size: tuple[int, int]) -> None:
        """A PNG of `size`, width and height."""
        width, height = size
        self._show(
            step,
            tag=name,
            image=self._summary.Image(width=width, height=height, colorspace=RGB, encoded_image_string=png),
        )

    def close(self) -> None:
        self._file.close()

    def _show(self, step: int, **value: object) -> None:
        self._write(step=step, summary=self._summary(value=[self._summary.Value(**value)]))

    def _write(self, **fields: object) -> None:
        self._file.write(self._event(wall_time=time.time(), **fields).SerializeToString())
        self._file.flush()
