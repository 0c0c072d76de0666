"""SentencePiece's compiled tables of characters, checked before a library that trusts them follows their numbers.

A table is the length of a trie in bytes, the trie, and texts that end in zero bytes. The trie is a double array (Aoe
1989) of units of 32 bits: bits 0 to 7 the byte that leads to a node, 31 with them whether it is a value, 8 whether a
value hangs on it, 10 to 30 where its children lie, in units, or in blocks of 256 where bit 9 is set. A child lies at
the place of its parent's children XOR its byte.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

LABEL, VALUE = 0x800000FF, 0x7FFFFFFF
BLOCK = 256

Units = NDArray[np.int64]


def flaw(table: bytes) -> str | None:
    """What is wrong with a table; None where every text can be looked up in it."""
    if len(table) < 4:
        return "it is cut off"
    (size,) = struct.unpack_from("<I", table)
    if size % (4 * BLOCK) or not size or 4 + size > len(table):
        return "its trie is cut off"
    texts = table[4 + size :]
    try:
        texts.decode()
    except UnicodeDecodeError:
        return "its texts are no UTF-8"
    return _followed(np.frombuffer(table, "<u4", size // 4, 4).astype(np.int64), texts)


def _followed(units: Units, texts: bytes) -> str | None:
    """Every way through the trie, all nodes of one depth at once."""
    bytes_ = np.arange(1, BLOCK, dtype=np.int64)
    starts = _starts(texts)
    seen = np.zeros(len(units), bool)
    places = _children(np.zeros(1, np.int64), units)
    while len(places):
        if bool((places >= len(units)).any()):
            return "its trie points out of itself"
        places = np.unique(places[~seen[places]])
        seen[places] = True
        nodes = (places[:, None] ^ bytes_).ravel()
        nodes = nodes[(units[nodes] & LABEL) == np.tile(bytes_, len(places))]
        inner = _children(nodes, units)
        leaves = inner[(units[nodes] >> 8 & 1) == 1]
        if bool((inner >= len(units)).any()):
            return "its trie points out of itself"
        values = units[leaves] & VALUE
        if bool((values >= len(starts)).any()) or not bool(starts[values].all()):
            return "its trie points into the middle of a text"
        places = inner
    return None


def _children(nodes: Units, units: Units) -> Units:
    """Where the children of nodes lie."""
    own = units[nodes]
    return nodes ^ (own >> 10 << ((own & 1 << 9) >> 6)) & VALUE


def _starts(texts: bytes) -> NDArray[np.bool_]:
    """At which bytes a character begins."""
    return (np.frombuffer(texts, np.uint8) & 0xC0) != 0x80
