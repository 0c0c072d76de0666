"""An axis of a grid: what changes along it, and the values that it takes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import factorial
from types import MappingProxyType
from typing import Literal, cast

from atelier.errors import BadInput, nearest, shortened
from atelier.request.grid.values import MAX_VALUES, numbers, texts
from atelier.request.groups import size_of
from atelier.request.table import FIELDS

Kind = Literal["nothing", "field", "size", "replace", "order", "append"]
Value = object
"""Of a field; width and height; the text put in place of the searched one; words in their order; what is added to the
prompt."""
Fields = Mapping[str, object]
"""Fields of a request, by their names in FIELDS."""

REPLACE, ORDER, SIZE = "prompt-sr", "prompt-order", "size"
TITLES: Mapping[str, str] = MappingProxyType(
    {
        "seed": "Seed",
        "variation_seed": "Var. seed",
        "variation_strength": "Var. strength",
        "steps": "Steps",
        "hires_steps": "Hires steps",
        "cfg_scale": "CFG Scale",
        "sampler": "Sampler",
        "hires_sampler": "Hires sampler",
        "model": "Checkpoint name",
        "ngms": "Negative Guidance minimum sigma",
        "s_churn": "Sigma Churn",
        "s_tmin": "Sigma min",
        "s_tmax": "Sigma max",
        "s_noise": "Sigma noise",
        "scheduler": "Schedule type",
        "sigma_min": "Schedule min sigma",
        "sigma_max": "Schedule max sigma",
        "rho": "Schedule rho",
        "beta_alpha": "Beta schedule alpha",
        "beta_beta": "Beta schedule beta",
        "eta": "Eta",
        "clip_skip": "Clip skip",
        "denoising_strength": "Denoising",
        "noise_multiplier": "Initial noise multiplier",
        "extra_noise": "Extra noise",
        "hires_upscaler": "Hires upscaler",
        "styles": "Styles",
        "unipc_order": "UniPC Order",
        "discard_penultimate_sigma": "Always discard next-to-last sigma",
        "sgm_noise_multiplier": "SGM noise multiplier",
        "rng": "RNG source",
        "refiner": "Refiner checkpoint",
    }
)
"""What A1111 calls the axes of fields; others are called by their key in infotexts, or by their name."""
COSTS: Mapping[str, float] = MappingProxyType(
    {"model": 1.0, "model_hash": 1.0, "refiner": 1.0, "hires_checkpoint": 1.0, "text_encoders": 0.8, "vae": 0.7}
)
"""Of a change of the field, against that of one that loads nothing: axes that load are outermost."""
NOT_COMPARED = frozenset({"output", "batch_size", "batch_count", "lenient"})
"""Fields that change no image, or that make several of one cell."""


@dataclass(frozen=True, slots=True)
class Axis:
    """title: what A1111 calls it; text: its values as they were written; labels: of the values, for sheets.

    field: whose values they are, for the kind "field"; searched: the text that others replace, or the words that
    change places.
    """

    kind: Kind
    title: str
    text: str
    values: tuple[Value, ...]
    labels: tuple[str, ...]
    field: str = ""
    searched: tuple[str, ...] = ()

    @property
    def cost(self) -> float:
        return COSTS.get(self.field, 0.0)

    @property
    def changes(self) -> tuple[str, ...]:
        """The fields that it changes, else its kind."""
        return ("width", "height") if self.kind == "size" else (self.field or self.kind,)


NOTHING = Axis("nothing", "Nothing", "", ("",), ("",))
"""The axis that is not there: one value, which changes nothing."""

Asked = str | tuple[str, Sequence[object]] | None
"""An axis as people say it: `steps=10,20`, or a name with values."""


def axis_of(asked: Asked) -> Axis:
    """The axis that somebody asks for. Raises BadInput."""
    match asked:
        case None:
            return NOTHING
        case str():
            return _said(asked)
        case (str() as name, [*given]):
            return _made(name, csv_line(given), tuple(given))
        case _:  # callers without types
            raise BadInput(
                f"axis {shortened(repr(asked))}: give a text such as 'steps=10,20', or a name and a list of values"
            )


def _said(asked: str) -> Axis:
    name, equals, text = asked.partition("=")
    if not equals or not text.strip():
        raise BadInput(f'axis {asked!r}: write it as NAME=VALUES, for example steps=10,20 or "cfg-scale=1-10 [4]"')
    return _made(name, text.strip(), None)


def csv_line(values: Iterable[object]) -> str:
    """Values as one line of CSV, which `texts` reads."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([_text(value) for value in values])
    return line.getvalue()


