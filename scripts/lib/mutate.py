"""Puts small faults into the sources, one at a time, and runs the tests of the place. See scripts/mutate.

Works on the repository in the working folder: `src` and `tests` below it, git, pytest.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from mutation.changes import Misused, base, changed, files, named
from mutation.coverage_map import Mentions, Test, coverage_map, environment, test_files, tests_for
from mutation.mutants import Mutant, mutants

KILLED, TIMED_OUT, SURVIVED, UNCOVERED = "killed", "timed out", "survived", "not covered by any test"
SLOWER, GRACE = 10, 20.0
"""A mutant may compute for SLOWER times the usual time of its tests and GRACE seconds."""
FIRST_LOT, FIRST_FILES = 40, 4
"""So many of a mutant's tests, of so many files, are run before the others are collected."""
FRESH = "fresh"
"""The answer of mutation/live.py where it cannot show a fault."""
SETTING_UP = 600.0
"""Seconds for the imports of all tests."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A mutant of a file, and the tests that run it."""

    file: str
    mutant: Mutant
    tests: Sequence[Test]

    @property
    def lots(self) -> Iterator[Sequence[Test]]:
        """Its tests, a few first: most faults are noticed by them, and collecting the others takes time too."""
        near = list(dict.fromkeys(test.file for test in self.tests))[:FIRST_FILES]
        first = [test for test in self.tests if test.file in near][:FIRST_LOT]
        begun = {test.id for test in first}
        return (part for part in (first, [test for test in self.tests if test.id not in begun]) if part)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a fault; `by` is the test that noticed it, where one did."""

    fault: Fault
    outcome: str
    by: str = ""

    def row(self) -> dict[str, Any]:
        mutant = self.fault.mutant
        original, mutated = mutant.shown
        row = {"file": self.fault.file, "line": mutant.line, "kind": mutant.edit.kind, "outcome": self.outcome}
        return row | {"original": original, "mutated": mutated, "tests": len(self.fault.tests), "by": self.by}

    def __str__(self) -> str:
        original, mutated = self.fault.mutant.shown
        return f"{self.fault.file}:{self.fault.mutant.line}: {original} -> {mutated}"


class Kept:
    """The results of a file, to which each is written as it comes, so that a run can be stopped and goes on later."""

    def __init__(self, path: Path | None, chosen: Sequence[tuple[str, Mutant]], *, again: bool) -> None:
        """again: those that were not noticed are run again. Raises Misused for a file of something else."""
        self._path = path
        self._rows: dict[str, dict[str, Any]] = {}
        try:
            rows = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else []
            there = {_key(row): row for row in rows}
        except (ValueError, KeyError, TypeError):
            raise Misused(f"{path}: is no file of results") from None
        self.results = list[Result]()
        self.missing = list[tuple[str, Mutant]]()
        for file, mutant in chosen:
            result = Result(Fault(file, mutant, ()), "")
            row = there.get(_key(result.row()))
            if row is None or (again and row["outcome"] not in {KILLED, TIMED_OUT}):
                self.missing.append((file, mutant))
            else:
                self._rows[_key(row)] = row
                self.results.append(replace(result, outcome=row["outcome"], by=row["by"]))

    def take(self, result: Result) -> None:
        self.results.append(result)
        row = result.row()
        self._rows[_key(row)] = row
        if self._path is not None:
            new = self._path.with_name(f".{self._path.name}.new")
            new.write_text(json.dumps(list(self._rows.values()), indent=1), encoding="utf-8")
            new.replace(self._path)


def _key(row: Mapping[str, Any]) -> str:
    """Which fault a row of a file is about."""
    return "\n".join(str(row[name]) for name in ("file", "line", "original", "mutated"))


class Worker:
    """A copy of the repository, and the processes that run tests in it: one that has imported what is not of the
    repository, and, once it is `warm`, one that has collected the tests."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.tree = folder / "tree"
        for name in files(root):
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, self.tree / name)
        # The cached byte code of a mutant must not be taken for that of the next: caches are compared by content.
        compiled = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "src"]
        subprocess.run(compiled, cwd=self.tree, check=False, stdout=subprocess.DEVNULL)
        self._root, self._folder = root, folder
        self._warm: subprocess.Popen[str] | None = None
        self._live: subprocess.Popen[str] | None = None
        self._foreign: list[str] = []

    def _started(self, script: str, folder: Path, *words: str) -> subprocess.Popen[str]:
        folder.mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).parent / "mutation" / f"{script}.py"), str(folder), *words],
            cwd=self.tree,
            env=environment(self.tree),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: object) -> Any:
        """The answer of the warm process, see mutation/warm.py, which is started now where it is not there: most faults
        do without. Raises OSError where it has ended."""
        if self._warm is None:
            self._warm = self._started("warm", self._folder)
            _asked(self._warm, {"modules": self._foreign})
        return _asked(self._warm, request)

    def ask_live(self, **request: object) -> Any:
        """The answer of the process that has collected the tests, see mutation/live.py. Raises OSError where it has
        ended."""
        assert self._live is not None, "it is not warm"
        return _asked(self._live, request)

    def warm(self, names: Sequence[str]) -> None:
        """Collects these test files.

        Raises Misused where they cannot be collected, or import the sources of the root in place of the copy's.
        """
        self._live = self._started("live", self._folder / "live", *names)
        told = _asked(self._live)
        if told["code"] != 0:
            raise Misused(f"the tests cannot be collected without a mutant: pytest ended with {told['code']}")
        stray = [name for name, file in told["modules"] if file.startswith(f"{self._root / 'src'}/")]
        if stray:
            raise Misused(f"{stray[0]}: the tests import it from the working tree, not from the copy that is mutated")
        foreign = [name for name, file in told["modules"] if file and not file.startswith(f"{self.tree}/")]
        self._foreign = [name for name in foreign if not name.startswith("__")]

    def fails(self, test: Test) -> bool:
        """Whether a test fails without a mutant."""
        return self._told(None, [test])["code"] != 0

    def run(self, fault: Fault) -> Result:
        """Puts the fault into the copy, runs its tests, and takes it out."""
        if not fault.tests:
            return Result(fault, UNCOVERED)
        path = self.tree / fault.file
        path.write_bytes(fault.mutant.data)
        try:
            return next(filter(None, (self._noticed(fault, lot) for lot in fault.lots)), Result(fault, SURVIVED))
        finally:
            path.write_bytes(fault.mutant.whole)

    def _noticed(self, fault: Fault, lot: Sequence[Test]) -> Result | None:
        """What becomes of a fault by some of its tests; None where they do not notice it."""
        told = self._told(fault, lot)
        if told["code"] is None:
            return Result(fault, TIMED_OUT)
        return Result(fault, KILLED, next(iter(told["failed"]), "")) if told["code"] else None

    def _told(self, fault: Fault | None, lot: Sequence[Test]) -> Any:
        """By the process that has everything imported, where it can show the fault."""
        request = {"tests": [test.id for test in lot], "limit": GRACE + SLOWER * _seconds(lot)}
        if self._live and (fault is None or not fault.mutant.place.at_import):
            place = {"file": fault.file, "was": fault.mutant.whole.decode()} if fault else {"file": None}
            told = self.ask_live(**request, **place)
            if told["code"] != FRESH:
                return told
        return self.ask(**request, stop=True, collect=False)

    def close(self) -> None:
        """Also ends the run in progress."""
        for process in filter(None, (self._warm, self._live)):
            process.terminate()
            with contextlib.suppress(BrokenPipeError), process:
                pass  # on leaving, it is waited for and its pipes are closed


