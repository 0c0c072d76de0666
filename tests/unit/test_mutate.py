"""scripts/mutate: which faults it makes, where, which tests it runs for them, and that these decide."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import mutate
from mutation import changes, live, warm
from mutation import coverage_map as maps
from mutation.mutants import Place, mutants

SCRIPT = Path(__file__).parents[2] / "scripts" / "lib" / "mutate.py"


def mutated(source: str) -> list[str]:
    return [mutant.shown[1] for mutant in mutants(source.encode())]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b <= c", ["a <= b <= c", "a < b < c"]),
        ("a > b", ["a >= b"]),
        ("a == b", ["a != b"]),
        ("(a) is  not (b)", ["(a) is (b)"]),
        ("a not in b", ["a in b"]),
        ("a + b * c - d", ["a - b * c - d", "a + b / c - d", "a + b * c + d"]),
        ("a // b ** c", ["a / b ** c", "a // b * c"]),
        ("a += b", ["a -= b"]),
        ("a and b and c", ["a or b and c", "a and b or c"]),
        ("a or b", ["a and b"]),
        ("not (a)", ["(a)"]),
        ("-a", ["a"]),
        ("a = 7", ["a = 8"]),
        ("a = 1.5", ["a = 3.0"]),
        ("a = 0.0", ["a = 1.0"]),
        ("a = True", ["a = False"]),
        ("a = 'text'", ["a = '~text'"]),
        ('a = rb"""text"""', ['a = rb"""~text"""']),
        ("a = f'{b + 1}'", ["a = f'~{b + 1}'"]),
        ("a = 'é' + b", ["a = '~é' + b"]),
        ("a = b[c:-1]", ["a = b[c + 1:-1]", "a = b[c:1]", "a = b[c:-2]"]),
        ("a = b[: c - d]", ["a = b[: (c - d) + 1]", "a = b[: c + d]"]),
        ("a = min(b, c)", ["a = max(b, c)"]),
        ("a = torch.amax(b)", ["a = torch.amin(b)"]),
        ("a = f(b, c, d)", ["a = f(c, b, d)", "a = f(b, d, c)"]),
        ("a = f(b, c=d, e=g)", ["a = f(b, e=g)", "a = f(b, c=d)"]),
        ("a = f((b), c=d,)", ["a = f((b),)"]),
        ("a = f(b=c)", ["a = f()"]),
        ("a = f(b=c, )", ["a = f( )"]),
        ("a = b.c.clamp(d)", ["a = b.c"]),
        ("a = (b @ c).clamp(d)", ["a = (b @ c)"]),
        ("a = sorted(b)", ["a = (b)"]),
        ("a = torch.clip(b, c, d)", ["a = torch.clip(c, b, d)", "a = torch.clip(b, d, c)", "a = (b)"]),
        ("f()", ["pass"]),
        ("a.b = c", ["pass"]),
        ("a[b] += c", ["a[b] -= c", "pass"]),
        ("for a in b: continue", ["for a in b: pass"]),
        ("if a: b", ["if True: b", "if False: b"]),
        ("while a: b", ["while False: b"]),
        ("while True: b", ["while False: b"]),
        ("a = b if c else d", ["a = b if True else d", "a = b if False else d"]),
        ("a = [b for b in c if d]", ["a = [b for b in c if True]", "a = [b for b in c if False]"]),
        ("def f(a=1, *, b=None): return a", ["def f(a=2, *, b=None): return a"]),
        ("def f() -> int | None: return a", ["def f() -> int | None: return None"]),
        ("match a:\n    case 1: b", ["case 2: b"]),
        ("a: int = 3", ["a: int = 4"]),
    ],
)
def test_faults(source: str, expected: list[str]) -> None:
    assert sorted(mutated(source)) == sorted(expected)


@pytest.mark.parametrize(
    "source",
    [
        '"""A text."""',
        "def f(a: Literal['b'] = c) -> tuple[int, 'd']:\n    '''A text.'''\n    return e",
        "class A(B):\n    '''A text.'''\n    a: int\n    '''Another.'''",
        "raise Bad('text', 1)",
        "raise Bad(f'{a}: text') from b",
        "assert a == 1",
        "from a.errors import Bad\nb = Bad('text')",
        "a = ValueError('text')",
        "__all__ = ['a']",
        "class A:\n    __slots__ = ('a', 'b')",
        "A = Callable[[int, 'B'], None]",
        "A = dict[str, Literal[1]]",
        "A = B | None",
        "a: TypeAlias = 'B | C'",
        "a = cast('B', b)",
        "A = TypeVar('A', bound='B')",
        "if TYPE_CHECKING:\n    a = 1",
        "if typing.TYPE_CHECKING:\n    a = 1",
        "if __name__ == '__main__':\n    main()",
        "@dataclass(frozen=True, slots=True)\nclass A:\n    b: int",
        "log.debug('text')",
        "a = open(b, encoding='utf-8')",
        "a = zip(*b, strict=True)",
        "a = Option(help='text')",
        "a = b",
    ],
)
def test_no_faults(source: str) -> None:
    assert mutated(source) == []


def test_the_rest_of_the_file_stays_byte_for_byte() -> None:
    """Positions count bytes, and neither line ends nor comments nor spaces change."""
    source = "# Überschrift\r\nz = 'ä'  ;  a = (  'öü' ,b\t<c )  # Ende".encode()
    by_kind = {mutant.edit.kind: mutant for mutant in mutants(source)}
    assert by_kind["comparison"].data == "# Überschrift\r\nz = 'ä'  ;  a = (  'öü' ,b\t<=c )  # Ende".encode()
    assert by_kind["comparison"].line == 2


def test_a_fault_in_several_lines_is_shown_on_one() -> None:
    (mutant,) = mutants(b"f = g(\n    a,\n    b,\n)\n")
    assert mutant.shown == ("a, b,", "b, a,")
    assert mutant.data == b"f = g(\n    b,\n    a,\n)\n"
    assert mutant.line == 2


def test_what_is_no_program_is_told() -> None:
    made = {mutant.shown[1]: mutant.compiles() for mutant in mutants(b"def f():\n    a = g((yield), b)")}
    assert made == {"a = g((b), yield)": False}


def test_places() -> None:
    source = b"A = 1\n\n@b(2)\ndef f(\n    x=3,\n):\n    if (\n        x > y\n    ):\n        return x + 4\n"
    places = {mutant.shown[0]: mutant.place for mutant in mutants(source)}
    assert places["A = 1"] == Place((1, 1), at_import=True, names=frozenset({"A"}))
    head = Place((3, 6), at_import=True, names=frozenset({"f"}), body=(7, 10))
    assert (places["@b(2)"], places["x=3,"]) == (head, head)
    assert places["x > y"] == Place((7, 9), at_import=False)
    assert places["return x + 4"] == Place((10, 10), at_import=False)


def case(name: str, seconds: float, **lines: int) -> maps.Test:
    """A test that runs one line of each of the files."""
    return maps.Test(f"test_a.py::{name}", seconds, {f"{file}.py": 1 << line for file, line in lines.items()})


class Words(maps.Mentions):
    def __init__(self, lines: maps.Lines) -> None:
        self.lines = lines

    def of(self, names: object) -> maps.Lines:
        return self.lines if names == {"A"} else {}


NOTHING = Words({})


def chosen(place: Place, tests: list[maps.Test], mentions: maps.Mentions = NOTHING) -> list[str]:
    return [test.id.removeprefix("test_a.py::") for test in maps.tests_for("a.py", place, tests, mentions, "")]


def test_the_tests_of_a_line_run_cheapest_first() -> None:
    tests = [case("slow", 3, a=2), case("other", 1, a=4), case("elsewhere", 1, b=2), case("fast", 1, a=3, b=9)]
    assert chosen(Place((2, 3), at_import=False), tests) == ["fast", "slow"]


def test_one_test_of_a_function_before_a_second() -> None:
    many = [case(f"many[{number}]", 0.0001 * number, a=2) for number in range(310)]
    names = chosen(Place((2, 2), at_import=False), [*many, case("single", 1, a=2)])
    assert names == [f"many[{number}]" for number in range(299)] + ["single"]


def test_slow_tests_are_few_but_one_at_least() -> None:
    slow = [case("a", 100, a=2), case("b", 101, a=2)]
    assert chosen(Place((2, 2), at_import=False), slow) == ["a"]


def test_names_that_are_alike_leave_half_of_the_time_to_others() -> None:
    half = maps.MOST_SECONDS / 2
    tests = [case(f"seed_{letter}", half, a=2) for letter in "abc"] + [case("other", 0.1, a=2)]
    found = maps.tests_for("a.py", Place((2, 2), at_import=False), tests, NOTHING, "seed = 1")
    assert [test.id.partition("::")[2] for test in found] == ["seed_a", "other"]


def test_tests_that_share_words_with_the_mutated_line_run_first() -> None:
    """A word counts the more, the fewer tests have it."""
    names = ("read[Tokens merged]", "read[Tokens]", "read[seed]", "read[SEED resized]", "other")
    tests = [case(name, 0.9 - place / 10, a=2) for place, name in enumerate(names)]
    found = maps.tests_for("a.py", Place((2, 2), at_import=False), tests, NOTHING, 'Key("tokensMerged", 3)')
    assert [test.id.partition("::")[2] for test in found] == [
        *("read[Tokens merged]", "read[Tokens]", "other", "read[SEED resized]", "read[seed]")
    ]


def test_what_runs_at_import_is_tested_by_those_that_use_it() -> None:
    tests = [
        case("mention", 4, a=7),
        case("body", 3, a=5),
        case("file", 2, a=9),
        case("far", 1, b=3),
        case("no", 0, c=3),
    ]
    place = Place((4, 4), at_import=True, names=frozenset({"A"}), body=(5, 6))
    mentions = Words({"a.py": 1 << 7 | 1 << 4, "b.py": 1 << 3})
    assert chosen(place, tests, mentions) == ["far", "file", "body", "mention"]


def test_mentions_are_found_through_what_is_made_of_a_name(root: Path) -> None:
    """A limit stands in a row, the row in a table, the table in a class; a method that mentions it makes nothing."""
    table = "LOW = 1\nROW = row(LOW)\nTABLE: Rows = (ROW,)\n\n\nclass Store:\n    rows = TABLE\n"
    table += "\n    def own(self):\n        return OTHER\n\n\nOTHER = 2\n"
    (root / "src/package/table.py").write_text(table)
    (root / "src/package/use.py").write_text("def use():\n    return Store()\n\n\ndef other():\n    return OTHER\n")
    mentions = maps.Mentions(root)
    found = {name: dict(mentions.of([name])) for name in ("LOW", "OTHER")}
    assert found["LOW"] == {"src/package/table.py": 1 << 1 | 1 << 2 | 1 << 3 | 1 << 7, "src/package/use.py": 1 << 2}
    assert found["OTHER"] == {"src/package/table.py": 1 << 10 | 1 << 13, "src/package/use.py": 1 << 6}


def test_mutants_are_drawn_evenly_over_the_lines() -> None:
    made = [("a.py", mutant) for mutant in mutants(b"a = 1 < 2 < 3 < 4 < 5\nb = 1\nc = 2\n")]
    few = mutate.drawn(made, 3, seed=5)
    assert sorted(mutant.line for _, mutant in few) == [1, 2, 3]
    assert mutate.drawn(made, 3, seed=5) == few
    assert mutate.drawn(made, 9, seed=5)[:3] == few
    assert any(mutate.drawn(made, 3, seed=seed) != few for seed in range(6, 16))
    assert len(mutate.drawn(made, None, seed=0)) == len(made) == 11


SOURCE = """\
LIMIT = 10


