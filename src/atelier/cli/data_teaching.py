"""`atelier data inspect`, `crop` and `caption`: the images that a model is to be taught."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from PIL.Image import Image

    from atelier.train.data.captioning import Composing
    from atelier.train.data.inspecting import Report
    from atelier.train.data.subsets import Subset
    from atelier.vision.interrogate import WordList

    Say = Callable[[Image], str]
    """The caption of an image; "" where there is none."""

COLUMNS = 6
NO_WORDS = "-"
"""Stands for captions where none is needed."""
MOST_TOLD = 10
"""Lines of one kind in a report; --json has all."""

Source = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        help="A folder of images with captions, of kohya's folders (10_zwx person), or of webdataset shards; a file of "
        "metadata (.json, .jsonl), a shard (.tar), or kohya's description (.toml).",
        show_default=False,
    ),
]
Side = Annotated[
    int, typer.Option(min=16, max=8192, help="A bucket has about the area of a square of this side, in pixels.")
]
Step = Annotated[int, typer.Option(min=1, max=1024, help="Bucket sides are multiples of this, in pixels.")]
Square = Annotated[bool, typer.Option("--square", help="Squares of this size instead of buckets.")]
NoUpscale = Annotated[bool, typer.Option("--no-upscale", help="Small images get small buckets and are not enlarged.")]
Words = Annotated[str, typer.Option(help="Caption of images that have none.")]


def inspect(
    source: Source,
    size: Side = 512,
    step: Step = 64,
    batch: Annotated[int, typer.Option(min=1, max=65536, help="Images in a step.")] = 1,
    words: Words = "",
    class_folder: Annotated[
        Path | None, typer.Option("--class-dir", help="A folder of class images, such as kohya's reg.")
    ] = None,
    class_words: Annotated[str, typer.Option(help="Caption of class images that have none.")] = "",
    masks: Annotated[Path | None, typer.Option(help="Folder of masks, with the names of their images.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order and of random choices.")] = 0,
    count: Annotated[int, typer.Option(min=1, max=600, help="Most images on the sheet.")] = 48,
    output: Annotated[Path, typer.Option(help="Where the sheet is written (PNG).")] = Path("outputs/data-inspect.png"),
    *,
    square: Square = False,
    no_upscale: NoUpscale = False,
    flip: Annotated[bool, typer.Option("--flip", help="Flip images in half of the steps.")] = False,
    random_crop: Annotated[bool, typer.Option("--random-crop", help="Crop at random places.")] = False,
    alpha_mask: Annotated[bool, typer.Option("--alpha-mask", help="Use the alpha channel as the mask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what teaching will see: a sheet of buckets, crops and captions, and possible problems."""
    import json
    from dataclasses import asdict, replace

    from atelier.cli.data import check_name
    from atelier.runtime import store
    from atelier.train.data.inspecting import excerpt_sheet, inspected, seen

    check_name(output)
    plain = _subset(size, step, words, square=square, no_upscale=no_upscale)
    subset = replace(plain, flip=flip, random_crop=random_crop, alpha_mask=alpha_mask, masks=masks)
    found = inspected(source, subset, batch, seed, class_folder, class_words)
    store.write_png(output, excerpt_sheet(seen(found.data, count), COLUMNS))
    if as_json:
        typer.echo(json.dumps({**asdict(found.report), "sheet": output}, default=str, ensure_ascii=False))
    else:
        typer.echo("\n".join((*_lines(found.report), str(output))))


def crop(
    source: Source,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for the crops.", show_default=False)],
    size: Side = 512,
    step: Step = 64,
    *,
    square: Square = False,
    no_upscale: NoUpscale = False,
) -> None:
    """Save the crop of every image that teaching sees, with its caption, in a new folder."""
    from dataclasses import replace

    from atelier.train.data.cropping import cropped
    from atelier.train.data.teaching import TeachingSet, collected

    subset = _subset(size, step, NO_WORDS, square=square, no_upscale=no_upscale)
    examples = collected(source, subset).examples
    data = TeachingSet.of([replace(e, subset=replace(e.subset, is_class=False)) for e in examples], batch=1, seed=0)
    cropped(data, source, out, lambda path: typer.echo(str(path)))


