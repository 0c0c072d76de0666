"""What a run looks like, on a terminal and elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from atelier.cli import preview
from atelier.cli.progress import ROWS, Display, display, fitted, rate
from atelier.errors import BadInput, StorageFull
from atelier.request import events

PICTURE = Image.new("RGB", (8, 8), (1, 2, 3))


def happening(pictures: int = 2, steps: int = 3) -> Iterator[events.Event]:
    yield events.Started(pictures, pictures * steps)
    for picture in range(pictures):
        for step in range(steps):
            yield events.Progress(picture * steps + step + 1, pictures * steps, picture)
            yield events.Preview(picture, PICTURE)
        yield events.ImageReady(picture, 7 + picture, PICTURE, "text")
        yield events.Saved(picture, Path(f"outputs/{picture}.png"))
    yield events.Finished(pictures, 1.25)


def follow(happened: Iterator[events.Event], *, terminal: bool, draw: preview.Draw | None = None) -> str:
    console = Console(
        file=io.StringIO(), force_terminal=terminal, width=80, height=30, color_system=None, legacy_windows=False
    )
    Display(console, draw).follow(happened)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_sees_every_step(capsys: pytest.CaptureFixture[str]):
    shown = follow(happening(), terminal=True)
    for done in range(7):
        assert f"{done}/6" in shown
    assert "generating 2 of 2" in shown
    assert "step/s" in shown
    assert shown.endswith("2 images in 1.2 s\n")
    assert capsys.readouterr().out.split() == ["outputs/0.png", "outputs/1.png"]


def test_a_terminal_sees_what_is_loaded(capsys: pytest.CaptureFixture[str]):
    def loading() -> Iterator[events.Event]:
        first, *rest = happening(1)
        yield first
        yield from (events.Loading("a model", part) for part in ("text", "denoiser", "autoencoder", "other"))
        yield from rest

    shown = follow(loading(), terminal=True)
    for words in ("loading text encoder", "loading denoiser", "loading autoencoder", "loading other"):
        assert words in shown
    capsys.readouterr()
    assert "loading" not in follow(loading(), terminal=False)


def test_a_total_that_changes_on_the_way_is_shown(capsys: pytest.CaptureFixture[str]):
    def two_passes() -> Iterator[events.Event]:
        yield events.Started(1, 10)
        yield events.Progress(5, 10, 0)
        yield events.Progress(6, 8, 0)
        yield events.Finished(1, 1.0)

    shown = follow(two_passes(), terminal=True)
    assert all(text in shown for text in ("5/10", "6/8"))
    capsys.readouterr()


def test_a_file_sees_only_the_end(capsys: pytest.CaptureFixture[str]):
    assert follow(happening(1), terminal=False).split("\n") == ["1 image in 1.2 s", ""]
    assert capsys.readouterr().out.split() == ["outputs/0.png"]


def test_a_note_quotes_what_it_is_about(capsys: pytest.CaptureFixture[str]):
    said = [events.Warned("<lora:a:x> [b]: no number"), events.Hashing("a [b] :a:"), events.Finished(1, 1.0)]
    shown = follow(iter(said), terminal=True)
    assert "note: <lora:a:x> [b]: no number" in shown
    assert "hashing a [b] :a:" in shown
    capsys.readouterr()


def test_what_was_saved_before_a_failure_is_told(capsys: pytest.CaptureFixture[str]):
    def failing() -> Iterator[events.Event]:
        yield from list(happening())[:9]
        yield events.Failed(StorageFull("full"))

    with pytest.raises(StorageFull, match="full"):
        follow(failing(), terminal=True)
    assert capsys.readouterr().out.split() == ["outputs/0.png"]


def test_each_picture_replaces_the_one_before():
    drawn: list[tuple[int, int]] = []

    def draw(_: Image.Image, columns: int, rows: int) -> str:
        drawn.append((columns, rows))
        return "<image>"

    shown = follow(happening(), terminal=True, draw=draw)
    assert drawn == [(2 * ROWS, ROWS)] * 8
    assert shown.count(f"\x1b7\r\x1b[{ROWS}A<image>\x1b8") == 8
    before = shown[: shown.index("<image>")]
    assert before.count("\n") >= ROWS, "its rows are made before it is drawn"


@pytest.mark.parametrize(
    ("aspect", "columns", "rows", "size"),
    [(1.0, 80, 30, (32, 16)), (2.0, 40, 30, (40, 10)), (0.5, 80, 6, (6, 6)), (100.0, 3, 30, (3, 1))],
)
def test_pictures_fit_the_terminal(aspect: float, columns: int, rows: int, size: tuple[int, int]):
    assert fitted(aspect, columns, rows) == size


def test_slow_steps_are_told_in_seconds():
    assert (rate(14.26), rate(0.25)) == ("14.3 step/s", "4.0 s/step")


def test_a_preview_needs_a_terminal_with_colours(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    for name in ("KITTY_WINDOW_ID", "TERM_PROGRAM", "LC_TERMINAL", "TMUX", "STY", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLORTERM", "")
    assert display(preview=None).draw is None
    with pytest.raises(BadInput, match="24-bit"):
        display(preview=True)
    monkeypatch.setenv("COLORTERM", "truecolor")
    assert display(preview=True).draw is preview.half_blocks
    assert display(preview=None).draw is None
    monkeypatch.setenv("TERM", "xterm-kitty")
    assert display(preview=None).draw is preview.kitty
    assert display(preview=False).draw is None