def clamped(x: int) -> int:
    if x > LIMIT:
        return LIMIT
    return x


def never(x: int) -> int:
    return -x
"""
WEAK = """\
from package.numbers import clamped


def test_clamped():
    assert clamped(99) <= 99
    assert clamped(3) == 3
"""
STRONG = """\
import subprocess, sys
import psutil
import pytest
from package.numbers import clamped


@pytest.mark.parametrize(("x", "y"), [(9, 9), (10, 10), (12, 10)])
def test_clamped(x, y):
    assert clamped(x) == y


def test_broken():
    clamped(0)
    assert False


def test_in_a_process():
    subprocess.run([sys.executable, "-c", "from package.numbers import never; assert never(1) == -1"], check=True)
"""


def git(root: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    subprocess.run(["git", "-C", str(root), *identity, *words], check=True, capture_output=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a package of one module and tests."""
    for name, text in {
        ".gitignore": ".mutate\n",
        "src/package/__init__.py": "",
        "src/package/numbers.py": SOURCE,
        "tests/test_weak.py": WEAK,
        "tests/test_strong.py": STRONG,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "--initial-branch", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "Start")
    return tmp_path


def script(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *words], cwd=root, capture_output=True, text=True, check=False)


def test_a_weak_test_lets_faults_survive(root: Path) -> None:
    done = script(root, "src", "--workers", "1", "--tests", "tests/test_weak.py", "--json", "results.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "src/package/numbers.py:11: not covered by any test\n"
        "src/package/numbers.py:1: LIMIT = 10 -> LIMIT = 11\n"
        "src/package/numbers.py:5: if x > LIMIT: -> if False:\n"
        "src/package/numbers.py:5: if x > LIMIT: -> if x >= LIMIT:\n"
        "5 mutants: 1 killed, 0 timed out, 3 survived, 1 not covered by any test, 25 % of 4 noticed\n"
    )
    rows = {row["mutated"]: row for row in json.loads((root / "results.json").read_text())}
    assert rows["if True:"] == {
        "file": "src/package/numbers.py",
        "line": 5,
        "kind": "condition",
        "outcome": "killed",
        "original": "if x > LIMIT:",
        "mutated": "if True:",
        "tests": 1,
        "by": "tests/test_weak.py::test_clamped",
    }
    assert (root / "src/package/numbers.py").read_text() == SOURCE
    once_more = script(root, "src", "--workers", "1", "--tests", "tests/test_weak.py", "--json", "results.json")
    assert (once_more.stdout, once_more.stderr) == (done.stdout, "")


