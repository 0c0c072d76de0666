"""Writing a model in either public layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from atelier.errors import BadInput, StorageFull
from atelier.families.facts import Facts
from atelier.families.family import Part
from atelier.families.folder import CFG_SCALE, INDEX, PLACES
from atelier.families.sd1 import PREFIXES
from atelier.weights.formats import safetensors
from atelier.weights.formats.atomic import new_file, new_folder

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from atelier.models.clip import ClipText, ClipVision, TextSpec, VisionSpec
    from atelier.models.unet import UNet, UNetSpec
    from atelier.models.vae import AutoencoderKL, VaeSpec
    from atelier.weights.names.name import Layout
    from atelier.weights.tokenizer import ClipTokenizer

WRITTEN_FOR = "0.30.0"
"""The oldest diffusers that is promised to read what is written."""
WRITTEN = frozenset({INDEX, "scheduler", "tokenizer", *(folder for folder, _ in PLACES.values())})
"""What `write_diffusers` puts into a folder."""


class Source(Protocol):
    """A model that can be written: a Checkpoint, or Modules in memory."""

    @property
    def facts(self) -> Facts: ...
    @property
    def unet_spec(self) -> UNetSpec: ...
    @property
    def vae_spec(self) -> VaeSpec: ...
    @property
    def text_spec(self) -> TextSpec: ...
    @property
    def vision_spec(self) -> VisionSpec | None: ...
    @property
    def size(self) -> int: ...
    @property
    def tokenizer(self) -> ClipTokenizer: ...
    @property
    def metadata(self) -> Mapping[str, str]: ...
    def tensors(self, part: Part) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True, slots=True)
class Modules:
    """Networks in memory, as training has them. facts: heads, groups and activations are taken from the networks.

    projection: the tensors with which CLIP's towers meet, by their own names (text_projection.weight, logit_scale).
    """

    unet: UNet
    vae: AutoencoderKL
    text: ClipText
    tokenizer: ClipTokenizer
    facts: Facts
    vision: ClipVision | None = None
    projection: Mapping[str, Tensor] = field(default_factory=dict["str", "Tensor"])
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def unet_spec(self) -> UNetSpec:
        return self.unet.spec

    @property
    def vae_spec(self) -> VaeSpec:
        return self.vae.spec

    @property
    def text_spec(self) -> TextSpec:
        return self.text.spec

    @property
    def vision_spec(self) -> VisionSpec | None:
        return None if self.vision is None else self.vision.spec

    @property
    def size(self) -> int:
        return self.facts.size or 64 * self.vae.spec.factor

    def tensors(self, part: Part) -> Mapping[str, Tensor]:
        if part == "projection":
            return self.projection
        if part == "vision":
            return {} if self.vision is None else self.vision.state_dict()
        return {"unet": self.unet, "vae": self.vae, "text": self.text}[part].state_dict()


def write_ldm(source: Source, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """One .safetensors file with ldm names, floating tensors as `dtype` (None: as they are).

    What the shapes do not say stands in the metadata (atelier.spec, and atelier.tokenizer where it is not CLIP's own);
    velocity models carry the community's empty tensor `v_pred`. Raises BadInput, BadFile or StorageFull.
    """
    import torch

    from atelier.weights.cast import cast
    from atelier.weights.tokenizer import standard

    tensors: dict[str, Tensor] = {}
    for part in PREFIXES:
        tensors |= cast(_stored(source, part, "ldm", PREFIXES[part]), dtype)
    facts = _complete(source)
    if facts.prediction == "velocity":
        tensors["v_pred"] = torch.empty(0)
    if facts.zero_snr:
        tensors["ztsnr"] = torch.empty(0)
    metadata = {**source.metadata, "format": "pt", "atelier.spec": facts.to_json()}
    if not source.tokenizer.same_as(standard()):
        metadata["atelier.tokenizer"] = source.tokenizer.to_json()
    safetensors.save(path, tensors, metadata)


def write_diffusers(
    source: Source,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    *,
    variant: str | None = None,
    overwrite: bool = False,
) -> None:
    """A folder that diffusers' StableDiffusionPipeline.from_pretrained opens, floating tensors as `dtype`.

    variant: what the weights are called after, as in `from_pretrained(folder, variant="fp16")`; None: plain names. The
    folder appears complete or not at all. Raises BadFile where it exists and may not be overwritten, and BadInput or
    StorageFull.
    """
    try:
        with new_folder(Path(folder), overwrite=overwrite) as place:
            _fill(place, source, dtype, "" if variant is None else f".{variant}")
    except StorageFull as error:
        raise StorageFull(f"{folder}: the disk is full; free some space or choose another place") from error


def _fill(place: Path, source: Source, dtype: torch.dtype | None, variant: str) -> None:
    from atelier.weights.cast import cast

    for part, (name, stem) in PLACES.items():
        tensors = cast(_stored(source, part, "diffusers", ""), dtype)
        if tensors:
            (place / name).mkdir()
            metadata = {**(source.metadata if part == "unet" else {}), "format": "pt"}
            safetensors.save(place / name / f"{stem}{variant}.safetensors", tensors, metadata)
    for name, config in _configs(source).items():
        (place / name).parent.mkdir(exist_ok=True)
        with new_file(place / name) as file:
            file.write((json.dumps(config, indent=2, sort_keys=True) + "\n").encode())
    source.tokenizer.save(place / "tokenizer")


def _stored(source: Source, part: Part, layout: Layout, prefix: str) -> dict[str, Tensor]:
    """One part's tensors as they are stored."""
    from atelier.weights.names import clip, unet, vae
    from atelier.weights.save import stored_as

    tensors, vision = source.tensors(part), source.vision_spec
    if part == "projection":
        return {prefix + name: tensor for name, tensor in tensors.items()}
    names = {
        "unet": lambda: unet.names(source.unet_spec),
        "vae": lambda: vae.names(source.vae_spec),
        "text": lambda: clip.names(source.text_spec),
        "vision": lambda: iter(()) if vision is None else clip.vision_names(vision),
    }[part]()
    return stored_as(tensors, names, layout, prefix)


def _complete(source: Source) -> Facts:
    """The facts with everything that the specs know and the shapes do not."""
    unet, vae, text, vision = source.unet_spec, source.vae_spec, source.text_spec, source.vision_spec
    known = replace(
        source.facts,
        size=source.size,
        unet_heads=unet.heads,
        unet_groups=unet.groups,
        vae_groups=vae.groups,
        text_heads=text.heads,
        text_act=text.act,
        text_eos=text.eos,
    )
    return known if vision is None else replace(known, vision_heads=vision.heads, vision_act=vision.act)


def _configs(source: Source) -> dict[str, dict[str, object]]:
    """The JSON files of a diffusers folder, by their place in it."""
    configs = {
        INDEX: _index(source),
        "unet/config.json": _unet(source.unet_spec, source.size // source.vae_spec.factor),
        "vae/config.json": _vae(source.vae_spec, source.facts, source.size),
        "text_encoder/config.json": _text(source.text_spec, source.tokenizer),
        "scheduler/scheduler_config.json": _scheduler(source.facts),
    }
    vision = source.vision_spec
    return configs if vision is None else {**configs, "image_encoder/config.json": _vision(vision)}


def _pipeline(source: Source) -> str:
    """The class of diffusers that knows what the U-Net is given beside the latent: nothing, a masked picture, a
    picture."""
    latent = source.vae_spec.latent
    beside = source.unet_spec.in_channels - latent
    names = {0: "", latent + 1: "Inpaint", latent: "InstructPix2Pix"}
    if beside not in names:
        raise BadInput(
            f"a U-Net of {beside + latent} channels for a latent of {latent}: diffusers' folder of such a model is not "
            "known here; write one file, which keeps it as it is"
        )
    return f"StableDiffusion{names[beside]}Pipeline"


def _index(source: Source) -> dict[str, object]:
    vision = ["transformers", "CLIPVisionModelWithProjection"] if source.vision_spec is not None else [None, None]
    scale = source.facts.cfg_scale
    return {
        "_class_name": _pipeline(source),
        "_diffusers_version": WRITTEN_FOR,
        **({} if scale is None else {CFG_SCALE: scale}),
        "feature_extractor": [None, None],
        "image_encoder": vision,
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", _text_class(source.text_spec)],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _unet(spec: UNetSpec, sample_size: int) -> dict[str, object]:
    down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in spec.depth]
    up = ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(spec.depth)]
    heads: object = spec.heads[0] if len(set(spec.heads)) == 1 else list(spec.heads)
    return {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": WRITTEN_FOR,
        "act_fn": "silu",
        "attention_head_dim": heads,
        "block_out_channels": list(spec.widths),
        "center_input_sample": False,
        "cross_attention_dim": spec.context,
        "down_block_types": down,
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": spec.in_channels,
        "layers_per_block": spec.blocks,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
        "norm_num_groups": spec.groups,
        "out_channels": spec.out_channels,
        "sample_size": sample_size,
        "transformer_layers_per_block": _depths(spec),
        "up_block_types": up,
        "use_linear_projection": spec.linear_proj,
    }


def _depths(spec: UNetSpec) -> object:
    """diffusers takes the depth of the middle from the last level, whether or not that has transformers itself."""
    if spec.depth[-1] not in {0, spec.mid_depth}:
        raise BadInput(
            f"a middle of {spec.mid_depth} transformer blocks under a last level of {spec.depth[-1]} has no diffusers "
            "layout; write the ldm layout"
        )
    depths = [*(depth or 1 for depth in spec.depth[:-1]), spec.mid_depth]
    return depths[0] if len(set(depths)) == 1 else depths


def _vae(spec: VaeSpec, facts: Facts, size: int) -> dict[str, object]:
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": WRITTEN_FOR,
        "act_fn": "silu",
        "block_out_channels": list(spec.widths),
        "down_block_types": ["DownEncoderBlock2D"] * len(spec.widths),
        "in_channels": spec.in_channels,
        "latent_channels": spec.latent,
        "layers_per_block": spec.blocks,
        "mid_block_add_attention": spec.mid_attention,
        "norm_num_groups": spec.groups,
        "out_channels": spec.out_channels,
        "sample_size": size,
        "scaling_factor": facts.latent_scale,
        "shift_factor": facts.latent_shift or None,
        "up_block_types": ["UpDecoderBlock2D"] * len(spec.widths),
        "use_post_quant_conv": spec.quant_conv,
        "use_quant_conv": spec.quant_conv,
    }


