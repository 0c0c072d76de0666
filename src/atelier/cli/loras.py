"""`atelier models resize-lora`, `merge-lora`, `convert-lora` and `bake`: files of adapters, out of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.cli.described import megabytes
from atelier.cli.targets import Precision, library_of
from atelier.runtime.targets import check_file

if TYPE_CHECKING:
    from torch import Tensor

    from atelier.adapters.joining import Joined, Weighted
    from atelier.adapters.read import AdapterFile
    from atelier.adapters.resize import Resized, Rule, Size
    from atelier.runtime.library import Library


class Layout(StrEnum):
    KOHYA = "kohya"
    ORIGINAL = "original"
    DIFFUSERS = "diffusers"
    PEFT = "peft"


Source = Annotated[str, typer.Argument(help="A LoRA: its name or path.", show_default=False)]
Sources = Annotated[
    list[str],
    typer.Argument(help="LoRAs, names or paths, each with its strength: a:0.8 b:-0.5 (default 1)."),
]
Target = Annotated[Path, typer.Argument(help="The .safetensors file to write.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
Folders = Annotated[
    list[Path] | None,
    typer.Option(
        "--models-dir",
        help="A folder with models; may be given several times.",
        show_default="those of ATELIER_MODELS, else ./models and the user's own",
    ),
]
BaseModel = Annotated[
    str | None,
    typer.Option("--base", help="The model that they belong to.", show_default="a published one with such layers"),
]
Rank = Annotated[int | None, typer.Option(min=1, max=4096, help="Maximum rank of each layer.", show_default="all")]
ConvRank = Annotated[
    int | None,
    typer.Option(min=1, max=4096, help="The same for convolutions larger than 1x1.", show_default="--rank"),
]
MOST = 4096
"""Of a rank, where nothing is said."""
STRONGEST = 100.0


def resize_lora(
    source: Source,
    target: Target,
    *,
    rank: Rank = None,
    conv_rank: ConvRank = None,
    keep: Annotated[
        float | None,
        typer.Option(help="Share of the sum of singular values that each layer keeps.", show_default="none"),
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option(help="Drop singular values smaller than the largest divided by this.", show_default="none"),
    ] = None,
    frobenius: Annotated[
        float | None, typer.Option(help="Share of its norm that each layer keeps.", show_default="none")
    ] = None,
    overwrite: Overwrite = False,
    models_dir: Folders = None,
) -> None:
    """Write a LoRA at another rank: a number, or what a rule tells of each layer."""
    from atelier.adapters.resize import resized, told
    from atelier.errors import BadInput
    from atelier.weights.archive import counted

    rules: dict[Rule, float | None] = {"keep": keep, "ratio": ratio, "frobenius": frobenius}
    given: list[tuple[Rule, float]] = [(name, bound) for name, bound in rules.items() if bound is not None]
    if len(given) > 1 or (not given and rank is None):
        raise BadInput("say one of --rank, --keep, --ratio and --frobenius; --rank beside another is its limit")
    _check(target, overwrite=overwrite)
    file = _opened(library_of(models_dir), source)
    size = _size(rank or MOST, conv_rank, *given[0]) if given else _size(rank or MOST, conv_rank)
    done = resized(file, size)
    _save(target, done.tensors, told(file, size, done))
    _tell(target, done)
    if done.others:
        typer.echo(f"left as they are: {counted(done.others).replace('tensor', 'layer')} of other kinds")


def merge_lora(
    sources: Sources,
    target: Target,
    *,
    rank: Rank = None,
    conv_rank: ConvRank = None,
    base: BaseModel = None,
    dtype: Annotated[Precision, typer.Option(help="Precision.")] = Precision.FP16,
    overwrite: Overwrite = False,
    models_dir: Folders = None,
) -> None:
    """Write several LoRAs as one, which does what they do together; other kinds with --base and --rank."""
    from atelier.adapters.describing import of_base
    from atelier.adapters.joining import differing, joined
    from atelier.adapters.known import known_for, of_model
    from atelier.checkpoints.opening import open_checkpoint
    from atelier.errors import BadInput
    from atelier.weights.cast import cast, precision

    _check(target, overwrite=overwrite)
    library = library_of(models_dir)
    adapters = _weighted(library, sources)
    model = None if base is None else open_checkpoint(library.find(base).path)
    size = None if rank is None and conv_rank is None else _size(rank or MOST, conv_rank)
    if _are_plain(adapters):
        known = known_for(adapters[0].file) if model is None else of_model(model)
        family, done = known.family, joined(adapters, known, size)
    elif model is None or size is None:
        raise BadInput(
            f"{_strange(adapters)} cannot be joined exactly: name the model that they are for (--base) and the rank of "
            "the result (--rank)"
        )
    else:
        family, done = model.family, differing(adapters, model, size)
    said = of_base(family.name, model.facts.prediction) if model is not None else _common(adapters)
    said = {"format": "pt", **said, **_merged(adapters, done.ranks, target.stem)}
    _save(target, cast(done.tensors, precision(dtype.value)), said)
    _tell(target, done)


def _merged(adapters: Sequence[tuple[AdapterFile, float]], ranks: tuple[int, int], name: str) -> dict[str, str]:
    """What the file says of how it was made."""
    merged = ", ".join(f"{file.path.stem}:{strength:g}" for file, strength in adapters)
    one = ranks[0] == ranks[1]
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(ranks[0]) if one else "Dynamic",
        "ss_network_alpha": str(float(ranks[0])) if one else "Dynamic",
        "ss_output_name": name,
        "ss_training_comment": f"merged from {merged}",
    }


def convert_lora(
    source: Source,
    target: Target,
    *,
    to: Annotated[Layout, typer.Option(help="The layout of the layer names.", show_default=False)],
    base: BaseModel = None,
    dtype: Annotated[Precision | None, typer.Option(help="Precision.", show_default="as it is")] = None,
    overwrite: Overwrite = False,
    models_dir: Folders = None,
) -> None:
    """Write a LoRA under the names of another program: kohya, original (ComfyUI), diffusers, or PEFT."""
    from atelier.adapters.known import known_for, of_model
    from atelier.adapters.respelling import metadata, respelled
    from atelier.checkpoints.opening import open_checkpoint
    from atelier.weights.archive import counted
    from atelier.weights.cast import cast, precision

    _check(target, overwrite=overwrite)
    library = library_of(models_dir)
    file = _opened(library, source)
    known = known_for(file) if base is None else of_model(open_checkpoint(library.find(base).path))
    done = respelled(file, known, to.value)
    _save(target, cast(done.tensors, None if dtype is None else precision(dtype.value)), metadata(file))
    typer.echo(f"wrote {target}: {done.layers} layers of {known.family.title}, {_megabytes(target)}")
    if done.left_out:
        typer.echo(f"left out {counted(done.left_out)}, which the layout {to.value} has no place for")


def bake(
    model: Annotated[str, typer.Argument(help="A model: its name or path.", show_default=False)],
    sources: Sources,
    target: Target,
    *,
    dtype: Annotated[Precision | None, typer.Option(help="Precision.", show_default="that of the model")] = None,
    overwrite: Overwrite = False,
    models_dir: Folders = None,
) -> None:
    """Write a model with LoRAs in its weights, for programs that know none and for what is to be tuned further."""
    from atelier.adapters.bake import Baked
    from atelier.checkpoints.opening import open_checkpoint
    from atelier.checkpoints.probing import settled
    from atelier.checkpoints.write import write_ldm
    from atelier.weights.cast import precision

    check_file(target, overwrite=overwrite)
    library = library_of(models_dir)
    adapters = _weighted(library, sources)
    checkpoint = settled(open_checkpoint(library.find(model).path))
    write_ldm(Baked(checkpoint, adapters, None if dtype is None else precision(dtype.value)), target)
    typer.echo(f"wrote {target}: {checkpoint.name} with {len(adapters)} adapters, {_megabytes(target)}")


def _check(target: Path, *, overwrite: bool) -> None:
    from atelier.adapters.stated import check_target

    check_file(target, overwrite=overwrite)
    check_target(target)


def _opened(library: Library, name: str) -> AdapterFile:
    from atelier.adapters.read import open_adapter

    return open_adapter(library.adapter(name))


def _weighted(library: Library, sources: Sequence[str]) -> list[Weighted]:
    """Raises BadInput for a strength that is none."""
    from atelier.adapters.joining import Weighted

    return [Weighted(_opened(library, name), strength) for name, strength in map(_strength, sources)]


def _strength(source: str) -> tuple[str, float]:
    from atelier.errors import BadInput

    name, colon, told = source.rpartition(":")
    if not colon or Path(source).is_file():
        return source, 1.0
    try:
        strength = float(told)
    except ValueError:
        return source, 1.0
    if not abs(strength) <= STRONGEST:
        raise BadInput(f"{source}: a strength of {told}: -{STRONGEST:g} to {STRONGEST:g} can be used")
    return name, strength


def _size(rank: int, conv_rank: int | None, rule: Rule = "rank", bound: float = 0.0) -> Size:
    from atelier.adapters.resize import Size

    return Size(rank, conv_rank or rank, rule, bound)


def _are_plain(adapters: Sequence[Weighted]) -> bool:
    from atelier.adapters.joining import is_plain

    return all(is_plain(own.file) for own in adapters)


def _strange(adapters: Sequence[Weighted]) -> str:
    from atelier.adapters.joining import is_plain

    file = next(own.file for own in adapters if not is_plain(own.file))
    return f"{file.path} ({', '.join(file.kind_names)})"


def _common(adapters: Sequence[Weighted]) -> dict[str, str]:
    """What the first says of its base."""
    keys = ("ss_base_model_version", "ss_v2", "ss_sd_model_name")
    said = adapters[0].file.metadata
    return {key: said[key] for key in keys if key in said}


def _save(target: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """With the hashes of what is written."""
    from atelier.adapters.describing import sealed
    from atelier.weights.formats.safetensors import save

    save(target, tensors, sealed(tensors, metadata))


def _tell(target: Path, done: Resized | Joined) -> None:
    least, most = done.ranks
    ranks = f"rank {least}" if least == most else f"ranks {least} to {most}"
    kept = f"{done.kept:.1%} of the squared difference"
    typer.echo(f"wrote {target}: {done.layers} layers at {ranks}, {kept}, {_megabytes(target)}")


def _megabytes(path: Path) -> str:
    return megabytes(path.stat().st_size)
