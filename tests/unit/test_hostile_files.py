"""Files that mean harm: a verdict for each. Nothing is imported or run, memory stays small, none takes two seconds.

What the single formats refuse stands in test_weights_safetensors and test_weights_torch_file. Here are published
gadgets through every instruction and container, bombs, archives and indexes that lie, settings that name code, and
files that change.
"""

from __future__ import annotations

import ast
import codecs
import io
import json
import os
import resource
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from test_weights_torch_file import EIGHT, archive_of, save, short, tensor, watched

from atelier.checkpoints.opening import families, open_checkpoint
from atelier.errors import BadFile
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.archive import open_any, open_index
from atelier.weights.formats import safetensors, stored_zip
from atelier.weights.hashes import HashCache
from effort import RUNAWAY, little_work

CPU = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=1)
GROWTH = 128_000_000
codecs.lookup("utf-8-sig")  # the first time, Python imports what it needs for that

PUBLISHED = """
os.system os.popen os.execl os.spawnv posix.system posix.execv nt.system subprocess.Popen subprocess.run
subprocess.call subprocess.check_output sys.exit sys.setprofile commands.getoutput popen2.popen2 pty.spawn
shutil.rmtree shutil.copyfile builtins.eval builtins.exec builtins.compile builtins.__import__ builtins.getattr
builtins.setattr builtins.open builtins.breakpoint builtins.apply builtins.input __builtin__.eval
__builtin__.execfile __builtin__.file builtins.vars builtins.globals runpy._run_code runpy.run_path runpy.run_module
importlib.import_module importlib.util.exec_module pip.main pip._internal.main ensurepip._run_pip
socket.create_connection webbrowser.open operator.attrgetter operator.methodcaller operator.itemgetter
functools.reduce types.FunctionType types.CodeType timeit.timeit timeit.main pdb.run bdb.Bdb.run cProfile.run
profile.run trace.Trace.run code.InteractiveInterpreter.runcode codeop.compile_command ctypes.CDLL
ctypes.cdll.LoadLibrary pickle.loads _pickle.loads marshal.loads dill.loads cloudpickle.loads joblib.load
asyncio.unix_events._UnixSubprocessTransport._start asyncio.subprocess.create_subprocess_shell
urllib.request.urlopen requests.get requests.api.post http.client.HTTPSConnection ftplib.FTP
aiohttp.client.ClientSession imaplib.IMAP4_stream smtplib.SMTP telnetlib.Telnet ssl.get_server_certificate
pydoc.pipepager pydoc.locate doctest.debug_script distutils.file_util.write_file
idlelib.pyshell.ModifiedInterpreter.runcommand idlelib.autocomplete.AutoComplete.get_entity
lib2to3.pgen2.grammar.Grammar.loads lib2to3.pgen2.pgen.ParserGenerator.make_label logging.config.listen
uuid._get_command_stdout venv.create test.support.script_helper.assert_python_ok sqlite3.connect io.open _io.FileIO
linecache.getlines zipimport.zipimporter _posixsubprocess.fork_exec _osx_support._read_output
_aix_support._read_cmd_output _pyrepl.pager.pipe_pager multiprocessing.util.spawnv_passfds cgitb.lookup tarfile.open
zipfile.ZipFile torch.load torch.hub.load torch.jit.unsupported_tensor_ops.execWrapper torch.utils.collect_env.run
torch.package.PackageImporter torch.utils._config_module.ConfigModule.load_config
torch.utils.bottleneck.__main__.run_cprofile torch.utils.data.datapipes.utils.decoder.basichandlers
torch._dynamo.guards.GuardBuilder.get torch._inductor.codecache.compile_file
torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_expression
torch.distributed.rpc.internal._deserialize torch.serialization.os.system numpy.load
numpy.f2py.crackfortran.getlincoef numpy.f2py.diagnose.run_command numpy.testing._private.utils.runstring
pandas.read_pickle torch.storage.io.os.system
"""
GADGETS = tuple(PUBLISHED.split())
"""Published ones, as picklescan's and fickling's advisories name them."""


def divided(path: str) -> tuple[str, str]:
    module, _, name = path.rpartition(".")
    return module, name


def named(path: str) -> bytes:
    """GLOBAL."""
    return b"c%b\n%b\n" % tuple(part.encode() for part in divided(path))


