"""The small faults that can be put into a Python file, one at a time: each changes one place of its text.

Left alone: docstrings, annotations and other types, assertions, what is raised and its message, help texts, logging,
arguments named `strict` and `encoding`, `__all__` and `__slots__`, decorators of dataclasses, blocks for type checkers
and for scripts.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
PAIRS = (
    "min max,any all,floor ceil,minimum maximum,amin amax,argmin argmax,zeros ones,zeros_like ones_like,sin cos,"
    "startswith endswith,lower upper,lstrip rstrip,removeprefix removesuffix,partition rpartition"
)
OTHER_NAMES = {a: b for pair in PAIRS.split(",") for a, b in (pair.split(), pair.split()[::-1])}
# Steps of a value's way that are easily forgotten: x.clamp(0, 1) -> x, sorted(x) -> x.
STEPS = (
    "clamp clip abs round exp log sqrt square sigmoid strip lstrip rstrip lower upper casefold flip roll transpose "
    "permute detach float double to copy clone expanduser resolve"
)
STEP_FUNCTIONS = frozenset({"abs", "sorted", "round", "reversed", "int", "clamp", "clip"})
# The order of the arguments is without effect, or the wrong one cannot run.
UNSWAPPED = (
    "min max isinstance issubclass getattr setattr hasattr hypot gcd minimum maximum isclose allclose equal add mul "
    "cast"
)
LOGGING = frozenset({"debug", "info", "warning", "exception"})
TYPING = frozenset({"TypeVar", "ParamSpec", "NewType", "TypeAliasType"})
GENERICS = frozenset({"dict", "list", "tuple", "set", "frozenset", "type"})
# Keyword arguments: texts for readers, and precautions whose lack shows on other machines or never.
UNTESTED = frozenset({"help", "description", "title", "metavar", "epilog", "encoding", "strict"})
UNCHANGED_NAMES = frozenset({"__all__", "__slots__", "__match_args__"})
TEXT = (ast.Constant, ast.JoinedStr)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mutant stands: the lines of its statement (of a compound one, the head).

    at_import: the statement runs when the module is imported; `names` are then what it defines, and `body` the lines of
    the function whose head it is (0, 0 where it is none).
    """

    lines: tuple[int, int]
    at_import: bool = True
    names: frozenset[str] = frozenset()
    body: tuple[int, int] = (0, 0)
    optional: bool = False
    """In a function that may return None beside something else."""
    making: bool = False
    """In an __init__."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Bytes start to end of a file become `new`."""

    start: int
    end: int
    new: str
    kind: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault of the file `whole`."""

    whole: bytes
    edit: Edit
    place: Place

    @property
    def line(self) -> int:
        """Where the fault begins."""
        return self.whole.count(b"\n", 0, self.edit.start) + 1

    @property
    def data(self) -> bytes:
        """The file with the fault."""
        return self.whole[: self.edit.start] + self.edit.new.encode() + self.whole[self.edit.end :]

    @property
    def shown(self) -> tuple[str, str]:
        """The lines that the fault stands in, without and with it, each pair on one line."""
        first = self.whole.rfind(b"\n", 0, self.edit.start) + 1
        last = self.whole.find(b"\n", self.edit.end)
        last = len(self.whole) if last < 0 else last
        head, tail = self.whole[first : self.edit.start], self.whole[self.edit.end : last]
        return _one_line(self.whole[first:last]), _one_line(head + self.edit.new.encode() + tail)

    def compiles(self) -> bool:
        """Texts in brackets can make a change of text no program."""
        try:
            compile(self.data, "mutant", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return False
        return True


class Source:
    """The text of a file by the positions of its syntax tree, which count bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.starts = [0, *(match.end() for match in re.finditer(rb"\r\n|\r|\n", data))]

    def start(self, node: Any) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def end(self, node: Any) -> int:
        return self.starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, start: int, end: int) -> str:
        return self.data[start:end].decode()

    def replaced(self, node: ast.AST, new: str, kind: str) -> Edit:
        return Edit(self.start(node), self.end(node), new, kind)

    def operator(self, left: ast.AST, right: ast.AST, old: str, new: str, kind: str) -> Iterator[Edit]:
        """`old` between two nodes becomes `new`; no edit where a comment stands between."""
        start = self.end(left)
        gap = self.text(start, self.start(right))
        found = re.search(r"\s+".join(map(re.escape, old.split())), gap)
        if found and "#" not in gap:
            yield Edit(start + len(gap[: found.start()].encode()), start + len(gap[: found.end()].encode()), new, kind)


