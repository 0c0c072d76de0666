"""What TensorBoard is told, and what happens when the disk refuses it."""

from __future__ import annotations

import errno
import io
import os
import threading
from pathlib import Path

import pytest
from PIL import Image

from atelier.train.board import Board
from atelier.train.logbook import Logbook

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_a_run_that_goes_on_takes_back_what_it_said_of_later_steps(tmp_path: Path) -> None:
    log = Logbook(tmp_path, 0)
    for step in (1, 2, 3):
        log.add(step, {"loss": 1 / step})
    log.add_image(2, "samples", Image.new("RGB", (5, 7), (200, 10, 10)))
    log.close()
    log = Logbook(tmp_path, 2)
    log.add(3, {"loss": 0.125})
    log.close()
    seen = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    seen.Reload()
    assert [(point.step, point.value) for point in seen.Scalars("loss")] == [(1, 1.0), (2, 0.5), (3, 0.125)]
    (image,) = seen.Images("samples")
    assert (image.step, image.width, image.height) == (2, 5, 7)
    assert (tmp_path / "samples" / "samples-00000002.png").read_bytes() == image.encoded_image_string


class FullDisk(io.RawIOBase):
    """A file that takes nothing."""

    def write(self, data: object, /) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_raised_where_the_event_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    log = Logbook(tmp_path, 0)
    log.add(1, {"loss": 0.5})
    log.close()
    (written,) = (tmp_path / "tensorboard").iterdir()
    monkeypatch.setattr(Path, "open", lambda *_: FullDisk())
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        Board(tmp_path, 0)
    monkeypatch.undo()
    assert written.stat().st_size > 0
    assert threading.active_count() == before, "what was written, this thread wrote"