def stacked(path: str) -> bytes:
    """STACK_GLOBAL, with as short a module as there is."""
    module, _, name = path.partition(".")
    return short(module) + short(name) + b"\x93"


ARGUMENT = short("echo harm > harm")
CALLS: dict[str, Callable[[str], bytes]] = {
    "GLOBAL": lambda path: b"\x80\x02" + named(path) + ARGUMENT + b"\x85R.",
    "STACK_GLOBAL": lambda path: b"\x80\x04" + stacked(path) + ARGUMENT + b"\x85R.",
    "INST": lambda path: b"(S'harm'\ni" + named(path)[1:] + b".",
    "OBJ": lambda path: b"(" + named(path) + ARGUMENT + b"o.",
    "NEWOBJ": lambda path: b"\x80\x02" + named(path) + ARGUMENT + b"\x85\x81.",
    "NEWOBJ_EX": lambda path: b"\x80\x04" + stacked(path) + ARGUMENT + b"\x85}\x92.",
    "BUILD": lambda path: b"\x80\x02" + named(path) + b")\x81}" + ARGUMENT + b"K\x01sb.",
    "a protocol of 5": lambda path: b"\x80\x05\x95\x20\0\0\0\0\0\0\0" + stacked(path) + ARGUMENT + b"\x85R.",
    "among weights": lambda path: tensor()[:-1] + named(path) + ARGUMENT + b"\x85R0.",
    "as a key": lambda path: b"\x80\x02}" + named(path) + b"K\x01s.",
    "as what it is of": lambda path: b"\x80\x02}" + short("w") + named(path) + b"s.",
}


def legacy(payload: bytes) -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(2)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()[:21] + payload


def in_tar(payload: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        info = tarfile.TarInfo("data.pkl")
        info.size = len(payload)
        file.addfile(info, io.BytesIO(payload))
    return buffer.getvalue()


CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "zip": lambda payload: archive_of(payload, EIGHT),
    "legacy": legacy,
    "tar": in_tar,
    "bare": lambda payload: payload,
    "cut short": lambda payload: archive_of(payload, EIGHT)[:-30],
    "nullifAI": lambda payload: archive_of(payload[:-1] + b"\xff\xff", EIGHT),
    "7z": lambda payload: b"7z\xbc\xaf\x27\x1c" + payload,
}


