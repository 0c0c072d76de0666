"""What clients of the ControlNet extension are shown: modules with their sliders, and choices for each type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from atelier.adapters.control_types import CONTROL_TYPES, ControlType
from atelier.api.sdapi.annotators import EXAMPLE, FACE_MODULES, IMAGE_PROMPTS, KEYPOINTS, not_here, sliders
from atelier.api.sdapi.names import control_title
from atelier.api.service import AnnotatorEntry, Catalogue, NamedEntry, OptionEntry
from atelier.registry import folded
from atelier.request.controls import RESOLUTION, RESOLUTIONS
from atelier.request.events import Json

NONE, NO_MODEL = "none", "None"
IP_ADAPTER, INSTANT_ID, REFERENCE = "IP-Adapter", "Instant-ID", "Reference"
PROMPTS = (*IMAGE_PROMPTS, *FACE_MODULES[:2])
INSTANT = (FACE_MODULES[2], KEYPOINTS)
"""Modules of the two types of image prompts."""
IS_INSTANT = "instant"
"""A word of names of files, folded, of the second type."""
READ_IMAGES = frozenset({"reference", "face"})
"""Kinds of files that read an image as a prompt."""
FIDELITY = 'Style Fidelity (only for "Balanced" mode)'
"""The slider of an example, in A1111's words."""
UNION = "union"
"""What the names of files say that read hints of several types."""


def module_list(catalogue: Catalogue) -> dict[str, Json]:
    """Every module that can be used, with its sliders."""
    details: dict[str, Json] = {entry.name: _detail(entry) for entry in usable(catalogue)}
    details |= {name: {"model_free": False, "sliders": []} for name in (*PROMPTS, *INSTANT)}
    fidelity: Json = {"name": FIDELITY, "value": 0.5, "min": 0.0, "max": 1.0, "step": 0.01}
    details[EXAMPLE] = {"model_free": True, "sliders": [None, fidelity]}
    return {"module_list": list(details), "module_detail": details}


def usable(catalogue: Catalogue) -> Sequence[AnnotatorEntry]:
    """Annotators that can be used, the one that does nothing first."""
    there = [entry for entry in catalogue.annotators if entry.there and not not_here(entry.name)]
    return sorted(there, key=lambda entry: entry.name != NONE)


def _detail(entry: AnnotatorEntry) -> dict[str, Json]:
    """Clients count the sliders: the resolution, then both thresholds; null where there is none."""
    low, high = RESOLUTIONS
    options = [_slider(option) for option in sliders(entry)]
    if not entry.sized:
        return {"model_free": False, "sliders": [None, *options] if options else []}
    first: Json = {"name": "Preprocessor Resolution", "value": RESOLUTION, "min": low, "max": high}
    return {"model_free": False, "sliders": [first, *options]}


def _slider(option: OptionEntry) -> Json:
    name = option.name.replace("_", " ").capitalize()
    return {"name": name, "value": option.default, "min": option.low, "max": option.high, "step": option.step}


def control_types(catalogue: Catalogue) -> dict[str, Json]:
    """What can be chosen for each type that clients show, and what is chosen first."""
    makers, files = usable(catalogue), catalogue.controls
    hints = [entry for entry in files if entry.more.get("kind") not in READ_IMAGES]
    prompts = [entry for entry in files if entry.more.get("kind") in READ_IMAGES and not _is_instant(entry)]
    every = [*(entry.name for entry in makers), *PROMPTS, *INSTANT, EXAMPLE]
    found: dict[str, Json] = {"All": _choices(every, files, default=(NONE, NO_MODEL))}
    for kind in CONTROL_TYPES.values():
        found[kind.title] = _choices(_of_type(kind, makers), [own for own in hints if _reads(own, kind)])
    found[REFERENCE] = _choices((EXAMPLE,), ())
    found[IP_ADAPTER] = _choices(PROMPTS, prompts)
    found[INSTANT_ID] = _choices(INSTANT, [entry for entry in files if _is_instant(entry)])
    return found


def _is_instant(entry: NamedEntry) -> bool:
    return IS_INSTANT in folded(entry.name)


def _choices(modules: Sequence[str], files: Iterable[NamedEntry], default: tuple[str, str] | None = None) -> Json:
    models = [control_title(entry) for entry in files]
    first = default or (next(iter(modules), NONE), next(iter(models), NO_MODEL))
    return {
        "module_list": [*dict.fromkeys((NONE, *modules))],
        "model_list": [NO_MODEL, *models],
        "default_option": first[0],
        "default_model": first[1],
    }


def _of_type(kind: ControlType, makers: Sequence[AnnotatorEntry]) -> list[str]:
    """The annotators of a type, the usual ones first."""
    usual = [folded(name) for name in kind.annotators]
    ranked = {
        entry.name: min((usual.index(name) for name in _names(entry) if name in usual), default=len(usual))
        for entry in makers
        if entry.name != NONE and _is_of(entry, usual, kind)
    }
    return sorted(ranked, key=lambda name: ranked[name])


def _is_of(entry: AnnotatorEntry, usual: Sequence[str], kind: ControlType) -> bool:
    """Whether a type lists an annotator, or a word of the type stands in its name."""
    return any(name in usual for name in _names(entry)) or any(
        folded(word) in folded(entry.name) for word in kind.words
    )


def _names(entry: AnnotatorEntry) -> list[str]:
    return [folded(name) for name in (entry.name, *entry.aliases)]


def _reads(entry: NamedEntry, kind: ControlType) -> bool:
    return any(folded(word) in folded(entry.name) for word in (*kind.words, UNION))
