"""Networks beside a denoiser that tell it where and whom, behind one face each for hints and for image prompts.

A kind of file is one module in `adapters.port` that exports SPECS; `open_steering` finds the one that a file is of.
Nothing here keeps anything between calls: what a network makes of an image once is a value that the caller holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import atelier.adapters.port
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.folder import NETWORK_STEM, archive_in
from atelier.checkpoints.kind import Identity, identify, kinds
from atelier.errors import BadFile
from atelier.nn.ports import Conditioning, Ports
from atelier.nn.seamless import EDGES, Seamless
from atelier.registry import discover
from atelier.weights.archive import Archive, counted, open_any

STEERS = frozenset({"controlnet", "control_lora", "t2i_adapter", "ip_adapter"})
"""Kinds of files that steer, of which some variants are not read."""
FADE = 0.825
"""By how much less each layer further from the middle counts, where the prompt or the control is to win (the factor of
ControlNet's authors, "guess mode")."""


@dataclass(frozen=True, slots=True)
class Acting:
    """How a network acts in one call of the denoiser.

    weight: factor on all that it adds; layers: a further one for each layer, from the outermost to the middle, () for
    1; fades: whether layers further from the middle count less, by FADE each, where `layers` is (); rows:
    indices of the rows of x that it acts on, (R,), None for all; mask: (1 or B, 1, h, w), 0 to 1, where on the map,
    None for everywhere; hints: (B,), which of several hints each row has, None: row i has i % N; seamless: where
    opposite edges of the map meet, as in the denoiser's ports.
    """

    weight: float = 1.0
    layers: tuple[float, ...] = ()
    fades: bool = False
    rows: Tensor | None = None
    mask: Tensor | None = None
    hints: Tensor | None = None
    seamless: Seamless = EDGES

    def factors(self, layers: int, whole: int | None = None) -> tuple[float, ...]:
        """Of each of so many layers, from the outermost to the middle. whole: the place, counted from 0, of the one
        that does not fade, None for the last. Raises ValueError for another number than that of `self.layers`."""
        if self.layers:
            return tuple(self.weight * own for _, own in zip(range(layers), self.layers, strict=True))
        place = layers - 1 if whole is None else whole
        return tuple(self.weight * (FADE ** (place - i) if self.fades else 1.0) for i in range(layers))

    def masked(self, added: Tensor) -> Tensor:
        """What is added to a map (B, C, h, w), in its place alone."""
        if self.mask is None:
            return added
        mask = self.mask.to(added)
        if mask.shape[-2:] != added.shape[-2:]:
            mask = F.interpolate(mask, size=added.shape[-2:], mode="area")
        return added * mask

    def spread(self, added: Tensor, rows: int) -> Tensor:
        """What was computed for the acting rows alone, (R, ...) -> (rows, ...) with 0 in all others."""
        if self.rows is None:
            return added
        whole = added.new_zeros(rows, *added.shape[1:])
        return whole.index_copy(0, self.rows.to(added.device), added)

    def placed(self, added: Tensor, rows: int) -> Tensor:
        """What was computed for the acting rows of a map, (R, C, h, w), in its rows and its place: (rows, C, h, w)."""
        return self.masked(self.spread(added, rows))

    def picked(self, tensor: Tensor) -> Tensor:
        """The acting rows of (B, ...): (R, ...)."""
        return tensor if self.rows is None else tensor.index_select(0, self.rows.to(tensor.device))

    def told(self, cond: Conditioning) -> Conditioning:
        """What the acting rows are told."""
        return cond if self.rows is None else cond.rows(self.rows)

    def shared(self, read: Tensor, rows: int) -> Tensor:
        """What was made of N hints, (N, ...), for the acting ones of B rows: (R, ...)."""
        if len(read) == 1:
            return read.expand(rows if self.rows is None else len(self.rows), *read.shape[1:])
        own = torch.arange(rows) % len(read) if self.hints is None else self.hints
        return read.index_select(0, self.picked(own.to(read.device)))

    @property
    def acts(self) -> bool:
        """Whether it changes anything."""
        counts = self.weight != 0 and (not self.layers or any(self.layers))
        return counts and (self.rows is None or len(self.rows) > 0)


Encode = Callable[[Tensor], Tensor]
"""What a model's autoencoder makes of images (N, 3, H, W) in [-1, 1]: the mean of their latents, not scaled."""


class HintNet(Protocol):
    """Reads a hint: an image that says where things are."""

    @property
    def nets(self) -> Sequence[nn.Module]:
        """What takes memory."""
        ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """The kinds of hints that it tells apart, by any of their names; () where it reads one kind alone."""
        ...

    @property
    def layers(self) -> int:
        """How many of its layers `Acting.layers` has factors for."""
        ...

    @property
    def positive(self) -> bool:
        """Whether it acts on the rows of prompts alone, whatever a request says of negative ones."""
        ...

    def read(self, hint: Tensor, task: str = "", encode: Encode | None = None, /) -> object:
        """hint: (N, 3, H, W) in [0, 1], of the size of the image. task: of a network with `tasks`, the kind of hint.
        encode: for networks that read hints as latents, which others do not ask for.

        What stays the same for all calls of a run. Raises BadInput for a task that it does not know.
        """
        ...

    def ports(
        self,
        read: Any,  # noqa: ANN401 - what its own `read` made, of which each kind has another type
        x: Tensor,
        t: Tensor,
        cond: Conditioning,
        acting: Acting,
        /,
    ) -> Ports:
        """For one call of the denoiser, of B rows: x (B, C, h, w), t (B,), as the denoiser gets them.

        read: what `read` made of N hints; which of them each row has, `Acting.shared` says. NOTHING where it changes
        nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Needs:
    """What an image prompt reads of an image.

    image: of an encoder of images (`checkpoints.image_encoder`), its embedding, or its states before the last layer;
    None: nothing. width: of these; an encoder for it has as wide an embedding or states. face: of the face in it, the
    embedding of ArcFace as it is (raw) or of the length 1 (unit); None: nothing.
    """

    image: Literal["embedding", "states"] | None = None
    width: int = 0
    face: Literal["raw", "unit"] | None = None


@dataclass(frozen=True, slots=True)
class Features:
    """What was read of N images, as `Needs` says.

    image: (N, F) or (N, T, F), None where nothing of an encoder is needed; absent: the same of no image, (1, …);
    face: (N, 512), None where none is needed. No face is zeros.
    """

    image: Tensor | None = None
    absent: Tensor | None = None
    face: Tensor | None = None


class ImagePromptNet(Protocol):
    """Reads an image as a prompt: the tokens that its attention adds to those of the text."""

    @property
    def nets(self) -> Sequence[nn.Module]: ...

    @property
    def needs(self) -> Needs: ...

    def tokens(self, features: Features, /) -> tuple[Tensor, Tensor]:
        """(tokens (N, T, C) of N images, tokens of no image at all, of the same shape). Several images are one prompt
        where their tokens are put behind each other, along T.

        Raises ValueError for features that are not those needed.
        """
        ...

    def ports(self, tokens: Tensor, acting: Acting, blocks: Mapping[str, float], /) -> Ports:
        """tokens: (B, T, C), a row for each of x. blocks: factors by the beginning of an attention's path ("up.1"), of
        which the longest that fits counts; "" fits all; 1 where none does."""
        ...


Load = Callable[[torch.dtype], HintNet | ImagePromptNet]
"""Reads the tensors of a network, as a dtype. Raises BadFile."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that steers a model, of which only the header was read. needs: what an image prompt reads; None for a
    network that reads a hint. tasks: as of a `HintNet`."""

    load: Load
    needs: Needs | None = None
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SteeringKind:
    """A kind of file. kind, variants: the identities that it opens (see `checkpoints.kind`), all variants where there
    are none. prepare: from the header alone, how a file is used with a model; raises BadFile for one that is for
    another."""

    name: str
    kind: str
    prepare: Callable[[Archive, Checkpoint], Prepared]
    variants: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    def opens(self, identity: Identity) -> bool:
        return identity.kind == self.kind and (not self.variants or identity.variant in self.variants)


@cache
def steering_kinds() -> Mapping[str, SteeringKind]:
    """All kinds by name."""
    return discover(atelier.adapters.port, SteeringKind)


def open_steering(path: Path, model: Checkpoint, dtype: torch.dtype) -> HintNet | ImagePromptNet:
    """The network in a file, or in a folder of diffusers with one network. Raises BadFile for what is none, and for one
    that is for models of another family or of other sizes."""
    return prepared(path, model).load(dtype)


def prepared(path: Path, model: Checkpoint) -> Prepared:
    """What a file does for a model. Raises BadFile as `open_steering` does."""
    archive = archive_in(path, NETWORK_STEM) if path.is_dir() else open_any(path)
    identity = identify(archive)
    if identity is None:
        raise BadFile(path, f"is no ControlNet or other file that steers: it has {counted(archive.tensors.keys())}")
    for kind in steering_kinds().values():
        if kind.opens(identity):
            _check_family(path, identity, model)
            return kind.prepare(archive, model)
    if identity.kind in STEERS and not kinds()[identity.kind].reads(identity):
        raise BadFile(path, f"is {identity.phrase} of a variant that is not read ({identity.variant}): choose another")
    raise BadFile(path, f"is {identity.phrase}, which does not steer an image: choose a ControlNet or an IP-Adapter")


def _check_family(path: Path, identity: Identity, model: Checkpoint) -> None:
    families = (identity.family, *identity.fits)
    if identity.family is not None and model.family.name not in families:
        raise BadFile(path, f"is {identity.phrase}, and {model.name} is {model.family.title}: choose one for that")
