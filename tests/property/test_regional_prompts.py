"""Whatever an infotext of Regional Prompter says: regions that cover the image once, or none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atelier.request.infotext import interpret, to_request
from atelier.request.infotext.record import Infotext
from atelier.request.regions import Shares, parse_region
from atelier.request.spoken import split

WORDS = ("BREAK", "ADDROW", "ADDCOL", "ADDBASE", "ADDCOMM", "AND", "a hare", "x=1: b", "<lora:n:1>", ",", "\n", "")
prompts = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
NUMBERS = ("1", "2.5", "0.9999", "0", "-1", "nan", "1e308", "1e-9", ",", ";", "")
ratios = st.lists(st.sampled_from(NUMBERS), max_size=7).map("".join)
switches = st.sampled_from(("True", "False"))


@settings(max_examples=300, deadline=None)
@given(prompts, prompts, ratios, ratios, st.sampled_from(("Columns", "Rows")), switches, switches, switches)
def test_any_say_a_whole_image_or_nothing(
    prompt: str, negative: str, division: str, shares: str, way: str, base: str, common: str, flip: str
) -> None:
    said = {"Active": "True", "Divide mode": "Matrix", "Matrix submode": way, "Ratios": division, "Flip": flip}
    said |= {"Base Ratios": shares, "Use Base": base, "Use Common": common, "Use Ncommon": base}
    pairs = tuple((f"RP {name}", value) for name, value in said.items())
    found = Infotext(prompt, negative, (("Steps", "20"), *pairs), "a1111")
    read = interpret(found).settings
    if read.regions is None:
        assert (read.prompt, read.extras) == (prompt, pairs)
        return
    places = [parse_region(text).place for text in split(read.regions)]
    boxes = [place for place in places if isinstance(place, Shares) and place != (0, 0, 1, 1)]
    if len(boxes) == len(places):
        area = sum((box.right - box.left) * (box.bottom - box.top) for box in boxes)
        assert area == pytest.approx(1, abs=1e-4)
    assert to_request(found).layout.regions == tuple(split(read.regions))
