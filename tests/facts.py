"""Where the facts about published files and real requests lie: beside the project, or where ATELIER_FACTS says."""

from __future__ import annotations

import os
from pathlib import Path


def _found() -> Path:
    named = os.environ.get("ATELIER_FACTS")
    beside = [parent / "shared" / "facts" for parent in Path(__file__).resolve().parents[2:]]
    return Path(named) if named else next((folder for folder in beside if folder.is_dir()), beside[0])


FACTS = _found()
"""The folder. A test that needs it is skipped where it is not there."""
