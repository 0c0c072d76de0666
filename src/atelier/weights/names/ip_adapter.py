"""Names of IP-Adapters. The ldm column is that of the authors' files, InstantID's among them; the diffusers column is
that of a U-Net of diffusers that has one loaded, without `unet.` in front.

The authors keep the keys and values of a perceiver in one piece, diffusers does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names.name import Layout, Name, Rows, both, weight

if TYPE_CHECKING:
    from atelier.models.ip_adapter import FaceSpec, IpAdapterSpec, MlpSpec, Projection, ResamplerSpec

PROJECTION, LAYERS = "image_proj.", "ip_adapter."
OF_DIFFUSERS = "encoder_hid_proj.image_projection_layers.0."
"""Where each layout keeps the projection."""
_LDM: frozenset[Layout] = frozenset({"ldm"})


def names(spec: IpAdapterSpec) -> Iterator[Name]:
    """Every parameter of `IpAdapter(spec)`."""
    from atelier.models.ip_adapter import places

    yield from _projection("projection", PROJECTION, OF_DIFFUSERS, spec.projection)
    for i, place in enumerate(places(spec.unet)):
        for kind in ("k", "v"):
            theirs = f"{place.theirs}.attn2.processor.to_{kind}_ip.0"
            yield weight(f"to_{kind}.{i}", f"{LAYERS}{2 * i + 1}.to_{kind}_ip", theirs)


def _projection(ours: str, ldm: str, theirs: str, spec: Projection) -> Iterator[Name]:
    from atelier.models.ip_adapter import FaceSpec, LinearSpec, MlpSpec

    match spec:
        case LinearSpec():
            yield from both(f"{ours}.proj", f"{ldm}proj", f"{theirs}image_embeds")
            yield from both(f"{ours}.norm", f"{ldm}norm", f"{theirs}norm")
        case MlpSpec():
            yield from _mlp(ours, ldm, theirs, spec)
        case FaceSpec():
            yield from face(ours, ldm, theirs, spec)
        case _:
            yield from resampler(ours, ldm, theirs, spec)


def face(
    ours: str, ldm: str, theirs: str, spec: FaceSpec, *, layers: str = "proj", norm: str = "norm"
) -> Iterator[Name]:
    """Every parameter of `FaceTokens(spec)`, below `ours`; the prefixes end with a dot. layers, norm: what the authors
    call what makes the tokens."""
    yield from both(f"{ours}.face.fc1", f"{ldm}{layers}.0", f"{theirs}proj.net.0.proj")
    yield from both(f"{ours}.face.fc2", f"{ldm}{layers}.2", f"{theirs}proj.net.2")
    yield from both(f"{ours}.face.norm", f"{ldm}{norm}", f"{theirs}norm")
    yield from resampler(f"{ours}.states", f"{ldm}perceiver_resampler.", theirs, spec.states)


def _mlp(ours: str, ldm: str, theirs: str, spec: MlpSpec) -> Iterator[Name]:
    yield from both(f"{ours}.fc1", f"{ldm}proj.0", f"{theirs}ff.net.0.proj")
    yield from both(f"{ours}.fc2", f"{ldm}proj.2", f"{theirs}ff.net.2")
    yield from both(f"{ours}.norm", f"{ldm}proj.3" if spec.each else f"{ldm}norm", f"{theirs}norm")


def resampler(ours: str, ldm: str, theirs: str, spec: ResamplerSpec) -> Iterator[Name]:
    """Every parameter of `Resampler(spec)`, below `ours`; the prefixes end with a dot."""
    if spec.tokens:
        yield Name(f"{ours}.queries", f"{ldm}latents", f"{theirs}latents")
    for layer in ("proj_in", "proj_out", "norm_out"):
        yield from both(f"{ours}.{layer}", f"{ldm}{layer}", f"{theirs}{layer}")
    for i in range(spec.layers):
        yield from _layer(f"{ours}.layers.{i}", f"{ldm}layers.{i}", f"{theirs}layers.{i}", spec.width)


def _layer(ours: str, ldm: str, theirs: str, width: int) -> Iterator[Name]:
    yield from both(f"{ours}.norm_states", f"{ldm}.0.norm1", f"{theirs}.ln0")
    yield from both(f"{ours}.norm_queries", f"{ldm}.0.norm2", f"{theirs}.ln1")
    yield weight(f"{ours}.to_q", f"{ldm}.0.to_q", f"{theirs}.attn.to_q")
    for start, kind in enumerate(("to_k", "to_v")):
        rows = Rows(start * width, width, 2 * width, _LDM)
        yield weight(f"{ours}.{kind}", f"{ldm}.0.to_kv", f"{theirs}.attn.{kind}", rule=rows)
    yield weight(f"{ours}.to_out", f"{ldm}.0.to_out", f"{theirs}.attn.to_out.0")
    yield from both(f"{ours}.norm_mlp", f"{ldm}.1.0", f"{theirs}.ff.0")
    yield weight(f"{ours}.fc1", f"{ldm}.1.1", f"{theirs}.ff.1.net.0.proj")
    yield weight(f"{ours}.fc2", f"{ldm}.1.3", f"{theirs}.ff.1.net.2")
