"""What files of autoencoders say of the scale of their latents, which tells Stable Diffusion 1 and 2 from XL.

Their shapes are the same, and latents of one mean nothing to the other. A whole model is of a family, and says it
for certain; so do the configuration of a diffusers folder and ModelSpec's metadata. A name only suggests it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from atelier.checkpoints.folder import CONFIG
from atelier.checkpoints.kind import identify
from atelier.checkpoints.opening import families, stated_facts
from atelier.checkpoints.spelling import respelled
from atelier.families.config import Config
from atelier.families.facts import Facts
from atelier.families.parts import VAE
from atelier.families.sdxl import LATENT_SCALE as XL_SCALE
from atelier.weights.archive import open_any

SCALES: Mapping[float, str] = {Facts().latent_scale: "Stable Diffusion 1 and 2", XL_SCALE: "Stable Diffusion XL"}
"""Of latents of four channels -> whose they are."""
ARCHITECTURES = (
    ("stable-diffusion-xl", XL_SCALE),
    ("stable-diffusion-v1", Facts().latent_scale),
    ("stable-diffusion-v2", Facts().latent_scale),
)
"""What ModelSpec's architectures begin with."""
NAMES = (
    (re.compile(r"(?:sd|vae|^)[ _.-]*xl(?![a-z])|xl[ _.-]*vae", re.IGNORECASE), XL_SCALE),
    (re.compile(r"kl-f8|ft-mse|ft-ema|840000|560000|animevae|orangemix|clearvae", re.IGNORECASE), Facts().latent_scale),
)
"""What published autoencoders are called."""


def stated_scale(path: Path) -> float | None:
    """What a file or folder says for certain; None where it says nothing. Raises BadFile."""
    if path.is_dir():
        return _of_folder(path)
    archive = respelled(open_any(path))
    found = identify(archive)
    if found is not None and found.kind == "checkpoint":
        family = next((own for own in families().values() if own.single.detect(archive)), None)
        return None if family is None else stated_facts(family, archive).latent_scale
    said = archive.metadata.get("modelspec.architecture", "").casefold()
    return next((scale for beginning, scale in ARCHITECTURES if said.startswith(beginning)), None)


def suggested_scale(name: str) -> float | None:
    """What the name of a file suggests; None where it does not."""
    return next((scale for pattern, scale in NAMES if pattern.search(name)), None)


def _of_folder(path: Path) -> float | None:
    """Of an autoencoder alone, or of a whole model."""
    for place in (path, path / VAE.folder):
        if (place / CONFIG).is_file():
            said = Config.read(place / CONFIG)
            return said.number("scaling_factor", Facts().latent_scale) if "scaling_factor" in said.values else None
    return None
