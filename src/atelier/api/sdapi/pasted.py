"""The field `infotext` of a body: it fills what the body does not say itself."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from atelier.api.sdapi.fields import SAID_BY, Fields
from atelier.api.sdapi.names import find_model
from atelier.api.sdapi.options import FIELD_OF, MODEL
from atelier.api.service import Catalogue
from atelier.request.infotext.read import read
from atelier.request.infotext.request import interpret, to_request
from atelier.request.infotext.units import lacking
from atelier.request.table import FIELDS, flat, given, plain

SECOND = "hires_"
OPTION_OF = {acting.field: name for name, acting in FIELD_OF.items()}


def pasted(
    text: str,
    said: AbstractSet[str],
    overridden: AbstractSet[str],
    catalogue: Catalogue,
    warn: list[str],
    *,
    image: bool,
    masked: bool,
) -> Fields:
    """The fields that an infotext fills. said: the fields that the body itself says; overridden: its override_settings;
    image, masked: what it comes with. Raises BadInput for a text with numbers that are out of range."""
    found = read(text)
    lacks = () if "alwayson_scripts" in said else lacking(found, "controls", "references", "faces")
    warn += [f"infotext: {warning}" for warning in (*interpret(found).warnings, *lacks)]
    changes = {"image": "upload:", **({"mask": "upload:"} if masked else {})} if image else {}
    prompt = {} if found.prompt else {"prompt": ""}
    request = to_request(found, {**prompt, **changes})
    names = given(request) - {"image", "mask", "output", "model_hash"}
    fields = {name: plain(value) for name, value in flat(request).items() if name in names}
    kept = {name: value for name, value in fields.items() if _fills(name, said, overridden, image=image)}
    return _with_model(kept, catalogue, warn)


def _fills(name: str, said: AbstractSet[str], overridden: AbstractSet[str], *, image: bool) -> bool:
    """Whether the body leaves a field to the infotext."""
    if image and name.startswith(SECOND):
        return False
    option = MODEL if name == "model" else OPTION_OF.get(name)
    return said.isdisjoint(SAID_BY.get(name, ())) and option not in overridden


def _with_model(fields: Fields, catalogue: Catalogue, warn: list[str]) -> Fields:
    """The models of an infotext are those that are listed here; another leaves the current one, and is told of."""
    for name in ("model", "refiner", "hires_checkpoint"):
        if name not in fields:
            continue
        model = find_model(catalogue, str(fields[name]))
        if model is None:
            warn.append(f"infotext: {name} {str(fields[name])[:200]!r} not found; it is left out")
            del fields[name]
        else:
            fields[name] = model.name
    return fields


assert SAID_BY.keys() <= FIELDS.keys(), "a field is not in the table of fields"
