"""Ids in paths: opaque, and never a name of a file."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Path

from atelier.runtime.jobs.job import UnknownJob

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def opaque(text: str) -> str:
    """The id. Raises UnknownJob for what no id can be, as for one that is not there."""
    if not _ID.fullmatch(text):
        raise UnknownJob("no id")
    return text


async def _digest(digest: Annotated[str, Path(description="The SHA-256 of an upload, in hex.")]) -> str:
    if not _SHA256.fullmatch(digest):
        raise UnknownJob("no digest")
    return digest


async def _job_id(job_id: Annotated[str, Path(description="What POST /v1/jobs answered.")]) -> str:
    return opaque(job_id)


async def _image_id(image_id: Annotated[str, Path(description="What a job lists.")]) -> str:
    return opaque(image_id)


async def _board_id(board_id: Annotated[str, Path(description="What GET /v1/boards lists.")]) -> str:
    return opaque(board_id)


async def _canvas_id(canvas_id: Annotated[str, Path(description="As its owner calls it.")]) -> str:
    return opaque(canvas_id)


CanvasId = Annotated[str, Depends(_canvas_id)]
JobId = Annotated[str, Depends(_job_id)]
ImageId = Annotated[str, Depends(_image_id)]
Digest = Annotated[str, Depends(_digest)]
BoardId = Annotated[str, Depends(_board_id)]