@contextmanager
def bounded() -> Generator[list[str]]:
    """What happens within is quick, needs little memory, and imports and runs nothing."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with watched() as events, little_work():
        yield events
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024 < GROWTH
    assert events == []


def refused(path: Path, content: bytes, opened: Callable[[Path], object] = open_any) -> str:
    """What is said of it."""
    path.write_bytes(content)
    with bounded(), pytest.raises(BadFile) as caught:
        opened(path)
    message = str(caught.value)
    assert message.isprintable()
    assert len(caught.value.problem) <= 300
    return message


@pytest.mark.parametrize("call", CALLS)
def test_every_gadget_is_refused_through_every_instruction(call: str, tmp_path: Path) -> None:
    assert len(GADGETS) >= 60
    silent = [gadget for gadget in GADGETS if _accepts(tmp_path / "a.ckpt", archive_of(CALLS[call](gadget), EIGHT))]
    assert silent == []
    assert not Path("harm").exists()


def _accepts(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    with watched() as events:
        try:
            open_any(path)
        except BadFile:
            return events != []
    return True


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", ["a.ckpt", "a.safetensors", "a.png"])
def test_no_container_and_no_ending_helps_a_gadget(container: str, name: str, tmp_path: Path) -> None:
    for gadget in GADGETS[::12]:
        refused(tmp_path / name, CONTAINERS[container](CALLS["GLOBAL"](gadget)))


def test_names_that_attacks_use_are_called_so(tmp_path: Path) -> None:
    quiet = {"importlib.import_module", "importlib.util.exec_module"}
    for gadget in set(GADGETS) - quiet:
        said = refused(tmp_path / "a.ckpt", archive_of(CALLS["GLOBAL"](gadget)))
        assert "which no weights need and attacks use" in said or gadget.startswith("importlib"), gadget


GENUINE = (
    *("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint", "numpy.core.multiarray.scalar", "numpy.dtype"),
    *("_codecs.encode", "argparse.Namespace", "pathlib.PosixPath", "collections.defaultdict", "omegaconf.DictConfig"),
    *(
        "builtins.set",
        "__builtin__.long",
        "builtins.range",
        "__builtin__.xrange",
        "torch.device",
        "typing.Any",
        "functools.partial",
        "ldm.util.Trainer",
    ),
)


@pytest.mark.parametrize("name", GENUINE)
def test_what_real_checkpoints_name_beside_their_weights_is_passed_over(name: str, tmp_path: Path) -> None:
    beside = named(name) + ARGUMENT + b"\x85R0."
    (tmp_path / "a.ckpt").write_bytes(archive_of(tensor()[:-1] + beside, EIGHT))
    with bounded():
        assert list(open_any(tmp_path / "a.ckpt").tensors) == ["w"]


# Bombs


def laughs() -> bytes:
    """Ten lists of ten of the one before, 30 deep."""
    steps = b"".join(b"](" + b"h%c" % number * 10 + b"eq%c" % (number + 1) for number in range(30))
    return b"\x80\x02]q\x00" + steps + b"."


def laughing_dictionaries() -> bytes:
    """A dictionary of a thousand names of one dictionary of a thousand names of …"""
    inner = b"}q\x00"
    for number in range(1, 4):
        entries = b"".join(short(f"{key:04}") + b"h%c" % (number - 1) for key in range(1000))
        inner += b"0}q%c(" % number + entries + b"u"
    return b"\x80\x02" + inner + b"."


def same_rows() -> bytes:
    """One list of rows, made a dictionary of as often as instructions allow."""
    rows = b"(" + b"](K\x01K\x02e" * 8_000 + b"l"
    again = b"ccollections\nOrderedDict\nq\x01" + rows + b"q\x000"
    return b"\x80\x02" + again + b"h\x01h\x00\x85R0" * 8_000 + b"N."


def same_parameters() -> bytes:
    """One large state, given to as many ParameterDicts as instructions allow."""
    large = b"}(" + b"".join(short(str(key)) + b"K\x01" for key in range(30_000)) + b"uq\x00"
    state = b"}" + short("_parameters") + large + b"sq\x01"
    dictionary = b"ctorch.nn.modules.container\nParameterDict\nq\x02"
    return b"\x80\x02" + state + b"0" + dictionary + b"0" + b"h\x02)\x81h\x01b0" * 30_000 + b"}."


def wide_tuple() -> bytes:
    """A dictionary of many names of one wide tuple."""
    wide = b"(" + b"N" * 200_000 + b"tq\x000"
    return b"\x80\x02" + wide + b"}(" + b"".join(short(str(key)) + b"h\x00" for key in range(100_000)) + b"u."


def long_names() -> bytes:
    """Names that grow with every level."""
    leaf = b"}" + short("k" * 900) + b"NsNq\x000"
    return b"\x80\x02" + leaf + b"}" + short("k" * 900) + b"}" + short("j" * 900) + b"Nss."


def deep_kind(open_: bytes = b"]") -> bytes:
    """A storage whose class is a list in a list in a list …"""
    return tensor(kind=open_ * 100_000 + b"a" * 99_999)


OF_CLASS = b"ctorch._tensor\n_rebuild_from_type_v2\n"
BOMBS: dict[str, Callable[[], bytes]] = {
    "billion laughs": lambda: archive_of(laughs()),
    "laughing dictionaries": lambda: archive_of(laughing_dictionaries()),
    "100,000 lists deep": lambda: archive_of(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    "100,000 tuples deep": lambda: archive_of(b"\x80\x02)" + b"\x85" * 100_000 + b"."),
    "a deep class": lambda: archive_of(deep_kind(), EIGHT),
    "a laughing class": lambda: archive_of(tensor(kind=laughs()[2:-1]), EIGHT),
    "the same rows": lambda: archive_of(same_rows()),
    "the same parameters": lambda: archive_of(same_parameters()),
    "a wide tuple": lambda: archive_of(wide_tuple()),
    "long names": lambda: archive_of(long_names()),
    "a tensor of a class of what is no name": lambda: archive_of(b"\x80\x02" + OF_CLASS + b"(]N)NtR."),
    "a tensor of a class of a class of …": lambda: archive_of(
        b"\x80\x02" + OF_CLASS + b"q\x00" + b"(h\x00N" * 5000 + b")" + b"Nt" * 5000 + b"R."
    ),
    "a far memo": lambda: archive_of(b"\x80\x02Nr\xff\xff\xff\xff."),
    "many memos": lambda: archive_of(
        b"\x80\x02N" + b"".join(b"r" + struct.pack("<I", n) for n in range(100_001)) + b"."
    ),
    "2 GB of a number": lambda: archive_of(b"\x80\x02\x8b\xff\xff\xff\x7f."),
    "2^62 of text": lambda: archive_of(b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"."),
    "2^62 of bytes": lambda: archive_of(b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"."),
    "a number of 5,000 digits": lambda: archive_of(b"I" + b"9" * 5000 + b"\n."),
    "2^20 by 2^20": lambda: archive_of(tensor((2**20, 2**20), (0, 0)), EIGHT),
    "a stride back": lambda: archive_of(tensor((2,), (-1,), offset=1), EIGHT),
    "rows on each other": lambda: archive_of(tensor((2, 2), (1, 1), count=3), {"0": b"\0" * 12}),
    "2^62 before the file": lambda: archive_of(tensor(offset=-(2**62)), EIGHT),
    "one storage a thousand times": lambda: archive_of(
        b"\x80\x02}(" + b"".join(short(str(n)) + tensor()[5:][7:-2] for n in range(3)) + b"u.", EIGHT
    ),
    "no dtype at all": lambda: archive_of(tensor(kind=b"N"), EIGHT),
    "a dtype of another size": lambda: archive_of(tensor(kind=b"ctorch\nDoubleStorage\n"), EIGHT),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_do_not_go_off(name: str, tmp_path: Path) -> None:
    refused(tmp_path / "a.ckpt", BOMBS[name]())


def test_a_pickle_that_unpacks_to_more_is_refused_unread(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", tensor())
        file.writestr("a/data/0", bytes(256_000_000))
    assert "compressed entries" in refused(tmp_path / "a.ckpt", buffer.getvalue())


def tensors(count: int) -> bytes:
    return b"{%b}" % b",".join(b'"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(count))


HEADERS: dict[str, Callable[[], bytes]] = {
    "lists": lambda: b'{"a":[' + b"[]," * 10_000_000 + b"[]]}",
    "numbers": lambda: b'{"a":[' + b"0," * 15_000_000 + b"0]}",
    "one name": lambda: b'{"' + b"a" * 30_000_000 + b'":{}}',
    "tensors": lambda: tensors(50_001),
    "a length of 101 MB": lambda: b"{" + b" " * 100_999_998 + b"}",
}
READ = """
import sys, time
from importlib import import_module
from pathlib import Path
from types import ModuleType
from atelier.errors import BadFile
from atelier.weights.formats.safetensors import read_header
before = time.process_time()
try:
    read_header(sys.argv[1])
