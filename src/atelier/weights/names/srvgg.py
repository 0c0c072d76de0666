"""Names of SRVGGNetCompact: convolutions and rectifiers, counted together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names.name import Name, both

if TYPE_CHECKING:
    from atelier.models.srvgg import SrvggSpec


def names(spec: SrvggSpec) -> Iterator[Name]:
    """Every parameter of `SrvggNet(spec)`."""
    for n in range(spec.layers + 1):
        conv, act = f"body.{2 * n}", f"body.{2 * n + 1}"
        yield from both(f"convs.{n}", conv, conv)
        yield Name(f"acts.{n}.weight", f"{act}.weight", f"{act}.weight")
    last = f"body.{2 * spec.layers + 2}"
    yield from both("last", last, last)
