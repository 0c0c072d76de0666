"""The check of Stable Diffusion 1.5 at its true size, on a small model: that it runs, and notices another latent."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("diffusers", reason="the reference extra is not installed")

CHECKS = Path(__file__).parents[2] / "scripts" / "lib" / "accept"


def test_it_compares_three_ways(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(CHECKS))
    sd15 = import_module("sd15")
    own = ["sd15", "--tiny", "--side", "64", "--json", "--models", str(tmp_path / "models")]
    monkeypatch.setattr(sys, "argv", own)
    assert sd15.main() == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found.keys() == {"image", "mask", "mask_9"}
    assert all(0 < error < 1e-4 for error in found.values())
    monkeypatch.setattr(sd15, "CASES", {"mask": sd15.CASES["mask"]})
    monkeypatch.setattr(sd15.Theirs, "guided", lambda _self, x, *_: 0.1 * x)
    assert sd15.main() == 1
