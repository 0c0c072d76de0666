"""The command line: help, errors, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest
import typer

from atelier import __version__
from atelier.cli.app import COMMANDS, CommandGroup, run
from atelier.cli.failure import TRACEBACK
from atelier.errors import AtelierError, NotFinite, StorageFull


def atelier(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "atelier", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def with_command(fails: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """`atelier fails` runs this function."""
    commands = typer.Typer()
    commands.command("fails")(fails)
    monkeypatch.setitem(sys.modules, "failing", SimpleNamespace(app=commands))
    monkeypatch.setitem(COMMANDS, "fails", CommandGroup("failing", "Fail."))


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help_lists_every_command(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from atelier.cli.app import run\n"
        "assert run(['--help']) == 0\n"
        "heavy = {'torch', 'numpy', 'PIL', 'pydantic', 'atelier.compose', 'atelier.cli.train'}\n"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_the_version_is_the_packages():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    done = atelier("--version")
    assert (done.returncode, done.stdout) == (0, f"atelier {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_group_answers_help(name: str, capsys: pytest.CaptureFixture[str]):
    assert run([name, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generte",), "generte"),
        (("generate",), "nothing to generate"),
        (("evaluate", "--steps", "1001"), "equal to 1000\n"),
        (("evaluate", "--cfg", "100.5"), "equal to 100\n"),
        (("prompt", "explain", "x", "--steps", "10001"), "equal to 10000\n"),
        (("generate", "--verify"), "--from"),
        (("generate", "x", "--set", "eta"), "NAME=VALUE"),
        (("generate", "x", "--set", "etta=1"), "did you mean eta"),
        (("generate", "x", "--stepps", "3"), "--stepps"),
        (("generate", "x", "--steps", "many"), "--steps"),
        (("--nothing",), "--nothing"),
        (("models", "nothing"), "nothing"),
    ],
)
def test_wrong_usage_is_one_line(arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]):
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("atelier: ")
    assert words in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (AtelierError("e"), 1, "atelier: e\n"),
        (StorageFull("full"), 2, "atelier: full\n"),
        (NotFinite("step 3"), 3, "atelier: step 3\n"),
        (KeyboardInterrupt(), 130, "atelier: stopped\n"),
        (PermissionError(13, "Permission denied", "a"), 2, "atelier: a: is not permitted (Permission denied)\n"),
        (MemoryError(), 2, "atelier: this does not fit in memory: choose a smaller size, batch or model\n"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
            2,
            "atelier: this does not fit in memory: choose a smaller size, batch or model\n",
        ),
        (
            OSError(12, "Cannot allocate memory"),
            2,
            "atelier: this does not fit in memory: choose a smaller size, batch or model\n",
        ),
        (
            OSError(28, "No space left"),
            2,
            "atelier: standard output: the disk is full; free some space and run again\n",
        ),
        (
            ValueError("one\ntwo"),
            1,
            "atelier: ValueError: one (a fault of Atelier's own; ATELIER_TRACEBACK=1 shows where)\n",
        ),
    ],
)
def test_whatever_is_raised_is_one_line_and_a_code(
    raised: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def fails() -> None:
        raise raised

    with_command(fails, monkeypatch)
    monkeypatch.delenv(TRACEBACK, raising=False)
    assert run(["fails"]) == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("models", "inspect", "nothing.safetensors", "--json"), 2, "nothing.safetensors"),
        (("models", "inspect", "--json"), 2, "Missing argument 'model'"),
        (("models", "inspect", "x", "--json", "--nothing"), 2, "--nothing"),
        (("models", "list", "--models-dir", "nowhere", "--json"), 2, "nowhere: is no folder"),
        (("info", "nothing.png", "--json"), 2, "nothing.png"),
        (("prompt", "explain", "x", "--steps", "many", "--json"), 2, "--steps"),
        (("interrogate", "nothing.png", "--json"), 2, "nothing.png"),
        (("evaluate", "--model", "nothing", "--json"), 2, "nothing"),
    ],
)
def test_an_error_is_json_where_json_is_asked_for(
    arguments: tuple[str, ...],
    code: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == code
    shown = capsys.readouterr()
    answer = json.loads(shown.out)
    assert shown.err == f"atelier: {answer['error']}\n"
    assert said in answer["error"]


def test_a_fault_is_json_too_and_only_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def fails(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        raise ValueError(as_json)

    with_command(fails, monkeypatch)
    monkeypatch.delenv(TRACEBACK, raising=False)
    assert run(["fails", "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["error"].startswith("ValueError: True (a fault")
    assert run(["fails"]) == 1
    assert capsys.readouterr().out == ""
    assert run(["generate", "--json"]) == 2
    assert capsys.readouterr().out == "", "it has no such option"
    assert run(["fails", "--json", "--help"]) == 0
    assert "error" not in capsys.readouterr().out


def test_a_traceback_can_be_had(monkeypatch: pytest.MonkeyPatch):
    def fails() -> None:
        raise ValueError("here")

    with_command(fails, monkeypatch)
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(ValueError, match="here"):
        run(["fails"])


def test_a_reader_that_leaves_is_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "atelier", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    _, error = process.communicate()
    assert "Traceback" not in error
