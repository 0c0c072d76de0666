"""The fake service with what A1111 1.10 lists: for clients that speak its dialect."""

from __future__ import annotations

import base64
from dataclasses import replace

from atelier.api.service import Catalogue, ModelEntry, SamplerEntry, SchedulerEntry
from atelier.runtime.jobs.job import Job, NewJob, Owner
from fakes.service import CATALOGUE, FakeService, png

SAMPLERS = tuple(
    SamplerEntry(name, tuple(aliases.split()), scheduler)
    for name, aliases, scheduler in (
        ("DPM++ 2M", "k_dpmpp_2m", "karras"),
        ("DPM++ SDE", "k_dpmpp_sde", "karras"),
        ("DPM++ 2M SDE", "k_dpmpp_2m_sde", "exponential"),
        ("DPM++ 2M SDE Heun", "k_dpmpp_2m_sde_heun", "exponential"),
        ("DPM++ 2S a", "k_dpmpp_2s_a", "karras"),
        ("DPM++ 3M SDE", "k_dpmpp_3m_sde", "exponential"),
        ("Euler a", "k_euler_a k_euler_ancestral", "uniform"),
        ("Euler", "k_euler", "uniform"),
        ("LMS", "k_lms", "uniform"),
        ("Heun", "k_heun", "uniform"),
        ("DPM2", "k_dpm_2", "karras"),
        ("DPM2 a", "k_dpm_2_a", "karras"),
        ("DPM fast", "k_dpm_fast", "uniform"),
        ("DPM adaptive", "k_dpm_ad", "uniform"),
        ("Restart", "restart", "karras"),
        ("DDIM", "ddim", "uniform"),
        ("DDIM CFG++", "ddim_cfgpp", "uniform"),
        ("PLMS", "plms", "uniform"),
        ("UniPC", "unipc", "uniform"),
        ("LCM", "k_lcm", "uniform"),
    )
)
SCHEDULERS = tuple(
    SchedulerEntry(name, label, tuple(aliases.split()))
    for name, label, aliases in (
        ("automatic", "Automatic", ""),
        ("uniform", "Uniform", ""),
        ("karras", "Karras", ""),
        ("exponential", "Exponential", ""),
        ("polyexponential", "Polyexponential", ""),
        ("sgm_uniform", "SGM Uniform", "SGMUniform"),
        ("kl_optimal", "KL Optimal", ""),
        ("align_your_steps", "Align Your Steps", ""),
        ("simple", "Simple", ""),
        ("normal", "Normal", ""),
        ("ddim", "DDIM", ""),
        ("beta", "Beta", ""),
    )
)
LATENT = (
    "Latent",
    "Latent (antialiased)",
    "Latent (bicubic)",
    "Latent (bicubic antialiased)",
    "Latent (nearest)",
    "Latent (nearest-exact)",
)
MODELS = (*CATALOGUE.models, ModelEntry("model", "sd1", "base", "model.ckpt", "7460a6fa" + "0" * 56, loaded=False))
LISTED = replace(CATALOGUE, samplers=SAMPLERS, schedulers=SCHEDULERS, latent_upscalers=LATENT, models=MODELS)
PICTURE = base64.b64encode(png("a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x48")).decode()
"""A PNG in base64."""


class LikeA1111(FakeService):
    """The fake service with A1111's lists, and a third model."""

    async def catalogue(self) -> Catalogue:
        found = await super().catalogue()
        models = tuple(replace(model, loaded=model.name in self.loaded) for model in MODELS)
        return replace(LISTED, model=found.model, models=models)

    def _check(self, job: NewJob, owner: Owner) -> None:
        """Here too the third model is known."""
        known = {name: value for name, value in job.fields.items() if (name, value) != ("model", "model")}
        super()._check(replace(job, fields=known), owner)

    def _accept(self, job: NewJob, owner: Owner) -> Job:
        """Enlarging makes an image of each that comes."""
        made = super()._accept(job, owner)
        images = job.fields.get("images")
        if job.kind == "upscale" and isinstance(images, list):
            made = replace(made, resolved={**(made.resolved or {}), "images": len(images)})
            self.kept[made.id].job = made
        return made

    async def load(self, model: str) -> None:
        if model == "model":
            self.calls.append("load")
            self.model, self.loaded = model, {model}
        else:
            await super().load(model)
