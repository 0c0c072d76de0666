"""Teaching a model to read images: its tokens may first learn to be what the text encoder makes of captions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from atelier.train.data.excerpts import Excerpt
from atelier.train.data.teaching import TeachingSet
from atelier.train.loop import Placement
from atelier.train.tasks.teaching import TeachingTask
from atelier.train.teaching.image_prompt import ImagePromptPupil
from atelier.train.teaching.training_images import StepExcerpts

if TYPE_CHECKING:
    from atelier.train.recipes.image_prompt import ImagePromptRecipe


@dataclass(frozen=True, slots=True)
class InTurn:
    """Makes a step's excerpts: of the first steps with the first maker, then with the second."""

    steps: int
    first: StepExcerpts
    second: StepExcerpts

    def __call__(self, step: int) -> tuple[Excerpt, ...]:
        return (self.first if step < self.steps else self.second)(step)


class ImagePromptTask(TeachingTask):
    """captioned: the images, none of whose captions is left out, for the first `image_prompt.align` steps.

    In those the loss is the mean square of tokens less the states of the caption, position by position. The model knows
    how to read these, so that it need not learn to read what does not yet know how to speak; and such a step costs a
    small part of one with the denoiser.
    """

    def __init__(
        self,
        recipe: ImagePromptRecipe,
        placement: Placement,
        pupil: ImagePromptPupil,
        images: TeachingSet,
        captioned: TeachingSet,
        folder: Path,
    ) -> None:
        begin = recipe.image_prompt.begin
        further = (*pupil.seen.files(images.paths), *((Path(begin),) if begin else ()))
        super().__init__(recipe, placement, pupil.base, pupil, images, folder, pupil.ports, further)
        self._prompt, self._align, self._captioned = pupil, recipe.image_prompt.align, captioned

    @property
    def maker(self) -> Callable[[int], tuple[Excerpt, ...]]:
        own = StepExcerpts(self.images, self.placement.world)
        return InTurn(self._align, StepExcerpts(self._captioned, self.placement.world), own) if self._align else own

    def update(self, step: int, batch: tuple[Excerpt, ...], /) -> Mapping[str, Tensor]:
        if step >= self._align:
            return super().update(step, batch)
        return self._descent.step(len(batch), lambda rows: nullcontext(self._apart(batch[rows])))

    def _apart(self, batch: Sequence[Excerpt]) -> Tensor:
        """How far the tokens of images are from the states of their captions: (B,)."""
        tokens = self._prompt.tokens(batch)
        states = self._conditioning(self.base.encoder, batch).tokens[:, : tokens.shape[1]]
        return (tokens[:, : states.shape[1]] - states).square().mean((1, 2))
