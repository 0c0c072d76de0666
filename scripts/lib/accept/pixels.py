"""The images of many requests, recorded before a change of the code and compared after it, pixel by pixel.

    scripts/accept pixels record FILE [--model PATH]
    scripts/accept pixels compare FILE

The requests are those of `pixels.toml`: infotexts, and options of the command line where an infotext has no key. They
are generated through the command line only, so that a recording outlives changes of names in Python; with the model of
--model (else the embedded one) and a small random one; on the CPU, in fp32, with one thread.

FILE is JSON: the requests, and of each image its size, the SHA-256 of its RGB values and its infotext. The images
themselves lie beside it, in a folder of the same name. `compare` generates the requests of FILE again, whatever the
table says by then; an image that differs is kept beside the recorded one as `…-now.png`. Both runs need the same
machine and the same libraries.

Exit code 0: recorded, or all equal; 1: something differs, or a request failed; 2: the arguments cannot be used.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from unittest import mock

from PIL import Image, ImageChops

TABLE = Path(__file__).with_suffix(".toml")
RANDOM = "random"
"""What the table and the infotexts call the small random model."""
VERSION = re.compile(r", Version: [^,\n]*")
PIXEL_HASH = re.compile(r", Pixel hash: \w+")
NOW = "-now.png"


class Failed(Exception):
    """Something that cannot be used or generated, in one line."""


@dataclass(frozen=True)
class Request:
    """infotext: what `--from` reads, or nothing; arguments: further ones of `atelier generate`; model: "" for the one
    of --model, or RANDOM."""

    name: str
    infotext: str = ""
    arguments: tuple[str, ...] = ()
    model: str = ""


@dataclass(frozen=True)
class Table:
    """styles: a styles.csv; wildcards: the lines of each file by its name."""

    requests: tuple[Request, ...]
    styles: str = ""
    wildcards: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """An image and its infotext without the version of Atelier."""

    image: Image.Image
    infotext: str

    def digest(self) -> dict[str, object]:
        """What a recording keeps of it."""
        sha256 = hashlib.sha256(self.image.tobytes()).hexdigest()
        return {"size": list(self.image.size), "sha256": sha256, "infotext": self.infotext}


def read_table(path: Path = TABLE) -> Table:
    """The requests to record. Raises Failed where two have one name."""
    found = tomllib.loads(path.read_text(encoding="utf-8"))
    table = _table(found["request"], found["styles"], found["wildcards"])
    names = [request.name for request in table.requests]
    if twice := {name for name in names if names.count(name) > 1}:
        raise Failed(f"{path.name}: the name {min(twice)!r} is there twice")
    return table


def _table(requests: Iterable[Mapping], styles: str, wildcards: Mapping[str, Sequence[str]]) -> Table:
    """The fields of requests that are none of Request's are left out."""
    made = tuple(
        Request(r["name"], r.get("infotext", "").strip(), tuple(r.get("arguments", ())), r.get("model", ""))
        for r in requests
    )
    return Table(made, styles, wildcards)


def uncovered(infotexts: Iterable[str]) -> list[str]:
    """The samplers and schedules that there are and that no infotext names."""
    from atelier.diffusion.catalogue import samplers, schedules

    text = "\n".join(infotexts)
    return [
        f"{key}: {name}"
        for key, names in (("Sampler", samplers()), ("Schedule type", schedules()))
        for name in names
        if not re.search(rf"\b{key}: {re.escape(name)}(,|$)", text, re.MULTILINE)
    ]


def generate(arguments: Sequence[str]) -> tuple[int, str]:
    """Runs `atelier generate` in this process: its exit code, and what it wrote to standard error."""
    from atelier.cli.app import run

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = run(["generate", *arguments])
    return code, said.getvalue()


