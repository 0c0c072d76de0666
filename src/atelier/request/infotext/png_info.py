"""The dictionary that A1111 makes of an infotext: its own keys, defaults filled in, sizes as two entries.

What its API (`/sdapi/v1/png-info`) and its paste button show (docs/compatibility/infotexts.md). By its own rule: the
last line is the parameters if it has three things that look like pairs, whatever they are, else it is prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from atelier.request.infotext.keys import Settings
from atelier.request.infotext.pairs import split_pairs
from atelier.request.infotext.parameter_line import NEGATIVE
from atelier.request.infotext.record import Infotext
from atelier.request.infotext.settings import settings_of

A1111_DEFAULTS: Mapping[str, object] = {
    "Clip skip": "1",
    "Hires resize-1": 0,
    "Hires resize-2": 0,
    "Hires sampler": "Use same sampler",
    "Hires schedule type": "Use same scheduler",
    "Hires checkpoint": "Use same checkpoint",
    "Hires prompt": "",
    "Hires negative prompt": "",
    "Mask mode": "Inpaint masked",
    "Masked content": "original",
    "Inpaint area": "Whole picture",
    "Masked area padding": 32,
    "RNG": "GPU",
    "Schedule type": "Automatic",
    "Schedule max sigma": 0,
    "Schedule min sigma": 0,
    "Schedule rho": 0,
    "VAE Encoder": "Full",
    "VAE Decoder": "Full",
    "FP8 weight": "Disable",
    "Refiner switch by sampling steps": False,
}
"""What A1111 1.10 assumes where an infotext says nothing."""
_FLAGS: Mapping[str, str] = {
    "old_timelines": "Old prompt editing timelines",
    "pad_conds_v0": "Pad conds v0",
    "downcast_alphas": "Downcast alphas_cumprod",
    "refiner_by_steps": "Refiner switch by sampling steps",
}
_MIN_PAIRS = 3
_SIDES = re.compile(r"(\d+)x(\d+)")


def by_key(text: str) -> dict[str, str]:
    """The pairs of a text by key, prompts too; WxH as key-1 and key-2; later pairs come before earlier ones."""
    return _by_key(_read(text))


def _read(text: str) -> Infotext:
    *lines, last = text.strip().split("\n")
    pairs = [pair for pair in split_pairs(last) if pair.key and last[pair.at + len(pair.key) :].startswith(":")]
    if len(pairs) < _MIN_PAIRS:
        lines, pairs = [*lines, last], []
    prompt: list[str] = []
    negative: list[str] = []
    side = prompt
    for line in map(str.strip, lines):
        if line.startswith(NEGATIVE):
            side = negative
        side.append(line.removeprefix(NEGATIVE).strip())
    kept = tuple((pair.key, pair.value) for pair in pairs if pair.value)
    return Infotext("\n".join(prompt), "\n".join(negative), kept, "a1111")


def _by_key(found: Infotext) -> dict[str, str]:
    pairs = {"Prompt": found.prompt, "Negative prompt": found.negative_prompt}
    for key, value in found.pairs:
        sides = _SIDES.fullmatch(value)
        if sides:
            pairs |= {f"{key}-1": sides[1], f"{key}-2": sides[2]}
        else:
            pairs[key] = value
    return pairs


def filled(text: str) -> dict[str, object]:
    """`by_key`, with A1111's defaults, and its older ways said in today's keys."""
    found = _read(text)
    settings = settings_of(found).settings
    fields: dict[str, object] = {**A1111_DEFAULTS, **_by_key(found), "Prompt": settings.prompt}
    if "First pass size-1" in fields:
        fields |= _old_sizes(settings)
    if fields["FP8 weight"] != "Disable":
        fields.setdefault("Cache FP16 weight for LoRA", False)
    if _uses_emphasis(found):
        fields.setdefault("Emphasis", "Original")
    flags = {key: True for field, key in _FLAGS.items() if getattr(settings, field) is True}
    return fields | flags


def _old_sizes(settings: Settings) -> dict[str, object]:
    sizes = {"Size": settings.size or (0, 0), "Hires resize": settings.hires_resize or (0, 0)}
    return {f"{key}-{i}": str(side) for key, size in sizes.items() for i, side in enumerate(size, start=1)}


def _uses_emphasis(found: Infotext) -> bool:
    return any(sign in text for text in (found.prompt, found.negative_prompt) for sign in "([")
