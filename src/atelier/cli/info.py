"""`atelier info`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier import __version__

if TYPE_CHECKING:
    from atelier.request.infotext import Infotext

app = typer.Typer()


@app.command()
def info(
    image: Annotated[
        Path | None, typer.Argument(help="An image by this or another program, or its infotext in a .txt file.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how an image was made, or, without one, this installation."""
    import json

    from atelier.cli.regenerate import Original

    if image is None:
        lines = _installation()
        typer.echo(json.dumps(lines) if as_json else "\n".join(f"{key:8} {value}" for key, value in lines.items()))
        return
    found = Original.read(image).infotext
    typer.echo(json.dumps(_data(found), ensure_ascii=False) if as_json else "\n".join(_lines(found)))


def _data(found: Infotext) -> dict[str, object]:
    """dialect; prompts; parameters as they were found; settings, typed; request, if the numbers allow one."""
    from atelier.errors import BadInput
    from atelier.request.infotext import interpret, to_request

    reading = interpret(found)
    try:
        request = to_request(found).model_dump(exclude_none=True)
    except BadInput:
        request = None
    return {
        "dialect": found.dialect,
        "prompt": found.prompt,
        "negative_prompt": found.negative_prompt,
        "parameters": dict(found.pairs),
        "settings": {name: value for name, value in reading.settings.given().items() if name != "extras"},
        "request": request,
        "source": dict(found.source),
        "warnings": [*reading.warnings, *reading.lies],
    }


def _lines(found: Infotext) -> Iterator[str]:
    from atelier.request.infotext import interpret

    yield found.prompt
    if found.negative_prompt:
        yield f"Negative prompt: {found.negative_prompt}"
    yield ""
    width = max((len(key) for key, _ in found.pairs), default=0)
    yield from (f"{key:{width}}  {value}" for key, value in found.pairs)
    yield f"{'(written by)':{width}}  {found.dialect}"
    reading = interpret(found)
    yield from (f"note: {warning}" for warning in (*reading.warnings, *reading.lies))


def _installation() -> dict[str, str]:
    import platform

    import torch

    from atelier import compose

    return {
        "atelier": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": str(compose.engine().device),
        "threads": str(torch.get_num_threads()),
        "models": ", ".join(str(folder) for folder in compose.library().folders),
    }
