"""What every step of a teaching sees, and what is made of it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atelier.errors import BadFile, BadInput
from atelier.train.data.buckets import Buckets
from atelier.train.data.excerpts import Excerpt, mask, pixels
from atelier.train.data.subsets import Example, Subset
from atelier.train.data.teaching import Bucket, TeachingSet, collected
from atelier.train.data.wording import Wording

SMALL = Buckets.of(64, 16)
PLAIN = Subset(SMALL)


def _example(name: str, size: tuple[int, int] = (64, 64), subset: Subset = PLAIN) -> Example:
    return Example(Path(name), size, f"words of {name}", subset)


def _of(*examples: Example, batch: int = 2, seed: int = 0, steps: int = 0, class_weight: float = 1.0) -> TeachingSet:
    return TeachingSet.of(examples, batch=batch, seed=seed, steps=steps, class_weight=class_weight)


SQUARE = [_example(f"s{number}") for number in range(5)]
WIDE = [_example(f"w{number}", (90, 50)) for number in range(3)]


def _names(data: TeachingSet, steps: range) -> list[tuple[str, ...]]:
    return [tuple(excerpt.path.name for excerpt in data.excerpts(step)) for step in steps]


def test_batches_are_of_one_bucket_and_show_everything() -> None:
    data = _of(*WIDE, *SQUARE)
    assert data.by_bucket == (Bucket((64, 64), (3, 4, 5, 6, 7)), Bucket((80, 48), (0, 1, 2)))
    assert data.epoch == 5
    assert data.buckets == {(64, 64): 5, (80, 48): 3}
    for epoch in range(3):
        batches = [data.excerpts(step) for step in range(5 * epoch, 5 * epoch + 5)]
        assert all(len(batch) == 2 and len({e.size for e in batch}) == 1 for batch in batches)
        seen = Counter(e.path.name for batch in batches for e in batch)
        assert set(seen) == {"s0", "s1", "s2", "s3", "s4", "w0", "w1", "w2"}
        assert sorted(seen.values()) == [1] * 6 + [2] * 2


def test_every_epoch_has_an_order_of_its_own_from_the_seed() -> None:
    data = _of(*SQUARE, *WIDE)
    epochs = [tuple(_names(data, range(5 * epoch, 5 * epoch + 5))) for epoch in range(8)]
    assert len(set(epochs)) == 8
    assert len({tuple(data.excerpts(step)[0].size for step in range(5 * e, 5 * e + 5)) for e in range(8)}) > 2
    assert tuple(_names(_of(*SQUARE, *WIDE), range(5))) == epochs[0]
    assert tuple(_names(_of(*SQUARE, *WIDE, seed=1), range(5))) != epochs[0]


def test_repeats_and_a_single_image() -> None:
    twice = replace(PLAIN, repeats=3)
    data = _of(_example("a"), _example("b", subset=twice), batch=1)
    assert data.epoch == 4
    assert Counter(name for (name,) in _names(data, range(4))) == {"a": 1, "b": 3}
    alone = _of(_example("a"), batch=3)
    assert alone.epoch == 1
    assert _names(alone, range(2)) == [("a", "a", "a")] * 2


def test_images_of_the_class_stand_beside_as_many_instances() -> None:
    of_class = replace(PLAIN, is_class=True, words="thing")
    things = [_example(f"c{number}", (64, 128), of_class) for number in range(3)]
    data = _of(*WIDE, *SQUARE, *things, class_weight=0.5)
    assert len(data.instances) == 8
    seen: list[str] = []
    for step in range(6):
        batch = data.excerpts(step)
        assert [(e.is_class, e.weight) for e in batch] == [(False, 1.0)] * 2 + [(True, 0.5)] * 2
        assert len({e.size for e in batch}) == 1
        assert all(e.original == (64, 128) and e.scaled[0] == e.size[0] for e in batch[2:])
        seen += [e.path.name for e in batch[2:]]
    assert [sorted(seen[i : i + 3]) for i in range(0, 12, 3)] == [["c0", "c1", "c2"]] * 4
    assert len({tuple(seen[i : i + 3]) for i in range(0, 12, 3)}) > 1


def test_images_of_the_class_have_draws_of_their_own() -> None:
    ways = Subset((64, 64), is_class=True, random_crop=True, flip=True, wording=Wording(warmup=4))
    example = replace(_example("c", (64, 164), ways), caption="a, b, c, d, e")
    data = _of(_example("i", (64, 164), replace(ways, is_class=False)), example, batch=2)
    drawn = [data.excerpts(step) for step in range(60)]
    assert [batch[3].caption.count(",") for batch in drawn[:6]] == [0, 1, 2, 3, 4, 4]
    for first, second in ((0, 2), (2, 3), (1, 3)):
        assert sum(batch[first].top == batch[second].top for batch in drawn) < 10
        assert 15 < sum(batch[first].flipped == batch[second].flipped for batch in drawn) < 45


def test_the_middle_or_a_part_that_is_drawn() -> None:
    (middle,) = _of(_example("a", (90, 50)), batch=1).excerpts(0)
    assert (middle.size, middle.scaled, middle.left, middle.top, middle.flipped) == ((80, 48), (86, 48), 3, 0, False)
    (long,) = _of(_example("a", (48, 100), Subset((32, 32))), batch=1).excerpts(0)
    assert (long.scaled, long.left, long.top) == ((32, 67), 0, 17)
    data = _of(_example("a", (90, 50), replace(PLAIN, random_crop=True, flip=True)), batch=1)
    drawn = [data.excerpts(step)[0] for step in range(200)]
    assert {e.left for e in drawn} == set(range(7))
    assert {e.top for e in drawn} == {0}
    assert 60 < sum(e.flipped for e in drawn) < 140
    assert len({(e.left, e.flipped) for e in drawn}) == 14


def test_captions_know_step_place_epoch_and_length() -> None:
    ways = replace(PLAIN, wording=Wording(shuffle=True, warmup=0.5))
    tags = [replace(_example(str(n), subset=ways), caption="a, b, c, d, e") for n in range(2)]
    data = _of(*tags, steps=8)
    assert [e.caption for e in data.excerpts(0)] == ["a", "a"]
    assert [e.caption.count(",") for e in data.excerpts(2)] == [2, 2]
    late = [tuple(e.caption for e in data.excerpts(step)) for step in range(4, 8)]
    assert all(first != second for first, second in late)
    every = replace(PLAIN, wording=Wording(every_epochs=2))
    assert [_of(_example("a", subset=every), batch=1).excerpts(s)[0].caption for s in range(4)] == [
        "words of a", "", "words of a", "",
    ]  # fmt: skip


def test_what_cannot_be_taught() -> None:
    with pytest.raises(BadInput, match="all training images are of the class"):
        _of(_example("a", subset=replace(PLAIN, is_class=True)))
    with pytest.raises(BadInput, match="a batch of 0"):
        _of(_example("a"), batch=0)
    narrow = _example("narrow.png", (10, 900), replace(PLAIN, is_class=True))
    with pytest.raises(BadFile, match=r"^narrow\.png: 10x900 pixels are too narrow for 64x64"):
        _of(_example("a"), narrow)
    with pytest.raises(BadFile, match=r"^tiny\.png: 10x90 pixels are too few"):
        _of(_example("tiny.png", (10, 90), Subset(replace(SMALL, upscale=False))))


def test_the_same_in_another_process_and_without_torch(tmp_path: Path) -> None:
    data = _of(*WIDE, _example("a", (70, 60), replace(PLAIN, random_crop=True, flip=True)), seed=7)
    (tmp_path / "set").write_bytes(pickle.dumps(data))
    code = (
        f"import pickle, sys; data = pickle.load(open({str(tmp_path / 'set')!r}, 'rb'));"
        "print([data.excerpts(s) for s in range(9)]); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str([data.excerpts(step) for step in range(9)])


def _save(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path)
    return path


def _gradient(width: int, height: int) -> np.ndarray:
    across = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
    across[..., 1] = np.linspace(0, 255, height)[:, None]
    return across.round().astype(np.uint8)


def test_pixels_are_the_part_of_the_scaled_image(tmp_path: Path) -> None:
    whole = _gradient(90, 50)
    path = _save(tmp_path / "a.png", whole)
    seen = Excerpt(path, (64, 48), (86, 48), 10, 0, flipped=False, original=(90, 50), caption="")
    expected = np.asarray(Image.fromarray(whole).resize((86, 48), Image.Resampling.LANCZOS))[:, 10:74]
    assert np.array_equal(pixels(seen), expected)
    assert np.array_equal(pixels(replace(seen, flipped=True)), expected[:, ::-1])
    as_it_is = replace(seen, size=(40, 30), scaled=(90, 50), left=5, top=7)
    assert np.array_equal(pixels(as_it_is), whole[7:37, 5:45])


def test_pixels_obey_the_orientation_and_lie_over_white(tmp_path: Path) -> None:
    whole = _gradient(40, 20)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(whole).save(tmp_path / "a.png", exif=exif)
    (example,) = collected(tmp_path, Subset((20, 40), words="x")).examples
    assert example.size == (20, 40)
    turned = Excerpt(tmp_path / "a.png", (20, 40), (20, 40), 0, 0, flipped=False, original=(20, 40), caption="")
    assert np.array_equal(pixels(turned), np.rot90(whole, -1))
    clear = _save(tmp_path / "b.png", np.dstack([whole, np.zeros((20, 40), np.uint8)]))
    assert (pixels(replace(turned, path=clear, size=(40, 20), scaled=(40, 20))) == 255).all()
    with pytest.raises(BadFile, match=r"gone\.png: is no file"):
        pixels(replace(turned, path=tmp_path / "gone.png"))


def test_masks_are_cut_as_their_images(tmp_path: Path) -> None:
    whole = _gradient(90, 50)
    path = _save(tmp_path / "a.png", whole)
    grey = _save(tmp_path / "m" / "a.png", whole[..., 0])
    seen = Excerpt(path, (64, 48), (86, 48), 10, 0, flipped=True, original=(90, 50), caption="")
    assert mask(seen) is None
    cut = mask(replace(seen, mask=grey))
    assert cut is not None
    assert (cut.dtype, cut.shape) == (np.float32, (48, 64))
    assert np.abs(cut - pixels(seen)[..., 0] / 255).max() < 1e-6
    half = _save(tmp_path / "half.png", whole[::2, ::2, 0])
    assert np.abs(np.asarray(mask(replace(seen, mask=half))) - cut).max() < 0.03
    for width in (89, 91):
        near = replace(seen, mask=_save(tmp_path / "near.png", np.resize(whole[..., 0], (50, width))))
        assert np.asarray(mask(replace(near, original=(width, 50)))).shape == (48, 64)
        with pytest.raises(BadFile, match=rf"near\.png: is {width}x50"):
            mask(near)
    square = _save(tmp_path / "square.png", whole[:, :50, 0])
    with pytest.raises(BadFile, match=r"square\.png: is 50x50 and its image 90x50"):
        mask(replace(seen, mask=square))
    drawn = _save(tmp_path / "drawn.png", np.dstack([np.full((50, 90, 3), 255, np.uint8), whole[..., 0]]))
    assert np.abs(np.asarray(mask(replace(seen, mask=drawn))) - cut).max() < 0.01


def test_the_alpha_channel_as_a_mask(tmp_path: Path) -> None:
    alpha = _gradient(64, 64)[..., 0]
    path = _save(tmp_path / "a.png", np.dstack([_gradient(64, 64), alpha]))
    _save(tmp_path / "b.png", _gradient(64, 64))
    examples = collected(tmp_path, Subset((64, 64), words="x", alpha_mask=True)).examples
    first, second = (_of(example, batch=1).excerpts(0)[0] for example in examples)
    assert first.mask == path
    assert np.array_equal(np.asarray(mask(first)), alpha.astype(np.float32) / 255)
    assert mask(second) is None


def test_the_fingerprint_changes_with_what_is_seen(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _save(tmp_path / "d" / f"{name}.png", _gradient(64, 64))
        _save(tmp_path / "m" / f"{name}.png", _gradient(64, 64))
    ways = Subset(SMALL, words="x")

    def told(subset: Subset = ways, batch: int = 1, seed: int = 0) -> str:
        return TeachingSet.of(collected(tmp_path / "d", subset).examples, batch=batch, seed=seed).fingerprint()

    seen = {told(), told(), told(replace(ways, flip=True)), told(replace(ways, words="y")), told(batch=2), told(seed=1)}
    assert len(seen) == 5
    assert all(len(digest) == 16 for digest in seen)
    seen.add(told(replace(ways, masks=tmp_path / "m")))
    os.utime(tmp_path / "m" / "b.png", (1, 1))
    seen.add(told(replace(ways, masks=tmp_path / "m")))
    (tmp_path / "d" / "a.txt").write_text("z")
    seen.add(told())
    os.utime(tmp_path / "d" / "b.png", (1, 1))
    seen.add(told())
    assert len(seen) == 9
    Image.fromarray(_gradient(64, 64)).save(tmp_path / "d" / os.fsdecode(b"\xff.png"))
    assert told() not in seen
