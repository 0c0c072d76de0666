"""What a prompt becomes, against the rules written out by hand through transformers' CLIP at its true size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.checkpoints.text import ClipTower
from atelier.models.clip import ClipText, TextSpec
from atelier.nn.ports import Conditioning
from atelier.pipeline.conditioning import States, encode
from atelier.pipeline.prepared import prepare
from atelier.prompt import Clock
from atelier.weights.load import load_into
from atelier.weights.names.clip import names
from atelier.weights.tokenizer import ClipTokenizer, standard

BOS, EOS, COMMA = 49406, 49407, 267
LONG = ", a tall green tree by the river" * 14
PROMPT = f"a (red:1.4) [apple:ripe pizza:0.5] on (a table:0.8){LONG} BREAK [[dark]]"
BY_HAND = {
    fruit: [("a ", 1.0), ("red", 1.4), (f" {fruit} on ", 1.0), ("a table", 0.8), (LONG, 1.0), None, ("dark", 1 / 1.21)]
    for fruit in ("apple", "ripe pizza")
}
"""What each text of the timeline means; None is BREAK."""


class Encoder:
    """One tower, whose calls are counted."""

    def __init__(self, net: ClipText, tokenizer: ClipTokenizer) -> None:
        self.tower, self.calls = ClipTower(net, tokenizer), 0
        self.marks, self.tokenize = self.tower.marks, self.tower.tokenize
        self.inversions = self.tower.inversions

    @property
    def towers(self) -> tuple[Encoder]:
        return (self,)

    def encode(self, chunks: Any, clip_skip: int, /) -> Conditioning:
        self.calls += 1
        return self.tower.encode(chunks, clip_skip)

    def join(self, states: Any, /) -> Conditioning:
        return states[0]


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, ClipText]:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        eos_token_id=EOS,
        bos_token_id=BOS,
        pad_token_id=EOS,
    )
    theirs = CLIPTextModel(config).eval()
    tensors = theirs.state_dict()
    prefix = "" if "text_model.final_layer_norm.weight" in tensors else "text_model."
    # Without a bias the mean of normed states is rounding noise, and Original emphasis a quotient of two such means.
    tensors["text_model.final_layer_norm.bias".removeprefix(prefix)].copy_(torch.linspace(-0.5, 1.5, 768))
    ours = load_into(
        lambda: ClipText(TextSpec()), {n.ours: tensors[n.diffusers.removeprefix(prefix)] for n in names(TextSpec())}
    )
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    standard().save(folder)
    return CLIPTokenizer.from_pretrained(folder), theirs, ours


def chunks_by_hand(tokenizer: Any, pieces: list[tuple[str, float] | None]) -> list[tuple[list[int], list[float]]]:
    """Chunks of 75 tokens; a full chunk gives what stands behind its last comma, 20 tokens at most, to the next."""
    done: list[tuple[list[int], list[float]]] = []
    ids: list[int] = []
    weights: list[float] = []
    comma = -1
    for piece in pieces:
        if piece is None:
            done.append((ids, weights))
            ids, weights, comma = [], [], -1
            continue
        for token in tokenizer(piece[0], add_special_tokens=False).input_ids:
            if token == COMMA:
                comma = len(ids)
            elif len(ids) == 75 and comma != -1 and len(ids) - comma <= 20:
                rest = ids[comma + 1 :], weights[comma + 1 :]
                done.append((ids[: comma + 1], weights[: comma + 1]))
                (ids, weights), comma = rest, -1
            if len(ids) == 75:
                done.append((ids, weights))
                ids, weights, comma = [], [], -1
            ids.append(token)
            weights.append(piece[1])
    done.append((ids, weights))
    return [([BOS, *i, *[EOS] * (76 - len(i))], [1.0, *w, *[1.0] * (76 - len(w))]) for i, w in done]


Columns = list[tuple[torch.Tensor, torch.Tensor]]
"""Of each chunk the states of both texts, (2, 77, 768), and the weights, (2, 77, 1)."""


@pytest.fixture(scope="module")
@torch.no_grad()
def unweighted(towers: tuple[Any, Any, ClipText]) -> Columns:
    tokenizer, clip, _ = towers
    chunked = [chunks_by_hand(tokenizer, pieces) for pieces in BY_HAND.values()]
    assert [len(chunks) for chunks in chunked] == [3, 3]
    columns: Columns = []
    for column in range(3):
        ids = torch.tensor([chunks[column][0] for chunks in chunked])
        weights = torch.tensor([chunks[column][1] for chunks in chunked])[..., None]
        columns.append((clip(ids).last_hidden_state, weights))
    return columns


def by_hand(unweighted: Columns, mode: str) -> list[torch.Tensor]:
    columns: list[torch.Tensor] = []
    for plain, weights in unweighted:
        z = plain
        if mode == "Original":
            heavier = z * weights
            z = heavier * (z.mean() / heavier.mean())
        elif mode == "No norm":
            z = z * weights
        columns.append(z)
    return list(torch.cat(columns, dim=1))


def encoded(encoder: Encoder, prompt: str, mode: str) -> tuple[States, tuple[tuple[str, ...], ...]]:
    groups = prepare(prompt, "", Clock(20), pytest.fail).groups
    return encode(groups, encoder, mode, 1), groups


@torch.no_grad()
@pytest.mark.parametrize("mode", ["Original", "No norm", "Ignore"])
def test_a_weighted_scheduled_chunked_prompt(towers: tuple[Any, Any, ClipText], unweighted: Columns, mode: str) -> None:
    encoder = Encoder(towers[2], standard())
    states, (_, group) = encoded(encoder, PROMPT, mode)
    assert encoder.calls == 3, "two texts and the empty negative prompt"
    for expected, text in zip(by_hand(unweighted, mode), group, strict=True):
        found = states[group][text].tokens
        assert found.shape == (3 * 77, 768)
        assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@torch.no_grad()
def test_original_emphasis_keeps_the_mean_of_a_whole_timeline(towers: tuple[Any, Any, ClipText]) -> None:
    """One factor for each column of chunks, over both texts, all positions and all channels; the texts differ."""
    tokenizer, theirs, ours = towers
    states, (_, group) = encoded(Encoder(ours, standard()), "[(apple:1.9):a (ripe:1.2) pizza:0.5]", "Original")
    ids = tokenizer(["apple", "a ripe pizza"], padding="max_length", max_length=77).input_ids
    weights = torch.ones(2, 77, 1)
    weights[0, 1], weights[1, 2] = 1.9, 1.2
    z = theirs(torch.tensor(ids)).last_hidden_state
    factor = float(z.mean() / (z * weights).mean())
    assert 0.99 < factor < 0.995, "the mean is no rounding noise, and the factor is felt"
    for text, expected in zip(group, z * weights * factor, strict=True):
        assert float((states[group][text].tokens - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    for dims in ((1,), (2,), (1, 2), (0,), (0, 1), (0, 2)):
        wrong = z * weights * (z.mean(dims, keepdim=True) / (z * weights).mean(dims, keepdim=True))
        assert float((wrong - z * weights * factor).abs().max()) > 1e-3, f"a mean over {dims} is told apart"


@torch.no_grad()
def test_comfy_weights_go_from_the_empty_prompt(towers: tuple[Any, Any, ClipText]) -> None:
    tokenizer, theirs, ours = towers
    states, (_, group) = encoded(Encoder(ours, standard()), "a (red:1.4) apple", "Comfy")
    ids = tokenizer(["a red apple", ""], padding="max_length", max_length=77).input_ids
    z, empty = theirs(torch.tensor(ids)).last_hidden_state
    weights = torch.ones(77, 1)
    weights[2] = 1.4
    expected = empty + (z - empty) * weights
    assert float((states[group][group[0]].tokens - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@torch.no_grad()
def test_a_short_text_of_a_timeline_is_as_long_as_the_others(towers: tuple[Any, Any, ClipText]) -> None:
    tokenizer, theirs, ours = towers
    states, (_, group) = encoded(Encoder(ours, standard()), f"[cat{LONG}:dog:0.5]", "Original")
    ids = tokenizer(["dog", ""], padding="max_length", max_length=77).input_ids
    expected = torch.cat(list(theirs(torch.tensor(ids)).last_hidden_state[[0, 1]]))
    assert float((states[group]["dog"].tokens - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
