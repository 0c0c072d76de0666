"""What a pickle says, without doing what it asks: nothing is imported, nothing is called.

A pickle is a program for a stack machine. This one runs it over plain values alone. A global is kept as its name, a
call of one is an `Opaque` unless it is among the few that describe tensors, which become a `TensorRef`. The stream is
split into instructions by the standard library's `pickletools.genops`, which runs none of them. Time and memory are
bounded by the length of the pickle, which the caller limits, and by MAX_INSTRUCTIONS.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType
from typing import NamedTuple, cast

MAX_INSTRUCTIONS = 1_000_000
"""More than twice what a training checkpoint of Stable Diffusion XL with its optimizer needs; about a second."""
MAX_ROWS = 1_000_000
"""Rows of all dictionaries that are written as lists: one list may be named again and again."""
MAX_INTEGER_BYTES = 64

DANGEROUS = (
    "os posix nt subprocess sys shutil socket runpy importlib pty ctypes commands popen2 webbrowser code codeop pickle "
    "_pickle marshal operator timeit pdb bdb cProfile profile trace pip ensurepip asyncio requests urllib http ftplib "
    "tempfile linecache pydoc doctest distutils idlelib lib2to3 venv imaplib smtplib telnetlib ssl aiohttp sqlite3 "
    "multiprocessing zipimport imp _posixsubprocess _osx_support _aix_support _pyrepl antigravity dill cloudpickle "
    "joblib shelve tarfile zipfile cgitb msilib winreg _winapi"
)
"""Packages that no weights need and that attacks use. Nothing of them would be called either; the user should know."""
DANGEROUS_INNER = (
    *("torch.load", "torch.hub", "torch.jit", "torch.utils.collect_env", "torch.utils._config_module", "torch.package"),
    *(
        "torch.utils.bottleneck",
        "torch.utils.data.datapipes",
        "torch.utils.cpp_extension",
        "torch.testing",
        "torch.ops",
    ),
    *("torch._dynamo", "torch._inductor", "torch.fx.experimental", "torch.distributed.rpc", "torch.serialization"),
    *("numpy.load", "numpy.f2py", "numpy.testing", "numpy.distutils", "types.FunctionType", "types.CodeType"),
    *("functools.reduce", "pandas.read_pickle", "logging.config", "uuid._get_command_stdout", "test.support"),
    *("io.open", "io.FileIO", "io.open_code", "_io.open", "_io.FileIO", "_io.open_code"),
)
"""Of packages that weights do name: what attacks use of them."""
DANGEROUS_PARTS = frozenset({"os", "posix", "nt", "sys", "subprocess", "builtins", "__builtins__", "__globals__"})
"""What no name may lead through, as in `torch.serialization.os.system`."""
BUILTINS = ("builtins", "__builtin__")
HARMLESS = (
    "bool bytearray bytes complex dict float frozenset int list long object range set slice str tuple type unicode "
    "xrange"
)
"""Of the builtins."""


class Malformed(ValueError):
    """A pickle that is broken, over a limit, or asks for what no weights need. The message is a clause of one line."""


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that the pickle names. It is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class Opaque:
    """What a call of `maker` would have made; the call was not made."""

    maker: Global | None


@dataclass(slots=True, eq=False)
class ParameterDict:
    """torch's dictionary of parameters. held: what its state says that it holds; nothing of it is checked yet."""

    held: object = None


