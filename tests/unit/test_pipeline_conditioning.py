"""What text encoders are asked, and what becomes of their states: weights, empty chunks, two encoders side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from atelier.errors import BadInput
from atelier.nn.ports import Conditioning
from atelier.pipeline.conditioning import encode
from atelier.prompt import Chunk, Inversions, Marks

LENGTH = 77
"""Positions of a chunk: a mark, 75 tokens, a mark."""


@dataclass
class Tower:
    """States that say the token and the place; the pooled state says how many chunks came before."""

    factor: float = 1.0
    marks: Marks = field(default_factory=Marks)
    inversions: Inversions = field(default_factory=Inversions)
    asked: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Of each call: how many chunks, and the clip skip."""

    def tokenize(self, text: str, /) -> list[int]:
        return [ord(letter) for letter in text if letter != " "]

    def encode(self, chunks: Sequence[Chunk], clip_skip: int, /) -> Conditioning:
        self.asked.append((len(chunks), clip_skip))
        tokens = torch.tensor([chunk.tokens for chunk in chunks], dtype=torch.float64)
        places = torch.arange(LENGTH, dtype=torch.float64).expand(len(chunks), LENGTH)
        pooled = 10.0 * torch.arange(len(chunks), dtype=torch.float64)[:, None] + self.factor
        return Conditioning(self.factor * torch.stack([tokens, places], 2), pooled)


@dataclass
class Encoder:
    towers: tuple[Tower, ...]

    def join(self, states: Sequence[Conditioning], /) -> Conditioning:
        """The states of all towers side by side, the pooled state of the last, and two sizes."""
        tokens = torch.cat([one.tokens for one in states], 2)
        return Conditioning(tokens, states[-1].pooled, torch.tensor([[8.0, 9.0]] * len(tokens)))


def encoded(mode: str, *groups: tuple[str, ...], towers: int = 1, clip_skip: int = 2) -> tuple[Any, tuple[Tower, ...]]:
    made = tuple(Tower(factor=float(10**number)) for number in range(towers))
    encoder: Any = Encoder(made)
    return encode(groups, encoder, mode, clip_skip), made


def row(letters: str) -> Tensor:
    """The states of one chunk (77, 2), without weights."""
    marks = Marks()
    tokens = [marks.start, *map(ord, letters), marks.end]
    tokens += [marks.pad] * (LENGTH - len(tokens))
    return torch.stack([torch.tensor(tokens, dtype=torch.float32), torch.arange(LENGTH, dtype=torch.float32)], 1)


WEIGHED = "(a:2)b"


def weighed(states: Tensor) -> Tensor:
    """The letter at the first position counts twice."""
    heavier = states.clone()
    heavier[1] *= 2
    return heavier


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("No norm", weighed(row("ab"))),
        ("Original", weighed(row("ab")) * (row("ab").mean() / weighed(row("ab")).mean())),
        ("Ignore", row("ab")),
        ("None", row(WEIGHED)),
        ("Comfy", row("") + weighed(row("ab") - row(""))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_mode_weighs_words_in_its_own_way(mode: str, expected: Tensor) -> None:
    states, (tower,) = encoded(mode, (WEIGHED,))
    found = states[WEIGHED,][WEIGHED]
    assert found.tokens.dtype == torch.float32
    assert torch.allclose(found.tokens, expected, rtol=1e-5)
    assert tower.asked == [(1, 2)] * (2 if mode == "Comfy" else 1), "the empty text is needed by Comfy alone"


def test_a_mean_is_evened_over_all_texts_of_a_group_chunk_by_chunk() -> None:
    """The second text has no weight of its own, and is changed all the same; its second chunk has a mean of its own."""
    second = "c BREAK (d:3)"
    states, (tower,) = encoded("Original", (WEIGHED, second), ("e",))
    plain = torch.stack([torch.stack([row("ab"), row("")]), torch.stack([row("c"), row("d")])])
    heavier = plain.clone()
    heavier[0, 0, 1] *= 2
    heavier[1, 1, 1] *= 3
    expected = heavier * (plain.mean((0, 2, 3), keepdim=True) / heavier.mean((0, 2, 3), keepdim=True))
    found = states[WEIGHED, second]
    for text, own in ((WEIGHED, expected[0]), (second, expected[1])):
        assert torch.allclose(found[text].tokens, own.flatten(0, 1), rtol=1e-5), text
        assert found[text].pooled.tolist() == [1.0], "of the first chunk"
        assert found[text].sizes.tolist() == [8.0, 9.0]
    assert torch.equal(states["e",]["e"].tokens, row("e"))
    assert sorted(tower.asked) == [(1, 2), (1, 2), (1, 2), (2, 2)], "each text once, and the empty one"


def test_weights_of_one_change_no_bit() -> None:
    for mode in ("Original", "Comfy"):
        states, _ = encoded(mode, ("(a:1)b",))
        assert torch.equal(states["(a:1)b",]["(a:1)b"].tokens, row("ab"))


def test_an_empty_text_that_was_asked_for_is_what_fills_up() -> None:
    states, (tower,) = encoded("Original", ("", "a BREAK b"))
    assert torch.equal(states["", "a BREAK b"][""].tokens, torch.cat([row(""), row("")]))
    assert sorted(tower.asked) == [(1, 2), (2, 2)]


def test_a_text_of_two_groups_is_encoded_once() -> None:
    states, (tower,) = encoded("No norm", ("a",), ("a", "b"), clip_skip=1)
    assert torch.equal(states["a",]["a"].tokens, states["a", "b"]["a"].tokens)
    assert tower.asked == [(1, 1), (1, 1)]


def test_two_encoders_are_asked_the_same_and_joined() -> None:
    states, towers = encoded("No norm", (WEIGHED,), towers=2, clip_skip=3)
    found = states[WEIGHED,][WEIGHED]
    assert torch.allclose(found.tokens, torch.cat([weighed(row("ab")), 10 * weighed(row("ab"))], 1))
    assert found.pooled.tolist() == [10.0], "of the second"
    assert [tower.asked for tower in towers] == [[(1, 3)], [(1, 3)]]


def test_the_longest_of_all_encoders_sets_the_length() -> None:
    """The second tells its letters one by one twice, so that eighty of them are three chunks and not two."""

    class Stutters(Tower):
        def tokenize(self, text: str, /) -> list[int]:
            return [token for token in super().tokenize(text) for _ in range(2)]

    towers: Any = Encoder((Tower(), Stutters()))
    found = encode((("a" * 80,),), towers, "Original", 1)[("a" * 80),]["a" * 80]
    assert found.tokens.shape == (3 * LENGTH, 4)
    assert torch.equal(found.tokens[2 * LENGTH :, :2], row(""))


def test_more_chunks_than_fit_are_refused_before_any_is_encoded() -> None:
    """1001 texts of two chunks; of 1000 there are just not too many."""
    texts = tuple(f"{chr(300 + i)} {'x' * 80}" for i in range(1001))
    tower = Tower()
    encoder: Any = Encoder((tower,))
    with pytest.raises(BadInput, match="1001 texts of 2 chunks of tokens, more than 2000 together"):
        encode([texts], encoder, "Original", 2)
    assert tower.asked == []
    encode([texts[:1000]], encoder, "Original", 2)
    assert len(tower.asked) == 1000