def mutants(data: bytes) -> list[Mutant]:
    """All mutants of a file, by their places, a few of which may not compile. Raises SyntaxError."""
    source = Source(data)
    tree = ast.parse(data)
    skipped = frozenset(
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[2] == "errors"
        for alias in node.names
    )
    found = {
        edit: place for node, place in _nodes(tree, Place((1, 1)), skipped) for edit in _edits(source, node, place)
    }
    return [Mutant(data, edit, found[edit]) for edit in sorted(found, key=lambda e: (e.start, e.end, e.new))]


def _one_line(data: bytes) -> str:
    lines = data.decode().splitlines()
    return lines[0].strip() if len(lines) == 1 else " ".join(" ".join(lines).split())


# The walk: which nodes may be changed, and where they stand.


def _nodes(node: ast.AST, place: Place, skipped: frozenset[str]) -> Iterator[tuple[ast.AST, Place]]:
    if _unchanged(node) or (isinstance(node, ast.Call) and _told(_name(node.func), skipped)):
        return
    place = _placed(node, place)
    yield node, place
    for child in _children(node):
        yield from _nodes(child, _inside(node, child, place), skipped)


def _unchanged(node: ast.AST) -> bool:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name in UNCHANGED_NAMES
        case ast.AnnAssign(annotation=annotation):
            return "TypeAlias" in ast.unparse(annotation)
        case ast.Subscript(value=value):
            return _is_type(value) or _name(value) in GENERICS
        case ast.BinOp(op=ast.BitOr()):
            return _is_type(node.left) or _is_type(node.right)
        case ast.Expr(value=ast.Constant() | ast.JoinedStr()) | ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
    return isinstance(node, ast.Raise | ast.Assert | ast.Import | ast.ImportFrom | ast.arg)


def _is_type(node: ast.AST) -> bool:
    """By its spelling: Sequence, F32, None, but not CONSTANT."""
    if isinstance(node, ast.Subscript):
        return _unchanged(node)
    name = _name(node)
    named = name[:1].isupper() and (len(name) == 1 or not name.isupper() or any(c.isdigit() for c in name))
    return named or (isinstance(node, ast.Constant) and node.value is None)


def _name(node: ast.AST) -> str:
    """The last part of a dotted name, "" of anything else."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _children(node: ast.AST) -> Iterable[ast.AST]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            children = [*node.decorator_list, node.args, *node.body]
        case ast.ClassDef():
            plain = [d for d in node.decorator_list if _name(d.func if isinstance(d, ast.Call) else d) != "dataclass"]
            children = [*plain, *node.keywords, *node.body]
        case ast.AnnAssign(value=value):
            children = [value] if value else []
        case ast.If(orelse=orelse) if "TYPE_CHECKING" in ast.unparse(node.test):
            children = orelse
        case ast.Call(func=func, args=[_, *others]) if _name(func) == "cast":
            children = others
        case ast.JoinedStr():  # before Python 3.12 the positions inside are wrong
            children = []
        case ast.keyword(arg=arg) if arg in UNTESTED:
            children = []
        case _:
            children = ast.iter_child_nodes(node)
    return children


def _told(name: str, skipped: frozenset[str]) -> bool:
    """Does a call of that name make a text for readers, or a type?"""
    return name in skipped | TYPING | LOGGING | {"warn"} or name.endswith(("Error", "Warning"))


def _placed(node: ast.AST, place: Place) -> Place:
    match node:
        case ast.match_case():
            return replace(place, lines=_head(node.pattern.lineno, node))
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            body = (node.body[0].lineno, node.end_lineno or 0)
            return replace(place, lines=_head(first, node), names=place.names | {node.name}, body=body)
        case ast.ClassDef():
            return replace(place, lines=_head(node.lineno, node), names=place.names | {node.name})
        case ast.stmt() if "body" in node._fields:
            return replace(place, lines=_head(node.lineno, node))
        case ast.stmt():
            names = {_name(target) for target in _targets(node)} - {""}
            return replace(place, lines=(node.lineno, node.end_lineno or node.lineno), names=place.names | names)
    return place


def _head(first: int, node: Any) -> tuple[int, int]:
    return first, max(first, node.body[0].lineno - 1)


def _targets(node: ast.AST) -> Iterable[ast.AST]:
    match node:
        case ast.Assign():
            return [name for target in node.targets for name in getattr(target, "elts", [target])]
        case ast.AnnAssign() | ast.AugAssign():
            return [node.target]
    return []


def _inside(node: ast.AST, child: ast.AST, place: Place) -> Place:
    """The place of a child: the body of a function does not run at import."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and isinstance(child, ast.stmt):
        returns = ast.unparse(node.returns) if node.returns else ""
        optional = returns != "None" and "None" in returns
        return Place(place.lines, at_import=False, optional=optional, making=node.name == "__init__")
    return place