def test_a_run_goes_on_from_the_results_that_are_there(root: Path) -> None:
    """What was noticed once is not run again; with --again the others are, by tests that are better by now."""
    words = ("src/package/numbers.py", "--workers", "1", "--json", "results.json")
    script(root, *words, "--tests", "tests/test_weak.py", "--most", "4")
    first = json.loads((root / "results.json").read_text())
    done = script(root, *words, "--tests", "tests/test_strong.py", "--again")
    assert done.stdout.endswith(
        "\n5 mutants: 4 killed, 0 timed out, 1 survived, 0 not covered by any test, 80 % of 5 noticed\n"
    )
    second = {row["mutated"]: row["by"] for row in json.loads((root / "results.json").read_text())}
    assert len(first) == 4
    assert len(second) == 5
    for row in first:
        before, after = row["by"].partition("::")[0], second[row["mutated"]].partition("::")[0]
        assert after == before if before else after in {"", "tests/test_strong.py"}


@pytest.mark.parametrize("text", ["{", "{}5", "[1]", '[{"file": "a"}]'])
def test_a_file_of_something_else_is_no_results(root: Path, text: str) -> None:
    (root / "results.json").write_text(text)
    done = script(root, "src", "--json", "results.json")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "mutate: results.json: is no file of results\n")


