"""What is said of an error, and the exit code, whatever went wrong."""

from __future__ import annotations

import errno
from typing import NamedTuple

import typer

from atelier.cli.described import printable
from atelier.errors import TOO_LARGE, AtelierError, BadInput, Interrupted, StorageFull, is_out_of_memory

TRACEBACK = "ATELIER_TRACEBACK"


class Failure(NamedTuple):
    """A line, "" for an error that has been told already, and the exit code. is_fault: one of Atelier's own."""

    message: str
    exit_code: int
    is_fault: bool = False


def failure(error: BaseException) -> Failure:
    """What to say of an error that ends a command."""
    match error:
        case typer.TyperException():
            return Failure(_usage(error), error.exit_code)
        case AtelierError():
            return Failure(printable(str(error)), error.exit_code)
        case KeyboardInterrupt() | typer.Abort():
            return Failure("stopped", Interrupted.exit_code)
        case _:
            return _of_the_machine(error)


def _of_the_machine(error: BaseException) -> Failure:
    match error:
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            place = error.filename or "standard output"
            message = f"{place}: the disk is full; free some space and run again"
            return Failure(printable(message), StorageFull.exit_code)
        case PermissionError(filename=str() as place):
            return Failure(printable(f"{place}: is not permitted ({error.strerror})"), BadInput.exit_code)
        case _ if is_out_of_memory(error):
            return Failure(TOO_LARGE, BadInput.exit_code)
        case _:
            what = (str(error).splitlines() or [""])[0]
            told = f"{type(error).__name__}: {what} (a fault of Atelier's own; {TRACEBACK}=1 shows where)"
            return Failure(printable(told), 1, is_fault=True)


def _usage(error: typer.TyperException) -> str:
    message = " ".join(error.format_message().split())
    return printable(f"{message} (see `atelier --help`)") if message else ""
