"""The command that trains the line from outside the package, as torchrun starts it: line_command.py line --out DIR …"""

from __future__ import annotations

import sys

from atelier.cli.train import application
from atelier.errors import AtelierError
from outside import trained_line


def main() -> int:
    for module in ("tensorboard", "matplotlib.figure"):
        sys.modules[module] = None  # type: ignore[assignment] - what takes long to load and draw
    try:
        application({spec.name: spec for spec in trained_line.SPECS})(standalone_mode=False)
    except AtelierError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