# The edits, by kinds of nodes.


def _edits(source: Source, node: ast.AST, place: Place) -> Iterator[Edit]:
    for kind, makers in MAKERS.items():
        if isinstance(node, kind):
            for maker in makers:
                yield from maker(source, node, place)


def _comparison(source: Source, node: ast.Compare, _: Place) -> Iterator[Edit]:
    for (left, right), op in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
        yield from source.operator(left, right, *COMPARISONS[type(op)], "comparison")


def _arithmetic(source: Source, node: ast.BinOp, _: Place) -> Iterator[Edit]:
    fixed = (*TEXT, ast.List, ast.Tuple, ast.ListComp)  # a number may be changed, but no text or list be subtracted
    sides = [side for side in (node.left, node.right) if isinstance(side, fixed)]
    numbers = all(isinstance(side, ast.Constant) and not isinstance(side.value, str | bytes) for side in sides)
    if type(node.op) in ARITHMETIC and numbers:
        yield from source.operator(node.left, node.right, *ARITHMETIC[type(node.op)], "arithmetic")


def _in_place(source: Source, node: ast.AugAssign, _: Place) -> Iterator[Edit]:
    if type(node.op) in ARITHMETIC and not isinstance(node.value, (*TEXT, ast.List)):
        old, new = ARITHMETIC[type(node.op)]
        yield from source.operator(node.target, node.value, f"{old}=", f"{new}=", "arithmetic")


def _boolean(source: Source, node: ast.BoolOp, _: Place) -> Iterator[Edit]:
    old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    for left, right in pairwise(node.values):
        yield from source.operator(left, right, old, new, "boolean")


def _unary(source: Source, node: ast.UnaryOp, _: Place) -> Iterator[Edit]:
    if not isinstance(node.op, ast.UAdd):
        start = source.start(node)
        sign = re.match(r"(not\b|.)\s*", source.text(start, source.end(node)))
        assert sign is not None
        yield Edit(start, start + len(sign.group()), "", "sign")


def _constant(source: Source, node: ast.Constant, _: Place) -> Iterator[Edit]:
    match node.value:
        case bool():
            yield source.replaced(node, str(not node.value), "constant")
        case int():
            yield source.replaced(node, str(node.value + 1), "constant")
        case float() if math.isfinite(node.value):
            yield source.replaced(node, repr(2 * node.value or 1.0), "constant")
        case str() | bytes():
            yield from _string(source, node, _)


def _string(source: Source, node: ast.AST, _: Place) -> Iterator[Edit]:
    """One more character at the start."""
    start = source.start(node)
    opened = re.match(r"""\w*(\"{3}|'{3}|"|')""", source.text(start, source.end(node)))
    if opened:
        yield Edit(start + opened.end(), start + opened.end(), "~", "string")


def _forced(source: Source, tests: Iterable[ast.expr], values: tuple[str, ...]) -> Iterator[Edit]:
    for test in tests:
        if not any(isinstance(part, ast.NamedExpr) for part in ast.walk(test)) and not isinstance(test, ast.Constant):
            yield from (source.replaced(test, value, "condition") for value in values)


def _condition(source: Source, node: ast.If | ast.IfExp, _: Place) -> Iterator[Edit]:
    checks_types = "TYPE_CHECKING" in ast.unparse(node.test)
    yield from _forced(source, [] if checks_types else [node.test], ("True", "False"))


def _loop(source: Source, node: ast.While, _: Place) -> Iterator[Edit]:
    yield from _forced(source, [node.test], ("False",))  # with True it would hang


def _filter(source: Source, node: ast.comprehension, _: Place) -> Iterator[Edit]:
    yield from _forced(source, node.ifs, ("True", "False"))


