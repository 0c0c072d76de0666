"""A very small Stable Diffusion with random weights, written as a diffusers folder.

Nothing of Atelier is used, so that the folder is the same whatever changes there. Each tensor is a function of its
name: raw numbers of Philox, whose key is the hash of the name.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

Shaped = Iterator[tuple[str, tuple[int, ...]]]
"""Names of tensors, and their shapes."""

LATENT, GROUPS = 4, 8
UNET_WIDTHS, UNET_HEADS = (32, 48), (2, 3)
VAE_WIDTHS = (16, 16, 24, 32)
TEXT_WIDTH, TEXT_LAYERS, TEXT_MLP, POSITIONS = 40, 3, 96, 77
SIDE = 64
"""Of the images it is said to have been trained on, in pixels; a latent is 8 times smaller."""
MERGES = ("r e", "re d</w>", "c a", "ca t</w>", "d o", "do g</w>", "a p", "ap p", "app l", "appl e</w>")
START, END = "<|startoftext|>", "<|endoftext|>"


def write(folder: Path) -> None:
    """Writes the model into `folder`, which is made."""
    tokens = _vocabulary()
    _json(folder / "model_index.json", _index())
    _json(folder / "scheduler" / "scheduler_config.json", _scheduler())
    _tokenizer(folder / "tokenizer", tokens)
    _part(folder / "text_encoder", "model", _text_config(len(tokens)), _text(len(tokens)))
    _part(folder / "unet", "diffusion_pytorch_model", _unet_config(), _unet())
    _part(folder / "vae", "diffusion_pytorch_model", _vae_config(), _vae())


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 tensor, uniform: unit gain for layers, about 1 for the scales of norms, small for biases."""
    key = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], "<u8")
    raw = np.random.Philox(key=key).random_raw(math.prod(shape))
    unit = ((raw >> 40).astype(np.float32) / np.float32(2**23) - 1) * np.float32(3**0.5)
    if len(shape) > 1:
        return unit.reshape(shape) * np.float32(1 / math.sqrt(math.prod(shape[1:])))
    return np.float32(name.endswith("weight")) + np.float32(0.1) * unit


def _part(folder: Path, stem: str, config: Mapping[str, object], shapes: Shaped) -> None:
    _json(folder / "config.json", config)
    tensors = {name: weight(f"{folder.name}.{name}", shape) for name, shape in shapes}
    (folder / f"{stem}.safetensors").write_bytes(_safetensors(tensors))


def _safetensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The length of the header in 8 bytes, the header as JSON, then the tensors one after the other."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    blocks = [tensor.astype("<f4").tobytes() for tensor in tensors.values()]
    at = 0
    for (name, tensor), block in zip(tensors.items(), blocks, strict=True):
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + len(block)]}
        at += len(block)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *blocks])


