"""A folder of a server with as many images as somebody makes in a year, made without generating any."""

from __future__ import annotations

import colorsys
import hashlib
import io
import math
import struct
import time
import zlib
from pathlib import Path

from PIL import Image, ImageDraw
from sqlalchemy import insert

from atelier.request.events import Json
from atelier.runtime.jobs.files import OUTPUTS
from atelier.runtime.jobs.rows import new_id, written
from atelier.runtime.jobs.store import JobStore
from atelier.runtime.jobs.tables import gallery, images, jobs, thumbnails

THINGS = ("apple", "pear", "moon", "lemon", "stone", "balloon", "berry", "coin")
GROUNDS = ("a blue background", "the sea at dusk", "a meadow", "a grey wall", "a desert at noon")
SAMPLERS = ("Euler a", "DPM++ 2M", "Heun", "DDIM")
HEAD = 33
"""Bytes of a PNG before its second chunk."""
KINDS = 160
"""Files that differ: the others are as one of these."""


def drawn(number: int, side: int) -> Image.Image:
    """A thing before a ground, in colours of its own."""
    turn = number * 0.618 % 1
    low, high, thing = (_colour(turn + shift, light) for shift, light in ((0.55, 0.3), (0.62, 0.75), (0.0, 0.55)))
    image = Image.new("RGB", (side, side))
    draw = ImageDraw.Draw(image)
    for y in range(side):
        part = y / side
        draw.line((0, y, side, y), tuple(round(a + (b - a) * part) for a, b in zip(high, low, strict=True)))
    size = side * (0.22 + 0.12 * math.sin(number))
    x, y = side * (0.5 + 0.16 * math.sin(number * 1.7)), side * (0.56 + 0.1 * math.cos(number * 2.3))
    draw.ellipse((x - size, y + size * 0.75, x + size, y + size * 1.1), tuple(value // 2 for value in low))
    for ring in range(24):
        at, grow = ring / 24, size * (1 - ring / 24)
        light = tuple(round(a + (255 - a) * at * at * 0.8) for a in thing)
        shift = size * 0.3 * at
        draw.ellipse((x - grow - shift, y - grow - shift, x + grow - shift, y + grow - shift), light)
    return image


def _colour(turn: float, light: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hls_to_rgb(turn % 1, light, 0.55)
    return round(red * 255), round(green * 255), round(blue * 255)


def said(number: int) -> str:
    """The infotext of one image."""
    thing, ground = THINGS[number % len(THINGS)], GROUNDS[number // 3 % len(GROUNDS)]
    return (
        f"a round {thing} before {ground}\nNegative prompt: blurry\nSteps: {20 + number % 3 * 5}, "
        f"Sampler: {SAMPLERS[number % len(SAMPLERS)]}, Schedule type: Karras, CFG scale: {5 + number % 4}, "
        f"Seed: {1000 + number}, Size: 128x128, Model hash: abcdef0123, Model: embedded, Version: 1.0"
    )


def make(folder: Path, count: int) -> None:
    """Makes the folder, the newest image last."""
    store = JobStore.open(folder)
    kinds = [_files(number) for number in range(min(count, KINDS))]
    start = time.time() - count * 600.0
    job_rows: list[dict[str, object]] = []
    image_rows: list[dict[str, object]] = []
    entries: list[dict[str, object]] = []
    small: list[dict[str, object]] = []
    for number in range(count):
        data, thumbnail = kinds[number % len(kinds)]
        job, image, made = new_id(), new_id(), start + number * 600.0
        data = data[:HEAD] + _text(said(number)) + data[HEAD:]
        (folder / OUTPUTS / f"{job}-00000.png").write_bytes(data)
        job_rows.append(_job(job, number, made))
        image_rows.append(_image(image, job, number, data))
        entries.append({"image": image, "owner": "", "made": made, "starred": number % 40 == 7, "indexed": 0})
        small.append({"image": image, "data": thumbnail})
    with store._parts.database.write() as connection:
        for table, rows in ((jobs, job_rows), (images, image_rows), (gallery, entries), (thumbnails, small)):
            connection.execute(insert(table), rows)
    while store.gallery.index():
        pass
    store.close()


def _text(infotext: str) -> bytes:
    """The chunk of a PNG that holds an infotext (PNG specification, 11.3.3.2)."""
    body = b"tEXtparameters\0" + infotext.encode("latin-1")
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _files(number: int) -> tuple[bytes, bytes]:
    full, small = io.BytesIO(), io.BytesIO()
    drawn(number, 128).save(full, "PNG", compress_level=1)
    drawn(number, 256).save(small, "JPEG", quality=80)
    return full.getvalue(), small.getvalue()


def _job(job: str, number: int, made: float) -> dict[str, object]:
    asked: dict[str, Json] = {"prompt": said(number).partition("\n")[0], "seed": 1000 + number}
    return {
        "id": job,
        "owner": "",
        "kind": "generate",
        "state": "done",
        "priority": 0,
        "cost": 1.0,
        "attempt": 1,
        "cancelling": False,
        "created": made - 9,
        "started": made - 8,
        "ended": made,
        "seconds": 8.0,
        "asked": written(asked),
        "digest": "",
        "warnings": written({"list": []}),
    }


def _image(image: str, job: str, number: int, data: bytes) -> dict[str, object]:
    details: dict[str, Json] = {"seed": 1000 + number, "width": 128, "height": 128, "format": "png"}
    return {
        "id": image,
        "job": job,
        "number": 0,
        "file": f"{job}-00000.png",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "details": written({**details, "infotext": said(number)}),
    }
