"""Where images carry their infotext: PNG text chunks, EXIF UserComment in JPEG, WebP and AVIF, GIF comments, XMP, and
the lowest bits of pixels. Bytes come in; nothing is opened here."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html import unescape
from typing import TYPE_CHECKING

from atelier.errors import BadInput
from atelier.request.infotext.dialects.invokeai import read_command
from atelier.request.infotext.dialects.plain import read_chunks
from atelier.request.infotext.fields import as_fields
from atelier.request.infotext.read import read, read_object
from atelier.request.infotext.record import Infotext
from atelier.request.infotext.stealth import stealth_text
from atelier.request.infotext.text import LATER

if TYPE_CHECKING:
    from PIL.Image import Image

TEXT_KEY = "parameters"
EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
MAX_TEXT = 16_000_000
_JIS, _CODES = b"JIS\0\0\0\0\0", (b"ASCII\0\0\0", b"\0" * 8)
_ASCII_MARKS = (b"Steps: ", b'{"')
"""What stands in infotexts; in UTF-16 it has zero bytes. Some programs write UTF-8 and call it UNICODE."""
_GRAPH_TAGS = (0x0110, 0x010F, 0x010E)
"""Model, Make and ImageDescription, where ComfyUI's savers of WebP and JPEG write `prompt:{…}`, and
SwarmUI's the object alone."""
_GRAPH = "prompt:"
_LATER = ("postprocessing", "extras")
"""PNG chunks in which A1111 says what was done to an image that was finished."""


class Unreadable(BadInput):
    """Bytes that are no image, or one that cannot be decoded."""


