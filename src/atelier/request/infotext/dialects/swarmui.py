"""SwarmUI: JSON, its fields in the object `sui_image_params`."""

from __future__ import annotations

from atelier.request.infotext.dialect import Dialect, Form, Source, rng
from atelier.request.infotext.fields import Fields, as_fields, record_of, size_of
from atelier.request.infotext.record import Infotext

_OWN_VAE = frozenset({"None", "Automatic"})
_USED = frozenset(
    {
        *("steps", "sampler", "scheduler", "cfgscale", "seed", "width", "height", "model", "vae", "swarm_version"),
        *("comfyuisampler", "comfyuischeduler", "clipstopatlayer", "variationseed", "variationseedstrength"),
        "initimagecreativity",
    }
)


def detects(source: Source) -> bool:
    return "sui_image_params" in source.fields


def read(source: Source) -> Infotext:
    inner = as_fields(source.fields.get("sui_image_params"))
    known = _known(inner)
    used = _USED | {"resolution"} if known["Size"] else _USED
    last = {"Version": inner.get("swarm_version")}
    return record_of("swarmui", inner, known, used, prompts=("prompt", "negativeprompt"), last=last)


def _known(inner: Fields) -> dict[str, object]:
    vae, layer = str(inner.get("vae") or ""), inner.get("clipstopatlayer")
    return {
        "Steps": inner.get("steps"),
        "Sampler": inner.get("sampler") or inner.get("comfyuisampler"),
        "Schedule type": inner.get("scheduler") or inner.get("comfyuischeduler"),
        "CFG scale": inner.get("cfgscale"),
        "Seed": inner.get("seed"),
        "Size": size_of(inner),
        "Model": inner.get("model"),
        "VAE": None if vae in _OWN_VAE else vae,
        "Clip skip": -layer if isinstance(layer, int) and layer < -1 else None,
        "Variation seed": inner.get("variationseed"),
        "Variation seed strength": inner.get("variationseedstrength"),
        "Denoising strength": inner.get("initimagecreativity"),
    }


SPECS = (Dialect("swarmui", (Form(30, detects, read),), rng=rng("cpu")),)