except BadFile as error:
    peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    print(len(error.problem), time.process_time() - before, peak)
"""


@pytest.mark.parametrize("name", HEADERS)
def test_huge_headers_are_refused_before_they_are_parsed(name: str, tmp_path: Path) -> None:
    """Each in a process of its own, whose highest use of memory is known."""
    text = HEADERS[name]()
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(text)) + text)
    command = [sys.executable, "-c", READ, str(tmp_path / "a")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    length, seconds, peak = map(float, done.stdout.split())
    assert length <= 300
    assert seconds < RUNAWAY
    assert peak * 1024 < 3.5 * len(text) + GROWTH


def test_the_largest_header_that_is_read_takes_little_work(tmp_path: Path) -> None:
    entries = (b'"layer.%d.weight":{"dtype":"F32","shape":[0,3,3,3],"data_offsets":[0,0]}' % n for n in range(50_000))
    text = b"{%b}" % b",".join(entries)
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(text)) + text)
    with little_work():
        assert len(safetensors.read_header(tmp_path / "a").tensors) == safetensors.MAX_TENSORS == 50_000


# Archives that can be read in two ways


def zipped(*entries: tuple[str, bytes], mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, data)
    return buffer.getvalue()


def changed(data: bytes, mark: bytes, at: int, value: bytes) -> bytes:
    place = data.index(mark) + at
    return data[:place] + value + data[place + len(value) :]


def saved() -> bytes:
    """As torch writes it, with a 64-bit directory."""
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(2)}, buffer)
    return buffer.getvalue()


GOOD = archive_of(tensor(), EIGHT)
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
ARCHIVES: dict[str, bytes] = {
    "a wrong checksum": changed(GOOD, b"_rebuild_tensor_v2", 0, b"_rebuild_tensor_v3"),
    "two checksums": changed(GOOD, LOCAL, 14, b"\1\2\3\4"),
    "an entry above": zipped(("a/../../data.pkl", tensor()), ("a/data/0", EIGHT["0"])),
    "an absolute entry": zipped(("/data.pkl", tensor())),
    "a link": zipped(("a/data.pkl", tensor()), ("a/link", b"/etc/passwd"), mode=0o120777),
    "a pickle in two folders": zipped(("a/data.pkl", tensor()), ("b/data.pkl", tensor()), ("a/data/0", EIGHT["0"])),
    "more entries than there are": changed(GOOD, END, 8, b"\xfe\xff\xfe\xff"),
    "64 bits that lie": changed(GOOD, CENTRAL, 20, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
    "an entry that is a folder": changed(GOOD, CENTRAL, 38, b"\x10"),
    "an entry that is a link": changed(GOOD, CENTRAL, 38, b"\0\0\xff\xa1"),
    "two directories": changed(saved(), END, 12, b"\1"),
    "bytes in front": b"MZ\0\0" + GOOD,
    "a pickle in front": tensor() + GOOD,
    "bytes behind": GOOD + b"\0" * 9,
    "two archives": GOOD + GOOD,
    "a directory of another": GOOD[: GOOD.index(CENTRAL)] + GOOD[: GOOD.index(CENTRAL)] + GOOD[GOOD.index(CENTRAL) :],
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_can_be_read_in_two_ways_are_refused(name: str, tmp_path: Path) -> None:
    refused(tmp_path / "a.ckpt", ARCHIVES[name])


def test_an_archive_of_too_many_entries_is_refused_before_they_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_zip, "MAX_ENTRIES", 20)
    monkeypatch.setattr(stored_zip, "_listed", None)
    data = zipped(*((f"a/data/{number}", b"") for number in range(21)))
    assert "too long a one" in refused(tmp_path / "a.ckpt", data)


# Indexes, settings and folders


INDEXES: dict[str, object] = {
    "a folder up": {"weight_map": {"w": "../a.safetensors"}},
    "an absolute path": {"weight_map": {"w": "/etc/passwd.safetensors"}},
    "a folder down": {"weight_map": {"w": "b/a.safetensors"}},
    "Windows": {"weight_map": {"w": "..\\a.safetensors"}},
    "a drive": {"weight_map": {"w": "C:a.safetensors"}},
    "not there": {"weight_map": {"w": "b.safetensors"}},
    "another ending": {"weight_map": {"w": "passwd"}},
    "no name": {"weight_map": {"w": 3}},
    "no map": {"weight_map": ["a.safetensors"]},
    "nothing": {},
    "a list": [],
    "lies": {"weight_map": {"v": "a.safetensors"}},
    "forgets": {"weight_map": {"w": "a.safetensors", "x": "a.safetensors"}},
    "a line break": {"weight_map": {"w": "a\n.safetensors"}},
    "many names": {"weight_map": dict.fromkeys(map(str, range(100_000)), "a.safetensors")},
}


@pytest.mark.parametrize("name", INDEXES)
def test_indexes_that_lie_are_refused(name: str, tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "a.safetensors")
    content = json.dumps(INDEXES[name]).encode()
    refused(tmp_path / "model.safetensors.index.json", content, open_index)


LINKS = {
    "a device": ("/dev/zero", "is not a regular file"),
    "a pipe": ("pipe", "is not a regular file"),
    "a folder": (".", "is a folder"),
    "nowhere": ("../gone", "does not exist"),
    "itself": ("a.safetensors", "cannot be read"),
    "a text": ("/etc/passwd", "is text, not weights"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="names files that Linux has")
@pytest.mark.parametrize("name", LINKS)
def test_shards_that_link_to_anything_but_weights_are_refused(name: str, tmp_path: Path) -> None:
    """Links are followed, as the caches of the hub need; what they lead to is weights, or is not read."""
    target, said = LINKS[name]
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.safetensors").symlink_to(target)
    content = json.dumps({"weight_map": {"w": "a.safetensors"}}).encode()
    assert said in refused(tmp_path / "model.safetensors.index.json", content, open_index)


SETTINGS = {
    "_target_": "os.system",
    "target": "os.system",
    "auto_map": {"AutoModel": "harm.Net"},
    "_attn_implementation_internal": "somebody/harm",
    "custom_pipeline": "harm",
    "trust_remote_code": True,
}


def test_settings_that_name_code_are_passed_over(tiny_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    (folder / "harm.py").write_text("raise SystemExit('harm')")
    (folder / "model.yaml").write_text("model:\n  target: os.system\n  params: !!python/object/apply:os.system [id]\n")
    for config in folder.glob("*/config.json"):
        config.write_text(json.dumps({**json.loads(config.read_text()), **SETTINGS}))
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **SETTINGS, "unet": ["harm", "Net"]}))
    families()
    with bounded():
        assert open_checkpoint(folder).family.name == "sd1"


# Files that change


def test_a_file_that_is_replaced_by_one_with_the_same_header_is_noticed(tmp_path: Path) -> None:
    for name, write in {"a.safetensors": save_file, "a.pth": lambda state, path: save(path, state)}.items():
        write({"w": torch.zeros(4)}, tmp_path / name)
        archive = open_any(tmp_path / name)
        write({"w": torch.ones(4)}, tmp_path / "new")
        (tmp_path / "new").replace(tmp_path / name)
        with pytest.raises(BadFile, match="changed since it was opened"):
            archive.load(["w"])


def test_a_model_in_use_is_in_memory_and_not_in_its_file(tiny_file: Path, tmp_path: Path) -> None:
    """A mapped file that is cut short ends the process at the next touch."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(tiny_file.read_bytes())
    engine = Engine(CPU, Library(), HashCache(), version="1", budget=10**9)
    asked = {"prompt": "cat", "model": str(path), "steps": 1, "width": 64, "height": 64, "seed": 3}
    engine.generate(request_of(asked))
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_what_is_read_into_memory_outlives_the_file(tmp_path: Path) -> None:
    save_file({"w": torch.ones(1000)}, tmp_path / "a")
    own = open_any(tmp_path / "a").load(["w"], mapped=False)["w"]
    os.truncate(tmp_path / "a", 10)
    assert float(own.sum()) == 1000