def test_a_strong_test_kills_them(root: Path) -> None:
    """At a limit, > and >= give the same: that mutant is equivalent. A test that always fails counts for nothing."""
    done = script(root, "src/package/numbers.py", "--workers", "1")
    assert done.stdout == (
        "src/package/numbers.py:5: if x > LIMIT: -> if x >= LIMIT:\n"
        "5 mutants: 4 killed, 0 timed out, 1 survived, 0 not covered by any test, 80 % of 5 noticed\n"
    )
    assert "left out, fails without a mutant: tests/test_strong.py::test_broken" in done.stderr


UNSTEADY = """\
import os
from package.numbers import clamped


def test_unsteady():
    clamped(3)
    assert "MUTATE_RECORD" in os.environ
"""
"""It passes where it is found out what tests run, and fails where faults are looked for."""


def test_a_test_that_fails_now_and_then_notices_nothing(root: Path) -> None:
    (root / "tests/test_unsteady.py").write_text(UNSTEADY)
    done = script(root, "src", "--tests", "tests/test_unsteady.py", "tests/test_weak.py", "--workers", "1")
    assert "5 mutants: 1 killed, 0 timed out, 3 survived, 1 not covered by any test, 25 % of 4" in done.stdout
    assert done.stderr.count("left out, fails without a mutant: tests/test_unsteady.py::test_unsteady") == 1
    alone = script(root, "src", "--workers", "1", "--tests", "tests/test_unsteady.py")
    assert alone.stdout.endswith("\n5 mutants: 0 killed, 0 timed out, 0 survived, 5 not covered by any test\n")


