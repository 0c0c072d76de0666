"""What reaches a training step: which images, made by whom, kept where."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import training_support as support
from atelier.errors import AtelierError, BadFile, NotFinite, StorageFull, UnknownName
from atelier.train import latents
from atelier.train.batches import ImageBatches, Order
from atelier.train.data.dataset import SceneDataset
from atelier.train.data.folder import FolderDataset
from atelier.train.latents import Pool
from atelier.train.prefetch import Prefetch
from atelier.train.recipe import Data
from atelier.train.runs import frozen
from atelier.train.sources import dataset, fingerprint


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return support.draw_images(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> dict[str, str]:
    return support.finished_parts(tmp_path_factory.mktemp("parts"), str(pictures))


def taken(order: Order, steps: int) -> list[int]:
    return [index for step in range(steps) for index in order.indices(step)]


def test_endless_data_comes_as_it_is_numbered() -> None:
    assert taken(Order(None, 4, seed=1), 3) == list(range(12))


@pytest.mark.parametrize("batch", [1, 4, 7, 25])
def test_every_epoch_shows_every_picture_once_in_an_order_of_its_own(batch: int) -> None:
    order = Order(10, batch, seed=1)
    seen = taken(order, 70 // batch + 3)
    epochs = [seen[i : i + 10] for i in range(0, 70, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 7
    assert taken(Order(10, 1, seed=1), 70) == seen[:70], "whatever the size of a batch"
    assert taken(replace(order, seed=2), 7) != seen[: 7 * batch]


def test_the_first_epoch_may_come_in_turn() -> None:
    plain, shuffled = Order(10, 5, 1, first_in_turn=True), Order(10, 5, 1)
    assert taken(plain, 2) == list(range(10))
    assert taken(plain, 6)[10:] == taken(shuffled, 6)[10:]


def test_a_folder_is_split(pictures: Path) -> None:
    train, held_out = (dataset(Data(source=str(pictures), size=16), split) for split in ("train", "held_out"))
    assert isinstance(train, FolderDataset)
    assert isinstance(held_out, FolderDataset)
    assert (train.length, held_out.length) == (22, 2)
    assert sorted(train.paths + held_out.paths) == sorted(pictures.glob("*.png"))
    other = dataset(Data(source=str(pictures), size=16, seed=3), "held_out")
    assert isinstance(other, FolderDataset)
    assert other.paths != held_out.paths
    for index, picture in enumerate(held_out.paths):
        assert held_out.caption(index) == picture.with_suffix(".txt").read_text()


@pytest.mark.parametrize(("count", "expected"), [(1, (1, 1)), (2, (1, 1)), (9, (8, 1)), (20, (17, 3))])
def test_small_folders_hold_out_one_and_large_ones_what_is_asked_for(
    count: int, expected: tuple[int, int], tmp_path: Path
) -> None:
    folder = support.draw_images(tmp_path, count if count < 20 else 60)
    data = Data(source=str(folder), size=16, validation=3)
    train, held_out = dataset(data, "train"), dataset(data, "held_out")
    assert (train.length, held_out.length) == (expected if count < 20 else (57, 3))


def test_scenes_held_out_are_of_another_seed() -> None:
    pytest.importorskip("PIL")
    from atelier.errors import BadInput

    try:
        train, held_out = dataset(Data(seed=4), "train"), dataset(Data(seed=4), "held_out")
    except BadInput as error:
        pytest.skip(str(error))
    assert (train, held_out) == (SceneDataset(4, "train", 128), SceneDataset(5, "held_out", 128))
    pairs = dataset(Data(size=64, seed=4, shares=(0, 0, 1)), "held_out")
    assert all(" to the " in pairs.caption(i) for i in range(20))
    assert fingerprint(pairs) != fingerprint(held_out)


def test_the_fingerprint_changes_with_every_file(pictures: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pictures, tmp_path / "p"))

    def now() -> str:
        return fingerprint(FolderDataset.open(folder, 16))

    seen = {now()}
    assert now() in seen
    (folder / "001.txt").write_text("another caption")
    seen.add(now())
    shutil.copy(folder / "000.png", folder / "003.png")
    seen.add(now())
    support.draw_images(folder, 25)
    seen.add(now())
    assert len(seen) == 4
    assert fingerprint(FolderDataset.open(folder, 20)) not in seen


def test_workers_for_endless_pictures_do_not_load_torch() -> None:
    code = "import atelier.train.batches, atelier.train.sources, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@dataclass(frozen=True)
class Squares:
    """Fails at `broken`, dies at `deadly`, sleeps at `slow`."""

    broken: int = -1
    deadly: int = -1
    slow: int = -1
    error: str = "file"

    def __call__(self, index: int) -> int:
        if index == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if index == self.slow:
            time.sleep(86_400)
        if index == self.broken:
            raise self.problem()
        return index * index

    def problem(self) -> Exception:
        match self.error:
            case "file":
                return BadFile("a.png", "broken image: replace it")
            case "name":
                return UnknownName("sampler", "Eule", ("Euler", "Heun"))
            case "full":
                return StorageFull("latents: the disk is full")
            case _:
                return ZeroDivisionError("division by zero")


def some(batches: Prefetch[int], count: int) -> list[int | None]:
    return [batches.take() for _ in range(count)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_items_come_in_order_whatever_the_number_of_workers(workers: int) -> None:
    with Prefetch(Squares(), first=5, workers=workers, ahead=2) as batches:
        assert some(batches, 12) == [n * n for n in range(5, 17)]


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        ("file", BadFile, r"^a\.png: broken image: replace it$"),
        ("name", UnknownName, r"^unknown sampler 'Eule': did you mean Euler or Heun\?$"),
        ("full", StorageFull, "the disk is full"),
        ("other", RuntimeError, r"^making batch 2: ZeroDivisionError: division by zero\nTraceback"),
    ],
)
def test_an_error_of_a_worker_arrives_at_its_item(error: str, kind: type[Exception], told: str) -> None:
    with Prefetch(Squares(broken=2, error=error), first=0, workers=1) as batches:
        assert some(batches, 2) == [0, 1]
        with pytest.raises(kind, match=told) as caught:
            batches.take()
    assert type(caught.value) is kind


def test_a_dead_worker_is_noticed() -> None:
    told = r"making batch \d ended with code -9.*fewer run.workers"
    with Prefetch(Squares(deadly=1), first=0, workers=1) as batches, pytest.raises(AtelierError, match=told):
        some(batches, 2)


def test_waiting_ends_when_asked_and_slow_workers_are_ended() -> None:
    with Prefetch(Squares(slow=1), first=0, workers=1) as batches:
        assert batches.take() == 0
        assert batches.take(lambda: True) is None


def test_a_signal_to_the_group_is_left_to_the_parent() -> None:
    with Prefetch(Squares(), first=0, workers=1, ahead=1) as batches:
        assert batches.take() == 0
        (worker,) = multiprocessing.active_children()
        assert worker.pid is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(worker.pid, number)
        assert some(batches, 4) == [1, 4, 9, 16]


@pytest.fixture
def pool(parts: dict[str, str], pictures: Path, tmp_path: Path) -> Iterator[Pool]:
    latents.stored.cache_clear()
    yield make_pool(parts, pictures, tmp_path)
    latents.stored.cache_clear()


def make_pool(parts: dict[str, str], pictures: Path, cache: Path, **changes: object) -> Pool:
    made = frozen(Path(parts["vae"]), Path(parts["clip"]))
    data = dataset(Data(source=str(pictures), size=16), "train")
    pool = Pool(data, made.vae_run, made.vae.spec, made.latent_scale, made.vocabulary, cache, 22, 8, 0)
    return replace(pool, **changes).named(made.vae)


def files(pool: Pool) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(pool.folder.iterdir())}


def test_latents_are_scaled_samples_of_the_pictures(pool: Pool, parts: dict[str, str]) -> None:
    batch = pool.rows([21, 0, 9, 9])
    assert (batch.latents.shape, batch.latents.dtype) == ((4, 4, 8, 8), np.float16)
    assert np.array_equal(batch.latents[2], batch.latents[3])
    made = frozen(Path(parts["vae"]), Path(parts["clip"]))
    from atelier.train.randomness import normal
    from atelier.train.tasks.images import to_pixels
    from atelier.weights.tokenizer import ClipTokenizer

    images = to_pixels(np.stack([pool.data.image(i) for i in range(8, 16)]))
    with torch.no_grad():
        posterior = made.vae.encode(images)
        expected = posterior.sample(normal(posterior.mean.shape, 0, "posterior", 8)) * made.latent_scale
    assert torch.allclose(torch.from_numpy(batch.latents[2]).float(), expected[1], rtol=1e-3, atol=1e-3)
    assert batch.tokens[2].tolist() == ClipTokenizer.from_folder(made.vocabulary).ids(pool.data.caption(9))


def test_latents_are_made_once(pool: Pool) -> None:
    before = pool.rows([0, 21])
    first = files(pool)
    assert list(first) == ["00000.npz", "00002.npz"]
    latents.stored.cache_clear()
    again = pool.rows([0, 21])
    assert np.array_equal(before.latents, again.latents)
    assert files(pool) == first


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "empty"])
def test_damaged_latents_are_made_again(damage: str, pool: Pool) -> None:
    before, path = pool.rows([3]), pool.path(0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    broken = {"truncated": content[:-30], "flipped": content, "foreign": b"PK\x03\x04 not numbers", "empty": b""}
    path.write_bytes(broken[damage])
    latents.stored.cache_clear()
    assert np.array_equal(pool.rows([3]).latents, before.latents)


def test_stale_latents_are_not_used(pool: Pool, parts: dict[str, str], pictures: Path, tmp_path: Path) -> None:
    """Another image, caption, scale, seed, encoder: another folder. Another decoder: the same."""
    from atelier.train.parts import part_weights, write_part

    own = Path(shutil.copytree(pictures, tmp_path / "own"))
    folders = [make_pool(parts, own, tmp_path).folder]
    (own / "002.txt").write_text("another caption")
    folders.append(make_pool(parts, own, tmp_path).folder)
    shutil.copy(own / "000.png", own / "001.png")
    folders.append(make_pool(parts, own, tmp_path).folder)
    folders += [make_pool(parts, own, tmp_path, **c).folder for c in ({"scale": 0.5}, {"seed": 1}, {"shard": 4})]
    for name in ("encoder.conv_in.bias", "decoder.conv_in.bias"):
        vae = Path(shutil.copytree(parts["vae"], tmp_path / name))
        tensors = part_weights(vae)
        tensors[name] += 1
        write_part(vae, tensors, support.json.loads((vae / "part.json").read_text()))
        folders.append(make_pool({**parts, "vae": str(vae)}, own, tmp_path).folder)
    assert folders.pop() == folders[2], "the decoder makes no latents"
    assert len(set(folders)) == len(folders)


def test_a_full_disk_leaves_no_half_file(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def refused(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refused)
        with pytest.raises(StorageFull, match="the disk is full"):
            pool.rows([0])
    assert files(pool) == {}
    assert len(pool.rows([0]).latents) == 1


def test_latents_that_are_not_finite_are_refused(pool: Pool) -> None:
    with pytest.raises(NotFinite, match="its latents of images 0 to 7 are not finite"):
        replace(pool, scale=float("inf")).rows([0])
    assert files(pool) == {}


def test_making_latents_leaves_the_number_of_threads(pool: Pool) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pool.rows([0])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_where_another_worker_is_at_it_the_next_part_is_made(pool: Pool) -> None:
    """So that several workers never encode the same images."""
    pool.folder.mkdir(parents=True)
    with latents.claim(pool.path(0)) as mine:
        assert mine
        latents.make_next(pool, 0)
        latents.make_next(pool, 0)
        assert [name for name in files(pool) if name.endswith(".npz")] == ["00001.npz", "00002.npz"]
        latents.make_next(pool, 0)
    latents.make_next(pool, 0)
    assert list(files(pool)) == ["00000.npz", "00001.npz", "00002.npz"]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_trace_is_the_same_whatever_the_number_of_workers(
    workers: int, parts: dict[str, str], pictures: Path, tmp_path: Path
) -> None:
    """Latents, tokens and images of six steps, made by workers in an empty cache, against those made here."""
    plain = make_pool(parts, pictures, tmp_path / "0")
    pooled = make_pool(parts, pictures, tmp_path / str(workers))
    order = Order(22, 4, 0)
    with Prefetch(latents.PoolBatches(pooled, order), 0, workers) as batches:
        for step in range(6):
            expected, found = plain.rows(order.indices(step)), batches.take()
            assert found is not None
            assert np.array_equal(expected.latents, found.latents)
            assert np.array_equal(expected.tokens, found.tokens)
    maker = ImageBatches(plain.data, order)
    if workers == 2:
        with Prefetch(maker, 3, workers) as batches:
            assert all(np.array_equal(maker(step), batches.take()) for step in range(3, 8))
