"""`atelier jobs`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Annotated, Any

import typer

from atelier.cli.described import printable
from atelier.cli.remote import USUAL, Address, ApiKey, job_path, server

app = typer.Typer(add_completion=False)
WIDTH = 60
"""Characters of a prompt."""
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="How many jobs to list.")]
Cancel = Annotated[
    str | None, typer.Option("--cancel", metavar="JOB", help="Stop a job, and list nothing.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the server's answer as JSON.")]


@app.command("jobs")
def jobs(
    *,
    address: Address = USUAL,
    api_key: ApiKey = None,
    limit: Limit = 20,
    cancel: Cancel = None,
    as_json: AsJson = False,
) -> None:
    """List your jobs on a server, newest first: id, state, progress, age, prompt."""
    called = server(address, api_key)
    with closing(called.client):
        if cancel is not None:
            found = [called.post(job_path(cancel, "/cancel"), {}, {})]
        else:
            found = called.object("/v1/jobs", limit=str(limit))["data"]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for job in found:
        typer.echo(line(job, time.time()))


def line(job: Mapping[str, Any], now: float) -> str:
    """A job in one line."""
    progress = job["progress"]
    done = f"{100 * float(progress['share']):3.0f} %" if job["state"] == "running" else f"{len(job['images'])} images"
    text = printable(" ".join(str(job["asked"].get("prompt", job["kind"])).split()))
    prompt = text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"
    return f"{job['id']}  {job['state']:11}  {done:>9}  {age(now - float(job['created'])):>6}  {prompt}"


def age(seconds: float) -> str:
    """A time ago, in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"
