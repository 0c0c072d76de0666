"""Writing an infotext: from typed settings to A1111's form."""

from __future__ import annotations

from collections.abc import Iterator

from atelier.request.infotext.keys import KEYS, LAST_KEYS, Key, Settings
from atelier.request.infotext.pairs import joined, json_text, quoted
from atelier.request.infotext.parameter_line import NEGATIVE, NEGATIVE_KEY, PROMPT_KEY
from atelier.request.infotext.read import read


def write(settings: Settings) -> str:
    """The text of settings; reading it gives the same settings.

    Prompts that the lines of the form cannot carry (space at the ends of lines, lines that look like keys) are written
    a second time, as quoted pairs, which A1111 reads as well.
    """
    line = _line(settings)
    text = _lines(settings, line)
    parsed = read(text)
    says_the_same = (parsed.prompt, parsed.negative_prompt) == (settings.prompt, settings.negative_prompt)
    if says_the_same and bool(parsed.pairs) == bool(line):
        return text
    exact = f"{PROMPT_KEY}: {json_text(settings.prompt)}, {NEGATIVE_KEY}: {json_text(settings.negative_prompt)}"
    return _lines(settings, ", ".join(part for part in (line, exact) if part))


def _line(settings: Settings) -> str:
    """The parameter line. An unknown pair whose value is its key is quoted, so that it is seen to be a pair."""
    extras = (f"{k}: {json_text(v) if k == v else quoted(v)}" for k, v in settings.extras)
    parts = (joined(_known(settings, KEYS)), ", ".join(extras), joined(_known(settings, LAST_KEYS)))
    return ", ".join(part for part in parts if part)


def _known(settings: Settings, keys: tuple[Key, ...]) -> Iterator[tuple[str, object]]:
    for key in keys:
        value = getattr(settings, key.field)
        if value is not None and value != key.neutral:
            yield key.name, f"{value[0]}x{value[1]}" if key.kind == "size" else value


def _lines(settings: Settings, line: str) -> str:
    lines = [settings.prompt]
    if settings.negative_prompt:
        lines.append(f"{NEGATIVE} {settings.negative_prompt}")
    return "\n".join([*lines, line]).strip()
