"""Names of PhotoMaker's encoder, without `id_encoder.` in front, in the ldm column. There is no other layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from atelier.weights.names import clip
from atelier.weights.names.ip_adapter import face
from atelier.weights.names.name import Name, both, weight

if TYPE_CHECKING:
    from atelier.models.photomaker import PhotoMakerSpec

FACE = "qformer_perceiver."
_MERGED = (("merge1", "mlp1"), ("merge2", "mlp2"))


def names(spec: PhotoMakerSpec) -> Iterator[Name]:
    """Every parameter of `PhotoMaker(spec)`."""
    for name in clip.vision_names(spec.vision):
        yield replace(name, ours=f"vision.{name.ours}", also=())
    yield weight("projection2", "visual_projection_2", "visual_projection_2")
    for ours, theirs in _MERGED:
        folder = f"fuse_module.{theirs}"
        yield from both(f"{ours}.norm", f"{folder}.layernorm", f"{folder}.layernorm")
        for layer in ("fc1", "fc2"):
            yield from both(f"{ours}.{layer}", f"{folder}.{layer}", f"{folder}.{layer}")
    yield from both("norm", "fuse_module.layer_norm", "fuse_module.layer_norm")
    if spec.face is not None:
        yield from face("face", FACE, FACE, spec.face, layers="token_proj", norm="token_norm")
