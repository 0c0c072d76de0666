"""IP-Adapters of all variants and InstantID's, through the port for attention."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.adapters.read import AdapterFile, layers_of
from atelier.adapters.steering import Acting, Features, Needs, Prepared, SteeringKind
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadFile
from atelier.families.parts import UNET
from atelier.families.parts.ip_adapter import infer
from atelier.families.shapes import Shapes
from atelier.models.ip_adapter import (
    FaceSpec,
    FaceTokens,
    IpAdapter,
    IpAdapterSpec,
    LinearSpec,
    MlpSpec,
    ResamplerSpec,
    places,
)
from atelier.models.unet import UNetSpec
from atelier.nn.attention import attend, merge_heads, split_heads
from atelier.nn.ports import NOTHING, AttentionLayer, Ports
from atelier.weights.archive import Archive, Stored, renamed
from atelier.weights.load import load_into, read
from atelier.weights.names import ip_adapter as names

OF_FACE = 512
"""Width of ArcFace's embeddings."""
FIRST_VERSION = re.compile(r"faceid[-_ ]?plus(?![-_ ]?v2)", re.IGNORECASE)
"""In the name of a file: the first version of FaceID-plus. Nothing in a file tells the versions apart, so that the name
has to; a file of any other name is of the second."""
FACE_LAYER = re.compile(r"ip_adapter\.(\d+)\.(to_(?:q|k|v|out)_lora\.(?:down|up)\.weight)")
"""A LoRA that a FaceID file has beside its keys and values: the number of the attention, and what of it."""
ONLY: Mapping[str, Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "sdxl": {
            "style": {"": 0.0, "up.0.attentions.1": 1.0},
            "composition": {"": 0.0, "down.2.attentions.1": 1.0},
        },
        "sd1": {
            "style": {"down.2": 0.0, "middle": 0.0, "up.1.attentions.0": 0.0, "up.1.attentions.1": 0.0},
            "composition": {"": 0.0, "down.2.attentions.0": 0.25, "down.2.attentions.1": 1.0},
        },
    }
)
"""Factors of blocks, by the family of a model, for the style or the composition of an image alone. Of Stable Diffusion
XL: InstantStyle (Wang 2024, arXiv:2404.02733, section 3.3); of 1.x: the factors that ComfyUI's nodes for IP-Adapters
have, which count attentions as they are computed: the middle before the way up."""


@dataclass(frozen=True, slots=True)
class ImagePrompt:
    """An `ImagePromptNet`. shortcut: of FaceID-plus, by how much the image of a face refines what its embedding says;
    None for its first version, and for all others."""

    net: IpAdapter
    shortcut: float | None = None

    @property
    def nets(self) -> Sequence[nn.Module]:
        return (self.net,)

    @property
    def needs(self) -> Needs:
        return needs_of(self.net.spec)

    def tokens(self, features: Features, /) -> tuple[Tensor, Tensor]:
        """See `ImagePromptNet`."""
        weight = self.net.to_k[0].weight
        assert isinstance(weight, Tensor)
        image, absent, face = (_on(own, weight) for own in (features.image, features.absent, features.face))
        needs, projection = self.needs, self.net.projection
        if (needs.image and (image is None or absent is None)) or (needs.face and face is None):
            raise ValueError(f"this image prompt reads {needs}, and it was not given all of that")
        if face is not None and needs.face:
            nobody = torch.zeros_like(face)
            if not isinstance(projection, FaceTokens):
                return projection(face), projection(nobody)
            assert image is not None
            assert absent is not None
            return projection(face, image, self.shortcut), projection(nobody, absent.expand_as(image), self.shortcut)
        made = projection(image)
        return made, projection(absent).expand_as(made)

    def ports(self, tokens: Tensor, acting: Acting, blocks: Mapping[str, float], /) -> Ports:
        """See `ImagePromptNet`. `acting.fades` says nothing here: attentions to the text have no order of depth."""
        if acting.weight == 0 or (acting.rows is not None and not len(acting.rows)):
            return NOTHING
        found: dict[str, _Added] = {}
        for place, to_k, to_v in zip(places(self.net.spec.unet), self.net.to_k, self.net.to_v, strict=True):
            factor = acting.weight * _factor(blocks, place.path)
            if factor:
                found[f"{place.path}.attn2"] = _Added(tokens, to_k, to_v, acting, factor)
        return Ports(attention=found) if found else NOTHING


