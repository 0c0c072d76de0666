"""20,000 mutated headers, pickles and archives: none crashes, none takes a second, what is accepted others read alike.

    scripts/accept mutants [--count N] [--seed N] [--json]

Small files of safetensors, of torch.save as it is and as it was before torch 1.6, are changed in a few places each:
bytes, runs of bytes, numbers. What is accepted of a safetensors file, the safetensors library reads alike; what is
accepted of a pickled one, `torch.load(weights_only=True)` reads alike where it reads it at all.

Exit code 0: so it is; 1: some file broke it, of which the first are named and kept in `runs/mutants`.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from atelier.errors import BadFile
from atelier.weights.archive import Archive, open_any

MOST_SECONDS = 1.0
KEPT = Path("runs/mutants")
MARKS = b'{}[],:"0123456789-eFIU \\\x00\xff\x80.Rsuq(tK}X'
LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


@dataclass(frozen=True, slots=True)
class Broken:
    """What went wrong with one file."""

    kind: str
    problem: str
    content: bytes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found, broken = checked(options.count, options.seed)
    for number, one in enumerate(broken[:10]):
        KEPT.mkdir(parents=True, exist_ok=True)
        (KEPT / f"{number}-{one.kind}").write_bytes(one.content)
    print(json.dumps(found) if options.json else "\n".join(f"{key}: {value}" for key, value in found.items()))
    for one in broken[:10]:
        print(f"{one.kind}: {one.problem}", file=sys.stderr)
    return 1 if broken else 0


def checked(count: int, seed: int) -> tuple[dict[str, float], list[Broken]]:
    """What became of `count` files: accepted and refused ones by kind, the slowest, and those that broke a rule."""
    counts: Counter[str] = Counter()
    broken: list[Broken] = []
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about files that it should not have read
        path = Path(folder) / "mutant"
        for kind, content in mutants(count, seed):
            path.write_bytes(content)
            before = time.process_time()
            archive, problem = opened(path)
            seconds = time.process_time() - before
            slowest = max(slowest, seconds)
            if archive is not None:
                problem = READ[kind](path, archive)
            if seconds > MOST_SECONDS:
                problem = f"took {seconds:.1f} s"
            counts[f"{kind} {'accepted' if archive is not None else 'refused'}"] += 1
            if problem is not None:
                broken.append(Broken(kind, problem, content))
    return {**dict(sorted(counts.items())), "slowest_seconds": round(slowest, 3), "broken": len(broken)}, broken


def opened(path: Path) -> tuple[Archive | None, str | None]:
    """The archive if it is accepted; what is wrong with how it was refused, if anything is."""
    try:
        return open_any(path), None
    except BadFile as error:
        message = error.problem
        return None, None if message.isprintable() and len(message) <= 300 else f"said {message[:400]!r}"
    except Exception as error:  # noqa: BLE001 - any other is what is looked for
        return None, f"raised {type(error).__name__}: {error}"


def mutants(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(kind, bytes) of changed files, the same for the same seed."""
    draw = random.Random(seed)
    wholes = seeds()
    for _ in range(count):
        kind = draw.choice(list(wholes))
        content = bytearray(wholes[kind])
        for _ in range(draw.randrange(1, 4)):
            draw.choice(CHANGES)(content, draw)
        yield kind, bytes(REPAIRS[kind](content) if draw.random() < 0.7 else content)


def seeds() -> dict[str, bytes]:
    """A small file of each kind."""
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2, 3], dtype=torch.uint8)}
    wrapped = {"state_dict": {**state, "c": state["a.weight"][:, 1:]}, "epoch": 3}
    return {
        "safetensors": save(state, {"format": "pt"}),
        "zip": _torch(wrapped, zipped=True),
        "legacy": _torch(wrapped, zipped=False),
    }