@contextlib.contextmanager
def workshop(table: Table) -> Iterator[Path]:
    """A folder with the random model, the styles and the wildcards, in an environment that knows of nothing else."""
    from _random_model import write

    with tempfile.TemporaryDirectory(prefix="pixels-") as name:
        folder = Path(name)
        write(folder / RANDOM)
        (folder / "styles.csv").write_text(table.styles, encoding="utf-8")
        (folder / "wildcards").mkdir()
        for wildcard, lines in table.wildcards.items():
            (folder / "wildcards" / f"{wildcard}.txt").write_text("\n".join(lines), encoding="utf-8")
        known = {
            "ATELIER_DEVICE": "cpu",
            "ATELIER_DTYPE": "fp32",
            "ATELIER_MODELS": str(folder / "models"),
            "ATELIER_STYLES": str(folder / "styles.csv"),
            "ATELIER_WILDCARDS": str(folder / "wildcards"),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        with mock.patch.dict(os.environ, known):
            yield folder


def paint(request: Request, model: str | None, folder: Path) -> list[Made]:
    """The images of a request, in order. Raises Failed with what the command line said."""
    chosen = str(folder / RANDOM) if request.model == RANDOM else model
    text, output = folder / "request.txt", folder / "output"
    text.write_text(request.infotext, encoding="utf-8")
    for old in output.glob("*"):
        old.unlink()
    code, said = generate(
        [
            *request.arguments,
            *(("--from", str(text)) if request.infotext else ()),
            *(() if chosen is None else ("--model", chosen)),
            *("--output", f"{output}{os.sep}", "--no-preview"),
        ]
    )
    if code != 0:
        raise Failed(f"{request.name}: `atelier generate` ended with {code}: {' '.join(said.split())}")
    return [_read(path) for path in sorted(output.glob("*.png"))]


def _read(path: Path) -> Made:
    with Image.open(path) as image:
        return Made(image.convert("RGB"), VERSION.sub("", image.info.get("parameters", "")))


def paint_all(table: Table, model: str | None) -> Iterator[tuple[Request, list[Made] | Failed]]:
    """Every request, with its images or the reason why there are none."""
    with workshop(table) as folder:
        for number, request in enumerate(table.requests, 1):
            if sys.stderr.isatty():
                print(f"\r\033[K{number}/{len(table.requests)} {request.name}", end="", file=sys.stderr)
            try:
                yield request, paint(request, model, folder)
            except Failed as error:
                yield request, error
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)


def record(path: Path, model: str | None) -> str:
    """Generates the table and writes the recording; returns what was done.

    Raises Failed where a request fails, where two images are equal (then one of them shows nothing), or where a sampler
    or a schedule is missing.
    """
    table = read_table()
    recorded: list[dict[str, object]] = []
    images: dict[str, Made] = {}
    for request, made in paint_all(table, model):
        if isinstance(made, Failed):
            raise made
        recorded.append({**asdict(request), "images": [one.digest() for one in made]})
        images |= {_file(request.name, number): one for number, one in enumerate(made, 1)}
    _check_differ(images)
    if missing := uncovered(one.infotext for one in images.values()):
        raise Failed(f"{TABLE.name} lacks {', '.join(missing)}")
    _keep(path, images)
    content = {"made_by": _libraries(), "model": model, "styles": table.styles, "wildcards": table.wildcards}
    _write(path, {**content, "requests": recorded})
    return f"{len(recorded)} requests with {len(images)} images recorded in {path}"


def _check_differ(images: Mapping[str, Made]) -> None:
    """Raises Failed where two images are equal."""
    seen: dict[bytes, str] = {}
    for name, one in images.items():
        if (other := seen.setdefault(one.image.tobytes(), name)) != name:
            raise Failed(f"{name} is the same image as {other}: one of the two requests shows nothing")


def _keep(path: Path, images: Mapping[str, Made]) -> None:
    """Puts the images, by the names of their files, beside a recording in place of those that were there."""
    folder = _kept(path)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for name, one in images.items():
        one.image.save(folder / name)


