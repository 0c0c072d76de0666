"""Names of batch norms, and what files hold of them that says nothing."""

from __future__ import annotations

from collections.abc import Iterator

from atelier.weights.names.name import Name

COUNTER = ".num_batches_tracked"
"""What torch counts in training beside each norm."""
KINDS = {"weight": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}


def norm(ours: str, published: str) -> Iterator[Name]:
    """Every parameter of a `FixedNorm`."""
    for kind, theirs in KINDS.items():
        yield Name(f"{ours}.{kind}", f"{published}.{theirs}", f"{published}.{theirs}")


def layer(ours: str, published: str, *kinds: str) -> Iterator[Name]:
    """These parameters of a layer, its weight where none are said."""
    for kind in kinds or ("weight",):
        yield Name(f"{ours}.{kind}", f"{published}.{kind}", f"{published}.{kind}")


def counts(name: str) -> bool:
    return name.endswith(COUNTER)