def _torch(state: object, *, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _byte(content: bytearray, draw: random.Random) -> None:
    content[draw.randrange(len(content))] = draw.choice(MARKS)


def _bit(content: bytearray, draw: random.Random) -> None:
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


def _removed(content: bytearray, draw: random.Random) -> None:
    at = draw.randrange(len(content))
    del content[at : at + draw.choice((1, 1, 2, 8))]
    content.extend(b"" if content else b"{")


def _doubled(content: bytearray, draw: random.Random) -> None:
    at = draw.randrange(len(content))
    content[at:at] = content[at : at + draw.randrange(1, 24)]


def _number(content: bytearray, draw: random.Random) -> None:
    at, value = draw.randrange(len(content)), draw.choice((0, 1, 255, 2**31, 2**32 - 1, 2**62))
    packed = struct.pack("<Q", value)[: draw.choice((2, 4, 8))]
    content[at : at + len(packed)] = packed


CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (_byte, _byte, _bit, _removed, _doubled, _number)


def _length(content: bytearray) -> bytearray:
    """The length of the header that its closing brace suggests, so that more gets past the first look."""
    end = content.rfind(b"}", 8) + 1
    if end > 8:
        content[:8] = struct.pack("<Q", end - 8)
    return content


def _checksum(content: bytearray) -> bytearray:
    """The right checksum of the first entry, the pickle, in both places."""
    local, central = content.find(LOCAL), content.find(CENTRAL)
    if local < 0 or central < 0 or local + 30 > len(content) or central + 46 > len(content):
        return content
    name, extra = struct.unpack_from("<2H", content, local + 26)
    size = struct.unpack_from("<L", content, central + 24)[0]
    start = local + 30 + name + extra
    packed = struct.pack("<L", crc32(content[start : start + size]))
    content[central + 16 : central + 20] = packed
    if not content[local + 6] & 8:
        content[local + 14 : local + 18] = packed
    return content


REPAIRS: Mapping[str, Callable[[bytearray], bytearray]] = {
    "safetensors": _length,
    "zip": _checksum,
    "legacy": lambda content: content,
}


def _as_safetensors(path: Path, archive: Archive) -> str | None:
    """What differs from what the library reads; None where nothing does."""
    try:
        theirs = load_file(path)
    except SafetensorError as error:
        return f"was accepted, and the library says {error}"
    return _differs(archive, theirs)


def _as_torch(path: Path, archive: Archive) -> str | None:
    """The same for torch, where it reads the file."""
    ours = _loaded(archive)
    if isinstance(ours, str):
        return ours
    try:
        found = torch.load(path, weights_only=True)
    except Exception:  # noqa: BLE001 - torch raises whatever comes of a broken file
        return None
    inner = found.get("state_dict", found) if isinstance(found, dict) else {}
    theirs = {name: tensor for name, tensor in inner.items() if isinstance(tensor, Tensor) and isinstance(name, str)}
    return _differs(archive, theirs) if theirs.keys() == archive.tensors.keys() else None


def _loaded(archive: Archive) -> dict[str, Tensor] | str:
    try:
        return archive.load(archive.tensors)
    except Exception as error:  # noqa: BLE001 - what was accepted must load
        return f"was accepted, and loading it raised {type(error).__name__}: {error}"


def _differs(archive: Archive, theirs: Mapping[str, Tensor]) -> str | None:
    ours = _loaded(archive)
    if isinstance(ours, str):
        return ours
    if ours.keys() != theirs.keys():
        return f"holds {sorted(ours)}, and others read {sorted(theirs)}"
    for name, tensor in ours.items():
        other = theirs[name]
        if (tensor.dtype, tensor.shape) != (other.dtype, other.shape) or _bits(tensor) != _bits(other):
            return f"has another {name!r} than others read"
    return None


def _bits(tensor: Tensor) -> bytes:
    flat = tensor.contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


READ: Mapping[str, Callable[[Path, Archive], str | None]] = {
    "safetensors": _as_safetensors,
    "zip": _as_torch,
    "legacy": _as_torch,
}

if __name__ == "__main__":
    sys.exit(main())
