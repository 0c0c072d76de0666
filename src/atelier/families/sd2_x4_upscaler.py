"""Stable Diffusion's x4 upscaler: it makes an image four times larger, with a prompt (Rombach 2022, section 4.4).

A U-Net of its own that sees the small image, with noise on it, beside the latent of an autoencoder of factor 4; it is
told how much noise that is. The text encoder is that of Stable Diffusion 2.x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from atelier.errors import BadInput
from atelier.families import discrete, marks, sd1, sd2
from atelier.families.config import Config
from atelier.families.facts import Facts, LatentFormat, ModelDefaults
from atelier.families.family import Ends, Folder, SingleFile
from atelier.families.parts.written import WRITTEN_FOR
from atelier.families.telling import Telling
from atelier.weights.archive import Archive

if TYPE_CHECKING:
    from atelier.diffusion.levels import DiscreteLevels
    from atelier.nn.ports import Conditioning

PIPELINE = "StableDiffusionUpscalePipeline"
LATENT_SCALE, LATENT_SIDE = 0.08333, 128
BETAS = (0.0001, 0.02)
"""Of both noises: that on the latent, and that on the small image."""
COLOURS = 3
MOST = 350
"""The highest level of noise on the small image in training."""
AUGMENTED = "low_res_scheduler/scheduler_config.json"
"""Where a folder says the levels of the noise on the small image."""
SAYS: Mapping[str, object] = MappingProxyType(
    {
        "_class_name": "DDPMScheduler",
        "_diffusers_version": WRITTEN_FOR,
        "beta_end": BETAS[1],
        "beta_schedule": "scaled_linear",
        "beta_start": BETAS[0],
        "clip_sample": True,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "trained_betas": None,
        "variance_type": "fixed_small",
    }
)
DECIDING = ("beta_end", "beta_schedule", "beta_start", "num_train_timesteps", "trained_betas")
"""What of it decides how much noise there is."""
BUFFERS = "low_scale_model."
"""What the names of the same levels in a single file begin with; they can be computed."""


def in_file(archive: Archive) -> bool:
    return sd1.CONV_IN in archive.tensors and sd2.NOISE_LEVELS in archive.tensors


def in_folder(index: Config) -> bool:
    return index.values.get("_class_name") == PIPELINE


def tolerated(name: str) -> bool:
    return marks.tolerated(name) or name.startswith(BUFFERS)


def file_facts(archive: Archive) -> Facts:
    prediction = marks.stated_prediction(archive) or "velocity"
    return Facts(prediction=prediction, latent_scale=LATENT_SCALE, beta_start=BETAS[0], beta_end=BETAS[1])


def read(known: Facts, config: Config) -> Facts:
    """Raises BadFile for other levels of noise on the small image than the published ones."""
    small = Config.read(config.path.parent.parent / AUGMENTED)
    small.only({key: (SAYS[key],) for key in DECIDING})
    return discrete.read(known, config)


def pipeline(ends: Ends, latent: LatentFormat) -> str:
    """Raises BadInput for a network that does not see an image of three colours."""
    if ends.in_channels != latent.channels + COLOURS:
        raise BadInput(f"a U-Net of {ends.in_channels} channels does not see an image beside {latent.channels}")
    return PIPELINE


def augmented() -> DiscreteLevels:
    from atelier.diffusion import levels

    return levels.scaled_linear(1000, *BETAS)


def tell(said: Conditioning, told: Telling) -> Conditioning:
    """How much noise is on the small image."""
    import torch

    return replace(said, level=torch.tensor(told.level, device=said.tokens.device))


def defaults(size: int, facts: Facts) -> ModelDefaults:  # noqa: ARG001 - the same for all
    """diffusers' own: its pipeline takes 75 steps of DDIM at a scale of 9."""
    return ModelDefaults("DDIM", steps=75, width=size, height=size, cfg_scale=9.0, scheduler="Leading")


UPSCALER = replace(
    sd2.SD2,
    name="sd2-x4-upscaler",
    title="Stable Diffusion x4 upscaler",
    aliases=("sd2_x4_upscaler", "x4-upscaler"),
    single=SingleFile(detect=in_file, facts=file_facts, tolerated=tolerated, markers=marks.MARKERS),
    folder=Folder(
        detect=in_folder,
        pipeline=pipeline,
        index={
            "feature_extractor": [None, None],
            "low_res_scheduler": ["diffusers", "DDPMScheduler"],
            "max_noise_level": MOST,
            "safety_checker": [None, None],
            "watermarker": [None, None],
        },
        read=read,
        write=discrete.write,
        more={AUGMENTED: SAYS},
    ),
    defaults=defaults,
    latent_side=LATENT_SIDE,
    tell=tell,
    tiny=None,
    probe=None,
    augmented=augmented,
)
SPECS = (UPSCALER,)
