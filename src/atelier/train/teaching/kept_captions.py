"""What text encoders that are not taught make of captions: kept in memory, and on disk for a run that goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from atelier.checkpoints.text import ClipTower, Known, SilentTower
from atelier.nn.ports import Conditioning
from atelier.train.data.cache import Cache, Floats, text_key
from atelier.train.parts import content
from atelier.train.teaching.base import Base, Caption, states_of, told

CACHED = 2**30
"""Bytes of states that are kept in memory."""


class KeptCaptions:
    """What captions condition the base's network on, as its text encoders are.

    empty: what `states_of` says of an empty text; folder: where states are kept. Raises BadFile where they cannot be.
    """

    def __init__(self, base: Base, empty: Conditioning, folder: Path) -> None:
        self._base, self._empty = base, empty
        self._cache, self._encoder = Cache.open(folder), text_encoder_digest(base)
        self._rows: dict[tuple[Caption, int], Conditioning] = {}

    def __call__(self, captions: Sequence[Caption], least: int) -> Conditioning:
        """One row for each, of `least` chunks or of as many as the longest has.

        Raises StorageFull and BadFile where they cannot be kept.
        """
        rows = [self._of_one(caption, least) for caption in captions]
        most = max(len(own.tokens[0]) for own in rows) // self._empty.tokens.shape[1]
        return _joined(rows if most == least else [self._of_one(caption, most) for caption in captions])

    def __len__(self) -> int:
        """How many rows are in memory."""
        return len(self._rows)

    def _of_one(self, caption: Caption, least: int) -> Conditioning:
        """One row. Encoded by itself, so that its last bits do not depend on which others were beside it when it was
        first seen: a run that goes on sees it beside others."""
        key = caption, least
        if key not in self._rows:
            self._rows[key] = told(self._base, self._states(caption.text, least), [caption])
            while len(self._rows) > max(1, CACHED // self._rows[key].tokens.nbytes):
                del self._rows[next(iter(self._rows))]
        return self._rows[key]

    def _states(self, text: str, least: int) -> Conditioning:
        like = {"tokens": self._empty.tokens} | ({} if self._empty.pooled is None else {"pooled": self._empty.pooled})

        def made() -> dict[str, Floats]:
            with torch.no_grad():
                found = states_of(self._base, self._base.encoder, [text], least)
            return {name: _array(getattr(found, name)) for name in like}

        key = text_key(text, self._encoder, self._base.clip_skip, least)
        arrays = self._cache.arrays(key, tuple(like), made)
        kept = {name: torch.from_numpy(np.array(arrays[name])).to(own) for name, own in like.items()}
        return Conditioning(kept["tokens"], kept.get("pooled"))


def text_encoder_digest(base: Base) -> str:
    """Names what makes states of texts: the weights of all text encoders, how they are read, and their tokenizers."""
    digest = hashlib.sha256()
    for tower in base.encoder.towers:
        digest.update(_of_tower(tower).encode())
    return digest.hexdigest()[:16]


def _of_tower(tower: Known) -> str:
    match tower:
        case SilentTower(silence=silence):
            return repr(silence)
        case ClipTower(net=net, tokenizer=tokenizer):
            reading: tuple[object, ...] = (tokenizer, tower.least_skip, tower.normed, tower.cut_off)
        case _:
            net, reading = tower.net, (tower.tokenizer,)
    return content((net.spec, reading), net.state_dict())


def _array(states: Tensor) -> Floats:
    """numpy has no bfloat16; all of its numbers are numbers of float32."""
    return (states.float() if states.dtype == torch.bfloat16 else states).cpu().numpy()


def _joined(rows: Sequence[Conditioning]) -> Conditioning:
    """Rows of one length each, put together."""

    def over(parts: Sequence[Tensor | None]) -> Tensor | None:
        there = [part for part in parts if part is not None]
        return torch.cat(there) if there else None

    tokens = torch.cat([row.tokens for row in rows])
    return Conditioning(tokens, over([row.pooled for row in rows]), over([row.sizes for row in rows]))
