"""A process that has imported what is slow to import and forks for each run of tests, so that a run costs no start.

Reads requests from stdin and writes answers to stdout, a line of JSON each:
{"modules": [...]} imports them; {"tests": [...], "limit": seconds, "stop": bool, "collect": bool} runs tests. The
answer to a run: "code" as pytest gives it (null once it has computed for `limit` seconds), "failed" tests, and with
"collect" the "modules" loaded, as [name, file].
The package under test must not be imported here: each fork imports it anew from the working folder.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest

POLL = 0.01
LOOK = 1.0
"""Seconds between two looks at how long a run has computed: a look costs milliseconds."""
PATIENCE = 10
"""A run that waits for others, or for a core of a busy machine, has so many times the time that it may compute."""


class Failures:
    """Collects the names of the tests that fail."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and report.nodeid not in self.names:
            self.names.append(report.nodeid)


def load(modules: list[str]) -> None:
    """Imports what can be imported."""
    for name in modules:
        with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
            importlib.import_module(name)
    settle()


def settle() -> None:
    """Makes ready for forks: what is there by now will not change."""
    with contextlib.suppress(ImportError):
        from hypothesis import settings

        # A busy machine must not kill a mutant, and the same mutant meets the same examples.
        settings.register_profile("mutate", deadline=None, derandomize=True, database=None)
        settings.load_profile("mutate")
    gc.collect()
    gc.freeze()


def options(folder: Path) -> list[str]:
    """How pytest is called."""
    words = [
        "-q",
        "--tb=line",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
    ]
    return [*words, f"--rootdir={Path.cwd()}", f"--basetemp={folder / 'tests'}"]


def run(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Runs tests in a fork."""
    return run_in_fork(lambda answer: _test(request, folder, answer), folder, request["limit"])


def run_in_fork(test: Callable[[Path], int], folder: Path, limit: float) -> dict[str, Any]:
    """`test` gives pytest's code and may write a JSON object into the file that it is given."""
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _begin(test, answer)
    try:
        code = waited(child, limit)
    finally:
        _end(child)
    told = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else {"failed": [], "modules": []}
    return {"code": code} | told


def _begin(test: Callable[[Path], int], answer: Path) -> NoReturn:
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        half = psutil.virtual_memory().total // 2
        resource.setrlimit(resource.RLIMIT_DATA, (half, resource.getrlimit(resource.RLIMIT_DATA)[1]))
        code = test(answer)
    finally:
        os._exit(code)


def _test(request: dict[str, Any], folder: Path, answer: Path) -> int:
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    failures = Failures()
    # Rewritten test modules are kept from the first run, whose sources are the unmutated ones.
    sys.dont_write_bytecode = not request["collect"]
    words = ["-x"] * request["stop"] + ["--collect-only"] * request["collect"]
    code = int(pytest.main([*options(folder), *words, *request["tests"]], plugins=[failures]))
    loaded = [[n, getattr(m, "__file__", None) or ""] for n, m in list(sys.modules.items())]
    told = {"failed": failures.names, "modules": loaded if request["collect"] else []}
    answer.write_text(json.dumps(told), encoding="utf-8")
    return code


def waited(child: int, limit: float) -> int | None:
    """Its exit code, or None: it has computed for `limit` seconds, or waited for very long.

    A run that is slow because others use the cores is not one that hangs, so that what it computes counts.
    """
    begun = looked = time.monotonic()
    while (now := time.monotonic()) < begun + PATIENCE * limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if now > looked + min(LOOK, limit):
            looked = now
            if computed(child) > limit:
                return None
        time.sleep(POLL)
    return None


def computed(child: int) -> float:
    """Seconds of a core that a process has used, with all that it started."""
    seconds = 0.0
    with contextlib.suppress(psutil.Error):
        run = psutil.Process(child)
        for process in (run, *run.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                seconds += sum(process.cpu_times()[:4])
    return seconds


def _end(child: int) -> None:
    """Ends a run with all that it started and did not end."""
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(child).children(recursive=True):
            process.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)


def ended_by_signals() -> None:
    """The one who asks is interrupted too, and ends this process; a run in progress is ended first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def main() -> None:
    folder = Path(sys.argv[1])
    ended_by_signals()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        request = json.loads(line)
        done = run(request, folder) if "tests" in request else load(request["modules"])
        print(json.dumps(done), file=answers, flush=True)


if __name__ == "__main__":
    main()
