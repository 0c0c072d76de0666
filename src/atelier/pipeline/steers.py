"""What steers a pass beside its prompts, as values: a network in a file, what it reads, and when and where it acts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from atelier.adapters.control_types import control_type
from atelier.adapters.port.example import Bank, looking, remembering
from atelier.adapters.steering import Acting, Encode, HintNet, ImagePromptNet
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.diffusion.rng import DEFAULT_SOURCE, stream
from atelier.diffusion.types import Moment, View
from atelier.errors import BadInput, about
from atelier.nn.ports import NOTHING, Conditioning, Ports
from atelier.nn.seamless import EDGES, Seamless
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.prompted import PortAdapter, Rows
from atelier.pipeline.resources import AUTOENCODER, hint_net, image_prompt_net
from atelier.pipeline.steering import self_attentions
from atelier.pipeline.values import Hint, Key, Looked, Values
from atelier.request.controls import Mode
from atelier.request.resolved import ModelRef, NetworkRef

EXAMPLE = 0x6578616D706C65
"""The seed of the noise on examples: the same for all images, so that none depends on those beside it."""
CUBES = "sdxl"
"""The family whose images an example disturbs too much else (A1111's rule)."""
REMEMBERED = 64
"""How many sets of views of a hint are kept as the network has read them: more than a pass over most canvases has."""


class Given(NamedTuple):
    """What a pass has. model: what predicts first."""

    model: ModelRef
    have: Lent
    values: Values


class Steer(Protocol):
    """Makes the adapter of a pass, when a run has what it needs."""

    def needs(self, model: ModelRef, /) -> tuple[Need[Any], ...]: ...

    def adapter(self, given: Given, /) -> PortAdapter: ...


@dataclass(frozen=True, slots=True)
class Span:
    """When something acts, as shares of the calls of a pass: from `start` to before `end`, or to the last one where
    that is 1."""

    start: float = 0.0
    end: float = 1.0

    def holds(self, progress: float) -> bool:
        return self.start <= progress and (progress < self.end or self.end >= 1)


@dataclass(frozen=True, slots=True)
class ByHint:
    """A network that reads a hint, which a stage left under `hint`. type: what the hint is, for a network that reads
    several; edges: where opposite ones of the image meet; fades: whether layers further from the middle count less;
    layers: a factor for each layer instead, () for none."""

    network: NetworkRef
    type: str
    hint: Key[Hint]
    weight: float
    span: Span
    mode: Mode
    edges: Seamless = EDGES
    fades: bool = False
    layers: tuple[float, ...] = ()

    def needs(self, model: ModelRef) -> tuple[Need[Any], ...]:
        """With the autoencoder, which reads the hints of some networks, as their files say."""
        return Need(model, hint_net(self.network)), Need(model, AUTOENCODER)

    def adapter(self, given: Given) -> PortAdapter:
        """Raises BadInput for another number of factors than the network has layers."""
        model, have = given.model, given.have
        opened, factor = have.take(Need(model, hint_net(self.network))), have.checkpoint(model).latent.factor
        kind = control_type(self.type)
        named = self.type if kind is None else kind.name
        if self.layers and len(self.layers) != opened.net.layers:
            told = f"{self.network.name} has {opened.net.layers} layers, and there are {len(self.layers)} factors"
            with about("controls"):
                raise BadInput(f"control {self.type!r}: layers: {told}")
        acting = Acting(weight=self.weight, layers=self.layers, fades=self.fades, seamless=self.edges)
        encode = partial(_encoded, model, have)
        return _Hinted(opened.net, given.values.read(self.hint), named, factor, encode, acting, self.span, self.mode)


@dataclass(frozen=True, slots=True)
class ByFace:
    """The ControlNet beside an image prompt of faces (InstantID, Wang 2024, arXiv:2401.07519, section 3.3): its hint
    shows where the face is, and in place of the text it reads the face's tokens.

    network, face, hint: of the ControlNet, of the image prompt, and where a stage left the hint; the rest: `ByHint`.
    """

    network: NetworkRef
    face: NetworkRef
    looked: Key[Looked]
    hint: Key[Hint]
    weight: float
    span: Span
    edges: Seamless = EDGES

    def needs(self, model: ModelRef) -> tuple[Need[Any], ...]:
        return (Need(model, hint_net(self.network)), Need(model, image_prompt_net(self.face)))

    def adapter(self, given: Given) -> PortAdapter:
        steer = ByHint(self.network, "", self.hint, self.weight, self.span, "balanced", self.edges)
        prompt = given.have.take(Need(given.model, image_prompt_net(self.face))).net
        return _TellingFace(steer.adapter(given), *_together(prompt, given.values.read(self.looked)))


@dataclass(frozen=True, slots=True)
class _TellingFace:
    """What reads a hint, told of a face in place of the text; negative prompts' rows of no face."""

    hinted: PortAdapter
    tokens: Tensor
    nothing: Tensor

    def ports(self, x: Tensor, t: Tensor, moment: Moment, cond: Conditioning, rows: Rows, /) -> Ports:
        told = replace(cond, tokens=_by_row(self.tokens, self.nothing, rows, cond.tokens))
        return self.hinted.ports(x, t, moment, told, rows)


def _by_row(tokens: Tensor, nothing: Tensor, rows: Rows, like: Tensor) -> Tensor:
    """(B, T, C): the tokens of an image (1, T, C), and those of none in the rows of negative prompts."""
    return torch.where(rows.negative[:, None, None], nothing.to(like), tokens.to(like))


_Reads = dict[tuple[View, ...], object]


@dataclass(frozen=True, slots=True)
class _Hinted:
    """acting: what is the same in all calls."""

    net: HintNet
    hint: Hint
    type: str
    factor: int
    encode: Encode
    acting: Acting
    span: Span
    mode: Mode
    _known: _Reads = field(default_factory=_Reads)

    def ports(self, x: Tensor, t: Tensor, moment: Moment, cond: Conditioning, rows: Rows, /) -> Ports:
        if not self.acting.weight or not self.span.holds(moment.progress):
            return NOTHING
        acting = replace(
            self.acting,
            rows=_positive(rows) if self.mode == "control" or self.net.positive else None,
            mask=_seen(self.hint.mask, moment.views, rows),
            hints=rows.view,
        )
        return self.net.ports(self._read(moment.views, x), x, t, cond, acting) if acting.acts else NOTHING

    def _read(self, views: tuple[View, ...], x: Tensor) -> object:
        """What the network makes of the hint, once for each set of views."""
        if views not in self._known:
            if len(self._known) == REMEMBERED:
                self._known.clear()
            shown = _shown(self.hint.image.to(x), views, self.factor)
            self._known[views] = self.net.read(shown, self.type if self.net.tasks else "", self.encode)
        return self._known[views]


def _encoded(model: ModelRef, have: Lent, image: Tensor) -> Tensor:
    """The mean latent of images (N, 3, H, W) in [-1, 1], by the model's own autoencoder."""
    autoencoder = have.take(Need(model, AUTOENCODER))
    return autoencoder.encode(image.to(next(autoencoder.parameters()).dtype)).mean


def _positive(rows: Rows) -> Tensor | None:
    """The rows of prompts; None for all."""
    return (~rows.negative).nonzero()[:, 0] if bool(rows.negative.any()) else None


def _shown(image: Tensor, views: Sequence[View], factor: int) -> Tensor:
    """What each view shows of an image (1, C, H, W), whose pixels are `factor` to a position of the latent."""
    if not views:
        return image
    scaled = (View(*(side * factor for side in view)) for view in views)
    return torch.cat([view.of(image) for view in scaled])


def _seen(mask: Tensor | None, views: Sequence[View], rows: Rows) -> Tensor | None:
    """The mask of each row."""
    if mask is None or not views:
        return mask
    each = torch.cat([view.of(mask) for view in views])
    return each[rows.view.to(each.device)]


@dataclass(frozen=True, slots=True)
class ByReference:
    """A network that reads an image as a prompt; a stage left what an encoder of images makes of it under `looked`."""

    network: NetworkRef
    looked: Key[Looked]
    weight: float
    span: Span
    blocks: Mapping[str, float]

    def needs(self, model: ModelRef) -> tuple[Need[Any], ...]:
        return (Need(model, image_prompt_net(self.network)),)

    def adapter(self, given: Given) -> PortAdapter:
        opened = given.have.take(Need(given.model, image_prompt_net(self.network)))
        looked = given.values.read(self.looked)
        return _Referred(opened.net, *_together(opened.net, looked), looked.mask, self.weight, self.span, self.blocks)


def _together(net: ImagePromptNet, looked: Looked) -> tuple[Tensor, Tensor]:
    """The tokens of all images behind each other, (1, T, C), and as many of no image."""
    made, nothing = net.tokens(looked.features)
    return made.flatten(0, 1)[None], nothing.flatten(0, 1)[None]


@dataclass(frozen=True, slots=True)
class _Referred:
    """The prompts see the image's tokens, negative prompts those of no image."""

    net: ImagePromptNet
    tokens: Tensor
    nothing: Tensor
    mask: Tensor | None
    weight: float
    span: Span
    blocks: Mapping[str, float]

    def ports(self, x: Tensor, _t: Tensor, moment: Moment, _cond: Conditioning, rows: Rows, /) -> Ports:
        if not self.weight or not self.span.holds(moment.progress):
            return NOTHING
        tokens = _by_row(self.tokens, self.nothing, rows, x)
        acting = Acting(weight=self.weight, mask=_seen(self.mask, moment.views, rows))
        return self.net.ports(tokens, acting, self.blocks)


@dataclass(frozen=True, slots=True)
class ByExample:
    """The model itself, which looks at another image meanwhile, whose latent a stage left under `latent`.

    fidelity: how far negative prompts are left alone, 0 to 1, which brings the result closer to the image: A1111's
    style fidelity, of which XL takes the third power.
    """

    latent: Key[Tensor]
    weight: float
    span: Span
    fidelity: float

    def needs(self, _model: ModelRef, /) -> tuple[Need[Any], ...]:
        return ()

    def adapter(self, given: Given) -> PortAdapter:
        latent, model = given.values.read(self.latent), given.have.checkpoint(given.model)
        noise = stream(EXAMPLE, DEFAULT_SOURCE).normal(latent.shape[1:])[None]
        fidelity = self.fidelity**3 if model.family.name == CUBES else self.fidelity
        return _Looking(model, latent, noise, self.weight, self.span, fidelity)


@dataclass(frozen=True, slots=True)
class _Looking:
    model: Checkpoint
    latent: Tensor
    noise: Tensor
    weight: float
    span: Span
    fidelity: float

    def ports(self, x: Tensor, t: Tensor, moment: Moment, cond: Conditioning, rows: Rows, /) -> Ports:
        """Costs another call of the network: of the same one, so that it reads keys and values of its own."""
        if not self.weight or not self.span.holds(moment.progress):
            return NOTHING
        bank: Bank = {}
        rows.net(self._shown(x, t, moment, rows), t, cond, remembering(self_attentions(self.model), bank))
        shares = torch.where(rows.negative, self.weight * (1 - self.fidelity), self.weight)
        return looking(bank, shares)

    def _shown(self, x: Tensor, t: Tensor, moment: Moment, rows: Rows) -> Tensor:
        """The image at the level of noise of each row, as the network sees it."""
        parameterization = self.model.parameterization
        sigma = self.model.levels.sigma(t.float().cpu())
        noisy = parameterization.noised(self.latent.cpu(), self.noise, sigma)
        scaled = parameterization.scale_in(noisy, sigma)
        if moment.views:
            seen = torch.cat([view.of(scaled[:1]) for view in moment.views])
            scaled = seen[rows.view.cpu()]
        return scaled.to(x)
