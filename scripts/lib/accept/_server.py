"""The server of the tests, for checks that need one."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3] / "tests")]

from serving import Server, has_ended, serving

__all__ = ["Server", "has_ended", "serving"]
