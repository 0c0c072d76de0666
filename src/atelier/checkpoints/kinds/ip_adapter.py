"""IP-Adapters of all variants, InstantID's among them, and PhotoMakers."""

from __future__ import annotations

from atelier.checkpoints.kind import Identity, Kind, Seen

TO_K = r"(?:ip_adapter\.\d+|[\w.]*processor)\.to_k_ip(?:\.0)?\.weight"
CONTEXTS = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
FLUX = ("ip_adapter_double_stream_k_proj", "ip_adapter_proj_model.")
FACE = 512
"""Width of the vectors that describe faces."""
BIGG = 1280
PORTRAIT_TOKENS = 16


def recognise(seen: Seen) -> Identity | None:
    if seen.holds(*FLUX):
        return Identity("ip_adapter", "flux", "base")
    if not seen.starts("image_proj.", "ip_adapter.") and not seen.holds(".to_k_ip."):
        return None
    shape = seen.find(TO_K)
    width = 0 if shape is None else shape[1]
    family = CONTEXTS.get(width) or ("sd3" if seen.holds(".norm_ip_k", ".ip_adapter.") else None)
    return Identity("ip_adapter", family, _variant(seen.below("image_proj."), width, lora=seen.holds("_lora.down.")))


def _variant(proj: Seen, width: int, *, lora: bool) -> str:
    """From what becomes of the image: one layer, a perceiver, or layers that read a face."""
    if proj.starts("perceiver_resampler."):
        return "faceid_plus"
    if proj.has("latents"):
        return "instantid" if proj.extent("proj_in.weight", 1) == FACE else "plus"
    if proj.has("proj.3.weight"):
        return "full_face"
    if proj.has("proj.0.weight"):
        tokens = (proj.extent("proj.2.weight", 0) or 0) // max(width, 1)
        return "faceid" if lora or tokens < PORTRAIT_TOKENS else "faceid_portrait"
    return "base_vit_g" if proj.extent("proj.weight", 1) == BIGG else "base"


def photomaker(seen: Seen) -> Identity | None:
    if not seen.starts("id_encoder.", "pmid."):
        return None
    return Identity("photomaker", "sdxl", "v2" if seen.holds("qformer_perceiver.") else "v1")


SPECS = (
    Kind("ip_adapter", "IP-Adapter", recognise),
    Kind("photomaker", "PhotoMaker", photomaker),
)
