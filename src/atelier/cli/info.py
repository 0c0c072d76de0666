"""`atelier info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atelier import __version__
from atelier.errors import BadFile


def info(
    picture: Annotated[Path | None, typer.Argument(help="A picture painted by this or a like program.")] = None,
) -> None:
    """Show how a picture was made, or, without one, this installation."""
    typer.echo(_installation() if picture is None else _parameters(picture))


def _parameters(picture: Path) -> str:
    from PIL import Image, UnidentifiedImageError

    from atelier.runtime.store import TEXT_KEY

    try:
        with Image.open(picture) as image:
            image.load()
            text = image.info.get(TEXT_KEY)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BadFile(picture, f"is no picture that can be read ({_reason(error)})") from error
    if not isinstance(text, str):
        raise BadFile(picture, f"carries no text {TEXT_KEY!r}: it was not painted by Atelier, or was saved again")
    return text


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__


def _installation() -> str:
    import platform

    import torch

    from atelier import compose

    lines = {
        "atelier": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": str(compose.studio().device),
        "threads": str(torch.get_num_threads()),
        "models": ", ".join(str(folder) for folder in compose.library().folders),
    }
    return "\n".join(f"{key:8} {value}" for key, value in lines.items())
