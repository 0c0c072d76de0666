"""What a file is when it is no checkpoint that can be opened: told from the names of its tensors."""

from __future__ import annotations

from collections.abc import Collection

_WHOLE = "which cannot be read yet; Stable Diffusion 1.x, 2.x, XL and 3 can"
_PART = "and no whole checkpoint; give a file or folder with U-Net, autoencoder and text encoder"

_BEGINNINGS = (
    ("depth_model.", f"is the depth model of Stable Diffusion 2.x, {_WHOLE}"),
    ("noise_augmentor.", f"is an unCLIP model of Stable Diffusion 2.x, {_WHOLE}"),
    ("low_scale_model.", f"is the upscaler of Stable Diffusion 2.x, {_WHOLE}"),
    ("cond_stage_model.model.", f"is the text encoder of Stable Diffusion 2.x, {_PART}"),
    ("conditioner.embedders.", f"is a text encoder of Stable Diffusion XL, {_PART}"),
    ("model.diffusion_model.joint_blocks.", "is a Stable Diffusion 3 checkpoint that lacks tensors; get it again"),
    ("joint_blocks.", f"is the network of Stable Diffusion 3 alone, {_PART}"),
    ("transformer_blocks.0.norm1_context.", f"is the network of Stable Diffusion 3 alone, {_PART}"),
    ("encoder.block.0.layer.0.SelfAttention.", f"is a T5 text encoder alone, {_PART}"),
    ("model.diffusion_model.double_blocks.", f"is a Flux checkpoint, {_WHOLE}"),
    ("double_blocks.", f"is the network of Flux, {_WHOLE}"),
    ("control_model.", f"is a ControlNet, {_PART}"),
    ("controlnet_cond_embedding.", f"is a ControlNet, {_PART}"),
    ("lora_unet_", f"is a LoRA, {_PART}"),
    ("lora_te", f"is a LoRA, {_PART}"),
    ("image_proj", f"is an IP-Adapter, {_PART}"),
    ("emb_params", f"is a textual inversion, {_PART}"),
    ("model.diffusion_model.", "is a checkpoint without text encoder; give a file that has one"),
    ("down_blocks.", f"is a U-Net alone, {_PART}"),
    ("text_model.", f"is a text encoder alone, {_PART}"),
    ("vision_model.", f"is an image encoder alone, {_PART}"),
    ("first_stage_model.", f"is an autoencoder alone, {_PART}"),
    ("encoder.conv_in.", f"is an autoencoder alone, {_PART}"),
)
_INNER = (
    (".lora_", f"is a LoRA, {_PART}"),
    (".lora.", f"is a LoRA, {_PART}"),
    (".hada_", f"is a LyCORIS adapter, {_PART}"),
    (".lokr_", f"is a LyCORIS adapter, {_PART}"),
)


def describe(names: Collection[str]) -> str:
    """One line, to follow the path: what the file is as far as its names tell, and what is needed instead."""
    for marks, found_in in ((_INNER, str.__contains__), (_BEGINNINGS, str.startswith)):
        for mark, what in marks:
            if any(found_in(name, mark) for name in names):
                return what
    if not names:
        return "holds no tensors"
    return "is no checkpoint of a known family: its tensors have other names"