@dataclass(frozen=True, slots=True)
class Persistent:
    """A value that lies outside the pickle, known by this key."""

    key: object


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor as the pickle describes it: nothing of it is checked yet. storage: what a persistent id says; dtype:
    where the storage does not say it."""

    storage: object
    offset: object
    shape: object
    stride: object
    dtype: object = None


@dataclass(frozen=True, slots=True)
class Walked:
    """value: what the pickle makes; persistent: the keys of all values that lie outside."""

    value: object
    persistent: tuple[object, ...]


_KEYS = (str, int, float, bytes, bool, type(None))
"""What may be a key of a dictionary: to compute the hash of anything else may recurse as deep as the file likes."""
_MARK = object()


def walk(stream: BytesIO) -> Walked:
    """Reads one pickle from the stream, up to its end. Raises Malformed."""
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            _act(count, opcode.name)(machine, cast("object", argument))
        return Walked(machine.pop(), tuple(machine.persistent))
    except Malformed:
        raise
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError, DeprecationWarning) as error:
        raise Malformed("is no whole pickle") from error


def _act(count: int, name: str) -> _Act:
    if count > MAX_INSTRUCTIONS:
        raise Malformed(f"has more than {MAX_INSTRUCTIONS:,} instructions")
    if name not in _ACTS:
        raise Malformed(f"has the instruction {name}, which no weights need")
    return _ACTS[name]


class _Machine:
    """The stack, and what was remembered of it. Everything on it is a plain value or one of the classes above."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}
        self.persistent: list[object] = []
        self.rows = 0

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        value = self.stack.pop()
        if value is _MARK:
            raise Malformed("is no whole pickle")
        return value

    def to_mark(self) -> list[object]:
        """What lies above the topmost mark; takes both away."""
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                found = self.stack[at + 1 :]
                del self.stack[at:]
                return found
        raise Malformed("is no whole pickle")

    @property
    def top(self) -> object:
        return self.stack[-1]


def _constant(value: object) -> _Act:
    return lambda machine, _: machine.push(value)


def _value(machine: _Machine, argument: object) -> None:
    machine.push(argument)


def _integer(machine: _Machine, argument: object) -> None:
    if isinstance(argument, int) and argument.bit_length() > 8 * MAX_INTEGER_BYTES:
        raise Malformed("has an integer that no weights need")
    machine.push(argument)


def _empty(make: Callable[[], object]) -> _Act:
    return lambda machine, _: machine.push(make())


def _tuple_of(count: int) -> _Act:
    def act(machine: _Machine, _: object) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(items)))

    return act


def _from_mark(make: Callable[[list[object]], object]) -> _Act:
    return lambda machine, _: machine.push(make(machine.to_mark()))


def _append(machine: _Machine, _: object) -> None:
    item = machine.pop()
    _extend(machine.top, [item])


def _appends(machine: _Machine, _: object) -> None:
    items = machine.to_mark()
    _extend(machine.top, items)


def _extend(target: object, items: list[object]) -> None:
    if isinstance(target, list):
        cast("list[object]", target).extend(items)
    elif not isinstance(target, Opaque):
        raise Malformed("appends to what is no list")


def _set_item(machine: _Machine, _: object) -> None:
    value, key = machine.pop(), machine.pop()
    _update(machine.top, [key, value])


def _set_items(machine: _Machine, _: object) -> None:
    items = machine.to_mark()
    _update(machine.top, items)


def _update(target: object, items: list[object]) -> None:
    """Entries whose key is no plain value are left out; nothing that describes weights has such keys."""
    if isinstance(target, dict):
        cast("dict[object, object]", target).update(_entries(items))
    elif not isinstance(target, (Opaque, ParameterDict)):
        raise Malformed("sets an item of what is no dictionary")


def _entries(items: list[object]) -> dict[object, object]:
    if len(items) % 2:
        raise Malformed("is no whole pickle")
    pairs = zip(items[::2], items[1::2], strict=True)
    return {key: value for key, value in pairs if isinstance(key, _KEYS)}


def _put(machine: _Machine, argument: object) -> None:
    machine.memo[cast("int", argument)] = machine.top


def _memoize(machine: _Machine, _: object) -> None:
    machine.memo[len(machine.memo)] = machine.top


def _get(machine: _Machine, argument: object) -> None:
    machine.push(machine.memo[cast("int", argument)])


def _global(machine: _Machine, argument: object) -> None:
    """`genops` gives the two lines of GLOBAL with a space between them."""
    module, _, name = str(argument).partition(" ")
    machine.push(named(module, name))


def _stack_global(machine: _Machine, _: object) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise Malformed("names a global by what is no text")
    machine.push(named(module, name))


