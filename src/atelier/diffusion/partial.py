"""How much of a schedule is run where sampling starts from an image.

The rule is A1111's (docs/compatibility/img2img.md): a share of the steps that is the strength, and one more.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST = 0.999
"""A1111's largest strength: of the whole schedule, the first level of noise is used too."""


@dataclass(frozen=True, slots=True)
class Part:
    """total: steps of the schedule; run: how many of them are taken, its last ones."""

    total: int
    run: int


def part_of(steps: int, strength: float, *, exact: bool) -> Part:
    """What of a schedule of `steps` is run at a strength of 0 to 1; exact: all `steps` are taken, of a longer one.

    At 0 nothing is; A1111 takes the last step even then.
    """
    if strength <= 0:
        return Part(steps, 0)
    share = min(strength, MOST)
    if exact:
        return Part(int(steps / share), steps)
    return Part(steps, int(share * steps) + 1)
