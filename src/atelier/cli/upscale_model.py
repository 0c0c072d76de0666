"""`atelier upscale --model`: enlarging with a model that generates, such as Stable Diffusion's x4 upscaler."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from atelier.errors import BadInput

PANEL = "With a model"
NEEDS_MODEL = "--prompt, --negative, --noise-level, --steps, --seed and --cfg-scale are for --model: name one"
FACTOR = 4
"""Of the only model of this kind that is published."""


@dataclass(frozen=True, slots=True)
class ByModel:
    """What is asked of the model; None for what is left to it."""

    prompt: str | None = None
    negative_prompt: str | None = None
    noise_level: int | None = None
    steps: int | None = None
    seed: int | None = None
    cfg_scale: float | None = None

    def check(
        self,
        *,
        upscaler: str | None,
        second: str | None,
        scale: str | None,
        file_format: str,
        folders: Sequence[Path] | None,
    ) -> None:
        """Raises BadInput for what other upscalers have and a model has not."""
        if scale is not None and scale.strip() not in {f"{FACTOR}", f"{FACTOR}.0"}:
            raise BadInput(f"--scale {scale}: a model makes an image {FACTOR} times larger; leave it out")
        others = {
            "--upscaler": upscaler is not None,
            "--upscaler-2": second is not None,
            "--format": file_format != "png",
            "--models-dir": folders is not None,
        }
        for other in (name for name, is_there in others.items() if is_there):
            raise BadInput(f"{other} does not go with --model: leave it out")

    def run(self, paths: Sequence[Path], model: str, output: str, tile: int | None, *, is_list: bool) -> None:
        """Enlarges each image. Of several, those that cannot be used are named and left out."""
        from atelier.cli import many, progress
        from atelier.cli.given import opening, told
        from atelier.request.table import request_of

        display, open_engine = progress.display(preview=False), opening(None, None, keep=len(paths) > 1)

        def one(fields: many.Fields) -> None:
            request = request_of(fields)
            if not enlarges(open_engine().library.find(model).path):
                raise BadInput(f"{model}: makes no image larger: name an upscaling model, or use --upscaler")
            with closing(told((request,), lambda engine: engine.events(request), open_engine)) as events:
                display.follow(events)

        runs = [self._fields(path, model, output, tile) for path in paths]
        if is_list:
            many.each(runs, one)
        else:
            one(runs[0])

    def _fields(self, path: Path, model: str, output: str, tile: int | None) -> dict[str, object]:
        asked = {name: value for name, value in asdict(self).items() if value is not None}
        fields: dict[str, object] = {"prompt": "", "model": model, "image": str(path), "output": output, **asked}
        return fields if tile is None else {**fields, **_views(tile)}


def enlarges(path: Path) -> bool:
    """Whether the model there makes a small image larger. Raises BadFile."""
    from atelier.checkpoints.opening import open_checkpoint

    return open_checkpoint(path).family.augmented is not None


def _views(tile: int) -> dict[str, object]:
    """Views of what a tile becomes, a quarter of which is shared with the next one."""
    side = tile * FACTOR
    return {"view_method": "mixture", "view_width": side, "view_height": side, "view_overlap": tile}
