"""A request with nothing left open: what is put in a queue, stored, and generated again.

Every value is one that the sampler, the model and the prompt language can use as it is: there is no None, no value that
stands for another, nothing to be drawn. Its JSON form read back is equal to it.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from atelier.request.controls import Fit, Mode, Passes
from atelier.request.fields import Rng

UniPcVariant = Literal["bh1", "bh2", "vary_coeff"]
FreeuVersion = Literal["1", "2", "diffusers"]
MaskedContent = Literal["fill", "original", "latent noise", "latent nothing"]
VaeStrips = Literal["auto", "always", "never"]
Counted = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class Value(BaseModel):
    """Frozen and complete: unknown keys and missing ones are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Size(NamedTuple):
    """Pixels."""

    width: Counted
    height: Counted


PartRole = Literal["autoencoder", "tiny autoencoder", "text encoder"]


class PartRef(Value):
    """A file or folder that a part of a model is taken from in place of the model's own, found; see `ModelRef`.

    A tiny autoencoder makes the last images; whatever else needs an autoencoder has the model's own.
    """

    role: PartRole
    name: str
    path: str
    sha256: str


class ModelRef(Value):
    """A model, found: its name, where it lies, and the SHA-256 of its weights (hex). parts: what is not its own."""

    name: str
    path: str
    sha256: str
    parts: tuple[PartRef, ...] = ()


class AdapterRef(Value):
    """A file that prompts name, found: what they call it, where it lies, and the SHA-256 (hex) of all of it.

    digits: of its hash, as infotexts say them; kind: what the tag is called that names it, or the LoRA in the file of
    an image prompt of faces or of a PhotoMaker, which no tag names.
    """

    name: str
    path: str
    sha256: str
    digits: str
    kind: Literal["lora", "hypernet", "face", "person"] = "lora"


class NoFile(Value):
    """It needs no file."""

    kind: Literal["none"] = "none"


class InFile(Value):
    """It lies in a file, whose name is what infotexts call it."""

    kind: Literal["file"] = "file"
    file: ModelRef


class RegionPrompts(Value):
    """The prompts of a region with their choices made."""

    prompt: str
    negative_prompt: str


class SampleSettings(Value):
    """One image of a request: its seeds, and its prompts with their choices made; regions: those of each region."""

    seed: int
    variation_seed: int
    prompt: str
    negative_prompt: str
    regions: tuple[RegionPrompts, ...]


class ResolvedPrompting(Value):
    """How prompts are read.

    prompt, negative_prompt: with the styles around them, before any choice was made; emphasis: the mode's name;
    clip_skip: 1 reads the last layer of the text encoder; old_timelines: see `prompt.Clock`.
    """

    prompt: str
    negative_prompt: str
    emphasis: str
    clip_skip: Counted
    old_timelines: bool


class AsMade(Value):
    """The size that the image is made at, of each pass its own."""

    kind: Literal["made"] = "made"


class SaidSize(Value):
    """A size that was said."""

    kind: Literal["said"] = "said"
    size: Size


class ResolvedNoise(Value):
    """The first noise of every image, and what goes on from it.

    variation_strength: 0 to 1, from the noise of the seed to that of the variation seed; resized_from: the size in
    pixels whose noise is kept, in each pass; seed_delta: added to the seed for all noise after the first; unit_start:
    begin at noise * sqrt(1 + sigma^2) whatever the sampler.
    """

    source: Rng
    variation_strength: Finite
    resized_from: Annotated[AsMade | SaidSize, Field(discriminator="kind")]
    seed_delta: int
    unit_start: bool


class ResolvedSampling(Value):
    """The sampler, its schedule, and what both read; names as in the registries (a list of sigmas stays one).

    What neither reads has the sampler's own value. s_churn, s_tmin, s_tmax, s_noise: Karras 2022, algorithm 2.
    sigma_min, sigma_max, rho, alpha, beta: of the schedule. discard_penultimate: the next-to-last sigma is left out.
    downcast, zero_terminal: how the model's levels are changed.
    """

    steps: Counted
    sampler: str
    scheduler: str
    eta: Finite
    s_churn: Finite
    s_tmin: Finite
    s_tmax: Finite
    s_noise: Finite
    order: Counted
    variant: UniPcVariant
    lower_order_final: bool
    sigma_min: Finite
    sigma_max: Finite
    rho: Finite
    alpha: Finite
    beta: Finite
    discard_penultimate: bool
    downcast: bool
    zero_terminal: bool

    @property
    def is_ddim(self) -> bool:
        """Whether the sampler is of the DDIM kind, whose eta A1111 keeps apart: eta_ddim, "Eta DDIM"."""
        return self.sampler.startswith("DDIM")


