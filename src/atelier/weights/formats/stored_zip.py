"""Where the entries of a zip archive lie, if nothing is compressed and nothing is ambiguous.

torch writes its files so. Whatever two programs could read in two ways is refused: compressed or encrypted entries,
names that come twice, a local header that disagrees with the directory, entries that overlap, bytes before the first
entry or behind the last. One reader finds the entries, and the same reader's offsets are read.
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3.7 to 4.3.16.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAX_ENTRIES = 50_000
MAX_DIRECTORY = 64_000_000
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_DESCRIPTOR = 24
"""The longest data descriptor, which may follow an entry whose sizes were not known when it was begun."""
_BIG, _MANY = 0xFFFFFFFF, 0xFFFF
_MARKS = _BIG, _BIG, _MANY
"""What stands for a size, a place and a count of 64 bits."""
_DOS, _FILES = 0xFF, (0, 8)
"""Attributes of DOS, among them that of a folder; what Unix calls ordinary files, where it says anything."""
_DESCRIBED, _UTF8 = 0x8, 0x800


class Ambiguous(ValueError):
    """An archive that is broken or can be read in two ways. The message is a clause of one line."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The bytes of one file within the archive. crc: what their checksum (CRC-32) should be."""

    start: int
    size: int
    crc: int = 0


@dataclass(frozen=True, slots=True)
class _Listed:
    """An entry as the directory at the end lists it."""

    name: str
    size: int
    header: int
    crc: int


def entries(file: BinaryIO, total: int) -> dict[str, Entry]:
    """The entries by name, of an archive of `total` bytes. Raises Ambiguous."""
    start, size, count = _directory(file, total)
    listed = sorted(_listed(_read(file, start, size), count), key=lambda entry: entry.header)
    found: dict[str, Entry] = {}
    end = 0
    for entry in listed:
        place = _located(file, entry)
        if not end <= entry.header <= end + (_DESCRIPTOR if found else 0):
            raise Ambiguous("has bytes that belong to no entry, or to two")
        if entry.name in found:
            raise Ambiguous("has two entries of one name")
        found[entry.name] = place
        end = place.start + place.size
    if not end <= start <= end + (_DESCRIPTOR if found else 0):
        raise Ambiguous("has bytes that belong to no entry, or to two")
    return found


def _directory(file: BinaryIO, total: int) -> tuple[int, int, int]:
    """(start, size, number of entries) of the directory. It ends where the end record or its 64-bit form begins."""
    at = total - _END.size
    if at < 0:
        raise Ambiguous("is no whole zip archive")
    mark, disk, first, here, count, size, start, comment = _END.unpack(_read(file, at, _END.size))
    if mark != b"PK\5\6" or comment or disk or first or here != count:
        raise Ambiguous("is no whole zip archive: get it again")
    end = at
    if _is_64(file, at):
        end, *wide = _directory64(file, at)
        if any(narrow not in {own, most} for narrow, own, most in zip((size, start, count), wide, _MARKS, strict=True)):
            raise Ambiguous("has a 64-bit directory that is broken: another one says otherwise")
        size, start, count = wide
    elif start == _BIG or count == _MANY:
        raise Ambiguous("is no whole zip archive: get it again")
    if start + size != end or count > MAX_ENTRIES or size > MAX_DIRECTORY:
        raise Ambiguous("has a directory that does not end where it should, or too long a one")
    return start, size, count


def _is_64(file: BinaryIO, at: int) -> bool:
    return at >= _LOCATOR.size + _END64.size and _read(file, at - _LOCATOR.size, 4) == b"PK\6\7"


def _directory64(file: BinaryIO, at: int) -> tuple[int, int, int, int]:
    """(place of the 64-bit end record, size, start, number of entries)."""
    _, disk, place, disks = _LOCATOR.unpack(_read(file, at - _LOCATOR.size, _LOCATOR.size))
    if disk or disks != 1 or place + _END64.size != at - _LOCATOR.size:
        raise Ambiguous("has a 64-bit directory that is not where it should be")
    mark, _, _, _, _, _, here, count, size, start = _END64.unpack(_read(file, place, _END64.size))
    if mark != b"PK\6\6" or here != count:
        raise Ambiguous("has a 64-bit directory that is broken")
    return place, size, start, count


def _listed(directory: bytes, count: int) -> Iterator[_Listed]:
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(directory):
            raise Ambiguous("has a directory shorter than it says")
        fields = _CENTRAL.unpack_from(directory, at)
        mark, flags, method, packed, size = fields[0], fields[3], fields[4], fields[8], fields[9]
        name_length, extra_length, comment_length, header = fields[10], fields[11], fields[12], fields[16]
        at += _CENTRAL.size
        name, extra = directory[at : at + name_length], directory[at + name_length : at + name_length + extra_length]
        at += name_length + extra_length + comment_length
        _check_plain(mark == b"PK\1\2" and comment_length == 0 and at <= len(directory), flags, method)
        if fields[15] & _DOS or fields[15] >> 28 not in _FILES:
            raise Ambiguous("has entries that are no ordinary files")
        size, packed, header = _wide(extra, size, packed, header)
        if packed != size:
            raise Ambiguous("has an entry whose two sizes differ")
        yield _Listed(_text(name), size, header, fields[7])
    if at != len(directory):
        raise Ambiguous("has a directory longer than it says")


def _check_plain(whole: bool, flags: int, method: int) -> None:  # noqa: FBT001 - what the caller found out
    if not whole:
        raise Ambiguous("has a directory that is broken")
    if method != 0:
        raise Ambiguous("has compressed entries, which torch never writes")
    if flags & ~(_DESCRIBED | _UTF8):
        raise Ambiguous("has encrypted or unusual entries, which torch never writes")


def _wide(extra: bytes, *values: int) -> tuple[int, ...]:
    """The values, those that do not fit into 32 bits taken from the extra field (4.5.3)."""
    wanted = sum(value == _BIG for value in values)
    if not wanted:
        return values
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        body = extra[at + 4 : at + 4 + length]
        if kind == 1 and len(body) >= 8 * wanted:
            wide = iter(struct.unpack_from(f"<{wanted}Q", body))
            return tuple(next(wide) if value == _BIG else value for value in values)
        at += 4 + length
    raise Ambiguous("has an entry without its 64-bit sizes")


def _located(file: BinaryIO, entry: _Listed) -> Entry:
    """Where the bytes of an entry begin: behind its local header, which must say the same as the directory."""
    fields = _LOCAL.unpack(_read(file, entry.header, _LOCAL.size))
    mark, flags, method, crc, packed, size, name_length, extra_length = (fields[i] for i in (0, 2, 3, 6, 7, 8, 9, 10))
    name = _read(file, entry.header + _LOCAL.size, name_length)
    extra = _read(file, entry.header + _LOCAL.size + name_length, extra_length)
    _check_plain(mark == b"PK\3\4", flags, method)
    size, packed = _wide(extra, size, packed)
    unknown = flags & _DESCRIBED and size == packed == 0
    if _text(name) != entry.name or not (unknown or (size == packed == entry.size and crc == entry.crc)):
        raise Ambiguous("has an entry that its directory lists otherwise")
    return Entry(entry.header + _LOCAL.size + name_length + extra_length, entry.size, entry.crc)


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise Ambiguous("has an entry whose name is no text") from error


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    found = file.read(size)
    if len(found) != size:
        raise Ambiguous("is no whole zip archive: get it again")
    return found
