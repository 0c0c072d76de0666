"""T5's tokenizer against transformers', from both of its files."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from atelier.errors import BadFile
from atelier.weights.formats.charsmap import flaw
from atelier.weights.unigram import UnigramTokenizer
from unigram_support import PIECES, charsmap, spiece_model

TEXTS = (
    "a cat",
    "a red cat, a  cat",
    " cats\nred",
    "a ﬁred Ａ cat",
    "dog (cat)",
    "",
    "cat</s>a",
    "a <extra_id_3> cat",
    "🐈 cat",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spm")
    (folder / "spiece.model").write_bytes(spiece_model())
    return folder


@pytest.fixture(scope="module")
def theirs() -> Any:
    """As transformers makes it of what SentencePiece's own reader finds in the file."""
    from transformers import T5Tokenizer

    extra = [(f"<extra_id_{number}>", 0.0) for number in range(99, -1, -1)]
    vocabulary = [*((piece, score) for piece, score, _ in PIECES), *extra]
    return T5Tokenizer(vocab=vocabulary, _spm_precompiled_charsmap=charsmap())


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_transformers(text: str, folder: Path, theirs: Any) -> None:
    ours = UnigramTokenizer.from_folder(folder)
    assert [*ours.encode(text), ours.eos] == theirs(text).input_ids
    assert (ours.size, ours.pad, ours.eos) == (len(PIECES) + 100, 0, 1)


def test_what_is_not_covered_is_unknown_and_characters_are_changed_first(folder: Path) -> None:
    """By hand: ﬁ becomes the piece fi, Ａ an a; the letters of "dog" are d and what no piece has."""
    ours = UnigramTokenizer.from_folder(folder)
    assert ours.encode("ﬁ Ａ dog") == [3, 14, 4, 3, 13, 2]
    assert ours.comma == 10


def test_what_is_saved_is_read_by_transformers_and_by_us(folder: Path, theirs: Any, tmp_path: Path) -> None:
    from transformers import T5TokenizerFast

    ours = UnigramTokenizer.from_folder(folder)
    ours.save(tmp_path)
    saved = T5TokenizerFast.from_pretrained(tmp_path)
    again = UnigramTokenizer.from_folder(tmp_path)
    assert again.same_as(ours)
    assert UnigramTokenizer.from_json(ours.to_json(), tmp_path).same_as(ours)
    for text in TEXTS:
        assert saved(text).input_ids == theirs(text).input_ids, text
    shorter = UnigramTokenizer(ours.pieces, ours.charsmap, ours.unknown, positions=12)
    assert not shorter.same_as(ours)
    shorter.save(tmp_path)
    assert UnigramTokenizer.from_folder(tmp_path).same_as(shorter)


def _whole(**changes: object) -> str:
    model = {"type": "Unigram", "unk_id": 2, "vocab": [[piece, score] for piece, score, _ in PIECES]}
    return json.dumps({"model": model | changes, "normalizer": None})


BROKEN = {
    "nothing": (None, "holds no tokenizer of T5: put its spiece.model or tokenizer.json there"),
    "a tokenizer of CLIP": (_whole(type="BPE"), "its model is 'BPE', no Unigram"),
    "no pieces": (_whole(vocab={}), "holds no list of pieces"),
    "a piece without score": (_whole(vocab=[["<pad>"]]), "holds a piece that is no text with a score"),
    "no end": (_whole(vocab=[["<pad>", 0.0]]), "without the token </s>"),
    "an unknown piece": (_whole(unk_id=99), "says that the piece 99 is the unknown one"),
    "a piece twice": (_whole(vocab=[["<pad>", 0], ["</s>", 0], ["a", 0], ["a", 0]]), "holds a piece twice"),
    "no JSON": ("{", "is not valid JSON"),
    "empty": (b"", "is no model of SentencePiece (no pieces)"),
    "cut off": (spiece_model()[:-1], "is no model of SentencePiece (cut off)"),
    "bytes": (b"\xff" * 40, "a number of more than 64 bits"),
    "a strange field": (b"\x0b", "wire type 3"),
    "BPE": (spiece_model(kind=2), "not a unigram model"),
    "a table that is none": (spiece_model(table=b"abc"), "holds a damaged table of characters (it is cut off)"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_tokenizer_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    content, said = BROKEN[case]
    if isinstance(content, str):
        (tmp_path / "tokenizer.json").write_text(content)
    elif content is not None:
        (tmp_path / "spiece.model").write_bytes(content)
    with pytest.raises(BadFile) as caught:
        UnigramTokenizer.from_folder(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


UNIT = struct.Struct("<I")


def _unit(table: bytes, at: int, change: Callable[[int], int]) -> bytes:
    """The table with one unit of its trie changed."""
    (own,) = UNIT.unpack_from(table, 4 + 4 * at)
    return table[: 4 + 4 * at] + UNIT.pack(change(own)) + table[8 + 4 * at :]


def _leaf(table: bytes) -> int:
    (size,) = UNIT.unpack_from(table)
    return next(at for at in range(size // 4) if UNIT.unpack_from(table, 4 + 4 * at)[0] >> 31)


TABLE = charsmap((("ﬁ", "fi"), ("Ａ", "é")))
FLAWS: Mapping[str, tuple[bytes, str]] = {
    "nothing": (b"\0\0\0\0", "its trie is cut off"),
    "a trie beyond the end": (b"\0\4\0\0" + b"\0" * 1023, "its trie is cut off"),
    "a trie of half a block": (b"\0\2\0\0" + b"\0" * 1024, "its trie is cut off"),
    "texts of Latin 1": (TABLE + b"\xe9\0", "its texts are no UTF-8"),
    "a root that points away": (_unit(TABLE, 0, lambda unit: unit | 0x3FFFFF << 10), "its trie points out of itself"),
    "a root in large blocks": (_unit(TABLE, 0, lambda _: 1 << 9 | 0x1000 << 10), "its trie points out of itself"),
    "a node that points away": (_unit(TABLE, 0x1EF, lambda unit: unit | 0x1FFFFF << 10), "points out of itself"),
    "a value beyond the texts": (_unit(TABLE, _leaf(TABLE), lambda _: 1 << 31 | 99), "into the middle of a text"),
    "a value inside a letter": (_unit(TABLE, _leaf(TABLE), lambda _: 1 << 31 | 4), "into the middle of a text"),
}


@pytest.mark.parametrize("case", FLAWS)
def test_a_table_that_would_lead_astray_is_refused(case: str, tmp_path: Path) -> None:
    """The library panics over it, only where a text meets the damage."""
    table, said = FLAWS[case]
    assert flaw(TABLE) is None
    (tmp_path / "spiece.model").write_bytes(spiece_model(table=table))
    with pytest.raises(BadFile, match=said):
        UnigramTokenizer.from_folder(tmp_path)


def test_what_the_check_lets_through_never_panics() -> None:
    """Random damage: what is let through, the library reads without an error."""
    from tokenizers import normalizers

    draw = random.Random(5)
    passed = 0
    for _ in range(300):
        table = bytearray(TABLE)
        for _ in range(draw.randint(1, 3)):
            table[draw.choice((draw.randrange(4, 12), draw.randrange(len(table))))] ^= 1 << draw.randrange(8)
        if flaw(bytes(table)) is None:
            passed += 1
            normalizers.Precompiled(bytes(table)).normalize_str(
                "ﬁ Ａ a cat é \U0001f408 ﬂ" + "".join(map(chr, range(1, 700)))
            )
    assert 10 < passed < 300
