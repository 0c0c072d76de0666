"""What of a model is taught: an adapter beside it, words, or its own weights."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from atelier.adapters.attach import attached
from atelier.adapters.growing import Growing, Growth, Place, expression, places
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.text import ClipTower, TextTowers
from atelier.errors import BadInput
from atelier.families.part import PartSpec
from atelier.prompt import Weighted, chunk
from atelier.train.optimizers import Group, divided
from atelier.train.teaching.base import Base, parts_of
from atelier.train.teaching.dropout import NO_DROPOUT, Draw, Dropout


class Pupil(Protocol):
    """What is taught of a base. nets: what is trained, by the names that checkpoints have for it; groups: the same,
    with their rates; reads: whether what it learns changes the states of texts."""

    @property
    def nets(self) -> Mapping[str, nn.Module]: ...
    @property
    def groups(self) -> tuple[Group, ...]: ...
    @property
    def reads(self) -> bool: ...

    def at_work(self, draw: Draw | None = None, /) -> AbstractContextManager[TextTowers]:
        """Inside, the base's networks are as they have been taught, and gradients reach what is trained; gives the text
        encoders. draw: of a step of training, None otherwise: then nothing is dropped."""
        ...


class AdapterPupil:
    """A new weight adapter.

    on, seed: see `grown`; text_rate: of what is trained of the text encoders, in learning rates; up_ratio: of LoRA's
    second matrices to their first (LoRA+); dropout: what steps leave out.
    """

    def __init__(
        self,
        base: Base,
        growth: Growth,
        on: Mapping[str, Sequence[str]],
        seed: int,
        text_rate: float = 1.0,
        up_ratio: float = 1.0,
        dropout: Dropout = NO_DROPOUT,
    ) -> None:
        self.base, self._text_rate, self._up_ratio, self._dropout = base, text_rate, up_ratio, dropout
        made = grown(base.checkpoint, growth, on, seed, self._weight)
        self.adapters = {part: adapter.to(base.device) for part, adapter in made.items()}

    def _weight(self, place: Place) -> Tensor:
        return self.base.networks[place.part].get_parameter(f"{place.module}.weight")

    @property
    def nets(self) -> Mapping[str, nn.Module]:
        return self.adapters

    @property
    def groups(self) -> tuple[Group, ...]:
        return tuple(group for part, adapter in self.adapters.items() for group in self._groups(part, adapter))

    def _groups(self, part: str, adapter: Growing) -> Sequence[Group]:
        group = _group(self.base, part, adapter, self._text_rate)
        return divided(group, adapter.named_parameters(), self._up_ratio) if self._up_ratio != 1 else (group,)

    @property
    def reads(self) -> bool:
        return any(part != self.base.denoiser.name for part in self.adapters)

    @contextmanager
    def at_work(self, draw: Draw | None = None, /) -> Generator[TextTowers]:
        dropped = None if draw is None else self._dropout.drawn(draw)
        with ExitStack() as stack:
            for part, adapter in self.adapters.items():
                stack.enter_context(attached(self.base.networks[part], adapter.changes(part, dropped), adapter.how))
            yield self.base.encoder


def grown(
    model: Checkpoint,
    growth: Growth,
    on: Mapping[str, Sequence[str]],
    seed: int,
    weight: Callable[[Place], Tensor] = lambda place: torch.empty(place.shape, device="meta"),
) -> dict[str, Growing]:
    """A new adapter for each part. on: the layers of each that get it, by the name of the part, as patterns (see
    `growing.places`); weight: of a layer, in which lengths begin. Without it, what lengths begin as is not known, which
    suffices for what is filled from a checkpoint. Raises BadInput, also where convolutions have a rank and none is
    among the layers."""
    random, made = torch.Generator().manual_seed(seed), dict[str, Growing]()
    for part, patterns in on.items():
        chosen = places(model, parts_of(model)[part], patterns)
        weights = {(part, place.module): weight(place) for place in chosen}
        made[part] = Growing(chosen, growth, random, weights)
    if growth.kernels is not None and not any(place.is_kernel for own in made.values() for place in own.places):
        raise BadInput(
            f"rank {growth.kernels.rank} of convolutions: none is among the chosen layers; choose others, or 0"
        )
    return made


class WeightsPupil:
    """The base's own weights: of each part those of the layers in whose names (diffusers') a pattern is found."""

    reads: bool

    def __init__(self, base: Base, parts: Mapping[str, Sequence[str]], text_rate: float = 1.0) -> None:
        self.base, self._text_rate = base, text_rate
        self._nets = {part: base.networks[part] for part in parts}
        for part, patterns in parts.items():
            _unfreeze(self._nets[part], base.parts[part], base.checkpoint, patterns)
        self.reads = any(part != base.denoiser.name for part in parts)

    @property
    def nets(self) -> Mapping[str, nn.Module]:
        return self._nets

    @property
    def groups(self) -> tuple[Group, ...]:
        return tuple(_group(self.base, part, net, self._text_rate) for part, net in self._nets.items())

    @contextmanager
    def at_work(self, _draw: Draw | None = None, /) -> Generator[TextTowers]:
        yield self.base.encoder


class Words(nn.Module):
    """Learned vectors (count, width) of one word, for each of a model's text encoders, in their order."""

    def __init__(self, vectors: Sequence[Tensor]) -> None:
        super().__init__()
        self.towers = nn.ParameterList(nn.Parameter(own.float().clone()) for own in vectors)