def read_image(data: bytes) -> Infotext | None:
    """The infotext that an image carries; None if it carries none. Raises Unreadable."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore")
            return _carried(image)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise Unreadable(f"is no image that can be read ({_reason(error)})") from error


def user_comment(text: str) -> bytes:
    """The EXIF block whose UserComment is the text, for JPEG, WebP and AVIF: UNICODE and UTF-16, big endian."""
    comment = b"UNICODE\0" + text.encode("utf-16-be", "surrogatepass")
    head = b"MM\0*\0\0\0\x08"
    first = _directory(EXIF_IFD, 4, 1, 26)
    return b"Exif\0\0" + head + first + _directory(USER_COMMENT, 7, len(comment), 44) + comment


def save_options(image_format: str, text: str) -> dict[str, object]:
    """What Pillow's `save` is given so that an image of that format (PNG, JPEG, WEBP, AVIF, GIF) carries the text.

    Raises BadInput for other formats.
    """
    match image_format.upper():
        case "PNG":
            from PIL.PngImagePlugin import PngInfo

            chunks = PngInfo()
            if _is_misread(text):
                chunks.add_itxt(TEXT_KEY, text)
            else:
                chunks.add_text(TEXT_KEY, text)
            return {"pnginfo": chunks}
        case "JPEG" | "WEBP" | "AVIF":
            return {"exif": user_comment(text)}
        case "GIF":
            return {"comment": text.encode()}
        case _:
            raise BadInput(f"{image_format} cannot carry an infotext: save as PNG, JPEG, WebP, AVIF or GIF")


def decode_comment(raw: bytes) -> str:
    """The text of a UserComment: after its eight bytes of code, in either byte order, or plain UTF-8."""
    if raw.startswith(b"UNICODE\0"):
        is_utf8 = b"\0" not in raw[8:] and any(mark in raw for mark in _ASCII_MARKS)
        return raw[8:].decode("utf-8", "replace") if is_utf8 else _utf16(raw[8:])
    if raw.startswith(_JIS):
        return raw[8:].decode("iso2022_jp", "replace").strip("\0")
    return _text(raw[8:] if raw.startswith(_CODES) else raw).strip("\0")


def _carried(image: Image) -> Infotext | None:
    """A UserComment comes before the chunks (A1111's order). What is no more than text counts in `parameters` alone:
    anybody writes comments."""
    found = _parsed(_exif_comment(image)) or _from_chunks(_texts(image)) or _from_exif(image) or _from_xmp(image)
    if found is None and image.format == "PNG":
        image.load()  # chunks behind the pixels are read with them
        found = _from_chunks(_texts(image)) or _parsed(stealth_text(image) or "")
    return found or _from_comment(image)


def _parsed(text: str) -> Infotext | None:
    """The infotext that a text is, unless it is text alone."""
    found = read(text) if text.strip() else None
    return None if found is None or found.dialect == "text" else found


def _texts(image: Image) -> dict[str, str]:
    return {str(key): _decoded(value) for key, value in image.info.items() if isinstance(value, str)}


def _decoded(text: str) -> str:
    """A text whose bytes Pillow took for Latin-1: programs write UTF-8 into places that are not meant for it. What
    has letters of its own, as that of an international chunk, is what it is."""
    from PIL.PngImagePlugin import iTXt

    try:
        return text if isinstance(text, iTXt) else text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return str(text)


def _is_misread(text: str) -> bool:
    """Whether the bytes of a text in Latin-1 would be read as another text in UTF-8."""
    return _decoded(text) != text


def _text(raw: object) -> str:
    """The text of a comment: UTF-8 where its bytes are that, else Latin-1."""
    return _decoded(raw.decode("latin-1") if isinstance(raw, bytes) else raw if isinstance(raw, str) else str(raw))


def _from_chunks(info: Mapping[str, str]) -> Infotext | None:
    """The infotext of the text chunks of a PNG, with what was done to the image when it was finished."""
    found = _first_of_chunks(info)
    later = next((text for key in _LATER if (text := info.get(key, "").strip()).startswith(LATER)), "")
    if not later:
        return found
    pairs = () if found is None else found.pairs
    new = tuple(pair for pair in read(later).pairs if pair not in pairs)
    return read(later) if found is None else replace(found, pairs=(*pairs, *new))


def _first_of_chunks(info: Mapping[str, str]) -> Infotext | None:
    """A1111's text, then those of other programs, then one field in each chunk."""
    text = info.get(TEXT_KEY, "")
    if text.strip() and not as_fields(text.strip()):
        return read(text)
    if found := _parsed(text):
        return found
    if info.get("Software") == "NovelAI" and (found := read_object(info)):
        return found
    for found in _from_json(info):
        if found is not None:
            return found
    dream = read_command(info["Dream"]) if "Dream" in info else None
    return dream or read_chunks(info)


def _from_json(info: Mapping[str, str]) -> Iterator[Infotext | None]:
    for key in ("invokeai_metadata", "sd-metadata", "Comment", "UserComment", "generation_data", "prompt"):
        yield read_object(as_fields(info[key])) if key in info else None


def _exif_comment(image: Image) -> str:
    """Fooocus and some savers put the UserComment into the main directory."""
    exif = image.getexif()
    raw = exif.get_ifd(EXIF_IFD).get(USER_COMMENT) or exif.get(USER_COMMENT, b"")
    return decode_comment(raw) if isinstance(raw, bytes) else _text(raw)


def _from_exif(image: Image) -> Infotext | None:
    exif = image.getexif()
    for text in (_text(exif.get(tag, "")) for tag in _GRAPH_TAGS):
        is_named = text[: len(_GRAPH)].casefold() == _GRAPH
        if found := read_object(as_fields(text[len(_GRAPH) :] if is_named else text)):
            return found
    return None


def _from_xmp(image: Image) -> Infotext | None:
    raw = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or ""
    text = _text(raw)
    comment = _between(text[:MAX_TEXT], "<exif:UserComment", "</exif:UserComment>")
    return _parsed(unescape(_between(comment, "<rdf:li", "</rdf:li>") or comment))


def _between(text: str, opening: str, closing: str) -> str:
    """What stands in the first element that begins so; linear in the text."""
    start = text.find(opening)
    begin = text.find(">", start) + 1 if start >= 0 else 0
    end = text.find(closing, begin) if begin else -1
    return text[begin:end] if end >= 0 else ""


def _from_comment(image: Image) -> Infotext | None:
    return _parsed(_text(image.info.get("comment", b"")))


def _utf16(raw: bytes) -> str:
    """Whichever byte order makes more Latin of it; big endian, the usual one, where neither does."""
    big, little = (raw.decode(f"utf-16-{order}", "replace").strip("\0\ufeff") for order in ("be", "le"))
    return little if _latin(little) > _latin(big) else big


def _latin(text: str) -> int:
    return sum(character < "\u0250" for character in text)


def _directory(tag: int, kind: int, count: int, value: int) -> bytes:
    """An EXIF directory of one entry, and no other behind it."""
    return b"".join(
        n.to_bytes(size, "big") for n, size in ((1, 2), (tag, 2), (kind, 2), (count, 4), (value, 4), (0, 4))
    )


def _reason(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0]
    return "its format is not known" if "cannot identify" in text else text[:80] or type(error).__name__
