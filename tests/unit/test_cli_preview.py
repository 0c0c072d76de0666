"""Images in terminals, read back the way a terminal reads them."""

from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image, ImageChops

from atelier.cli import preview

PICTURE = Image.effect_noise((96, 64), 90).convert("RGB")


@pytest.mark.parametrize(
    ("environment", "draw"),
    [
        ({"TERM": "xterm-kitty"}, preview.kitty),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, preview.kitty),
        ({"TERM": "xterm-ghostty"}, preview.kitty),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, preview.iterm2),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, preview.iterm2),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, preview.iterm2),
        ({"TERM": "screen-256color", "TMUX": "/tmp/x", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, None),
        ({}, None),
    ],
)
def test_the_environment_tells_what_a_terminal_can(environment: dict[str, str], draw: preview.Draw | None):
    assert preview.native(environment) is draw


def test_kitty_gets_the_picture_in_chunks_under_one_id():
    text = preview.kitty(PICTURE, 20, 8)
    commands = re.findall(r"\x1b_G([^;]*);([A-Za-z0-9+/=]*)\x1b\\", text)
    assert "".join(f"\x1b_G{control};{data}\x1b\\" for control, data in commands) == text
    assert len(commands) > 1, "an image of this size needs several chunks"
    controls = [dict(pair.split("=") for pair in control.split(",")) for control, _ in commands]
    assert controls[0] | {"m": ""} == {
        "a": "T",
        "f": "100",
        "i": "7",
        "p": "1",
        "q": "2",
        "C": "1",
        "c": "20",
        "r": "8",
        "m": "",
    }
    assert [control["m"] for control in controls] == ["1"] * (len(commands) - 1) + ["0"]
    assert all(len(data) <= 4096 for _, data in commands)
    assert _same(base64.b64decode("".join(data for _, data in commands)))


def test_iterm2_gets_an_inline_file():
    found = re.fullmatch(r"\x1b\]1337;File=([^:]*):([A-Za-z0-9+/=]*)\x07", preview.iterm2(PICTURE, 20, 8))
    assert found
    values = dict(pair.split("=") for pair in found[1].split(";"))
    data = base64.b64decode(found[2])
    assert (values["inline"], values["width"], values["height"], values["size"]) == ("1", "20", "8", str(len(data)))
    assert _same(data)


def test_half_blocks_show_two_pixels_a_cell():
    small = PICTURE.resize((6, 8))
    rows = preview.half_blocks(small, 6, 4).split("\x1b[1B\x1b[6D")
    assert len(rows) == 4
    for y, row in enumerate(rows):
        cells = re.findall(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀", row)
        assert row.endswith("\x1b[0m")
        for x, cell in enumerate(cells):
            column = small.crop((x, 2 * y, x + 1, 2 * y + 2)).tobytes()
            assert tuple(map(int, cell)) == tuple(column)
        assert len(cells) == 6


def _same(png: bytes) -> bool:
    return ImageChops.difference(Image.open(io.BytesIO(png)).convert("RGB"), PICTURE).getbbox() is None
