"""IP-Adapters on disk: what each is, from its shapes and the U-Net that it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.errors import BadFile
from atelier.families.shapes import Shapes
from atelier.weights.names import ip_adapter as names

if TYPE_CHECKING:
    from atelier.models.ip_adapter import FaceSpec, IpAdapterSpec, LinearSpec, MlpSpec, Projection, ResamplerSpec
    from atelier.models.unet import UNetSpec

HEAD_WIDTH = 64
"""Of every published perceiver."""


def infer(shapes: Shapes, unet: UNetSpec, model: str = "the model") -> IpAdapterSpec:
    """unet: of the model that it is to be used with, which messages call `model`. Raises BadFile where the shapes are
    no IP-Adapter's, or one for other U-Nets."""
    from atelier.models.ip_adapter import IpAdapterSpec, places

    layers = [(name, shape) for name, shape in shapes.found.items() if ".to_k_ip." in name]
    if not layers:
        raise BadFile(shapes.source, "has no keys for the attention of a U-Net: it is no whole IP-Adapter")
    context, needed = layers[0][1][-1], places(unet)
    if context != unet.context:
        told = f"reads text states {context} wide, and those of {model} are {unet.context} wide"
        raise BadFile(shapes.source, f"{told}: it is for another model")
    if len(layers) != len(needed):
        told = f"is for U-Nets with {len(layers)} attentions to the text, and that of {model} has {len(needed)}"
        raise BadFile(shapes.source, f"{told}: it is for another model")
    return IpAdapterSpec(infer_projection(shapes, context), unet)


def infer_projection(shapes: Shapes, context: int) -> Projection:
    """What makes tokens of an image. Raises BadFile."""
    if shapes.layout == "ldm":
        return _of_authors(shapes, names.PROJECTION, context)
    return _of_diffusers(shapes, names.OF_DIFFUSERS, context)


def _of_authors(shapes: Shapes, at: str, context: int) -> Projection:
    if f"{at}proj.weight" in shapes.found:
        return _linear(shapes, f"{at}proj.weight", context)
    if f"{at}perceiver_resampler.proj_in.weight" in shapes.found:
        return infer_face(shapes, at, context)
    if f"{at}latents" in shapes.found:
        return _resampler(shapes, at, "{}layers.{}.0.to_q.weight", "{}layers.0.1.1.weight", context)
    return _mlp(shapes, f"{at}proj.0", f"{at}proj.2", context, each=f"{at}proj.3.weight" in shapes.found)


def infer_face(shapes: Shapes, at: str, context: int, layers: str = "proj") -> FaceSpec:
    """What refines the tokens of a face, as the authors name it. layers: those that make the tokens."""
    from atelier.models.ip_adapter import FaceSpec

    perceiver = f"{at}perceiver_resampler."
    refined = _resampler(shapes, perceiver, "{}layers.{}.0.to_q.weight", "{}layers.0.1.1.weight", context)
    return FaceSpec(_mlp(shapes, f"{at}{layers}.0", f"{at}{layers}.2", refined.width), refined)


def _of_diffusers(shapes: Shapes, at: str, context: int) -> Projection:
    from atelier.models.ip_adapter import FaceSpec

    layer, inner = "{}layers.{}.attn.to_q.weight", "{}layers.0.ff.1.net.0.proj.weight"
    if f"{at}image_embeds.weight" in shapes.found:
        return _linear(shapes, f"{at}image_embeds.weight", context)
    if f"{at}proj.net.2.weight" in shapes.found:
        refined = _resampler(shapes, at, layer, inner, context)
        return FaceSpec(_mlp(shapes, f"{at}proj.net.0.proj", f"{at}proj.net.2", refined.width), refined)
    if f"{at}latents" in shapes.found:
        return _resampler(shapes, at, layer, inner, context)
    last = f"{at}ff.net.2"
    each = shapes.shape(f"{last}.weight", 2)[0] == context
    return _mlp(shapes, f"{at}ff.net.0.proj", last, context, each=each)


def _linear(shapes: Shapes, name: str, context: int) -> LinearSpec:
    from atelier.models.ip_adapter import LinearSpec

    rows, features = shapes.shape(name, 2)
    return LinearSpec(features, _tokens(shapes, rows, context), context)


def _mlp(shapes: Shapes, first: str, last: str, context: int, *, each: bool = False) -> MlpSpec:
    from atelier.models.ip_adapter import MlpSpec

    inner, features = shapes.shape(f"{first}.weight", 2)
    rows = shapes.shape(f"{last}.weight", 2)[0]
    return MlpSpec(features, inner, _tokens(shapes, rows, context), context, each)


def _tokens(shapes: Shapes, rows: int, context: int) -> int:
    if rows % context:
        told = f"makes {rows} numbers of an image, which are no tokens as wide as the text states, {context}"
        raise BadFile(shapes.source, f"{told}: it is damaged or of another kind")
    return rows // context


def _resampler(shapes: Shapes, at: str, layer: str, inner: str, context: int) -> ResamplerSpec:
    from atelier.models.ip_adapter import ResamplerSpec

    width, features = shapes.shape(f"{at}proj_in.weight", 2)
    made = shapes.shape(f"{at}proj_out.weight", 2)[0]
    if made != context:
        raise BadFile(shapes.source, f"makes tokens {made} wide for text states {context} wide: it is damaged")
    heads = max(1, shapes.shape(layer.format(at, 0), 2)[0] // HEAD_WIDTH)
    shapes.divides(heads, width, "heads")
    latents = f"{at}latents"
    return ResamplerSpec(
        features=features,
        width=width,
        context=context,
        tokens=shapes.shape(latents, 3)[1] if latents in shapes.found else 0,
        layers=next(i for i in range(len(shapes.found)) if layer.format(at, i) not in shapes.found),
        heads=heads,
        mlp=shapes.shape(inner.format(at), 2)[0],
    )
