"""`atelier serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.errors import BadInput

if TYPE_CHECKING:
    from atelier.api.desk import Staff
    from atelier.api.keys import KeyRing

app = typer.Typer(add_completion=False)

ApiKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--api-key",
        envvar="ATELIER_API_KEYS",
        metavar="NAME:SECRET",
        help="A key that clients need; may be given several times, or as lines of ATELIER_API_KEYS. The first is the "
        "admin's.",
        show_default=False,
    ),
]
ModelsDir = Annotated[
    list[Path] | None,
    typer.Option(
        "--models-dir",
        help="A folder with models; may be given several times.",
        show_default="those of ATELIER_MODELS, else ./models and the user's own",
    ),
]
WebuiDir = Annotated[
    list[Path] | None,
    typer.Option("--webui-dir", help="An installation of A1111 or ComfyUI, whose models are offered too."),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of jobs, images and uploads.", show_default="the user's own folder"),
]
Database = Annotated[
    str | None,
    typer.Option(help="URL of the database of jobs: sqlite:///FILE, postgresql://...", show_default="SQLite there"),
]

Host = Annotated[str, typer.Option(help="Address to listen at; others than this machine's need a key.")]
AllowHost = Annotated[
    list[str] | None, typer.Option("--allow-host", help="A host name that clients may use for the server.")
]
AllowOrigin = Annotated[
    list[str] | None, typer.Option("--allow-origin", help="A web page's origin that may call the server.")
]
AllowWebhook = Annotated[
    list[str] | None, typer.Option("--allow-webhook", help="Prefix of addresses that may be notified of ended jobs.")
]
PublicUrl = Annotated[
    str | None, typer.Option(help="The server's address as clients behind a proxy see it, for image URLs.")
]


@app.command("serve")
def serve(
    *,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 7860,
    api_key: ApiKeys = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that generate in parallel.")] = 1,
    database: Database = None,
    models_dir: ModelsDir = None,
    webui_dir: WebuiDir = None,
    data_dir: DataDir = None,
    allow_host: AllowHost = None,
    allow_origin: AllowOrigin = None,
    allow_webhook: AllowWebhook = None,
    public_url: PublicUrl = None,
    grace: Annotated[float, typer.Option(min=0, help="Seconds for running jobs to end when the server stops.")] = 10.0,
    log_text: Annotated[bool, typer.Option("--log-text", help="Write the log as text, not as lines of JSON.")] = False,
) -> None:
    """Serve images over HTTP: to A1111's and OpenAI's clients, and to programs of your own. Stop it with Ctrl-C."""
    _check_installed()
    from atelier import compose
    from atelier.api.settings import Settings, check_address, secret
    from atelier.cli import serving
    from atelier.runtime.installed import installed

    keys = _keys(api_key or [])
    check_address(host, keys)
    folders = (*(models_dir or compose.model_folders()), *(f for root in webui_dir or [] for f in installed(root)))
    folder = data_dir or compose.data_folder()
    settings = Settings(
        keys=keys,
        hosts=(*(allow_host or ()), host),
        origins=tuple(allow_origin or ()),
        webhooks=tuple(allow_webhook or ()),
        public_url=public_url,
        url_secret=secret(folder),
        options_file=folder / "options.json",
    )
    serving.run(
        serving.Place(host, port), settings, _staff(folders, folder, workers, grace), folder, database, text=log_text
    )


def _check_installed() -> None:
    """Raises BadInput where packages are missing that only a server needs."""
    from importlib.util import find_spec

    missing = [name for name in ("fastapi", "uvicorn", "sqlalchemy", "alembic") if find_spec(name) is None]
    if missing:
        raise BadInput(f"a server needs {', '.join(missing)}: pip install 'atelier[serve]'")


def _keys(given: list[str]) -> KeyRing:
    """Raises BadInput."""
    from atelier.api.keys import ring

    return ring(_key(text, number) for number, text in enumerate(given))


def _key(text: str, number: int) -> tuple[str, str, bool]:
    """(name, secret, whether it is the admin's) of NAME:SECRET, or of a secret alone."""
    name, colon, secret = text.strip().partition(":")
    if not colon:
        name, secret = ("admin" if number == 0 else f"key-{number + 1}"), text.strip()
    if not name or not secret:
        raise BadInput("--api-key: write NAME:SECRET, or one secret")
    return name, secret, number == 0


def _staff(folders: tuple[Path, ...], data: Path, workers: int, grace: float) -> Staff:
    """How the processes are started. Several workers share the cores, or take turns at the graphics cards."""
    import os

    from atelier import compose
    from atelier.api.desk import Staff

    threads = max(1, (os.cpu_count() or 1) // workers) if workers > 1 else 0
    places = [["--threads", str(threads), "--number", str(number)] for number in range(workers)]
    return Staff(
        resolver=compose.server_command("resolver", folders, data),
        workers=[compose.server_command("worker", folders, data, place) for place in places],
        grace=grace,
    )
