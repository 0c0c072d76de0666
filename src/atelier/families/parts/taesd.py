"""The tiny autoencoders on disk: the halves of a file, and their specs from their shapes."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from atelier.errors import BadFile
from atelier.families.facts import NO_FACTS, PartFacts
from atelier.families.part import Architecture
from atelier.families.shapes import Shapes
from atelier.weights.names import taesd as names
from atelier.weights.names.name import Layout

if TYPE_CHECKING:
    from atelier.models.taesd import TinyDecoder, TinyEncoder, TinySpec

LAYERS = "layers."
"""What diffusers puts before the numbers of layers."""
LAST = {"encoder": 14, "decoder": 19}
"""The number of the last layer of each half, as published."""


class Half(NamedTuple):
    """name: encoder or decoder; where its tensors lie in a file."""

    name: str
    layout: Layout
    prefix: str


def halves(found: Collection[str]) -> list[Half]:
    """Those of a file with tensors of these names; none where it is no tiny autoencoder."""
    made: list[Half] = []
    for name, last in LAST.items():
        before = last - names.BENT if name == "decoder" else last
        places: tuple[tuple[Layout, str, str], ...] = (
            ("diffusers", f"{name}.", f"{LAYERS}{before}.weight"),
            ("ldm", f"{name}.", f"{last}.weight"),
            ("ldm", f"taesd_{name}.", f"{last}.weight"),
            ("ldm", "", f"{last}.weight"),
        )
        made += [Half(name, layout, prefix) for layout, prefix, end in places if _holds(found, prefix, end)][:1]
    return made


def _holds(found: Collection[str], prefix: str, end: str) -> bool:
    """Whether the last layer of a half is there, and a block such as no other network has."""
    block = f"{LAYERS if end.startswith(LAYERS) else ''}3.conv.4.weight"
    return prefix + end in found and prefix + block in found


def infer_encoder(shapes: Shapes, _: PartFacts) -> TinySpec:
    """Raises BadFile where the shapes are no tiny encoder's."""
    from atelier.models.taesd import TinySpec

    width, channels = _layer(shapes, 0)
    if channels != 3:
        raise BadFile(shapes.source, f"encodes images of {channels} channels, which is no tiny autoencoder's way")
    return TinySpec(latent=_layer(shapes, LAST["encoder"])[0], width=width)


def infer_decoder(shapes: Shapes, _: PartFacts) -> TinySpec:
    """Raises BadFile where the shapes are no tiny decoder's."""
    from atelier.models.taesd import TinySpec

    width, latent = _layer(shapes, names.BENT if shapes.layout == "ldm" else 0)
    return TinySpec(latent=latent, width=width)


def _layer(shapes: Shapes, number: int) -> tuple[int, ...]:
    root = "" if shapes.layout == "ldm" else LAYERS
    return shapes.shape(f"{root}{number}.weight", 4)[:2]


def _facts(_: TinySpec) -> PartFacts:
    return NO_FACTS


def _build_encoder(spec: TinySpec) -> TinyEncoder:
    from atelier.models.taesd import TinyEncoder

    return TinyEncoder(spec)


def _build_decoder(spec: TinySpec) -> TinyDecoder:
    from atelier.models.taesd import TinyDecoder

    return TinyDecoder(spec)


ENCODER = Architecture(infer_encoder, names.encoder_names, _build_encoder, _facts)
DECODER = Architecture(infer_decoder, names.decoder_names, _build_decoder, _facts)
