"""Writing images to disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from atelier.pipeline.lent import Lent
from atelier.pipeline.sample import Sample
from atelier.pipeline.stage import Stage
from atelier.pipeline.values import Images, Key, Values
from atelier.request.events import Event, Saved


@dataclass(frozen=True, slots=True)
class Save(Stage):
    """Writes the images of `source` to `output`, a file or a folder; count: how many the whole request has."""

    samples: tuple[Sample, ...]
    count: int
    output: str
    source: Key[Images]

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        images = values.read(self.source)
        for sample in self.samples:
            made = images[sample.index]
            path = have.save(
                made.image,
                made.infotext,
                output=self.output,
                index=sample.index,
                count=self.count,
                seed=sample.seed,
            )
            yield Saved(sample.index, path)