def _asked(process: subprocess.Popen[str], request: Mapping[str, object] | None = None) -> Any:
    """The next answer of a process, a line of JSON. Raises OSError where it has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    if request is not None:
        print(json.dumps(request), file=process.stdin, flush=True)
    line = process.stdout.readline()
    if not line:
        raise BrokenPipeError("the process that runs the tests has ended")
    return json.loads(line)


def drawn(made: Sequence[tuple[str, Mutant]], most: int | None, seed: int) -> list[tuple[str, Mutant]]:
    """At most so many mutants, in an order of which every beginning is spread evenly over the lines."""
    draw = random.Random(seed)
    lines: dict[tuple[str, int], list[tuple[str, Mutant]]] = defaultdict(list)
    for file, mutant in made:
        lines[file, mutant.line].append((file, mutant))
    groups = list(lines.values())
    draw.shuffle(groups)
    for group in groups:
        draw.shuffle(group)
    deepest = max(map(len, groups), default=0)
    order = (group[depth] for depth in range(deepest) for group in groups if depth < len(group))
    chosen: list[tuple[str, Mutant]] = []
    for file, mutant in order:
        if len(chosen) == most:
            break
        if mutant.compiles():
            chosen.append((file, mutant))
    return chosen


def faults(root: Path, asked: argparse.Namespace) -> list[tuple[str, Mutant]]:
    """The mutants that the command line asks for. Raises Misused."""
    lines: dict[str, set[int] | None] = dict.fromkeys(named(root, asked.files))
    if asked.since or not asked.files:
        touched = changed(root, asked.since or base(root))
        lines = {file: touched[file] for file in (lines or touched) if file in touched}
    made: list[tuple[str, Mutant]] = []
    for file, wanted in sorted(lines.items()):
        try:
            found = mutants((root / file).read_bytes())
        except SyntaxError as error:
            raise Misused(f"{file}:{error.lineno}: {error.msg}") from None
        made += [(file, mutant) for mutant in found if wanted is None or mutant.line in wanted]
    return drawn(made, asked.most, asked.seed)


def judged(
    root: Path, chosen: Sequence[tuple[str, Mutant]], tests: Sequence[str], asked: argparse.Namespace
) -> Iterator[Result]:
    """The results, as they come; `tests` are the files to choose from."""
    with (
        tempfile.TemporaryDirectory(prefix="mutate-", ignore_cleanup_errors=True) as folder,
        contextlib.ExitStack() as stack,
    ):
        workers = [Worker(root, Path(folder) / str(number)) for number in range(asked.workers)]
        for worker in workers:
            stack.callback(worker.close)
        known, mentions = coverage_map(root, workers[0].tree, tests, asked.workers), Mentions(root)
        found = [
            Fault(file, mutant, tests_for(file, mutant.place, known, mentions, mutant.shown[0]))
            for file, mutant in chosen
        ]
        yield from (Result(fault, UNCOVERED) for fault in found if not fault.tests)
        names = sorted({test.file for fault in found for test in fault.tests})
        if names:
            with ThreadPoolExecutor(len(workers)) as pool:
                list(pool.map(lambda worker: worker.warm(names), workers))
        yield from _shared(workers, [fault for fault in found if fault.tests], asked.seconds)


class Broken:
    """The tests that fail without a mutant too, such as one that fails now and then: each is tried when it has noticed
    a fault for the first time, so that those that are never reached cost nothing."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}

    def judged(self, fault: Fault, worker: Worker) -> Result:
        """What becomes of a fault, by the tests that pass without it."""
        while True:
            result = worker.run(replace(fault, tests=[t for t in fault.tests if not self._known.get(t.id, False)]))
            noticed = next((test for test in fault.tests if test.id == result.by), None)
            if noticed is None or not self._is_broken(noticed, worker):
                return result

    def _is_broken(self, test: Test, worker: Worker) -> bool:
        if test.id not in self._known:
            self._known[test.id] = worker.fails(test)
            if self._known[test.id]:
                print(f"left out, fails without a mutant: {test.id}", file=sys.stderr, flush=True)
        return self._known[test.id]


