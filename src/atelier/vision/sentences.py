"""Saying in a sentence what an image shows, by BLIP (Li 2022, arXiv:2201.12086) as transformers builds it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier.errors import BadFile
from atelier.vision.by_transformers import PACKAGE, open_net, usable

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor

KIND = "BlipForConditionalGeneration"
TOKENIZER = ("vocab.txt", "tokenizer.json")
"""Without one transformers makes up a tokenizer that knows no word."""
BEAMS, MOST = 3, 40
"""Of the search for a sentence: how many are followed at once, as the paper does; and how many tokens it may have."""


@dataclass(frozen=True, slots=True)
class Captioner:
    """net: a BlipForConditionalGeneration; words: its tokenizer."""

    net: Any
    words: Any
    device: torch.device

    def caption(self, image: Image) -> str:
        """One sentence, always the same for the same image; may be empty."""
        import torch

        with torch.no_grad():
            ids = self.net.generate(
                pixel_values=self.pixels(image), num_beams=BEAMS, do_sample=False, max_new_tokens=MOST
            )
        return self.words.decode(ids[0], skip_special_tokens=True).strip()

    def pixels(self, image: Image) -> Tensor:
        """(1, 3, side, side), squeezed into a square, as the network was taught."""
        import numpy as np
        import torch
        from PIL.Image import Resampling

        from atelier.models.clip import normalised

        side = self.net.config.vision_config.image_size
        square = np.array(image.convert("RGB").resize((side, side), Resampling.BICUBIC))
        return normalised(torch.from_numpy(square).permute(2, 0, 1)[None] / 255).to(self.device)


def open_captioner(folder: Path, device: torch.device) -> Captioner:
    """The network in a folder that transformers wrote, with its tokenizer.

    Raises BadFile for one of another kind or that is not whole, BadInput where transformers is not installed.
    """
    net = open_net(folder, (KIND,), "captioning by BLIP").net
    if not any((folder / name).is_file() for name in TOKENIZER):
        raise BadFile(folder, f"holds no tokenizer: put its {' or '.join(TOKENIZER)} there")
    library: Any = import_module(PACKAGE)
    words = usable(folder, lambda: library.AutoTokenizer.from_pretrained(folder, local_files_only=True))
    return Captioner(net.to(device), words, device)
