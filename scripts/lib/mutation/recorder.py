"""A pytest plugin that writes down which lines of the sources each test runs, and how long it computes.

Every process of the run writes one file into the folder $MUTATE_RECORD. Lines that run while modules are imported
belong to no test; lines of a fixture that several tests share belong to every test that uses it. Caches of functions
are emptied before each test, so that no test lives on what an earlier one worked out.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

FIXTURE = "fixture "
STARTED = "MUTATE_TEST"
"""The environment variable that tells the processes which a test starts to be measured too, as parts of that test."""
Masks = dict[str, dict[str, int]]
"""Context -> file -> its lines as the bits of a number."""


class Recorder:
    def __init__(self, sources: Path, folder: Path) -> None:
        self.sources, self.folder = sources, folder
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()
        self.passed: set[str] = set()
        self.fixtures: dict[str, list[str]] = {}
        self.contexts = [""]
        self.coverage = coverage.Coverage(
            data_file=None, config_file=False, include=[f"{sources}/*"], messages=False, check_preimported=False
        )
        self.coverage.start()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        empty_caches(self.sources)
        self.fixtures[item.nodeid] = list(getattr(item, "fixturenames", []))
        os.environ[STARTED] = item.nodeid
        before = _computed()
        try:
            return (yield from self._in_context(item.nodeid))
        finally:
            self.seconds[item.nodeid] = _computed() - before
            del os.environ[STARTED]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        return (yield from self._in_context(FIXTURE + fixturedef.argname))

    def _in_context(self, name: str) -> Iterator[None]:
        self.contexts.append(name)
        self.coverage.switch_context(name)
        try:
            return (yield)
        finally:
            self.contexts.pop()
            self.coverage.switch_context(self.contexts[-1])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self.coverage.stop()
        masks = self._masks()
        tests = [
            {"id": test, "seconds": round(self.seconds[test], 3), "lines": self._lines(masks, test)}
            for test in sorted(self.passed - self.failed)
        ]
        done = {"tests": tests, "failed": sorted(self.failed)}
        (self.folder / f"{os.getpid()}.json").write_text(json.dumps(done), encoding="utf-8")

    def _masks(self) -> Masks:
        masks = defaultdict[str, dict[str, int]](lambda: defaultdict(int))
        for data in (self.coverage.get_data(), *self._started()):
            for file in data.measured_files():
                name = str(Path(file).relative_to(self.sources.parent))
                for line, contexts in data.contexts_by_lineno(file).items():
                    for context in contexts:
                        masks[context][name] |= 1 << line
        return masks

    def _started(self) -> Iterator[coverage.CoverageData]:
        """What the processes measured that the tests started."""
        for file in self.folder.glob("started.*"):
            data = coverage.CoverageData(str(file))
            with contextlib.suppress(coverage.CoverageException):  # it was ended while it wrote
                data.read()
                yield data

    def _lines(self, masks: Masks, test: str) -> dict[str, str]:
        lines: dict[str, int] = defaultdict(int)
        for context in (test, *(FIXTURE + name for name in self.fixtures[test])):
            for file, mask in masks.get(context, {}).items():
                lines[file] |= mask
        return {file: hex(mask) for file, mask in lines.items()}


def _computed() -> float:
    """Seconds of a core that this process has used, with those that it started and that ended: how long a test takes
    on a busy machine says nothing of it."""
    return sum(os.times()[:4])


def empty_caches(sources: Path) -> None:
    """Empties the caches (functools) of the functions in the modules below a folder."""
    for module in list(sys.modules.values()):
        if (getattr(module, "__file__", None) or "").startswith(str(sources)):
            for value in list(vars(module).values()):
                if isinstance(value, functools._lru_cache_wrapper):  # noqa: SLF001 - it has no public name
                    value.cache_clear()


def pytest_configure(config: pytest.Config) -> None:
    """Records in the processes that run tests, not in the one that hands them out."""
    if "PYTEST_XDIST_WORKER" in os.environ or not getattr(config.option, "numprocesses", None):
        sources = Path("src").resolve()
        os.environ["MUTATE_SOURCES"] = str(sources)
        config.pluginmanager.register(Recorder(sources, Path(os.environ["MUTATE_RECORD"])))