def named(module: str, name: str) -> Global:
    """The name of a global. Raises Malformed for one that only an attack needs."""
    path = f"{module}.{name}"
    package = path.partition(".")[0]
    inner = any(path == known or path.startswith(f"{known}.") for known in DANGEROUS_INNER)
    leads = not DANGEROUS_PARTS.isdisjoint(path.split(".")[1:])
    if package in _PACKAGES or inner or leads or (package in BUILTINS and name not in _HARMLESS):
        raise Malformed(f"asks for {_printed(module)}.{_printed(name)}, which no weights need and attacks use")
    return Global(module, name)


def _printed(name: str) -> str:
    return ascii(name[:40])[1:-1]


_PACKAGES, _HARMLESS = frozenset(DANGEROUS.split()), frozenset(HARMLESS.split())


def _reduce(machine: _Machine, _: object) -> None:
    arguments, maker = machine.pop(), machine.pop()
    machine.rows += _rows(arguments)
    if machine.rows > MAX_ROWS:
        raise Malformed("builds more dictionaries than any weights need")
    machine.push(_made(maker, arguments))


def _rows(arguments: object) -> int:
    """How long the list is that a call is given first."""
    given = cast("tuple[object, ...]", arguments)[:1] if isinstance(arguments, tuple) else ()
    return sum(len(cast("list[object]", first)) for first in given if isinstance(first, list))


def _new(machine: _Machine, _: object) -> None:
    _, maker = machine.pop(), machine.pop()
    machine.push(_empty_of(maker if isinstance(maker, Global) else None))


def _empty_of(maker: Global | None) -> object:
    """What a class makes of nothing."""
    if maker == ORDERED_DICT:
        return {}
    return ParameterDict() if maker == PARAMETER_DICT else Opaque(maker)


def _new_with_names(machine: _Machine, _: object) -> None:
    machine.pop()
    _new(machine, None)


def _instance(machine: _Machine, argument: object) -> None:
    machine.to_mark()
    _global(machine, argument)
    machine.push(Opaque(cast("Global", machine.pop())))


def _object(machine: _Machine, _: object) -> None:
    maker = next(iter(machine.to_mark()), None)
    machine.push(Opaque(maker if isinstance(maker, Global) else None))


def _build(machine: _Machine, _: object) -> None:
    """Attributes of an object: a ParameterDict keeps its entries there. Those of an ordered dictionary (its
    `_metadata`) and of what is opaque say nothing."""
    state, built = machine.pop(), machine.top
    if not isinstance(built, (dict, Opaque, ParameterDict, TensorRef)):
        raise Malformed("sets attributes of a plain value")
    if isinstance(built, ParameterDict) and isinstance(state, dict):
        built.held = cast("dict[object, object]", state).get(PARAMETERS)


def _persist(machine: _Machine, _: object) -> None:
    key = machine.pop()
    fields = _fields(key)
    if len(fields) > 1 and fields[0] == MODULE and isinstance(fields[1], Global):
        machine.push(fields[1])
        return
    machine.persistent.append(key)
    machine.push(Persistent(key))


def _fields(key: object) -> tuple[object, ...]:
    """Those of a tuple; none of anything else."""
    return cast("tuple[object, ...]", key) if isinstance(key, tuple) else ()


def _pop_mark(machine: _Machine, _: object) -> None:
    machine.to_mark()


def _drop(machine: _Machine, _: object) -> None:
    machine.stack.pop()


def _duplicate(machine: _Machine, _: object) -> None:
    machine.push(machine.top)


def _nothing(machine: _Machine, _: object) -> None:
    """Frames and protocol numbers change no value."""


ORDERED_DICT = Global("collections", "OrderedDict")
PARAMETER_DICT = Global("torch.nn.modules.container", "ParameterDict")
MODULE = "module"
"""What torch before 1.6 says before a class of its networks; the source of the class stands behind it."""
PARAMETERS = "_parameters"
"""The attribute of a ParameterDict that holds its entries."""


def _made(maker: object, arguments: object) -> object:
    """What a call makes, for the few calls that describe tensors and dictionaries; anything else is opaque."""
    given = cast("tuple[object, ...]", arguments) if isinstance(arguments, tuple) else ()
    model = _MODELLED.get(maker) if isinstance(maker, Global) else None
    if model is None or len(given) < model.arguments:
        return Opaque(maker if isinstance(maker, Global) else None)
    return model.make(given)


