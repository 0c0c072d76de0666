"""The pool of latents a denoiser learns from: encoded once by worker processes, kept on disk, checked by content."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from atelier.errors import BadFile
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.train.data.dataset import Dataset
from atelier.train.randomness import normal, permutation
from atelier.train.tasks.images import stack, to_image
from atelier.weights.tokenizer import ClipTokenizer


@dataclass(frozen=True, slots=True)
class Pool:
    """`length` scenes in shards of `shard`; latents are scaled posterior samples in float16, tokens are int16 ids.

    folder: where shards are kept, named by the digest of all that made them; a shard that is not there is made.
    """

    data: Dataset
    vae: Path
    spec: VaeSpec
    scale: float
    vocabulary: Path
    folder: Path
    length: int
    shard: int
    seed: int

    def rows(self, indices: list[int]) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        """Latents (B, C, h, w) and tokens (B, T) of the scenes."""
        latents: list[NDArray[np.float16]] = []
        tokens: list[NDArray[np.int64]] = []
        for index in indices:
            part, row = divmod(index, self.shard)
            stored = _shard(self, part)
            latents.append(stored[0][row])
            tokens.append(stored[1][row].astype(np.int64))
        return np.stack(latents), np.stack(tokens)

    @property
    def count(self) -> int:
        return -(-self.length // self.shard)

    def path(self, part: int) -> Path:
        return self.folder / _digest(self) / f"{part:05d}.npz"


@dataclass(frozen=True, slots=True)
class PoolOrder:
    """Scenes are independent draws, so the first epoch takes them as they come; later epochs are shuffled."""

    length: int
    batch: int
    seed: int
    shuffle_first: bool

    def indices(self, step: int) -> list[int]:
        first = step * self.batch
        return [self._place(n) for n in range(first, first + self.batch)]

    def _place(self, number: int) -> int:
        epoch, place = divmod(number, self.length)
        if epoch == 0 and not self.shuffle_first:
            return place
        return int(_shuffled(self.length, self.seed, epoch)[place])


@functools.lru_cache(maxsize=2)
def _shuffled(length: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return permutation(length, seed, "order", epoch).numpy()


@functools.lru_cache(maxsize=512)
def _shard(pool: Pool, part: int) -> tuple[NDArray[np.float16], NDArray[np.int16]]:
    path = pool.path(part)
    if not path.exists():
        _make(pool, part, path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            latents, tokens = stored["latents"], stored["tokens"]
    except (OSError, ValueError, KeyError) as error:
        raise BadFile(path, f"is a damaged latent cache ({error}); delete it, it is made again") from None
    if not np.isfinite(latents).all():
        raise BadFile(path, "holds latents that are not finite; delete it and check the autoencoder")
    return latents, tokens


@functools.lru_cache(maxsize=1)
def _encoder(path: Path, spec: VaeSpec) -> AutoencoderKL:
    torch.set_num_threads(1)
    net = AutoencoderKL(spec)
    net.load_state_dict(load_file(path))
    return net.eval().to(memory_format=torch.channels_last)


@torch.no_grad()
def _make(pool: Pool, part: int, path: Path) -> None:
    indices = range(part * pool.shard, min((part + 1) * pool.shard, pool.length))
    vae, vocabulary = _encoder(pool.vae, pool.spec), ClipTokenizer.from_folder(pool.vocabulary)
    latents: list[NDArray[np.float16]] = []
    for first in range(indices.start, indices.stop, 64):
        chunk = range(first, min(first + 64, indices.stop))
        posterior = vae.encode(to_image(stack(pool.data, chunk)))
        sample = posterior.sample(normal(posterior.mean.shape, pool.seed, "posterior", first)) * pool.scale
        latents.append(sample.contiguous().half().numpy())
    tokens = np.array([vocabulary.ids(pool.data.caption(i)) for i in indices], np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez(file, latents=np.concatenate(latents), tokens=tokens)
    partial.replace(path)


@functools.lru_cache(maxsize=4)
def _digest(pool: Pool) -> str:
    parts = [repr(pool.data), repr(pool.spec), repr(pool.scale), repr(pool.shard), repr(pool.length), repr(pool.seed)]
    content = hashlib.sha256("\0".join(parts).encode())
    content.update(pool.vae.read_bytes())
    content.update((pool.vocabulary / "merges.txt").read_bytes())
    return content.hexdigest()[:16]
