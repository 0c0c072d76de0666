"""Names of the MMDiT. The ldm column has no `model.diffusion_model.` in front.

The ldm layout keeps query, key and value in one piece. diffusers keeps scale before shift in the two modulations that
have no gate, all others as ldm does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names.name import Halves, Layout, Name, Rows, both, weight

if TYPE_CHECKING:
    from atelier.models.mmdit import MMDiTSpec

_LDM: frozenset[Layout] = frozenset({"ldm"})
_UNGATED = Halves(frozenset({"diffusers"}))

_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "norm_q", "norm_k")
"""What diffusers calls a stream's layers, the image's; then the text's."""
_ADDED = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "norm_added_q", "norm_added_k")


def names(spec: MMDiTSpec) -> Iterator[Name]:
    """Every parameter of `MMDiT(spec)`, in order of execution, and its table of positions."""
    yield from places()
    yield from told(context=True)
    for index in range(spec.depth):
        yield from block(spec, index, last=index == spec.depth - 1)
    yield from _ungated("final_modulation", "final_layer.adaLN_modulation.1", "norm_out.linear")
    yield from both("final", "final_layer.linear", "proj_out")


def places() -> Iterator[Name]:
    """What makes tokens of a latent."""
    yield from both("patch_embedding", "x_embedder.proj", "pos_embed.proj")
    yield Name("positions", "pos_embed", "pos_embed.pos_embed")


def told(*, context: bool) -> Iterator[Name]:
    """What reads the level, the pooled vector and, where it does, the text."""
    for ours, ldm, theirs in (("time", "t", "timestep"), ("pooled", "y", "text")):
        for number, place in ((1, 0), (2, 2)):
            folder = f"time_text_embed.{theirs}_embedder.linear_{number}"
            yield from both(f"{ours}_embedding.linear{number}", f"{ldm}_embedder.mlp.{place}", folder)
    if context:
        yield from both("context_embedding", "context_embedder", "context_embedder")


def image_stream(spec: MMDiTSpec, index: int, image: str) -> Iterator[Name]:
    """The image's own layers in a block. image: what the ldm layout calls them."""
    ours, theirs = f"blocks.{index}.image", f"transformer_blocks.{index}"
    yield from both(f"{ours}.modulation", f"{image}.adaLN_modulation.1", f"{theirs}.norm1.linear")
    yield from _attention(spec, f"{ours}.attn", f"{image}.attn", f"{theirs}.attn", _ATTENTION, out=True)
    if index in spec.dual:
        yield from _attention(spec, f"{ours}.attn2", f"{image}.attn2", f"{theirs}.attn2", _ATTENTION, out=True)
    yield from _mlp(f"{ours}.mlp", f"{image}.mlp", f"{theirs}.ff")


def block(spec: MMDiTSpec, index: int, *, last: bool) -> Iterator[Name]:
    """Both streams; in the `last` one that of the text ends."""
    ours, text, theirs = f"blocks.{index}", f"joint_blocks.{index}.context_block", f"transformer_blocks.{index}"
    yield from image_stream(spec, index, f"joint_blocks.{index}.x_block")
    layer = f"{ours}.text.modulation", f"{text}.adaLN_modulation.1", f"{theirs}.norm1_context.linear"
    yield from _ungated(*layer) if last else both(*layer)
    yield from _attention(spec, f"{ours}.text.attn", f"{text}.attn", f"{theirs}.attn", _ADDED, out=not last)
    if not last:
        yield from _mlp(f"{ours}.text.mlp", f"{text}.mlp", f"{theirs}.ff_context")


def _attention(
    spec: MMDiTSpec, ours: str, ldm: str, theirs: str, called: tuple[str, ...], *, out: bool
) -> Iterator[Name]:
    for part, (layer, folder) in enumerate(zip(("to_q", "to_k", "to_v"), called, strict=False)):
        rule = Rows(part * spec.width, spec.width, 3 * spec.width, fused=_LDM)
        for kind in ("weight", "bias"):
            yield Name(f"{ours}.{layer}.{kind}", f"{ldm}.qkv.{kind}", f"{theirs}.{folder}.{kind}", rule)
    if spec.qk_norm:
        yield weight(f"{ours}.norm_q", f"{ldm}.ln_q", f"{theirs}.{called[4]}")
        yield weight(f"{ours}.norm_k", f"{ldm}.ln_k", f"{theirs}.{called[5]}")
    if out:
        yield from both(f"{ours}.to_out", f"{ldm}.proj", f"{theirs}.{called[3]}")


def _mlp(ours: str, ldm: str, theirs: str) -> Iterator[Name]:
    yield from both(f"{ours}.fc1", f"{ldm}.fc1", f"{theirs}.net.0.proj")
    yield from both(f"{ours}.fc2", f"{ldm}.fc2", f"{theirs}.net.2")


def _ungated(ours: str, ldm: str, theirs: str) -> Iterator[Name]:
    for kind in ("weight", "bias"):
        yield Name(f"{ours}.{kind}", f"{ldm}.{kind}", f"{theirs}.{kind}", _UNGATED)
