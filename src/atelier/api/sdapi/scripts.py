"""`script_name` and `script_args`: the scripts of A1111's menu whose work is done here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import cos, pi, sin
from types import MappingProxyType
from typing import TypeVar, cast

from atelier.api.sdapi.fields import Fields, refused
from atelier.api.sdapi.layouts import Sheets
from atelier.api.sdapi.names import model_named, upscaler_named, upscalers
from atelier.api.sdapi.plot import MOST, plotted
from atelier.api.sdapi.tolerant import flag, number, whole
from atelier.api.service import Catalogue
from atelier.errors import BadInput
from atelier.request.events import Json
from atelier.request.prompt_file import joined, prompt_lines
from atelier.request.table import plain

T = TypeVar("T")
Args = Sequence[object]
Draw = Callable[[], int]
"""Draws a seed."""
LONGEST = 64_000
"""Characters of a list of prompts."""
SEEDS = 2**64


@dataclass(frozen=True, slots=True)
class Loops:
    """So often again, each time from the image before; strengths: of each."""

    strengths: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Runs:
    """What a call becomes. fields: of each request, in order; loops: where each is generated from the one before.

    extra: what `extra_generation_params` says of it. sheets: the pages that its images make.
    """

    fields: tuple[Fields, ...]
    loops: Loops | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])
    sheets: Sheets | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """A script of the menu. args: the labels and defaults of its arguments; txt2img, img2img: where it is offered."""

    title: str
    args: tuple[tuple[str, Json], ...]
    run: Callable[[Args, Fields, Catalogue, Draw, list[str]], Runs]
    txt2img: bool = True
    img2img: bool = True


def scripted(
    name: str, args: Sequence[object], fields: Fields, catalogue: Catalogue, draw: Draw, warn: list[str], *, image: bool
) -> Runs:
    """What a script makes of fields. Raises Refused (422) for one that there is not, and for bad arguments."""
    script = SCRIPTS.get(name.strip().casefold())
    if script is None or not (script.img2img if image else script.txt2img):
        raise refused(f"Script '{name[:80]}' not found", "script_name")
    filled = (*args, *(default for _, default in script.args[len(args) :]))
    runs = script.run(filled, fields, catalogue, draw, warn)
    if len(runs.fields) > MOST:
        raise refused(f"script_args: {len(runs.fields)} requests; at most {MOST} are taken at once", "script_args")
    return runs


def _whole(args: Args, place: int) -> int:
    return _read(whole, args, place)


def _number(args: Args, place: int) -> float:
    return float(_read(number, args, place))


def _flag(args: Args, place: int) -> bool:
    return _read(flag, args, place)


def _read(read: Callable[[object], T], args: Args, place: int) -> T:
    """Raises Refused (422), naming the argument."""
    try:
        return read(args[place])
    except ValueError as error:
        raise refused(f"script_args[{place}] {str(args[place])[:60]!r}: {error}", "script_args") from None


def _upscale(args: Args, fields: Fields, catalogue: Catalogue, _: Draw, __: list[str]) -> Runs:
    """[text, overlap, upscaler or its number, factor]"""
    names = [entry.name for entry in upscalers(catalogue)]
    said = args[2]
    if not isinstance(said, str):
        index = _whole(args, 2)
        if not 0 <= index < len(names):
            raise refused(f"script_args[2]: there is no upscaler {index}; there are {len(names)}", "script_args")
        said = names[index]
    upscaler = upscaler_named(catalogue, said or "None", "script_args")
    more: Fields = {
        "sd_upscale_factor": _number(args, 3),
        "sd_upscale_overlap": _whole(args, 1),
        "sd_upscale_upscaler": upscaler,
    }
    return Runs(
        ({**fields, **more},), extra={"SD upscale overlap": more["sd_upscale_overlap"], "SD upscale upscaler": upscaler}
    )


def _mk2(args: Args, fields: Fields, _: Catalogue, __: Draw, warn: list[str]) -> Runs:
    """[text, pixels, mask blur, directions, noise, colour variation]"""
    warn.append("Outpainting mk2: its mask blur, fall-off and colour variation have no effect")
    return _outpainted(fields, _whole(args, 1), args[3])


def _poor(args: Args, fields: Fields, _: Catalogue, __: Draw, warn: list[str]) -> Runs:
    """[pixels, mask blur, masked content, directions]"""
    warn.append("Poor man's outpainting: its mask blur and masked content have no effect")
    return _outpainted(fields, _whole(args, 0), args[3])


def _outpainted(fields: Fields, pixels: int, directions: object) -> Runs:
    known = ("left", "right", "up", "down")
    said = cast("list[object]", directions) if isinstance(directions, list) else [directions]
    if not said or not all(side in known for side in said):
        raise refused(f"script_args: the directions are a list of {', '.join(known)}", "script_args")
    names = {"up": "top", "down": "bottom"}
    text = ",".join(f"{names.get(side, side)}={pixels}" for side in known if side in said)
    without = {name: value for name, value in fields.items() if name not in {"width", "height", "resize_mode"}}
    return Runs(({**without, "outpaint": text},))


def _loopback(args: Args, fields: Fields, _: Catalogue, draw: Draw, warn: list[str]) -> Runs:
    """[loops, final strength, curve, append interrogation]"""
    loops, last = _whole(args, 0), _number(args, 1)
    if not 1 <= loops <= MOST:
        raise refused(f"script_args[0]: 1 to {MOST} loops are taken, not {loops}", "script_args")
    if str(args[3] or "None").casefold() != "none":
        warn.append("Loopback: no interrogation is appended to the prompt")
    first = fields.get("denoising_strength", 0.75)
    start = float(first) if isinstance(first, int | float) else 0.75
    curve = str(args[2]).strip().casefold()
    strengths = tuple(start + (last - start) * _along(curve, loop, loops) for loop in range(loops))
    seed = fields.get("seed")
    fixed: Fields = {**fields, "seed": draw() if seed is None else seed, "color_correction": True}
    runs = tuple({**fixed, "denoising_strength": s, "seed": _later(fixed["seed"], n)} for n, s in enumerate(strengths))
    extra: dict[str, Json] = {"Final denoising strength": last, "Denoising curve": str(args[2])[:20]}
    return Runs(runs, Loops(strengths), extra)


def _along(curve: str, loop: int, loops: int) -> float:
    """How far the strength has come, 0 to 1."""
    share = loop / (loops - 1) if loops > 1 else 0.0
    match curve:
        case "aggressive":
            return sin(share * pi / 2)
        case "lazy":
            return 1 - cos(share * pi / 2)
        case _:
            return share


def _later(seed: Json, number_: int) -> int:
    return (seed + number_) % SEEDS if isinstance(seed, int) else number_


def _matrix(args: Args, fields: Fields, _: Catalogue, draw: Draw, __: list[str]) -> Runs:
    """[put at start, different seeds, prompt type, delimiter, margin]"""
    name = "negative_prompt" if str(args[2]).casefold() == "negative" else "prompt"
    glue = " " if str(args[3]).casefold() == "space" else ", "
    first, *parts = str(fields.get(name) or "").split("|")
    if 2 ** len(parts) > MOST:
        raise refused(f"Prompt matrix: {len(parts)} parts make more than {MOST} images; leave some out", name)
    seed = fields.get("seed")
    fixed = draw() if seed is None else seed
    each: Fields = {**fields, "batch_size": 1, "batch_count": 1}
    runs: list[Fields] = []
    for combination in range(2 ** len(parts)):
        chosen = [part.strip().strip(",") for k, part in enumerate(parts) if combination >> k & 1]
        texts = [*chosen, first] if _flag(args, 0) else [first, *chosen]
        runs.append({**each, name: glue.join(texts), "seed": _later(fixed, combination) if _flag(args, 1) else fixed})
    across = parts[: len(parts) - len(parts) // 2]
    return Runs(tuple(runs), sheets=Sheets(_subsets(across), _subsets(parts[len(across) :])))


def _subsets(parts: Sequence[str]) -> tuple[str, ...]:
    """Bit k of a number says whether part k is in it."""
    chosen = ([part.strip() for k, part in enumerate(parts) if number_ >> k & 1] for number_ in range(2 ** len(parts)))
    return tuple(" + ".join(some) or ("-" if parts else "") for some in chosen)


def _lines(args: Args, fields: Fields, catalogue: Catalogue, draw: Draw, warn: list[str]) -> Runs:
    """[count seeds on, one seed for all, start or end, text]; before 1.8 the third was the text."""
    text = args[3] if isinstance(args[3], str) and args[3].strip() else args[2]
    if isinstance(text, str) and len(text) > LONGEST:
        raise refused(
            f"script_args: the prompts have {len(text)} characters; at most {LONGEST} are read", "script_args"
        )
    lines = prompt_lines(text if isinstance(text, str) else "")
    if not lines or text in {"start", "end"}:
        raise refused("Prompts from file or textbox: there are no lines in script_args", "script_args")
    for line in lines:
        warn += line.notes
    seed, at_end = fields.get("seed"), str(args[2]).casefold() == "end"
    fixed = {"seed": draw()} if seed is None and (_flag(args, 0) or _flag(args, 1)) else {}
    count = cast("int", fields.get("batch_size", 1)) * cast("int", fields.get("batch_count", 1))
    runs: list[Fields] = []
    for index, line in enumerate(lines):
        own = {n: v for n, v in line.fields.items() if n != "output"}
        whole_ = _joined(own, {**fields, **fixed}, at_end=at_end)
        if _flag(args, 0) and "seed" not in own:
            whole_["seed"] = _later(whole_.get("seed"), index * count)
        runs.append(_listed_only(whole_, catalogue))
    return Runs(tuple(runs))


def _joined(line: Mapping[str, object], around: Fields, *, at_end: bool) -> Fields:
    """The fields of a line with those of the body; its prompt stands before, or behind, that of the body."""
    merged = joined(line, around)
    if at_end:
        for name in ("prompt", "negative_prompt"):
            both = [str(part) for part in (around.get(name), line.get(name)) if part]
            merged |= {name: " ".join(both)} if both else {}
    return {name: plain(value) for name, value in merged.items()}


def _listed_only(fields: Fields, catalogue: Catalogue) -> Fields:
    """With a model that is listed: no line names a file."""
    if "model" in fields:
        fields["model"] = model_named(catalogue, str(fields["model"]), "script_args")
    return fields


def _plot(args: Args, fields: Fields, catalogue: Catalogue, draw: Draw, warn: list[str]) -> Runs:
    try:
        made = plotted(args, fields, catalogue, draw, warn)
    except BadInput as error:
        raise refused(f"X/Y/Z plot: {error}", "script_args") from None
    x, y, z = made.labels
    if not _flag(args, 9):
        x, y, z = (tuple("" for _ in labels) for labels in made.labels)
    return Runs(made.runs, extra=made.extra, sheets=Sheets(x, y, z, only=not _flag(args, 10)))


_OF_AXIS: tuple[tuple[str, Json], ...] = (("type", 0), ("values", ""), ("values", list[Json]()))
_AXIS = tuple((f"{axis} {what}", value) for axis in "XYZ" for what, value in _OF_AXIS)
_ALL = (
    Script(
        "X/Y/Z plot",
        (
            *_AXIS,
            ("Draw legend", True),
            ("Include Sub Images", False),
            ("Include Sub Grids", False),
            ("Keep -1 for seeds", False),
            ("Vary seeds for X", False),
            ("Vary seeds for Y", False),
            ("Vary seeds for Z", False),
            ("Grid margins (px)", 0),
            ("Use text inputs instead of dropdowns", False),
        ),
        _plot,
    ),
    Script(
        "Prompt matrix",
        (
            ("Put variable parts at start of prompt", False),
            ("Use different seed for each picture", False),
            ("Select prompt", "positive"),
            ("Select joining char", "comma"),
            ("Grid margins (px)", 0),
        ),
        _matrix,
    ),
    Script(
        "Prompts from file or textbox",
        (
            ("Iterate seed every line", False),
            ("Use same random seed for all lines", False),
            ("Insert prompts at the", "start"),
            ("List of prompt inputs", ""),
        ),
        _lines,
    ),
    Script(
        "SD upscale",
        (("", ""), ("Tile overlap", 64), ("Upscaler", "Lanczos"), ("Scale Factor", 2.0)),
        _upscale,
        txt2img=False,
    ),
    Script(
        "Outpainting mk2",
        (
            ("", ""),
            ("Pixels to expand", 128),
            ("Mask blur", 8),
            ("Outpainting direction", ["left", "right", "up", "down"]),
            ("Fall-off exponent (lower=higher detail)", 1.0),
            ("Color variation", 0.05),
        ),
        _mk2,
        txt2img=False,
    ),
    Script(
        "Poor man's outpainting",
        (
            ("Pixels to expand", 128),
            ("Mask blur", 4),
            ("Masked content", 0),
            ("Outpainting direction", ["left", "right", "up", "down"]),
        ),
        _poor,
        txt2img=False,
    ),
    Script(
        "Loopback",
        (
            ("Loops", 4),
            ("Final denoising strength", 0.5),
            ("Denoising strength curve", "Linear"),
            ("Append interrogated prompt at each iteration", "None"),
        ),
        _loopback,
        txt2img=False,
    ),
)
SCRIPTS: Mapping[str, Script] = MappingProxyType({script.title.casefold(): script for script in _ALL})
"""By folded title."""
