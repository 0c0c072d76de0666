"""Which family a weight adapter was made for, as far as its header tells."""

from __future__ import annotations

from collections.abc import Mapping

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.weights.archive import Archive

CONTEXTS: Mapping[int, str] = {
    768: "Stable Diffusion 1.x",
    1024: "Stable Diffusion 2.x",
    1280: "the Stable Diffusion XL refiner",
    2048: "Stable Diffusion XL",
}
"""By the width of the text states, which cross-attention reads."""
MARKS = (
    ("double_blocks", "Flux"),
    ("single_transformer_blocks", "Flux"),
    ("joint_blocks", "Stable Diffusion 3"),
    ("transformer.transformer_blocks", "Stable Diffusion 3"),
    ("lora_transformer_", "Stable Diffusion 3"),
    ("lora_prior_", "Stable Cascade"),
)
INTO_KEYS = ("attn2_to_k.", "attn2.to_k.", "attn2.processor.to_k_lora.")
INNER = ("down.weight", "lora_A.weight", "lora_A.default.weight")
"""Ends of the names of tensors whose second axis is the input of their layer."""


def kin(archive: Archive, model: Checkpoint) -> str | None:
    """The family that a file is for, where that is another one than the model's; None where it may be the same."""
    for mark, title in MARKS:
        if any(mark in name for name in archive.tensors) and model.family.title != title:
            return title
    width = _context(archive)
    if width is None or width == model.ends.context:
        return None
    return CONTEXTS.get(width, f"a model whose text states are {width} wide ({model.ends.context} here)")


def _context(archive: Archive) -> int | None:
    for name, info in archive.tensors.items():
        if name.endswith(INNER) and any(mark in name for mark in INTO_KEYS) and len(info.shape) > 1:
            return info.shape[1]
    return None
