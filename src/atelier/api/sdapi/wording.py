"""Refusals in the words of the client: fields by the names that its body has for them."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType

from atelier.api.errors import Problem, Refused, problem_of
from atelier.api.sdapi.bodies import Extras, Generation
from atelier.api.sdapi.fields import SAID_BY
from atelier.api.sdapi.pasted import OPTION_OF
from atelier.errors import AtelierError
from atelier.runtime.workers.names import AS_LARGE_AS, SPOKEN, shown

IMAGES: Mapping[str, str] = MappingProxyType({"image": "init_images[0]", "mask": "mask"})
"""Fields of a request that hold images, and what clients call them."""
UNITS = "alwayson_scripts"
"""Where clients say controls, references and faces."""
CONTROLNET = "ControlNet"
UPLOAD = "upload:"
"""How the name of an upload begins, which messages about one of several images begin with."""
_HASHED = UPLOAD + "[0-9a-f]{64}"
_NAMED = re.compile(f" {_HASHED}(?:{AS_LARGE_AS}{_HASHED})?(?=[: ])")
_SWITCHES = frozenset({"enable_hr"})
"""Fields of a body that say no number and no name."""


def names_of_generation(body: Generation, changed: Mapping[str, object]) -> dict[str, str]:
    """What txt2img and img2img call the fields of a request. changed: options that hold for all.

    What the body says comes first, then an option, then the first of the names that it could have said.
    """
    options = {*changed, *body.override_settings}
    names = {field: option for field, option in OPTION_OF.items() if option in options or field not in SAID_BY}
    for field, those in SAID_BY.items():
        said = [name for name in those if name in body.model_fields_set and name not in _SWITCHES]
        if said or field not in names:
            names[field] = (said or those)[0]
    return {**names, **IMAGES, **dict.fromkeys(SPOKEN - {"regions"}, UNITS)}


def names_of_extras(body: Extras, images: str) -> dict[str, str]:
    """What extra-*-image calls the fields of an upscaling. images: the field with the images."""
    by_factor = str(body.resize_mode).strip() == "0"
    return {
        "upscaler": "upscaler_1",
        "visibility": "extras_upscaler_2_visibility",
        "scale": "upscaling_resize" if by_factor else "upscaling_resize_w",
        "width": "upscaling_resize_w",
        "height": "upscaling_resize_h",
        "image": images,
        "images": images,
        UPLOAD: images,
    }


def names_of_detection(names: Sequence[str]) -> dict[str, str]:
    """The same of /controlnet/detect. names: of the uploads, in order."""
    images = {shown(name): f"controlnet_input_images[{number}]" for number, name in enumerate(names)}
    return {**images, "controls": "controlnet_input_images"}


def reworded(message: str, names: Mapping[str, str]) -> str:
    """A message whose first word is the client's name, where that word is a field: it ends at a space or a colon.

    The names of uploads behind it say nothing to a client that sent the image itself.
    """
    message = _NAMED.sub("", message)
    word, space, rest = message.partition(" ")
    bare = word.removesuffix(":")
    if UPLOAD in names and word.startswith(UPLOAD):
        return f"{names[UPLOAD]}:{space}{rest}"
    return names[bare] + word[len(bare) :] + space + rest if bare in names else message


@contextmanager
def in_their_words(names: Mapping[str, str]) -> Generator[None]:
    """Refusals within name the fields of the client. Raises Refused for every AtelierError."""
    try:
        yield
    except (AtelierError, Refused) as error:
        raise Refused(_reworded(problem_of(error), names)) from error


def _reworded(problem: Problem, names: Mapping[str, str]) -> Problem:
    field, message = names.get(problem.field or "", problem.field), reworded(problem.message, names)
    if field == UNITS and problem.field != UNITS and not message.startswith(CONTROLNET):
        message = f"{CONTROLNET}: {message}"
    return replace(problem, message=message, field=field)
