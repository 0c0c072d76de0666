"""Gradient checkpointing: blocks keep their inputs and are computed again in the backward pass (Chen 2016,
arXiv:1604.06174)."""

from __future__ import annotations

import functools

from torch import nn
from torch.utils import checkpoint

from atelier.models import clip, mmdit, t5
from atelier.nn.attention import SpatialTransformer
from atelier.nn.conv import ResBlock

BLOCKS = (ResBlock, SpatialTransformer, mmdit.Block, clip.Layer, t5.Layer)
"""What is computed again as one: blocks of U-Nets and autoencoders, of the MMDiT, layers of text encoders."""


def recomputed(net: nn.Module) -> int:
    """Makes the blocks of a network so, from outside; returns how many there are. Its results stay the same bits.

    Weights, names and checkpoints know nothing of it; without gradients it costs nothing.
    """
    blocks = [module for module in net.modules() if isinstance(module, BLOCKS)]
    for block in blocks:
        block.forward = functools.partial(checkpoint.checkpoint, block.forward, use_reentrant=False)
    return len(blocks)
