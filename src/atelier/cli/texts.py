"""Text files that people give to commands."""

from __future__ import annotations

from pathlib import Path

from atelier.errors import BadFile

UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""What texts begin with that Windows writes where a program's output is put into a file."""


def text_of(path: Path) -> str:
    """Raises BadFile."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error
    return decoded(path, data)


def decoded(path: Path, data: bytes) -> str:
    """The text of a file with these bytes. Raises BadFile for what is none."""
    encoding = "utf-16" if data.startswith(UTF_16_MARKS) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.upper().removesuffix("-SIG")
        raise BadFile(path, f"is no text in {name} (byte {error.start}): save it as UTF-8") from error
    if "\0" in text:
        raise BadFile(path, "is no text: it has a character of code 0")
    return text