def split(prompt: str) -> tuple[str, Axis, Axis]:
    """A1111's prompt matrix of `always|one|other`: (what is always there, the columns, the rows).

    The earlier half of the parts, the larger one, is taken by the columns. Raises BadInput without parts, and for too
    many.
    """
    first, *parts = (part.strip().strip(",").strip() for part in _parts(prompt))
    if not parts:
        raise BadInput('--matrix: the prompt has no parts; write "a cat|in the rain|at night"')
    if 2 ** len(parts) > MAX_VALUES:
        raise BadInput(f"--matrix: {len(parts)} parts make {2 ** len(parts)} images; leave some out, or use two grids")
    across = len(parts) - len(parts) // 2
    return first, _subsets(parts[:across], prompt), _subsets(parts[across:], prompt)


def applied(axis: Axis, number: int, fields: Fields) -> Fields:
    """The fields with the axis's value of that number. Raises BadInput for a text that is not there to be replaced."""
    return _APPLIED[axis.kind](axis, axis.values[number], fields)


def _parts(prompt: str) -> list[str]:
    """At every | that is in no brackets of alternation or choice."""
    parts, depth = [""], 0
    for character in prompt:
        depth = max(0, depth + (character in "[{") - (character in "]}"))
        if character == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _subsets(parts: Sequence[str], prompt: str) -> Axis:
    """Bit k of a value's number says whether part k is in it."""
    chosen = [[part for k, part in enumerate(parts) if number >> k & 1] for number in range(2 ** len(parts))]
    added = tuple("".join(f", {part}" for part in some) for some in chosen)
    labels = tuple(" + ".join(some) or ("-" if parts else "") for some in chosen)
    return Axis("append" if parts else "nothing", "Prompt matrix", prompt, added, labels)


def _made(name: str, text: str, given: tuple[object, ...] | None) -> Axis:
    own = named(name)
    if own == REPLACE:
        values = texts(text)
        if len(values) < 2 or not values[0]:
            raise BadInput(f"{REPLACE}={text}: give the text to search for first, then what replaces it: red,blue")
        return Axis("replace", "Prompt S/R", text, values, values, searched=values[:1])
    if own == ORDER:
        return _orders(text)
    if own == SIZE:
        return _sizes(text)
    values = _values(own, text) if given is None else given
    if not values:
        raise BadInput(f"axis {name}: there are no values")
    title = TITLES.get(own) or getattr(FIELDS[own].infotext, "key", "") or own.replace("_", " ")
    labels = tuple(f"{title}: {_text(value)}" for value in values)
    return Axis("field", title, text, values, labels, own)


def _sizes(text: str) -> Axis:
    values = tuple(map(size_of, texts(text)))
    wrong = next((value for value in values if isinstance(value, str)), None)
    if wrong is not None:
        raise BadInput(f"axis Size {wrong!r}: write sizes such as 512x768")
    return Axis("size", "Size", text, values, tuple(f"Size: {_text(value)}" for value in values))


def _orders(text: str) -> Axis:
    words = texts(text)
    if len(words) < 2 or not all(words):
        raise BadInput(f"{ORDER}={text}: give at least two texts of the prompt")
    if factorial(len(words)) > MAX_VALUES:
        raise BadInput(
            f"{ORDER}: {len(words)} texts have {factorial(len(words))} orders, at most {MAX_VALUES} are made"
        )
    values = tuple(permutations(words))
    return Axis("order", "Prompt order", text, values, tuple(map(", ".join, values)), searched=words)


