"""What an image shows, in the colours of ADE20K's classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked, Drawer, NeedsFile

if TYPE_CHECKING:
    import torch

    from atelier.vision.annotating import Pixels

UPERNET = (
    "upernet-convnext-small",
    "upernet-convnext-tiny",
    "upernet-convnext-base",
    "upernet-convnext-large",
    "upernet-swin-tiny",
    "upernet-swin-small",
    "upernet-swin-base",
    "upernet-swin-large",
    "segformer-b5-finetuned-ade-640-640",
    "segformer-b0-finetuned-ade-512-512",
)
ONEFORMER = ("oneformer_ade20k_swin_large", "oneformer_ade20k_swin_tiny")
"""Folders as they are called where they are published."""


def load(path: Path, device: torch.device) -> Drawer:
    """Raises BadFile, and BadInput where transformers is not installed."""
    from atelier.vision.palette import in_colours
    from atelier.vision.segmentation import open_segmenter

    segmenter = open_segmenter(path, device)

    def draw(pixels: Pixels, _: Asked) -> Pixels:
        return in_colours(segmenter.labels(pixels))

    return Drawer(draw, (segmenter.net,))


SPECS = (
    Annotator(
        "seg_ufade20k",
        "Semantic segmentation by UperNet or SegFormer, in the colours of ADE20K's classes.",
        NeedsFile(load, UPERNET),
        ("segmentation", "seg_upernet", "seg_segformer"),
    ),
    Annotator(
        "seg_ofade20k",
        "Semantic segmentation by OneFormer, in the colours of ADE20K's classes.",
        NeedsFile(load, ONEFORMER),
        ("oneformer_ade20k", "seg_oneformer"),
    ),
)
