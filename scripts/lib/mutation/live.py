"""A process in which pytest has collected the tests and imported the sources, and that forks for each run of tests.

Where a fault is in the body of a function, the fork gives the function its faulty code and runs the tests: nothing is
imported or collected again, so that a run costs little more than its tests. See `Live.patches` for what cannot be done
so; those faults take the way of mutation/warm.py.

Started as `live.py FOLDER TEST_FILE...` in the copy of the repository. Writes a line when it is ready: {"code": 0,
"modules": those loaded, as [name, file]}, or {"code": pytest's code} where that cannot be. Then it reads requests, one
a line: {"file": the one with the fault (null: no fault), "was": its text without, "tests": [...], "limit": seconds}. It
answers {"code": null after `limit` seconds, else 0 or 1, "failed": [...]}, or {"code": "fresh"} where the sources have
to be imported again.
"""

from __future__ import annotations

import gc
import inspect
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NoReturn, TextIO

import pytest

from mutation.recorder import empty_caches
from mutation.warm import Failures, ended_by_signals, options, run_in_fork, settle

FRESH = "fresh"


Key = tuple[str, CodeType]
"""A file and a function's code in it: that of two files may be equal."""


def functions(module: CodeType) -> Iterator[tuple[str, CodeType, bool]]:
    """The functions of a module's code, each with a name of its own, and whether it is made inside of another one.

    The name is the qualified one and a number, since a property has several functions of one name.
    """
    seen: dict[str, int] = defaultdict(int)
    waiting = [(module, False)]
    while waiting:
        outer, inside = waiting.pop()
        if outer.co_flags & inspect.CO_OPTIMIZED:
            seen[outer.co_qualname] += 1
            yield f"{outer.co_qualname} {seen[outer.co_qualname]}", outer, inside
            inside = True
        waiting += [(const, inside) for const in reversed(outer.co_consts) if isinstance(const, CodeType)]


@dataclass(frozen=True, slots=True)
class Change:
    """A function before and after; nested: it is made inside of another one; own: what differs is not only in functions
    that are made inside of it."""

    before: CodeType
    after: CodeType
    nested: bool

    @property
    def own(self) -> bool:
        return _without_functions(self.before) != _without_functions(self.after)


def _without_functions(code: CodeType) -> CodeType:
    return code.replace(co_consts=tuple(None if isinstance(c, CodeType) else c for c in code.co_consts))


def changes(file: str, was: str, now: str) -> list[Change] | None:
    """The functions of a file whose code is different; None where the two texts do not have the same functions."""
    compiled = (compile(text, file, "exec", dont_inherit=True) for text in (was, now))
    old, new = ({name: (code, nested) for name, code, nested in functions(code)} for code in compiled)
    if old.keys() != new.keys():
        return None
    both = [Change(before, new[name][0], nested) for name, (before, nested) in old.items()]
    if any(change.before.co_freevars != change.after.co_freevars for change in both):
        return None
    return [change for change in both if change.before != change.after]


class Live:
    """The pytest plugin that waits for requests in place of running the tests."""

    def __init__(self, folder: Path, requests: TextIO, answers: TextIO) -> None:
        self.folder, self.requests, self.answers = folder, requests, answers
        self.sources = Path("src").resolve()
        self.failures = Failures()
        self.seen: dict[int, CodeType] = {}
        """What ran while modules were imported and tests collected: its results are there already."""
        self.early: frozenset[Key] = frozenset()
        self.living: Mapping[Key, list[FunctionType]] = {}

    def watched(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            self.seen[id(frame.f_code)] = frame.f_code

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Never ends but with the process; where a file could not be collected, pytest goes on and says so."""
        sys.setprofile(None)
        if session.testsfailed:
            return
        self.early = frozenset((code.co_filename, code) for code in self.seen.values() if _is_below(self.sources, code))
        empty_caches(self.sources)
        self.living = living(self.sources)
        settle()
        items = {item.nodeid: item for item in session.items}
        modules = [[name, getattr(module, "__file__", None) or ""] for name, module in list(sys.modules.items())]
        self.answer({"code": 0, "modules": modules})
        for line in self.requests:
            self.answer(self.done(json.loads(line), items))
        os._exit(0)

    def answer(self, told: object) -> None:
        print(json.dumps(told), file=self.answers, flush=True)

    def done(self, request: Mapping[str, Any], items: Mapping[str, pytest.Item]) -> dict[str, Any]:
        patches = self.patches(str(Path(request["file"]).resolve()), request["was"]) if request["file"] else []
        if patches is None or any(test not in items for test in request["tests"]):
            return {"code": FRESH}
        wanted = [items[test] for test in request["tests"]]
        return run_in_fork(lambda answer: self.test(patches, wanted, answer), self.folder, request["limit"])

    def patches(self, file: str, was: str) -> list[tuple[FunctionType, CodeType]] | None:
        """The functions to be given other code, from the file as it is; None where that would not be the whole fault:
        it ran before, or is in no function that is there."""
        if all(getattr(module, "__file__", None) != file for module in list(sys.modules.values())):
            return []  # it is imported by the tests, from the copy
        changed = changes(file, was, Path(file).read_text(encoding="utf-8"))
        if not changed:
            return None
        found: list[tuple[FunctionType, CodeType]] = []
        for change in changed:
            there = self.living.get((file, change.before), [])
            if ((file, change.before) in self.early and change.own) or not (there or change.nested):
                return None
            found += [(function, change.after) for function in there]
        return found

    def test(self, patches: list[tuple[FunctionType, CodeType]], items: list[pytest.Item], answer: Path) -> int:
        """Runs tests up to the first that fails."""
        for function, code in patches:
            function.__code__ = code
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failures.names:
                break
        answer.write_text(json.dumps({"failed": self.failures.names}), encoding="utf-8")
        return int(bool(self.failures.names))


def living(sources: Path) -> dict[Key, list[FunctionType]]:
    """The functions from files below a folder."""
    found: dict[Key, list[FunctionType]] = defaultdict(list)
    for thing in gc.get_objects():
        if type(thing) is FunctionType and _is_below(sources, thing.__code__):
            found[thing.__code__.co_filename, thing.__code__].append(thing)
    return found


def _is_below(folder: Path, code: CodeType) -> bool:
    return code.co_filename.startswith(f"{folder}/")


def main() -> NoReturn:
    folder, tests = Path(sys.argv[1]), sys.argv[2:]
    ended_by_signals()
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    live = Live(folder, requests, answers)
    sys.setprofile(live.watched)
    code = int(pytest.main([*options(folder), *tests], plugins=[live, live.failures]))
    live.answer({"code": code or 5})
    os._exit(code)


if __name__ == "__main__":
    main()
