"""From the body of a generation to the requests that it means. No HTTP; images are only named."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from atelier.api.sdapi.alwayson import alwayson, units_in
from atelier.api.sdapi.at import Beside
from atelier.api.sdapi.bodies import Generation, Img2Img, Txt2Img
from atelier.api.sdapi.fields import SAID_BY, Fields, of_img2img, of_txt2img, refused
from atelier.api.sdapi.options import acting
from atelier.api.sdapi.pasted import SECOND, pasted
from atelier.api.sdapi.pictures import taken
from atelier.api.sdapi.scripts import Runs, scripted
from atelier.api.sdapi.unit import Map
from atelier.api.sdapi.units import steered
from atelier.api.service import Catalogue
from atelier.request.events import Json

DRAWN_SEEDS = 2**32
IMAGE, MASK = "upload:image", "upload:mask"
"""What stands for the images of a body until they are uploaded."""
SOURCE = "nv"
"""Of noise, where nobody says: what a graphics card would draw in A1111, so that its seeds give its images."""


@dataclass(frozen=True, slots=True)
class Asked:
    """runs: the requests, whose images are IMAGE, MASK, and those of units; images: these in base64, by what stands for
    them; warnings: what is not done; maps: what units of ControlNet add to the images."""

    runs: Runs
    images: Mapping[str, str]
    warnings: tuple[str, ...]
    maps: tuple[Map, ...] = ()


def drawn() -> int:
    """A seed."""
    return random.SystemRandom().randrange(DRAWN_SEEDS)


def txt2img(body: Txt2Img, catalogue: Catalogue, kept: Mapping[str, Json], draw: Callable[[], int] = drawn) -> Asked:
    """What a body of txt2img asks for; kept: options that were changed. Raises Refused, BadInput."""
    warn: list[str] = []
    fields = of_txt2img(body, catalogue, warn)
    rest = _with_rest(body, fields, catalogue, kept, warn, images={})
    twice = any(name in rest for name in ("hires_upscale", "hires_resize"))
    units = steered(units_in(body.alwayson_scripts), catalogue, warn, Beside({}, twice=twice))
    fields = {**rest, **_brought(fields, units.fields)}
    if not twice:
        alone = () if "image" in fields else ("denoising_strength",)
        fields = {name: v for name, v in fields.items() if name not in alone and not name.startswith(SECOND)}
    return Asked(_runs(body, fields, catalogue, draw, warn, image=False), units.images, tuple(warn), units.maps)


def _brought(fields: Fields, units: Fields) -> Fields:
    """What units say; where one brings the image to start from, the strength of the body is that of the second pass."""
    second = fields.get("denoising_strength") if "image" in units else None
    return units if second is None else {**units, "hires_denoising_strength": second}


def img2img(body: Img2Img, catalogue: Catalogue, kept: Mapping[str, Json], draw: Callable[[], int] = drawn) -> Asked:
    """What a body of img2img asks for. Raises Refused (404 without an image), BadInput."""
    images = images_of(body)
    warn: list[str] = []
    fields = of_img2img(body, catalogue, warn, masked="mask" in images)
    only_masked = "mask" in images and body.inpaint_full_res
    units = steered(units_in(body.alwayson_scripts), catalogue, warn, Beside(images, only_masked=only_masked))
    fields = {**_with_rest(body, fields, catalogue, kept, warn, images=images), **units.fields}
    fields |= {"image": IMAGE, **({"mask": MASK} if "mask" in images else {})}
    runs = _runs(body, fields, catalogue, draw, warn, image=True)
    return Asked(runs, {**images, **units.images}, tuple(warn), units.maps)


def images_of(body: Img2Img) -> dict[str, str]:
    """The base64 of the image to start from and of its mask, by the fields that they are."""
    given = [taken(one, f"init_images[{number}]") for number, one in enumerate(body.init_images or ())]
    if not given or not given[0].image:
        raise refused("Init image not found", "init_images", 404)
    if len(given) > 1:
        raise refused(f"init_images: {len(given)} images; one is taken at a time", "init_images")
    mask = taken(body.mask, "mask").image or given[0].mask
    return {"image": given[0].image, **({"mask": mask} if mask else {})}


def _with_rest(
    body: Generation,
    fields: Fields,
    catalogue: Catalogue,
    kept: Mapping[str, Json],
    warn: list[str],
    *,
    images: Mapping[str, str],
) -> Fields:
    """With options, always-on scripts, and what the infotext fills. What a field of the body says comes first, then
    override_settings, the infotext, and the options of all."""
    image, masked = "image" in images, "mask" in images
    own = body.override_settings
    options = acting({**kept, **own}, catalogue, image=image, mask=masked)
    warn += options.warnings
    said = body.model_fields_set
    text: Fields = {}
    if body.infotext:
        text = pasted(body.infotext, said, own.keys(), catalogue, warn, image=image, masked=masked)
    chosen = {name: v for name, v in options.fields.items() if said.isdisjoint(SAID_BY.get(name, ()))}
    scripts = alwayson(body.alwayson_scripts, catalogue, warn, masked=masked)
    chosen.pop("eta" if str({**fields, **text}["sampler"]).startswith("DDIM") else "eta_ddim", None)  # A1111 has two
    return {"rng": SOURCE, **chosen, **fields, **text, **scripts}


def _runs(
    body: Generation, fields: Fields, catalogue: Catalogue, draw: Callable[[], int], warn: list[str], *, image: bool
) -> Runs:
    name = (body.script_name or "").strip()
    if not name or name.casefold() == "none":
        return Runs((fields,))
    return scripted(name, body.script_args, fields, catalogue, draw, warn, image=image)