def test_tests_that_cannot_be_collected_are_no_judge(root: Path) -> None:
    (root / "tests/test_unsteady.py").write_text(UNSTEADY + 'assert "MUTATE_RECORD" in os.environ\n')
    done = script(root, "src", "--workers", "1", "--tests", "tests/test_unsteady.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert "mutate: the tests cannot be collected without a mutant: pytest ended with 2\n" in done.stderr


def test_the_map_is_kept_while_it_is_true(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is made anew when a source changes that its tests run, not when another one does."""
    files = ["tests/test_weak.py"]
    (first,) = maps.coverage_map(root, root, files, 1)
    assert (first.id, first.lines) == ("tests/test_weak.py::test_clamped", {"src/package/numbers.py": 0b11100000})
    (root / "src/package/other.py").write_text("a = 1\n")
    capsys.readouterr()
    assert maps.coverage_map(root, root, files, 1) == [first]
    assert capsys.readouterr().err == ""
    (root / "src/package/numbers.py").write_text("# A comment\n" + SOURCE)
    (moved,) = maps.coverage_map(root, root, files, 1)
    assert moved.lines == {"src/package/numbers.py": 0b111000000}
    assert capsys.readouterr().err == "running 1 of 1 test files under coverage\n"


def test_the_map_is_made_anew_for_helpers_that_are_imported(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also by a helper, and inside a function; a conftest counts for all."""
    helpers = {"outside/far": "A = 1\n", "near": "def f():\n    from outside import far\n", "other": "B = 1\n"}
    for name, text in {**helpers, "conftest": "", "test_user": f"import near\n{WEAK}"}.items():
        (root / "tests" / f"{name}.py").parent.mkdir(exist_ok=True)
        (root / "tests" / f"{name}.py").write_text(text)
    files, runs = ["tests/test_user.py", "tests/test_weak.py"], []
    for name in ("", "other", "near", "outside/far", "conftest"):
        if name:
            (root / "tests" / f"{name}.py").write_text("# changed\n" + helpers.get(name, ""))
        assert len(maps.coverage_map(root, root, files, 1)) == 2
        runs.append(capsys.readouterr().err.partition(" test files")[0])
    assert runs == ["running 2 of 2", "", "running 1 of 2", "running 1 of 2", "running 2 of 2"]


def test_the_lines_of_a_change(root: Path) -> None:
    numbers = root / "src/package/numbers.py"
    assert changes.base(root) != "HEAD"
    assert changes.changed(root, changes.base(root)) == {}
    numbers.write_text(SOURCE.replace("return LIMIT", "return LIMIT + 0").replace("-x", "x\n\n\nB = 2"))
    (root / "src/package/new.py").write_text("a = 1\nb = 2\n")
    assert changes.base(root) == "HEAD"
    touched = {"src/package/numbers.py": {6, 11, 12, 13, 14}, "src/package/new.py": {1, 2}}
    assert changes.changed(root, "HEAD") == touched
    git(root, "switch", "--create", "branch")
    git(root, "add", ".")
    git(root, "commit", "--message", "Change")
    assert changes.changed(root, changes.base(root)) == touched


def test_no_change_is_no_mutant(root: Path) -> None:
    done = script(root)
    assert done.stdout == "0 mutants: 0 killed, 0 timed out, 0 survived, 0 not covered by any test\n"
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["src/none.py"], "mutate: src/none.py: no Python file of src/ is there"),
        (["tests"], "mutate: tests: no Python file of src/ is there"),
        (["--since", "nothing"], "mutate: nothing: no commit of that name"),
        (["--tests", "src"], "mutate: src: no test file is there"),
        (["--most", "0"], "mutate: argument --most: '0' is not a whole number from 1"),
        (["--colour"], "mutate: unrecognized arguments: --colour"),
    ],
)
def test_wrong_use_is_one_line(root: Path, words: list[str], message: str) -> None:
    done = script(root, *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message + "\n")


