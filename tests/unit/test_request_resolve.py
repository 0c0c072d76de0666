"""Resolving leaves nothing open: defaults, seeds, choices, and the way of every option to its place."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from atelier.errors import BadInput
from atelier.request.model import Request
from atelier.request.resolve import ALL_SEEDS, OPTIONS, Method, Offer, RequestDefaults, ignored, resolve
from atelier.request.resolved import (
    AsMade,
    ImageRef,
    PassPrompts,
    Resolved,
    ResolvedHires,
    ResolvedOutput,
    ResolvedSampling,
    SaidSize,
    SampleSettings,
    Size,
)
from atelier.request.table import request_of
from resolved_support import RESOLVED, SAMPLING


def draw(text: str, what: str, seed: int) -> str:
    """Says with what it was called."""
    return f"{text} ({what}, {seed})"


NONE, ALL = frozenset[str](), frozenset(OPTIONS.values())
OFFER = Offer(
    model=RESOLVED.model,
    defaults=RequestDefaults(steps=25, cfg_scale=5.0, width=64, height=96, side_step=8, latent_step=4),
    method=Method(SAMPLING, NONE),
    emphasis="No norm",
    draw=draw,
    refer=lambda path: ImageRef(path=path, sha256=path * 3),
    measure=lambda _: (64, 48),
)


def reading(reads: frozenset[str], **method: object) -> Offer:
    return replace(OFFER, method=Method(SAMPLING, reads, **method))


def resolved(offer: Offer = OFFER, **fields: object) -> Resolved:
    return resolve(request_of({"prompt": "p", "seed": 1} | fields), offer)


def test_the_model_fills_what_is_left_open():
    done = resolved()
    assert done.model == OFFER.model
    assert (done.size, done.batch_size) == ((64, 96), 1)
    assert done.sampling == SAMPLING.model_copy(update={"steps": 25})
    assert done.guidance.model_dump() == {
        "scale": 5.0,
        "rescale": 0.0,
        "skip_early": 0.0,
        "ngms": 0.0,
        "ngms_all_steps": False,
        "pag_scale": 0.0,
        "pag_layers": "middle",
        "sag_scale": 0.0,
        "sag_blur_sigma": 2.0,
        "apg_eta": 1.0,
        "apg_norm_threshold": 0.0,
        "apg_momentum": 0.0,
        "mimic_scale": 0.0,
        "mimic_percentile": 100.0,
        "mimic_phi": 1.0,
        "perp_neg_scale": 0.0,
        "slg_scale": 0.0,
        "freeu_b1": 1.0,
        "freeu_b2": 1.0,
        "freeu_s1": 1.0,
        "freeu_s2": 1.0,
        "freeu_version": "2",
        "cfg_interval_low": 0.0,
        "cfg_interval_high": 1e9,
        "clip_guidance_scale": 0.0,
    }
    assert done.noise.model_dump() == {
        "source": "portable",
        "variation_strength": 0.0,
        "resized_from": {"kind": "made"},
        "seed_delta": 0,
        "unit_start": False,
    }
    assert done.prompting.model_dump() == {
        "prompt": "p",
        "negative_prompt": "",
        "emphasis": "No norm",
        "clip_skip": 1,
        "old_timelines": False,
    }
    assert done.output == ResolvedOutput(folders=())


def test_what_was_asked_for_stays():
    done = resolved(
        negative_prompt="n",
        steps=3,
        cfg_scale=0,
        seed=9,
        width=128,
        height=72,
        batch_size=2,
        output="x",
        rng="nv",
        ensd=31337,
        sgm_noise_multiplier=True,
        clip_skip=2,
        old_timelines=True,
        cfg_rescale=0.7,
        skip_early_cfg=0.1,
        ngms=1.5,
        ngms_all_steps=True,
        pag_scale=3,
        pag_layers="up.1",
        cfg_interval_high=9,
        freeu_s2=0.5,
        freeu_version="1",
        sag_blur_sigma=1,
        mimic_phi=0.5,
    )
    assert (done.size, done.batch_size, done.output.folders) == ((128, 72), 2, ("x",))
    assert done.sampling.steps == 3
    assert done.guidance.model_dump() == {
        "scale": 0.0,
        "rescale": 0.7,
        "skip_early": 0.1,
        "ngms": 1.5,
        "ngms_all_steps": True,
        "pag_scale": 3.0,
        "pag_layers": "up.1",
        "sag_scale": 0.0,
        "sag_blur_sigma": 2.0,
        "apg_eta": 1.0,
        "apg_norm_threshold": 0.0,
        "apg_momentum": 0.0,
        "mimic_scale": 0.0,
        "mimic_percentile": 100.0,
        "mimic_phi": 1.0,
        "perp_neg_scale": 0.0,
        "slg_scale": 0.0,
        "freeu_b1": 1.0,
        "freeu_b2": 1.0,
        "freeu_s1": 1.0,
        "freeu_s2": 0.5,
        "freeu_version": "1",
        "cfg_interval_low": 0.0,
        "cfg_interval_high": 9.0,
        "clip_guidance_scale": 0.0,
    }
    assert (done.noise.source, done.noise.seed_delta, done.noise.unit_start) == ("nv", 31337, True)
    assert (done.prompting.negative_prompt, done.prompting.clip_skip, done.prompting.old_timelines) == ("n", 2, True)


def test_sizes_fit_the_model():
    offer = replace(OFFER, defaults=replace(OFFER.defaults, side_step=16))
    with pytest.raises(BadInput, match="width 72 is not a multiple of 16: use 64 or 80"):
        resolved(offer, width=72)
    with pytest.raises(BadInput, match="height 72 is not a multiple of 16: use 64 or 80"):
        resolved(offer, height=72)


# the field of a request, a value, what samplers, schedules and ResolvedSampling call it
FIELDS = [
    ("eta", 0.25, "eta"),
    ("s_churn", 6.0, "s_churn"),
    ("s_tmin", 0.5, "s_tmin"),
    ("s_tmax", 12.0, "s_tmax"),
    ("s_noise", 1.03, "s_noise"),
    ("sigma_min", 0.1, "sigma_min"),
    ("sigma_max", 10.0, "sigma_max"),
    ("rho", 5.0, "rho"),
    ("beta_alpha", 0.8, "alpha"),
    ("beta_beta", 1.4, "beta"),
    ("unipc_order", 2, "order"),
    ("unipc_variant", "vary_coeff", "variant"),
    ("unipc_lower_order_final", False, "lower_order_final"),
]


@pytest.mark.parametrize(("field", "value", "name"), FIELDS)
def test_an_option_that_is_read_reaches_its_place_and_another_is_named(field: str, value: object, name: str):
    usual = resolved().sampling
    assert getattr(usual, name) != value
    assert resolved(reading(frozenset({name})), **{field: value}).sampling == usual.model_copy(update={name: value})
    assert resolved(reading(ALL - {name}), **{field: value}).sampling == usual
    request = request_of({"prompt": "", field: value})
    assert ignored(request, Method(SAMPLING, frozenset({name}))) == []
    assert ignored(request, Method(SAMPLING, ALL - {name})) == [field]


def test_every_option_is_in_the_table_above():
    assert {field: name for field, _, name in FIELDS} == OPTIONS
    asked = request_of({"prompt": "", **{field: value for field, value, _ in FIELDS}})
    assert ignored(asked, Method(SAMPLING, NONE)) == sorted(field for field, _, _ in FIELDS)
    assert ignored(Request(prompt=""), Method(SAMPLING, NONE)) == []


@pytest.mark.parametrize("field", ["s_tmax", "sigma_min", "sigma_max", "rho"])
def test_zero_says_nothing_where_it_could_mean_nothing(field: str):
    assert resolved(reading(ALL), **{field: 0}).sampling == resolved().sampling
    assert resolved().sampling.s_tmax == 1e9


def test_eta_zero_is_an_eta():
    assert resolved(reading(ALL), eta=0).sampling.eta == 0


@pytest.mark.parametrize("sampler", ["DDIM", "DDIM CFG++"])
def test_eta_ddim_is_the_eta_of_the_ddim_kind_alone(sampler: str):
    other, eta = reading(frozenset({"eta"})), frozenset({"eta"})
    ddim = replace(OFFER, method=Method(SAMPLING.model_copy(update={"sampler": sampler}), eta))
    assert resolved(ddim, eta_ddim=0.3).sampling.eta == 0.3
    assert resolved(ddim, eta_ddim=0.3, eta=0.7).sampling.eta == 0.3
    assert resolved(ddim, eta_ddim=0, eta=0.7).sampling.eta == 0
    assert resolved(ddim, eta=0.7).sampling.eta == 0.7
    assert resolved(other, eta_ddim=0.3).sampling.eta == 1.0
    assert resolved(other, eta_ddim=0.3, eta=0.7).sampling.eta == 0.7


@pytest.mark.parametrize("own", [False, True])
def test_the_penultimate_sigma_is_discarded_as_asked_but_never_of_a_list(own: bool):
    sampling = SAMPLING.model_copy(update={"discard_penultimate": own})
    free, listed = (replace(OFFER, method=Method(sampling, NONE, steps)) for steps in (None, 3))
    assert resolved(free).sampling.discard_penultimate is own
    assert resolved(listed).sampling.discard_penultimate is own
    for asked in (False, True):
        assert resolved(free, discard_penultimate_sigma=asked).sampling.discard_penultimate is asked
        assert resolved(listed, discard_penultimate_sigma=asked).sampling.discard_penultimate is own


def test_a_list_of_sigmas_has_its_own_steps_up_to_the_limit():
    assert resolved(reading(NONE, steps=3), steps=50).sampling.steps == 3
    assert resolved(reading(NONE, steps=1000)).sampling.steps == 1000
    with pytest.raises(BadInput, match="the list of sigmas has 1001 steps: the limit is 1000"):
        resolved(reading(NONE, steps=1001))


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ((512, 640), (512, 640)),  # width first
        ((640, 512), (640, 512)),
        ((64, 96), (64, 96)),  # the image's own size, but not that of a second pass
        ((4, 4), (4, 4)),  # one position of the latents
        ((3, 512), None),
        ((512, 3), None),
        ((0, 0), None),
        (None, None),
    ],
)
def test_the_noise_is_resized_from_a_size_of_at_least_one_latent_position(
    asked: tuple[int, int] | None, kept: tuple[int, int] | None
):
    said = AsMade() if kept is None else SaidSize(size=Size(*kept))
    assert resolved(seed_resize=asked).noise.resized_from == said


def seeds(done: Resolved) -> list[int]:
    return [sample.seed for sample in done.samples]


def variation_seeds(done: Resolved) -> list[int]:
    return [sample.variation_seed for sample in done.samples]


def test_seeds_are_drawn_once_and_count_up():
    request = Request(prompt="", seed=-1, batch_size=2, batch_count=2)
    first = seeds(resolve(request, OFFER, random.Random(1)))
    assert first == seeds(resolve(request, OFFER, random.Random(1)))
    assert first == [first[0] + i for i in range(4)]
    assert first != seeds(resolve(request, OFFER, random.Random(2)))
    assert seeds(resolve(request, OFFER)) != seeds(resolve(request, OFFER))
    unsaid = Request(prompt="", batch_size=2, batch_count=2)
    assert first == seeds(resolve(unsaid, OFFER, random.Random(1)))


def test_drawn_seeds_have_32_bits():
    class Highest(random.Random):
        def randrange(self, start: int, *_more: object) -> int:
            return start - 1

    assert seeds(resolve(Request(prompt=""), OFFER, Highest())) == [2**32 - 1]


def test_a_seed_of_0_is_a_seed():
    assert seeds(resolve(Request(prompt="", seed=0), OFFER)) == [0]


def test_the_largest_seed_is_followed_by_the_smallest():
    assert ALL_SEEDS == 2**64
    assert seeds(resolved(seed=2**64 - 1, batch_size=2)) == [2**64 - 1, 0]
    done = resolved(variation_seed=2**64 - 1, variation_strength=0.1, batch_size=2)
    assert variation_seeds(done) == [2**64 - 1, 0]


def test_a_variation_shares_the_seed_and_counts_the_variation_seeds():
    done = resolved(seed=5, variation_seed=9, variation_strength=0.1, batch_size=3)
    assert (seeds(done), variation_seeds(done)) == ([5, 5, 5], [9, 10, 11])
    assert done.noise.variation_strength == 0.1
    open_ = request_of({"prompt": "", "seed": 5, "variation_strength": 0.1})
    first, again = (variation_seeds(resolve(open_, OFFER, random.Random(1))) for _ in range(2))
    assert first == again != variation_seeds(resolve(open_, OFFER, random.Random(2)))


def test_without_a_strength_there_is_no_variation():
    done = resolved(seed=5, variation_seed=9, batch_size=2)
    assert (seeds(done), variation_seeds(done)) == ([5, 6], [0, 0])


def test_every_image_has_its_choices_drawn_from_its_seed():
    done = resolved(prompt="a", negative_prompt="b", seed=5, batch_size=2)
    assert done.samples == (
        SampleSettings(
            seed=5, variation_seed=0, prompt="a (prompt, 5)", negative_prompt="b (negative prompt, 5)", regions=()
        ),
        SampleSettings(
            seed=6, variation_seed=0, prompt="a (prompt, 6)", negative_prompt="b (negative prompt, 6)", regions=()
        ),
    )
    assert (done.prompting.prompt, done.prompting.negative_prompt) == ("a", "b")


def test_a_variation_changes_no_words():
    done = resolved(
        prompt="a", negative_prompt="b", seed=3, variation_seed=10, variation_strength=0.1, batch_size=2, batch_count=2
    )
    assert [sample.prompt for sample in done.samples] == ["a (prompt, 3)"] * 4
    assert [sample.negative_prompt for sample in done.samples] == ["b (negative prompt, 3)"] * 4


def test_a_variation_changes_no_words_of_a_second_pass():
    again = {"hires_upscale": 2.0, "hires_prompt": "a", "hires_negative_prompt": "b"}
    done = resolved(seed=3, variation_seed=10, variation_strength=0.1, batch_size=2, **again)
    assert isinstance(done.hires, ResolvedHires)
    own = PassPrompts(prompt="a (hires prompt, 3)", negative_prompt="b (hires negative prompt, 3)")
    assert done.hires.prompts == (own, own)


def test_choices_can_be_left_alone():
    (sample,) = resolved(prompt="{a|b}", negative_prompt="{c|d}", choices=False).samples
    assert (sample.prompt, sample.negative_prompt) == ("{a|b}", "{c|d}")


def test_each_prompt_is_drawn_once_an_image():
    calls: list[tuple[str, str, int]] = []

    def told(text: str, what: str, seed: int) -> str:
        calls.append((text, what, seed))
        return text

    resolved(replace(OFFER, draw=told), prompt="a", negative_prompt="b", batch_size=2)
    assert calls == [("a", "prompt", 1), ("b", "negative prompt", 1), ("a", "prompt", 2), ("b", "negative prompt", 2)]


def test_nothing_of_the_sampling_is_left_at_another_default():
    """Every field that a request can say and ResolvedSampling holds is in the table, but for these."""
    assert {name for _, _, name in FIELDS} | {
        *("steps", "sampler", "scheduler", "discard_penultimate", "downcast", "zero_terminal"),
    } == set(ResolvedSampling.model_fields)
