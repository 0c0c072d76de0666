"""A model's text encoders: from chunks of a prompt to what its denoising network is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeVar

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadFile, BadInput
from atelier.families.family import Join, Silence, Tower
from atelier.families.words import Tokenizer
from atelier.prompt import NO_INVERSIONS, Chunk, Inversions, Marks, Patch, Weighted, chunk, inversions

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from atelier.models.clip import ClipText
    from atelier.models.t5 import T5Encoder
    from atelier.nn.ports import Conditioning
    from atelier.weights.tokenizer import ClipTokenizer
    from atelier.weights.unigram import UnigramTokenizer

M = TypeVar("M", bound="nn.Module")
Vectors = Mapping[str, "Tensor"]
"""Of textual inversions, by name: (vectors, width of the tower)."""
NO_VECTORS: Vectors = MappingProxyType({})


class TextTower(Protocol):
    """One text encoder with its tokenizer."""

    @property
    def marks(self) -> Marks: ...

    def tokenize(self, text: str, /) -> list[int]:
        """Ids without marks, as many as it takes."""
        ...

    @property
    def inversions(self) -> Inversions:
        """The textual inversions that it knows, for cutting texts into chunks."""
        ...

    def encode(self, chunks: Sequence[Chunk], clip_skip: int = 1, /) -> Conditioning:
        """The states of N chunks made with these marks and inversions, tokens (N, T, C) and pooled (N, P).

        The weights of the chunks are not applied. Raises BadInput for a clip skip that the tower does not have, and for
        an inversion that it does not know or that has other vectors than the chunks say.
        """
        ...


class TextEncoder(Protocol):
    """All text encoders of a model.

    A text is cut into chunks for each tower by itself, with the tower's own marks. Weights of words act on the states
    of each tower, before they are joined.
    """

    @property
    def towers(self) -> tuple[TextTower, ...]: ...

    def join(self, states: Sequence[Conditioning], /) -> Conditioning:
        """What all towers say of the same text, in their order, each with as many chunks as the others."""
        ...


@dataclass(frozen=True, slots=True)
class ClipTower:
    """A `TextTower`: CLIP's network, its tokenizer, how the family reads it, and textual inversions."""

    net: ClipText
    tokenizer: ClipTokenizer
    least_skip: int = 1
    normed: bool = True
    vectors: Vectors = field(default_factory=lambda: NO_VECTORS)
    cut_off: int = 0

    @property
    def marks(self) -> Marks:
        return marks_of(self.tokenizer)

    def tokenize(self, text: str, /) -> list[int]:
        return self.tokenizer.encode(text)

    @property
    def inversions(self) -> Inversions:
        return inversions({name: len(own) for name, own in self.vectors.items()}, self.tokenize)

    def encode(self, chunks: Sequence[Chunk], clip_skip: int = 1, /) -> Conditioning:
        """Clip skip n takes the states n-1 layers before the last, through the same final norm, as A1111 does; layers
        that the tower lacks at its end count as skipped."""
        import torch

        from atelier.nn.ports import Conditioning

        net, layers = self.net, self.net.spec.layers + self.cut_off
        if not 1 <= clip_skip <= layers:
            raise BadInput(
                f"clip skip {clip_skip}: this model's text encoder has {layers} layers, choose 1 to {layers}"
            )
        tokens = torch.tensor([c.tokens for c in chunks], dtype=torch.int64, device=net.token_embedding.weight.device)
        encoded = net.encode(_patched(net.token_embedding(tokens), chunks, self.vectors), tokens)
        states = encoded.hidden[self.cut_off - max(clip_skip, self.least_skip)]
        return Conditioning(net.final_norm(states) if self.normed else states, encoded.pooled)


@dataclass(frozen=True, slots=True)
class T5Tower:
    """A `TextTower`: T5's encoder and its tokenizer. It has no pooled state, and clip skip is no affair of it."""

    net: T5Encoder
    tokenizer: UnigramTokenizer

    @property
    def marks(self) -> Marks:
        own = self.tokenizer
        return Marks(None, own.eos, own.pad, own.comma, own.positions - 1)

    def tokenize(self, text: str, /) -> list[int]:
        return self.tokenizer.encode(text)

    @property
    def inversions(self) -> Inversions:
        return NO_INVERSIONS

    def encode(self, chunks: Sequence[Chunk], _: int = 1, /) -> Conditioning:
        import torch

        from atelier.nn.ports import Conditioning

        device = self.net.token_embedding.weight.device
        return Conditioning(self.net(torch.tensor([c.tokens for c in chunks], dtype=torch.int64, device=device)))


@dataclass(frozen=True, slots=True)
class SilentTower:
    """A `TextTower` in place of one that a model does not have: zeros, whatever the text."""

    silence: Silence
    device: torch.device

    @property
    def marks(self) -> Marks:
        return Marks(start=None, length=self.silence.positions - 1)

    def tokenize(self, _: str, /) -> list[int]:
        return []

    @property
    def inversions(self) -> Inversions:
        return NO_INVERSIONS

    def encode(self, chunks: Sequence[Chunk], _: int = 1, /) -> Conditioning:
        import torch

        from atelier.nn.ports import Conditioning

        own, count = self.silence, len(chunks)
        pooled = torch.zeros(count, own.pooled, device=self.device) if own.pooled else None
        return Conditioning(torch.zeros(count, own.positions, own.width, device=self.device), pooled)


