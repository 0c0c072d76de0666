"""The repository itself: what its documents say exists, its scripts run, its layers and versions agree."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from pydantic import BaseModel

import atelier
from atelier.cli import app as front
from atelier.train.registry import recipes

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.md")])
SCRIPTS = sorted(p for p in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"] if p.is_file())
BASH = [p for p in SCRIPTS if p.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")]
REFERENCES = {"diffusers", "transformers", "accelerate", "k_diffusion", "torchvision"}
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUOTED_PATH = re.compile(r"`((?:src|scripts|docs|benchmarks|tests|examples)/[\w./-]+)`")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands() -> Iterator[tuple[str, list[str]]]:
    """The shell commands in the documents' code blocks, as (document, words)."""
    for document in DOCUMENTS:
        for language, block in FENCE.findall(document.read_text(encoding="utf-8")):
            if language == "bash":
                for line in block.replace("\\\n", " ").splitlines():
                    words = shlex.split(line, comments=True)
                    if words:
                        yield relative(document), words


COMMANDS = list(commands())
ATELIER = [(document, words[1:]) for document, words in COMMANDS if words[0] == "atelier"]
LOCAL = [(document, words) for document, words in COMMANDS if words[0].startswith(("scripts/", "benchmarks/"))]
RUN = [(document, words[1:]) for document, words in COMMANDS if words[0] == "python"]


@pytest.mark.parametrize(("document", "words"), ATELIER, ids=lambda v: v if isinstance(v, str) else " ".join(v[:3]))
def test_commands_in_the_documents_exist(document: str, words: list[str]) -> None:
    """With --help at the end the command line is parsed, unknown commands and options are refused, and nothing runs."""
    assert front.run([*words, "--help"]) == 0, document


def test_unknown_options_would_be_found() -> None:
    assert front.run(["generate", "a cat", "--no-such-option", "--help"]) == 2


@pytest.mark.parametrize(("document", "words"), LOCAL + RUN, ids=lambda v: v if isinstance(v, str) else v[0])
def test_scripts_in_the_documents_exist(document: str, words: list[str]) -> None:
    assert (ROOT / words[0]).is_file(), document


def test_the_readme_shows_the_two_commands() -> None:
    named = {words[0] for document, words in LOCAL if document == "README.md"}
    assert {"scripts/demo", "scripts/test"} <= named


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_resolve(document: Path) -> None:
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    targets = [t.partition("#")[0] for t in LINK.findall(text) if not t.startswith(("http://", "https://", "mailto:"))]
    broken = [target for target in targets if target and not (document.parent / target).exists()]
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_quoted_paths_exist(document: Path) -> None:
    missing = [path for path in QUOTED_PATH.findall(document.read_text(encoding="utf-8")) if not (ROOT / path).exists()]
    assert not missing


def imports() -> Iterator[tuple[str, str, str]]:
    """What the documents' Python takes from this package, as (document, module, name)."""
    for document in DOCUMENTS:
        for language, block in FENCE.findall(document.read_text(encoding="utf-8")):
            for node in ast.walk(ast.parse(block)) if language == "python" else ():
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("atelier"):
                    yield from ((relative(document), str(node.module), alias.name) for alias in node.names)


@pytest.mark.parametrize(("document", "module", "name"), list(imports()))
def test_what_the_documents_import_exists(document: str, module: str, name: str) -> None:
    assert hasattr(import_module(module), name), document


PAGES = ("training.md", "teaching.md", "steering.md")
"""Where the keys of recipes are explained."""


@pytest.mark.parametrize("recipe", [spec.model for spec in recipes().values()])
def test_every_key_of_a_recipe_is_explained(recipe: type[BaseModel]) -> None:
    text = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in PAGES)
    quoted = {word.rpartition(".")[2] for word in re.findall(r"`([\w.]+)`", text)}
    assert set(keys(recipe)) - {"kind"} <= quoted


def keys(model: type[BaseModel]) -> Iterator[str]:
    """The names of the values in a model and in the models inside it."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation)
        else:
            yield name


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "adr"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    assert [p.name for p in folder.glob("[0-9]*.md") if f"({p.name})" not in listed] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=relative)
def test_scripts_are_executable(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert script in BASH or script.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3\n")


@pytest.mark.parametrize("script", [*BASH, ROOT / "scripts/lib/environment.sh"], ids=relative)
def test_bash_scripts_parse(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize("script", BASH, ids=relative)
def test_bash_scripts_stop_at_errors(script: Path) -> None:
    assert "\nset -euo pipefail\n" in script.read_text(encoding="utf-8")


def test_scripts_refuse_an_old_python(tmp_path: Path) -> None:
    """`find_python` names the variable and stops when PYTHON is too old."""
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"set -euo pipefail; source {shlex.quote(str(ROOT / 'scripts/lib/environment.sh'))}; find_python",
        ],
        env={**os.environ, "PYTHON": str(old)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == f"PYTHON={old} is not Python 3.11 or newer: set PYTHON to one that is"


def test_one_version() -> None:
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == PROJECT["version"] == atelier.__version__


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {name.lower().replace("_", "-"): Version(version) for name, version in pairs}


def test_every_requirement_is_pinned_within_its_range() -> None:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    pinned = pins()
    for line in [*PROJECT["dependencies"], *extras]:
        requirement = Requirement(line)
        assert pinned[requirement.name.lower()] in requirement.specifier, line


def test_torch_is_pinned_without_a_build() -> None:
    assert pins()["torch"].local is None


@pytest.mark.parametrize("module", ["atelier", "atelier.cli.app", "atelier.request.model", "atelier.prompt"])
def test_light_modules_import_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sources_import_no_reference_implementation() -> None:
    found = {(relative(path), name) for path in (ROOT / "src").rglob("*.py") for name in imported(path)}
    assert {(path, name) for path, name in found if name in REFERENCES} == set()


def imported(path: Path) -> Iterator[str]:
    """Top-level names of what a module imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def test_notice_names_what_is_built_in() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for work in (
        "Noto Color Emoji",
        "SIL Open Font License 1.1",
        "Unicode CLDR",
        "Unicode License",
        "OpenAI",
        "MIT License",
    ):
        assert work in notice