def named(name: str) -> str:
    """The field that a name means, by its own name, its option or what A1111 calls the axis; or REPLACE, ORDER, SIZE.

    Raises BadInput.
    """
    key = _folded(name)
    known = _names()
    if key not in known:
        raise BadInput(f"axis {name.strip()!r} is no field: {nearest(key, tuple(known))}")
    if known[key] in NOT_COMPARED:
        raise BadInput(f"axis {name.strip()}: it changes no image; compare something else")
    return known[key]


def _names() -> dict[str, str]:
    options = {
        _folded(option): name
        for name, field in FIELDS.items()
        if field.option is not None
        for option in field.option.names
    }
    titles = {_folded(title): name for name, title in TITLES.items()}
    return {
        **titles,
        **options,
        **{_folded(name): name for name in FIELDS},
        **dict.fromkeys(("prompt-sr", "prompt-s/r"), REPLACE),
        ORDER: ORDER,
        SIZE: SIZE,
    }


def _folded(name: str) -> str:
    return re.sub(r"[\s_]+", "-", name.strip().strip("-").casefold())


def _values(name: str, text: str) -> tuple[Value, ...]:
    match FIELDS[name].kind:
        case "int" | "float" as kind:
            return numbers(text, whole=kind == "int")
        case "size":
            return tuple(map(size_of, texts(text)))
        case "texts":
            return tuple(() if value.casefold() in {"", "none"} else (value,) for value in texts(text))
        case "flag":
            return tuple(value for value in texts(text) if value)
        case _:
            return texts(text)


def _text(value: object) -> str:
    """A value as people write it."""
    match value:
        case float():
            return f"{value:.8g}"
        case (int(), int()):
            return f"{value[0]}x{value[1]}"
        case tuple():
            return " + ".join(map(str, cast("tuple[object, ...]", value))) or "None"
        case _:
            return str(value)


def _set(axis: Axis, value: Value, fields: Fields) -> Fields:
    return {**fields, axis.field: value}


def _sized(_: Axis, value: Value, fields: Fields) -> Fields:
    width, height = cast("tuple[int, int]", value)
    return {**fields, "width": width, "height": height}


def _replaced(axis: Axis, value: Value, fields: Fields) -> Fields:
    (searched,) = axis.searched
    prompts = {name: str(fields.get(name) or "") for name in ("prompt", "negative_prompt")}
    if not any(searched in text for text in prompts.values()):
        raise BadInput(f"{REPLACE}: {searched!r} is not in the prompt; search for a text that is")
    return {**fields, **{name: text.replace(searched, str(value)) for name, text in prompts.items()}}


def _reordered(axis: Axis, value: Value, fields: Fields) -> Fields:
    """The searched texts change places; what stands between them stays."""
    prompt = str(fields.get("prompt") or "")
    missing = next((word for word in axis.searched if word not in prompt), None)
    if missing is not None:
        raise BadInput(f"{ORDER}: {missing!r} is not in the prompt; name texts that are")
    longest = sorted(axis.searched, key=len, reverse=True)
    turn = iter(cast("tuple[str, ...]", value))
    places: set[str] = set()

    def put(found: re.Match[str]) -> str:
        """Each text has one place, its first."""
        if found[0] in places:
            return found[0]
        places.add(found[0])
        return next(turn)

    return {**fields, "prompt": re.sub("|".join(map(re.escape, longest)), put, prompt)}


def _appended(_: Axis, value: Value, fields: Fields) -> Fields:
    return {**fields, "prompt": f"{fields.get('prompt') or ''}{value}".removeprefix(", ")}


def _same(_: Axis, __: Value, fields: Fields) -> Fields:
    return fields


_APPLIED: Mapping[Kind, Callable[[Axis, Value, Fields], Fields]] = {
    "nothing": _same,
    "field": _set,
    "size": _sized,
    "replace": _replaced,
    "order": _reordered,
    "append": _appended,
}
"""In the order in which the axes of a grid act."""
TURNS: tuple[Kind, ...] = tuple(_APPLIED)
