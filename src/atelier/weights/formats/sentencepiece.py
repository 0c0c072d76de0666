"""SentencePiece's model files, read as data: the pieces, and how texts are normalised.

A message of protobuf is a row of fields: a number (field and wire type), then a number, 4 or 8 bytes, or a length and
so many bytes. Fields of the message: 1 pieces (1 text, 2 score), 2 training (3 kind of model, 40 the unknown piece), 3
normaliser (2 table of characters).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atelier.errors import BadFile

MAX_FILE = 50_000_000
UNIGRAM = 1


@dataclass(frozen=True, slots=True)
class Model:
    """pieces: texts with their scores, in the order of their ids; charsmap: SentencePiece's compiled table."""

    pieces: tuple[tuple[str, float], ...]
    charsmap: bytes
    unknown: int


def read_model(path: Path, *, most: int) -> Model:
    """A unigram model of at most so many pieces. Raises BadFile."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise BadFile(path, "is too large for a tokenizer")
        content = path.read_bytes()
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error})") from error
    try:
        return _model(content, most)
    except (_Broken, struct.error, UnicodeDecodeError) as error:
        raise BadFile(path, f"is no model of SentencePiece ({error}); get T5's spiece.model again") from error


class _Broken(Exception):
    """Not what it should be."""


def _model(content: bytes, most: int) -> Model:
    pieces: list[tuple[str, float]] = []
    charsmap, unknown = b"", 0
    for field, value in _fields(content):
        match field, value:
            case 1, bytes():
                pieces.append(_piece(value))
                if len(pieces) > most:
                    raise _Broken(f"more than {most:,} pieces")
            case 2, bytes():
                unknown = _training(value)
            case 3, bytes():
                charsmap = next((v for f, v in _fields(value) if f == 2 and isinstance(v, bytes)), b"")
            case _:
                pass
    if not pieces:
        raise _Broken("no pieces")
    return Model(tuple(pieces), charsmap, unknown)


def _piece(content: bytes) -> tuple[str, float]:
    text, score = "", 0.0
    for field, value in _fields(content):
        if field == 1 and isinstance(value, bytes):
            text = value.decode()
        elif field == 2 and isinstance(value, float):
            score = value
    return text, score


def _training(content: bytes) -> int:
    """The id of the unknown piece."""
    found = {field: value for field, value in _fields(content) if isinstance(value, int)}
    if found.get(3, UNIGRAM) != UNIGRAM:
        raise _Broken("not a unigram model")
    return found.get(40, 0)


def _fields(content: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    at = 0
    while at < len(content):
        tag, at = _number(content, at)
        match tag & 7:
            case 0:
                value, at = _number(content, at)
                yield tag >> 3, value
            case 1:
                at += 8
            case 2:
                length, at = _number(content, at)
                if length > len(content) - at:
                    raise _Broken("cut off")
                yield tag >> 3, content[at : at + length]
                at += length
            case 5:
                yield tag >> 3, struct.unpack_from("<f", content, at)[0]
                at += 4
            case kind:
                raise _Broken(f"wire type {kind}")


def _number(content: bytes, at: int) -> tuple[int, int]:
    """Seven bits of each byte, the lowest first, while the eighth is set; and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            raise _Broken("cut off")
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise _Broken("a number of more than 64 bits")
