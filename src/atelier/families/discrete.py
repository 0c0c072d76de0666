"""Levels of noise in a table, as Stable Diffusion 1.x, 2.x and XL have them, and diffusers' settings for them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from atelier.families.config import Config
from atelier.families.facts import BETA_SCHEDULES, Facts, prediction_named
from atelier.families.parts.written import WRITTEN_FOR

if TYPE_CHECKING:
    from atelier.diffusion.levels import DiscreteLevels
    from atelier.diffusion.parameterization import Parameterization


CONSISTENCY = "LCMScheduler"
"""What diffusers samples latent consistency models with."""


def levels(facts: Facts) -> DiscreteLevels:
    """Raises BadInput for numbers that make no table."""
    from atelier.diffusion import levels

    if facts.beta_schedule == "squaredcos_cap_v2":
        table = levels.cosine(facts.timesteps)
    else:
        make = levels.scaled_linear if facts.beta_schedule == "scaled_linear" else levels.linear
        table = make(facts.timesteps, facts.beta_start, facts.beta_end)
    return levels.zero_terminal(table) if facts.zero_snr else table


EDM = "EDM"
"""What the names of diffusers' schedulers for CosXL and Playground 2.5 begin with."""


def predicted(facts: Facts) -> Parameterization:
    from atelier.diffusion.parameterization import parameterization

    return parameterization(facts.prediction)


def read(known: Facts, config: Config) -> Facts:
    """The facts with those of a scheduler's configuration. Raises BadFile, also for EDM's levels of noise."""
    config.only({"trained_betas": (None,)})
    if str(config.values.get("_class_name", "")).startswith(EDM):
        raise config.wrong("_class_name", "a scheduler for Stable Diffusion's levels of noise")
    stated = config.values.get("prediction_type", "epsilon")
    prediction = prediction_named(stated) if isinstance(stated, str) else None
    if prediction is None:
        raise config.wrong("prediction_type", "epsilon or v_prediction")
    zero_snr = config.flag("rescale_betas_zero_snr", default=False)
    return replace(
        known,
        prediction=prediction,
        beta_schedule=config.choice("beta_schedule", BETA_SCHEDULES),
        beta_start=config.number("beta_start", 0.0001),
        beta_end=config.number("beta_end", 0.02),
        timesteps=config.whole("num_train_timesteps", 1000),
        zero_snr=zero_snr,
        consistency=config.values.get("_class_name") == CONSISTENCY,
        trailing=not zero_snr and config.values.get("timestep_spacing") == "trailing",
    )


def write(facts: Facts) -> dict[str, object]:
    """DDIM: deterministic, and it knows every kind of prediction. Latent consistency models have a scheduler of their
    own."""
    return {
        "_class_name": CONSISTENCY if facts.consistency else "DDIMScheduler",
        "_diffusers_version": WRITTEN_FOR,
        "beta_end": facts.beta_end,
        "beta_schedule": facts.beta_schedule,
        "beta_start": facts.beta_start,
        "clip_sample": False,
        "num_train_timesteps": facts.timesteps,
        "prediction_type": "v_prediction" if facts.prediction == "velocity" else "epsilon",
        "rescale_betas_zero_snr": facts.zero_snr,
        "set_alpha_to_one": True,
        "steps_offset": 1,
        "timestep_spacing": "trailing" if facts.zero_snr or facts.trailing else "leading",
    }
