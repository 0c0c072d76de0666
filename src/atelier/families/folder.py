"""Reading the folders that diffusers writes: where the weights lie, and what the configurations beside them say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from atelier.errors import BadFile
from atelier.families.config import Config
from atelier.families.facts import ACTIVATIONS, BETA_SCHEDULES, Facts, prediction_named
from atelier.families.family import Part
from atelier.weights.archive import Archive, open_file, open_index

PLACES: Mapping[Part, tuple[str, str]] = MappingProxyType(
    {
        "unet": ("unet", "diffusion_pytorch_model"),
        "vae": ("vae", "diffusion_pytorch_model"),
        "text": ("text_encoder", "model"),
        "vision": ("image_encoder", "model"),
        "projection": ("projection", "model"),
    }
)
"""Each part's folder and the stem of its weights."""

REQUIRED = frozenset({"unet", "vae", "text"})
INDEX = "model_index.json"
CFG_SCALE = "_cfg_scale"
"""Ours, in the index; diffusers passes over keys that begin so."""
VARIANTS = ("fp16", "bf16", "fp32", "non_ema")
PICKLED = (".bin", ".ckpt", ".pt")
LEGACY_EOS = 2
"""transformers' early configurations of CLIP say 2 and mean the largest id."""

_SILU = ("silu", "swish")

UNET_SUPPORTED: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "_class_name": ("UNet2DConditionModel",),
        "act_fn": _SILU,
        "addition_embed_type": (None,),
        "attention_type": ("default",),
        "center_input_sample": (False,),
        "class_embed_type": (None,),
        "conv_in_kernel": (3,),
        "conv_out_kernel": (3,),
        "cross_attention_norm": (None,),
        "downsample_padding": (1,),
        "dual_cross_attention": (False,),
        "encoder_hid_dim": (None,),
        "encoder_hid_dim_type": (None,),
        "flip_sin_to_cos": (True,),
        "freq_shift": (0,),
        "mid_block_scale_factor": (1,),
        "mid_block_type": ("UNetMidBlock2DCrossAttn", None),
        "norm_eps": (1e-5,),
        "num_class_embeds": (None,),
        "only_cross_attention": (False,),
        "resnet_out_scale_factor": (1.0,),
        "resnet_skip_time_act": (False,),
        "resnet_time_scale_shift": ("default",),
        "time_cond_proj_dim": (None,),
        "time_embedding_act_fn": (None,),
        "time_embedding_dim": (None,),
        "time_embedding_type": ("positional",),
        "timestep_post_act": (None,),
    }
)
"""What a U-Net's configuration may say; anything else is another network than ours."""

VAE_SUPPORTED: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "_class_name": ("AutoencoderKL",),
        "act_fn": _SILU,
        "latents_mean": (None,),
        "latents_std": (None,),
    }
)


def archive_in(folder: Path, stem: str, variant: str | None = None) -> Archive:
    """The weights called `stem` in a folder: whole or in shards, plain or as a variant (fp16, …), plain ones first.

    `variant` asks for one and no other. Raises BadFile, also where only pickled weights lie.
    """
    wanted = (variant,) if variant is not None else (None, *VARIANTS)
    for name in wanted:
        for path in _spellings(folder, stem, name):
            if path.is_file():
                return open_index(path) if path.suffix == ".json" else open_file(path)
    sort = "" if variant is None else f" of the variant {variant}"
    pickled = [path.name for path in sorted(folder.glob("*")) if path.suffix in PICKLED]
    also = f"; {pickled[0]} is pickled, and only safetensors files are read" if pickled else ""
    missing = _spellings(folder, stem, variant)[0].name
    others = sorted(path.name for path in folder.glob(f"{stem}*.safetensors"))
    also = f"; {', '.join(others[:3])} {'is' if len(others) == 1 else 'are'} there" if others else also
    raise BadFile(folder, f"holds no weights{sort}: {missing} is not there{also}")


def _spellings(folder: Path, stem: str, variant: str | None) -> tuple[Path, ...]:
    if variant is None:
        return folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    names = (
        f"{stem}.{variant}.safetensors",
        f"{stem}.safetensors.index.{variant}.json",
        f"{stem}.{variant}.safetensors.index.json",
    )
    return tuple(folder / name for name in names)


def archives(folder: Path, variant: str | None = None) -> dict[Part, Archive]:
    """The weights of every part; those of the optional ones only where their folder is."""
    found: dict[Part, Archive] = {}
    for part, (name, stem) in PLACES.items():
        if (folder / name).is_dir() or part in REQUIRED:
            found[part] = archive_in(folder / name, stem, variant)
    return found


