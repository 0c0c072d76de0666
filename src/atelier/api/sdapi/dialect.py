"""What the routes of the dialect share: the service, the options that were changed, and what is being done."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anyio import to_thread

from atelier.api.sdapi.options import usable
from atelier.api.service import Service
from atelier.request.events import Json
from atelier.runtime import kept
from atelier.runtime.jobs.job import Owner

_log = logging.getLogger("atelier.server")
REMEMBERED = 1000
"""Calls that ended, for those who ask later."""


@dataclass(slots=True)
class Work:
    """A call that waits. task: the id that the client gave; done of runs jobs ended; job: the one that is done now."""

    owner: str
    task: str
    runs: int
    done: int = 0
    job: str = ""
    ended: bool = False
    started: float = field(default_factory=time.time)


@dataclass(slots=True)
class Dialect:
    """path: where changed options are kept, None = in memory alone."""

    service: Service
    path: Path | None = None
    changed: dict[str, Json] = field(default_factory=dict[str, Json])
    works: OrderedDict[int, Work] = field(default_factory=OrderedDict[int, Work])

    async def keep(self, changes: Mapping[str, Json]) -> None:
        """Keeps changed options, on disk before in memory. Raises StorageFull, BadFile."""
        changed = {**self.changed, **changes}
        if self.path is not None:
            await to_thread.run_sync(kept.write, self.path, changed)
        self.changed = changed

    def begin(self, owner: Owner, task: str, runs: int) -> Work:
        """Notes a call; those that ended long ago are forgotten."""
        work = Work(owner.key, task, runs)
        self.works[id(work)] = work
        for old in [key for key, one in self.works.items() if one.ended][: max(0, len(self.works) - REMEMBERED)]:
            del self.works[old]
        return work

    def by_job(self, owner: Owner, job_id: str) -> Work | None:
        """The call of an owner that a job is done for."""
        own = (work for work in self.works.values() if work.owner == owner.key and not work.ended)
        return next((work for work in own if work.job == job_id), None)

    def by_task(self, owner: Owner, task: str) -> Work | None:
        """The newest call of an owner by the id that the client gave."""
        own = (work for work in reversed(self.works.values()) if work.owner == owner.key)
        return next((work for work in own if work.task == task), None)

    def tasks(self, owner: Owner) -> list[str]:
        """Ids of the owner's calls that wait."""
        return [work.task for work in self.works.values() if work.owner == owner.key and not work.ended and work.task]


def opened(service: Service, path: Path | None) -> Dialect:
    """The dialect with the options that were kept; one that no request could be made with is left out, and told of.

    Raises BadFile.
    """
    changed, reasons = usable({} if path is None else kept.read(path))
    for reason in reasons:
        _log.warning("a kept option is ignored", extra={"fields": {"file": path and path.name, "reason": reason}})
    return Dialect(service, path, changed)
