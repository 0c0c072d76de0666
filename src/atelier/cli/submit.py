"""`atelier submit`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from atelier.cli.fields import Command, defaults
from atelier.cli.given import Changes, Preview, changed, merged
from atelier.cli.remote import USUAL, Address, ApiKey, Server, server
from atelier.errors import BadFile, BadInput, Interrupted

if TYPE_CHECKING:
    from atelier.request.events import Json
    from atelier.runtime.store import Destination

IMAGES = ("image", "mask")
"""Fields that hold an image, which is uploaded."""
KINDS = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"RIFF", "image/webp"))
LARGEST = 256 << 20

Wait = Annotated[
    bool,
    typer.Option("--wait", help="Show the progress, and save the images as `atelier generate` does."),
]
Priority = Annotated[
    int, typer.Option(min=-10, max=10, help="Higher is sooner; above 0 is for the admin of the server.")
]
Once = Annotated[
    str | None,
    typer.Option(
        "--once",
        metavar="KEY",
        help="The same key always returns the same job.",
        show_default="a job each time",
    ),
]


def run(
    fields: Mapping[str, object],
    *,
    address: Address = USUAL,
    api_key: ApiKey = None,
    wait: Wait = False,
    preview: Preview = None,
    priority: Priority = 0,
    once: Once = None,
    change: Changes = None,
) -> None:
    """Ask a server for images, and print the id of the job: it is done whatever happens to this command.

    Images to start from are uploaded. `atelier watch` shows how far it is, `atelier fetch` saves the images.
    """
    asked = merged(changed(change or ()), fields)
    output = asked.pop("output", None)
    if "prompt" not in asked:
        raise BadInput('nothing to generate: atelier submit "a red apple"')
    if "output" in fields and not wait:
        raise BadInput("--output is where --wait saves images: give --wait, or save them with `atelier fetch`")
    called = server(address, api_key)
    with closing(called.client):
        to = destination(str(output)) if wait else None
        job = submitted(called, asked, priority, once)
        typer.echo(job, err=wait)
        if to is not None:
            watched(called, job, to, preview=preview)


def destination(output: str) -> Destination:
    """Where images are saved, proved to be usable. Raises BadInput, BadFile, StorageFull."""
    from atelier.runtime.store import Destination

    to = Destination.of(output)
    to.prepare()
    return to


def watched(called: Server, job: str, to: Destination | None, *, preview: bool | None) -> None:
    """Shows a job until it ends. Stopping it stops the showing alone."""
    from atelier.cli import progress
    from atelier.cli.remote_events import Watching

    display = progress.display(preview=preview)
    try:
        with closing(Watching(called, job, to).events()) as events:
            display.follow(events)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped showing; the job goes on: atelier watch {job}") from None


def submitted(called: Server, asked: Mapping[str, object], priority: int, once: str | None) -> str:
    """Sends a request; returns the id of the job. Raises BadInput for one that cannot be."""
    fields = sendable(asked)
    for name in IMAGES:
        text = fields.get(name)
        if isinstance(text, str) and not _stays(name, text):
            fields[name] = called.upload(*image_file(text))
    path = f"/v1/jobs?priority={priority}" if priority else "/v1/jobs"
    headers = {"Idempotency-Key": once} if once else {}
    return str(called.post(path, fields, headers)["id"])


def _stays(name: str, text: str) -> bool:
    """Whether what stands for an image is sent as it is: an upload's name, or the mask that is the image's alpha."""
    from atelier.request.resolve import TRANSPARENT

    return text.startswith("upload:") or (name == "mask" and text == TRANSPARENT)


def sendable(asked: Mapping[str, object]) -> dict[str, Json]:
    """The fields as JSON: of the types that they have, checked. Raises BadInput."""
    from atelier.request.table import flat, given, request_of

    request = request_of(asked)
    names = given(request)
    return {name: _json(value) for name, value in flat(request).items() if name in names}


def _json(value: object) -> Json:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case tuple():
            return [_json(part) for part in cast("tuple[object, ...]", value)]
        case _:
            raise BadInput(f"{value!r} cannot be sent")


def image_file(text: str) -> tuple[bytes, str]:
    """The bytes of a file or a data: URI, and what kind of image it is. Raises BadFile for what is no image."""
    if text.startswith("data:"):
        shown, data = "data: URI", _of_uri(text)
    else:
        shown, data = text, _of_file(Path(text).expanduser())
    kind = next((kind for head, kind in KINDS if data.startswith(head)), None)
    if kind is None or (kind == "image/webp" and data[8:12] != b"WEBP"):
        raise BadFile(shown, "is no PNG, JPEG or WebP, which is what servers take: convert it")
    return data, kind


def _of_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise BadFile(path, f"is larger than {LARGEST} bytes: make it smaller")
        return path.read_bytes()
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from None


def _of_uri(text: str) -> bytes:
    try:
        return base64.b64decode(text.partition(",")[2], validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("image: the data: URI is no base64") from None


assert "output" in defaults(), "where images are saved has a default"
submit = Command(run)
app = typer.Typer(add_completion=False)
app.command("submit")(submit)
