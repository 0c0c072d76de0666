"""The process that settles what is asked for: it opens headers and images, holds no network, and answers at once."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from atelier.errors import AtelierError, BadInput, UnknownName
from atelier.request.events import Json
from atelier.request.infotext import to_request
from atelier.request.infotext.image import TEXT_KEY, read_image
from atelier.request.table import FIELDS, request_of, said
from atelier.runtime.jobs.job import TooLarge
from atelier.runtime.store import FORMATS, check_fits, encoded
from atelier.runtime.workers.catalogue import listed
from atelier.runtime.workers.child import error_data, leave
from atelier.runtime.workers.handed import checked
from atelier.runtime.workers.kind import Bench, kinds
from atelier.runtime.workers.kinds.teach import forecast
from atelier.runtime.workers.messages import BadMessage, Channel, Closed, Message
from atelier.runtime.workers.names import shown
from atelier.runtime.workers.pictures import THUMBNAIL, jpeg
from atelier.runtime.workers.places import places_of, without_places
from atelier.runtime.workers.prompting import explained
from atelier.runtime.workers.shelf import card, shelf
from atelier.weights.hashes import HashCache

if TYPE_CHECKING:
    from PIL.Image import Image

    from atelier.request.infotext import Infotext
    from atelier.runtime.engine import Engine
    from atelier.runtime.index import Index
    from atelier.runtime.workers.handed import HandedImages
    from atelier.runtime.workers.kind import Most

MOST_TEXT = 1_000_000
"""Characters of each text that an image carries."""
MOST_SAID = 4 * 2**20
"""Bytes of these texts together, as messages write them: six or twelve for most letters. The infotext is told twice."""
LETTER = 12
"""Bytes of a letter there, at most."""
_OTHERS = frozenset({"overwrite", "name", "blocks", "prior", "like", "dtype"})
"""Fields of other kinds of jobs than generating, by the flags of the command line."""
_FLAG = re.compile(r"(?<!\S)--([a-z][a-z-]*)")
Answer = tuple[dict[str, Json], tuple[bytes, ...]]


class Resolver:
    """Answers the calls of the server, one after the other, over `way`."""

    def __init__(
        self, way: Channel, engine: Engine, images: HandedImages, most: Most, hashes: HashCache, index: Index
    ) -> None:
        self._way, self._engine, self._images, self._most, self._hashes = way, engine, images, most, hashes
        self._index = index
        self._bench = Bench(engine, images, most)
        self._calls: Mapping[str, Callable[[Message], Answer]] = {
            "settle": self._settle,
            "catalogue": self._catalogue,
            "model": self._model,
            "read": self._read,
            "rendition": self._rendition,
            "thumbnail": self._thumbnail,
            "explain": self._explain,
            "wildcards": self._wildcards,
            "shelf": self._shelf,
            "card": self._card,
            "forecast": self._forecast,
            "folders": self._folders,
        }

    def run(self) -> None:
        """Until the server is gone."""
        kinds()
        self._engine.settle(request_of({"prompt": "a first request, so that the next ones are quick"}))
        try:
            self._way.send(Message("ready"))
            while True:
                self._answer(self._way.receive())
        except (Closed, BadMessage):
            leave()

    def _answer(self, call: Message) -> None:
        """Raises Closed. Of an answer that no message holds nothing was sent yet."""
        try:
            self._way.send(self._answered(call))
        except BadMessage as error:
            self._way.send(self._refused(call, error))

    def _answered(self, call: Message) -> Message:
        try:
            data, blobs = self._calls[call.kind](call)
        except Exception as error:  # noqa: BLE001 - whatever is asked, the next one is answered too
            return self._refused(call, error)
        finally:
            self._images.hold({})
        return Message("answer", {"number": call.data["number"], **data}, blobs)

    def _refused(self, call: Message, error: Exception) -> Message:
        return Message("refused", {"number": call.data["number"], "error": self._without_places(error_data(error))})

    def _settle(self, call: Message) -> Answer:
        """The job as it is committed. Raises BadInput that names a field."""
        what, fields = call.text("what"), call.object("fields")
        if what not in kinds():
            raise UnknownName("kind of job", what, kinds())
        names = cast("list[str]", call.data["images"])
        self._images.hold(dict(zip(names, call.blobs, strict=True)))
        if what == "generate" and fields.get("model") is None and call.data.get("model") is not None:
            fields = {**fields, "model": call.data["model"]}
        try:
            settled = kinds()[what].settle(fields, self._bench)
        except AtelierError as error:
            raise _naming_field(error, call.object("fields")) from error
        data: dict[str, Json] = {
            "resolved": dict(settled.resolved or {}),
            "cost": settled.cost,
            "uploads": [*settled.uploads],
            "warnings": [self._without_place(warning) for warning in settled.warnings],
        }
        return data, ()

    def _catalogue(self, _: Message) -> Answer:
        return listed(self._engine, self._hashes), ()

    def _model(self, call: Message) -> Answer:
        """The name of a model as it is listed. Raises UnknownName."""
        found = self._engine.library.find(call.text("model"))
        self._engine.resources.open(found.path)
        return {"model": found.name}, ()

    def _shelf(self, _: Message) -> Answer:
        return {"files": shelf(self._engine.library, self._index)}, ()

    def _card(self, call: Message) -> Answer:
        """Hashes that a worker computed meanwhile are known, too. Raises BadInput, BadFile."""
        hashes = HashCache(self._hashes.path)
        return {"card": card(self._engine.library, hashes, call.text("id"))}, ()

    def _forecast(self, call: Message) -> Answer:
        return dict(forecast(call.object("fields"), self._bench)), ()

    def _folders(self, _: Message) -> Answer:
        return {"folders": [str(folder.absolute()) for folder in self._engine.library.folders]}, ()

    def _read(self, call: Message) -> Answer:
        """What an image says of itself. Raises BadFile, TooLarge."""
        (data,) = call.blobs
        source = checked(data, "image", self._most)
        texts = _bounded(source.texts)
        found = read_image(data)
        told: dict[str, Json] = {
            "width": source.image.width,
            "height": source.image.height,
            "format": _format(data),
            "infotext": texts.get(TEXT_KEY, ""),
            "items": cast("dict[str, Json]", texts),
            "fields": {} if found is None else _fields(found),
        }
        return told, ()

    def _rendition(self, call: Message) -> Answer:
        image = self._opened(call)
        kind, text = call.text("format"), call.text("infotext")
        if kind == "png":
            return {}, (encoded(image, text),)
        return {}, (_lossy(image, text, kind, int(call.number("quality"))),)

    def _thumbnail(self, call: Message) -> Answer:
        return {}, (jpeg(self._opened(call), THUMBNAIL),)

    def _explain(self, call: Message) -> Answer:
        """What a prompt means. Raises BadInput, UnknownName."""
        return explained(call, self._engine.words), ()

    def _wildcards(self, _: Message) -> Answer:
        return {"names": [*self._engine.words.wildcards()]}, ()

    def _opened(self, call: Message) -> Image:
        from PIL import Image

        (data,) = call.blobs
        return Image.open(io.BytesIO(data), formats=("PNG",))

    def _without_places(self, error: dict[str, Json]) -> dict[str, Json]:
        return {**error, "message": self._without_place(str(error["message"]))}

    def _without_place(self, text: str) -> str:
        return as_fields(without_places(text, places_of(self._engine)))


def as_fields(text: str) -> str:
    """A message with the fields that clients know in place of the flags of the command line."""
    return _FLAG.sub(_as_field, text)


def _as_field(flag: re.Match[str]) -> str:
    """A flag of the command line as the field that clients know; another text as it is."""
    name = flag[1].replace("-", "_")
    return name if name in FIELDS or name in _OTHERS else flag[0]


def _naming_field(error: AtelierError, fields: Mapping[str, Json]) -> AtelierError:
    """The error with the name of the field in place of that of an upload."""
    text = str(error)
    for name, value in fields.items():
        if isinstance(value, str) and value.startswith("upload:") and text.startswith(shown(value)):
            named = name + text.removeprefix(shown(value))
            made = TooLarge(named) if isinstance(error, TooLarge) else BadInput(named)
            made.field = name
            return made
    return error


def _bounded(texts: Mapping[str, str]) -> dict[str, str]:
    """The texts, the infotext first, as long as one message holds them."""
    kept: dict[str, str] = {}
    left = MOST_SAID
    for key, text in texts.items():
        whole = text[:MOST_TEXT]
        kept[key] = whole if len(json.dumps(whole)) <= left else whole[: left // LETTER]
        left = max(0, left - len(json.dumps(kept[key])))
    return kept


def _fields(found: Infotext) -> dict[str, Json]:
    """The request that an infotext asks for, as far as one can be made of it; only what it says."""
    try:
        return said(to_request(found))
    except BadInput:
        return {}


def _format(data: bytes) -> str:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        return (opened.format or "").lower()


def _lossy(image: Image, text: str, kind: str, quality: int) -> bytes:
    """Raises BadInput for a text that the format does not hold."""
    from atelier.request.infotext.image import save_options

    buffer = io.BytesIO()
    seen = image.convert("RGB") if kind == "jpeg" else image
    check_fits(seen, text, FORMATS[f".{kind}"])
    seen.save(buffer, format=kind.upper(), quality=quality, **save_options(kind, text))
    return buffer.getvalue()