Known = ClipTower | T5Tower | SilentTower


@dataclass(frozen=True, slots=True)
class TextTowers:
    """A `TextEncoder` of several towers, or of one."""

    towers: tuple[Known, ...]
    joining: Join

    @property
    def nets(self) -> list[nn.Module]:
        """The networks that are in memory."""
        return [tower.net for tower in self.towers if not isinstance(tower, SilentTower)]

    def join(self, states: Sequence[Conditioning], /) -> Conditioning:
        return self.joining(states)


def marks_of(tokenizer: ClipTokenizer) -> Marks:
    """What chunks of a text begin and end with, and how long they are."""
    return Marks(tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.comma, tokenizer.positions - 2)


class Placed(Protocol):
    """Puts a network where it is to compute."""

    def __call__(self, net: M, /) -> M: ...


def text_encoder(
    model: Checkpoint, dtype: torch.dtype | None = None, *, placed: Placed | None = None, mapped: bool = True
) -> TextTowers:
    """The text encoders of a model. placed: puts each network where it is to compute. Raises BadFile as `load` does,
    and where a model has none at all."""

    def loaded(tower: Tower, tokenizer: Tokenizer) -> ClipTower | T5Tower:
        net = model.load(tower.part, dtype, mapped=mapped)
        return _tower(tower, net if placed is None else placed(net), tokenizer)

    if not model.towers:
        raise BadFile(model.path, "has no text encoder, and no prompt can be read without: choose a file that has one")
    there = {tower.part.name: loaded(tower, own) for tower, own in zip(model.towers, model.tokenizers, strict=True)}
    device = next(next(iter(there.values())).net.parameters()).device
    towers = tuple(there.get(tower.part.name) or _silent(tower, model, device) for tower in model.family.towers)
    return TextTowers(towers, model.family.join)


def _tower(tower: Tower, net: object, tokenizer: Tokenizer) -> ClipTower | T5Tower:
    from atelier.models.clip import ClipText
    from atelier.models.t5 import T5Encoder
    from atelier.weights.tokenizer import ClipTokenizer
    from atelier.weights.unigram import UnigramTokenizer

    match net, tokenizer:
        case T5Encoder(), UnigramTokenizer():
            return T5Tower(net, tokenizer)
        case ClipText(), ClipTokenizer():
            cut_off = tower.cut_off(net.spec)
            return ClipTower(net, tokenizer, tower.least_skip, tower.normed, cut_off=cut_off)
        case _:
            raise TypeError(f"{tower.part.title}: {type(net).__name__} does not read {type(tokenizer).__name__}")


def _silent(tower: Tower, model: Checkpoint, device: torch.device) -> SilentTower:
    assert tower.silent is not None, f"{tower.part.title} is required"
    specs = {own.part.name: model.spec(own.part) for own in model.towers}
    silence = tower.silent(model.ends, specs)
    if min(silence) < 0:
        raise BadFile(model.path, "has text encoders that are wider than its network reads: they are of another model")
    return SilentTower(silence, device)


def encode(encoder: TextEncoder, texts: Sequence[str], clip_skip: int = 1) -> Conditioning:
    """Texts as they stand, brackets and all, each cut to one chunk: tokens (N, T, C), pooled (N, P)."""
    return encoder.join([tower.encode(_first_chunks(tower, texts), clip_skip) for tower in encoder.towers])


def _first_chunks(tower: TextTower, texts: Sequence[str]) -> list[Chunk]:
    return [chunk([Weighted(text)], tower.tokenize, tower.marks, backtrack=0).chunks[0] for text in texts]


def _patched(embedded: Tensor, chunks: Sequence[Chunk], vectors: Vectors) -> Tensor:
    """Token embeddings (N, T, W) with the vectors of inversions in their places."""
    if not any(c.patches for c in chunks):
        return embedded
    embedded = embedded.clone()
    for number, own in enumerate(chunks):
        for patch in own.patches:
            found = _vectors(vectors, patch, embedded.shape[2]).to(embedded)
            embedded[number, patch.at : patch.at + patch.count] = found
    return embedded


def _vectors(vectors: Vectors, patch: Patch, width: int) -> Tensor:
    """(count, width). Raises BadInput."""
    if patch.name not in vectors:
        raise BadInput(f"the textual inversion {patch.name!r} is not there")
    found = vectors[patch.name][patch.first : patch.first + patch.count]
    if tuple(found.shape) != (patch.count, width):
        raise BadInput(
            f"the textual inversion {patch.name!r} is not for this model: it has vectors of {list(found.shape)[1:]} "
            f"where {width} numbers are needed"
        )
    return found
