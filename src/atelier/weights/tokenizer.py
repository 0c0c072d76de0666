"""CLIP's byte-pair tokenizer: text to ids, from its merges, to and from the folder that diffusers models carry."""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import cast

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from atelier.errors import BadFile
from atelier.weights.formats.atomic import new_file
from atelier.weights.formats.safetensors import shown
from atelier.weights.formats.text import read_text

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
"""Words of CLIP: contractions, runs of letters, single digits, runs of anything else (Radford 2021's code)."""

END_OF_WORD = "</w>"
FILES = ("vocab.json", "merges.txt")
WHOLE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
MARKS = "special_tokens_map.json"
POSITIONS = 77
MAX_FILE = 50_000_000
MAX_POSITIONS = 10_000


@functools.cache
def byte_letters() -> tuple[str, ...]:
    """One printable character per byte, in the order of CLIP's vocabulary (GPT-2's byte table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return tuple(chr(b) for b in printable) + tuple(chr(256 + n) for n in range(len(others)))


@dataclass(frozen=True, eq=False)
class ClipTokenizer:
    """A vocabulary (token -> id), its merges in order, and how long a row of ids is.

    positions: ids per row with both marks; pad_token: what fills a row (SD 1 pads with the end mark, SD 2 with "!").
    """

    vocabulary: Mapping[str, int]
    merges: tuple[tuple[str, str], ...]
    positions: int = POSITIONS
    pad_token: str = EOS

    @classmethod
    def from_merges(cls, merges: Sequence[tuple[str, str]], positions: int = POSITIONS) -> ClipTokenizer:
        """The vocabulary that CLIP makes of a list of merges: bytes, bytes at the end of a word, merges, two marks."""
        letters = byte_letters()
        tokens = [*letters, *(letter + END_OF_WORD for letter in letters), *("".join(m) for m in merges), BOS, EOS]
        return cls({token: number for number, token in enumerate(tokens)}, tuple(merges), positions)

    @classmethod
    def from_folder(cls, folder: Path) -> ClipTokenizer:
        """Reads vocab.json and merges.txt, or else tokenizer.json, and the marks and length beside them.

        Raises BadFile naming the file that cannot be used.
        """
        config = _settings(folder)
        pad_token = _token(folder / CONFIG, config.get("pad_token", EOS))
        length = config.get("model_max_length", POSITIONS)
        positions = length if isinstance(length, int) and 2 < length <= MAX_POSITIONS else POSITIONS
        if (folder / FILES[0]).is_file() or not (folder / WHOLE).is_file():
            vocabulary = _vocabulary(folder / FILES[0], _json(folder / FILES[0]))
            merges = _pairs(folder / FILES[1], _lines(folder / FILES[1]))
        else:
            vocabulary, merges = _whole(folder / WHOLE)
        return _checked(folder, cls(vocabulary, merges, positions, pad_token))

    @classmethod
    def from_json(cls, text: str, source: Path) -> ClipTokenizer:
        """What `to_json` wrote; `source` is the file to name in a BadFile."""
        try:
            found = _object(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise BadFile(source, "holds a tokenizer that is not valid JSON") from error
        vocabulary = _vocabulary(source, _object(found.get("vocabulary")))
        positions, pad = found.get("positions"), found.get("pad_token")
        if not isinstance(positions, int) or not 2 < positions <= MAX_POSITIONS or not isinstance(pad, str):
            raise BadFile(source, "holds a tokenizer without positions and pad_token")
        return _checked(source, cls(vocabulary, _pairs(source, found.get("merges")), positions, pad))

    def to_json(self) -> str:
        """The tokenizer as one text, for the metadata of a single file."""
        merges = [" ".join(pair) for pair in self.merges]
        content = {"positions": self.positions, "pad_token": self.pad_token, "merges": merges}
        return json.dumps({**content, "vocabulary": dict(self.vocabulary)}, ensure_ascii=False, separators=(",", ":"))

    def save(self, folder: Path) -> None:
        """Writes the four files that transformers' CLIPTokenizer reads. Raises BadFile or StorageFull."""
        folder.mkdir(parents=True, exist_ok=True)
        marks = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": self.pad_token}
        config = {
            **marks,
            "model_max_length": self.positions,
            "tokenizer_class": "CLIPTokenizer",
            "do_lower_case": True,
        }
        merges = "\n".join(["#version: 0.2", *(" ".join(merge) for merge in self.merges), ""])
        contents = {
            FILES[0]: json.dumps(dict(self.vocabulary), ensure_ascii=False),
            FILES[1]: merges,
            MARKS: json.dumps(marks, indent=1),
            CONFIG: json.dumps(config, indent=1),
        }
        for name, text in contents.items():
            with new_file(folder / name) as file:
                file.write(text.encode())

    @property
    def size(self) -> int:
        """How many rows a token embedding needs: one more than the largest id."""
        return max(self.vocabulary.values()) + 1

    @property
    def bos(self) -> int:
        return self.vocabulary[BOS]

    @property
    def eos(self) -> int:
        return self.vocabulary[EOS]

    @property
    def pad(self) -> int:
        return self.vocabulary[self.pad_token]

    @property
    def comma(self) -> int:
        """The id of a comma, behind which long prompts are cut."""
        return self.encode(",")[0]

    def same_as(self, other: object) -> bool:
        """Whether both give the same rows for every text."""
        return (
            isinstance(other, ClipTokenizer)
            and (self.merges, self.positions, self.pad_token)
            == (
                other.merges,
                other.positions,
                other.pad_token,
            )
            and dict(self.vocabulary) == dict(other.vocabulary)
        )

    def encode(self, text: str) -> list[int]:
        """Ids without marks, as many as it takes."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def ids(self, text: str) -> list[int]:
        """A row of `positions` ids: start mark, text (cut to fit), end mark, padding."""
        inner = self.encode(text)[: self.positions - 2]
        row = [self.bos, *inner, self.eos]
        return row + [self.pad] * (self.positions - len(row))

    @functools.cached_property
    def _backend(self) -> Tokenizer:
        model = BPE(dict(self.vocabulary), list(self.merges), end_of_word_suffix=END_OF_WORD, unk_token=EOS)
        backend = Tokenizer(model)
        backend.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        backend.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in (BOS, EOS)])
        return backend


@functools.cache
def standard() -> ClipTokenizer:
    """The tokenizer of CLIP-L and of every Stable Diffusion 1.x: 49,408 tokens, rows of 77."""
    packed = files("atelier").joinpath("data", "clip", "merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    return ClipTokenizer.from_merges([(left, right) for left, right in (line.split(" ") for line in lines)])


def _checked(source: Path, tokenizer: ClipTokenizer) -> ClipTokenizer:
    vocabulary = tokenizer.vocabulary
    for mark in (BOS, EOS, tokenizer.pad_token):
        if mark not in vocabulary:
            raise BadFile(source, f"has a vocabulary without the token {shown(mark)}; it is no CLIP tokenizer")
    for left, right in tokenizer.merges:
        if left not in vocabulary or right not in vocabulary or left + right not in vocabulary:
            raise BadFile(source, f"merges {shown(left)} and {shown(right)}, which its vocabulary does not hold")
    return tokenizer


def _settings(folder: Path) -> dict[str, object]:
    """Marks and length, from both files that may hold them."""
    found: dict[str, object] = {}
    for name in (MARKS, CONFIG):
        if (folder / name).is_file():
            found |= _json(folder / name)
    return found


def _token(path: Path, found: object) -> str:
    """A token is stored as text or as an object that says more about it."""
    content = found if isinstance(found, str) else _object(found).get("content")
    if not isinstance(content, str):
        raise BadFile(path, "has a pad_token that is no token")
    return content


def _whole(path: Path) -> tuple[dict[str, int], tuple[tuple[str, str], ...]]:
    """Vocabulary and merges of a tokenizer.json, whose marks may stand apart."""
    found = _json(path)
    model = _object(found.get("model"))
    vocabulary = _object(model.get("vocab"))
    added = found.get("added_tokens")
    for token in cast("list[object]", added) if isinstance(added, list) else []:
        entry = _object(token)
        if isinstance(content := entry.get("content"), str):
            vocabulary.setdefault(content, entry.get("id"))
    return _vocabulary(path, vocabulary), _pairs(path, model.get("merges"))


def _vocabulary(path: Path, found: Mapping[str, object]) -> dict[str, int]:
    ids = list(found.values())
    if not ids or not all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i < 10_000_000 for i in ids):
        raise BadFile(path, "holds no vocabulary: tokens with whole numbers are needed")
    if len(set(ids)) != len(ids):
        raise BadFile(path, "holds a vocabulary that gives one id to two tokens")
    return cast("dict[str, int]", dict(found))


def _lines(path: Path) -> list[object]:
    return [line for line in _text(path).split("\n") if line.strip() and not line.startswith("#version")]


def _pairs(path: Path, found: object) -> tuple[tuple[str, str], ...]:
    """Merges, each written as "left right" or as a list of two."""
    if not isinstance(found, list):
        raise BadFile(path, "holds no list of merges")
    pairs = [_pair(path, item) for item in cast("list[object]", found)]
    return tuple(pairs)


def _pair(path: Path, item: object) -> tuple[str, str]:
    parts = item.split() if isinstance(item, str) else item
    if isinstance(parts, list) and len(cast("list[object]", parts)) == 2:
        left, right = cast("list[object]", parts)
        if isinstance(left, str) and isinstance(right, str):
            return left, right
    raise BadFile(path, f"holds a merge that is no pair of tokens: {shown(str(cast('object', item)))}")


def _json(path: Path) -> dict[str, object]:
    try:
        content = cast("object", json.loads(_text(path)))
    except (ValueError, RecursionError) as error:
        raise BadFile(path, "is not valid JSON") from error
    if not isinstance(content, dict):
        raise BadFile(path, "holds no JSON object")
    return cast("dict[str, object]", content)


def _object(found: object) -> dict[str, object]:
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE:
            raise BadFile(path, "is too large for a tokenizer")
        return read_text(path)
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error})") from error
