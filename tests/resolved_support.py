"""A resolved request written out by hand: DPM++ 2M Karras on Stable Diffusion 1 with nothing unusual."""

from __future__ import annotations

from pydantic import BaseModel

from atelier.request.model import Provenance
from atelier.request.resolved import (
    AsMade,
    ModelRef,
    NoChannels,
    NoHires,
    NoPostprocess,
    NoRefiner,
    NoRegions,
    NoSource,
    NoViews,
    Resolved,
    ResolvedGuidance,
    ResolvedNoise,
    ResolvedOutput,
    ResolvedPrompting,
    ResolvedSampling,
    ResolvedSizes,
    ResolvedTiling,
    SampleSettings,
    Size,
)

PROVENANCE = Provenance("0.1.0", "fp32", "cpu", "torch 2.13.0")
SAMPLING = ResolvedSampling(
    steps=20,
    sampler="DPM++ 2M",
    scheduler="Karras",
    eta=1.0,
    s_churn=0.0,
    s_tmin=0.0,
    s_tmax=1e9,
    s_noise=1.0,
    order=1,
    variant="bh1",
    lower_order_final=True,
    sigma_min=0.0291671582,
    sigma_max=14.6146412,
    rho=7.0,
    alpha=0.6,
    beta=0.6,
    discard_penultimate=False,
    downcast=False,
    zero_terminal=False,
)
SIZES = ResolvedSizes(original=AsMade(), top=0, left=0, target=AsMade(), score=6.0)
RESOLVED = Resolved(
    sizes=SIZES,
    negative_sizes=SIZES.model_copy(update={"score": 2.5}),
    model=ModelRef(
        name="v1-5-pruned-emaonly",
        path="models/v1-5-pruned-emaonly.safetensors",
        sha256="6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
    ),
    size=Size(512, 768),
    batch_size=1,
    samples=(
        SampleSettings(seed=1, variation_seed=0, prompt="a red apple", negative_prompt="", regions=()),
        SampleSettings(seed=2, variation_seed=0, prompt="a red apple", negative_prompt="", regions=()),
    ),
    adapters=(),
    inversions=(),
    prompting=ResolvedPrompting(
        prompt="a red apple", negative_prompt="", emphasis="Original", clip_skip=1, old_timelines=False
    ),
    noise=ResolvedNoise(source="cpu", variation_strength=0.0, resized_from=AsMade(), seed_delta=0, unit_start=False),
    sampling=SAMPLING,
    guidance=ResolvedGuidance(
        scale=7.0,
        rescale=0.0,
        skip_early=0.0,
        ngms=0.0,
        ngms_all_steps=False,
        pag_scale=0.0,
        pag_layers="middle",
        sag_scale=0.0,
        sag_blur_sigma=2.0,
        apg_eta=1.0,
        apg_norm_threshold=0.0,
        apg_momentum=0.0,
        mimic_scale=0.0,
        mimic_percentile=100.0,
        mimic_phi=1.0,
        perp_neg_scale=0.0,
        slg_scale=0.0,
        freeu_b1=1.0,
        freeu_b2=1.0,
        freeu_s1=1.0,
        freeu_s2=1.0,
        freeu_version="2",
        cfg_interval_low=0.0,
        cfg_interval_high=1e9,
        clip_guidance_scale=0.0,
    ),
    source=NoSource(),
    channels=NoChannels(),
    hires=NoHires(),
    refiner=NoRefiner(),
    regions=NoRegions(),
    steering=(),
    views=NoViews(),
    tiling=ResolvedTiling(x=False, y=False),
    postprocess=NoPostprocess(),
    vae_strips="auto",
    output=ResolvedOutput(folders=()),
)


def changed(resolved: Resolved, **changes: object) -> Resolved:
    """With these values, each named by its group and its own name (`noise__source="nv"`), or a whole group."""
    updates: dict[str, object] = {}
    for name, value in changes.items():
        group, _, field = name.partition("__")
        if not field:
            updates[group] = value
            continue
        before = updates.get(group, getattr(resolved, group))
        assert isinstance(before, BaseModel)
        assert field in type(before).model_fields
        updates[group] = before.model_copy(update={field: value})
    return resolved.model_copy(update=updates)


def said(resolved: Resolved, prompt: str, negative_prompt: str = "") -> Resolved:
    """With these prompts, of the request and of all its images."""
    words = {"prompt": prompt, "negative_prompt": negative_prompt}
    samples = tuple(sample.model_copy(update=words) for sample in resolved.samples)
    return changed(resolved, samples=samples, prompting=resolved.prompting.model_copy(update=words))
