"""What A1111's extension Latent Couple ("two shots") made of the parts of a prompt between AND, as regions.

    Latent Couple: "divisions=1:1,1:2,1:2 positions=0:0,0:0,0:1 weights=0.2,0.8,0.8 end at step=20"

Each part has a grid (rows:columns), its cell there (row:column, from 0), and a weight.
"""

from __future__ import annotations

import re
from dataclasses import replace

from atelier.request.infotext.keys import Settings
from atelier.request.infotext.record import Infotext
from atelier.request.regions import MAX_REGIONS, MAX_WEIGHT, Region, Shares, region_text
from atelier.request.spoken import joined, number

KEY = "Latent Couple"
DIGITS = 6
"""Of shares: as many as an infotext says."""
_SAID = re.compile(r"divisions=(\S+) positions=(\S+) weights=(\S+) end at step=(\d{1,9})")


def with_parts_in_places(settings: Settings, found: Infotext) -> tuple[Settings, tuple[str, ...]]:
    """(the settings with the regions that the key means, and without it; what is different here). The settings as they
    are where there is no such key, or where it says other than the prompt."""
    said = _SAID.fullmatch((found.get(KEY) or "").strip())
    parts = [part.strip() for part in re.split(r"\bAND\b", settings.prompt)]
    if said is None or settings.regions is not None or not all(parts) or len(parts) > MAX_REGIONS:
        return settings, ()
    places = [_place(*own) for own in zip(said[1].split(","), said[2].split(","), strict=False)]
    weights = [number(weight) for weight in said[3].split(",")]
    if not len(parts) == len(places) == len(weights) or not all(0 < weight <= MAX_WEIGHT for weight in weights):
        return settings, ()
    regions = [Region(place, part, None, w) for place, part, w in zip(places, parts, weights, strict=True) if place]
    if len(regions) < len(parts):
        return settings, ()
    text = joined([region_text(region) for region in regions])
    extras = tuple(pair for pair in settings.extras if pair[0] != KEY)
    end, steps = int(said[4]), settings.steps or 0
    notes = (f"{KEY}: regions act to the end here, there until step {end}",) if end < steps else ()
    return replace(settings, prompt=parts[0], regions=text, extras=extras), notes


def _place(division: str, position: str) -> Shares | None:
    """A cell of a grid; None for one that is not in the image."""
    rows, _, columns = division.partition(":")
    row, _, column = position.partition(":")
    down, across, top, left = (number(text) for text in (rows, columns, row, column))
    if not (down >= 1 and across >= 1 and 0 <= top <= down - 1 and 0 <= left <= across - 1):
        return None
    edges = (left / across, top / down, (left + 1) / across, (top + 1) / down)
    box = Shares(*(round(edge, DIGITS) for edge in edges))
    return box if box.left < box.right and box.top < box.bottom else None