class WordPupil:
    """A word of `count` new vectors for each text encoder, which begin as those of `like`.

    Source: Gal 2022 (arXiv:2208.01618). Raises BadInput for a `like` of no token, or of a text encoder without words of
    its own.
    """

    reads = True

    def __init__(self, base: Base, word: str, count: int, like: str, rate: float = 1.0) -> None:
        self.base, self.word, self._rate = base, word, rate
        self.words = Words([_first_vectors(tower, count, like) for tower in _clips(base)]).to(base.device)

    @property
    def nets(self) -> Mapping[str, nn.Module]:
        return {"words": self.words}

    @property
    def groups(self) -> tuple[Group, ...]:
        return (Group("words", list(self.words.parameters()), self._rate, decay=0.0),)

    def at_work(self, _draw: Draw | None = None, /) -> AbstractContextManager[TextTowers]:
        return self.with_word(self.base.encoder)

    @contextmanager
    def with_word(self, encoder: TextTowers) -> Generator[TextTowers]:
        """The text encoders with the word."""
        learned = iter(self.words.towers)
        towers = tuple(
            replace(tower, vectors={**tower.vectors, self.word: next(learned)})
            if isinstance(tower, ClipTower)
            else tower
            for tower in encoder.towers
        )
        yield replace(encoder, towers=towers)


class Together:
    """A word, and something else that is taught with it (pivotal tuning)."""

    reads = True

    def __init__(self, word: WordPupil, other: Pupil) -> None:
        self._word, self._other = word, other

    @property
    def nets(self) -> Mapping[str, nn.Module]:
        return {**self._word.nets, **self._other.nets}

    @property
    def groups(self) -> tuple[Group, ...]:
        return (*self._word.groups, *self._other.groups)

    @contextmanager
    def at_work(self, draw: Draw | None = None, /) -> Generator[TextTowers]:
        with self._other.at_work(draw) as encoder, self._word.with_word(encoder) as with_word:
            yield with_word


def _group(base: Base, part: str, net: nn.Module, text_rate: float) -> Group:
    learning = [p for p in net.parameters() if p.requires_grad]
    return Group(part, learning, 1.0 if part == base.denoiser.name else text_rate)


def _unfreeze(net: nn.Module, part: PartSpec[Any, Any], model: Checkpoint, patterns: Sequence[str]) -> None:
    layers = {name.ours: name.diffusers.rpartition(".")[0] for name in part.network.names(model.spec(part))}
    for pattern in patterns:
        search = expression(pattern).search
        found = [p for name, p in net.named_parameters() if name in layers and search(layers[name] or name)]
        if not found:
            raise BadInput(f"target {pattern!r}: no layer of the {part.title} has that in its name")
        for parameter in found:
            parameter.requires_grad = True


def _clips(base: Base) -> list[ClipTower]:
    return [tower for tower in base.encoder.towers if isinstance(tower, ClipTower)]


def _first_vectors(tower: ClipTower, count: int, like: str) -> Tensor:
    """(count, width): the vectors of the tokens of `like`, again and again."""
    ids = chunk([Weighted(like)], tower.tokenize, tower.marks, backtrack=0).chunks[0]
    own = torch.tensor(ids.tokens[1 : 1 + ids.used])
    if not len(own):
        raise BadInput(f"init word {like!r}: has no tokens; give a word that the model knows")
    table = tower.net.token_embedding.weight.detach()
    return table[own[torch.arange(count) % len(own)].to(table.device)]
