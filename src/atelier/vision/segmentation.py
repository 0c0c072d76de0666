"""What each pixel of an image shows, of ADE20K's 150 classes, by networks as transformers builds them: UperNet (Xiao
2018, arXiv:1807.10221), SegFormer (Xie 2021, arXiv:2105.15203), OneFormer (Jain 2022, arXiv:2211.06220).

transformers is optional (`pip install 'atelier[depth]'`). It is given tensors that our own reader read, of a local
folder, and runs no code from there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from atelier.errors import BadFile, BadInput

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    Pixels = NDArray[np.uint8]

PACKAGE, INSTALL = "transformers", "pip install 'atelier[depth]'"
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
    if find_spec(PACKAGE) is None:
        raise BadInput(f"telling what an image shows needs {PACKAGE}: {INSTALL}")
    kind = _kind(folder)
    library: Any = import_module(PACKAGE)
    try:
        of_kind = getattr(library, kind)
        config = of_kind.config_class.from_pretrained(folder, local_files_only=True)
        net, told = of_kind.from_pretrained(
            None, config=config, state_dict=_tensors(folder), output_loading_info=True, dtype="float32"
        )
    except BadFile:
        raise
    except Exception as error:  # a library of many formats fails in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadFile(folder, f"is no network that can be used ({reason}): get it again") from error
    _check(folder, config, told)
    task = _task(config.task_seq_len, device) if kind == BY_TASK else None
    return Segmenter(net.to(device).eval(), task, device)


def _kind(folder: Path) -> str:
    path = folder / "config.json"
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(path, "cannot be read: get the folder again") from error
    named = cast("dict[str, object]", found).get("architectures") if isinstance(found, dict) else None
    kinds = cast("list[object]", named) if isinstance(named, list) else []
    for kind in KINDS:
        if kind in kinds:
            return kind
    raise BadFile(path, f"is of another network ({', '.join(map(str, kinds)) or 'none'}): {', '.join(KINDS)} are read")


def _tensors(folder: Path) -> dict[str, Tensor]:
    """Raises BadFile."""
    from atelier.checkpoints.folder import TRANSFORMERS_STEM, archive_in

    archive = archive_in(folder, TRANSFORMERS_STEM)
    return archive.load((name for name in archive.tensors if not name.endswith(COUNTER)), mapped=False)


def _check(folder: Path, config: Any, told: Any) -> None:  # noqa: ANN401 - transformers' own
    """Raises BadFile where tensors are missing or misshapen, which transformers would make up."""
    lacking = sorted(map(str, (*told["missing_keys"], *told["mismatched_keys"])))
    lacking = [name for name in lacking if COUNTER not in name]
    if lacking:
        raise BadFile(folder, f"lacks {len(lacking)} tensors ({', '.join(lacking[:3])}): get it again")
    if config.num_labels != CLASSES:
        raise BadFile(folder, f"knows {config.num_labels} classes; one of ADE20K's {CLASSES} is needed")


def _task(length: int, device: torch.device) -> Tensor:
    """(1, length): TASK between its marks; OneFormer takes 0 for what fills the row."""
    import torch

    from atelier.weights.tokenizer import standard

    words = standard()
    ids = [words.bos, *words.encode(TASK), words.eos]
    return torch.tensor([ids + [0] * (length - len(ids))], device=device)
