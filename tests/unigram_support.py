"""A very small tokenizer of T5, as SentencePiece's file and as transformers knows it."""

from __future__ import annotations

import struct
from collections.abc import Iterable

PIECES = (
    *(("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2)),
    *(("▁", -2.0, 1), ("▁a", -2.5, 1), ("▁cat", -4.0, 1), ("▁c", -3.5, 1), ("at", -3.25, 1), ("s", -2.75, 1)),
    *(("▁red", -5.0, 1), (",", -2.0, 1), ("e", -3.0, 1), ("r", -3.125, 1), ("d", -3.0625, 1), ("fi", -6.0, 1)),
)
"""Text, score and kind (2 unknown, 3 mark); scores that float32 holds exactly."""


def charsmap(changes: Iterable[tuple[str, str]] = (("ﬁ", "fi"), ("Ａ", "a"))) -> bytes:
    """SentencePiece's table of characters: a double-array trie of the bytes, and what they become."""
    units: dict[int, int] = {}
    table, ends = b"", list[tuple[bytes, int]]()
    for old, new in changes:
        ends.append((old.encode(), len(table)))
        table += new.encode() + b"\0"
    _place(units, 0, 0, ends, 0)
    size = (max(units) | 255) + 1
    trie = struct.pack(f"<{size}I", *(units.get(at, 0) for at in range(size)))
    return struct.pack("<I", len(trie)) + trie + table


def _place(units: dict[int, int], at: int, label: int, ends: list[tuple[bytes, int]], depth: int) -> None:
    """The unit of a node: its children lie in a block of 256 of their own, each at its byte."""
    block = (max(units, default=0) | 255) + 1
    has_leaf = any(len(word) == depth for word, _ in ends)
    units[at] = label | has_leaf << 8 | (at ^ block) << 10
    units[block] = 0
    for word, value in ends:
        if len(word) == depth:
            units[block] = value | 1 << 31
    for byte in sorted({word[depth] for word, _ in ends if len(word) > depth}):
        units[block ^ byte] = 0
    for byte in sorted({word[depth] for word, _ in ends if len(word) > depth}):
        _place(units, block ^ byte, byte, [(w, v) for w, v in ends if len(w) > depth and w[depth] == byte], depth + 1)


def spiece_model(
    pieces: Iterable[tuple[str, float, int]] = PIECES, *, kind: int = 1, table: bytes | None = None
) -> bytes:
    """The message of protobuf that SentencePiece writes."""
    made = b"".join(
        _bytes(1, _bytes(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([own]))
        for text, score, own in pieces
    )
    training = b"\x18" + bytes([kind]) + b"\xc0\x02\x02"
    return made + _bytes(2, training) + _bytes(3, _bytes(1, b"nmt_nfkc") + _bytes(2, table or charsmap()))


def _bytes(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _number(len(content)) + content


def _number(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])
