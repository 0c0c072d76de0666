"""Files with a prompt on every line, in A1111's form "Prompts from file": a line is a prompt, or options as a shell has
them, `--prompt "a cat" --steps 20`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from atelier.errors import BadInput
from atelier.request.model import Request
from atelier.request.table import FIELDS, request_of

MARK = "--"
TEXTS = frozenset({"prompt", "negative_prompt"})
"""Options whose values go on to the next option."""
FIELD_OF: Mapping[str, str] = MappingProxyType(
    {
        **{
            option.removeprefix(MARK).replace("-", "_"): name
            for name, field in FIELDS.items()
            for option in (() if field.option is None else field.option.names)
            if option.startswith(MARK)
        },
        "sd_model": "model",
        "outpath_samples": "output",
        "subseed": "variation_seed",
        "subseed_strength": "variation_strength",
        "sampler_name": "sampler",
        "sampler_index": "sampler",
        "n_iter": "batch_count",
    }
)
"""What the command line and A1111 call fields, where it is not their own name."""
RESIZE = {"seed_resize_from_w": 0, "seed_resize_from_h": 1}
UNUSED = frozenset({"prompt_for_display", "outpath_grids", "do_not_save_grid"})
"""Options that say nothing about an image."""
WITHOUT_EFFECT = frozenset({"restore_faces", "do_not_save_samples"})
"""Options for what is not done."""
TILING = "tiling"
"""A1111's option for edges that meet both ways: only the word true says yes."""


@dataclass(frozen=True, slots=True)
class PromptLine:
    """number: of the line, from 1; fields: by names in FIELDS; notes: what was not understood."""

    number: int
    fields: Mapping[str, object]
    notes: tuple[str, ...] = ()


def prompt_lines(text: str) -> tuple[PromptLine, ...]:
    """The lines that are not empty. A line whose options cannot be read is a prompt as it stands, with a note."""
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return tuple(_line(number, line) for number, line in lines if line)


def joined(line: Mapping[str, object], around: Mapping[str, object]) -> dict[str, object]:
    """The fields of a line with those that are the same for all; prompts stand before those, after a space."""
    both = {
        name: " ".join(text for text in (str(line.get(name) or ""), str(around.get(name) or "")) if text)
        for name in TEXTS
        if name in line or name in around
    }
    return {**around, **line, **both}


def requests(lines: Sequence[PromptLine], around: Mapping[str, object]) -> tuple[Request, ...]:
    """One for each line. Raises BadInput, with the number of the line."""
    return tuple(_request(line, around) for line in lines)


def _request(line: PromptLine, around: Mapping[str, object]) -> Request:
    try:
        return request_of(joined(line.fields, around))
    except BadInput as error:
        raise BadInput(f"line {line.number}: {error}") from None


def _line(number: int, line: str) -> PromptLine:
    if MARK not in line:
        return PromptLine(number, {"prompt": line})
    try:
        return _options(number, shlex.split(line))
    except ValueError as error:
        return PromptLine(number, {"prompt": line}, (f"line {number} is taken as a prompt as it stands: {error}",))


def _options(number: int, words: list[str]) -> PromptLine:
    """Raises ValueError for what is no line of options."""
    said: dict[str, str] = {}
    for name, values in _groups(words):
        if name not in _KNOWN:
            raise ValueError(f"--{name} is no option")
        if len(values) != 1 and FIELD_OF.get(name, name) not in TEXTS:
            raise ValueError(f"--{name} needs one value")
        said[name] = " ".join(values)
    notes = tuple(f"line {number}: --{name} has no effect here" for name in said if name in WITHOUT_EFFECT)
    return PromptLine(number, _fields(said), notes)


def _groups(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """(option, its values)"""
    if not words or not words[0].startswith(MARK):
        raise ValueError("it begins with no option")
    groups: list[tuple[str, list[str]]] = []
    for word in words:
        if word.startswith(MARK):
            groups.append((word[len(MARK) :].replace("-", "_"), []))
        else:
            groups[-1][1].append(word)
    yield from groups


def _fields(said: Mapping[str, str]) -> dict[str, object]:
    fields: dict[str, object] = {}
    sides = ["0", "0"]
    for name, value in said.items():
        if name in RESIZE:
            sides[RESIZE[name]] = value
        elif name == TILING:
            fields["tile"] = "xy" if value == "true" else "none"
        elif name not in UNUSED | WITHOUT_EFFECT:
            own = FIELD_OF.get(name, name)
            fields[own] = tuple(style.strip() for style in value.split(",")) if own == "styles" else value
    if any(name in said for name in RESIZE):
        fields["seed_resize"] = tuple(sides)
    return fields


_KNOWN = frozenset({*FIELDS, *FIELD_OF, *RESIZE, *UNUSED, *WITHOUT_EFFECT, TILING})