def compare(path: Path) -> list[str]:
    """Generates the requests of a recording again; returns what differs, a line each. Raises Failed for a file that is
    no recording."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        table = _table(found["requests"], found["styles"], found["wildcards"])
        expected = [request["images"] for request in found["requests"]]
        model, made_by = found["model"], found["made_by"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failed(f"{path}: is no recording ({type(error).__name__}: {error})") from None
    for old in _kept(path).glob(f"*{NOW}"):
        old.unlink()
    if made_by != _libraries():
        print(f"accept pixels: recorded with {made_by}, this is {_libraries()}: last bits may differ", file=sys.stderr)
    lines: list[str] = []
    for (request, made), images in zip(paint_all(table, model), expected, strict=True):
        lines += [str(made)] if isinstance(made, Failed) else _differences(request.name, images, made, _kept(path))
    return lines


def _differences(name: str, expected: Sequence[Mapping], made: Sequence[Made], kept: Path) -> Iterator[str]:
    """What differs in the images of one request, a line each; keeps the images that do."""
    if len(expected) != len(made):
        yield f"{name}: {len(expected)} images then, {len(made)} now"
    for number, (then, now) in enumerate(zip(expected, made, strict=False), 1):
        digest, before, after = now.digest(), then["infotext"], now.infotext
        if (digest["size"], digest["sha256"]) != (then["size"], then["sha256"]):
            file = kept / _file(name, number)
            yield f"{name}: image {number} has other pixels{_distance(file, now.image)}"
            kept.mkdir(parents=True, exist_ok=True)
            now.image.save(file.with_name(file.stem + NOW))
            before, after = (PIXEL_HASH.sub("", text) for text in (before, after))
        if before != after:
            yield f"{name}: image {number} has another infotext: {_changed(before, after)}"


def _changed(before: str, after: str) -> str:
    """The lines and pairs that are in one of two infotexts only."""
    then, now = (re.split(r"\n|, ", text) for text in (before, after))
    gone, new = [part for part in then if part not in now], [part for part in now if part not in then]
    return f"{', '.join(gone) or 'nothing'} then, {', '.join(new) or 'nothing'} now"


def _distance(file: Path, now: Image.Image) -> str:
    """How far an image is from the recorded one, where that was kept."""
    if not file.is_file():
        return ""
    with Image.open(file) as image:
        then = image.convert("RGB")
    if then.size != now.size:
        return f": {then.width}x{then.height} then, {now.width}x{now.height} now"
    difference = ImageChops.difference(then, now)
    changed = sum(value > 0 for value in difference.tobytes())
    largest = max(high for _, high in difference.getextrema())
    return f": {changed} of {3 * now.width * now.height} values differ, by {largest} of 255 at most"


def _kept(path: Path) -> Path:
    """Where the images of a recording lie."""
    return path.with_suffix("")


def _file(name: str, number: int) -> str:
    """The name of the file of image `number` of a request."""
    return f"{re.sub(r'[^a-z0-9+]+', '-', name.lower()).strip('-')}-{number}.png"


def _libraries() -> str:
    """What decides on the last bits."""
    import numpy as np
    import torch

    return f"torch {torch.__version__}, numpy {np.__version__}, {torch.backends.cpu.get_cpu_capability()}"


def _write(path: Path, content: object) -> None:
    """The whole file or none."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    new.replace(path)


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/accept pixels", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_ in (("record", "generate the requests, write FILE"), ("compare", "generate those of FILE again")):
        command = commands.add_parser(name, help=help_)
        command.add_argument("file", type=Path, metavar="FILE")
        if name == "record":
            command.add_argument("--model", type=Path, metavar="PATH", help="in place of the embedded model")
    found = parser.parse_args(arguments)
    if found.file.suffix != ".json":
        parser.error(f"{found.file}: the name of a recording ends in .json")
    if found.command == "compare" and not found.file.is_file():
        parser.error(f"{found.file}: there is no such file")
    if found.command == "record" and found.model is not None and not found.model.exists():
        parser.error(f"{found.model}: there is no such model")
    return found


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    import torch

    import atelier

    asked = _arguments(arguments)
    print(f"accept pixels: generating with the code in {Path(atelier.__file__).parent}", file=sys.stderr)
    torch.set_num_threads(1)
    try:
        if asked.command == "record":
            print(record(asked.file, None if asked.model is None else str(asked.model.resolve())))
            return 0
        lines = compare(asked.file)
    except Failed as error:
        print(f"accept pixels: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines) or f"equal: every image and infotext is that of {asked.file}")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
