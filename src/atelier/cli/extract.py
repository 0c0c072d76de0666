"""`atelier models extract-lora`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atelier.cli.targets import Precision, library_of
from atelier.runtime.targets import check_file

ConvRank = Annotated[
    int | None,
    typer.Option(min=0, max=4096, help="The same for 3x3 convolutions; 0 leaves them out.", show_default="--rank"),
]
Whole = Annotated[
    bool, typer.Option("--whole", help="Keep differences of biases and norms too, which few programs read.")
]
ModelsDir = Annotated[
    list[Path] | None,
    typer.Option(
        help="A folder with models; may be given several times.",
        show_default="those of ATELIER_MODELS, else ./models and the user's own",
    ),
]


def extract_lora(
    base: Annotated[str, typer.Argument(help="The model that was trained on: its name or path.", show_default=False)],
    tuned: Annotated[str, typer.Argument(help="The tuned model: its name or path.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.", show_default=False)],
    *,
    rank: Annotated[int, typer.Option(min=1, max=4096, help="Rank of each layer.")] = 32,
    conv_rank: ConvRank = None,
    whole: Whole = False,
    dtype: Annotated[Precision, typer.Option(help="Precision.")] = Precision.FP16,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    models_dir: ModelsDir = None,
) -> None:
    """Write the difference of two models as a LoRA, for use in prompts."""
    from atelier.adapters.describing import sealed
    from atelier.adapters.extract import extract, metadata
    from atelier.checkpoints.opening import open_checkpoint
    from atelier.weights.archive import counted
    from atelier.weights.cast import cast, precision
    from atelier.weights.formats.safetensors import save

    check_file(target, overwrite=overwrite)
    torch_dtype = precision(dtype.value)
    library = library_of(models_dir)
    one, other = (open_checkpoint(library.find(name).path) for name in (base, tuned))
    found = extract(one, other, rank, rank if conv_rank is None else conv_rank, whole=whole)
    tensors = cast(found.tensors, torch_dtype)
    save(target, tensors, sealed(tensors, {"format": "pt", **metadata(one, other, rank, target.stem)}))
    kept, size = f"{found.kept:.1%} of the squared difference", target.stat().st_size / 1e6
    typer.echo(f"wrote {target}: {found.layers} layers at rank {rank}, {kept}, {size:.1f} MB")
    if found.beside:
        typer.echo(f"left out what differs in {counted(found.beside).removeprefix(f'{len(found.beside)} ')}")
