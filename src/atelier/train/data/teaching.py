"""What every step of a teaching sees: excerpts of one bucket, with images of the class beside them if there are any."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from atelier.errors import BadFile, BadInput
from atelier.train.data.buckets import Fit, Size, covering, fitted
from atelier.train.data.dataset_toml import Described, read_toml
from atelier.train.data.draws import draws, shuffled
from atelier.train.data.examples import read
from atelier.train.data.excerpts import Excerpt
from atelier.train.data.shards import state
from atelier.train.data.subsets import STRICT, Example, Listener, Subset
from atelier.train.data.wording import Turn, worded

DESCRIPTION = ".toml"


@dataclass(frozen=True, slots=True)
class Bucket:
    """The images of one bucket, by their numbers; one comes as often as it is repeated."""

    size: Size
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TeachingSet:
    """Training images, in batches of one bucket each: a pure function of the step, and picklable.

    instances: what is taught; classes: what the class looks like without it. batch: instances in each batch, with as
    many of the classes beside them. Every epoch shows every image once (repeated ones as often as that), in an order of
    its own; a bucket's last batch is filled up with images of the bucket, so that all batches are equally long.
    steps: how long the training is, for captions that warm up over a share of it. class_weight: of the classes' loss.
    """

    instances: tuple[Example, ...]
    classes: tuple[Example, ...]
    by_bucket: tuple[Bucket, ...]
    class_order: tuple[int, ...]
    batch: int
    seed: int
    steps: int = 0
    class_weight: float = 1.0

    @classmethod
    def of(
        cls, examples: Sequence[Example], *, batch: int, seed: int, steps: int = 0, class_weight: float = 1.0
    ) -> TeachingSet:
        """Raises BadInput where nothing is taught, BadFile for an image that is too small or narrow for a bucket."""
        instances = tuple(example for example in examples if not example.subset.is_class)
        classes = tuple(example for example in examples if example.subset.is_class)
        if not instances:
            raise BadInput("all training images are of the class: give images of what is taught")
        if batch < 1:
            raise BadInput(f"a batch of {batch}: give 1 or more")
        by_bucket = _by_bucket(instances)
        for example, bucket in itertools.product(classes, by_bucket):
            _covering(example, bucket.size)
        return cls(instances, classes, by_bucket, tuple(_repeated(classes)), batch, seed, steps, class_weight)

    @property
    def epoch(self) -> int:
        """Steps until every image was shown."""
        return sum(self._batches(bucket) for bucket in self.by_bucket)

    @property
    def buckets(self) -> Mapping[Size, int]:
        """How many images an epoch shows of each size."""
        return MappingProxyType({bucket.size: len(bucket.numbers) for bucket in self.by_bucket})

    def fits(self) -> Iterator[tuple[Example, Fit]]:
        """Every image once with its own bucket, those of the class last."""
        yield from ((example, fit_of(example)) for example in self._all())

    @property
    def texts(self) -> frozenset[str]:
        """All captions as they are, each line of several, with what is put around them."""
        return frozenset(
            " ".join(part for part in (e.subset.wording.prefix, line, e.subset.wording.suffix) if part)
            for e in self._all()
            for line in e.caption.split("\n")
        )

    def excerpts(self, step: int) -> tuple[Excerpt, ...]:
        """What step `step` (>= 0) sees: `batch` instances, then as many of the classes."""
        epoch, place = divmod(step, self.epoch)
        bucket, first = self._batch(int(shuffled(self.epoch, self.seed, "batches", epoch)[place]))
        order = shuffled(len(bucket.numbers), self.seed, "images", epoch, *bucket.size)
        places = range(self.batch)
        shown = [bucket.numbers[int(order[(first + place) % len(order)])] for place in places]
        own = [_excerpt(self.instances[n], self._turn(step, p)) for n, p in zip(shown, places, strict=True)]
        if not self.classes:
            return tuple(own)
        return (*own, *(self._class_excerpt(step, place, bucket.size) for place in places))

    @property
    def paths(self) -> Iterator[Path]:
        """Of all images."""
        yield from (example.path for example in self._all())

    def fingerprint(self, beside: Iterable[Path] = ()) -> str:
        """Sixteen hexadecimal digits that change with the files (names, bytes, times of change), captions, buckets and
        ways of showing. beside: further files that are seen with the images. Raises BadFile."""
        content = hashlib.sha256()
        own = repr((self.batch, self.seed, self.class_weight)).encode()
        for part in (own, *map(_identity, self._all()), *(_file_identity(path) for path in beside)):
            content.update(len(part).to_bytes(8, "little") + part)
        return content.hexdigest()[:16]

    def _all(self) -> Iterator[Example]:
        yield from self.instances
        yield from self.classes

    def _batches(self, bucket: Bucket) -> int:
        return -(-len(bucket.numbers) // self.batch)

    def _batch(self, number: int) -> tuple[Bucket, int]:
        """The bucket of a batch of an epoch, and where in the bucket's order it begins."""
        for bucket in self.by_bucket:
            if number < self._batches(bucket):
                return bucket, number * self.batch
            number -= self._batches(bucket)
        raise IndexError(number)

    def _class_excerpt(self, step: int, place: int, size: Size) -> Excerpt:
        """An image of the class, cut to the size of its batch whatever its own proportions are."""
        count = len(self.class_order)
        epoch, number = divmod(step * self.batch + place, count)
        example = self.classes[self.class_order[int(shuffled(count, self.seed, "classes", epoch)[number])]]
        excerpt = _cut(example, _covering(example, size), self._turn(step, self.batch + place))
        return replace(excerpt, weight=self.class_weight, is_class=True)

    def _turn(self, step: int, place: int) -> Turn:
        return Turn(self.seed, step, place, step // self.epoch, self.steps)


def collected(
    source: Path, subset: Subset, classes: Path | None = None, class_words: str = "", listener: Listener = STRICT
) -> Described:
    """The training images of `source` (what `examples.read` takes, or kohya's TOML), those of the class in `classes`.

    class_words: the caption of those images of the class that have none. Raises BadFile.
    """
    if is_description(source):
        described = read_toml(source, listener)
    else:
        described = Described(read(source, subset, listener), None)
    if classes is None:
        return described
    of_class = replace(subset.of_class, words=class_words, masks=None)
    return Described((*described.examples, *read(classes, of_class, listener)), described.batch)


def is_description(source: Path) -> bool:
    """Whether it is kohya's TOML."""
    return source.suffix.lower() == DESCRIPTION and source.is_file()


def _by_bucket(instances: Sequence[Example]) -> tuple[Bucket, ...]:
    found: dict[Size, list[int]] = {}
    for number in _repeated(instances):
        found.setdefault(fit_of(instances[number]).size, []).append(number)
    return tuple(Bucket(size, tuple(found[size])) for size in sorted(found))


def _repeated(examples: Sequence[Example]) -> Iterator[int]:
    for number, example in enumerate(examples):
        yield from (number for _ in range(example.subset.repeats))


def fit_of(example: Example) -> Fit:
    """How an image comes to the size of its own bucket. Raises BadFile where it is too small or too narrow."""
    with _named(example):
        return fitted(example.size, example.subset.shape)


def _covering(example: Example, size: Size) -> Fit:
    with _named(example):
        return covering(example.size, size)


@contextmanager
def _named(example: Example) -> Generator[None]:
    """Says which image it is that fits nowhere."""
    try:
        yield
    except BadInput as error:
        raise BadFile(example.path, str(error)) from None


def _excerpt(example: Example, turn: Turn) -> Excerpt:
    return _cut(example, fit_of(example), turn)


def _cut(example: Example, fit: Fit, turn: Turn) -> Excerpt:
    random = draws(turn.seed, "part", turn.step, turn.place)
    flipped = random.random() < 0.5 and example.subset.flip
    spare = fit.scaled[0] - fit.size[0], fit.scaled[1] - fit.size[1]
    drawn = [int(random.integers(length + 1)) for length in spare]
    left, top = drawn if example.subset.random_crop else [length // 2 for length in spare]
    return Excerpt(
        path=example.path,
        size=fit.size,
        scaled=fit.scaled,
        left=left,
        top=top,
        flipped=flipped,
        original=example.size,
        caption=worded(example.caption, example.subset.wording, turn),
        mask=example.mask,
        is_drawn=example.subset.random_crop,
    )


def _identity(example: Example) -> bytes:
    files = (path for path in (example.path, example.mask) if path is not None)
    states = [(str(path), state(path)) for path in files]
    return repr((states, example.caption, repr(example.subset))).encode()


def _file_identity(path: Path) -> bytes:
    return repr((str(path), state(path))).encode()
