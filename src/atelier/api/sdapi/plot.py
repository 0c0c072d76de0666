"""The script X/Y/Z plot: a grid of requests along up to three axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from atelier.api.sdapi.fields import Fields
from atelier.api.sdapi.names import find_sampler, known_styles, model_named, schedule, upscaler_named
from atelier.api.sdapi.options import RNGS
from atelier.api.sdapi.tolerant import flag
from atelier.api.service import Catalogue
from atelier.errors import BadInput
from atelier.request.events import Json
from atelier.request.grid.axes import Asked, Axis, axis_of, csv_line
from atelier.request.grid.cells import Grid, cells, number_of, settled
from atelier.request.grid.values import texts
from atelier.request.table import flat, given, plain

Args = Sequence[object]
BOTH, TXT, IMG = "both", "txt2img", "img2img"
AXES: tuple[tuple[str, str, str], ...] = (
    ("Nothing", "", BOTH),
    ("Seed", "seed", BOTH),
    ("Var. seed", "variation_seed", BOTH),
    ("Var. strength", "variation_strength", BOTH),
    ("Steps", "steps", BOTH),
    ("Hires steps", "hires_steps", TXT),
    ("CFG Scale", "cfg_scale", BOTH),
    ("Image CFG Scale", "image_cfg_scale", IMG),
    ("Prompt S/R", "prompt-sr", BOTH),
    ("Prompt order", "prompt-order", BOTH),
    ("Sampler", "sampler", TXT),
    ("Hires sampler", "hires_sampler", TXT),
    ("Sampler", "sampler", IMG),
    ("Checkpoint name", "model", BOTH),
    ("Negative Guidance minimum sigma", "ngms", BOTH),
    ("Sigma Churn", "s_churn", BOTH),
    ("Sigma min", "s_tmin", BOTH),
    ("Sigma max", "s_tmax", BOTH),
    ("Sigma noise", "s_noise", BOTH),
    ("Schedule type", "scheduler", BOTH),
    ("Schedule min sigma", "sigma_min", BOTH),
    ("Schedule max sigma", "sigma_max", BOTH),
    ("Schedule rho", "rho", BOTH),
    ("Beta schedule alpha", "beta_alpha", BOTH),
    ("Beta schedule beta", "beta_beta", BOTH),
    ("Eta", "eta", BOTH),
    ("Clip skip", "clip_skip", BOTH),
    ("Denoising", "denoising_strength", BOTH),
    ("Initial noise multiplier", "noise_multiplier", BOTH),
    ("Extra noise", "extra_noise", BOTH),
    ("Hires upscaler", "hires_upscaler", TXT),
    ("Cond. Image Mask Weight", "conditional_mask_weight", IMG),
    ("VAE", "vae", BOTH),
    ("Styles", "styles", BOTH),
    ("UniPC Order", "unipc_order", BOTH),
    ("Face restore", "", BOTH),
    ("Token merging ratio", "", BOTH),
    ("Token merging ratio high-res", "", BOTH),
    ("Always discard next-to-last sigma", "discard_penultimate_sigma", BOTH),
    ("SGM noise multiplier", "sgm_noise_multiplier", BOTH),
    ("Refiner checkpoint", "refiner", BOTH),
    ("Refiner switch at", "refiner_switch_at", BOTH),
    ("RNG source", "rng", BOTH),
    ("FP8 mode", "", BOTH),
    ("Size", "size", BOTH),
)
"""A1111's axes in its order: title, the field (""  where there is none here), and in which tab it is offered."""
MOST = 256
"""Requests that one call may become."""
MODELS = frozenset({"model", "refiner"})
VARY = slice(13, 16)


@dataclass(frozen=True, slots=True)
class Plot:
    """runs: along x, then down y, then z; labels: of the values of each axis."""

    runs: tuple[Fields, ...]
    labels: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    extra: Mapping[str, Json]


def offered(*, image: bool) -> tuple[tuple[str, str], ...]:
    """The axes of a tab: (title, field), in A1111's order, by whose numbers clients name them."""
    return tuple((title, own) for title, own, tab in AXES if tab in {BOTH, IMG if image else TXT})


