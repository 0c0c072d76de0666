"""T5's tokenizer against transformers', from both of its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from atelier.errors import BadFile, BadInput
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
    "a table that is none": (spiece_model(table=b"abc"), "the tokenizer of T5 is damaged"),
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


def test_a_table_that_points_out_of_itself_is_refused(tmp_path: Path) -> None:
    """The library panics over it, only where a text meets the damage."""
    table = bytearray(charsmap())
    table[4:8] = b"\xff\xff\xff\x7f"
    (tmp_path / "spiece.model").write_bytes(spiece_model(table=bytes(table)))
    with pytest.raises((BadFile, BadInput), match="the tokenizer of T5 is damaged"):
        UnigramTokenizer.from_folder(tmp_path).encode("cat")