def _json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _vocabulary() -> tuple[str, ...]:
    """Tokens in CLIP's order: bytes as GPT-2's letters, bytes at the end of a word, merges, the two marks."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    return (*letters, *(f"{letter}</w>" for letter in letters), *(m.replace(" ", "") for m in MERGES), START, END)


def _tokenizer(folder: Path, tokens: tuple[str, ...]) -> None:
    marks = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    _json(folder / "vocab.json", {token: number for number, token in enumerate(tokens)})
    _json(folder / "special_tokens_map.json", marks)
    own = {"model_max_length": POSITIONS, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    _json(folder / "tokenizer_config.json", {**marks, **own})
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")


def _index() -> dict[str, object]:
    nothing = [None, None]
    return {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.30.0",
        "feature_extractor": nothing,
        "image_encoder": nothing,
        "requires_safety_checker": False,
        "safety_checker": nothing,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _scheduler() -> dict[str, object]:
    """The noise levels of Stable Diffusion 1.x."""
    return {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.30.0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }


def _text_config(vocabulary: int) -> dict[str, object]:
    return {
        "architectures": ["CLIPTextModel"],
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "hidden_act": "gelu",
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": TEXT_MLP,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": POSITIONS,
        "model_type": "clip_text_model",
        "num_attention_heads": 2,
        "num_hidden_layers": TEXT_LAYERS,
        "pad_token_id": vocabulary - 1,
        "projection_dim": TEXT_WIDTH,
        "vocab_size": vocabulary,
    }


def _unet_config() -> dict[str, object]:
    return {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": "0.30.0",
        "act_fn": "silu",
        "attention_head_dim": list(UNET_HEADS),
        "block_out_channels": list(UNET_WIDTHS),
        "cross_attention_dim": TEXT_WIDTH,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "in_channels": LATENT,
        "layers_per_block": 1,
        "norm_eps": 1e-5,
        "norm_num_groups": GROUPS,
        "out_channels": LATENT,
        "sample_size": SIDE // 8,
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "use_linear_projection": True,
    }


def _vae_config() -> dict[str, object]:
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": "0.30.0",
        "act_fn": "silu",
        "block_out_channels": list(VAE_WIDTHS),
        "down_block_types": ["DownEncoderBlock2D"] * len(VAE_WIDTHS),
        "in_channels": 3,
        "latent_channels": LATENT,
        "layers_per_block": 1,
        "norm_num_groups": GROUPS,
        "out_channels": 3,
        "sample_size": SIDE,
        "scaling_factor": 0.18215,
        "up_block_types": ["UpDecoderBlock2D"] * len(VAE_WIDTHS),
    }


def _layer(name: str, *shape: int) -> Shaped:
    """A layer's weight and bias; of a norm, whose shape is one number, both have it."""
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _conv(name: str, inputs: int, outputs: int, side: int = 3) -> Shaped:
    yield from _layer(name, outputs, inputs, side, side)


def _text(vocabulary: int) -> Shaped:
    root = "text_model"
    yield f"{root}.embeddings.token_embedding.weight", (vocabulary, TEXT_WIDTH)
    yield f"{root}.embeddings.position_embedding.weight", (POSITIONS, TEXT_WIDTH)
    for i in range(TEXT_LAYERS):
        layer = f"{root}.encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _layer(f"{layer}.self_attn.{name}", TEXT_WIDTH, TEXT_WIDTH)
        yield from _layer(f"{layer}.layer_norm1", TEXT_WIDTH)
        yield from _layer(f"{layer}.mlp.fc1", TEXT_MLP, TEXT_WIDTH)
        yield from _layer(f"{layer}.mlp.fc2", TEXT_WIDTH, TEXT_MLP)
        yield from _layer(f"{layer}.layer_norm2", TEXT_WIDTH)
    yield from _layer(f"{root}.final_layer_norm", TEXT_WIDTH)


def _unet() -> Shaped:
    """One residual block on each level on the way down, two on the way up; a transformer behind each of them."""
    low, high = UNET_WIDTHS
    yield from _conv("conv_in", LATENT, low)
    yield from _layer("time_embedding.linear_1", 4 * low, low)
    yield from _layer("time_embedding.linear_2", 4 * low, 4 * low)
    yield from _attended("down_blocks.0", 0, low, low)
    yield from _conv("down_blocks.0.downsamplers.0.conv", low, low)
    yield from _attended("down_blocks.1", 0, low, high)
    yield from _resnet("mid_block.resnets.0", high, high, time=True)
    yield from _transformer("mid_block.attentions.0", high)
    yield from _resnet("mid_block.resnets.1", high, high, time=True)
    yield from _attended("up_blocks.0", 0, high + high, high)
    yield from _attended("up_blocks.0", 1, high + low, high)
    yield from _conv("up_blocks.0.upsamplers.0.conv", high, high)
    yield from _attended("up_blocks.1", 0, high + low, low)
    yield from _attended("up_blocks.1", 1, low + low, low)
    yield from _layer("conv_norm_out", low)
    yield from _conv("conv_out", low, LATENT)


