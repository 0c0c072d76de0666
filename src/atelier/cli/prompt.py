"""`atelier prompt`: what a prompt means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from atelier.prompt.explain import Encoder
    from atelier.prompt.styles import Style

app = typer.Typer(help="Prompts: show what they mean.", no_args_is_help=True)

MAX_STEPS = 10_000


@app.callback()
def _group() -> None:
    pass


@app.command()
def explain(
    text: Annotated[str, typer.Argument(help="A prompt.", show_default=False)],
    steps: Annotated[
        int, typer.Option(min=1, max=MAX_STEPS, help="Model calls of the pass: twice the steps for Heun and its kin.")
    ] = 20,
    hires_steps: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_STEPS, help="Explain the second pass of this many calls.", show_default=False),
    ] = None,
    emphasis: Annotated[str, typer.Option(help="Original, No norm, Ignore, None or Comfy.")] = "Original",
    seed: Annotated[int, typer.Option(min=0, help="What choices and wildcards are drawn from.")] = 0,
    wildcards: Annotated[
        Path | None, typer.Option(help="A folder of wildcard files (.txt).", show_default=False)
    ] = None,
    style: Annotated[
        list[str] | None, typer.Option(help="Name of a style; may be repeated.", show_default=False)
    ] = None,
    styles_file: Annotated[Path, typer.Option(help="Where styles are kept.")] = Path("styles.csv"),
    embedding: Annotated[
        list[str] | None, typer.Option(help="A textual inversion as name=vectors; may be repeated.", show_default=False)
    ] = None,
    *,
    old_timeline: Annotated[bool, typer.Option(help="Count moments as A1111 did before 1.6.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show weights, what is active when, parts, networks, and tokens in chunks."""
    import json

    from atelier.prompt import Clock
    from atelier.prompt import emphasis as emphasis_mode
    from atelier.prompt.explain import explain as explained
    from atelier.prompt.explain import report
    from atelier.prompt.styles import apply_styles

    clock = Clock(hires_steps or steps, steps if hires_steps else None, old_timeline)
    explanation = explained(
        apply_styles(text, [s.prompt for s in _styles(styles_file, style or [])]),
        clock,
        mode=emphasis_mode(emphasis),
        seed=seed,
        files=_wildcards(wildcards),
        encoder=_encoder(embedding or []),
    )
    typer.echo(json.dumps(explanation.data(), ensure_ascii=False) if as_json else report(explanation, clock))


def _encoder(embeddings: list[str]) -> Encoder:
    from atelier.prompt.chunks import Marks
    from atelier.prompt.explain import Encoder
    from atelier.weights.tokenizer import standard

    tokenizer = standard()
    marks = Marks(tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.encode(",")[0], tokenizer.positions - 2)
    return Encoder(tokenizer.encode, marks, dict(_embedding(e) for e in embeddings))


def _embedding(text: str) -> tuple[str, int]:
    from atelier.errors import BadInput

    name, _, vectors = text.rpartition("=")
    if not name or not vectors.isdecimal() or not 0 < len(vectors) <= 4:
        raise BadInput(f"--embedding {text!r}: write it as name=vectors, for example easynegative=8")
    return name, int(vectors)


def _wildcards(folder: Path | None) -> dict[str, tuple[str, ...]]:
    from atelier.errors import BadFile
    from atelier.prompt.wildcards import read_wildcard

    if folder is None:
        return {}
    if not folder.is_dir():
        raise BadFile(folder, "is no folder: --wildcards names the folder that holds the .txt files")
    files = sorted(folder.rglob("*.txt"))
    return {f.relative_to(folder).with_suffix("").as_posix(): read_wildcard(_read(f)) for f in files}


def _styles(file: Path, names: list[str]) -> list[Style]:
    from atelier.errors import UnknownName
    from atelier.prompt.styles import read_styles

    if not names:
        return []
    known = {s.name: s for s in read_styles(_read(file))}
    for name in names:
        if name not in known:
            raise UnknownName("style", name, known)
    return [known[name] for name in names]


def _read(file: Path) -> str:
    from atelier.errors import BadFile

    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadFile(file, f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise BadFile(file, "is not UTF-8 text") from error
