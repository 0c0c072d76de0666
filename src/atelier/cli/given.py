"""What commands that generate share: options beside the fields of a request, and the fields of --set."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.cli.fields import defaults
from atelier.errors import BadInput

if TYPE_CHECKING:
    from atelier.request.events import Event
    from atelier.request.model import Request
    from atelier.runtime.engine import Engine

PREVIEW_SECONDS = 0.5
OWN_OPTIONS = frozenset(
    {"styles_file", "wildcards", "preview", "no_preview", "set", "from", "verify", "prompts", "webui_dir"}
)
"""What commands have options for that is no field of a request."""

StylesFile = Annotated[
    Path | None, typer.Option(help="File of saved styles.", show_default="styles.csv", rich_help_panel="Prompt")
]
Wildcards = Annotated[
    Path | None,
    typer.Option(help="Folder of wildcard files (.txt).", show_default="wildcards", rich_help_panel="Prompt"),
]
Webui = Annotated[
    list[Path] | None,
    typer.Option(
        "--webui-dir",
        help="The folder of an A1111 or ComfyUI installation whose models are used too; may be repeated.",
        show_default="those of ATELIER_WEBUI",
        rich_help_panel="Model and sampling",
    ),
]
Preview = Annotated[
    bool | None,
    typer.Option(
        "--preview/--no-preview",
        help="Show the image while it is generated.",
        show_default="in terminals that show images",
        rich_help_panel="Output",
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any other field of a request (eta, s_churn, variation_strength, …; docs/cli.md); may be repeated.",
        show_default=False,
        rich_help_panel="Other",
    ),
]


def changed(pairs: Sequence[str]) -> dict[str, object]:
    """The fields of --set. Raises BadInput."""
    fields: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        key = name.strip().lstrip("-").replace("-", "_")
        if not equals or not key:
            raise BadInput(f"--set {pair!r}: write it as NAME=VALUE, for example eta=0.5")
        _check_settable(key)
        if key in fields:
            raise BadInput(f"--set {key} is given twice: leave one out")
        fields[key] = (value.strip(),) if _is_list(key) else value.strip()
    return fields


def _check_settable(key: str) -> None:
    """Raises BadInput for what an option of its own says and --set does not."""
    from atelier.request.table import FIELDS

    for name, field in FIELDS.items():
        option = "--" + key.replace("_", "-")
        if field.option is not None and option in field.option.names and key != name:
            raise BadInput(f"--set {key}: give it as {option}, or call it by its name, --set {name}=…")
    if key in OWN_OPTIONS:
        raise BadInput(f"--set {key}: it is no field of a request, give it as --{key.replace('_', '-')}")


def _is_list(key: str) -> bool:
    from atelier.request.table import FIELDS

    return key in FIELDS and FIELDS[key].kind == "texts"


def merged(changes: Mapping[str, object], fields: Mapping[str, object]) -> dict[str, object]:
    """The fields of --set and those of options of their own, with what the command line takes where nobody says.

    Raises BadInput for a field that is given both ways.
    """
    both = next((name for name in changes if name in fields), None)
    if both is not None:
        raise BadInput(f"{both} is given twice, as an option and with --set: leave one out")
    return {**defaults(), **changes, **fields}


def opening(
    styles_file: Path | None, wildcards: Path | None, *, keep: bool, installations: Sequence[Path] = ()
) -> Callable[[], Engine]:
    """Makes an engine when it is first asked for, and gives the same one from then on; imports torch.

    keep: networks stay in memory for the next request.
    """

    @cache
    def opened() -> Engine:
        from atelier.compose import engine, words
        from atelier.runtime.threads import settle_process

        settle_process(os.environ)
        vocabulary = words(styles_file, wildcards)
        return engine(keep=keep, vocabulary=vocabulary, installations=tuple(installations))

    return opened


def has_vae_in(installations: Sequence[Path]) -> Callable[[str], bool]:
    """Tells whether an autoencoder is there, in the folders of models or in installations of other programs."""

    def has(name: str) -> bool:
        from atelier.compose import library
        from atelier.errors import UnknownName

        try:
            library(tuple(installations)).autoencoder(name)
        except UnknownName:
            return False
        return True

    return has


def told(
    requests: Sequence[Request],
    events: Callable[[Engine], Generator[Event]],
    open_engine: Callable[[], Engine],
    notes: Sequence[str] = (),
) -> Generator[Event]:
    """The events of several requests, made by one engine.

    Imports torch at the first event, so that the progress bar is there before.
    """
    from atelier.request.events import Warned

    yield from map(Warned, notes)
    engine = open_engine()
    from atelier.runtime.several import hashing
    from atelier.runtime.threads import suit_threads_to

    suit_threads_to(max(map(engine.work, _different(requests))), os.environ)
    yield from hashing(engine, requests)
    yield from events(engine)


def _different(requests: Sequence[Request]) -> list[Request]:
    """One for each amount of work that there may be."""
    kinds = {(r.model, r.model_hash, r.width, r.height, r.batch_size, r.hires, r.views, _grown(r)): r for r in requests}
    return list(kinds.values())


def _grown(request: Request) -> tuple[str, str] | None:
    """What decides on the size of a canvas that grows around an image."""
    source = request.source
    return None if source is None or source.outpaint is None else (source.image, source.outpaint)