CaptionWords = Annotated[
    Path | None,
    typer.Option(help="Folder of lists (.txt), a phrase on each line; the embedded data's if not given."),
]
Between = Annotated[
    str | None,
    typer.Option(help="Text between words: a comma, or a space for the embedded data's."),
]


Blip = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Whole sentences instead, by the BLIP network in a folder as transformers writes them "
        "(BlipForConditionalGeneration).",
    ),
]


def caption(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="Name or path; the embedded model if not given.")] = None,
    words: CaptionWords = None,
    top: Annotated[int, typer.Option(min=1, help="Words of each list.")] = 1,
    least: Annotated[float, typer.Option(min=0, max=1, help="Minimum share of its list that a word needs.")] = 0.0,
    between: Between = None,
    before: Annotated[str, typer.Option(help="Text at the start of every caption.")] = "",
    blip: Blip = None,
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also replace existing captions.")] = False,
) -> None:
    """Write captions beside images that have none: the nearest words of lists, as the model's own CLIP sees it."""
    import os

    from atelier.errors import BadFile, BadInput
    from atelier.runtime.threads import settle_process
    from atelier.train.data.captioning import Composing, image_of, to_caption, write

    settle_process(os.environ)
    if blip is not None and (model, words, between, top, least) != (None, None, None, 1, 0.0):
        raise BadInput("--blip writes sentences: leave out --model, --words, --top, --least and --between")
    how = Composing(top, least, between if between is not None else " " if words is None else ", ", before)
    say: Say | None = None
    for image, text in to_caption(folder, overwrite=overwrite):
        say = say or (_by_words(model, words, how) if blip is None else _by_sentences(blip, before))
        try:
            said = say(image_of(image))
        except BadFile as error:
            typer.echo(f"atelier: {error}", err=True)
            continue
        if not said:
            why = f"no word has a share of {least:g}: give a smaller --least" if blip is None else "BLIP says nothing"
            typer.echo(f"atelier: {image}: {why}", err=True)
        elif write(said, text, overwrite=overwrite):
            typer.echo(f"{text}: {said}")


def _by_words(model: str | None, words: Path | None, how: Composing) -> Say:
    from atelier.checkpoints.opening import open_checkpoint
    from atelier.compose import library
    from atelier.runtime.interrogating import built_in_lists
    from atelier.train.data.captioning import composed
    from atelier.vision.interrogate import Interrogator, word_lists

    lists: Sequence[WordList] = built_in_lists() if words is None else word_lists(words)
    asked = Interrogator(open_checkpoint(library().find(model).path), lists)
    return lambda image: composed(asked.ranked(image), how)


def _by_sentences(blip: Path, before: str) -> Say:
    import torch

    from atelier.vision.sentences import open_captioner

    captioner = open_captioner(blip, torch.device("cpu"))

    def say(image: Image) -> str:
        said = captioner.caption(image)
        return said and before + said

    return say


def _subset(size: int, step: int, words: str, *, square: bool, no_upscale: bool) -> Subset:
    from atelier.train.data.buckets import Buckets
    from atelier.train.data.subsets import Subset

    return Subset((size, size) if square else Buckets.of(size, step, upscale=not no_upscale), words)


def _lines(report: Report) -> Iterator[str]:
    classes = f", {report.classes} of the class" if report.classes else ""
    yield f"{report.images} images{classes}; all are shown in {report.epoch} steps"
    yield from (f"bucket {width}x{height}: {count}" for (width, height), count in report.buckets)
    yield from _told("without a caption of their own", [str(path) for path in report.uncaptioned])
    small = [f"{own.path}: {own.size[0]}x{own.size[1]}, {own.factor:g} times" for own in report.enlarged]
    yield from _told("enlarged", small)
    yield from _told("look alike", [", ".join(map(str, group)) for group in report.alike])
    yield from _told("cannot be used", [f"{path}: {problem}" for path, problem in report.refused])
    yield from _told("to know", report.notes)


def _told(what: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"{what}: {len(lines)}"
        yield from (f"  {line}" for line in lines[:MOST_TOLD])
        if len(lines) > MOST_TOLD:
            yield f"  and {len(lines) - MOST_TOLD} more (--json lists all)"
