"""What a stage is: frozen data that says what it borrows and how much it does, and performs itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.values import Values
from atelier.request.events import Event


class Stage(ABC):
    """One step of a plan. What it reads and leaves lies in `Values`, by typed keys."""

    __slots__ = ()

    def needs(self) -> tuple[Need[object], ...]:
        """The parts of models that it uses, each lent from the first stage that takes it to the last that needs it."""
        return ()

    @property
    def images(self) -> int:
        """How many images it finishes."""
        return 0

    @property
    def steps(self) -> int:
        """How many sampler steps it makes, as far as is known before."""
        return 0

    @abstractmethod
    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        """Does it, step by step; what it tells of progress counts from its own beginning. Closing it cancels.

        Raises AtelierError.
        """
        ...
