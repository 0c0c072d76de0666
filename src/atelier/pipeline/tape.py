"""What a run has predicted so far, so that another process can go on in the middle of an image.

A sampler keeps its history in local variables, and its noise comes from streams that are a function of the seed. Both
come about again when the sampler is run once more and is told the predictions that it was told before: no network is
asked, and every sampler resumes to the bit without knowing of it.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from atelier.diffusion.types import Denoiser, Moment, Prediction

MOST_BYTES = 256 * 2**20
"""Of predictions: a thousand calls for an image of 1024 by 1024 pixels. What comes behind is not kept."""
_MARK = b"AtTape1\n"
_LENGTH = struct.Struct(">I")
_DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class _Kept:
    """A prediction and what it takes, as it was made or as it was read."""

    prediction: Prediction

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        clean, unguided = self.prediction.clean, self.prediction.unguided
        return (clean,) if unguided is None else (clean, unguided)

    @property
    def size(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.tensors)


class Tape:
    """The predictions of the images that are made now, in order, over all their passes.

    image: the index of the first of these images, None before any; played: how many were told again; asked: how many
    calls a network answered.
    """

    def __init__(self, image: int | None = None, known: Sequence[Prediction] = (), most: int = MOST_BYTES) -> None:
        self.image: int | None = image
        self.played, self.asked = 0, 0
        self._kept = [_Kept(prediction) for prediction in known]
        self._size, self._most = sum(kept.size for kept in self._kept), most
        self._place, self._is_over = 0, False

    def __len__(self) -> int:
        return len(self._kept)

    def around(self, denoise: Denoiser, image: int, *, remembers: bool) -> Denoiser:
        """What predicts in one pass over the images from index `image` on: tells again what is known, then asks and
        keeps. It belongs inside what counts the calls, as one that is told again is a call as well.

        remembers: whether what is composed in it carries something from one call to the next, which telling again
        would not bring about; then nothing more of these images is kept.
        """
        if image != self.image:
            self.image, self._kept, self._size, self._place, self._is_over = image, [], 0, 0, False
        self._is_over = self._is_over or remembers

        def told(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
            if not self._is_over and self._place < len(self._kept):
                return self._again(x)
            made = denoise(x, sigma, moment)
            self.asked += 1
            self._keep(made)
            return made

        return told

    def to_bytes(self, fingerprint: str) -> bytes:
        """All of it; fingerprint: what must be the same for it to be true."""
        parts = [_entry(kept) for kept in self._kept]
        body = b"".join(raw for _, raw in parts)
        head: dict[str, object] = {
            "fingerprint": fingerprint,
            "image": self.image,
            "sha256": hashlib.sha256(body).hexdigest(),
            "predictions": [shapes for shapes, _ in parts],
        }
        text = json.dumps(head, separators=(",", ":")).encode()
        return b"".join((_MARK, _LENGTH.pack(len(text)), text, body))

    @classmethod
    def of(cls, data: bytes, fingerprint: str) -> Tape:
        """What `to_bytes` made; an empty one where it is another's, cut off, or damaged."""
        try:
            return cls(*_read(data, fingerprint))
        except (ValueError, KeyError, TypeError, struct.error):
            return cls()

    def _again(self, x: Tensor) -> Prediction:
        """The same tensors in memory of their own: a sampler may write into what it is given."""
        kept = self._kept[self._place].prediction
        self._place += 1
        self.played += 1
        unguided = None if kept.unguided is None else kept.unguided.to(x.device, copy=True)
        return Prediction(kept.clean.to(x.device, copy=True), unguided)

    def _keep(self, made: Prediction) -> None:
        copied = Prediction(made.clean.clone(), None if made.unguided is None else made.unguided.clone())
        kept = _Kept(copied)
        self._is_over = self._is_over or self._size + kept.size > self._most
        if not self._is_over:
            self._kept.append(kept)
            self._size += kept.size
            self._place += 1


def _entry(kept: _Kept) -> tuple[list[object], bytes]:
    """(dtype and shape of each tensor, their bytes)."""
    tensors = [tensor.detach().cpu().contiguous() for tensor in kept.tensors]
    raw = b"".join(tensor.view(torch.uint8).numpy().tobytes() for tensor in tensors)
    return [[str(t.dtype).removeprefix("torch."), list(t.shape)] for t in tensors], raw


def _read(data: bytes, fingerprint: str) -> tuple[int, list[Prediction]]:
    """Raises ValueError, KeyError, TypeError or struct.error for what is no tape of this fingerprint."""
    if not data.startswith(_MARK):
        raise ValueError("no tape")
    start = len(_MARK) + _LENGTH.size
    (length,) = _LENGTH.unpack(data[len(_MARK) : start])
    head, body = json.loads(data[start : start + length]), data[start + length :]
    if head["fingerprint"] != fingerprint or hashlib.sha256(body).hexdigest() != head["sha256"]:
        raise ValueError("another's, or damaged")
    found = _tensors([tuple(one) for entry in head["predictions"] for one in entry], body)
    return head["image"], [Prediction(*(next(found) for _ in entry)) for entry in head["predictions"]]


def _tensors(shapes: Sequence[tuple[str, list[int]]], body: bytes) -> Iterator[Tensor]:
    at = 0
    for name, shape in shapes:
        dtype = _DTYPES[name]
        size = prod(shape) * dtype.itemsize
        raw = bytearray(body[at : at + size])
        if len(raw) != size:
            raise ValueError("cut off")
        yield torch.frombuffer(raw, dtype=dtype).reshape(shape)
        at += size
