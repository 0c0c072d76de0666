"""Work that goes on after the answer, such as calling a webhook."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import cast

from fastapi import FastAPI


def spawn(app: FastAPI, work: Coroutine[object, object, None]) -> None:
    """Runs `work` beside the requests; the application keeps it from being forgotten."""
    tasks = cast("set[asyncio.Task[None]]", app.state.tasks)
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
