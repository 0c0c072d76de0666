"""A kind of training from outside the package: a line of two parameters is fitted to noisy points."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from atelier.train.recipe import Recipe, Weight, digest
from atelier.train.registry import RecipeSpec

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from atelier.train.loop import Placement, Validation
    from atelier.train.world import World


class LineRecipe(Recipe, frozen=True):
    """y = slope x + offset + noise."""

    kind: Literal["line"]
    slope: float
    offset: float
    noise: Weight = 0.1


class Points:
    """Makes a step's points (2, B): x and y. Of several processes, each has its share."""

    def __init__(self, recipe: LineRecipe, world: World) -> None:
        self.recipe, self.world = recipe, world

    def __call__(self, step: int) -> Tensor:
        import torch

        from atelier.train import randomness

        r = self.recipe
        x, noise = randomness.normal((2, r.run.batch), r.run.seed, "points", step)
        return torch.stack([x, r.slope * x + r.offset + r.noise * noise])[:, self.world.rows(r.run.batch)]


class LineTask:
    """A linear layer of one input and one output."""

    def __init__(self, recipe: LineRecipe, placement: Placement) -> None:
        import torch

        from atelier.train.descent import Descent
        from atelier.train.optimizers import optimizers

        self.recipe, self.world = recipe, placement.world
        torch.manual_seed(recipe.run.seed)
        self.net = torch.nn.Linear(1, 1).to(placement.device)
        self._optimizers = optimizers("line", self.net, recipe.optim, outer=())
        self._descent = Descent(self._optimizers, recipe.optim.clip, recipe.run.accumulate, placement.world)

    @property
    def nets(self) -> Mapping[str, nn.Module]:
        return {"line": self.net}

    @property
    def aids(self) -> Mapping[str, nn.Module]:
        return {}

    @property
    def frozen(self) -> Sequence[nn.Module]:
        return ()

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        return self._optimizers

    @property
    def identity(self) -> str:
        return digest(self.recipe)

    @property
    def maker(self) -> Callable[[int], Tensor]:
        return Points(self.recipe, self.world)

    def begin(self) -> None:
        pass

    def count(self, batch: Tensor, /) -> int:
        return batch.shape[1]

    def dry(self, batch: Tensor, /) -> Tensor:
        return self._losses(batch[:, :1]).mean()

    def _losses(self, batch: Tensor) -> Tensor:
        x, y = batch
        return (self.net(x[:, None])[:, 0] - y).square()

    def update(self, _: int, batch: Tensor, /) -> Mapping[str, Tensor]:
        return self._descent.step(batch.shape[1], lambda rows: nullcontext(self._losses(batch[:, rows])))

    def validate(self) -> Validation:
        from atelier.train.loop import Validation

        return Validation({"slope": self.net.weight.item()}, {})

    def extra(self) -> Mapping[str, Any]:
        return {}


def _build(recipe: LineRecipe, placement: Placement, _folder: Path) -> LineTask:
    return LineTask(recipe, placement)


def _export(_recipe: LineRecipe, folder: Path) -> Path:
    from atelier.train.parts import averaged_weights

    weights = averaged_weights(folder, "line")
    path = folder / "line.json"
    path.write_text(json.dumps({"slope": weights["weight"].item(), "offset": weights["bias"].item()}))
    return path


SPECS = (
    RecipeSpec(
        name="line",
        model=LineRecipe,
        build=_build,
        export=_export,
        defaults=Path(__file__).with_suffix(".toml"),
        help="a line through noisy points",
        splits=True,
    ),
)
