"""Two places tell families: what a file is (`checkpoints.kinds`), and which family opens it. They must agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from test_checkpoints_kinds import ROWS, Shapes, published

from atelier.checkpoints.kind import Identity, Seen, of_known_family, recognised
from atelier.checkpoints.opening import families
from atelier.checkpoints.spelling import respelled
from atelier.weights.archive import Archive, Safetensors
from atelier.weights.formats.safetensors import Header, TensorInfo

OPENED_AS: Mapping[tuple[str, str], str] = MappingProxyType({("sdxl", "refiner"): "sdxl-refiner"})
"""Variants that are families of their own where models are opened."""


def archive(shapes: Shapes) -> Archive:
    """What the header of a file of these tensors says; there is no file."""
    tensors = {name: TensorInfo("F16", tuple(shape), 0, 0) for name, shape in shapes.items()}
    return Safetensors(Path("model.safetensors"), Header(Path(), tensors, {}, 0, (0, 0, 0), b""))


def detected(shapes: Shapes) -> list[str]:
    found = respelled(archive(shapes))
    return [family.name for family in families().values() if family.single.detect(found)]


def expected(own: Identity | None) -> list[str]:
    """The family that has to open a whole model which was recognised so."""
    if own is None or own.kind != "checkpoint" or not of_known_family(own):
        return []
    assert own.family is not None
    assert own.variant is not None
    return [OPENED_AS.get((own.family, own.variant), own.family)]


@pytest.mark.parametrize("name", [row[0] for row in ROWS])
def test_a_published_file_is_opened_as_what_it_is_told_to_be(name: str) -> None:
    shapes = published(name)
    assert detected(shapes) == expected(recognised(Seen(shapes)))


def halved(shapes: Shapes) -> Iterator[tuple[str, dict[str, tuple[int, ...]]]]:
    """The file without one of its parts, for each, and with one alone."""
    for part in sorted({name.partition(".")[0] for name in shapes}):
        yield f"without {part}", {name: own for name, own in shapes.items() if name.partition(".")[0] != part}
        yield f"only {part}", {name: own for name, own in shapes.items() if name.partition(".")[0] == part}


@pytest.mark.parametrize("name", [row[0] for row in ROWS if row[1] == "checkpoint"])
def test_of_what_is_not_whole_no_family_claims_what_is_told_to_be_another(name: str) -> None:
    for what, shapes in halved(published(name)):
        claimed, own = detected(shapes), recognised(Seen(shapes))
        if claimed:
            assert own is not None, what
            assert own.variant is not None, what
            assert claimed == [OPENED_AS.get((own.family or "", own.variant), own.family)], what
            assert of_known_family(own), what


def test_a_file_that_no_family_opens_is_one_that_is_not_supported() -> None:
    told = {row[0]: expected(recognised(Seen(published(row[0])))) for row in ROWS if row[1] == "checkpoint"}
    assert {name for name, found in told.items() if not found} == {
        "flux_dev_comfy_allinone",
        "sd21_unclip_l_ldm",
    }
    assert sorted({name for found in told.values() for name in found}) == ["sd1", "sd2", "sd3", "sdxl", "sdxl-refiner"]
