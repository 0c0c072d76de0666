"""What a folder of modules offers is found by name, once."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from atelier.errors import UnknownName
from atelier.registry import discover, resolve

HEAD = "from test_registry import Brush\n"


@dataclass(frozen=True)
class Brush:
    name: str
    aliases: tuple[str, ...] = ()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """A package of modules with these SPECS."""

    def made(**specs: str) -> ModuleType:
        folder = tmp_path / "brushes"
        folder.mkdir()
        (folder / "__init__.py").touch()
        for name, text in specs.items():
            (folder / f"{name}.py").write_text(f"{HEAD}SPECS = ({text},)\n")
        (folder / "helpers.py").write_text("NOTHING = 1\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(sys.modules, "test_registry", sys.modules[__name__])
        for name in [name for name in sys.modules if name.partition(".")[0] == "brushes"]:
            monkeypatch.delitem(sys.modules, name)
        return importlib.import_module("brushes")

    return made


def test_what_modules_offer_is_found_by_any_of_its_names(package: Callable[..., ModuleType]) -> None:
    found = discover(package(b="Brush('Round', ('circle',))", a="Brush('Flat')"), Brush)
    assert list(found) == ["Flat", "Round"], "in the order of the modules"
    assert resolve(found, "brush", " CIRCLE ") == Brush("Round", ("circle",))
    with pytest.raises(UnknownName, match="unknown brush 'rond': did you mean Round"):
        resolve(found, "brush", "rond")


@pytest.mark.parametrize("second", ["Brush('ROUND')", "Brush('Flat', ('round',))", "Brush('Flat', ('Circle',))"])
def test_a_name_that_is_taken_is_refused(package: Callable[..., ModuleType], second: str) -> None:
    with pytest.raises(ValueError, match=r"brushes\.b: duplicate Brush name"):
        discover(package(a="Brush('Round', ('circle',))", b=second), Brush)


def test_what_is_of_another_kind_is_refused(package: Callable[..., ModuleType]) -> None:
    with pytest.raises(TypeError, match=r"brushes\.a\.SPECS holds 7, which is no Brush"):
        discover(package(a="7"), Brush)