class ResolvedGuidance(Value):
    """scale: the CFG scale as the user says it; rescale: 0 to 1; skip_early: the share of the steps at the start
    without guidance; ngms: the sigma below which calls are without guidance, every other one or all of them.
    cfg_interval_low, cfg_interval_high: the sigmas between which there is CFG.

    The others are those of docs/guidance.md; what is switched off has the usual values.
    """

    scale: Finite
    rescale: Finite
    skip_early: Finite
    ngms: Finite
    ngms_all_steps: bool
    pag_scale: Finite
    pag_layers: str
    sag_scale: Finite
    sag_blur_sigma: Finite
    apg_eta: Finite
    apg_norm_threshold: Finite
    apg_momentum: Finite
    mimic_scale: Finite
    mimic_percentile: Finite
    mimic_phi: Finite
    perp_neg_scale: Finite
    slg_scale: Finite
    freeu_b1: Finite
    freeu_b2: Finite
    freeu_s1: Finite
    freeu_s2: Finite
    freeu_version: FreeuVersion
    cfg_interval_low: Finite
    cfg_interval_high: Finite
    clip_guidance_scale: Finite


class ImageRef(Value):
    """An image file or data: URI, and the SHA-256 of the file's bytes (hex)."""

    path: str
    sha256: str


class NoMask(Value):
    """All of the image is made anew."""

    kind: Literal["none"] = "none"


class NoSoftness(Value):
    """A position of the latent is made anew or kept."""

    kind: Literal["none"] = "none"


class ResolvedSoftness(Value):
    """Grey in the mask is how much is made anew. bias, strength, boost: `diffusion.combine.soft`; influence, threshold,
    contrast: `vision.difference`."""

    kind: Literal["soft"] = "soft"
    bias: Finite
    strength: Finite
    boost: Finite
    influence: Finite
    threshold: Finite
    contrast: Finite


class ResolvedMask(Value):
    """What is made anew.

    image: white is; transparent: it is the source itself, and what is transparent in it is. invert: the other way
    round. blur: of the edge, in pixels (sigma). content: what is under the mask at the start. only_masked: what the
    mask shows is cropped with `padding` pixels around it, generated at full size, and put back.
    """

    kind: Literal["mask"] = "mask"
    image: ImageRef
    transparent: bool
    invert: bool
    blur: Finite
    content: MaskedContent
    only_masked: bool
    padding: Annotated[int, Field(ge=0)]
    soft: Annotated[NoSoftness | ResolvedSoftness, Field(discriminator="kind")]


class ResolvedOutpaint(Value):
    """The canvas grows by so many pixels on each side, and only they are made anew."""

    kind: Literal["outpaint"] = "outpaint"
    left: Annotated[int, Field(ge=0)]
    right: Annotated[int, Field(ge=0)]
    top: Annotated[int, Field(ge=0)]
    bottom: Annotated[int, Field(ge=0)]


class NoUpscale(Value):
    """The image comes to the size as its resize mode says."""

    kind: Literal["none"] = "none"


class ResolvedUpscale(Value):
    """An upscaler makes the image so many times larger first; its sides are rounded down."""

    kind: Literal["upscale"] = "upscale"
    factor: Finite
    upscaler: str
    file: Annotated[NoFile | InFile, Field(discriminator="kind")]


class NoSource(Value):
    """There is no image to start from."""

    kind: Literal["none"] = "none"


class ResolvedSource(Value):
    """The image that sampling starts from.

    strength: 0 to 1, how much of it is made anew; exact_steps: whether all steps are taken rather than the share of
    them; resize: how it comes to the size; noise_multiplier, extra_noise: on the noise that is added to it;
    color_correction: whether the result gets its colours; upscale: what makes it larger before.
    """

    kind: Literal["image"] = "image"
    image: ImageRef
    strength: Finite
    exact_steps: bool
    resize: Literal["stretch", "crop", "fill", "latent"]
    noise_multiplier: Finite
    extra_noise: Finite
    color_correction: bool
    mask: Annotated[NoMask | ResolvedMask | ResolvedOutpaint, Field(discriminator="kind")]
    upscale: Annotated[NoUpscale | ResolvedUpscale, Field(discriminator="kind")]


class NoChannels(Value):
    """The network sees the latent alone."""

    kind: Literal["none"] = "none"


class MaskedChannels(Value):
    """It sees the mask and the image beside the latent, what is under the mask hidden by `weight`, 0 to 1."""

    kind: Literal["masked"] = "masked"
    weight: Finite


