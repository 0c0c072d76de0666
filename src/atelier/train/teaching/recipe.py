"""What all ways of teaching a model have in common, as numbers in a TOML file. Read without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from atelier.train.recipe import Rate, Recipe, Table, Weight

if TYPE_CHECKING:
    from atelier.diffusion.parameterization import Parameterization
    from atelier.train.objective import Weighting


class TeachingData(Table, frozen=True):
    """source: a folder of images; size: in pixels, 0 for the size that the model was trained on; caption: of images
    that have none; class_source: a folder of images of the class, which keep the model from forgetting it."""

    source: str
    size: int = 0
    caption: str = ""
    class_source: str = ""
    class_caption: str = ""


class TeachingLoss(Table, frozen=True):
    """weight: what the error weighs at each level of noise: as the network's output ("even"), as the clean latent's with
    a limited signal-to-noise ratio ("min-snr", with snr_gamma), or its root ("debiased"). prior_weight: of class images;
    prior: how both are put together: the sum of two means as in diffusers, or one mean of all as in kohya's scripts.
    """

    weight: Literal["even", "min-snr", "debiased"] = "even"
    snr_gamma: Rate = 5.0
    time_shift: Rate = 1.0
    prior_weight: Weight = 1.0
    prior: Literal["diffusers", "kohya"] = "diffusers"

    def weighting(self, parameterization: Parameterization) -> Weighting:
        """What the error of the clean latent weighs at a level of noise."""
        from atelier.train.objective import ClampedSnr, Debiased, Even

        match self.weight:
            case "even":
                return Even(parameterization)
            case "min-snr":
                return ClampedSnr(0.0, self.snr_gamma)
            case "debiased":
                return Debiased()


class TeachingRecipe(Recipe, frozen=True):
    """base: the model that is taught: a file, a folder, or "embedded"; samples: prompts that are generated to look at.
    base_dtype: what the weights of the base are kept in.
    """

    base: str
    base_dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    samples: tuple[str, ...] = ()
    data: TeachingData
    loss: TeachingLoss = TeachingLoss()
