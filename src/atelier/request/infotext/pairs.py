"""The pairs of a parameter line: `Steps: 20, Sampler: Euler a, Lora hashes: "a: 12, b: 34"`, both ways.

A key is a word character and one or more word characters, spaces, - or /. A value is a JSON string, a JSON list or
object, or everything up to the next comma.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_TO_SIGN = re.compile(r"(?:[\w \-/]*+[^\w \-/,:]++|(?<![\w \-/]):)*+([\w \-/]*+)([,:]|\Z)")
"""Up to the next comma, or the next colon that a key may stand before: (what may be the key, the sign)."""
_QUOTE = re.compile(r'\s*+"')
_PLAIN = re.compile(r'\s*+(?!["\[{])([^,]*+),?+')
_KEY = re.compile(r"\w[\w \-/]++")
_STRING = re.compile(r'"(?:\\.|[^\\"])*+"', re.DOTALL)
_END = re.compile(r"[^\S\n]*+(?:[,\n]|\Z)")
_LIST = re.compile(r"\[[\w\s.+\-,]*+\]")
"""A list of numbers or words without quotes, which may end in a comma."""
_SPACE = re.compile(r"\s*+")
_DECODER = json.JSONDecoder()
_MAX_FAILED = 20
"""So many broken JSON values are tried in one text before brackets count as plain characters."""


class Pair(NamedTuple):
    """One pair. `at` is where its key begins in the line; a quoted value without a key has the key ""."""

    key: str
    value: str
    at: int = 0
    was_quoted: bool = False


def split_pairs(text: str) -> tuple[Pair, ...]:
    """All pairs of a text, in order; what is no pair is passed over. Never raises, linear time.

    A bare text between commas (a pair whose value is its key is written so) comes as key and value.
    """
    return tuple(each_pair(text))


def each_pair(text: str) -> Iterator[Pair]:
    """`split_pairs`, one pair after the other: for those who need only the first few."""
    return _Reader(text).pairs()


def joined(pairs: Iterable[tuple[str, object]]) -> str:
    """The parameter line: pairs without a value are left out, a pair whose value is its key is written bare."""
    return ", ".join(key if key == value else f"{key}: {quoted(value)}" for key, value in pairs if value is not None)


def quoted(value: object) -> str:
    """A value as text; as a JSON string where a comma, a colon or a line break would end it early, or where it would
    be read back as something else."""
    text = str(value)
    plain = text == text.strip() and not text.startswith('"') and not any(c in text for c in ",:\n\r")
    return text if plain else json_text(text)


def json_text(text: str) -> str:
    """A text as a JSON string, in its own letters."""
    return json.dumps(text, ensure_ascii=False)


def unquoted(value: str) -> str:
    """The text of a JSON string; the value itself if it is none."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    try:
        found = json.loads(value, strict=False)
    except ValueError:
        return value
    return found if isinstance(found, str) else value


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.failed = 0

    def pairs(self) -> Iterator[Pair]:
        """Every pair; `start` is where the piece between commas begins that is being read."""
        start = at = 0
        while start < len(self.text):
            if at == start and (quote := _QUOTE.match(self.text, at)) and (end := self._string_end(quote.end() - 1)):
                begin = quote.end() - 1
                yield Pair("", unquoted(self.text[begin:end]), begin, was_quoted=True)
                start = at = self._past_comma(end)
                continue
            found = _TO_SIGN.match(self.text, at)
            run, sign = found.groups() if found else ("", "")
            at = found.end() if found else len(self.text)
            key = run.lstrip(" -/")
            if sign != ":":
                yield from self._bare(start, at - len(sign))
                start = at
            elif len(key) > 1:
                pair, start = self._pair(key, at)
                at = start
                yield pair

    def _pair(self, key: str, at: int) -> tuple[Pair, int]:
        """The pair whose value begins behind `at`, and where the next piece begins. Its key ends before `at` - 1."""
        key_at = at - 1 - len(key)
        if plain := _PLAIN.match(self.text, at):
            return Pair(key, plain[1].rstrip(), key_at), plain.end()
        space = _SPACE.match(self.text, at)
        begin = space.end() if space else at
        end = self._string_end(begin)
        if end:
            return Pair(key, unquoted(self.text[begin:end]), key_at, was_quoted=True), self._past_comma(end)
        end = self._json_end(begin) or self._comma(begin)
        return Pair(key, self.text[begin:end].strip(), key_at), self._past_comma(end)

    def _string_end(self, at: int) -> int:
        """Where the JSON string ends that begins at `at` and is a whole value; 0 if there is none."""
        found = _STRING.match(self.text, at)
        return found.end() if found and _END.match(self.text, found.end()) else 0

    def _json_end(self, at: int) -> int:
        """Where the JSON list or object ends that begins at `at` and is a whole value; 0 if there is none."""
        if self.text[at : at + 1] not in {"[", "{"} or self.failed >= _MAX_FAILED:
            return 0
        try:
            _, end = _DECODER.raw_decode(self.text, at)
        except (ValueError, RecursionError):
            self.failed += 1
            found = _LIST.match(self.text, at)
            end = found.end() if found else 0
        return end if end and _END.match(self.text, end) else 0

    def _comma(self, at: int) -> int:
        comma = self.text.find(",", at)
        return len(self.text) if comma < 0 else comma

    def _past_comma(self, at: int) -> int:
        found = _END.match(self.text, at)
        return found.end() if found else at

    def _bare(self, start: int, end: int) -> Iterator[Pair]:
        text = self.text[start:end].strip()
        if _KEY.fullmatch(text):
            yield Pair(text, text, start)