class ImageChannels(Value):
    """It sees the image beside the latent; scale: of the guidance by it."""

    kind: Literal["image"] = "image"
    scale: Finite


class EstimatedDepth(Value):
    """Estimated from the image to start from, by the estimator in the model's folder."""

    kind: Literal["estimated"] = "estimated"


class GivenDepth(Value):
    """Read from an image; resize: how that comes to the size."""

    kind: Literal["given"] = "given"
    image: ImageRef
    resize: Literal["stretch", "crop", "fill"]


class DepthChannels(Value):
    """It sees how far away everything is."""

    kind: Literal["depth"] = "depth"
    depth: Annotated[EstimatedDepth | GivenDepth, Field(discriminator="kind")]


class NoisedChannels(Value):
    """It sees a small image, with noise of a level on it, and makes it larger."""

    kind: Literal["noised"] = "noised"
    image: ImageRef
    level: Annotated[int, Field(ge=0)]


ResolvedChannels = NoChannels | MaskedChannels | ImageChannels | DepthChannels | NoisedChannels


class BoxPlace(Value):
    """A rectangle as shares of the image, 0 to 1; right and bottom are outside of it."""

    kind: Literal["box"] = "box"
    left: Share
    top: Share
    right: Share
    bottom: Share


class MaskPlace(Value):
    """Where an image is bright: white is inside, grey partly."""

    kind: Literal["mask"] = "mask"
    image: ImageRef


class ResolvedRegion(Value):
    """weight: how much it counts where regions overlap. Its prompts are in each sample."""

    place: Annotated[BoxPlace | MaskPlace, Field(discriminator="kind")]
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class NoRegions(Value):
    """The prompt is for all of the image."""

    kind: Literal["none"] = "none"


class ResolvedRegions(Value):
    """Parts of the image with prompts of their own; the prompt fills what none of them covers.

    method: whether the predictions of each are mixed, or attention to their texts in one prediction; ground: the share
    of the steps at the start in which each of them stands alone, on flat colours.
    """

    kind: Literal["regions"] = "regions"
    parts: Annotated[tuple[ResolvedRegion, ...], Field(min_length=1)]
    method: Literal["latent", "attention"]
    ground: Share


class NetworkRef(Value):
    """The file of a network beside a model: what infotexts call it, where it lies, and the SHA-256 (hex) of it."""

    name: str
    path: str
    sha256: str


class AllOver(Value):
    """Everywhere in the image."""

    kind: Literal["everywhere"] = "everywhere"


class NoNetwork(Value):
    """It needs no file."""

    kind: Literal["none"] = "none"


class InNetwork(Value):
    """Its network lies in a file."""

    kind: Literal["file"] = "file"
    file: NetworkRef


class ResolvedControl(Value):
    """An image that says where things are, and the network that reads it.

    type: what the network reads, as it was asked for; annotator: what makes that of the image, with all of its options;
    resolution: in pixels, of what the annotator sees, 0 for that of the image that is generated; resize: how the image
    comes to the size. weight: factor on what the network adds; start, end: shares of the steps; mode: what counts more,
    the prompt or the control; layers: a further factor for each layer, the outermost first, in place of those of the
    mode, () for those; place: where it acts; passes: in which of two.
    """

    kind: Literal["control"] = "control"
    type: str
    network: NetworkRef
    image: ImageRef
    annotator: str
    annotator_file: Annotated[NoNetwork | InNetwork, Field(discriminator="kind")]
    options: tuple[tuple[str, Finite], ...]
    resolution: Annotated[int, Field(ge=0)]
    resize: Fit
    weight: Finite
    start: Share
    end: Share
    mode: Mode
    layers: tuple[Finite, ...] = ()
    place: Annotated[AllOver | MaskPlace, Field(discriminator="kind")]
    passes: Passes


class ResolvedReference(Value):
    """An image that says what is to be seen, and the network that reads it.

    encoder: of images, whose features that network reads, none for the model's own; more: images that are one prompt
    with it; blocks: factors by the beginning of a layer's name, 1 where none fits. The rest: `ResolvedControl`.
    """

    kind: Literal["reference"] = "reference"
    network: NetworkRef
    encoder: Annotated[NoNetwork | InNetwork, Field(discriminator="kind")]
    image: ImageRef
    weight: Finite
    start: Share
    end: Share
    place: Annotated[AllOver | MaskPlace, Field(discriminator="kind")]
    passes: Passes
    blocks: tuple[tuple[str, Finite], ...]
    more: tuple[ImageRef, ...] = ()


