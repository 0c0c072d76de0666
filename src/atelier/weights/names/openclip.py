"""Names of CLIP's text tower in single files that hold it as open_clip does: Stable Diffusion 2.x and XL.

The ldm column has no `cond_stage_model.` or `conditioner.embedders.1.` in front. The diffusers column is that of
`names.clip`. open_clip keeps the query, key and value of an attention in one tensor, and the projection as (in, out).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from atelier.weights.names import clip
from atelier.weights.names.name import Name, Rows, Rule, Transposed

if TYPE_CHECKING:
    from atelier.models.clip import TextSpec, VisionSpec

ROOT = "model."
_FUSED = {"to_q": 0, "to_k": 1, "to_v": 2}
_LAYER = {
    "norm1": "ln_1",
    "attn.to_out": "attn.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_AROUND = {
    "token_embedding.weight": "token_embedding.weight",
    "position_embedding.weight": "positional_embedding",
    "final_norm.weight": "ln_final.weight",
    "final_norm.bias": "ln_final.bias",
    "projection.weight": "text_projection",
}
_AROUND_VISION = {
    "class_embedding": "class_embedding",
    "patch_embedding.weight": "conv1.weight",
    "position_embedding.weight": "positional_embedding",
    "pre_norm.weight": "ln_pre.weight",
    "pre_norm.bias": "ln_pre.bias",
    "post_norm.weight": "ln_post.weight",
    "post_norm.bias": "ln_post.bias",
    "projection.weight": "proj",
}


def names(spec: TextSpec) -> Iterator[Name]:
    """Every parameter of `ClipText(spec)`."""
    for name in clip.names(spec):
        ldm, rule = _stored(name.ours, spec.width)
        also = tuple(other for other in name.also if not other.startswith("transformer."))
        yield replace(name, ldm=ROOT + ldm, rule=rule, also=also)


def vision_names(spec: VisionSpec) -> Iterator[Name]:
    """Every parameter of `ClipVision(spec)`; the ldm column has no `visual.` in front."""
    for name in clip.vision_names(spec):
        ldm, rule = _stored(name.ours, spec.width, _AROUND_VISION)
        yield replace(name, ldm=ldm, rule=rule)


def _stored(ours: str, width: int, around: Mapping[str, str] = _AROUND) -> tuple[str, Rule | None]:
    if ours in around:
        return around[ours], Transposed(frozenset({"ldm"})) if ours == "projection.weight" else None
    _, number, inner = ours.split(".", maxsplit=2)
    layer, kind = inner.rsplit(".", maxsplit=1)
    block, piece = f"transformer.resblocks.{number}", layer.removeprefix("attn.")
    if piece in _FUSED:
        rows = Rows(_FUSED[piece] * width, width, 3 * width, frozenset({"ldm"}))
        return f"{block}.attn.in_proj_{kind}", rows
    return f"{block}.{_LAYER[layer]}.{kind}", None
