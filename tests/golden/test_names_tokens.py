"""CLIP's tokenizer against transformers': the same ids for every text, the packaged table and small vocabularies."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atelier.errors import BadFile
from atelier.weights.tokenizer import BOS, EOS, ClipTokenizer, standard

CHOSEN = (
    "",
    "   ",
    "a photo of an astronaut riding a horse on mars",
    "It's we'll DON'T they've I'm you'd she's 'tis O'Neil's",
    "tabs\tand\nnewlines\r\n and\u00a0hard\u2003spaces\u3000end ",
    "é e\u0301 ñ ß ĳ ﬁ ½ ² ³ Ⅷ ǅ İ ı Σς ά",
    "日本語のテキスト 한국어 中文 العربية עברית हिन्दी ไทย",
    "🙂 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇨🇭 ❤️",
    "12345 3.14159 1e-9 #hash @at $5 100% a_b c-d e/f \\ | ~ ^",
    "(masterpiece:1.3), [bad|good], {a|b}, <lora:x:1>",
    "\x00\x07\x1b[31m \ufffd \ufeff \u200b\u200d",
    f"{EOS} in {BOS} text{EOS}",
    "<|ENDOFTEXT|> <|endoftext|",
    "a</w>b </w>",
    "x" * 3000,
    "word " * 400,
    "supercalifragilisticexpialidocious Donaudampfschifffahrtsgesellschaft",
)
ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz      ",
    "ABCabc 0123456789 .,;:!?'\"()[]<>|-_/\\",
    "éàüñçøßœþ ÉÀÜ ṩ\u0323\u0307 Å\u030a",
    "日本語中文한국어 ひらがな ",
    "🙂🐱👩‍🚀🏽🇫🇷\ufe0f ",
    " \t\n\r\u00a0\u2009\u3000'st'll'",
)


def texts(seed: int, count: int) -> Iterator[str]:
    """Random texts, mostly of one alphabet, some of any characters at all."""
    draw = random.Random(seed)
    for number in range(count):
        length = draw.randrange(1, 60)
        if number % 5:
            yield "".join(draw.choices(draw.choice(ALPHABETS), k=length))
        else:
            yield "".join(
                chr(draw.choice((draw.randrange(0xD800), draw.randrange(0xE000, 0x1F000)))) for _ in range(length)
            )


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    standard().save(folder)
    return CLIPTokenizer.from_pretrained(folder)


def test_the_table_is_clips() -> None:
    tokenizer = standard()
    assert (tokenizer.size, tokenizer.bos, tokenizer.eos, tokenizer.pad) == (49408, 49406, 49407, 49407)
    assert tokenizer.ids("a photo of a cat")[:8] == [49406, 320, 1125, 539, 320, 2368, 49407, 49407]
    assert len(tokenizer.ids("word " * 400)) == 77


def test_ids_are_those_of_transformers(theirs: Any) -> None:
    ours, many = standard(), [*CHOSEN, *texts(seed=3, count=3000)]
    for text, ids in zip(many, theirs(many, add_special_tokens=False).input_ids, strict=True):
        assert ours.encode(text) == ids, repr(text)


def test_rows_are_those_of_transformers(theirs: Any) -> None:
    ours, many = standard(), [*CHOSEN, *texts(seed=4, count=200)]
    rows = theirs(many, padding="max_length", truncation=True, max_length=77).input_ids
    for text, row in zip(many, rows, strict=True):
        assert ours.ids(text) == row, repr(text)


def small(**more: Any) -> ClipTokenizer:
    learnt = ClipTokenizer.from_merges([("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")], positions=9)
    return ClipTokenizer(learnt.vocabulary, learnt.merges, 9, **more)


@pytest.mark.parametrize("pad", [EOS, "!"])
def test_a_small_vocabulary_reads_alike_on_both_sides(pad: str, tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    ours = small(pad_token=pad)
    ours.save(tmp_path)
    assert ClipTokenizer.from_folder(tmp_path).same_as(ours)
    theirs = CLIPTokenizer.from_pretrained(tmp_path)
    assert theirs.model_max_length == 9
    # transformers takes a word that is also the pad token for padding; CLIP's authors did not
    every = (*CHOSEN, *texts(seed=6, count=300), "cat dog cats catdog")
    many = [text for text in every if pad == EOS or pad not in text]
    rows = theirs(many, padding="max_length", truncation=True).input_ids
    for text, row in zip(many, rows, strict=True):
        assert ours.ids(text) == row, repr(text)


def test_what_transformers_saves_is_read(theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()  # recent versions write tokenizer.json alone
    assert ClipTokenizer.from_folder(tmp_path).same_as(standard())


def test_the_settings_of_published_folders_are_read(tmp_path: Path) -> None:
    small().save(tmp_path)
    token = {"content": EOS, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": "!", "eos_token": token}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77, "bos_token": token}))
    assert (ClipTokenizer.from_folder(tmp_path).pad_token, ClipTokenizer.from_folder(tmp_path).positions) == ("!", 77)


def test_a_tokenizer_survives_metadata() -> None:
    ours = small(pad_token="!")
    assert ClipTokenizer.from_json(ours.to_json(), Path("file")).same_as(ours)


GOOD = json.loads(small().to_json())
BAD = {
    "no JSON": ("{", "not valid JSON"),
    "a list": ("[]", "holds no vocabulary"),
    "no vocabulary": (json.dumps({**GOOD, "vocabulary": {}}), "holds no vocabulary"),
    "ids of text": (json.dumps({**GOOD, "vocabulary": {"a": "b"}}), "holds no vocabulary"),
    "one id twice": (json.dumps({**GOOD, "vocabulary": {**GOOD["vocabulary"], "zz": 3}}), "one id to two tokens"),
    "no end mark": (json.dumps({**GOOD, "vocabulary": {"a": 0, BOS: 1}}), "without the token"),
    "a merge of three": (json.dumps({**GOOD, "merges": ["a b c"]}), "no pair of tokens"),
    "a merge of nothing known": (json.dumps({**GOOD, "merges": ["zzz a"]}), "merges zzz and a"),
    "no merges": (json.dumps({**GOOD, "merges": None}), "no list of merges"),
    "no positions": (json.dumps({**GOOD, "positions": None}), "without positions"),
    "a pad token that is not there": (json.dumps({**GOOD, "pad_token": "zzz"}), "without the token zzz"),
}


@pytest.mark.parametrize(("text", "problem"), BAD.values(), ids=BAD)
def test_a_bad_tokenizer_gives_one_line(text: str, problem: str) -> None:
    with pytest.raises(BadFile, match=problem) as caught:
        ClipTokenizer.from_json(text, Path("model.safetensors"))
    assert str(caught.value).startswith("model.safetensors: ")
    assert str(caught.value).isprintable()


def test_a_folder_without_a_tokenizer_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"vocab\.json: cannot be read"):
        ClipTokenizer.from_folder(tmp_path)
    (tmp_path / "vocab.json").write_text("[]")
    with pytest.raises(BadFile, match=r"vocab\.json: holds no JSON object"):
        ClipTokenizer.from_folder(tmp_path)
    small().save(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\nc a t\n")
    with pytest.raises(BadFile, match=r"merges\.txt: holds a merge"):
        ClipTokenizer.from_folder(tmp_path)
