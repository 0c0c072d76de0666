"""What belongs to image models and is none of the other kinds: named, so that messages can say so."""

from __future__ import annotations

from atelier.checkpoints.kind import Identity, Kind, Seen


def motion(seen: Seen) -> Identity | None:
    if not seen.holds("motion_modules.", ".temporal_attentions.") or seen.holds("resnets.", "in_layers.", "_lora."):
        return None
    deep = seen.holds("down_blocks.3.motion_modules.")
    return Identity("motion_module", "sd1" if deep else "sdxl", "base")


def gligen(seen: Seen) -> Identity | None:
    return Identity("gligen", "sd1", "base") if seen.starts("position_net.") and seen.holds(".fuser.") else None


def depth(seen: Seen) -> Identity | None:
    marks = ("pretrained.model.blocks.", "depth_model.model.pretrained.", "dpt.encoder.layer.")
    whole = seen.starts("model.diffusion_model.")
    return None if whole or not seen.starts(*marks) else Identity("depth_estimator", None, "dpt")


def preview(seen: Seen) -> Identity | None:
    """A1111's few convolutions from latents to small images."""
    names = tuple(f"conv{number}.weight" for number in range(1, 9))
    return Identity("preview_decoder", "sd1", "base") if seen.has(*names) and len(seen.shapes) == 16 else None


def cascade(seen: Seen) -> Identity | None:
    """The first stage of Stable Cascade, whose encoder and decoder are chains of layers around a codebook."""
    own = seen.starts("up_blocks.0.0.") and seen.starts("in_block.", "vquantizer.")
    return Identity("vae", "cascade", "stage_a") if own else None


def style(seen: Seen) -> Identity | None:
    """Flux' Redux: two layers from SigLIP's states to text states."""
    return Identity("style_model", "flux", "redux") if seen.has("redux_up.weight", "redux_down.weight") else None


SPECS = (
    Kind("motion_module", "motion module", motion),
    Kind("gligen", "GLIGEN module", gligen),
    Kind("depth_estimator", "estimator of depth", depth),
    Kind("preview_decoder", "decoder of previews", preview),
    Kind("cascade_vae", "autoencoder alone", cascade),
    Kind("style_model", "style model", style),
)
