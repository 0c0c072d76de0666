"""The pool of latents a denoiser learns from: encoded once by worker processes, kept on disk, named by its content."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from atelier.errors import NotFinite
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.nn.conv import channels_last
from atelier.train.batches import Order, stack, token_rows
from atelier.train.data.cache import DAMAGED
from atelier.train.data.dataset import Dataset
from atelier.train.folder import locked, writing
from atelier.train.parts import content
from atelier.train.randomness import normal
from atelier.train.sources import fingerprint
from atelier.train.starts import ENCODING, vae_at
from atelier.train.tasks.images import to_pixels
from atelier.weights.formats.atomic import new_file
from atelier.weights.load import load_into
from atelier.weights.tokenizer import ClipTokenizer

CHUNK = 64
"""Images encoded at once."""
Shard = tuple[NDArray[np.float16], NDArray[np.uint16]]


@dataclass(frozen=True, slots=True)
class Latents:
    """A batch for the denoiser: latents (B, C, h, w) and the ids of their captions (B, T)."""

    latents: NDArray[np.float16]
    tokens: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pool:
    """`length` scenes in files of `shard`; latents are scaled posterior samples in float16, tokens are ids.

    vae: run folder of the autoencoder; folder: where the files are. Those that are not there, or are damaged, are made.
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

    def named(self, vae: AutoencoderKL) -> Pool:
        """The same pool in a folder below, called after all that its latents and tokens come from."""
        parts = (fingerprint(self.data), encoder_digest(vae), self.scale, self.shard, self.length, self.seed)
        digest = hashlib.sha256("\0".join(str(part) for part in parts).encode())
        digest.update((self.vocabulary / "merges.txt").read_bytes())
        return replace(self, folder=self.folder / digest.hexdigest()[:16])

    @property
    def files(self) -> int:
        return -(-self.length // self.shard)

    def path(self, part: int) -> Path:
        return self.folder / f"{part:05d}.npz"

    def rows(self, indices: list[int]) -> Latents:
        """The scenes of these numbers. Raises NotFinite, BadFile and StorageFull where they have to be made."""
        rows = [(_shard(self, index // self.shard), index % self.shard) for index in indices]
        latents = np.stack([latents[row] for (latents, _), row in rows])
        return Latents(latents, np.stack([tokens[row] for (_, tokens), row in rows]).astype(np.int64))


@dataclass(frozen=True, slots=True)
class PoolBatches:
    """Makes a step's latents."""

    pool: Pool
    order: Order

    def __call__(self, step: int) -> Latents:
        return self.pool.rows(self.order.indices(step))


def encoder_digest(vae: AutoencoderKL) -> str:
    """Names what makes latents of images: all of the autoencoder but its decoder."""
    return content(vae.spec, {name: t for name, t in vae.state_dict().items() if name.startswith(ENCODING)})


def _shard(pool: Pool, part: int) -> Shard:
    path = pool.path(part)
    while True:
        try:
            return stored(path)
        except FileNotFoundError:
            make_next(pool, part)
        except DAMAGED:
            path.unlink()


@functools.lru_cache(maxsize=512)
def stored(path: Path) -> Shard:
    """Latents and tokens in a file of the pool. What was read stays in memory. Raises one of DAMAGED."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return arrays["latents"], arrays["tokens"]


def make_next(pool: Pool, part: int) -> None:
    """Makes this part; or, where another worker is at it already, the first that is missing after it."""
    with writing(pool.folder):
        pool.folder.mkdir(parents=True, exist_ok=True)
        for missing in (n for n in range(part, pool.files) if not pool.path(n).exists()):
            with claim(pool.path(missing)) as mine:
                if mine and not pool.path(missing).exists():
                    _make(pool, missing)
                if mine:
                    return
    time.sleep(0.1)


@contextmanager
def claim(path: Path) -> Generator[bool]:
    """Whether this process alone is to make the file."""
    claim = path.with_name(f".tmp-{path.stem}")
    with claim.open("wb") as file:
        mine = locked(file.fileno())
        try:
            yield mine
        finally:
            if mine:
                claim.unlink(missing_ok=True)


@torch.no_grad()
def _make(pool: Pool, part: int) -> None:
    indices = range(part * pool.shard, min((part + 1) * pool.shard, pool.length))
    chunks = [indices[i : i + CHUNK] for i in range(0, len(indices), CHUNK)]
    with _one_thread():
        latents = np.concatenate([_encoded(pool, chunk) for chunk in chunks])
    tokens = token_rows(pool.data, indices, ClipTokenizer.from_folder(pool.vocabulary)).astype(np.uint16)
    with new_file(pool.path(part)) as file:
        np.savez(file, latents=latents, tokens=tokens)


def _encoded(pool: Pool, chunk: range) -> NDArray[np.float16]:
    posterior = _encoder(pool.vae, pool.spec).encode(to_pixels(stack(pool.data, chunk)))
    sample = posterior.sample(normal(posterior.mean.shape, pool.seed, "posterior", chunk.start)) * pool.scale
    latents = sample.contiguous().half().numpy()
    if not np.isfinite(latents).all():
        raise NotFinite(f"{pool.vae}: its latents of images {chunk.start} to {chunk.stop - 1} are not finite")
    return latents


@functools.lru_cache(maxsize=1)
def _encoder(vae: Path, spec: VaeSpec) -> AutoencoderKL:
    return channels_last(load_into(lambda: AutoencoderKL(spec), vae_at(vae).tensors, source=vae))


@contextmanager
def _one_thread() -> Generator[None]:
    """The same bits in a worker and in the training process, and no more than the worker's share of the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