def _dictionary(given: tuple[object, ...]) -> dict[object, object]:
    """`OrderedDict()` or, as Python 2 wrote it, `OrderedDict([[key, value], …])`."""
    if not given:
        return {}
    rows = cast("list[object]", given[0]) if isinstance(given[0], list) else []
    pairs = [cast("list[object]", row) for row in rows if isinstance(row, (list, tuple))]
    if any(len(pair) != 2 for pair in pairs):
        raise Malformed("has a dictionary of what are no pairs")
    return _entries([item for pair in pairs for item in pair])


class _Model(NamedTuple):
    """A call that is understood: how many arguments it needs, and what it makes of them."""

    arguments: int
    make: Callable[[tuple[object, ...]], object]


def _tensor(given: tuple[object, ...]) -> object:
    return TensorRef(*given[:4])


def _typed(given: tuple[object, ...]) -> object:
    """The storage is one of bytes; the dtype stands behind the hooks and whether a gradient is wanted."""
    return TensorRef(*given[:4], dtype=given[6])


def _of_class(given: tuple[object, ...]) -> object:
    """A tensor of a class of its own, or with attributes: what makes it, the class, what it is made of, and those."""
    is_tensor = isinstance(given[0], Global) and given[0] in _TENSORS
    return _made(given[0], given[2]) if is_tensor else Opaque(OF_CLASS)


def _first(given: tuple[object, ...]) -> object:
    return given[0]


_TENSOR, _FIRST = _Model(4, _tensor), _Model(1, _first)
_TENSORS: Mapping[Global, _Model] = MappingProxyType(
    {
        Global("torch._utils", "_rebuild_tensor"): _TENSOR,
        Global("torch._utils", "_rebuild_tensor_v2"): _TENSOR,
        Global("torch._utils", "_rebuild_tensor_v3"): _Model(7, _typed),
    }
)
OF_CLASS = Global("torch._tensor", "_rebuild_from_type_v2")
_MODELLED: Mapping[Global, _Model] = MappingProxyType(
    {
        **_TENSORS,
        ORDERED_DICT: _Model(0, _dictionary),
        OF_CLASS: _Model(4, _of_class),
        Global("torch._utils", "_rebuild_parameter"): _FIRST,
        Global("torch._utils", "_rebuild_parameter_with_state"): _FIRST,
        Global("torch", "Size"): _FIRST,
    }
)
_Act = Callable[[_Machine, object], None]

_ACTS: Mapping[str, _Act] = MappingProxyType(
    {
        **dict.fromkeys(("PROTO", "FRAME", "STOP"), _nothing),
        **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), _integer),
        **dict.fromkeys(("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"), _value),
        **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _value),
        **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _value),
        "NONE": _constant(None),
        "NEWTRUE": _constant(value=True),
        "NEWFALSE": _constant(value=False),
        "MARK": _constant(_MARK),
        "EMPTY_TUPLE": _constant(()),
        "TUPLE1": _tuple_of(1),
        "TUPLE2": _tuple_of(2),
        "TUPLE3": _tuple_of(3),
        "TUPLE": _from_mark(tuple),
        "EMPTY_LIST": _empty(list),
        "LIST": _from_mark(lambda items: items),
        "EMPTY_DICT": _empty(dict),
        "DICT": _from_mark(_entries),
        "EMPTY_SET": _empty(lambda: Opaque(None)),
        "FROZENSET": _from_mark(lambda _: Opaque(None)),
        "ADDITEMS": _appends,
        "APPEND": _append,
        "APPENDS": _appends,
        "SETITEM": _set_item,
        "SETITEMS": _set_items,
        **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
        **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
        "MEMOIZE": _memoize,
        "GLOBAL": _global,
        "STACK_GLOBAL": _stack_global,
        "REDUCE": _reduce,
        "NEWOBJ": _new,
        "NEWOBJ_EX": _new_with_names,
        "INST": _instance,
        "OBJ": _object,
        "BUILD": _build,
        "BINPERSID": _persist,
        "POP": _drop,
        "POP_MARK": _pop_mark,
        "DUP": _duplicate,
    }
)
"""What each instruction does. The extension registry (EXT1 …), buffers and PERSID are refused."""
