"""`atelier interrogate`: words for images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from atelier.vision.interrogate import Ranked

app = typer.Typer(help="Describe images in words.")


@app.command()
def interrogate(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="Name or path; the embedded model if not given.")] = None,
    words: Annotated[
        Path | None,
        typer.Option(help="Folder of lists (.txt), a phrase on each line; the embedded data's if not given."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Words of each list.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Rank lists of words by how well they describe images, according to the model's own CLIP."""
    import json
    import os

    from atelier.checkpoints.opening import open_checkpoint
    from atelier.compose import library
    from atelier.runtime.images import read_reference, reference_to
    from atelier.runtime.interrogating import built_in_lists
    from atelier.runtime.threads import settle_process
    from atelier.vision.interrogate import Interrogator, word_lists

    settle_process(os.environ)
    references = [reference_to(image) for image in images]
    lists = built_in_lists() if words is None else word_lists(words)
    asked = Interrogator(open_checkpoint(library().find(model).path), lists)
    found = {ref.path: _best(asked.ranked(read_reference(ref)), top) for ref in references}
    typer.echo(json.dumps({path: _plain(own) for path, own in found.items()}) if as_json else _lines(found))


def _best(found: Mapping[str, Sequence[Ranked]], top: int) -> dict[str, list[Ranked]]:
    return {name: list(ranked[:top]) for name, ranked in found.items()}


def _plain(found: Mapping[str, Sequence[Ranked]]) -> dict[str, list[dict[str, object]]]:
    return {name: [{"word": r.word, "share": round(r.share, 4)} for r in ranked] for name, ranked in found.items()}


def _lines(found: Mapping[str, Mapping[str, Sequence[Ranked]]]) -> str:
    return "\n".join(
        f"{path}: {name}: {', '.join(f'{r.word} ({r.share:.0%})' for r in ranked)}"
        for path, lists in found.items()
        for name, ranked in lists.items()
    )