# What the sources may not call

FORBIDDEN_MODULES = {"pickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "diskcache", "yaml"}
FORBIDDEN_CALLS = {"torch.load", "torch.hub.load", "torch.jit.load", "os.system", "os.popen"}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}


def test_the_sources_call_nothing_that_runs_what_a_file_says() -> None:
    found: list[str] = []
    root = Path(__file__).parents[2] / "src"
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found += [f"{path.name}:{getattr(node, 'lineno', 0)}: {what}" for what in _forbidden(node)]
    assert found == []


def _forbidden(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name.partition(".")[0] in FORBIDDEN_MODULES]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""] if (node.module or "").partition(".")[0] in FORBIDDEN_MODULES else []
    if not isinstance(node, ast.Call):
        return []
    called = ast.unparse(node.func)
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    wrong = [called] if called in FORBIDDEN_CALLS | FORBIDDEN_NAMES else []
    wrong += [called] if called in {"np.load", "numpy.load"} and keywords.get("allow_pickle") != "False" else []
    wrong += ["shell=True"] if keywords.get("shell") == "True" else []
    wrong += ["extractall"] if called.endswith(".extractall") and "filter" not in keywords else []
    return wrong


def test_the_scan_sees() -> None:
    code = "import pickle\nfrom dill import x\neval('1')\ntorch.load(p)\nrun(c, shell=True)\na.extractall()"
    assert len([what for node in ast.walk(ast.parse(code)) for what in _forbidden(node)]) == 6


# A small part of what `scripts/accept mutants` tries


@pytest.fixture
def mutants(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts/lib/accept"))
    return import_module("mutants")


def test_changed_files_break_nothing(mutants: ModuleType) -> None:
    found, broken = mutants.checked(count=600, seed=1)
    assert [one.problem for one in broken] == []
    assert all(found[f"{kind} accepted"] > 0 for kind in ("safetensors", "zip", "legacy")), found
    assert all(found[f"{kind} refused"] > 50 for kind in ("safetensors", "zip", "legacy")), found


def test_the_check_sees_what_breaks(mutants: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutants, "open_any", lambda _: 1 / 0)
    _, broken = mutants.checked(count=3, seed=1)
    assert [one.problem for one in broken] == ["raised ZeroDivisionError: division by zero"] * 3
