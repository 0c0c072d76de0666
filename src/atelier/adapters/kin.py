"""Which family a weight adapter was made for, as far as its header tells."""

from __future__ import annotations

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.kind import Seen, family_title
from atelier.checkpoints.kinds import lora
from atelier.weights.archive import Archive

INTO_KEYS = ("attn2_to_k.", "attn2.to_k.", "attn2.processor.to_k_lora.")
INNER = ("down.weight", "lora_A.weight", "lora_A.default.weight")
"""Ends of the names of tensors whose second axis is the input of their layer."""


def kin(archive: Archive, model: Checkpoint) -> str | None:
    """The family that a file seems to be for, where that is another one than the model's."""
    found = lora.family(Seen.of(archive))
    return None if found is None or model.family.name.startswith(found) else family_title(found)


def is_foreign(archive: Archive, model: Checkpoint) -> bool:
    """Whether its cross-attention reads text states of another width, so that it cannot be for the model."""
    for name, info in archive.tensors.items():
        if name.endswith(INNER) and any(mark in name for mark in INTO_KEYS) and len(info.shape) > 1:
            return info.shape[1] != model.ends.context
    return False
