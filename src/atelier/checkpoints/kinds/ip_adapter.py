"""IP-Adapters of all variants, InstantID's among them, and PhotoMakers."""

from __future__ import annotations

from atelier.checkpoints.kind import Identity, Kind, Seen

TO_K = r"(?:ip_adapter\.\d+|[\w.]*processor)\.to_k_ip(?:\.0)?\.weight"
CONTEXTS = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
FLUX = ("ip_adapter_double_stream_k_proj", "ip_adapter_proj_model.")
PULID = ("pulid_ca.", "pulid_encoder.", "id_adapter.", "id_adapter_attn_layers.")
FACE = 512
"""Width of the vectors that describe faces."""
BIGG = 1280
PORTRAIT_TOKENS = 16
SAVED = ("encoder_hid_proj.image_projection_layers.0.", "unet.encoder_hid_proj.image_projection_layers.0.")
"""Where diffusers keeps the projection of one that it has loaded."""
WHOLE = ("conv_in.", "unet.conv_in.", "model.diffusion_model.", "input_blocks.")
"""What a model begins with that has one loaded."""


def recognise(seen: Seen) -> Identity | None:
    if seen.holds(*FLUX):
        return Identity("ip_adapter", "flux", "base")
    if seen.starts(*PULID):
        return Identity("ip_adapter", "flux" if seen.starts("pulid_ca.") else "sdxl", "pulid")
    if not seen.starts("image_proj.", "ip_adapter.") and not seen.holds(".to_k_ip."):
        return None
    if seen.starts(*WHOLE):
        return None
    shape = seen.find(TO_K)
    width = 0 if shape is None else shape[1]
    family = CONTEXTS.get(width) or ("sd3" if seen.holds(".norm_ip_k", ".ip_adapter.") else None)
    saved = next((own for prefix in SAVED if (own := seen.below(prefix)).shapes), None)
    if saved is not None:
        return Identity("ip_adapter", family, _saved_variant(saved, width))
    return Identity("ip_adapter", family, _variant(seen.below("image_proj."), width, lora=seen.holds("_lora.down.")))


def _variant(proj: Seen, width: int, *, lora: bool) -> str:
    """From what becomes of the image: one layer, a perceiver, or layers that read a face."""
    if proj.starts("perceiver_resampler."):
        return "faceid_plus"
    if proj.has("latents"):
        return _of_perceiver(proj)
    if proj.has("proj.3.weight"):
        return "full_face"
    if proj.has("proj.0.weight"):
        return "faceid" if lora else _of_layers(proj.extent("proj.2.weight", 0), width)
    return _of_one_layer(proj.extent("proj.weight", 1))


def _saved_variant(proj: Seen, width: int) -> str:
    """The same in diffusers' names."""
    if proj.has("proj.net.2.weight"):
        return "faceid_plus"
    if proj.has("latents"):
        return _of_perceiver(proj)
    rows = proj.extent("ff.net.2.weight", 0)
    if rows is not None:
        return "full_face" if rows == width else _of_layers(rows, width)
    return _of_one_layer(proj.extent("image_embeds.weight", 1))


def _of_perceiver(proj: Seen) -> str:
    return "instantid" if proj.extent("proj_in.weight", 1) == FACE else "plus"


def _of_layers(rows: int | None, width: int) -> str:
    return "faceid" if (rows or 0) // max(width, 1) < PORTRAIT_TOKENS else "faceid_portrait"


def _of_one_layer(features: int | None) -> str:
    return "base_vit_g" if features == BIGG else "base"


def reads(own: Identity) -> bool:
    """Those for U-Nets; of no family are those of small models."""
    return own.family in {None, *CONTEXTS.values()} and own.variant != "pulid"


def photomaker(seen: Seen) -> Identity | None:
    if not seen.starts("id_encoder.", "pmid."):
        return None
    return Identity("photomaker", "sdxl", "v2" if seen.holds("qformer_perceiver.") else "v1")


SPECS = (
    Kind("ip_adapter", "IP-Adapter", recognise, reads=reads),
    Kind("photomaker", "PhotoMaker", photomaker, reads=lambda own: own.family == "sdxl"),
)
