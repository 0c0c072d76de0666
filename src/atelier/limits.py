"""Limits that more than one layer holds, each said once: the smallest and the largest value that is taken."""

from __future__ import annotations

BETA_SHAPE = (0.01, 100)
"""Parameters of a beta distribution: at 0 there is none."""
UNIPC_ORDER = (1, 12)
"""Above, UniPC's weights are beyond double precision (A1111 offers up to 50). Others have weights for 3 or 4."""
CALLS = (1, 10_000)
"""Steps of a schedule, or calls of a model, that are reckoned with: ten times what a request may ask for."""