class ResolvedExample(Value):
    """An image that the model itself looks at meanwhile. fidelity: how far negative prompts are left alone; the rest:
    `ResolvedControl`."""

    kind: Literal["example"] = "example"
    image: ImageRef
    weight: Finite
    start: Share
    end: Share
    passes: Passes
    fidelity: Share


class NotRead(Value):
    """Nothing of an encoder of images is read."""

    kind: Literal["not read"] = "not read"


class NoIdentity(Value):
    """No ControlNet says where a face is."""

    kind: Literal["none"] = "none"


class ResolvedIdentity(Value):
    """The ControlNet beside an image prompt of faces, which says where the face is. pose: the image whose face lies as
    this one is to lie."""

    kind: Literal["control"] = "control"
    network: NetworkRef
    weight: Finite
    pose: ImageRef


class PersonImage(Value):
    """An image of a person. which: of several faces, 1 for the largest."""

    image: ImageRef
    which: Annotated[int, Field(ge=1)]


class ResolvedFace(Value):
    """An image with the face that is to be seen, and the network that reads it.

    reader: the folder of what finds faces; encoder: of images of the face, which some networks read beside; which: of
    several faces, 1 for the largest; lora: weight of the LoRA in the network's file, 0 where it has none. more: images
    that are one prompt with it. The rest: `ResolvedReference`.
    """

    kind: Literal["face"] = "face"
    network: NetworkRef
    reader: NetworkRef
    encoder: Annotated[NotRead | NoNetwork | InNetwork, Field(discriminator="kind")]
    image: ImageRef
    which: Annotated[int, Field(ge=1)]
    weight: Finite
    start: Share
    end: Share
    place: Annotated[AllOver | MaskPlace, Field(discriminator="kind")]
    passes: Passes
    blocks: tuple[tuple[str, Finite], ...]
    lora: Finite
    identity: Annotated[NoIdentity | ResolvedIdentity, Field(discriminator="kind")]
    more: tuple[PersonImage, ...] = ()


class ResolvedPerson(Value):
    """Images of the one person that the word before a prompt's trigger stands for, and the network that reads them
    (PhotoMaker).

    reader: the folder of what finds faces, none where the network reads no faces; weight: how far the word is the
    person; start: the share of the steps before which it is a word like others; lora: weight of the LoRA in the
    network's file, 0 where it has none; passes: in which of two.
    """

    kind: Literal["person"] = "person"
    network: NetworkRef
    reader: Annotated[NoNetwork | InNetwork, Field(discriminator="kind")]
    images: Annotated[tuple[PersonImage, ...], Field(min_length=1)]
    weight: Finite
    start: Share
    passes: Passes
    lora: Finite


ResolvedSteering = Annotated[
    ResolvedControl | ResolvedReference | ResolvedExample | ResolvedFace | ResolvedPerson, Field(discriminator="kind")
]


class NoViews(Value):
    """The network sees all of the latent at once."""

    kind: Literal["none"] = "none"


class ResolvedViews(Value):
    """The latent is denoised view by view. size, overlap: in pixels; method: how views are averaged."""

    kind: Literal["views"] = "views"
    size: Size
    overlap: Annotated[int, Field(ge=0)]
    method: Literal["multidiffusion", "mixture"]


class ResolvedTiling(Value):
    """Whether opposite edges of the image meet: right and left (x), bottom and top (y)."""

    x: bool
    y: bool


class ByFactor(Value):
    """The second pass is larger by a factor; its sides are rounded down."""

    kind: Literal["factor"] = "factor"
    factor: Finite


class ToSize(Value):
    """The second pass has the size that was asked for."""

    kind: Literal["size"] = "size"


class PassPrompts(Value):
    """The prompts of one image in a pass, with their choices made."""

    prompt: str
    negative_prompt: str


class NoHires(Value):
    """There is no second pass."""

    kind: Literal["none"] = "none"


class ResolvedHires(Value):
    """The second pass: what the first one made is enlarged and sampled again from there.

    model: that of the first pass, or another; size: of the finished image; scaled: what is enlarged to, before the
    excess is cut off evenly; by: how that was asked for. upscaler: the name of what enlarges; upscaler_file: where it
    lies, if it is a file. strength: 0 to 1, how much is made anew. exact_steps: whether all steps are taken, of a
    longer schedule, rather than the share of them that the strength is (a list of sigmas cannot be longer). prompts:
    one for each image, in order.
    """

    kind: Literal["hires"] = "hires"
    model: ModelRef
    size: Size
    scaled: Size
    by: Annotated[ByFactor | ToSize, Field(discriminator="kind")]
    upscaler: str
    upscaler_file: Annotated[NoFile | InFile, Field(discriminator="kind")]
    strength: Finite
    exact_steps: bool
    sampling: ResolvedSampling
    guidance: ResolvedGuidance
    prompts: Annotated[tuple[PassPrompts, ...], Field(min_length=1)]


