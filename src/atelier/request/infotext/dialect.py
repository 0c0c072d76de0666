"""What a dialect is: a program's own way of saying how an image was made, and how it is told from the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from atelier.registry import discover
from atelier.request.infotext.fields import Fields
from atelier.request.infotext.keys import Settings
from atelier.request.infotext.lines import Lines, lines_of
from atelier.request.infotext.record import Infotext
from atelier.request.infotext.text import Parts

NOTHING = lines_of("")


@dataclass(frozen=True, slots=True)
class Source:
    """A text before it is known whose it is: the fields of a JSON object, or a text and what its lines say."""

    fields: Fields = field(default_factory=dict[str, object])
    text: str = ""
    lines: Lines = NOTHING

    @property
    def values(self) -> Mapping[str, str]:
        """The pairs of the parameter line, by key."""
        return self.lines.values

    @property
    def version(self) -> str:
        """What the parameter line calls its writer; "" where it says nothing."""
        return self.values.get("Version", "")


@dataclass(frozen=True, slots=True)
class Form:
    """One of the ways in which a dialect is written.

    order: forms are tried from the lowest to the highest number, no two have the same. JSON objects have numbers below
    100, texts from 100 on; in each, the forms that say whose they are come first, and the one that takes what is left
    comes last. detects: whether a source has this form; it may rely on the forms before it having been refused.
    """

    order: int
    detects: Callable[[Source], bool]
    read: Callable[[Source], Infotext]


def unchanged(settings: Settings) -> Settings:
    return settings


def unknown_rng(_: Infotext) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Dialect:
    """A dialect, and what it means without saying so.

    rng: where the noise of its images comes from where the text does not say it. is_a1111: written by A1111's code,
    which ignores the schedule for some samplers. settle: what else the program does, put into the settings; their
    sampler and schedule have today's names already. keeps_ends: whether samplers that choose their levels
    do so between the ends of the schedule; elsewhere it is between those of the model, whatever the text says.
    """

    name: str
    forms: tuple[Form, ...]
    rng: Callable[[Infotext], str | None] = unknown_rng
    is_a1111: bool = False
    settle: Callable[[Settings], Settings] = unchanged
    aliases: tuple[str, ...] = ()
    keeps_ends: bool = False


def rng(name: str) -> Callable[[Infotext], str | None]:
    """The noise of a dialect that always comes from one source."""
    return lambda _: name


@cache
def dialects() -> Mapping[str, Dialect]:
    """All dialects by name."""
    from atelier.request.infotext import dialects as package

    return discover(package, Dialect)


@cache
def forms() -> tuple[Form, ...]:
    """The forms of all dialects, in order of precedence."""
    return tuple(sorted((form for d in dialects().values() for form in d.forms), key=lambda form: form.order))


def dialect_of(found: Infotext) -> Dialect:
    """The dialect of an infotext that was read."""
    return dialects()[found.dialect]


def recognised(source: Source) -> Infotext | None:
    """The infotext that a source is; None for a JSON object in which nothing is known."""
    matching: Iterator[Form] = (form for form in forms() if form.detects(source))
    first = next(matching, None)
    return None if first is None else first.read(source)


def object_source(fields: Fields) -> Source:
    return Source(fields=fields)


def text_source(text: str) -> Source:
    return Source(text=text.strip(), lines=lines_of(text))


def unread_source(text: str) -> Source:
    """A text that counts as a prompt without being looked at."""
    prompt = text.strip()
    return Source(text=prompt, lines=Lines(Parts(prompt, "", ()), (), {}))
