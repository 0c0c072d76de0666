"""A part of a model as data: what kind of network it is, and where a family's files keep it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from atelier.families.config import Config
from atelier.families.facts import Facts, PartFacts
from atelier.families.shapes import Shapes
from atelier.families.words import Tokenizer
from atelier.weights.names.name import Name

if TYPE_CHECKING:
    from torch import nn


S = TypeVar("S")
M = TypeVar("M", bound="nn.Module")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the settings of one network say about the model around it.

    facts: complete, with the size; factor: pixels per latent position; tokenizer: of a text tower.
    """

    facts: Facts
    factor: int
    tokenizer: Tokenizer | None = None

    @property
    def size(self) -> int:
        """The side in pixels that the model was trained on."""
        assert self.facts.size is not None
        return self.facts.size


@dataclass(frozen=True, slots=True)
class Settings(Generic[S]):
    """The config.json that a diffusers folder keeps beside the weights of a network.

    read: (facts known so far, the part's name, the file, the shapes beside it) -> the facts with what the file says.
    Raises BadFile for what cannot be built here, or does not agree with the shapes. write: the file's content for a
    network of this spec; it names the class in `_class_name` (diffusers) or `architectures` (transformers).
    """

    read: Callable[[Facts, str, Config, Shapes], Facts]
    write: Callable[[S, Surroundings], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Architecture(Generic[S, M]):
    """A kind of network, in whichever families it is a part.

    infer: the spec, from the shapes on disk and what they do not say; raises BadFile where they are no such network's.
    names: every parameter in both layouts. build: the module, as `load_into` wants it. facts: what `infer` needs beside
    the shapes; the inverse of its second argument. settings: None where diffusers has no such network.
    """

    infer: Callable[[Shapes, PartFacts], S]
    names: Callable[[S], Iterable[Name]]
    build: Callable[[S], M]
    facts: Callable[[S], PartFacts]
    settings: Settings[S] | None = None


@dataclass(frozen=True, slots=True)
class PartSpec(Generic[S, M]):
    """One part of a family's models, and where it lies.

    name: what it is called here; title: what messages call it. prefix: what its tensors begin with in a single file.
    folder, stem: the folder in the diffusers layout, and what its weights are called there. required: a model without
    it is none. converted: what its tensors begin with in single files that have the names of that layout for it; empty
    where none have.
    """

    name: str
    title: str
    prefix: str
    folder: str
    stem: str
    network: Architecture[S, M]
    required: bool = True
    converted: str = ""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What its tensors begin with in a single file, whichever names it has."""
        return (self.prefix, self.converted) if self.converted else (self.prefix,)
