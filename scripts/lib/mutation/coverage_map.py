"""Which tests run which lines, kept on disk, and the choice of the tests for a mutant."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutation.changes import Misused, files
from mutation.mutants import Place

LIBRARY = Path(__file__).parents[1]
MOST_TESTS = 300
MOST_SECONDS = 30.0
"""That the tests compute for a mutant in a usual, unmutated run; one test is run even where it takes longer."""
LOT = 16
"""Test files that are run under coverage at a time: what they say is kept before the next begin."""
MOST_ALIKE = 20
"""Tests that come first because their names share words with the mutated line."""

Lines = Mapping[str, int]
"""File -> lines as the bits of a number."""


@dataclass(frozen=True, slots=True)
class Test:
    """A test as pytest names it; `seconds` that it computes under coverage."""

    id: str
    seconds: float
    lines: Lines

    @property
    def file(self) -> str:
        return self.id.partition("::")[0]


def test_files(root: Path, paths: Iterable[str]) -> list[str]:
    """The test files among `paths` (files or folders). Raises Misused for a path with none."""
    every = [name for name in files(root) if Path(name).name.startswith("test_") and name.endswith(".py")]
    found: set[str] = set()
    for path in paths:
        asked = (Path.cwd() / path).resolve()
        below = [name for name in every if (root / name).resolve().is_relative_to(asked)]
        if not below:
            raise Misused(f"{path}: no test file is there")
        found.update(below)
    return sorted(found)


def environment(tree: Path) -> dict[str, str]:
    """The environment in which the package and the tests are those of `tree`."""
    path = os.pathsep.join(map(str, (tree / "src", tree / "tests", LIBRARY)))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COVERAGE_"))}
    return kept | {
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "TOKENIZERS_PARALLELISM": "false",
    }


def coverage_map(root: Path, tree: Path, asked: Sequence[str], processes: int) -> list[Test]:
    """The tests of the files `asked`, from the folder .mutate, or from a run in `tree` (a copy of the root) where a
    file, the helpers that it imports or the sources that it runs are different by now."""
    store = root / ".mutate"
    store.mkdir(exist_ok=True)
    sources = {name: _hash([root / name]) for name in files(root) if name.startswith("src/") and name.endswith(".py")}
    helpers = _helpers(root)
    keys = {name: _hash([root / name, *_imported(root / name, helpers)]) for name in asked}
    known = {name: entry for name in asked if (entry := _kept(_entry(store, name), keys[name], sources)) is not None}
    missing = [name for name in asked if name not in known]
    if missing:
        print(f"running {len(missing)} of {len(asked)} test files under coverage", file=sys.stderr, flush=True)
        for start in range(0, len(missing), LOT):
            known |= _recorded_lot(store, tree, missing[start : start + LOT], processes, keys, sources)
        if not any(known[name] for name in missing):
            raise Misused("no test could be run")
    return [_test(entry) for name in asked for entry in known[name]]


def _recorded_lot(
    store: Path, tree: Path, names: Sequence[str], processes: int, keys: Mapping[str, str], sources: Mapping[str, str]
) -> dict[str, list[dict]]:
    """The tests of these files, kept in the store where none of the file fails."""
    tests, failed = _recorded(tree, names, processes)
    known: dict[str, list[dict]] = {}
    for test in failed:
        print(f"left out, fails without a mutant: {test}", file=sys.stderr)
    for name in names:
        known[name] = [test for test in tests if test["id"].partition("::")[0] == name]
        if not any(test.partition("::")[0] == name for test in failed):
            used = {file: sources[file] for test in known[name] for file in test["lines"]}
            done = {"key": keys[name], "sources": used, "tests": known[name]}
            _entry(store, name).write_text(json.dumps(done), encoding="utf-8")
    return known


def _helpers(root: Path) -> dict[str, Path]:
    """What is no test file among the tests, by the name under which tests import it."""
    names = [name for name in files(root) if name.startswith("tests/") and name.endswith(".py")]
    paths = [Path(name) for name in names if not Path(name).name.startswith("test_")]
    return {".".join(path.with_suffix("").parts[1:]): root / path for path in paths}


def _imported(file: Path, helpers: Mapping[str, Path]) -> list[Path]:
    """The helpers that a test file imports, and those that these import; each conftest, which nobody has to import."""
    waiting, found = [file], {path for name, path in helpers.items() if name.rpartition(".")[2] == "conftest"}
    waiting += found
    while waiting:
        for name in _imports(ast.parse(waiting.pop().read_bytes())):
            if name in helpers and helpers[name] not in found:
                found.add(helpers[name])
                waiting.append(helpers[name])
    return sorted(found)


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (module, *(f"{module}.{alias.name}" for alias in names))


def _hash(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _entry(store: Path, name: str) -> Path:
    return store / (name.replace("/", "__") + ".json")


def _kept(path: Path, key: str, sources: Mapping[str, str]) -> list[dict] | None:
    if not path.is_file():
        return None
    entry = json.loads(path.read_text(encoding="utf-8"))
    same = entry["key"] == key and all(sources.get(file) == was for file, was in entry["sources"].items())
    return entry["tests"] if same else None


def _test(entry: dict) -> Test:
    return Test(entry["id"], entry["seconds"], {file: int(mask, 16) for file, mask in entry["lines"].items()})


def _recorded(tree: Path, names: Sequence[str], processes: int) -> tuple[list[dict], list[str]]:
    """The tests that pass, and the names of those that do not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-P", "-m", "pytest", "-q", "--tb=line", "-p", "no:schemathesis"]
        command += ["-p", "mutation.recorder", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
        command += ["-n", str(processes), "--dist", "worksteal"] if processes > 1 else []
        command += [f"--rootdir={tree}", f"--basetemp={folder}/tests", *names]
        own = environment(tree)
        own["PYTHONPATH"] += os.pathsep + str(LIBRARY / "mutation" / "started")
        own |= {"MUTATE_RECORD": folder, "COVERAGE_CORE": "ctrace"}
        done = subprocess.run(command, cwd=tree, env=own, capture_output=True, text=True, check=False)
        parts = [json.loads(path.read_text(encoding="utf-8")) for path in Path(folder).glob("*.json")]
    tests = [test for part in parts for test in part["tests"]]
    if not tests:
        last = (done.stdout.strip().splitlines() or ["pytest printed nothing"])[-1]
        print(f"no test of {len(names)} files could be run: {last}", file=sys.stderr)
    return tests, sorted({test for part in parts for test in part["failed"]})


class Mentions:
    """Where the sources mention a name, by file; also through others: of what is made of it when modules are imported,
    such as a table that a constant stands in, and a class whose body mentions it."""

    def __init__(self, root: Path) -> None:
        self._lines: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._made: dict[str, set[str]] = defaultdict(set)
        for name in files(root):
            if name.startswith("src/") and name.endswith(".py"):
                tree = ast.parse((root / name).read_bytes())
                for word, line in _words(tree):
                    self._lines[word][name] |= 1 << line
                for made, word in _made_of(tree):
                    self._made[word].add(made)

    def of(self, names: Iterable[str]) -> Lines:
        found: dict[str, int] = defaultdict(int)
        for name in self._with_made(names):
            for file, mask in self._lines[name].items():
                found[file] |= mask
        return found

    def _with_made(self, names: Iterable[str]) -> set[str]:
        waiting, found = list(names), set[str]()
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._made[name]
        return found


def _words(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word):
                yield word, node.lineno


def _made_of(module: ast.Module) -> Iterator[tuple[str, str]]:
    """(what a statement of a module defines, each word in what it runs for that)."""
    for statement in module.body:
        match statement:
            case ast.ClassDef(name=name, body=body):
                parts = [part for part in body if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
                yield from ((name, word) for part in parts for word, _ in _words(part))
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield from ((name, word) for word, _ in _words(value))
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield from ((name, word) for word, _ in _words(value))


def tests_for(file: str, place: Place, tests: Sequence[Test], mentions: Mentions, line: str) -> list[Test]:
    """The tests that run a mutant's statement, at most MOST_TESTS: first those whose names share words with the mutated
    `line`, such as the row of a table that has a row there, then the cheapest.

    What runs at import belongs to no test: then those that run a line that mentions what the statement defines, or the
    function whose head it is, are taken; then those that run the file; then those that run another file's mention.
    """
    if not place.at_import:
        return _chosen([_running(tests, {file: _bits(*place.lines)})], line)
    mentioned = dict(mentions.of(place.names))
    near = mentioned.pop(file, 0) & ~_bits(*place.lines) | _bits(*place.body)
    return _chosen([_running(tests, {file: near}), _running(tests, {file: -1}), _running(tests, mentioned)], line)


def _bits(first: int, last: int) -> int:
    return sum(1 << line for line in range(first, last + 1)) if first else 0


def _running(tests: Sequence[Test], lines: Lines) -> list[Test]:
    return [test for test in tests if any(test.lines.get(file, 0) & mask for file, mask in lines.items())]


def _chosen(groups: Sequence[Sequence[Test]], line: str) -> list[Test]:
    """Those whose names are alike, in half of the time, then from the first groups first; in a group one of each test
    function before a second of the same."""
    alike = _alike([test for group in groups for test in group], line)
    every = [test for group in groups for test in _spread(group)]
    chosen: dict[str, Test] = {}
    seconds = 0.0
    for most, tests in ((MOST_SECONDS / 2, alike), (MOST_SECONDS, every)):
        for test in tests:
            if len(chosen) < MOST_TESTS and test.id not in chosen and seconds + test.seconds <= most:
                chosen[test.id] = test
                seconds += test.seconds
    chosen = chosen or {test.id: test for test in every[:1]}
    first = {test.id: place for place, test in enumerate(alike)}
    return sorted(chosen.values(), key=lambda test: (first.get(test.id, MOST_ALIKE), test.seconds))


def _alike(tests: Iterable[Test], line: str) -> list[Test]:
    """The tests whose names share most with a line: a word counts the more, the fewer names have it."""
    names = {test.id: _parts(test.id) & _parts(line) for test in tests}
    counts = Counter(word for words in names.values() for word in words)
    shared = {name: sum(1 / counts[word] for word in words) for name, words in names.items() if words}
    found = {test.id: test for test in tests if test.id in shared}
    return sorted(found.values(), key=lambda test: (-shared[test.id], test.seconds))[:MOST_ALIKE]


def _parts(text: str) -> frozenset[str]:
    """The words of a text, folded, without their divisions: Steps, num_steps and numSteps have steps in common."""
    return frozenset(word.casefold() for word in re.findall(r"[A-Z]?[a-z]{2,}|[A-Z]{3,}|\d{3,}", text))


def _spread(tests: Sequence[Test]) -> list[Test]:
    seen: dict[str, int] = defaultdict(int)
    ranked: list[tuple[int, Test]] = []
    for test in sorted(tests, key=lambda test: test.seconds):
        function = test.id.partition("[")[0]
        ranked.append((seen[function], test))
        seen[function] += 1
    return [test for _, test in sorted(ranked, key=lambda pair: pair[0])]
