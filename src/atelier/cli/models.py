"""`atelier models`: what models there are, what they are; converting, merging and pruning them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.cli.described import described, megabytes
from atelier.cli.extract import extract_lora
from atelier.cli.listed import table
from atelier.cli.loras import bake, convert_lora, merge_lora, resize_lora
from atelier.cli.targets import Precision, library_of
from atelier.runtime.targets import SINGLE_FILE, check_file, check_target

if TYPE_CHECKING:
    from atelier.checkpoints.checkpoint import Checkpoint
    from atelier.checkpoints.inspecting import FileReport, Hashes
    from atelier.checkpoints.soundness import Soundness

app = typer.Typer(help="List, inspect, convert, merge and prune models.", no_args_is_help=True)
app.command("extract-lora")(extract_lora)
app.command("resize-lora")(resize_lora)
app.command("merge-lora")(merge_lora)
app.command("convert-lora")(convert_lora)
app.command("bake")(bake)


class Layout(StrEnum):
    LDM = "ldm"
    DIFFUSERS = "diffusers"


Folders = Annotated[
    list[Path] | None,
    typer.Option(
        "--models-dir",
        help="A folder with models; may be given several times.",
        show_default="those of ATELIER_MODELS, else ./models and the user's own",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Ema = Annotated[bool, typer.Option("--ema", help="Use the EMA weights that trainings save beside the others.")]
Variant = Annotated[
    str | None, typer.Option(help="Which weights of a folder to read, such as fp16.", show_default="the plain ones")
]
Named = Annotated[str, typer.Argument(help="A file, a diffusers folder, or the name of a model.", show_default=False)]


@app.command("list")
def list_(
    *,
    models_dir: Folders = None,
    webui_dir: Annotated[
        list[Path] | None,
        typer.Option(
            help="The folder of an A1111 or ComfyUI installation, whose files are listed too; may be repeated.",
            show_default="none",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Also list LoRAs, autoencoders and all other files.")] = False,
    as_json: Json = False,
) -> None:
    """List the models: the embedded one and those in the models folders."""
    import json

    from atelier.compose import index
    from atelier.runtime.installed import installed
    from atelier.runtime.library import Library
    from atelier.runtime.listing import listed

    folders = (*library_of(models_dir).folders, *(folder for root in webui_dir or () for folder in installed(root)))
    told: dict[str, None] = {}
    entries = listed(Library(folders, tell=told.setdefault), index(), every=every)
    for line in told:
        typer.echo(f"atelier: {line}", err=True)
    typer.echo(json.dumps(entries, ensure_ascii=False, indent=1) if as_json else table(entries))


@app.command()
def inspect(
    model: Named,
    *,
    models_dir: Folders = None,
    variant: Variant = None,
    with_hash: Annotated[bool, typer.Option("--hash", help="Also read the whole model, for its hashes.")] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Also read the whole model, to find tensors with NaN, infinity or only zeros."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what a file or folder of weights is, reading its headers only: a model, a part of one, an adapter, …"""
    import json
    from dataclasses import asdict

    from atelier.checkpoints.inspecting import hashes, inspect

    found = inspect(library_of(models_dir).find(model).path, variant=variant)
    digests = hashes(found) if with_hash else None
    sound = _sound(found) if check else None
    if as_json:
        told = found.json() | _digests(digests) | ({} if sound is None else asdict(sound))
        typer.echo(json.dumps(told, ensure_ascii=False, indent=1))
    else:
        typer.echo(described(found, digests, sound))


ConvertLayout = Annotated[
    Layout | None,
    typer.Option(help="One file (ldm) or a diffusers folder.", show_default="ldm for a .safetensors target"),
]
AsVariant = Annotated[
    bool,
    typer.Option("--as-variant", help="Name the weights of a folder after --dtype, like diffusers' variants."),
]
Vae = Annotated[str | None, typer.Option(help="Another file with the autoencoder.", show_default="the model's own")]
TextEncoder = Annotated[
    list[str] | None,
    typer.Option(help="Another file with a text encoder; may be repeated.", show_default="the model's own"),
]


@app.command()
def convert(
    source: Named,
    target: Annotated[Path, typer.Argument(help="The file or folder to write.", show_default=False)],
    *,
    layout: ConvertLayout = None,
    dtype: Annotated[Precision | None, typer.Option(help="Precision.", show_default="as it is")] = None,
    variant: Variant = None,
    as_variant: AsVariant = False,
    ema: Ema = False,
    vae: Vae = None,
    text_encoder: TextEncoder = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    models_dir: Folders = None,
) -> None:
    """Write a model in another layout or precision; it appears complete or not at all."""
    from atelier.checkpoints.probing import settled
    from atelier.errors import BadInput
    from atelier.runtime.converting import Conversion, check_whole
    from atelier.runtime.converting import convert as converted
    from atelier.weights.formats.atomic import sweep

    chosen = layout or (Layout.LDM if target.suffix == SINGLE_FILE else Layout.DIFFUSERS)
    check_target(target, chosen.value, overwrite=overwrite)
    if as_variant and (chosen is Layout.LDM or dtype is None):
        raise BadInput("--as-variant: it needs a folder (--layout diffusers) and a precision, such as --dtype fp16")
    if (vae or text_encoder) and (variant or ema):
        raise BadInput("--vae and --text-encoder: they go with neither --variant nor --ema; convert twice")
    if vae or text_encoder:
        checkpoint = _assembled(source, vae, text_encoder or (), models_dir)
    else:
        checkpoint = _opened(source, models_dir, variant, ema=ema)
    checkpoint = settled(checkpoint)
    check_whole(checkpoint)
    if target.parent.is_dir():
        sweep(target.parent)
    precision = None if dtype is None else dtype.value
    converted(checkpoint, target, Conversion(chosen.value, precision, as_variant, overwrite))
    _tell(target, checkpoint)


