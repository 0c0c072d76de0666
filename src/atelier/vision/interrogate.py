"""Words for images: those of editable lists, ranked by how near they are in the space of the model's own CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from atelier.checkpoints.image_text import has_image_text
from atelier.checkpoints.text import encode, text_encoder
from atelier.errors import BadFile
from atelier.families.parts import PROJECTION, VISION
from atelier.models.clip import ClipVision, normalised

if TYPE_CHECKING:
    from atelier.checkpoints.checkpoint import Checkpoint
    from atelier.nn.ports import Conditioning

SUFFIX = ".txt"
AT_ONCE = 256
"""Texts in one call of the tower."""


@dataclass(frozen=True, slots=True)
class WordList:
    """Words that are ranked against each other; one or more."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A word; share: 0 to 1, how much of the list's likelihood is its own."""

    word: str
    share: float


class Interrogator:
    """Ranks lists of words for images, with the image encoder of one model.

    Raises BadFile for a model that has no image encoder.
    """

    def __init__(self, model: Checkpoint, lists: Sequence[WordList]) -> None:
        if not has_image_text(model):
            raise BadFile(
                model.path, "has no image encoder that meets its text encoder: choose a model that carries one"
            )
        self.lists = tuple(lists)
        joint = model.load(PROJECTION, torch.float32)
        self._vision = model.load(VISION, torch.float32)
        self._scale = float(joint.logit_scale.detach().exp())
        encoder = text_encoder(model, torch.float32)
        with torch.no_grad():
            self._texts = [
                torch.cat([_unit(joint(_pooled(encode(encoder, part)))) for part in _parts(own.words)])
                for own in self.lists
            ]

    @torch.no_grad()
    def ranked(self, image: Image.Image) -> dict[str, tuple[Ranked, ...]]:
        """The words of each list, by its name, from the nearest to the farthest."""
        embedding = _embedded(self._vision, image)
        found: dict[str, tuple[Ranked, ...]] = {}
        for own, texts in zip(self.lists, self._texts, strict=True):
            shares = torch.softmax(self._scale * (texts @ embedding), 0)
            order = cast("list[int]", shares.argsort(descending=True, stable=True).tolist())
            found[own.name] = tuple(Ranked(own.words[i], float(shares[i])) for i in order)
        return found


def word_lists(folder: Path) -> tuple[WordList, ...]:
    """The .txt files of a folder, a word or phrase on each line. Raises BadFile for a folder without any."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
        texts = [(path.stem, path.read_text(encoding="utf-8-sig")) for path in files]
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(folder, f"its lists cannot be read ({getattr(error, 'strerror', None) or error})") from error
    lists = [
        WordList(name, tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())))
        for name, text in texts
    ]
    found = tuple(own for own in lists if own.words)
    if not found:
        raise BadFile(folder, "holds no .txt file with words: write one on each line")
    return found


def _parts(words: Sequence[str]) -> list[Sequence[str]]:
    return [words[start : start + AT_ONCE] for start in range(0, len(words), AT_ONCE)]


def _pooled(states: Conditioning) -> Tensor:
    assert states.pooled is not None
    return states.pooled


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(rows, dim=-1)


def _embedded(vision: ClipVision, image: Image.Image) -> Tensor:
    """The image, cut to its middle square, in the joint space: (J,), of length one."""
    side = vision.spec.image
    square = min(image.size)
    left, top = (image.width - square) // 2, (image.height - square) // 2
    cut = image.convert("RGB").crop((left, top, left + square, top + square))
    sized = cut if square == side else cut.resize((side, side), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(sized, np.float32) / 255)
    embedding = vision(normalised(pixels.permute(2, 0, 1)[None])).embedding
    assert embedding is not None
    return _unit(embedding)[0]
