"""Which tensors of a file are to blame where a network of a model gave no numbers."""

from __future__ import annotations

from atelier.checkpoints.soundness import damaged
from atelier.errors import BadFile
from atelier.pipeline.lent import Need
from atelier.pipeline.resources import UPSCALER, Resources, networks


def damage(need: Need[object], part: object, have: Resources) -> BadFile | None:
    """What to say of a part that was borrowed from a file with NaN or infinity in it, None of one from a file without.

    The file is read where the network in memory holds such numbers, and then only: what is finite in it may have become
    infinite in a lower precision. An upscaler tells by itself. Raises BadFile where the file has changed.
    """
    tensors = (tensor for net in networks(part) for tensor in net.state_dict().values())
    if need.part.name == UPSCALER.name or all(bool(tensor.isfinite().all()) for tensor in tensors):
        return None
    return damaged(have.checkpoint(need.model).archives)
