"""`atelier watch`."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from atelier.cli.given import Preview
from atelier.cli.remote import USUAL, Address, ApiKey, JobId, job_path, server
from atelier.cli.submit import destination, watched

app = typer.Typer(add_completion=False)
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", help="Folder or file to save the images to.", show_default="they are not saved"),
]


@app.command("watch")
def watch(
    job: JobId, *, address: Address = USUAL, api_key: ApiKey = None, output: Output = None, preview: Preview = None
) -> None:
    """Show how a job of a server comes along, until it has ended. A lost connection is made again."""
    called = server(address, api_key)
    with closing(called.client):
        called.object(job_path(job))
        to = None if output is None else destination(output)
        watched(called, job, to, preview=preview)
