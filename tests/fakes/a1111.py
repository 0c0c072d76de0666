"""The fake service with what A1111 1.10 lists: for clients that speak its dialect."""

from __future__ import annotations

import base64
from dataclasses import replace

from atelier.api.service import (
    AnnotatorEntry,
    Catalogue,
    ModelEntry,
    NamedEntry,
    OptionEntry,
    SamplerEntry,
    SchedulerEntry,
)
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
CONTROLS = tuple(
    NamedEntry(name, f"{name}.safetensors", {"kind": kind, "family": "sd1", "hash": digits})
    for name, kind, digits in (
        ("control_v11p_sd15_canny", "hint", "d14c016b"),
        ("control_v11f1p_sd15_depth", "hint", "cfd03158"),
        ("control_v11p_sd15_openpose", "hint", "cab727d4"),
        ("ip-adapter_sd15", "reference", "6a3f6166"),
        ("ip-adapter-plus-face_sd15", "reference", "71693645"),
        ("ip-adapter-full-face_sd15", "reference", None),
        ("ip-adapter-faceid-plusv2_sd15", "face", "6e14fc1a"),
        ("ip-adapter_instant_id_sdxl", "face", "eb2d3ec0"),
        ("control_instant_id_sdxl", "hint", "c5c25a50"),
        ("mine", "unknown", None),
    )
)
NO_OPTIONS: tuple[OptionEntry, ...] = ()
THRESHOLDS = (OptionEntry("low", 100, 0, 256, 1, "low"), OptionEntry("high", 200, 0, 256, 1, "high"))
LINES = (OptionEntry("sigma", 6, 0.1, 64, 0.1, "sigma"), OptionEntry("intensity", 8, 0, 255, 1, "intensity"))
RATE = (OptionEntry("rate", 1, 1, 8, 0.01, "rate"),)
ANNOTATORS = (
    AnnotatorEntry("canny", ("CannyDetector",), "edges", THRESHOLDS, None, there=True, sized=True),
    AnnotatorEntry("depth_midas", ("depth", "MidasDetector"), "depth", NO_OPTIONS, "dpt", there=True, sized=True),
    AnnotatorEntry("none", (), "a hint", NO_OPTIONS, None, there=True, sized=False),
    AnnotatorEntry("inpaint_only", ("inpaint",), "masked", NO_OPTIONS, None, there=True, sized=False),
    AnnotatorEntry("openpose", ("openpose_body",), "people", NO_OPTIONS, "body_pose.pth", there=False, sized=True),
    AnnotatorEntry("tile_resample", ("tile",), "tiles", RATE, None, there=True, sized=False),
    AnnotatorEntry("lineart_standard", (), "lines", LINES, None, there=True, sized=True),
    AnnotatorEntry("normal_from_depth", (), "normals", NO_OPTIONS, None, there=True, sized=True),
)
LISTED = replace(CATALOGUE, samplers=SAMPLERS, schedulers=SCHEDULERS, latent_upscalers=LATENT, models=MODELS)
STEERED = replace(LISTED, controls=CONTROLS, annotators=ANNOTATORS)
PICTURE = base64.b64encode(png("a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x48")).decode()
"""A PNG in base64."""


class LikeA1111(FakeService):
    """The fake service with A1111's lists, and a third model."""

    async def catalogue(self) -> Catalogue:
        found = await super().catalogue()
        models = tuple(replace(model, loaded=model.name in self.loaded) for model in MODELS)
        return replace(STEERED, model=found.model, models=models)

    def _check(self, job: NewJob, owner: Owner) -> None:
        """Here too the third model is known."""
        known = {name: value for name, value in job.fields.items() if (name, value) != ("model", "model")}
        super()._check(replace(job, fields=known), owner)

    def _accept(self, job: NewJob, owner: Owner) -> Job:
        """Enlarging and annotating make an image of each that comes."""
        made = super()._accept(job, owner)
        lists = [found for name in ("images", "controls", "poses") if isinstance(found := job.fields.get(name), list)]
        if job.kind in {"upscale", "annotate"} and lists:
            made = replace(made, resolved={**(made.resolved or {}), "images": sum(map(len, lists))})
            self.kept[made.id].job = made
        return made

    async def load(self, model: str) -> None:
        if model == "model":
            self.calls.append("load")
            self.model, self.loaded = model, {model}
        else:
            await super().load(model)
