"""A family of models as data: how its checkpoints are recognised, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from atelier.families.config import Config
from atelier.families.facts import Facts, LatentFormat, ModelDefaults, PredictionType
from atelier.families.part import PartSpec
from atelier.families.shapes import Shapes
from atelier.families.telling import Tell, as_said
from atelier.families.words import CLIP_WORDS, Tokenizer, Words
from atelier.weights.archive import Archive

if TYPE_CHECKING:
    from atelier.diffusion.parameterization import Parameterization
    from atelier.diffusion.scheduling import Table
    from atelier.diffusion.types import Levels
    from atelier.models.clip import TextSpec
    from atelier.models.unet import UNet
    from atelier.nn.ports import Conditioning


class Ends(NamedTuple):
    """What goes into a denoising network and comes out, in channels; context: width of the text states; pooled: of the
    text encoders' part of the vector condition, where that is known from the network alone."""

    in_channels: int
    out_channels: int
    context: int
    pooled: int = 0


class Silence(NamedTuple):
    """The zeros in place of a text encoder: positions of a chunk; width of its states; width of the pooled state, 0 for
    none."""

    positions: int
    width: int
    pooled: int


Silent = Callable[[Ends, Mapping[str, Any]], Silence]
"""The ends of the denoising network and the specs of the text encoders that a model has, by the names of the parts ->
what stands for one that it has not."""


def whole(_: TextSpec) -> int:
    """A tower that lacks no layer."""
    return 0


@dataclass(frozen=True, slots=True)
class Tower:
    """One text encoder of a family and its tokenizer.

    tokenizer: the folder in the diffusers layout; `atelier.` and this is the key in a single file's metadata. standard:
    the tokenizer of a single file that brings none; None: that lies beside the file, in a folder of that name.
    least_skip: the smallest clip skip that has an effect, 2 for families that were trained on the states before the
    last layer. normed: whether the final norm is applied. cut_off: how many layers a stored tower lacks at its end,
    which counting from there has to know. words: what kind of tokenizer it is. silent: what stands for this text
    encoder in a model that has it not; None: every model has it.
    """

    part: PartSpec[Any, Any]
    tokenizer: str
    standard: Callable[[], Tokenizer] | None
    least_skip: int = 1
    normed: bool = True
    cut_off: Callable[[TextSpec], int] = whole
    words: Words = CLIP_WORDS
    silent: Silent | None = None


Join = Callable[[Sequence["Conditioning"]], "Conditioning"]
"""What each tower says of the same chunks, in the order of the towers -> what the denoising network is told."""


@dataclass(frozen=True, slots=True)
class SingleFile:
    """How a family keeps a model in one file.

    detect: whether a file is one of ours, from the names in its header; facts: what its metadata and names tell;
    tolerated: full names that may be left unread; markers: empty tensors that say something by being there, and of
    which models.
    """

    detect: Callable[[Archive], bool]
    facts: Callable[[Archive], Facts]
    tolerated: Callable[[str], bool]
    markers: Mapping[str, Callable[[Facts], bool]]


@dataclass(frozen=True, slots=True)
class Folder:
    """How a family keeps a model in a diffusers folder.

    detect: whether it is one of ours, from the model_index.json (and what lies beside it); pipeline: the class of
    diffusers that generates with a model of these ends and latent; it raises BadInput where there is none; index: what
    else the model_index.json says. read, write: the facts of scheduler/scheduler_config.json. more: further
    configurations that are the same for all models, by their place.
    """

    detect: Callable[[Config], bool]
    pipeline: Callable[[Ends, LatentFormat], str]
    index: Mapping[str, object]
    read: Callable[[Facts, Config], Facts]
    write: Callable[[Facts], Mapping[str, object]]
    more: Mapping[str, Mapping[str, object]] = field(default_factory=dict[str, "Mapping[str, object]"])


@dataclass(frozen=True, slots=True)
class Probe:
    """What only a denoising network itself can tell.

    is_silent: whether a single file says nothing of it; ask: the facts as the network, in float32, shows them.
    """

    is_silent: Callable[[Archive], bool]
    ask: Callable[[UNet, Facts], Facts]


@dataclass(frozen=True, slots=True)
class Family:
    """What all models of a kind have in common.

    parts: in the order in which they are shown; denoiser, autoencoder: the names of two of them. towers: the text
    encoders; join: how their states are put together; tell: what the network is told beside them. folder: None where
    diffusers has no layout for it. predictions: what its models may predict. levels, parameterization: the noise that a
    model of these facts was trained on, and what its output means; a flow is known by the latter. latent: from the
    shapes of the autoencoder; ends: from the shapes of the denoiser. defaults: of a model of these facts, trained at
    this size in pixels; latent_side: positions along a side of the latent where nobody says the size. table: whose
    columns of the tabulated schedules (Align Your Steps) are right for it, None where there are none. tiny: what
    the tiny autoencoder for its latents is called by its author, None where there is none. probe: for what files may
    leave open, None where headers tell everything. augmented: of models that enlarge a small image, which lies beside
    their latent, the levels of the noise that is put on it; None for others.
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    parts: tuple[PartSpec[Any, Any], ...]
    denoiser: str
    autoencoder: str
    towers: tuple[Tower, ...]
    join: Join
    single: SingleFile
    folder: Folder | None
    predictions: tuple[PredictionType, ...]
    levels: Callable[[Facts], Levels]
    parameterization: Callable[[Facts], Parameterization]
    latent: Callable[[Shapes, Facts], LatentFormat]
    ends: Callable[[Shapes], Ends]
    defaults: Callable[[int, Facts], ModelDefaults]
    latent_side: int
    table: Table | None
    tell: Tell = as_said
    tiny: str | None = None
    probe: Probe | None = None
    augmented: Callable[[], Levels] | None = None

    def part(self, name: str) -> PartSpec[Any, Any] | None:
        return next((part for part in self.parts if part.name == name), None)

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What the tensors of all parts begin with in a single file."""
        return tuple(prefix for part in self.parts for prefix in part.prefixes)