@dataclass(frozen=True, slots=True)
class _Added:
    """An `AttentionPatch`: what attention to the tokens of images gives beside that to the text (equation 5)."""

    tokens: Tensor
    to_k: nn.Module
    to_v: nn.Module
    acting: Acting
    factor: float

    def __call__(
        self, layer: AttentionLayer, _x: Tensor, query: Tensor, _key: Tensor, _value: Tensor, attended: Tensor, /
    ) -> Tensor:
        rows = self.acting.rows
        tokens = self.tokens.to(self.to_k.get_parameter("weight"))
        if rows is not None:
            query, tokens = query[rows], tokens[rows]
        made = (linear(tokens).to(query.dtype) for linear in (self.to_k, self.to_v))
        own_key, own_value = (split_heads(own, layer.heads) for own in made)
        added = self.factor * merge_heads(attend(query, own_key, own_value))
        if self.acting.mask is not None:
            mask = _on_grid(self.acting.mask, layer.grid).to(added)
            added = added * (mask[rows] if rows is not None and len(mask) > 1 else mask)
        return attended + self.acting.spread(added, len(attended))


def _on_grid(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """(1 or B, 1, h, w) -> (1 or B, T, 1), resized as diffusers does: bicubic, and without a filter before it."""
    if mask.shape[-2:] != grid:
        mask = F.interpolate(mask.float(), size=grid, mode="bicubic")
    return mask.flatten(2).transpose(1, 2)


def _factor(blocks: Mapping[str, float], path: str) -> float:
    fitting = [own for own in blocks if not own or path == own or path.startswith(f"{own}.")]
    return blocks[max(fitting, key=len)] if fitting else 1.0


def _on(own: Tensor | None, like: Tensor) -> Tensor | None:
    return None if own is None else own.to(like)


def needs_of(spec: IpAdapterSpec) -> Needs:
    """What an image prompt of this shape reads of an image."""
    match spec.projection:
        case LinearSpec(features):
            return Needs("embedding", features)
        case MlpSpec(features, each=each):
            return Needs("states", features) if each else Needs(face="unit")
        case ResamplerSpec(features):
            return Needs(face="raw") if features == OF_FACE else Needs("states", features)
        case FaceSpec(states=states):
            return Needs("states", states.features, face="unit")


def prepare(archive: Archive, model: Checkpoint) -> Prepared:
    """Raises BadFile for a file that is damaged, or for models of other sizes."""
    unet = _unet(archive, model)
    stored = stored_in(archive)
    spec = infer(Shapes.of(stored), unet, model.name)
    return Prepared(partial(_loaded, stored, spec), needs_of(spec))


def _loaded(stored: Stored, spec: IpAdapterSpec, dtype: torch.dtype) -> ImagePrompt:
    archive = stored.archive
    tensors = read(stored, names.names(spec), dtype=dtype, mapped=False)
    net = load_into(lambda: IpAdapter(spec), tensors, source=archive.path)
    second = isinstance(spec.projection, FaceSpec) and not FIRST_VERSION.search(archive.path.name)
    return ImagePrompt(net, shortcut=1.0 if second else None)


def face_lora(archive: Archive, model: Checkpoint) -> AdapterFile | None:
    """The LoRA that a file of FaceID brings, which is for the whole U-Net: a weight adapter as `adapters.read.matched`
    takes it, to be attached with the weight 1 (the authors') whatever the weight of the image. None where it has none.

    Raises BadFile where the file is for another model.
    """
    found = {name: match for name in archive.tensors if (match := FACE_LAYER.fullmatch(name))}
    if not found:
        return None
    attentions = [f"{place.theirs}.attn{k}" for place in places(_unet(archive, model)) for k in (1, 2)]
    stored: dict[str, str] = {}
    for name, match in found.items():
        number = int(match[1])
        if number >= len(attentions):
            told = f"changes attention {number}, and the model has {len(attentions)}"
            raise BadFile(archive.path, f"{told}: it is for another model")
        stored[f"unet.{attentions[number]}.processor.{match[2]}"] = name
    own = renamed(archive, stored)
    layers, others = layers_of(own.tensors)
    return AdapterFile(own, MappingProxyType(layers), tuple(others))


def _unet(archive: Archive, model: Checkpoint) -> UNetSpec:
    if not model.has(UNET):
        raise BadFile(archive.path, f"cannot be used with {model.name}, {model.family.title}: it has no U-Net")
    return model.spec(UNET)


def stored_in(archive: Archive) -> Stored:
    """The network in its file, without the LoRA that may be beside it."""
    for prefix in ("unet.", ""):
        if any(name.startswith(prefix + names.OF_DIFFUSERS) for name in archive.tensors):
            return Stored(archive, "diffusers", prefix)
    return Stored(archive, "ldm", tolerated=lambda name: FACE_LAYER.fullmatch(name) is not None)


SPECS = (SteeringKind("IP-Adapter", "ip_adapter", prepare, aliases=("ip_adapter",)),)
