"""Several images as one zip, made while it is sent: never more than one of them is in memory."""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator, Sequence

from atelier.api.service import Service
from atelier.runtime.jobs.job import JobImage, Owner, StoreFailed, UnknownJob

MISSING = "missing.txt"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first day that a zip can name: the same images make the same bytes."""
File = tuple[str, bytes]


class _Sink:
    """Takes what the zip writes, until it is sent on. It cannot go back, so that each file's length comes behind it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def taken(self) -> bytes:
        """What was written since the last time."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data


async def zipped(service: Service, owner: Owner, image_ids: Sequence[str]) -> AsyncIterator[bytes]:
    """The bytes of a zip. Raises UnknownJob or StoreFailed where not one of the images is there, before the first byte;
    what is missing beside others is named in a file of the zip."""
    files = _files(service, owner, image_ids)
    return _sent(await anext(files), files)


async def _files(service: Service, owner: Owner, image_ids: Sequence[str]) -> AsyncIterator[File]:
    lost: list[str] = []
    for number, image_id in enumerate(image_ids, start=1):
        try:
            image, data = await service.image(image_id, owner)
        except (UnknownJob, StoreFailed) as error:
            lost.append(f"{image_id}: {error}\n")
            if len(lost) == len(image_ids):
                raise
        else:
            yield _name(number, image), data
    if lost:
        yield MISSING, "".join(lost).encode()


def _name(number: int, image: JobImage) -> str:
    seed = "" if image.seed is None else f"-{image.seed}"
    return f"{number:04d}{seed}-{image.id[:8]}.{image.format}"


async def _sent(first: File, others: AsyncIterator[File]) -> AsyncIterator[bytes]:
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:  # type: ignore[arg-type] - write and flush are all that it calls
        archive.writestr(zipfile.ZipInfo(first[0], _EPOCH), first[1])
        yield sink.taken()
        async for name, data in others:
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
            yield sink.taken()
    yield sink.taken()
