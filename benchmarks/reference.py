"""diffusers' and transformers' networks of Stable Diffusion 1.x's shape, and ours with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from atelier.models.clip import ClipText, TextSpec
from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.weights.load import load_into
from atelier.weights.names import clip, unet, vae
from atelier.weights.names.name import Name


def unet_of(spec: UNetSpec) -> Any:
    """diffusers' U-Net of this shape, freshly initialised."""
    from diffusers import UNet2DConditionModel

    cross = [depth > 0 for depth in spec.depth]
    return UNet2DConditionModel(
        in_channels=spec.in_channels,
        out_channels=spec.out_channels,
        block_out_channels=spec.widths,
        layers_per_block=spec.blocks,
        down_block_types=tuple("CrossAttnDownBlock2D" if c else "DownBlock2D" for c in cross),
        up_block_types=tuple("CrossAttnUpBlock2D" if c else "UpBlock2D" for c in reversed(cross)),
        transformer_layers_per_block=tuple(max(depth, 1) for depth in spec.depth),
        attention_head_dim=spec.heads,
        cross_attention_dim=spec.context,
        norm_num_groups=spec.groups,
        use_linear_projection=spec.linear_proj,
        addition_embed_type=None if spec.vector is None else "text_time",
        addition_time_embed_dim=spec.size_width,
        projection_class_embeddings_input_dim=spec.vector,
    )


def without_values(build: Callable[[], nn.Module]) -> nn.Module:
    """A network of diffusers with memory for its tensors and nothing in it yet, but what norms and biases begin with.

    Filling two and a half thousand million numbers that are replaced at once takes minutes. Only for networks that keep
    nothing but parameters.
    """
    with torch.device("meta"):
        net = build()
    net = net.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(float(name.endswith("weight")))
    return net


def vae_of(spec: VaeSpec) -> Any:
    """diffusers' autoencoder of this shape, freshly initialised."""
    from diffusers import AutoencoderKL as Reference

    return Reference(
        in_channels=spec.in_channels,
        out_channels=spec.out_channels,
        latent_channels=spec.latent,
        block_out_channels=spec.widths,
        layers_per_block=spec.blocks,
        down_block_types=("DownEncoderBlock2D",) * len(spec.widths),
        up_block_types=("UpDecoderBlock2D",) * len(spec.widths),
        norm_num_groups=spec.groups,
    )


def text_of(spec: TextSpec) -> Any:
    """transformers' CLIP text model of this shape, freshly initialised; with a projection where the spec has one."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    kind = CLIPTextModel if spec.projection is None else CLIPTextModelWithProjection
    return kind(
        CLIPTextConfig(
            projection_dim=spec.projection or spec.width,
            vocab_size=spec.vocab,
            hidden_size=spec.width,
            intermediate_size=spec.mlp,
            num_hidden_layers=spec.layers,
            num_attention_heads=spec.heads,
            max_position_embeddings=spec.positions,
            hidden_act=spec.act,
            bos_token_id=spec.eos - 1,
            eos_token_id=spec.eos,
            pad_token_id=spec.eos,
        )
    )


def randomise(net: nn.Module, seed: int) -> None:
    """Fills every parameter: matrices with noise of 1 / fan-in variance, vectors with noise around what is there.

    Fresh networks have norms of ones, biases of zeros and output layers that hide what comes before them.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5, generator=generator)
            else:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def ours_unet(theirs: nn.Module, spec: UNetSpec) -> UNet:
    return load_into(lambda: UNet(spec), renamed(theirs, list(unet.names(spec))))


def ours_vae(theirs: nn.Module, spec: VaeSpec) -> AutoencoderKL:
    return load_into(lambda: AutoencoderKL(spec), renamed(theirs, list(vae.names(spec))))


def ours_text(theirs: nn.Module, spec: TextSpec) -> ClipText:
    return load_into(lambda: ClipText(spec), renamed(theirs, list(clip.names(spec))))


def renamed(theirs: nn.Module, names: list[Name]) -> dict[str, Tensor]:
    """The tensors themselves, not copies, under our names. Raises KeyError for one that is missing."""
    state = theirs.state_dict()
    found: dict[str, Tensor] = {}
    for name in names:
        spelling = next(s for s in name.spellings("diffusers") if s in state)
        found[name.ours] = state[spelling].detach()
    return found


def foreign(ours: nn.Module, spec: UNetSpec) -> dict[str, Tensor]:
    """The other way round: the tensors of our U-Net under diffusers' names."""
    state = ours.state_dict()
    return {name.diffusers: state[name.ours] for name in unet.names(spec)}
