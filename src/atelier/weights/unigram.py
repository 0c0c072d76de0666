"""T5's tokenizer: SentencePiece's unigram model (Kudo 2018, arXiv:1804.10959), from either of its two files.

`spiece.model` is a message of protobuf, read here as data; `tokenizer.json` is what transformers makes of it.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram

from atelier.errors import BadFile
from atelier.weights.formats.atomic import new_file
from atelier.weights.formats.charsmap import flaw
from atelier.weights.formats.sentencepiece import Model, read_model
from atelier.weights.formats.text import read_text

PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"
EXTRA = tuple(f"<extra_id_{number}>" for number in reversed(range(100)))
"""What T5 was trained to fill in, in the order of its ids; spiece.model does not list them."""
SPACE = "▁"
POSITIONS = 256
"""Ids in a row, as diffusers' pipelines of Stable Diffusion 3 have them."""
WHOLE, PIECES, CONFIG = "tokenizer.json", "spiece.model", "tokenizer_config.json"
MAX_FILE = 50_000_000
MAX_PIECES = 1_000_000


@dataclass(frozen=True, eq=False)
class UnigramTokenizer:
    """Pieces with their scores in the order of their ids, how texts are normalised, and how long a row of ids is.

    charsmap: SentencePiece's compiled table of characters; empty: nothing is changed. unknown: the id of what no piece
    covers.
    """

    pieces: tuple[tuple[str, float], ...]
    charsmap: bytes
    unknown: int = 2
    positions: int = POSITIONS

    @classmethod
    def from_folder(cls, folder: Path) -> UnigramTokenizer:
        """Reads tokenizer.json, or else spiece.model, and the length beside it. Raises BadFile."""
        whole, pieces = folder / WHOLE, folder / PIECES
        if not whole.is_file() and not pieces.is_file():
            raise BadFile(folder, f"holds no tokenizer of T5: put its {PIECES} or {WHOLE} there")
        found = cls.from_file(whole if whole.is_file() else pieces)
        length = _object(_parsed(folder / CONFIG)).get("model_max_length") if (folder / CONFIG).is_file() else None
        if isinstance(length, int) and 2 <= length < POSITIONS:
            return cls(found.pieces, found.charsmap, found.unknown, length)
        return found

    @classmethod
    def from_file(cls, path: Path) -> UnigramTokenizer:
        """A tokenizer.json or a spiece.model. Raises BadFile."""
        if path.suffix == ".json":
            return _checked(path, _from_whole(path, _object(_parsed(path))))
        model = read_model(path, most=MAX_PIECES)
        return _checked(path, _from_model(model))

    @classmethod
    def from_json(cls, text: str, source: Path) -> UnigramTokenizer:
        """What `to_json` wrote; `source` is the file to name in a BadFile."""
        try:
            found = _object(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise BadFile(source, "holds a tokenizer that is not valid JSON") from error
        positions, unknown = found.get("positions"), found.get("unknown")
        if not isinstance(positions, int) or not 2 <= positions <= POSITIONS or not isinstance(unknown, int):
            raise BadFile(source, "holds a tokenizer of T5 without positions and unknown")
        charsmap = _decoded(source, found.get("charsmap"))
        return _checked(source, cls(_pieces(source, found.get("pieces")), charsmap, unknown, positions))

    def to_json(self) -> str:
        """The tokenizer as one text, for the metadata of a single file."""
        content = {
            "positions": self.positions,
            "unknown": self.unknown,
            "charsmap": base64.b64encode(self.charsmap).decode(),
            "pieces": self.pieces,
        }
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))

    def save(self, folder: Path) -> None:
        """Writes what transformers' T5Tokenizer reads. Raises BadFile or StorageFull."""
        folder.mkdir(parents=True, exist_ok=True)
        marks = {"eos_token": EOS, "unk_token": UNKNOWN, "pad_token": PAD}
        extra = sum(piece in EXTRA for piece, _ in self.pieces)
        config = {
            **marks,
            "extra_ids": extra,
            "model_max_length": self.positions,
            "tokenizer_class": "T5TokenizerFast",
        }
        contents = {
            WHOLE: self._backend.to_str(),
            "special_tokens_map.json": json.dumps(marks, indent=1),
            CONFIG: json.dumps(config, indent=1),
        }
        for name, text in contents.items():
            with new_file(folder / name) as file:
                file.write(text.encode())

    @property
    def size(self) -> int:
        """How many rows a token embedding needs."""
        return len(self.pieces)

    @property
    def eos(self) -> int:
        return self._ids[EOS]

    @property
    def pad(self) -> int:
        return self._ids[PAD]

    @property
    def comma(self) -> int:
        """The id of a comma behind a word, behind which long prompts are cut; -1 where there is none."""
        return self._ids.get(",", -1)

    def same_as(self, other: object) -> bool:
        """Whether both give the same rows for every text."""
        return isinstance(other, UnigramTokenizer) and (
            (self.pieces, self.charsmap, self.unknown, self.positions)
            == (other.pieces, other.charsmap, other.unknown, other.positions)
        )

    def encode(self, text: str) -> list[int]:
        """Ids without the end mark, as many as it takes."""
        return self._backend.encode(text, add_special_tokens=False).ids

    @functools.cached_property
    def _ids(self) -> Mapping[str, int]:
        return {piece: number for number, (piece, _) in enumerate(self.pieces)}

    @functools.cached_property
    def _backend(self) -> Tokenizer:
        backend = Tokenizer(Unigram(list(self.pieces), self.unknown, byte_fallback=False))
        if self.charsmap:
            backend.normalizer = normalizers.Precompiled(self.charsmap)
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.WhitespaceSplit(),
                pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=True),
            ]
        )
        special = [mark for mark in (PAD, EOS, UNKNOWN, *EXTRA) if mark in self._ids]
        backend.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in special])
        backend.post_processor = processors.TemplateProcessing(
            single=["$A", EOS], pair=["$A", EOS, "$B", EOS], special_tokens=[(EOS, self.eos)]
        )
        return backend


