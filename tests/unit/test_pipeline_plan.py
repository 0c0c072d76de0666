"""Planning is a pure function."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier.errors import BadInput
from atelier.families.telling import Said, Telling
from atelier.pipeline.plan import plan
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.decode import Decode
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.pipeline.stages.encode import Encode
from atelier.pipeline.stages.save import Save
from atelier.pipeline.values import IMAGES, LATENTS, STATES
from atelier.request.resolved import Resolved
from resolved_support import PROVENANCE, RESOLVED, SAMPLING, changed, said


def saying(*prompts: str, negative_prompt: str = "a dog", **changes: object) -> Resolved:
    """One sample for each prompt, with seeds from 7 on, all in one batch, in three steps of Euler."""
    (first, *_) = RESOLVED.samples
    samples = tuple(
        first.model_copy(update={"seed": 7 + i, "prompt": prompt, "negative_prompt": negative_prompt})
        for i, prompt in enumerate(prompts)
    )
    usual = {"sampling__sampler": "Euler", "sampling__steps": 3, "output__folders": ("outputs",)}
    return changed(said(RESOLVED, prompts[0], negative_prompt), samples=samples, batch_size=len(prompts)).model_copy(
        update={
            name: getattr(changed(RESOLVED, **{**usual, **changes}), name)
            for name in ("sampling", "output", "prompting", "noise", "guidance", "size")
        }
    )


def planned(resolved: Resolved, **options: object) -> tuple[Stage, ...]:
    return plan(resolved, SAMPLING, PROVENANCE, **options)


def diffusing(stages: tuple[Stage, ...]) -> list[Diffuse]:
    return [stage for stage in stages if isinstance(stage, Diffuse)]


def test_one_image() -> None:
    resolved = saying("a cat")
    encode, diffuse, decode, save = planned(resolved)
    assert encode == Encode(RESOLVED.model, (("a dog",), ("a cat",)), "Original", 1, STATES)
    assert isinstance(diffuse, Diffuse)
    assert diffuse == Diffuse(
        model=RESOLVED.model,
        samples=diffuse.samples,
        size=resolved.size,
        sampling=resolved.sampling,
        guidance=resolved.guidance,
        noise=resolved.noise,
        states=STATES,
        out=LATENTS,
        shown=Telling(0, 0, positively=Said(score=6.0), negatively=Said(score=2.5)),
        previews=False,
    )
    assert decode == Decode(RESOLVED.model, diffuse.samples, LATENTS, IMAGES)
    assert save == Save(diffuse.samples, 1, "outputs", IMAGES)
    (sample,) = diffuse.samples
    assert (sample.index, sample.seed, sample.settings.seed) == (0, 7, 7)
    assert [stage.images for stage in (encode, diffuse, decode, save)] == [0, 0, 1, 0]
    assert [stage.steps for stage in (encode, diffuse, decode, save)] == [0, 3, 0, 0]


def test_an_image_that_only_a_later_stage_needs_is_not_counted() -> None:
    """How many images a request makes is what its stages say together."""
    *_, decode, _ = planned(saying("a cat"))
    assert isinstance(decode, Decode)
    assert (decode.images, replace(decode, told=False).images) == (1, 0)


def test_what_is_borrowed() -> None:
    encode, diffuse, decode, save = planned(saying("a cat"))
    assert [need.part.name for stage in (encode, diffuse, decode) for need in stage.needs()] == [
        "text",
        "denoiser",
        "autoencoder",
    ]
    assert {need.model for stage in (encode, diffuse, decode) for need in stage.needs()} == {RESOLVED.model}
    assert save.needs() == ()
    (shows,) = diffusing(planned(saying("a cat"), previews=True))
    assert [need.part.name for need in shows.needs()] == ["denoiser", "autoencoder"]


@pytest.mark.parametrize(
    ("max_batch", "groups"), [(None, [3, 3]), (1, [1] * 6), (2, [2, 1, 2, 1]), (3, [3, 3]), (8, [3, 3])]
)
def test_groups_are_within_batches_and_within_what_fits(max_batch: int | None, groups: list[int]) -> None:
    resolved = changed(saying(*["a cat"] * 6), batch_size=3)
    stages = diffusing(planned(resolved, max_batch=max_batch))
    assert [len(stage.samples) for stage in stages] == groups
    samples = [sample for stage in stages for sample in stage.samples]
    assert [(sample.index, sample.seed) for sample in samples] == [(i, 7 + i) for i in range(6)]


def test_each_group_is_finished_before_the_next_begins() -> None:
    stages = planned(saying(*["a cat"] * 3), max_batch=1)
    assert [type(stage) for stage in stages] == [Encode] + [Diffuse, Decode, Save] * 3
    assert [stage.count for stage in stages if isinstance(stage, Save)] == [3, 3, 3]


def test_without_an_output_nothing_is_saved_and_with_two_it_is_saved_twice() -> None:
    assert not any(isinstance(stage, Save) for stage in planned(saying("a cat", output__folders=())))
    twice = planned(saying("a cat", output__folders=("a", "b.png")))
    assert [stage.output for stage in twice if isinstance(stage, Save)] == ["a", "b.png"]


def test_the_same_request_is_the_same_plan() -> None:
    resolved = saying("a [red|blue] cat", "a cat")
    assert planned(resolved) == planned(Resolved.from_json(resolved.to_json()))


def spans(resolved: Resolved) -> list[list[list[tuple[int, str]]]]:
    """Of every image, of every part: what is active up to which step."""
    samples = [sample for stage in diffusing(planned(resolved)) for sample in stage.samples]
    return [[[(s.end, s.text) for s in part.spans] for part in sample.prompt.parts] for sample in samples]


def test_timelines_count_the_calls_of_the_sampler() -> None:
    assert spans(saying("[a:b:0.5]")) == [[[(1, "a"), (3, "b")]]]
    assert spans(saying("[a:b:0.5]", sampling__sampler="Heun")) == [[[(3, "a"), (6, "b")]]]
    assert spans(saying("[a:b:0.5]", sampling__sampler="DPM adaptive")) == [[[(1, "a"), (3, "b")]]]
    assert spans(saying("[a:b:2.5]", prompting__old_timelines=True)) == [[[(2, "a"), (3, "b")]]]


def test_comments_are_left_out() -> None:
    assert spans(saying("a cat # not a dog")) == [[[(3, "a cat")]]]


def test_images_of_other_weights_are_generated_apart() -> None:
    resolved = saying("a AND b", "c AND d", "c", "a AND b:0.5", "a AND b:0.5", "c")
    stages = diffusing(planned(resolved))
    assert [[sample.seed for sample in stage.samples] for stage in stages] == [[7, 8], [9], [10, 11], [12]]
    assert [stage.samples[0].prompt.weights for stage in stages] == [(1.0, 1.0), (1.0,), (1.0, 0.5), (1.0,)]


def test_every_text_is_encoded_once() -> None:
    encode = planned(saying(*["[a|b] AND c"] * 5))[0]
    assert isinstance(encode, Encode)
    assert encode.groups == (("a dog",), ("a", "b"), (" c",))


def test_weights_out_of_bounds_are_clamped_with_a_note() -> None:
    warnings: list[str] = []
    planned(saying("(a:1" + "0" * 400 + ")"), warn=warnings.append)
    assert warnings == ["weight inf is clamped to 1e+06"]


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(BadInput, match="unknown emphasis mode 'Orignal': did you mean Original"):
        planned(saying("a", prompting__emphasis="Orignal"))
