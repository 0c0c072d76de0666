"""Controls and references as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atelier.errors import BadInput
from atelier.request.controls import (
    FITS,
    MODES,
    PASSES,
    Control,
    Face,
    Reference,
    control_text,
    face_text,
    parse_control,
    parse_face,
    parse_reference,
    reference_text,
)
from atelier.request.table import request_of

CONTROLS = {
    "canny": Control(type="canny"),
    "canny:0.8": Control(type="canny", weight=0.8),
    "canny::0.5": Control(type="canny", weight=0.5),
    "canny:photo.png": Control(type="canny", image="photo.png"),
    "canny:photo.png:0.8": Control(type="canny", image="photo.png", weight=0.8),
    "canny:a.png weight=0.3": Control(type="canny", image="a.png", weight=0.3),
    "depth:0.5.png": Control(type="depth", image="0.5.png"),
    'depth:"a b.png":1.5': Control(type="depth", image="a b.png", weight=1.5),
    r"depth:C:\maps\x.png:2": Control(type="depth", image=r"C:\maps\x.png", weight=2.0),
    "canny:data:image/png;base64,AA+/=:0.7": Control(type="canny", image="data:image/png;base64,AA+/=", weight=0.7),
    "canny:a.png start=.1 end=.6 mode=prompt": Control(type="canny", image="a.png", start=0.1, end=0.6, mode="prompt"),
    'canny:a.png model="net [0123456789]" annotator=none': Control(
        type="canny", image="a.png", model="net [0123456789]", annotator="none"
    ),
    "canny:a.png mask=m.png pass=second resize=fill resolution=768": Control(
        type="canny", image="a.png", mask="m.png", passes="second", resize="fill", resolution=768
    ),
    "canny:a.png mode=control layers=1,0.25,0": Control(
        type="canny", image="a.png", mode="control", layers=(1.0, 0.25, 0.0)
    ),
    'canny:a.png layers="0.5, 2"': Control(type="canny", image="a.png", layers=(0.5, 2.0)),
    'canny:"v=1.png"': Control(type="canny", image="v=1.png"),
    "canny:a.png low=50 high=150.5": Control(type="canny", image="a.png", options=(("low", 50.0), ("high", 150.5))),
}
REFERENCES = {
    "a.png": Reference(image="a.png"),
    "a.png:0.6": Reference(image="a.png", weight=0.6),
    '"a b.png" blocks=style': Reference(image="a b.png", blocks="style"),
    "a.png end=0.5 model=plus": Reference(image="a.png", end=0.5, model="plus"),
}


@pytest.mark.parametrize("text", CONTROLS)
def test_controls_are_read(text: str) -> None:
    assert parse_control(text) == CONTROLS[text]


@pytest.mark.parametrize("text", REFERENCES)
def test_references_are_read(text: str) -> None:
    assert parse_reference(text) == REFERENCES[text]


BAD = {
    "": "names no type",
    ":a.png": "names no type",
    "model=x": "names no type",
    "canny:a.png:11": "weight '11': must be a number from 0 to 10",
    "canny:a.png:-1": "weight '-1': must be a number from 0 to 10",
    "canny:a.png:1 weight=1": "weight is given twice",
    "canny:a.png start=0.5 end=0.5": "start 0.5 is not before end 0.5",
    "canny:a.png mode=loud": "mode 'loud': choose one of balanced, prompt, control",
    "canny:a.png pass=third": "pass 'third': choose one of both, first, second",
    "canny:a.png resize=latent": "resize 'latent': choose one of stretch, crop, fill",
    "canny:a.png resolution=32": "resolution '32': must be pixels, 64 to 2048",
    "canny:a.png layers=1,,1": "layers '': must be a number from 0 to 10",
    "canny:a.png layers=1,11": "layers '11': must be a number from 0 to 10",
    "canny:a.png colour=red": "colour 'red': no key of a control",
    "canny:a.png what is this": "'what is this' is no key=value",
    "canny:a.png mask=a mask=b": "mask is given twice",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_controls_are_told(text: str) -> None:
    for read in (lambda: parse_control(text), lambda: request_of({"prompt": "", "controls": (text,)})):
        if not text and read.__code__.co_consts:
            continue
        with pytest.raises(BadInput) as caught:
            read()
        assert BAD[text] in str(caught.value)
        assert "\n" not in str(caught.value)


def test_bad_references_are_told() -> None:
    bad = {
        "": "names no image",
        "a.png mode=prompt": "'mode' is no key of a reference",
        "a.png with=next": "with 'next': it can be previous",
        "a.png:0.5 with=previous": "weight is that of the one before it: leave it out",
        "a.png with=previous model=x": "model is that of the one before it: leave it out",
    }
    for text, why in bad.items():
        with pytest.raises(BadInput, match=why):
            parse_reference(text)


def test_an_image_that_is_one_prompt_with_the_one_before_is_read() -> None:
    reference, face = Reference(image="b 1.png", joined=True), Face(image="b.png:2", joined=True, which=2)
    assert parse_reference('"b 1.png" with=previous') == reference
    assert reference_text(reference) == '"b 1.png" with=previous'
    assert face_text(face) == '"b.png:2" with=previous which=2'
    assert parse_face(face_text(face)) == face


FACES = {
    "a.png": Face(image="a.png"),
    "a.png:0.8 which=2 lora=0.5": Face(image="a.png", weight=0.8, which=2, lora=0.5),
    "a.png start=0": Face(image="a.png", start=0.0),
    "a.png control=none": Face(image="a.png", control="none"),
    "a.png control=c control_weight=0 pose=b.png": Face(image="a.png", control="c", control_weight=0.0, pose="b.png"),
}


@pytest.mark.parametrize("text", FACES)
def test_a_face_is_read(text: str) -> None:
    assert parse_face(text) == FACES[text]
    assert parse_face(face_text(FACES[text])) == FACES[text]


BAD_FACES = {
    ":0.5": "names no image",
    "a.png method=example": "'method' is no key of a face",
    "a.png which=1.5": "which '1.5': must be a whole number from 1 to 100",
    "a.png lora=-1": "lora '-1': must be a number from 0 to 10",
    "a.png control_weight=x": "control_weight 'x': must be a number from 0 to 10",
    "a.png control=none control_weight=1": "control_weight has no effect with control=none: leave it out",
}


@pytest.mark.parametrize("text", BAD_FACES)
def test_bad_faces_are_told(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        request_of({"prompt": "", "faces": (text,)})
    assert BAD_FACES[text] in str(caught.value)


def test_several_are_one_text_and_too_many_are_refused() -> None:
    made = request_of({"prompt": "", "controls": "canny:a.png\ndepth:b.png", "references": "c.png", "faces": "d.png"})
    assert made.steering.controls == ("canny:a.png", "depth:b.png")
    assert made.steering.references == ("c.png",)
    assert made.steering.faces == ("d.png",)
    with pytest.raises(BadInput, match="11 controls: at most 10 act at once"):
        request_of({"prompt": "", "controls": ("canny:a.png",) * 11})


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
WHEN = {
    "image": st.one_of(st.just(""), NAMES),
    "weight": st.floats(0, 10),
    "start": st.floats(0, 0.4),
    "end": st.floats(0.5, 1),
    "model": st.one_of(st.just(""), NAMES),
    "mask": st.one_of(st.just(""), NAMES),
    "passes": st.sampled_from(PASSES),
}


@given(
    st.builds(
        Control,
        **WHEN,
        type=st.sampled_from(("canny", "depth_midas", "seg-x")),
        mode=st.sampled_from(MODES),
        annotator=st.sampled_from(("", "none", "canny")),
        resize=st.sampled_from(FITS),
        resolution=st.sampled_from((0, 64, 2048)),
        options=st.sampled_from(((), (("low", 3.0),), (("a", -1.5), ("b", 1e-7)))),
    )
)
def test_the_text_of_a_control_is_read_as_it_was(control: Control) -> None:
    assert parse_control(control_text(control)) == control


@given(st.builds(Reference, **{**WHEN, "image": NAMES}, blocks=st.sampled_from(("", "style", "up.1=0.5,=0"))))
def test_the_text_of_a_reference_is_read_as_it_was(reference: Reference) -> None:
    assert parse_reference(reference_text(reference)) == reference


FACE = {
    "image": NAMES,
    "which": st.integers(1, 100),
    "lora": st.floats(0, 10),
    "control": st.one_of(st.just(""), NAMES).filter(lambda name: name != "none"),
    "control_weight": st.one_of(st.none(), st.floats(0, 10)),
    "pose": st.one_of(st.just(""), NAMES),
    "blocks": st.sampled_from(("", "style")),
}


@given(st.builds(Face, **{**WHEN, **FACE}))
def test_the_text_of_a_face_is_read_as_it_was(face: Face) -> None:
    assert parse_face(face_text(face)) == face