WEAKLY = "tests/test_weak.py::test_clamped"


@pytest.fixture
def worker(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[mutate.Worker]:
    (root / "tests/test_hangs.py").write_text("import time\n\n\ndef test_hangs():\n    time.sleep(600)\n")
    (root / "tests/test_dies.py").write_text("import os\n\n\ndef test_dies():\n    os.abort()\n")
    made = mutate.Worker(root, tmp_path_factory.mktemp("worker"))
    yield made
    made.close()


def test_what_a_run_computes_is_limited_and_not_how_long_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine every run takes long: that is no fault."""
    monkeypatch.setattr(warm, "PATIENCE", 600)
    turns = "while True:\n    pass"
    starts = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {turns!r}])"
    for code, ended in (("import time; time.sleep(1.2)", 0), (turns, None), (starts, None)):
        with subprocess.Popen([sys.executable, "-c", code]) as run:
            assert warm.waited(run.pid, 1.0) == ended
            if ended is None:
                assert warm.computed(run.pid) > 1.0
                for process in (*psutil.Process(run.pid).children(), run):
                    process.kill()


def test_a_run_that_hangs_is_ended_and_one_that_dies_is_told(worker: mutate.Worker) -> None:
    told = worker.ask(tests=["tests/test_hangs.py"], limit=0.5, stop=True, collect=False)
    assert told == {"code": None, "failed": [], "modules": []}
    assert worker.ask(tests=["tests/test_dies.py"], limit=60, stop=True, collect=False)["code"] not in {0, None}
    assert worker.ask(tests=["tests/test_weak.py"], limit=60, stop=True, collect=False)["code"] == 0


def test_the_rest_of_the_tests_runs_where_the_first_notice_nothing(worker: mutate.Worker) -> None:
    fatal = next(mutant for mutant in mutants(SOURCE.encode()) if mutant.shown[1] == "if True:")
    blind, seeing = maps.Test("tests/test_blind.py::test_blind", 0.1, {}), maps.Test(WEAKLY, 0.1, {})
    (worker.tree / "tests/test_blind.py").write_text("def test_blind():\n    pass\n")
    fault = mutate.Fault("src/package/numbers.py", fatal, [blind] * mutate.FIRST_LOT + [seeing])
    assert [len(lot) for lot in fault.lots] == [mutate.FIRST_LOT, 1]
    assert worker.run(fault).by == WEAKLY


def test_the_first_tests_are_of_few_files() -> None:
    """To collect a file takes as long as many tests."""
    (fatal, *_) = mutants(SOURCE.encode())
    tests = [maps.Test(f"tests/test_{file}.py::test_{number}", 0.1, {}) for number in (1, 2) for file in "abcde"]
    first, rest = mutate.Fault("src/package/numbers.py", fatal, tests).lots
    assert [test.id.removeprefix("tests/test_") for test in first] == [
        *("a.py::test_1", "b.py::test_1", "c.py::test_1", "d.py::test_1"),
        *("a.py::test_2", "b.py::test_2", "c.py::test_2", "d.py::test_2"),
    ]
    assert [test.file for test in rest] == ["tests/test_e.py"] * 2


def test_a_fault_is_taken_out_again(worker: mutate.Worker) -> None:
    data = SOURCE.encode()
    fatal = next(mutant for mutant in mutants(data) if mutant.shown[1] == "if True:")
    tests = [maps.Test(WEAKLY, 0.1, {})]
    result = worker.run(mutate.Fault("src/package/numbers.py", fatal, tests))
    assert (result.outcome, result.by) == ("killed", WEAKLY)
    assert (worker.tree / "src/package/numbers.py").read_bytes() == data
    assert not worker.fails(tests[0])


KINDS = """\
import functools


def row(x):
    return x + 1


TABLE = [row(1)]


@functools.cache
def cached(x):
    return x + 2


class Box:
    def __init__(self):
        self.most = 3

    @property
    def size(self):
        return self.most + 4

    @size.setter
    def size(self, size):
        self.most = size + 5


def maker(more):
    def made(x):
        return x + 6 + more

    return made


seven = maker(7)
held = [lambda x: x + 8]


def late(x):
    return [y + 9 for y in x]
"""
KINDS_TESTS = """\
from package import kinds

kinds.cached(0)


def test_all():
    box = kinds.Box()
    assert kinds.TABLE == [2]
    assert kinds.cached(0) == 2
    assert box.size == 7
    box.size = 0
    assert box.most == 5
    assert kinds.seven(0) == 13
    assert kinds.held[0](0) == 8
    assert kinds.late([0]) == [9]
"""


def test_a_living_function_gets_the_faulty_code(root: Path, worker: mutate.Worker) -> None:
    """What ran while the tests were collected, and what a module's own lines say, needs a fresh import."""
    file, test = "src/package/kinds.py", "tests/test_kinds.py::test_all"
    (worker.tree / file).write_text(KINDS)
    (worker.tree / "tests/test_kinds.py").write_text(KINDS_TESTS)
    worker.warm(["tests/test_kinds.py"])
    codes: dict[str, set[object]] = {}
    for mutant in mutants(KINDS.encode()):
        (worker.tree / file).write_bytes(mutant.data)
        told = worker.ask_live(file=file, was=KINDS, tests=[test], limit=60)
        codes.setdefault(mutant.shown[0], set()).add(told["code"])
        (worker.tree / file).write_text(KINDS)
    assert worker.ask_live(file=None, tests=[test], limit=60)["code"] == 0
    fresh = {"TABLE = [row(1)]", "return x + 1", "return x + 2", "seven = maker(7)"}
    assert {line for line, told in codes.items() if told == {live.FRESH}} == fresh
    shown = ("self.most = 3", "return self.most + 4", "self.most = size + 5", "return x + 6 + more")
    shown += ("held = [lambda x: x + 8]", "return [y + 9 for y in x]")
    assert {line: told for line, told in codes.items() if line not in fresh} == {line: {1} for line in shown}
    fatal = next(mutant for mutant in mutants(KINDS.encode()) if mutant.shown[1] == "return x - 1")
    assert worker.run(mutate.Fault(file, fatal, [maps.Test(test, 0.1, {})])).outcome == "killed", "by a fresh import"
