"""What a checkpoint's tensors do not say by their shapes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from atelier.families.config import Config

if TYPE_CHECKING:
    from torch import Tensor

PredictionType = Literal["epsilon", "velocity", "flow"]
BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
"""As diffusers calls them; the first is what its schedulers mean where a configuration says nothing."""
Activation = Literal["quick_gelu", "gelu"]

PREDICTIONS: tuple[PredictionType, ...] = get_args(PredictionType)
BETA_SCHEDULES: tuple[BetaSchedule, ...] = get_args(BetaSchedule)
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)


@dataclass(frozen=True, slots=True)
class PartFacts:
    """What one network's shapes do not say; None is what its architecture takes where nobody says anything.

    heads: attention heads, one number for all levels or one for each; head_width: channels of each head, where that
    is what is known instead; groups: of the group norms; act: of the perceptrons; eos: the token id at which a text
    tower's state is pooled; size_width: numbers that each size of a vector condition is embedded as.
    """

    heads: tuple[int, ...] | None = None
    groups: int | None = None
    act: Activation | None = None
    eos: int | None = None
    head_width: int | None = None
    size_width: int | None = None

    @classmethod
    def read(cls, config: Config) -> PartFacts:
        """From one object of the JSON that `Facts.to_json` writes. Raises BadFile."""
        config.known(cls.__dataclass_fields__)
        return cls(
            heads=config.wholes("heads", ()) or None,
            groups=config.optional("groups"),
            act=activation(config, "act") if "act" in config.values else None,
            eos=config.optional("eos"),
            head_width=config.optional("head_width"),
            size_width=config.optional("size_width"),
        )


NO_FACTS = PartFacts()


def activation(config: Config, key: str) -> Activation:
    """Raises BadFile for one that is not known."""
    return config.choice(key, ACTIVATIONS)


@dataclass(frozen=True, slots=True)
class Facts:
    """The defaults are Stable Diffusion 1.5's.

    size: side in pixels of the images it was trained on; latent_side: the same in positions of the latent, where a
    folder says that; both None where nobody says. latent: (z - shift) * scale is what the denoising network sees;
    beta_*, timesteps, zero_snr: the noise levels; trailing: whether it was made for few steps, counted down from the
    last level (Turbo); consistency: whether its scheduler is that of latent consistency models; flow_shift: how far the
    levels of a flow are moved towards noise; cfg_scale, steps: what it was made to generate with, None where nobody
    says; parts: what is known of each network, by the name of the part.
    """

    prediction: PredictionType = "epsilon"
    size: int | None = None
    latent_side: int | None = None
    latent_scale: float = 0.18215
    latent_shift: float = 0.0
    beta_schedule: BetaSchedule = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    timesteps: int = 1000
    zero_snr: bool = False
    trailing: bool = False
    consistency: bool = False
    flow_shift: float = 1.0
    cfg_scale: float | None = None
    steps: int | None = None
    parts: Mapping[str, PartFacts] = field(default_factory=dict[str, PartFacts])

    def of(self, part: str) -> PartFacts:
        return self.parts.get(part, NO_FACTS)

    def knowing(self, part: str, found: PartFacts) -> Facts:
        """The same with what was found out about one part."""
        return replace(self, parts={**self.parts, part: found})

    def to_json(self) -> str:
        """For the metadata of a single file; what is None is left out."""
        parts = {name: _stated(asdict(facts)) for name, facts in self.parts.items() if facts != NO_FACTS}
        return json.dumps({**_stated(asdict(self)), "parts": parts})

    @classmethod
    def from_json(cls, text: str, source: Path) -> Facts:
        """What `to_json` wrote; what is not there has its default. Raises BadFile about `source`."""
        config = Config.parse(text, source)
        config.known(cls.__dataclass_fields__)
        return cls(
            prediction=config.choice("prediction", PREDICTIONS),
            size=config.optional("size"),
            latent_side=config.optional("latent_side"),
            latent_scale=config.number("latent_scale", cls().latent_scale),
            latent_shift=config.number("latent_shift", cls().latent_shift, low=-1e6),
            beta_schedule=config.choice("beta_schedule", ("scaled_linear", *BETA_SCHEDULES)),
            beta_start=config.number("beta_start", cls().beta_start),
            beta_end=config.number("beta_end", cls().beta_end),
            timesteps=config.whole("timesteps", cls().timesteps),
            zero_snr=config.flag("zero_snr", default=False),
            trailing=config.flag("trailing", default=False),
            consistency=config.flag("consistency", default=False),
            flow_shift=config.number("flow_shift", cls().flow_shift),
            cfg_scale=config.scale("cfg_scale"),
            steps=config.optional("steps"),
            parts={name: PartFacts.read(found) for name, found in config.objects("parts").items()},
        )


def _stated(values: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class LatentFormat:
    """How a family's denoising network sees the autoencoder's latents. factor: pixels per latent position along a
    side."""

    scale: float
    shift: float
    factor: int
    channels: int

    def scaled(self, latent: Tensor) -> Tensor:
        """From the autoencoder's latents to those of the denoising network, about unit variance."""
        return (latent - self.shift) * self.scale

    def unscaled(self, latent: Tensor) -> Tensor:
        """The inverse of `scaled`."""
        return latent / self.scale + self.shift


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What a model generates with where a request leaves it open; width and height in pixels; scheduler: None for that
    of the sampler."""

    sampler: str
    steps: int
    width: int
    height: int
    cfg_scale: float
    scheduler: str | None = None


def prediction_named(name: str) -> PredictionType | None:
    """The prediction that diffusers, kohya and modelspec call `name`; None for one we do not know."""
    known = {"epsilon": "epsilon", "eps": "epsilon", "v_prediction": "velocity", "v": "velocity"}
    return cast("PredictionType | None", known.get(name))
