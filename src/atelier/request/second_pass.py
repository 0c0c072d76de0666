"""The second pass of a request, resolved: how large, from what, with which steps. The rules are A1111's:
docs/compatibility/img2img.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from atelier.errors import BadInput
from atelier.request.fields import Limits
from atelier.request.groups import Hires
from atelier.request.model import Request
from atelier.request.resolved import (
    ByFactor,
    InFile,
    ModelRef,
    NoFile,
    NoHires,
    PassPrompts,
    ResolvedGuidance,
    ResolvedHires,
    ResolvedSampling,
    Size,
    ToSize,
)

PIXELS = Limits(64, 8192)
"""Of each side: twice what a first pass may have."""
FACTOR = 2.0
"""Where only the upscaler is said, as in A1111."""
STRENGTH = 0.75
"""Of the second pass, as in A1111."""


@dataclass(frozen=True, slots=True)
class Enlarger:
    """What enlarges between two passes: its name, and where it lies if it is not built in."""

    name: str
    file: NoFile | InFile = field(default_factory=NoFile)


def second_pass(
    request: Request,
    first: Size,
    *,
    model: ModelRef,
    side_step: int,
    upscaler: Enlarger,
    sampling: ResolvedSampling,
    guidance: ResolvedGuidance,
    prompts: Sequence[PassPrompts],
    is_listed: bool,
) -> NoHires | ResolvedHires:
    """What becomes of `request.hires`. first: the size of the first pass; sampling: of the second, resolved; guidance:
    of the first; is_listed: whether the levels of noise are a list. Raises BadInput for a size that cannot be made."""
    hires = request.hires
    if hires is None or not hires.is_asked:
        return NoHires()
    size, scaled = second_sizes(hires, first, side_step)
    if request.source is not None and size != scaled:
        raise BadInput(
            f"hires_resize {size.width}x{size.height}: the second pass of an image keeps the proportions of "
            f"{first.width}x{first.height}: give one side as 0"
        )
    strengths = hires.denoising_strength, request.denoising_strength, STRENGTH
    return ResolvedHires(
        model=model,
        size=size,
        scaled=scaled,
        by=ByFactor(factor=_factor(hires)) if _is_by_factor(hires) else ToSize(),
        upscaler=upscaler.name,
        upscaler_file=upscaler.file,
        strength=next(strength for strength in strengths if strength is not None),
        exact_steps=not is_listed,
        sampling=sampling,
        guidance=guidance if hires.cfg_scale is None else guidance.model_copy(update={"scale": hires.cfg_scale}),
        prompts=tuple(prompts),
    )


def second_sizes(hires: Hires, first: Size, side_step: int) -> tuple[Size, Size]:
    """(the size of the second pass, the size that is enlarged to before the excess is cut off), multiples of side_step.

    Raises BadInput.
    """
    if _is_by_factor(hires):
        factor = _factor(hires)
        size = scaled = _stepped(int(first.width * factor), int(first.height * factor), side_step)
        said = f"hires_upscale {factor:g}"
    else:
        asked = _stepped(*(hires.resize or (0, 0)), side_step)
        scaled = _covering(asked, first, side_step)
        size = Size(asked.width or scaled.width, asked.height or scaled.height)
        said = f"hires_resize {size.width}x{size.height}"
    for sides in (size, scaled):
        if not all(PIXELS.low <= side <= PIXELS.high for side in sides):
            raise BadInput(
                f"{said}: makes {sides.width}x{sides.height} of {first.width}x{first.height}, each side must be from "
                f"{PIXELS.low} to {PIXELS.high}"
            )
    return size, scaled


def _is_by_factor(hires: Hires) -> bool:
    """A size comes before a factor, as in A1111."""
    return max(hires.resize or (0, 0)) == 0


def _factor(hires: Hires) -> float:
    return FACTOR if hires.upscale is None else hires.upscale


def _covering(asked: Size, first: Size, step: int) -> Size:
    """What has the proportions of the first pass and covers `asked`, one side of which may be 0."""
    if asked.width * first.height > asked.height * first.width:
        return _stepped(asked.width, asked.width * first.height // first.width, step)
    return _stepped(asked.height * first.width // first.height, asked.height, step)


def _stepped(width: int, height: int, step: int) -> Size:
    return Size(width - width % step, height - height % step)
