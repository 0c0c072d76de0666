"""Infotexts in the lowest bits of an image's pixels ("stealth"), as Forge and NovelAI write them.

Bits run down the columns, from the left: of the alpha channel, or of red, green and blue. First a signature, then the
length in bits (32 bits, big endian), then the data, packed with gzip for the signatures that end in comp.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

SIGNATURES: Mapping[bytes, tuple[str, bool]] = {
    b"stealth_pnginfo": ("A", False),
    b"stealth_pngcomp": ("A", True),
    b"stealth_rgbinfo": ("RGB", False),
    b"stealth_rgbcomp": ("RGB", True),
}
"""Signature to (channels, whether the data is packed)."""
MAX_TEXT = 4_000_000
_LENGTH_BITS = 32


def stealth_text(image: Image) -> str | None:
    """The text hidden in the pixels of an RGB or RGBA image; None if there is none."""
    if image.mode not in {"RGB", "RGBA"}:
        return None
    for channels in ("A", "RGB") if image.mode == "RGBA" else ("RGB",):
        text = _hidden(_Bits(image, channels))
        if text is not None:
            return text
    return None


class _Bits:
    """The lowest bits of some channels as digits, made as far as they are asked for."""

    def __init__(self, image: Image, channels: str) -> None:
        self.image = image
        self.channels = channels
        self.column = 0
        self.bits = bytearray()

    def data(self, start: int, count: int) -> bytes | None:
        """`count` bytes from bit `start` on; None if the image has not so many."""
        end = start + 8 * count
        while len(self.bits) < end and self.column < self.image.width:
            self.bits += self._column(self.column)
            self.column += 1
        if len(self.bits) < end:
            return None
        return int(self.bits[start:end], 2).to_bytes(count, "big") if count else b""

    def _column(self, x: int) -> bytes:
        strip = self.image.crop((x, 0, x + 1, self.image.height))
        raw = strip.getchannel("A").tobytes() if self.channels == "A" else strip.convert("RGB").tobytes()
        return raw.translate(_LOWEST)


_LOWEST = bytes(b"01"[value & 1] for value in range(256))
"""A byte to the digit that is its lowest bit."""


def _hidden(bits: _Bits) -> str | None:
    size = len(next(iter(SIGNATURES)))
    kind = SIGNATURES.get(bits.data(0, size) or b"")
    if kind is None or kind[0] != bits.channels:
        return None
    length = int.from_bytes(bits.data(8 * size, _LENGTH_BITS // 8) or b"", "big")
    if not 0 < length <= 8 * MAX_TEXT:
        return None
    raw = bits.data(8 * size + _LENGTH_BITS, length // 8)
    if raw is None:
        return None
    raw = _unpacked(raw) if kind[1] else raw
    return None if raw is None else raw.decode("utf-8", "replace")


def _unpacked(raw: bytes) -> bytes | None:
    try:
        return zlib.decompressobj(wbits=31).decompress(raw, MAX_TEXT)
    except zlib.error:
        return None
