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
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGE...", help="Images by this or another program, or their infotexts in .txt files."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how an image was made, or, without one, this installation.

    Of several images each is shown in turn, with --json as a list; those that cannot be read are named, and the exit
    code is 2.
    """
    import json

    from atelier.cli.regenerate import Original

    if not images:
        lines = _installation()
        typer.echo(json.dumps(lines) if as_json else "\n".join(f"{key:8} {value}" for key, value in lines.items()))
    elif len(images) == 1:
        found = Original.read(images[0]).infotext
        typer.echo(json.dumps(_data(found), ensure_ascii=False) if as_json else "\n".join(_lines(found)))
    else:
        _show_all(images, as_json=as_json)


def _show_all(images: list[Path], *, as_json: bool) -> None:
    """One after the other; what is wrong with those that cannot be read goes to stderr and into the list of JSON."""
    import json

    from atelier.cli.regenerate import Original
    from atelier.errors import BadFile

    entries: list[dict[str, object]] = []
    code = 0
    for path in images:
        try:
            found = Original.read(path).infotext
        except BadFile as error:
            code = error.exit_code
            typer.echo(f"atelier: {error}", err=True)
            entries.append({"path": str(path), "problem": error.problem})
            continue
        if as_json:
            entries.append({"path": str(path), **_data(found)})
        else:
            typer.echo("\n".join((f"== {path}", *_lines(found), "")))
    if as_json:
        typer.echo(json.dumps(entries, ensure_ascii=False))
    if code:
        raise typer.Exit(code)


def _data(found: Infotext) -> dict[str, object]:
    """dialect; prompts; parameters as they were found; settings, typed; request, if the numbers allow one."""
    from atelier.errors import BadInput
    from atelier.request.infotext import interpret, to_request
    from atelier.request.infotext.units import lacking

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
        "warnings": [*reading.warnings, *reading.lies, *lacking(found)],
    }


def _lines(found: Infotext) -> Iterator[str]:
    from atelier.request.infotext import interpret
    from atelier.request.infotext.units import lacking

    yield found.prompt
    if found.negative_prompt:
        yield f"Negative prompt: {found.negative_prompt}"
    yield ""
    width = max((len(key) for key, _ in found.pairs), default=0)
    yield from (f"{key:{width}}  {value}" for key, value in found.pairs)
    yield f"{'(written by)':{width}}  {found.dialect}"
    reading = interpret(found)
    yield from (f"note: {warning}" for warning in (*reading.warnings, *reading.lies, *lacking(found)))


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
