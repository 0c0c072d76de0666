"""What each pixel of an image shows, of ADE20K's 150 classes, by networks as transformers builds them: UperNet (Xiao
2018, arXiv:1807.10221), SegFormer (Xie 2021, arXiv:2105.15203), OneFormer (Jain 2022, arXiv:2211.06220)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier.errors import BadFile
from atelier.vision.by_transformers import open_net

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    Pixels = NDArray[np.uint8]

CLASSES = 150
BY_TASK = "OneFormerForUniversalSegmentation"
KINDS = ("UperNetForSemanticSegmentation", "SegformerForSemanticSegmentation", BY_TASK)
"""transformers' classes, as a folder's config.json names them."""
TASK = "the task is semantic"
"""What OneFormer is told to do, of what it was taught."""
COUNTER = "relative_position_index"
"""What old files hold of Swin and the network makes itself."""


@dataclass(frozen=True, slots=True)
class Segmenter:
    """net: one of KINDS; task: the ids of TASK, (1, n), None for a network that knows one task alone."""

    net: Any
    task: Tensor | None
    device: torch.device

    def labels(self, pixels: Pixels) -> Pixels:
        """(h, w), 0 (wall) to 149 (flag), of an image (h, w, 3)."""
        import torch
        import torch.nn.functional as F

        from atelier.vision.imagenet import seen

        with torch.inference_mode():
            scores = self.scores(seen(pixels, self.device)).float()
            full = F.interpolate(scores, size=pixels.shape[:2], mode="bilinear", align_corners=False)
        return full[0].argmax(0).to(torch.uint8).cpu().numpy()

    def scores(self, x: Tensor) -> Tensor:
        """(1, 150, i, j): the larger, the surer. Of masks, each with classes, the sum of both (Cheng 2021,
        arXiv:2107.06278, section 3.4)."""
        import torch

        if self.task is None:
            return self.net(pixel_values=x).logits
        said = self.net(pixel_values=x, task_inputs=self.task)
        classes, masks = said.class_queries_logits.softmax(-1)[..., :-1], said.masks_queries_logits.sigmoid()
        return torch.einsum("bqc,bqhw->bchw", classes, masks)


def open_segmenter(folder: Path, device: torch.device) -> Segmenter:
    """The network in a folder of transformers' own.

    Raises BadFile for one of another kind, other classes or without all its tensors, BadInput where transformers is not
    installed.
    """
    found = open_net(folder, KINDS, "telling what an image shows", COUNTER)
    if found.config.num_labels != CLASSES:
        raise BadFile(folder, f"knows {found.config.num_labels} classes; one of ADE20K's {CLASSES} is needed")
    task = _task(found.config.task_seq_len, device) if found.kind == BY_TASK else None
    return Segmenter(found.net.to(device), task, device)


def _task(length: int, device: torch.device) -> Tensor:
    """(1, length): TASK between its marks; OneFormer takes 0 for what fills the row."""
    import torch

    from atelier.weights.tokenizer import standard

    words = standard()
    ids = [words.bos, *words.encode(TASK), words.eos]
    return torch.tensor([ids + [0] * (length - len(ids))], device=device)
