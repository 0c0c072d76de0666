"""Families that are known by name only: their networks, adapters and autoencoders are told apart and refused.

A family is told by names that none of ours has, those of its authors or those of diffusers. Only what several of them
share needs more than one. The entries are asked in order, so that those who borrow another family's blocks come first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from atelier.checkpoints.kind import Seen

Marks = tuple[str, ...]
"""Parts of names that a file must all have; behind the end of a line, what a name begins with."""

DENOISERS: tuple[tuple[str, Marks], ...] = (
    ("chroma", ("distilled_guidance_layer.",)),
    ("flux2", ("double_stream_modulation_img.",)),
    ("hunyuan_video", ("individual_token_refiner.", "\nvision_in.")),
    ("hunyuan_image", ("individual_token_refiner.", "\nbyt5_in.")),
    ("hunyuan_image", ("context_embedder.token_refiner.", "\ntime_guidance_embed.")),
    ("hunyuan_video", ("individual_token_refiner.",)),
    ("hunyuan_video", ("context_embedder.token_refiner.",)),
    ("bria", ("single_transformer_blocks.", "\ntime_embed.timestep_embedder.")),
    ("auraflow", ("joint_transformer_blocks.",)),
    ("auraflow", ("double_layers.",)),
    ("flux", ("double_blocks.",)),
    ("flux", ("single_transformer_blocks.",)),
    ("hidream", ("double_stream_blocks.",)),
    ("hunyuan_dit", ("mlp_t5.",)),
    ("hunyuan_dit", ("time_extra_emb.",)),
    ("ltx_video", ("patchify_proj.",)),
    ("ltx_video", ("caption_projection.", "\nproj_in.weight")),
    ("sana", ("blocks.0.ff.conv_inverted.",)),
    ("sana", ("blocks.0.mlp.inverted_conv.",)),
    ("latte", ("\ntemporal_transformer_blocks.",)),
    ("cascade", ("clip_txt_mapper.",)),
    ("cascade", ("clip_txt_pooled_mapper.",)),
    ("cascade", ("effnet_mapper.",)),
    ("qwen_image", ("txt_norm.", "img_mod.")),
    ("omnigen", ("ref_image_refiner.",)),
    ("omnigen", ("input_image_proj.",)),
    ("omnigen", ("input_x_embedder.",)),
    ("z_image", ("cap_pad_token",)),
    ("lumina", ("cap_embedder.",)),
    ("lumina", ("time_caption_embed.",)),
    ("wan", ("\npatch_embedding.weight", "text_embedding.0.")),
    ("wan", ("\npatch_embedding.weight", "condition_embedder.text_embedder.")),
    ("mochi", ("t5_yproj.",)),
    ("mochi", ("time_embed.pooler.",)),
    ("cogview", ("time_condition_embed.", "patch_embed.text_proj.")),
    ("cogvideox", ("patch_embed.text_proj.", "time_embedding.")),
    ("cosmos", ("blocks.block0.",)),
    ("cosmos", ("learnable_pos_embed.",)),
    ("cosmos", ("adaln_modulation_cross_attn.",)),
    ("kandinsky", ("visual_transformer_blocks.",)),
    ("stable_audio", ("cross_attention_proj.", "preprocess_conv.")),
    ("stable_audio", ("to_cond_embed.", "to_timestep_embed.")),
    ("dit", (".norm1.emb.class_embedder.",)),
    ("dit", ("\ny_embedder.embedding_table.weight", "adaLN_modulation.")),
    ("amused", ("\nmlm_layer.",)),
    ("unclip_prior", ("prd_embedding",)),
    ("unclip_prior", ("prior_embedding",)),
    ("pixart", ("adaln_single.", "pos_embed.proj.")),
    ("pixart", ("adaln_single.",)),
    ("pixart", ("\nt_block.",)),
    ("pixart", ("caption_projection.",)),
)

AUTOENCODERS: tuple[tuple[str, Marks], ...] = (
    ("svd", (".time_stack.",)),
    ("svd", ("time_conv_out.",)),
    ("svd", (".temporal_res_block.",)),
    ("allegro", (".temp_convs.",)),
    ("flux2", ("\nbn.running_mean",)),
    ("cosmos", ("coder.conv_in.conv_s.",)),
    ("cogvideox", ("decoder.norm_out.conv_y.",)),
    ("mochi", ("decoder.block_in.",)),
    ("ltx_video", ("per_channel_statistics.",)),
    ("ltx_video", ("latents_mean", "coder.conv_in.conv.")),
    ("hunyuan_video", ("coder.conv_in.conv.", "quant_conv.")),
    ("wan", ("decoder.middle.0.residual.0.gamma",)),
    ("wan", ("decoder.mid_block.", "decoder.norm_out.gamma")),
    ("hunyuan_image", ("encoder.down_blocks.0.norm1.", "decoder.up_blocks.0.conv1.")),
    ("sana", ("encoder.down_blocks.0.0.", "decoder.up_blocks.0.0.")),
    ("stable_audio", ("encoder.block.0.res_unit1.",)),
    ("stable_audio", ("decoder.layers.1.layers.0.alpha",)),
)

MODULES: tuple[tuple[str, str], ...] = (
    ("hidream", r"double_stream_blocks[._]"),
    ("hunyuan_video", r"individual_token_refiner|double_blocks\.\d+\.img_attn_qkv|token_refiner[._]refiner_blocks"),
    ("chroma", r"distilled_guidance_layer"),
    ("auraflow", r"joint_transformer_blocks[._]|double_layers[._]"),
    ("flux", r"double_blocks[._]|single_blocks[._]|single_transformer_blocks[._]"),
    ("qwen_image", r"transformer_blocks[._]\d+[._](?:img|txt)_(?:mlp|mod)[._]"),
    ("wan", r"(?:^|[._])blocks[._]\d+[._](?:self|cross)_attn[._][qkvo](?:_img)?$"),
    ("wan", r"^transformer\.blocks\.\d+\.(?:attn[12]\.to_|ffn\.)"),
    ("lumina", r"layers[._]\d+[._]attention[._]qkv|cap_embedder[._]"),
    ("z_image", r"layers[._]\d+[._](?:attention[._]to_|feed_forward[._]w\d)"),
    ("cascade", r"lora_prior_|channelwise|kv_mapper|attention[._]attn[._](?:in_proj|to_q|out_proj)"),
    ("sana", r"transformer_blocks[._]\d+[._]ff[._]conv_(?:inverted|point)|inverted_conv"),
    ("pixart", r"adaln_single[._]"),
    ("hunyuan_dit", r"mlp_t5[._]"),
)
"""What adapters of these families call the layers that they change; dots may be underscores."""
PLAIN_WIDTHS = {1152: "pixart", 2240: "sana", 2048: "ltx_video", 4096: "ltx_video", 1408: "hunyuan_dit"}
"""By the width of transformers whose adapters have layers of no name of their own (attn1, attn2)."""
JOINT_WIDTHS = {1536: "sd3", 2432: "sd3", 3072: "flux"}
"""By the width of transformers that read image and text in one attention."""


def stranger(seen: Seen) -> str | None:
    """The family of a denoiser that is only known by name."""
    return _first(seen, DENOISERS)


def strange_autoencoder(seen: Seen) -> str | None:
    """The family of an autoencoder whose layers are others than ours."""
    return _first(seen, AUTOENCODERS)


def strange_module(names: Iterable[str]) -> str | None:
    """The family of the layers that an adapter changes, where their names tell it."""
    text = "\n".join(names)
    return next((family for family, pattern in MODULES if re.search(pattern, text, re.MULTILINE)), None)


def _first(seen: Seen, entries: Iterable[tuple[str, Marks]]) -> str | None:
    return next((family for family, marks in entries if all(seen.holds(mark) for mark in marks)), None)
