"""Images that come inside of requests: base64, with or without `data:`, never a URL and never a path."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from atelier.api.errors import refuse
from atelier.api.service import Service
from atelier.request.events import Json
from atelier.runtime.jobs.job import Job, NewJob, Owner, TooLarge, UnknownJob

NAMED = re.compile(r"upload:[0-9a-f]{64}")
_DATA = re.compile(r"data:image/(?:png|jpe?g|webp)(?:;[\w=.-]+)*;base64,", re.IGNORECASE)
_ADDRESS = re.compile(r"\s{0,9}[a-z][a-z0-9+.-]{0,30}://", re.IGNORECASE)
_SPACE = b" \t\r\n\f\v"
_URLSAFE = bytes.maketrans(b"-_", b"+/")
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def decoded(text: str, field: str) -> bytes:
    """The bytes of an image in base64: spaces, the URL-safe alphabet and a lack of padding are no matter.

    Raises Refused (422), naming `field`.
    """
    if _ADDRESS.match(text):
        raise refuse(
            422, f"{field} is a URL: the server fetches nothing; send the image itself, in base64", field=field
        )
    head = _DATA.match(text)
    if head is None and text[:5].casefold() == "data:":
        raise refuse(422, f"{field} is no data URL of an image: write data:image/png;base64,…", field=field)
    try:
        body = text[head.end() if head else 0 :].encode("ascii").translate(_URLSAFE, _SPACE).rstrip(b"=")
        data = base64.b64decode(body + b"=" * (-len(body) % 4), validate=True)
    except ValueError:
        raise refuse(
            422, f"{field} is no base64: send the bytes of a PNG, JPEG or WebP in base64", field=field
        ) from None
    check_kind(data, field)
    return data


def check_kind(data: bytes, field: str) -> None:
    """Refuses bytes that do not begin as a PNG, a JPEG or a WebP does; only a worker looks further."""
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    if not webp and not data.startswith(_SIGNATURES):
        raise refuse(422, f"{field} is no PNG, JPEG or WebP: convert it to one of them", field=field)


def kind_of(data: bytes) -> str:
    """The media type of an image that `check_kind` lets pass."""
    if data.startswith(b"RIFF"):
        return "image/webp"
    return "image/png" if data.startswith(b"\x89") else "image/jpeg"


def has_alpha(data: bytes) -> bool:
    """Whether a PNG says that it may be transparent: by its kind of pixels, or a chunk that names the clear ones."""
    return data[12:16] == b"IHDR" and (data[25:26] in {b"\x04", b"\x06"} or b"tRNS" in data[33 : data.find(b"IDAT")])


async def image_fields(service: Service, owner: Owner, fields: Mapping[str, Json]) -> dict[str, Json]:
    """The fields with each image in them kept by the service; mask: "alpha" is no image, but where it lies."""
    found = dict(fields)
    for name in ("image", "mask"):
        value = found.get(name)
        if isinstance(value, str) and (name, value) != ("mask", "alpha"):
            found[name] = await uploaded(service, owner, value, name)
    return found


async def uploaded(service: Service, owner: Owner, value: str, field: str) -> str:
    """What a field that names an image holds afterwards: "upload:SHA256" stays, base64 is kept by the service."""
    if NAMED.fullmatch(value):
        return value
    return await kept(service, owner, decoded(value, field), field)


async def kept(service: Service, owner: Owner, data: bytes, field: str) -> str:
    """Gives bytes to the service; too many of them are refused with 413."""
    try:
        return await service.upload(data, owner)
    except TooLarge as error:
        raise refuse(413, f"{field}: {error}", field=field, kind="TooLarge") from None


async def submitted(service: Service, job: NewJob, owner: Owner) -> Job:
    """Submits a job; an upload in it that is not there is refused (422) with the name of its field."""
    try:
        return await service.submit(job, owner)
    except UnknownJob as error:
        fields = [name for name, value in job.fields.items() if "upload:" in str(value)]
        lost = next(iter(NAMED.findall(str(error))), "upload:")
        field = next((name for name in fields if lost in str(job.fields[name])), next(iter(fields), None))
        message = f"{field or 'image'}: there is no such upload, or it is not yours: send the image to /v1/uploads"
        raise refuse(422, message, field=field, kind="UnknownUpload") from None
