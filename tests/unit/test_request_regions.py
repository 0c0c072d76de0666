"""Regions as text: what is read, what is refused in one line, and that what is written is read back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atelier.errors import BadInput
from atelier.request.regions import Region, Shares, parse_region, region_text
from atelier.request.spoken import joined, split
from atelier.request.table import request_of

LEFT = Shares(0, 0, 0.5, 1)


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("box=0,0,0.5,1: a red apple", Region(LEFT, "a red apple")),
        ("box=0,0,.5,1:a red apple", Region(LEFT, "a red apple")),
        ("  box = 0,0,0.5,1 , weight=2 :  a: b  ", Region(LEFT, "a: b", None, 2.0)),
        ('box=0,0,0.5,1 negative="x: y, \\"z\\"" weight=.3: a', Region(LEFT, "a", 'x: y, "z"', 0.3)),
        ('negative="" box=0,0,0.5,1: a', Region(LEFT, "a", "")),
        ("negative=blurry; box=0,0,0.5,1: a", Region(LEFT, "a", "blurry")),
        ("mask=left.png: a [b:c:0.5] (d:1.2)", Region("left.png", "a [b:c:0.5] (d:1.2)")),
        (r"mask=C:\masks\l.png: a", Region(r"C:\masks\l.png", "a")),
        ('mask="my masks/l.png": a', Region("my masks/l.png", "a")),
        ("box=0,0,0.5,1: a\nb", Region(LEFT, "a\nb")),
    ],
)
def test_it_is_read(text: str, region: Region) -> None:
    assert parse_region(text) == region
    assert parse_region(region_text(region)) == region


def test_it_is_written_in_few_words() -> None:
    assert region_text(Region(LEFT, "a red apple")) == "box=0,0,0.5,1: a red apple"
    assert region_text(Region("l.png", "a", "b c", 2.0)) == 'mask=l.png weight=2 negative="b c": a'
    assert region_text(Region("a b.png", "a", "")) == 'mask="a b.png" negative="": a'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a red apple", "needs one place"),
        ("box=0,0,0.5,1 a red apple", "'a red apple' is neither key=value nor a colon"),
        ("box=0,0,0.5,1:  ", "says nothing behind its colon"),
        ("box=0,0,0.5,1", "is neither key=value nor a colon"),
        ("box=0,0,1.5,1: a", "a box is four shares of the image, 0 to 1"),
        ("box=-0.1,0,1,1: a", "a box is four shares"),
        ("box=0,0,1: a", "a box is four shares"),
        ("box=0,0,nan,1: a", "a box is four shares"),
        ("box=0,0,x,1: a", "a box is four shares"),
        ("box=0.5,0,0.5,1: a", "the box is empty: left must be less than right"),
        ("box=0,1,1,0.5: a", "the box is empty"),
        ("box=0,0,1,1 mask=a.png: a", "needs one place, a box or a mask"),
        ("weight=1: a", "needs one place, a box or a mask"),
        ("mask=: a", "names no mask file"),
        ("box=0,0,1,1 weight=0: a", "weight 0: must be a number above 0, at most 100"),
        ("box=0,0,1,1 weight=101: a", "weight 101: must be"),
        ("box=0,0,1,1 weight=much: a", "weight much: must be"),
        ("box=0,0,1,1 box=0,0,1,1: a", "box is given twice"),
        ("box=0,0,1,1 size=3: a", "'size' is no key of a region"),
        ('box=0,0,1,1 negative="\\q": a', "the value of negative is no JSON string"),
    ],
)
def test_it_is_refused_in_one_line(text: str, told: str) -> None:
    for read in (lambda: parse_region(text), lambda: request_of({"prompt": "p", "regions": (text,)})):
        with pytest.raises(BadInput) as caught:
            read()
        message = str(caught.value)
        assert message.startswith("region '")
        assert told in message or (text == "a red apple" and "is neither" in message)
        assert "\n" not in message
        assert len(message) < 300


def test_there_are_limits() -> None:
    with pytest.raises(BadInput, match="33 regions: at most 32"):
        request_of({"prompt": "", "regions": ("box=0,0,1,1: a",) * 33})
    with pytest.raises(BadInput, match="regions holds"):
        request_of({"prompt": "", "regions": ("box=0,0,1,1: a\0",)})


def test_several_in_one_text_are_as_many_in_a_request() -> None:
    several = request_of({"prompt": "", "regions": "box=0,0,0.5,1: a\n b\n\nmask=l.png: c"})
    assert several.layout.regions == ("box=0,0,0.5,1: a\nb", "mask=l.png: c")


REGIONS = st.builds(
    Region,
    st.one_of(
        st.sampled_from([LEFT, Shares(0.1, 1 / 3, 0.7000000000000001, 1.0)]),
        st.text(st.characters(exclude_categories=("Cs",)), min_size=1),
    ),
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1).map(str.strip).filter(bool),
    st.none() | st.text(st.characters(exclude_categories=("Cs",))),
    st.floats(0, 100, exclude_min=True),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(REGIONS, max_size=4))
def test_any_are_read_back(some: list[Region]) -> None:
    texts = tuple(map(region_text, some))
    assert [parse_region(text) for text in texts] == some
    assert [parse_region(text) for text in split(joined(texts))] == some