def _keywords(source: Source, node: ast.Call, _: Place) -> Iterator[Edit]:
    """Each keyword argument is left out."""
    given: list[ast.AST] = sorted([*node.args, *node.keywords], key=source.start)
    for index, argument in enumerate(given):
        if not isinstance(argument, ast.keyword) or argument.arg is None or argument.arg in UNTESTED:
            continue
        if index + 1 < len(given):
            span = source.start(argument), source.start(given[index + 1])
        elif index:
            before = source.end(given[index - 1])
            comma = source.text(before, source.start(argument)).rindex(",")
            span = before + len(source.text(before, source.start(argument))[:comma].encode()), source.end(argument)
        else:
            rest = re.match(r"\s*,", source.text(source.end(argument), source.end(node)))
            span = source.start(argument), source.end(argument) + (rest.end() if rest else 0)
        yield Edit(*span, "", "keyword left out")


def _swapped(source: Source, node: ast.Call, _: Place) -> Iterator[Edit]:
    if _name(node.func) in UNSWAPPED.split():
        return
    for left, right in pairwise(node.args):
        starred = isinstance(left, ast.Starred) or isinstance(right, ast.Starred)
        if not starred and ast.dump(left) != ast.dump(right):
            start, middle, next_, end = source.start(left), source.end(left), source.start(right), source.end(right)
            new = source.text(next_, end) + source.text(middle, next_) + source.text(start, middle)
            yield Edit(start, end, new, "arguments swapped")


def _other_name(source: Source, node: ast.Call, _: Place) -> Iterator[Edit]:
    old = _name(node.func)
    if old in OTHER_NAMES:
        end = source.end(node.func)
        yield Edit(end - len(old), end, OTHER_NAMES[old], "other function")


def _step(source: Source, node: ast.Call, _: Place) -> Iterator[Edit]:
    """x.clamp(0, 1) -> x, sorted(x) -> x, torch.clamp(x, 0, 1) -> x."""
    match node:
        case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in STEPS.split() and _name(value) not in {
            "torch",
            "math",
        }:
            dot = source.end(value) + source.text(source.end(value), source.end(node.func)).rindex(".")
            yield source.replaced(node, source.text(source.start(node), dot).rstrip(), "step left out")
        case ast.Call(func=func, args=[first, *_]) if _name(func) in STEP_FUNCTIONS and not isinstance(
            first, ast.Starred
        ):
            yield source.replaced(node, f"({source.text(source.start(first), source.end(first))})", "step left out")


def _bounds(source: Source, node: ast.Slice, _: Place) -> Iterator[Edit]:
    """Bounds that are numbers are changed as numbers."""
    for bound in (node.lower, node.upper):
        number = bound.operand if isinstance(bound, ast.UnaryOp) else bound
        if bound is not None and not isinstance(number, ast.Constant):
            text = source.text(source.start(bound), source.end(bound))
            plain = isinstance(bound, ast.Name | ast.Attribute | ast.Call | ast.Subscript)
            yield source.replaced(bound, f"{text} + 1" if plain else f"({text}) + 1", "bound")


def _nothing(source: Source, node: ast.Return, place: Place) -> Iterator[Edit]:
    if place.optional and node.value is not None and not (isinstance(node.value, ast.Constant)):
        yield source.replaced(node.value, "None", "result")


def _deleted(source: Source, node: ast.stmt, place: Place) -> Iterator[Edit]:
    """Statements that are there for their effect: a call, a change of an attribute or an item, `continue`."""
    match node:
        case ast.Expr(value=ast.Call(func=func)):
            gone = _name(func) not in LOGGING
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            gone = not place.making and all(isinstance(t, ast.Attribute | ast.Subscript) for t in targets)
        case ast.AugAssign(target=target):
            gone = isinstance(target, ast.Attribute | ast.Subscript)
        case _:
            gone = isinstance(node, ast.Continue)
    if gone:
        yield source.replaced(node, "pass", "statement deleted")


MAKERS: dict[type[ast.AST], tuple[Callable[[Source, Any, Place], Iterator[Edit]], ...]] = {
    ast.Compare: (_comparison,),
    ast.BinOp: (_arithmetic,),
    ast.AugAssign: (_in_place,),
    ast.BoolOp: (_boolean,),
    ast.UnaryOp: (_unary,),
    ast.Constant: (_constant,),
    ast.JoinedStr: (_string,),
    ast.If: (_condition,),
    ast.IfExp: (_condition,),
    ast.While: (_loop,),
    ast.comprehension: (_filter,),
    ast.Call: (_keywords, _swapped, _other_name, _step),
    ast.Slice: (_bounds,),
    ast.Return: (_nothing,),
    ast.stmt: (_deleted,),
}