def _tell(target: Path, checkpoint: Checkpoint) -> None:
    """What was written, and what of the checkpoint was not."""
    from atelier.weights.archive import counted

    written = _opened(str(target), None)
    typer.echo(f"wrote {target}: {written.family.title}, {written.layout} layout, {written.dtype}, {_size(target)}")
    if checkpoint.ignored:
        typer.echo(f"left out {counted(checkpoint.ignored)}: leftovers of training that no model needs")
    if others := _others(checkpoint.path):
        typer.echo(f"left out {', '.join(others)}: nothing here uses them")


Minus = Annotated[
    str | None,
    typer.Option(help="A third model: only the difference of the second from it is added.", show_default="none"),
]
Weight = Annotated[
    float | None,
    typer.Option(help="Share of the second model, 0 to 1 or beyond.", show_default="0.5"),
]
Blocks = Annotated[
    str | None,
    typer.Option(
        help="A weight for each block of the U-Net, separated by commas: everything outside the blocks, the input "
        "blocks, the middle, the output blocks.",
        show_default="--weight for all",
    ),
]


@app.command()
def merge(
    first: Named,
    second: Annotated[str, typer.Argument(help="The model to merge in.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="The file to write.", show_default=False)],
    *,
    minus: Minus = None,
    weight: Weight = None,
    blocks: Blocks = None,
    dtype: Annotated[Precision | None, typer.Option(help="Precision.", show_default="that of the first")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    models_dir: Folders = None,
) -> None:
    """Mix models of one family, tensor by tensor; the file says what was done."""
    from atelier.checkpoints.merging import Recipe
    from atelier.checkpoints.merging import merge as merged
    from atelier.errors import BadInput
    from atelier.weights.archive import counted

    if weight is not None and blocks is not None:
        raise BadInput("--weight and --blocks exclude each other: the first of --blocks is that of what is in no block")
    check_file(target, overwrite=overwrite)
    library = library_of(models_dir)
    third = None if minus is None else library.find(minus).path
    precision = None if dtype is None else dtype.value
    recipe = Recipe(blocks=_weights(blocks), dtype=precision) if weight is None else Recipe(weight, dtype=precision)
    done = merged(library.find(first).path, library.find(second).path, third, recipe, target)
    typer.echo(f"wrote {target}: {done.merged} tensors merged, {_size(target)}")
    if done.kept:
        typer.echo(f"kept {counted(done.kept)} of the first model, which not all have")


@app.command()
def prune(
    source: Named,
    target: Annotated[Path, typer.Argument(help="The file to write.", show_default=False)],
    *,
    dtype: Annotated[Precision | None, typer.Option(help="Precision.", show_default="as it is")] = None,
    ema: Ema = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    models_dir: Folders = None,
) -> None:
    """Write a model in one file without what only trainings need, of whatever family."""
    from atelier.checkpoints.merging import prune as pruned
    from atelier.weights.archive import counted

    check_file(target, overwrite=overwrite)
    path = library_of(models_dir).find(source).path
    left_out = pruned(path, target, dtype=None if dtype is None else dtype.value, ema=ema)
    typer.echo(f"wrote {target}: {_size(target)} of {_size(path)}")
    if left_out:
        typer.echo(f"left out {counted(left_out)}")


def _weights(text: str | None) -> tuple[float, ...]:
    """Raises BadInput for what are no numbers."""
    from atelier.errors import BadInput

    try:
        return () if text is None else tuple(float(number) for number in text.split(","))
    except ValueError:
        raise BadInput(f"--blocks {text!r}: give numbers, divided by commas") from None


def _others(path: Path) -> list[str]:
    """The folders of a model that are no part of one, such as safety_checker."""
    from atelier.checkpoints.write import written

    inside, ours = path.iterdir() if path.is_dir() else (), written()
    return sorted(at.name for at in inside if at.is_dir() and at.name not in ours and not at.name.startswith("."))


def _opened(name: str, folders: list[Path] | None, variant: str | None = None, *, ema: bool = False) -> Checkpoint:
    from atelier.checkpoints.opening import open_checkpoint

    return open_checkpoint(library_of(folders).find(name).path, variant=variant, ema=ema)


def _assembled(source: str, vae: str | None, towers: Sequence[str], folders: list[Path] | None) -> Checkpoint:
    from atelier.checkpoints.assembling import assembled

    library = library_of(folders)
    autoencoder = None if vae is None else library.find(vae).path
    return assembled(library.find(source).path, autoencoder, [library.find(tower).path for tower in towers])


def _sound(found: FileReport) -> Soundness:
    from atelier.checkpoints.soundness import soundness

    return soundness(found.archives)


def _digests(digests: Hashes | None) -> dict[str, object]:
    """For the JSON; null where no hash was asked for."""
    from dataclasses import asdict

    return {"sha256": None, "short": None, "autov3": None} if digests is None else asdict(digests)


def _size(path: Path) -> str:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return megabytes(sum(file.stat().st_size for file in files))