def facts(folder: Path, found: Mapping[Part, Archive]) -> Facts:
    """What the configurations say. Raises BadFile for what cannot be built here, or does not agree with the weights."""
    index = Facts(cfg_scale=Config.read(folder / INDEX).scale(CFG_SCALE))
    known = _with_schedule(index, Config.read(folder / "scheduler" / "scheduler_config.json"))
    vae = Config.read(folder / "vae" / "config.json")
    known = _with_vae(known, vae, found["vae"])
    known = _with_unet(known, Config.read(folder / "unet" / "config.json"), found["unet"], _factor(vae))
    known = _with_text(known, Config.read(folder / "text_encoder" / "config.json"), found["text"])
    if "vision" not in found:
        return known
    return _with_vision(known, Config.read(folder / "image_encoder" / "config.json"))


def _with_schedule(known: Facts, config: Config) -> Facts:
    config.only({"trained_betas": (None,)})
    said = config.values.get("prediction_type", "epsilon")
    prediction = prediction_named(said) if isinstance(said, str) else None
    if prediction is None:
        raise config.wrong("prediction_type", "epsilon or v_prediction")
    return replace(
        known,
        prediction=prediction,
        beta_schedule=config.choice("beta_schedule", BETA_SCHEDULES),
        beta_start=config.number("beta_start", 0.0001),
        beta_end=config.number("beta_end", 0.02),
        timesteps=config.whole("num_train_timesteps", 1000),
        zero_snr=config.flag("rescale_betas_zero_snr", default=False),
    )


def _with_vae(known: Facts, config: Config, archive: Archive) -> Facts:
    config.only(VAE_SUPPORTED)
    _agrees(config, "latent_channels", archive, "decoder.conv_in.weight", 1)
    _agrees_widths(config, archive, "encoder.down_blocks.{}.resnets.0.conv2.weight")
    return replace(
        known,
        vae_groups=config.whole("norm_num_groups", 32),
        latent_scale=config.number("scaling_factor", 0.18215),
        latent_shift=config.number("shift_factor", 0.0, low=-1e6),
    )


def _factor(vae: Config) -> int:
    return 2 ** (len(vae.wholes("block_out_channels", (1,))) - 1)


def _with_unet(known: Facts, config: Config, archive: Archive, factor: int) -> Facts:
    """`attention_head_dim` is the number of heads, in spite of its name; newer files have a field for it."""
    config.only(UNET_SUPPORTED)
    _agrees(config, "in_channels", archive, "conv_in.weight", 1)
    _agrees(config, "out_channels", archive, "conv_out.weight", 0)
    context = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    _agrees(config, "cross_attention_dim", archive, context, 1)
    _agrees_widths(config, archive, "down_blocks.{}.resnets.0.conv2.weight")
    return replace(
        known,
        size=config.wholes("sample_size", (64,))[0] * factor,
        unet_heads=config.wholes("num_attention_heads", config.wholes("attention_head_dim", (8,))),
        unet_groups=config.whole("norm_num_groups", 32),
    )


def _with_text(known: Facts, config: Config, archive: Archive) -> Facts:
    config.only({"layer_norm_eps": (1e-5,)})
    root = "text_model." if any(name.startswith("text_model.") for name in archive.tensors) else ""
    _agrees(config, "vocab_size", archive, f"{root}embeddings.token_embedding.weight", 0)
    _agrees(config, "hidden_size", archive, f"{root}embeddings.token_embedding.weight", 1)
    eos = config.optional("eos_token_id")
    return replace(
        known,
        text_heads=config.whole("num_attention_heads", 8),
        text_act=config.choice("hidden_act", ACTIVATIONS),
        text_eos=None if eos == LEGACY_EOS else eos,
    )


def _with_vision(known: Facts, config: Config) -> Facts:
    config.only({"layer_norm_eps": (1e-5,)})
    heads, act = config.whole("num_attention_heads", 12), config.choice("hidden_act", ACTIVATIONS)
    return replace(known, vision_heads=heads, vision_act=act)


def _agrees(config: Config, key: str, archive: Archive, name: str, axis: int) -> None:
    """Where the tensor is missing or misshapen, reading the spec says so better."""
    shape = archive.tensors[name].shape if name in archive.tensors else ()
    if axis < len(shape):
        config.agrees(key, shape[axis])


def _agrees_widths(config: Config, archive: Archive, pattern: str) -> None:
    widths: list[int] = []
    while (name := pattern.format(len(widths))) in archive.tensors and archive.tensors[name].shape:
        widths.append(archive.tensors[name].shape[0])
    config.agrees("block_out_channels", widths)
