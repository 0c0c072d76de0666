"""Text files that people and other programs write."""

from __future__ import annotations

from pathlib import Path

from atelier.errors import BadFile


def read_text(path: Path) -> str:
    """A text in UTF-8, with or without a byte order mark. Raises BadFile for any other bytes, saying how to save it."""
    try:
        return decoded(path.read_bytes(), path)
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error


def decoded(data: bytes, path: Path) -> str:
    """The text of these bytes of a file. Raises BadFile."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(path, f"is no text in UTF-8 (byte {error.start}): save it as UTF-8") from error
    if "\0" in text:  # UTF-16 without its mark reads so
        raise BadFile(path, "is no text in UTF-8 (it has a character of code 0): save it as UTF-8")
    return text
