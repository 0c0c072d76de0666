"""Names of CLIP's towers. Single files of SD 1.x hold the text tower under transformers' names.

The ldm column has no `cond_stage_model.` in front. Older files, and those of recent transformers, lack the level
`text_model.`; both are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from atelier.weights.names.name import Identity, Layout, Name, both, weight

if TYPE_CHECKING:
    from atelier.models.clip import JointSpec, TextSpec, VisionSpec

_LDM: frozenset[Layout] = frozenset({"ldm"})
_ATTENTION = (("to_q", "q_proj"), ("to_k", "k_proj"), ("to_v", "v_proj"), ("to_out", "out_proj"))


def names(spec: TextSpec) -> Iterator[Name]:
    """Every parameter of `ClipText(spec)`."""
    for name in _text(spec):
        bare = name.diffusers.removeprefix("text_model.")
        if bare == name.diffusers:
            yield replace(name, ldm=f"transformer.{bare}")
        else:
            yield replace(name, ldm=f"transformer.{name.diffusers}", also=(bare, f"transformer.{bare}"))


def unprojected_names(spec: TextSpec) -> Iterator[Name]:
    """Those of a tower whose pooled state single files use as it is: a projection there is none, or is not used."""
    for name in names(spec):
        square = spec.projection is not None and name.ours == "projection.weight"
        yield replace(name, rule=Identity(spec.width, _LDM)) if square else name


def vision_names(spec: VisionSpec) -> Iterator[Name]:
    """Every parameter of `ClipVision(spec)`; no single-file layout has a vision tower, so both columns are one. Recent
    transformers leave out the level `vision_model.`, as that of text towers."""
    for name in _vision(spec):
        bare = name.diffusers.removeprefix("vision_model.")
        yield name if bare == name.diffusers else replace(name, also=(bare,))


def joint_names(_: JointSpec) -> Iterator[Name]:
    """Every parameter of `ClipJoint(spec)`; neither layout knows it, so both have our names."""
    yield weight("text_projection", "text_projection", "text_projection")
    yield _same("logit_scale", "logit_scale")


def _vision(spec: VisionSpec) -> Iterator[Name]:
    embeddings = "vision_model.embeddings"
    yield _same("class_embedding", f"{embeddings}.class_embedding")
    yield _same("patch_embedding.weight", f"{embeddings}.patch_embedding.weight")
    yield _same("position_embedding.weight", f"{embeddings}.position_embedding.weight")
    yield from _both("pre_norm", "vision_model.pre_layrnorm")
    for i in range(spec.layers):
        yield from _layer(f"layers.{i}", f"vision_model.encoder.layers.{i}")
    yield from _both("post_norm", "vision_model.post_layernorm")
    if spec.projection is not None:
        yield weight("projection", "visual_projection", "visual_projection")


def _text(spec: TextSpec) -> Iterator[Name]:
    for ours in ("token_embedding", "position_embedding"):
        yield _same(f"{ours}.weight", f"text_model.embeddings.{ours}.weight")
    for i in range(spec.layers):
        yield from _layer(f"layers.{i}", f"text_model.encoder.layers.{i}")
    if spec.normed:
        yield from _both("final_norm", "text_model.final_layer_norm")
    if spec.projection is not None:
        yield weight("projection", "text_projection", "text_projection")


def _layer(ours: str, theirs: str) -> Iterator[Name]:
    yield from _both(f"{ours}.norm1", f"{theirs}.layer_norm1")
    for our, their in _ATTENTION:
        yield from _both(f"{ours}.attn.{our}", f"{theirs}.self_attn.{their}")
    yield from _both(f"{ours}.norm2", f"{theirs}.layer_norm2")
    yield from _both(f"{ours}.mlp.fc1", f"{theirs}.mlp.fc1")
    yield from _both(f"{ours}.mlp.fc2", f"{theirs}.mlp.fc2")


def _same(ours: str, theirs: str) -> Name:
    return Name(ours, theirs, theirs)


def _both(ours: str, theirs: str) -> Iterator[Name]:
    return both(ours, theirs, theirs)