def _seconds(tests: Iterable[Test]) -> float:
    return sum(test.seconds for test in tests)


def _shared(workers: Sequence[Worker], found: Sequence[Fault], seconds: float) -> Iterator[Result]:
    """The workers take the faults from one line, and none begins another after so many seconds."""
    waiting, results, broken = iter(found), queue.SimpleQueue[Result | Exception | None](), Broken()
    end = time.monotonic() + seconds

    def work(worker: Worker) -> None:
        try:
            while time.monotonic() < end and (fault := next(waiting, None)) is not None:
                results.put(broken.judged(fault, worker))
            results.put(None)
        except Exception as error:  # noqa: BLE001 - raised again by the thread that reads
            results.put(error)

    for worker in workers:
        threading.Thread(target=work, args=(worker,), daemon=True).start()
    working = len(workers)
    while working:
        result = results.get()
        if isinstance(result, Exception):
            raise result
        if result is None:
            working -= 1
        else:
            yield result


def report(results: Sequence[Result], chosen: int) -> str:
    """The survivors, the places that no test runs, and the counts."""
    counts = Counter(result.outcome for result in results)
    places = sorted({(r.fault.file, r.fault.mutant.line) for r in results if r.outcome == UNCOVERED})
    survivors = sorted(
        (r for r in results if r.outcome == SURVIVED), key=lambda r: (r.fault.file, r.fault.mutant.edit.start)
    )
    noticed, ran = counts[KILLED] + counts[TIMED_OUT], len(results) - counts[UNCOVERED]
    share = f", {100 * noticed / ran:.0f} % of {ran} noticed" if ran else ""
    late = f", {chosen - len(results)} not run" if chosen > len(results) else ""
    counted = ", ".join(f"{counts[outcome]} {outcome}" for outcome in (KILLED, TIMED_OUT, SURVIVED, UNCOVERED))
    return "\n".join(
        (
            *(f"{file}:{line}: {UNCOVERED}" for file, line in places),
            *map(str, survivors),
            f"{chosen} mutants: {counted}{late}{share}",
        )
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Misused(message)


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line. Raises Misused."""
    parser = _Parser(prog="scripts/mutate", description="Puts small faults into the sources and runs the tests.")
    parser.add_argument("files", nargs="*", metavar="FILE", help="files or folders of src (all of the change)")
    parser.add_argument(
        "--since",
        metavar="COMMIT",
        help="only lines that changed since then (without FILE: HEAD where the sources have changes that are not "
        "committed, else where the branch left main)",
    )
    parser.add_argument("--most", type=_count, metavar="N", help="at most so many mutants, spread over the lines")
    parser.add_argument("--seconds", type=_count, default=sys.maxsize, metavar="N", help="begin no mutant after that")
    parser.add_argument("--seed", type=int, default=0, help="which mutants are drawn, and in which order")
    parser.add_argument("--tests", nargs="+", default=["tests"], metavar="PATH", help="the tests to choose from")
    parser.add_argument("--workers", type=_count, default=2, metavar="N", help="mutants at a time (2)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="writes each result there; those that are there already are not run"
    )
    parser.add_argument("--again", action="store_true", help="of those of --json, runs those that survived")
    return parser.parse_args(words)


def main() -> None:
    """Prints the report. Raises Misused."""
    asked, root = arguments(sys.argv[1:]), Path.cwd()
    tests = test_files(root, asked.tests)
    chosen = faults(root, asked)
    kept = Kept(asked.json, chosen, again=asked.again)
    with contextlib.suppress(KeyboardInterrupt):  # what is known by then is reported
        for result in judged(root, kept.missing, tests, asked) if kept.missing else ():
            kept.take(result)
            if result.outcome == SURVIVED:
                print(f"survived ({len(kept.results)} of {len(chosen)} run): {result}", file=sys.stderr, flush=True)
    print(report(kept.results, len(chosen)))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except Misused as error:
        print(f"mutate: {error}", file=sys.stderr)
        sys.exit(2)
