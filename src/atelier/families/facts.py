"""What a checkpoint's tensors do not say by their shapes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from atelier.families.config import Config

if TYPE_CHECKING:
    from torch import Tensor

Prediction = Literal["epsilon", "velocity"]
BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
"""As diffusers calls them; the first is what its schedulers mean where a configuration says nothing."""
Activation = Literal["quick_gelu", "gelu"]

PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
BETA_SCHEDULES: tuple[BetaSchedule, ...] = get_args(BetaSchedule)
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)


@dataclass(frozen=True, slots=True)
class Facts:
    """The defaults are Stable Diffusion 1.5's.

    size: side in pixels of the pictures it was trained on, None where nobody says; latent: (z - shift) * scale is what
    the U-Net sees; beta_*, timesteps, zero_snr: the noise levels; unet_heads: attention heads, one number for all
    levels or one for each; *_groups: of the group norms; heads None: one for 64 channels; eos: the id that is pooled,
    None for CLIP's own; cfg_scale: what it was made to be painted with, None where nobody says.
    """

    prediction: Prediction = "epsilon"
    size: int | None = None
    latent_scale: float = 0.18215
    latent_shift: float = 0.0
    beta_schedule: BetaSchedule = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    timesteps: int = 1000
    zero_snr: bool = False
    unet_heads: tuple[int, ...] = (8,)
    unet_groups: int = 32
    vae_groups: int = 32
    text_heads: int | None = None
    text_act: Activation = "quick_gelu"
    text_eos: int | None = None
    vision_heads: int | None = None
    vision_act: Activation = "quick_gelu"
    cfg_scale: float | None = None

    def to_json(self) -> str:
        """For the metadata of a single file; what is None is left out."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None})

    @classmethod
    def from_json(cls, text: str, source: Path) -> Facts:
        """What `to_json` wrote; what is not there has its default. Raises BadFile about `source`."""
        config = Config.parse(text, source)
        config.known(cls.__dataclass_fields__)
        return cls(
            prediction=config.choice("prediction", PREDICTIONS),
            size=config.optional("size"),
            latent_scale=config.number("latent_scale", cls().latent_scale),
            latent_shift=config.number("latent_shift", cls().latent_shift, low=-1e6),
            beta_schedule=config.choice("beta_schedule", ("scaled_linear", *BETA_SCHEDULES)),
            beta_start=config.number("beta_start", cls().beta_start),
            beta_end=config.number("beta_end", cls().beta_end),
            timesteps=config.whole("timesteps", cls().timesteps),
            zero_snr=config.flag("zero_snr", default=False),
            unet_heads=config.wholes("unet_heads", cls().unet_heads),
            unet_groups=config.whole("unet_groups", cls().unet_groups),
            vae_groups=config.whole("vae_groups", cls().vae_groups),
            text_heads=config.optional("text_heads"),
            text_act=config.choice("text_act", ACTIVATIONS),
            text_eos=config.optional("text_eos"),
            vision_heads=config.optional("vision_heads"),
            vision_act=config.choice("vision_act", ACTIVATIONS),
            cfg_scale=config.scale("cfg_scale"),
        )


@dataclass(frozen=True, slots=True)
class LatentFormat:
    """How a family's U-Net sees the autoencoder's latents. factor: pixels per latent position along a side."""

    scale: float
    shift: float
    factor: int
    channels: int

    def scaled(self, latent: Tensor) -> Tensor:
        """From the autoencoder's latents to the U-Net's, about unit variance."""
        return (latent - self.shift) * self.scale

    def unscaled(self, latent: Tensor) -> Tensor:
        """The inverse of `scaled`."""
        return latent / self.scale + self.shift


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request leaves open; width and height in pixels."""

    steps: int
    width: int
    height: int
    cfg_scale: float


def carried(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata of a file that stays with the model when it is converted: all but the container's own and ours."""
    return {key: value for key, value in metadata.items() if key != "format" and not key.startswith("atelier.")}


def prediction_named(name: str) -> Prediction | None:
    """The prediction that diffusers, kohya and modelspec call `name`; None for one we do not know."""
    known = {"epsilon": "epsilon", "eps": "epsilon", "v_prediction": "velocity", "v": "velocity"}
    return cast("Prediction | None", known.get(name))
