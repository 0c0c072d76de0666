"""`atelier fetch`."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from atelier.cli.remote import USUAL, Address, ApiKey, JobId, job_path, server
from atelier.cli.submit import destination
from atelier.errors import BadInput

app = typer.Typer(add_completion=False)
Output = Annotated[str, typer.Option("--output", "-o", help="Folder or file to save to.")]


@app.command("fetch")
def fetch(job: JobId, *, address: Address = USUAL, api_key: ApiKey = None, output: Output = "outputs") -> None:
    """Save the images that a job on a server has finished, each with its infotext."""
    from atelier.cli.remote_events import ended, image_of, put

    called = server(address, api_key)
    with closing(called.client):
        found = called.object(job_path(job))
        images, state = found["images"], str(found["state"])
        if not images and state in {"queued", "running"}:
            raise BadInput(f"job {job}: it is {state} and has no images yet: atelier watch {job}")
        if not images:
            raise ended(job, state, found.get("error")) if state != "done" else BadInput(f"job {job}: it has no images")
        to = destination(output)
        for image in images:
            file = called.get(f"/v1/images/{image['id']}").content
            typer.echo(put(to, file, image_of(file), int(image["index"]), len(images), int(image["seed"] or 0)))