def _from_model(model: Model) -> UnigramTokenizer:
    listed = {piece for piece, _ in model.pieces}
    extra = [(piece, 0.0) for piece in EXTRA if piece not in listed]
    return UnigramTokenizer((*model.pieces, *extra), model.charsmap, model.unknown)


def _from_whole(path: Path, found: Mapping[str, object]) -> UnigramTokenizer:
    model = _object(found.get("model"))
    unknown = model.get("unk_id")
    if model.get("type") != "Unigram" or not isinstance(unknown, int):
        raise BadFile(path, f"is no tokenizer of T5: its model is {str(model.get('type'))[:40]!r}, no Unigram")
    charsmaps = list(_charsmaps(found.get("normalizer")))
    charsmap = _decoded(path, charsmaps[0]) if charsmaps else b""
    return UnigramTokenizer(_pieces(path, model.get("vocab")), charsmap, unknown)


def _charsmaps(normalizer: object) -> Iterable[object]:
    """Those of a normalizer, or of the normalizers that it is a sequence of."""
    own = _object(normalizer)
    if own.get("type") == "Precompiled":
        yield own.get("precompiled_charsmap")
    inner = own.get("normalizers")
    for item in cast("list[object]", inner) if isinstance(inner, list) else []:
        if _object(item).get("type") == "Precompiled":
            yield _object(item).get("precompiled_charsmap")


def _pieces(path: Path, found: object) -> tuple[tuple[str, float], ...]:
    if not isinstance(found, list) or not 0 < len(cast("list[object]", found)) <= MAX_PIECES:
        raise BadFile(path, "holds no list of pieces")
    return tuple(_piece(path, item) for item in cast("list[object]", found))


def _piece(path: Path, item: object) -> tuple[str, float]:
    if isinstance(item, Sequence) and len(cast("Sequence[object]", item)) == 2:
        piece, score = cast("Sequence[object]", item)
        if isinstance(piece, str) and isinstance(score, int | float):
            return piece, float(score)
    raise BadFile(path, f"holds a piece that is no text with a score: {str(cast('object', item))[:40]}")


def _checked(source: Path, tokenizer: UnigramTokenizer) -> UnigramTokenizer:
    known = {piece for piece, _ in tokenizer.pieces}
    for mark in (PAD, EOS):
        if mark not in known:
            raise BadFile(source, f"has a vocabulary without the token {mark}; it is no tokenizer of T5")
    if not 0 <= tokenizer.unknown < len(tokenizer.pieces):
        raise BadFile(source, f"says that the piece {tokenizer.unknown} is the unknown one, which it does not hold")
    if len(known) != len(tokenizer.pieces):
        raise BadFile(source, "holds a piece twice")
    problem = flaw(tokenizer.charsmap) if tokenizer.charsmap else None
    if problem is not None:
        raise BadFile(source, f"holds a damaged table of characters ({problem}): get it again")
    return tokenizer


def _decoded(source: Path, found: object) -> bytes:
    try:
        return base64.b64decode(found, validate=True) if isinstance(found, str) else b""
    except binascii.Error as error:
        raise BadFile(source, "holds a table of characters that is no base64") from error


def _parsed(path: Path) -> object:
    try:
        if path.stat().st_size > MAX_FILE:
            raise BadFile(path, "is too large for a tokenizer")
        return cast("object", json.loads(read_text(path)))
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error})") from error
    except (ValueError, RecursionError) as error:
        raise BadFile(path, "is not valid JSON") from error


def _object(found: object) -> dict[str, object]:
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}
