"""Which class of diffusers generates with a model."""

from __future__ import annotations

from collections.abc import Callable

from atelier.errors import BadInput
from atelier.families.facts import LatentFormat
from atelier.families.family import Ends

KINDS = ("", "Img2Img", "Inpaint", "InpaintLegacy", "InstructPix2Pix")
DEPTH = "StableDiffusionDepth2ImgPipeline"
"""The only class for models that see a map of depths."""


def by_channels(stem: str, depth: str | None = None) -> Callable[[Ends, LatentFormat], str]:
    """The class that knows what the U-Net is given beside the latent: nothing, a masked image, an image; its name
    begins with `stem`. depth: the one that gives it a map of depths. The function raises BadInput where there is
    none."""

    def pipeline(ends: Ends, latent: LatentFormat) -> str:
        beside = ends.in_channels - latent.channels
        if beside == 1 and depth is not None:
            return depth
        names = {0: "", latent.channels + 1: "Inpaint", latent.channels: "InstructPix2Pix"}
        if beside not in names:
            raise BadInput(
                f"a U-Net of {ends.in_channels} channels for a latent of {latent.channels}: diffusers' folder of such "
                "a model is not known here; write one file, which keeps it as it is"
            )
        return f"{stem}{names[beside]}Pipeline"

    return pipeline


def named(stem: str) -> frozenset[str]:
    """All classes whose name begins with `stem`."""
    return frozenset(f"{stem}{kind}Pipeline" for kind in KINDS)
