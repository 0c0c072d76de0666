"""What the parts of the store share."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.runtime.jobs.clock import Clock
from atelier.runtime.jobs.database import Database
from atelier.runtime.jobs.files import Files
from atelier.runtime.jobs.limits import Limits


@dataclass(frozen=True, slots=True)
class Parts:
    """The database, the files, and the rules."""

    database: Database
    files: Files
    limits: Limits
    clock: Clock
