"""`atelier models`: what models there are, what they are, and converting between the public layouts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from atelier.checkpoints.checkpoint import Checkpoint
    from atelier.checkpoints.report import Report
    from atelier.runtime.library import Library

app = typer.Typer(help="List, inspect and convert models.", no_args_is_help=True)

SINGLE_FILE = ".safetensors"


class Layout(StrEnum):
    LDM = "ldm"
    DIFFUSERS = "diffusers"


class Precision(StrEnum):
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


Folders = Annotated[
    list[Path] | None,
    typer.Option(
        "--models-dir",
        help="A folder with models; may be given several times.",
        show_default="those of ATELIER_MODELS, else ./models and the user's own",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Named = Annotated[str, typer.Argument(help="A file, a diffusers folder, or the name of a model.", show_default=False)]


@app.command("list")
def list_(*, models_dir: Folders = None, as_json: Json = False) -> None:
    """List the models: the embedded one and those in the models folders."""
    import json

    entries = [_entry(model.name, model.path) for model in _library(models_dir).models()]
    typer.echo(json.dumps(entries, ensure_ascii=False, indent=1) if as_json else _table(entries))


@app.command()
def inspect(
    model: Named,
    *,
    models_dir: Folders = None,
    with_hash: Annotated[bool, typer.Option("--hash", help="Also read the whole model, for its hash.")] = False,
    as_json: Json = False,
) -> None:
    """Say what a model is, reading its headers only."""
    import json

    from atelier.checkpoints.report import report

    checkpoint = _opened(model, models_dir)
    found, digest = report(checkpoint), checkpoint.sha256() if with_hash else None
    if as_json:
        typer.echo(json.dumps({**found.json(), "sha256": digest}, ensure_ascii=False, indent=1))
    else:
        typer.echo(_description(found, digest))


@app.command()
def convert(
    source: Named,
    target: Annotated[Path, typer.Argument(help="The file or folder to write.", show_default=False)],
    *,
    layout: Annotated[
        Layout | None,
        typer.Option(help="One file (ldm) or a diffusers folder.", show_default="ldm for a .safetensors target"),
    ] = None,
    dtype: Annotated[Precision | None, typer.Option(help="Precision.", show_default="as it is")] = None,
    variant: Annotated[
        str | None, typer.Option(help="Which weights of a folder to read, such as fp16.", show_default="the plain ones")
    ] = None,
    as_variant: Annotated[
        bool,
        typer.Option("--as-variant", help="Call the weights of a folder after --dtype, as diffusers' variants are."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    models_dir: Folders = None,
) -> None:
    """Write a model in another layout or precision; it appears complete or not at all."""
    from atelier.errors import BadInput
    from atelier.weights.archive import counted
    from atelier.weights.formats.atomic import reachable, sweep

    chosen = layout or (Layout.LDM if target.suffix == SINGLE_FILE else Layout.DIFFUSERS)
    _check_target(reachable(target), chosen, overwrite=overwrite)
    if as_variant and (chosen is Layout.LDM or dtype is None):
        raise BadInput("--as-variant: it needs a folder (--layout diffusers) and a precision, such as --dtype fp16")
    checkpoint = _opened(source, models_dir, variant)
    _check_whole(checkpoint)
    if target.parent.is_dir():
        sweep(target.parent)
    _write(checkpoint, target, chosen, dtype, as_variant=as_variant, overwrite=overwrite)
    written = _opened(str(target), None)
    typer.echo(f"wrote {target}: {written.family.title}, {written.layout} layout, {written.dtype}, {_size(target)}")
    if checkpoint.ignored:
        typer.echo(f"left out {counted(checkpoint.ignored)}: leftovers of training that no model needs")
    if others := _others(checkpoint.path):
        typer.echo(f"left out {', '.join(others)}: nothing here uses them")


def _write(
    checkpoint: Checkpoint, target: Path, layout: Layout, dtype: Precision | None, *, as_variant: bool, overwrite: bool
) -> None:
    from atelier.checkpoints.preview import with_preview
    from atelier.checkpoints.write import write_diffusers, write_ldm
    from atelier.weights.cast import precision

    checkpoint = with_preview(checkpoint)
    torch_dtype = None if dtype is None else precision(dtype.value)
    if layout is Layout.LDM:
        write_ldm(checkpoint, target, torch_dtype)
    else:
        variant = dtype.value if dtype is not None and as_variant else None
        write_diffusers(checkpoint, target, torch_dtype, variant=variant, overwrite=overwrite)


def _others(path: Path) -> list[str]:
    """The folders of a model that are no part of one, such as safety_checker."""
    from atelier.checkpoints.write import written

    inside, ours = path.iterdir() if path.is_dir() else (), written()
    return sorted(at.name for at in inside if at.is_dir() and at.name not in ours and not at.name.startswith("."))


def _check_whole(checkpoint: Checkpoint) -> None:
    """Builds the networks without reading their tensors: what could not be generated with is not written either."""
    for part in checkpoint.family.parts:
        if checkpoint.has(part):
            checkpoint.load(part)


def _check_target(target: Path, layout: Layout, *, overwrite: bool) -> None:
    from atelier.checkpoints.write import written
    from atelier.errors import BadFile
    from atelier.runtime.library import FOLDER_MARK

    if layout is Layout.LDM and target.suffix != SINGLE_FILE:
        raise BadFile(target, f"is no name for a single file; let it end in {SINGLE_FILE}")
    if layout is Layout.LDM and target.is_dir():
        raise BadFile(target, "is a folder; name a file")
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise BadFile(target, "exists already; choose another name, or add --overwrite")
    others = sorted(path.name for path in target.iterdir() if path.name not in written()) if target.is_dir() else []
    if others or (target.is_dir() and not (target / FOLDER_MARK).is_file()):
        lost = others[0] if others else "all that it holds"
        raise BadFile(target, f"holds something else than a model, which would be lost ({lost}); choose another name")


def _library(folders: list[Path] | None) -> Library:
    from atelier import compose
    from atelier.errors import BadFile
    from atelier.runtime.library import Library

    for folder in folders or ():
        if not folder.is_dir():
            raise BadFile(folder, "is no folder with models: there is none of that name")
    return Library(tuple(folders)) if folders else compose.library()


def _opened(name: str, folders: list[Path] | None, variant: str | None = None) -> Checkpoint:
    from atelier.checkpoints.opening import open_checkpoint

    return open_checkpoint(_library(folders).find(name).path, variant=variant)


def _entry(name: str, path: Path) -> dict[str, object]:
    """One model of the list; a file that is no model says why."""
    from atelier.checkpoints.opening import open_checkpoint
    from atelier.checkpoints.report import report
    from atelier.errors import BadFile

    try:
        found = report(open_checkpoint(path))
    except BadFile as error:
        return {"name": name, "path": str(path), "problem": error.problem}
    keys = ("family", "title", "layout", "dtype", "prediction", "size", "parameters", "bytes")
    values = found.json()
    return {"name": name, "path": str(path), **{key: values[key] for key in keys}}


def _table(entries: list[dict[str, object]]) -> str:
    width = max(len(str(entry["name"])) for entry in entries)
    return "\n".join(f"{entry['name']!s:{width}}  {_line(entry)}" for entry in entries)


def _line(entry: dict[str, object]) -> str:
    if "problem" in entry:
        return f"unusable: it {entry['problem']}"
    size = _megabytes(int(str(entry["bytes"])))
    return f"{entry['title']}, {entry['size']} px, {entry['layout']}, {entry['dtype']}, {size}"


def _description(found: Report, digest: str | None) -> str:
    from atelier.weights.archive import counted

    lines = {
        "name": found.name,
        "path": found.path,
        "family": found.title,
        "layout": found.layout,
        "dtype": found.dtype,
        "prediction": found.prediction,
        "size": f"{found.size} px",
        "channels": f"{found.in_channels} into the U-Net, text states {found.context} wide",
        "latent": f"{found.latent_channels} channels, factor {found.latent_factor}, scale {found.latent_scale:g}",
        "parameters": f"{found.parameters:,}",
    }
    for name, part in found.parts.items():
        dtypes = ", ".join(part.dtypes)
        lines[f"  {name}"] = f"{part.parameters:,} in {part.tensors} tensors, {_megabytes(part.bytes)}, {dtypes}"
    lines["on disk"] = _megabytes(found.bytes)
    if found.ignored:
        lines["unused"] = f"{counted(found.ignored)}, left over from training"
    if digest is not None:
        lines["hash"] = f"{digest[:10]} (sha256 {digest})"
    width = max(map(len, lines))
    return "\n".join(f"{key:{width}}  {value}" for key, value in lines.items())


def _size(path: Path) -> str:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return _megabytes(sum(file.stat().st_size for file in files))


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