class NoRefiner(Value):
    """No other model takes over."""

    kind: Literal["none"] = "none"


class ResolvedRefiner(Value):
    """Another model takes the end of the sampling over.

    switch_at: below 1, the share of the levels of noise, or of the sampler's calls, that is left to the first model;
    passes: in which it acts, where there are two; alike: whether it is of the first model's family, so that what
    adapts that, from its prompts, adapts it too.
    """

    kind: Literal["refiner"] = "refiner"
    model: ModelRef
    switch_at: Annotated[float, Field(ge=0, lt=1)]
    by: Literal["noise", "calls"]
    passes: Literal["first pass", "second pass", "both passes"]
    alike: bool


class ToCover(Value):
    """The image covers a size, and the excess is cut off evenly."""

    kind: Literal["cover"] = "cover"
    size: Size


class NamedUpscaler(Value):
    """An upscaler: its name, and where it lies if it is a file."""

    name: str
    file: Annotated[NoFile | InFile, Field(discriminator="kind")]


class NoPostprocess(Value):
    """Nothing is done to finished images."""

    kind: Literal["none"] = "none"


class ResolvedPostprocess(Value):
    """Finished images are enlarged. upscalers: one, or two, the second with the share `visibility` of the result."""

    kind: Literal["upscale"] = "upscale"
    scale: Annotated[ByFactor | ToCover, Field(discriminator="kind")]
    upscalers: Annotated[tuple[NamedUpscaler, ...], Field(min_length=1, max_length=2)]
    visibility: Share


class ResolvedSizes(Value):
    """What Stable Diffusion XL is told of the image with one text: size of the original; where it was cut, in pixels of
    it; size that it was made; score: of looks, for the refiner."""

    original: Annotated[AsMade | SaidSize, Field(discriminator="kind")]
    top: Annotated[int, Field(ge=0)]
    left: Annotated[int, Field(ge=0)]
    target: Annotated[AsMade | SaidSize, Field(discriminator="kind")]
    score: Finite


class ResolvedOutput(Value):
    """folders: where images are saved, files or folders; empty: images stay in memory."""

    folders: tuple[str, ...]


class Resolved(Value):
    """The same Resolved is the same images. samples: one for each image, in order; batch_size: how many of them are
    generated at once, which changes none of them; vae_strips: whether the autoencoder runs strip by strip.

    sizes, negative_sizes: what goes with the prompt and with the negative prompt. adapters: the files of the weight
    adapters that its prompts have tags of; inversions: those of the textual inversions whose names they hold; steering:
    the images beside the prompt, in the order in which they act.
    """

    model: ModelRef
    adapters: tuple[AdapterRef, ...]
    inversions: tuple[AdapterRef, ...]
    size: Size
    batch_size: Counted
    samples: Annotated[tuple[SampleSettings, ...], Field(min_length=1)]
    prompting: ResolvedPrompting
    noise: ResolvedNoise
    sampling: ResolvedSampling
    guidance: ResolvedGuidance
    source: Annotated[NoSource | ResolvedSource, Field(discriminator="kind")]
    channels: Annotated[ResolvedChannels, Field(discriminator="kind")]
    hires: Annotated[NoHires | ResolvedHires, Field(discriminator="kind")]
    refiner: Annotated[NoRefiner | ResolvedRefiner, Field(discriminator="kind")]
    sizes: ResolvedSizes
    negative_sizes: ResolvedSizes
    regions: Annotated[NoRegions | ResolvedRegions, Field(discriminator="kind")]
    steering: tuple[ResolvedSteering, ...] = ()
    views: Annotated[NoViews | ResolvedViews, Field(discriminator="kind")]
    tiling: ResolvedTiling
    postprocess: Annotated[NoPostprocess | ResolvedPostprocess, Field(discriminator="kind")]
    vae_strips: VaeStrips
    output: ResolvedOutput

    def to_json(self) -> str:
        """Its JSON form: one line of ASCII. Paths of any bytes pass through it, which pydantic's own writer refuses."""
        return json.dumps(self.model_dump(), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Resolved:
        """The inverse of `to_json`. Raises ValueError for text that is no JSON, for missing, unknown and bad values."""
        try:
            return cls.model_validate(json.loads(text))
        except (RecursionError, TypeError) as error:
            raise ValueError(f"no resolved request: {error}") from None
