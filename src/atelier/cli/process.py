"""The server's own processes: `python -m atelier.cli.process resolver|worker --channel N`. Nobody types this."""

from __future__ import annotations

import argparse
import os

from atelier.runtime.threads import prepare_torch

YIELDING = 5
"""Added to the niceness: while networks compute, the server answers, and the machine stays usable."""


def main() -> None:
    """Runs until the server is gone."""
    prepare_torch(os.environ)
    given = _arguments()
    from atelier import compose
    from atelier.runtime.threads import settle_process
    from atelier.runtime.workers.child import belong_to_parent, channel

    belong_to_parent()
    os.nice(YIELDING)
    way = channel(given.channel)
    if given.role == "resolver":
        settle_process(os.environ, 1)
        compose.resolve_for_server(way)
    else:
        settle_process(os.environ, given.threads, leave_busy_cores=False)
        compose.work_for_server(way, given.number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("resolver", "worker"))
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--number", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