def _attended(block: str, number: int, inputs: int, outputs: int) -> Shaped:
    yield from _resnet(f"{block}.resnets.{number}", inputs, outputs, time=True)
    yield from _transformer(f"{block}.attentions.{number}", outputs)


def _transformer(name: str, width: int) -> Shaped:
    inner = f"{name}.transformer_blocks.0"
    yield from _layer(f"{name}.norm", width)
    yield from _layer(f"{name}.proj_in", width, width)
    for i, context in ((1, width), (2, TEXT_WIDTH)):
        yield from _layer(f"{inner}.norm{i}", width)
        yield f"{inner}.attn{i}.to_q.weight", (width, width)
        yield f"{inner}.attn{i}.to_k.weight", (width, context)
        yield f"{inner}.attn{i}.to_v.weight", (width, context)
        yield from _layer(f"{inner}.attn{i}.to_out.0", width, width)
    yield from _layer(f"{inner}.norm3", width)
    yield from _layer(f"{inner}.ff.net.0.proj", 8 * width, width)
    yield from _layer(f"{inner}.ff.net.2", width, 4 * width)
    yield from _layer(f"{name}.proj_out", width, width)


def _resnet(name: str, inputs: int, outputs: int, *, time: bool = False) -> Shaped:
    yield from _layer(f"{name}.norm1", inputs)
    yield from _conv(f"{name}.conv1", inputs, outputs)
    if time:
        yield from _layer(f"{name}.time_emb_proj", outputs, 4 * UNET_WIDTHS[0])
    yield from _layer(f"{name}.norm2", outputs)
    yield from _conv(f"{name}.conv2", outputs, outputs)
    if inputs != outputs:
        yield from _conv(f"{name}.conv_shortcut", inputs, outputs, 1)


def _vae() -> Shaped:
    yield from _encoder()
    yield from _decoder()
    yield from _conv("quant_conv", 2 * LATENT, 2 * LATENT, 1)
    yield from _conv("post_quant_conv", LATENT, LATENT, 1)


def _encoder() -> Shaped:
    before, last = VAE_WIDTHS[0], len(VAE_WIDTHS) - 1
    yield from _conv("encoder.conv_in", 3, before)
    for i, width in enumerate(VAE_WIDTHS):
        yield from _resnet(f"encoder.down_blocks.{i}.resnets.0", before, width)
        if i < last:
            yield from _conv(f"encoder.down_blocks.{i}.downsamplers.0.conv", width, width)
        before = width
    yield from _middle("encoder")
    yield from _layer("encoder.conv_norm_out", before)
    yield from _conv("encoder.conv_out", before, 2 * LATENT)


def _decoder() -> Shaped:
    before, last = VAE_WIDTHS[-1], len(VAE_WIDTHS) - 1
    yield from _conv("decoder.conv_in", LATENT, before)
    yield from _middle("decoder")
    for i, width in enumerate(reversed(VAE_WIDTHS)):
        yield from _resnet(f"decoder.up_blocks.{i}.resnets.0", before, width)
        yield from _resnet(f"decoder.up_blocks.{i}.resnets.1", width, width)
        if i < last:
            yield from _conv(f"decoder.up_blocks.{i}.upsamplers.0.conv", width, width)
        before = width
    yield from _layer("decoder.conv_norm_out", before)
    yield from _conv("decoder.conv_out", before, 3)


def _middle(half: str) -> Shaped:
    width, block = VAE_WIDTHS[-1], f"{half}.mid_block"
    yield from _resnet(f"{block}.resnets.0", width, width)
    yield from _layer(f"{block}.attentions.0.group_norm", width)
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        yield from _layer(f"{block}.attentions.0.{name}", width, width)
    yield from _resnet(f"{block}.resnets.1", width, width)
