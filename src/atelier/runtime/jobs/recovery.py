"""What a server does about the jobs that were running when the last one died."""

from __future__ import annotations

from sqlalchemy import Connection, case, literal, select, update

from atelier.runtime.jobs.job import JobError, State
from atelier.runtime.jobs.limits import LONG
from atelier.runtime.jobs.parts import Parts
from atelier.runtime.jobs.rows import error_text
from atelier.runtime.jobs.tables import jobs

_REASON = "the server died while the job ran, and so did the attempt before"


def recover(connection: Connection, parts: Parts) -> list[str]:
    """Lets the jobs that ran wait again, as the next attempt; those without another one are quarantined, and those that
    were cancelled end. Returns their ids."""
    running = list(connection.scalars(select(jobs.c.id).where(jobs.c.state == State.RUNNING).order_by(jobs.c.sequence)))
    now = parts.clock.now()
    ended = case((jobs.c.started > now, jobs.c.started), else_=literal(now))
    this = update(jobs).where(jobs.c.state == State.RUNNING)
    connection.execute(this.where(jobs.c.cancelling).values(state=State.CANCELLED, lease=None, ended=ended))
    most = case((jobs.c.kind.in_(LONG), parts.limits.long_attempts), else_=parts.limits.attempts)
    last = this.where(jobs.c.attempt >= most)
    error = error_text(JobError("WorkerDied", _REASON))
    connection.execute(last.values(state=State.QUARANTINED, lease=None, ended=ended, error=error))
    connection.execute(this.values(state=State.QUEUED, lease=None, started=None))
    return running


def waiting(connection: Connection) -> list[str]:
    """The ids of the jobs that wait, in the order of acceptance."""
    return list(connection.scalars(select(jobs.c.id).where(jobs.c.state == State.QUEUED).order_by(jobs.c.sequence)))
