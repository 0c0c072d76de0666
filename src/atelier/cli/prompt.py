"""`atelier prompt`: what a prompt means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.limits import CALLS

if TYPE_CHECKING:
    from atelier.prompt.explain import Encoder

app = typer.Typer(help="Prompts: show what they mean.", no_args_is_help=True)

LEAST, MOST = CALLS


@app.callback()
def _group() -> None:
    pass


Style = Annotated[list[str] | None, typer.Option(help="Name of a style; may be repeated.", show_default=False)]
Embedding = Annotated[
    list[str] | None, typer.Option(help="A textual inversion as name=vectors; may be repeated.", show_default=False)
]
Wildcards = Annotated[Path | None, typer.Option(help="A folder of wildcard files (.txt).", show_default="wildcards")]


@app.command()
def explain(
    text: Annotated[str, typer.Argument(help="A prompt.", show_default=False)],
    steps: Annotated[
        int,
        typer.Option(
            min=LEAST,
            max=MOST,
            help="Model calls of the pass: twice the steps for Heun and other samplers with two calls.",
        ),
    ] = 20,
    hires_steps: Annotated[
        int | None,
        typer.Option(min=LEAST, max=MOST, help="Explain the second pass of this many calls.", show_default=False),
    ] = None,
    emphasis: Annotated[str, typer.Option(help="Original, No norm, Ignore, None or Comfy.")] = "Original",
    seed: Annotated[int, typer.Option(min=0, help="Seed of choices and wildcards.")] = 0,
    wildcards: Wildcards = None,
    style: Style = None,
    styles_file: Annotated[Path | None, typer.Option(help="File of saved styles.", show_default="styles.csv")] = None,
    embedding: Embedding = None,
    *,
    old_timeline: Annotated[bool, typer.Option(help="Count [a:b:when] as A1111 did before 1.6.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show weights, what is active when, parts, networks, and tokens in chunks."""
    import json

    from atelier.compose import words
    from atelier.prompt import Clock
    from atelier.prompt import emphasis as emphasis_mode
    from atelier.prompt.explain import explain as explained
    from atelier.prompt.explain import report

    clock = Clock(hires_steps or steps, steps if hires_steps else None, old_timeline)
    known, mode = words(styles_file, wildcards), emphasis_mode(emphasis)
    styled = known.styled(text, "", style or ())[0]
    found = explained(styled, clock, mode=mode, seed=seed, files=known.wildcards(), encoder=_encoder(embedding or []))
    typer.echo(json.dumps(found.data(), ensure_ascii=False) if as_json else report(found, clock))


def _encoder(embeddings: list[str]) -> Encoder:
    from atelier.prompt.chunks import Marks
    from atelier.prompt.explain import Encoder
    from atelier.weights.tokenizer import standard

    tokenizer = standard()
    marks = Marks(tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.comma, tokenizer.positions - 2)
    return Encoder(tokenizer.encode, marks, dict(_embedding(e) for e in embeddings))


def _embedding(text: str) -> tuple[str, int]:
    from atelier.errors import BadInput

    name, _, vectors = text.rpartition("=")
    if not name or not vectors.isdecimal() or not 0 < len(vectors) <= 4 or not int(vectors):
        raise BadInput(f"--embedding {text!r}: write it as name=vectors, for example easynegative=8")
    return name, int(vectors)