def plotted(args: Args, fields: Fields, catalogue: Catalogue, draw: Callable[[], int], warn: list[str]) -> Plot:
    """The requests of a plot. Raises BadInput, and Refused for a name that is not listed."""
    image = "image" in fields
    titles, asked = zip(*(_axis(args, place, catalogue, image=image) for place in range(3)), strict=True)
    x, y, z = _few(cast("tuple[Asked, Asked, Asked]", asked))
    if flag(args[12]):
        warn.append("X/Y/Z plot: -1 for seeds is drawn once for all")
    grid = settled(Grid(_grid_fields(fields), x, y, z, vary_seed=_varies(args, titles)), lambda _: draw())
    found = sorted(cells(grid), key=lambda cell: number_of(cell.place, grid.shape))
    runs = tuple(_plain(flat(cell.request), given(cell.request)) for cell in found)
    labels = (grid.x.labels, grid.y.labels, grid.z.labels)
    return Plot(runs, labels, _extra(grid, titles))


def _few(asked: Sequence[Asked]) -> list[Axis]:
    """The axes. Raises BadInput as soon as they make too many images."""
    axes: list[Axis] = []
    images = 1
    for one in asked:
        axes.append(axis_of(one))
        images *= len(axes[-1].values)
        if images > MOST:
            raise BadInput(f"{images} images; at most {MOST} are taken at once")
    return axes


def _axis(
    args: Args, place: int, catalogue: Catalogue, *, image: bool
) -> tuple[str, tuple[str, Sequence[object]] | str | None]:
    """The title of an axis and what it asks for."""
    said, text, chosen = args[3 * place : 3 * place + 3]
    title, own = _named(said, offered(image=image))
    if title == "Nothing":
        return title, None
    if not own:
        raise BadInput(f"the axis {title!r} is not there: leave it out")
    values = csv_line(cast("list[object]", chosen)) if isinstance(chosen, list) and chosen else str(text)
    return title, _translated(own, values, catalogue)


def _named(said: object, axes: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """An axis by its number or its title."""
    for index, (title, own) in enumerate(axes):
        if str(said).strip().casefold() in {str(index), title.casefold()}:
            return title, own
    raise BadInput(f"there is no axis {str(said)[:40]!r}: give 0 to {len(axes) - 1}, or a title")


def _translated(own: str, text: str, catalogue: Catalogue) -> tuple[str, Sequence[object]] | str:
    """The values of an axis as the field takes them: names are looked up."""
    read: Mapping[str, Callable[[str], object]] = {
        **{name: lambda value: model_named(catalogue, value, "script_args") for name in MODELS},
        "sampler": lambda value: _sampler(catalogue, value),
        "hires_sampler": lambda value: _sampler(catalogue, value),
        "scheduler": lambda value: schedule(catalogue, value)[0] or "Automatic",
        "hires_upscaler": lambda value: upscaler_named(catalogue, value, "script_args", latent=True),
        "styles": lambda value: tuple(known_styles(catalogue, [value])[0]),
        "rng": lambda value: RNGS.get(value.casefold(), value),
    }
    if own in read:
        return own, tuple(read[own](value) for value in texts(text))
    return f"{own}={text}"


def _sampler(catalogue: Catalogue, said: str) -> str:
    found = find_sampler(catalogue, said)
    if found is None:
        raise BadInput(f"Sampler not found: {said!r}")
    return " ".join(part for part in found if part)


def _grid_fields(fields: Fields) -> dict[str, object]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _varies(args: Args, titles: Sequence[str]) -> bool:
    """Whether each cell has a seed of its own: for all axes that are there, or for none of them."""
    if len(args) < 17:
        return False
    flags = {flag(value) for value, title in zip(args[VARY], titles, strict=True) if title != "Nothing"}
    if len(flags) > 1:
        raise BadInput("seeds vary along all axes that are there, or along none")
    return flags == {True}


def _plain(values: Mapping[str, object], names: frozenset[str]) -> Fields:
    """The fields of a request that were given, as JSON."""
    said = {name: value for name, value in values.items() if name in names}
    return {name: plain(value) for name, value in said.items()}


def _extra(grid: Grid, titles: Sequence[str]) -> dict[str, Json]:
    """What A1111 writes of a plot."""
    said: dict[str, Json] = {"Script": "X/Y/Z plot"}
    for letter, title, axis, fixed in zip("XYZ", titles, grid.axes, grid.fixed, strict=True):
        if title != "Nothing":
            said |= {f"{letter} Type": title, f"{letter} Values": axis.text}
            said |= {f"Fixed {letter} Values": fixed} if fixed else {}
    return said