def _text_class(spec: TextSpec) -> str:
    return "CLIPTextModel" if spec.projection is None else "CLIPTextModelWithProjection"


def _text(spec: TextSpec, tokenizer: ClipTokenizer) -> dict[str, object]:
    return {
        "architectures": [_text_class(spec)],
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.bos,
        "eos_token_id": spec.eos,
        "hidden_act": spec.act,
        "hidden_size": spec.width,
        "intermediate_size": spec.mlp,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": spec.positions,
        "model_type": "clip_text_model",
        "num_attention_heads": spec.heads,
        "num_hidden_layers": spec.layers,
        "pad_token_id": tokenizer.pad,
        "projection_dim": spec.projection or spec.width,
        "vocab_size": spec.vocab,
    }


def _vision(spec: VisionSpec) -> dict[str, object]:
    return {
        "architectures": ["CLIPVisionModelWithProjection"],
        "attention_dropout": 0.0,
        "hidden_act": spec.act,
        "hidden_size": spec.width,
        "image_size": spec.image,
        "intermediate_size": spec.mlp,
        "layer_norm_eps": 1e-5,
        "model_type": "clip_vision_model",
        "num_attention_heads": spec.heads,
        "num_channels": 3,
        "num_hidden_layers": spec.layers,
        "patch_size": spec.patch,
        "projection_dim": spec.projection or spec.width,
    }


def _scheduler(facts: Facts) -> dict[str, object]:
    """DDIM: deterministic, and it knows every kind of prediction."""
    return {
        "_class_name": "DDIMScheduler",
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
        "timestep_spacing": "trailing" if facts.zero_snr else "leading",
    }
