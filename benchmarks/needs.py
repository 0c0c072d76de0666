"""What these scripts lack is one line, and so is what Atelier refuses: importing this sees to it.

Only the script that is run is meant, not a test that imports one.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

WAY_OUT = "run scripts/test once, which makes .venv with everything, and then .venv/bin/python {script}"


def modules(*names: str) -> None:
    """Ends the script with one line where one of these modules is not installed."""
    for name in names:
        if find_spec(name) is None:
            sys.exit(_missing(name))


def _missing(name: str) -> str:
    script = Path(sys.argv[0])
    return f"{script.name}: {name} is not installed: {WAY_OUT.format(script=script)}"


def _told(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    if isinstance(error, ModuleNotFoundError) and error.name:
        print(_missing(error.name.partition(".")[0]), file=sys.stderr)
    elif _is_refusal(kind):
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, where)


def _is_refusal(kind: type[BaseException]) -> bool:
    """Whether it is an error that Atelier raises on purpose; it may not be installed."""
    return any(base.__module__ == "atelier.errors" and base.__name__ == "AtelierError" for base in kind.__mro__)


if Path(getattr(sys.modules["__main__"], "__file__", None) or "").parent == Path(__file__).parent:
    sys.excepthook = _told
