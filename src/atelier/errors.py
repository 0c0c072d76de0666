"""The one hierarchy of errors. A message is one line: the culprit, what is wrong with it, and the way out."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager


class AtelierError(Exception):
    """Base of everything Atelier raises on purpose. `exit_code` is what the command line exits with; `field`: the field
    of the request that it is about, where that is known and the message need not say it."""

    exit_code = 1
    field: str | None = None


class BadInput(AtelierError):
    """The caller's input cannot be used: a value, a name, a file or a folder. Command line: exit 2; HTTP: 4xx."""

    exit_code = 2


class UnknownName(BadInput):
    """A name that is in no registry; the message offers the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        super().__init__(f"unknown {kind} {name!r}: {nearest(name, self.known)}")

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, str, tuple[str, ...]]]:
        return UnknownName, (self.kind, self.name, self.known)


class BadFile(BadInput):
    """A file or folder that cannot be used; `path` is the culprit."""

    def __init__(self, path: object, problem: str) -> None:
        self.path, self.problem = str(path), problem
        super().__init__(f"{self.path}: {problem}")

    def __reduce__(self) -> tuple[type[BadFile], tuple[str, str]]:
        """Errors travel from worker processes, whose pickles would call the class with the whole message."""
        return BadFile, (self.path, self.problem)


class StorageFull(BadInput):
    """The disk refused a write; nothing half-written is left behind."""


class NotFinite(AtelierError):
    """NaN or infinity where numbers should be; names the step and the quantity."""

    exit_code = 3


class Interrupted(AtelierError):
    """The user asked to stop."""

    exit_code = 130


@contextmanager
def about(field: str) -> Generator[None]:
    """Marks what is raised within as being about a field of the request, unless something within knows better."""
    try:
        yield
    except AtelierError as error:
        error.field = error.field or field
        raise


TOO_LARGE = "this does not fit in memory: choose a smaller size, batch or model"
"""What to say where `is_out_of_memory`."""
_ALLOCATOR = "DefaultCPUAllocator"
"""torch has a type of error for the memory of devices only; its allocator on the CPU raises a plain RuntimeError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python's, torch's or the system's says that there is no memory; torch need not be there."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _ALLOCATOR in str(error)


def shortened(text: str, most: int = 60) -> str:
    """A value as a message shows it, of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def nearest(name: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown name: the names it may have been meant to be, else the first dozen."""
    if not known:
        return "there is none here"
    by_folded = {k.casefold(): k for k in known}
    near = [by_folded[k] for k in difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.4)]
    if near:
        return f"did you mean {' or '.join(near)}?"
    shown = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    return f"choose one of {shown}"
