"""What can be asked for, each thing said once: its type, its limits, its help, its infotext key, its option.

The models in `request.groups` and `request.model` give these types names and defaults; `request.table` lists the
result by name. Command line, JSON schema, infotexts and docs/cli.md are made from that list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, GroupedMetadata, Le

from atelier.limits import BETA_SHAPE, UNIPC_ORDER

MAX_SIDE = 65_536
"""Pixels: the largest side of an image that is only spoken of, and not generated here."""
SIDE_STEP = 8
"""Pixels: every side is a multiple of this."""


@dataclass(frozen=True, slots=True)
class Limits(GroupedMetadata):
    """The smallest and the largest value of a number, or of each side of a size."""

    low: float
    high: float

    def __iter__(self) -> Iterator[Ge | Le]:
        """The limits as pydantic reads them."""
        yield Ge(self.low)
        yield Le(self.high)


@dataclass(frozen=True, slots=True)
class Help:
    """What a field means, as a sentence; unset: what holds where it is not given, if that is more than its default."""

    text: str
    unset: str = ""


@dataclass(frozen=True, slots=True)
class Infotext:
    """How infotexts say a field.

    aliases: what other programs, and versions with a slip of the pen, call the key. neutral: the value that is the same
    as none and is not written; the field's default where it is None. always: every value is written. limits: those of
    the key, where texts of other programs may hold more than a request.
    """

    key: str
    aliases: tuple[str, ...] = ()
    neutral: float | str | bool | tuple[int, int] | None = None
    limits: Limits | None = None
    always: bool = False


Panel = Literal[
    "Prompt",
    "Model and sampling",
    "Size and number",
    "From an image",
    "Steering",
    "Second pass",
    "Layout",
    "Output",
    "Other",
]


@dataclass(frozen=True, slots=True)
class Option:
    """A field with an option of its own on the command line.

    panel: where its help stands. names: where they are not made of the field's name. default: what the command line
    takes where the field itself is left open.
    """

    panel: Panel
    names: tuple[str, ...] = ()
    default: str | None = None


Rng = Literal["portable", "cpu", "nv"]
"""Where noise comes from: the same on every machine; torch's CPU generator; what an NVIDIA card draws."""
Sides = tuple[Annotated[int, Limits(0, MAX_SIDE)], Annotated[int, Limits(0, MAX_SIDE)]]
"""(width, height) in pixels; (0, 0) says nothing."""
NoiseSides = tuple[Annotated[int, Limits(0, 4096)], Annotated[int, Limits(0, 4096)]]
"""The same for noise that is drawn, so at most the largest image."""

SEED = Limits(-1, 2**64 - 1)
ANY_SEED = Limits(-(2**63), 2**64 - 1)
"""Seeds in infotexts: torch takes a negative seed as the unsigned number with the same bits."""
STEPS = Limits(1, 1000)
PIXELS = Limits(64, 4096)
FACTOR = Limits(0, 100)
SHARE = Limits(0, 1)
SIGMA = Limits(0, 1000)
SHAPE = Limits(*BETA_SHAPE)

# What everybody says.

Prompt = Annotated[str, Help("What to generate."), Option("Prompt")]
NegativePrompt = Annotated[str, Help("What the image should not show.", "nothing"), Option("Prompt", ("--negative",))]
Model = Annotated[
    str,
    Infotext("Model"),
    Help("Name of a model (`atelier models list`), a .safetensors file, or a diffusers folder.", "the embedded model"),
    Option("Model and sampling"),
]
ModelHash = Annotated[
    str, Infotext("Model hash"), Help("First digits of the model's SHA-256; a different model gives a warning.")
]
Vae = Annotated[
    str,
    Infotext("VAE"),
    Help(
        "Another autoencoder: a file, a folder, or a name in a folder vae of the models folders; taesd, taesdxl or "
        "taesd3: the tiny autoencoder beside the model.",
        "the model's",
    ),
    Option("Model and sampling"),
]
TextEncoders = Annotated[
    tuple[str, ...],
    Infotext("Text encoder", always=True),  # one text in settings, not several
    Help("Another text encoder: a file, a folder, or a name; may be repeated.", "the model's"),
    Option("Model and sampling", ("--text-encoder",)),
]
LoraHashes = Annotated[
    str,
    Infotext("Lora hashes"),
    Help("Hashes of LoRAs, `name: digits, …`: a missing name is found by its hash; another hash gives a warning."),
]
TiHashes = Annotated[
    str,
    Infotext("TI hashes"),
    Help("The same for textual inversions; a missing one that a prompt names is an error."),
]
Steps = Annotated[
    int, STEPS, Infotext("Steps"), Help("Steps of the sampler.", "the model's"), Option("Model and sampling")
]
Sampler = Annotated[
    str,
    Infotext("Sampler"),
    Help("Name of a sampler, such as Euler a; DPM++ 2M Karras names a scheduler too.", "the model's, else DPM++ 2M"),
    Option("Model and sampling"),
]
Scheduler = Annotated[
    str,
    Infotext("Schedule type", aliases=("Sampler sigma",)),
    Help("Name of a scheduler, such as Karras, or a list of sigmas: 14.6,7,3,0.", "the model's, else the sampler's"),
    Option("Model and sampling"),
]
CfgScale = Annotated[
    float,
    FACTOR,
    Infotext("CFG scale", aliases=("Guidance Scale",)),
    Help("How strongly to follow the prompt; 1 is no guidance.", "the model's"),
    Option("Model and sampling"),
]
Seed = Annotated[
    int,
    SEED,
    Infotext("Seed", limits=ANY_SEED),
    Help("Seed of the first image; each further image has the next one. -1 is a random seed.", "drawn"),
    Option("Model and sampling"),
]
Width = Annotated[int, PIXELS, Help("Width in pixels, a multiple of 8.", "the model's"), Option("Size and number")]
Height = Annotated[int, PIXELS, Help("Height in pixels, a multiple of 8.", "the model's"), Option("Size and number")]
BatchSize = Annotated[
    int,
    Limits(1, 64),
    Infotext("Batch size", limits=Limits(1, 10_000)),  # how the image came about; not asked for again
    Help("Number of images generated at once; it never changes an image."),
    Option("Size and number"),
]
BatchCount = Annotated[int, Limits(1, 1000), Help("Number of batches."), Option("Size and number")]
DenoisingStrength = Annotated[
    float,
    SHARE,
    Infotext("Denoising strength"),
    Help("How much of the image is regenerated, 0 to 1; at 1 nothing of it is left. Also for a second pass.", "0.75"),
    Option("From an image", ("--strength",)),
]
Output = Annotated[
    str,
    Help("Folder or file to save to.", "images stay in memory"),
    Option("Output", ("--output", "-o"), default="outputs"),
]

# From an image.

SourceImage = Annotated[
    str,
    Help("Image to start from: a file, or a data: URI.", "noise alone"),
    Option("From an image", ("--image", "-i")),
]
ResizeMode = Annotated[
    Literal["stretch", "crop", "fill", "latent"],
    Infotext("Resize mode"),
    Help("How the image is fitted to the size: stretch, crop, fill (with its border pixels), or latent."),
    Option("From an image"),
]
ExactSteps = Annotated[
    bool,
    Infotext("Exact steps"),
    Help("Make all the given steps, not only the share that the strength gives."),
    Option("From an image"),
]
NoiseMultiplier = Annotated[
    float, FACTOR, Infotext("Noise multiplier"), Help("Factor on the noise that is added to the image.")
]
ExtraNoise = Annotated[float, FACTOR, Infotext("Extra noise"), Help("Noise added to the image beyond its noise level.")]
ColorCorrection = Annotated[
    bool,
    Infotext("Color correction"),
    Help("Match the colours of the result to those of the image."),
    Option("From an image"),
]
Outpaint = Annotated[
    str,
    Infotext("Outpaint"),
    Help(
        "Extend the canvas: pixels on each side (left=64,right=64,top=0,bottom=32), or the size of a frame (768x512)."
    ),
    Option("From an image"),
]
DepthMap = Annotated[
    str,
    Help(
        "Depth map for a depth model (Stable Diffusion 2), grey, near is bright: a file, or a data: URI.",
        "estimated from the image, if the model's folder has an estimator",
    ),
    Option("From an image", ("--depth",)),
]
ImageCfgScale = Annotated[
    float,
    FACTOR,
    Infotext("Image CFG scale", always=True),
    Help("Editing models (InstructPix2Pix): how closely to follow the image; at 1 only the CFG scale counts."),
    Option("From an image"),
]
NoiseLevel = Annotated[
    int,
    Limits(0, 350),
    Infotext("Noise level", always=True),
    Help("Upscaling models (x4): level of the noise added to the small image; more noise leaves more to the prompt."),
]
MaskImage = Annotated[
    str,
    Help("Mask: white is regenerated, black is kept. A file, a data: URI, or alpha: the image's transparent area."),
    Option("From an image", ("--mask",)),
]
MaskMode = Annotated[
    Literal["Inpaint masked", "Inpaint not masked"],
    Infotext("Mask mode"),
    Help("Whether the masked area is regenerated, or everything else."),
]
MaskBlur = Annotated[
    float,
    Limits(0, 256),
    Infotext("Mask blur", always=True),  # without the key, A1111 had none
    Help("Softness of the mask's edge, in pixels."),
    Option("From an image"),
]
MaskedContent = Annotated[
    Literal["fill", "original", "latent noise", "latent nothing"],
    Infotext("Masked content", neutral="original"),
    Help("What the masked area starts as: original, fill (its surroundings), latent noise, latent nothing."),
    Option("From an image"),
]
InpaintArea = Annotated[
    Literal["Whole picture", "Only masked"],
    Infotext("Inpaint area", neutral="Whole picture"),
    Help("Only masked: crop the masked area, generate it at full size, and paste it back."),
    Option("From an image"),
]
MaskedAreaPadding = Annotated[
    int,
    Limits(0, MAX_SIDE),
    Infotext("Masked area padding", always=True),
    Help("With Only masked: pixels around the mask that are included."),
]
ConditionalMaskWeight = Annotated[
    float,
    SHARE,
    Infotext("Conditional mask weight", always=True),  # as A1111 does
    Help("Inpainting models: how much of the masked area is hidden from the network."),
]
SoftInpainting = Annotated[
    bool,
    Infotext("Soft inpainting enabled"),
    Help("Read grey in the mask as how much is regenerated, and blend old and new by what changed."),
    Option("From an image"),
]
SoftInpaintingScheduleBias = Annotated[
    float,
    FACTOR,
    Infotext("Soft inpainting schedule bias", always=True),
    Help("Soft inpainting: above 1, half-masked areas are kept for longer."),
]
SoftInpaintingPreservationStrength = Annotated[
    float,
    FACTOR,
    Infotext("Soft inpainting preservation strength", always=True),
    Help("Soft inpainting: how strongly half-masked areas are kept."),
]
SoftInpaintingTransitionContrastBoost = Annotated[
    float,
    Limits(1, 100),
    Infotext("Soft inpainting transition contrast boost", always=True),
    Help("Soft inpainting: how much contrast is kept where old and new are blended."),
]
SoftInpaintingMaskInfluence = Annotated[
    float,
    SHARE,
    Infotext("Soft inpainting mask influence", always=True),
    Help("Soft inpainting: how far the mask, and not the change, decides where the result is shown."),
]
SoftInpaintingDifferenceThreshold = Annotated[
    float,
    FACTOR,
    Infotext("Soft inpainting difference threshold", always=True),
    Help("Soft inpainting: how large a change must be to be shown."),
]
SoftInpaintingDifferenceContrast = Annotated[
    float,
    FACTOR,
    Infotext("Soft inpainting difference contrast", always=True),
    Help("Soft inpainting: how abruptly changes are shown."),
]

# Steering.

Controls = Annotated[
    tuple[str, ...],
    Infotext("Controls", always=True),  # one text in settings, not several
    Help('An image that says where things are: "canny:photo.png:0.8"; may be repeated (docs/steering.md).', "none"),
    Option("Steering", ("--control",)),
]
References = Annotated[
    tuple[str, ...],
    Infotext("References", always=True),
    Help('An image that says what to generate: "photo.png:0.6"; may be repeated (docs/steering.md).', "none"),
    Option("Steering", ("--reference",)),
]
Faces = Annotated[
    tuple[str, ...],
    Infotext("Faces", always=True),
    Help('An image with the face to show: "anna.png:0.8"; may be repeated (docs/steering.md).', "none"),
    Option("Steering", ("--face",)),
]

# Layout.

Regions = Annotated[
    tuple[str, ...],
    Infotext("Regions", always=True),  # one text in settings, not several
    Help('A place with its own prompt: "box=0,0,0.5,1: a red apple"; may be repeated (docs/regions.md).', "none"),
    Option("Layout", ("--region",)),
]
RegionMethod = Annotated[
    Literal["latent", "attention"],
    Infotext("Region method"),
    Help(
        "How regions act: latent (each is denoised with its own prompts and the predictions are mixed), or attention "
        "(one prediction with divided attention to the text: more coherent; see region_ground)."
    ),
]
RegionGround = Annotated[
    float,
    SHARE,
    Infotext("Region ground"),
    Help(
        "Share of the steps at the start in which each region is denoised alone, on flat colours (bootstrapping).",
        "0; 0.6 for attention",
    ),
]
Tile = Annotated[
    Literal["none", "x", "y", "xy"],
    Infotext("Tiling axes", neutral="xy"),  # beside A1111's Tiling, which is both
    Help("Make an image that repeats without a seam: x (left to right), y (top to bottom), xy, or none."),
    Option("Layout"),
]
ViewMethod = Annotated[
    Literal["multidiffusion", "mixture"],
    Infotext("Views"),
    Help(
        "Generate a large image in views: multidiffusion averages them evenly, mixture mostly from their centres.",
        "in one piece",
    ),
    Option("Layout", ("--views",)),
]
ViewWidth = Annotated[
    int, PIXELS, Infotext("View width"), Help("Width of a view in pixels.", "the model's"), Option("Layout")
]
ViewHeight = Annotated[
    int, PIXELS, Infotext("View height"), Help("Height of a view in pixels.", "the model's"), Option("Layout")
]
ViewOverlap = Annotated[
    int,
    Limits(0, 4096),
    Infotext("View overlap"),
    Help("Minimum overlap of neighbouring views, in pixels.", "half a view"),
    Option("Layout"),
]

# What Stable Diffusion XL is told of the image.

OriginalSize = Annotated[
    Sides,
    Infotext("Original size", neutral=(0, 0)),
    Help("XL: original size of the image, as told to the model; small sizes look blurred.", "the image's"),
    Option("Size and number"),
]
CropTop = Annotated[
    int,
    Limits(0, MAX_SIDE),
    Infotext("Crop top"),
    Help("XL: pixels cropped at the top, as told to the model."),
    Option("Size and number"),
]
CropLeft = Annotated[
    int,
    Limits(0, MAX_SIDE),
    Infotext("Crop left"),
    Help("XL: pixels cropped at the left, as told to the model."),
    Option("Size and number"),
]
TargetSize = Annotated[
    Sides,
    Infotext("Target size", neutral=(0, 0)),
    Help("XL: size of the image, as told to the model.", "the image's"),
    Option("Size and number"),
]
NegativeOriginalSize = Annotated[
    Sides,
    Infotext("Negative original size", neutral=(0, 0)),
    Help("XL: original size for the negative prompt.", "that of the prompt"),
    Option("Size and number"),
]
NegativeCropTop = Annotated[
    int,
    Limits(0, MAX_SIDE),
    Infotext("Negative crop top"),
    Help("XL: crop at the top for the negative prompt.", "that of the prompt"),
    Option("Size and number"),
]
NegativeCropLeft = Annotated[
    int,
    Limits(0, MAX_SIDE),
    Infotext("Negative crop left"),
    Help("XL: crop at the left for the negative prompt.", "that of the prompt"),
    Option("Size and number"),
]
NegativeTargetSize = Annotated[
    Sides,
    Infotext("Negative target size", neutral=(0, 0)),
    Help("XL: target size for the negative prompt.", "that of the prompt"),
    Option("Size and number"),
]
AestheticScore = Annotated[
    float,
    FACTOR,
    Infotext("Aesthetic score"),
    Help("XL's refiner: aesthetic score, as told to the model, about 0 to 10."),
    Option("Size and number"),
]
NegativeAestheticScore = Annotated[
    float,
    FACTOR,
    Infotext("Negative aesthetic score"),
    Help("XL's refiner: aesthetic score for the negative prompt."),
    Option("Size and number"),
]

# A larger image, tile by tile.

SdUpscaleFactor = Annotated[
    float,
    Limits(1, 16),
    Infotext("SD upscale factor"),
    Help("Enlarge the image by this factor, and generate it again in tiles of width x height (SD upscale).", "no"),
    Option("From an image", ("--sd-upscale",)),
]
SdUpscaleOverlap = Annotated[
    int,
    Limits(0, 4096),
    Infotext("SD upscale overlap", limits=Limits(0, MAX_SIDE)),
    Help("SD upscale: minimum overlap of neighbouring tiles, in pixels.", "64, or half a tile if that is less"),
]
SdUpscaleUpscaler = Annotated[
    str,
    Infotext("SD upscale upscaler", always=True),
    Help("SD upscale: the upscaler: Lanczos, Bicubic, Nearest, or a file's name, such as R-ESRGAN 4x+."),
]

# What is done to finished images.

PostprocessUpscaleBy = Annotated[
    float,
    Limits(0.01, 16),
    Infotext("Postprocess upscale by"),
    Help("Enlarge the finished image by this factor with an upscaler, as A1111's Extras tab does.", "no"),
]
PostprocessUpscaleTo = Annotated[
    Sides,
    Infotext("Postprocess upscale to", neutral=(0, 0)),
    Help("Enlarge the finished image until it covers this size, and crop the excess evenly.", "no"),
]
PostprocessUpscaler = Annotated[
    str,
    Infotext("Postprocess upscaler", always=True),
    Help("Upscaler for the finished image: Lanczos, Bicubic, Nearest, or a file's name, such as R-ESRGAN 4x+."),
]
PostprocessUpscaler2 = Annotated[
    str, Infotext("Postprocess upscaler 2"), Help("Another upscaler, blended with the first.", "none")
]
PostprocessVisibility = Annotated[
    float,
    SHARE,
    Infotext("Postprocess upscaler 2 visibility", always=True),
    Help("The share of the second upscaler, 0 to 1."),
]

# The autoencoder.

VaeStrips = Annotated[
    Literal["auto", "always", "never"],
    Infotext("VAE in strips"),
    Help(
        "Run the autoencoder in strips (tiled VAE): always, never, or auto, for images that would need more than 4 "
        "GiB. It needs less memory and more time; the image is the same except for rounding."
    ),
]

# Prompting.

Styles = Annotated[
    tuple[str, ...],
    Help("Name of a saved style to put around the prompts; may be repeated.", "none"),
    Option("Prompt", ("--style",)),
]
Choices = Annotated[
    bool, Help("Whether {a|b} and __name__ in prompts are random choices by the seed; else they are plain text.")
]
EmphasisMode = Annotated[
    str,
    Infotext("Emphasis"),
    Help("How (word:1.2) is read: Original, No norm, Ignore, None, Comfy."),
    Option("Prompt"),
]
ClipSkip = Annotated[
    int,
    Limits(1, 12),
    Infotext("Clip skip", aliases=("Clip Skip", "CLIP skip"), neutral=1),
    Help("Which layer of the text encoder is read, counted from the last.", "1, the last"),
    Option("Prompt"),
]
OldTimelines = Annotated[
    bool, Infotext("Old prompt editing timelines"), Help("Count [a:b:when] as A1111 did before 1.6.")
]
Lenient = Annotated[
    bool,
    Help("Only warn about missing networks and models, and generate without them.", "missing ones are an error"),
    Option("Other"),
]

# The refiner.

Refiner = Annotated[
    str,
    Infotext("Refiner", neutral="None"),  # A1111's word for none
    Help("Model that takes over the last steps, by name or path.", "none"),
    Option("Model and sampling"),
]
RefinerSwitchAt = Annotated[
    float,
    SHARE,
    Infotext("Refiner switch at", always=True),
    Help("Share of the noise levels at which the refiner takes over; 0 is at once, 1 is never."),
    Option("Model and sampling"),
]
RefinerBySteps = Annotated[
    bool,
    Infotext("Refiner switch by sampling steps"),
    Help("Count refiner_switch_at in sampler calls instead of noise levels, as A1111 before 1.9."),
]
HiresRefiner = Annotated[
    Literal["first pass", "second pass", "both passes"],
    Infotext("Hires refiner"),
    Help("With a second pass: the passes in which the refiner acts."),
]

# Noise.

NoiseRng = Annotated[
    Rng,
    Infotext("RNG", neutral="GPU"),  # A1111's default, which it does not write
    Help("Source of the noise: portable is the same on every machine, cpu and nv are as in other programs."),
    Option("Model and sampling"),
]
VariationSeed = Annotated[
    int,
    SEED,
    Infotext("Variation seed", limits=ANY_SEED),
    Help(
        "Seed of the variation; image i has the variation seed + i, and all have one seed. -1 is a random seed.",
        "drawn",
    ),
]
VariationStrength = Annotated[
    float,
    SHARE,
    Infotext("Variation seed strength", aliases=("Variation strength",)),
    Help("How far to go from the seed's noise to the variation seed's."),
]
SeedResize = Annotated[
    NoiseSides,
    Infotext("Seed resize from", neutral=(0, 0), limits=Limits(0, MAX_SIDE)),
    Help("Keep the layout of the noise of this size (512x512)."),
]
Ensd = Annotated[
    int,
    Limits(-(2**63), 2**63),
    Infotext("ENSD"),
    Help("Added to the seed for all noise after the first (A1111's eta noise seed delta)."),
]
SgmNoiseMultiplier = Annotated[
    bool,
    Infotext("SGM noise multiplier", aliases=("SGM noise multplier",)),
    Help("Start with noise scaled as in ComfyUI."),
]

# Sampling.

Eta = Annotated[
    float, FACTOR, Infotext("Eta"), Help("How much fresh noise each step adds; 0 is none.", "the sampler's")
]
EtaDdim = Annotated[
    float, FACTOR, Infotext("Eta DDIM", neutral=0.0), Help("Eta for DDIM samplers; overrides eta.", "that of eta")
]
Churn = Annotated[float, SIGMA, Infotext("Sigma churn"), Help("Noise added before steps.")]
ChurnMin = Annotated[float, SIGMA, Infotext("Sigma tmin"), Help("Lowest noise level at which s_churn acts.")]
ChurnMax = Annotated[
    float,
    Limits(0, 10**9),
    Infotext("Sigma tmax"),
    Help("Highest noise level at which s_churn acts; 0 is no limit."),
]
NoiseFactor = Annotated[
    float, FACTOR, Infotext("Sigma noise"), Help("Factor on all noise that is added between steps.")
]
SigmaMin = Annotated[
    float, SIGMA, Infotext("Schedule min sigma"), Help("The schedule's smallest level above 0; 0 is the model's.")
]
SigmaMax = Annotated[
    float, SIGMA, Infotext("Schedule max sigma"), Help("The schedule's largest level; 0 is the model's.")
]
Rho = Annotated[float, FACTOR, Infotext("Schedule rho"), Help("The schedule's exponent; 0 is its own.")]
DiscardPenultimateSigma = Annotated[
    bool, Infotext("Discard penultimate sigma"), Help("Whether to leave out the next-to-last level.", "the sampler's")
]
DowncastAlphas = Annotated[
    bool, Infotext("Downcast alphas_cumprod"), Help("Levels in half precision, as in A1111 before 1.7.")
]
NoiseSchedule = Annotated[
    Literal["Default", "Zero Terminal SNR"],
    Infotext("Noise Schedule"),
    Help("Zero Terminal SNR rescales the levels so that the last one has no signal."),
]
BetaAlpha = Annotated[
    float,
    SHAPE,
    Infotext("Beta schedule alpha", aliases=("Beta scheduler alpha",)),
    Help("First shape parameter of the beta schedules.", "0.6"),
]
BetaBeta = Annotated[
    float,
    SHAPE,
    Infotext("Beta schedule beta", aliases=("Beta scheduler beta",)),
    Help("Second shape parameter of the beta schedules.", "0.6"),
]
UniPCVariant = Annotated[
    Literal["bh1", "bh2", "vary_coeff"], Infotext("UniPC variant"), Help("Variant of UniPC.", "the sampler's")
]
UniPCOrder = Annotated[
    int,
    Limits(*UNIPC_ORDER),
    Infotext("UniPC order", limits=Limits(1, 50)),  # what A1111 offers, though it fails above
    Help("Order of UniPC.", "the sampler's"),
]
UniPCLowerOrderFinal = Annotated[
    bool, Infotext("UniPC lower order final"), Help("Whether UniPC's order falls in the last steps.", "yes")
]

# Guidance.

CfgRescale = Annotated[
    float,
    SHARE,
    Infotext("CFG rescale", aliases=("Guidance rescale",)),
    Help("How strongly to reduce the contrast that guidance adds, 0 to 1."),
]
SkipEarlyCfg = Annotated[
    float, SHARE, Infotext("Skip Early CFG"), Help("Share of the steps at the start without guidance.")
]
Ngms = Annotated[float, SIGMA, Infotext("NGMS"), Help("Below this noise level, every other step has no guidance.")]
NgmsAllSteps = Annotated[
    bool, Infotext("NGMS all steps"), Help("Leave out guidance at every step below ngms, not only at every other one.")
]

PagScale = Annotated[
    float,
    FACTOR,
    Infotext("PAG Scale"),
    Help("Strength of perturbed-attention guidance; 3 is usual, 0 is off."),
    Option("Model and sampling"),
]
PagLayers = Annotated[
    str,
    Infotext("PAG layers"),
    Help(
        "PAG: the levels whose self-attention is perturbed, such as middle,up.1; auto chooses those that suit the "
        "model."
    ),
]
SagScale = Annotated[
    float,
    FACTOR,
    Infotext("sag_scale", aliases=("SAG Guidance Scale",)),
    Help("Strength of self-attention guidance; 0.75 is usual, 0 is off."),
]
SagBlur = Annotated[
    float,
    Limits(0.1, 100),
    Infotext("sag_blur_sigma", aliases=("SAG Blur Sigma",), always=True),  # written wherever there is such guidance
    Help("Self-attention guidance: width of the blur, in latent positions."),
]
ApgEta = Annotated[
    float,
    Limits(-10, 10),
    Infotext("APG eta"),
    Help("Adaptive projected guidance: share kept of the part that only adds contrast; 1 keeps all, 0 is usual."),
]
ApgNormThreshold = Annotated[
    float,
    Limits(0, 10_000),
    Infotext("APG norm threshold"),
    Help("Adaptive projected guidance: limit of the step from negative prompt to prompt; 15 is usual, 0 is no limit."),
]
ApgMomentum = Annotated[
    float,
    Limits(-1, 1),
    Infotext("APG momentum"),
    Help("Adaptive projected guidance: momentum from earlier calls; -0.5 is usual, 0 is none."),
]
MimicScale = Annotated[
    float,
    FACTOR,
    Infotext("Mimic scale", aliases=("dynthres_mimic_scale",)),
    Help("Dynamic thresholding: the lower CFG scale whose range the image keeps; 0 is off."),
]
MimicPercentile = Annotated[
    float,
    Limits(0, 100),
    Infotext("Threshold percentile", always=True, aliases=("dynthres_threshold_percentile",)),
    Help("Dynamic thresholding: percentage of the values that are not clamped."),
]
MimicPhi = Annotated[
    float,
    SHARE,
    Infotext("Interpolate Phi", aliases=("dynthres_interpolate_phi",)),
    Help("Dynamic thresholding: its share of the result; the rest is without it."),
]
SlgScale = Annotated[
    float,
    FACTOR,
    Infotext("SLG scale"),
    Help("Strength of skip-layer guidance (Stable Diffusion 3); 2.5 is usual, 0 is off."),
]
PerpNegScale = Annotated[
    float,
    FACTOR,
    Infotext("Perp-Neg scale"),
    Help("Perp-Neg: strength of the negative prompt's part that is perpendicular to the prompt; 1 is usual, 0 is off."),
]
FreeuB1 = Annotated[
    float, FACTOR, Infotext("freeu_b1", always=True), Help("FreeU: factor on the widest level's backbone; 1 is none.")
]
FreeuB2 = Annotated[
    float, FACTOR, Infotext("freeu_b2", always=True), Help("FreeU: factor on the next level's backbone; 1 is none.")
]
FreeuS1 = Annotated[
    float, FACTOR, Infotext("freeu_s1", always=True), Help("FreeU: factor on the widest level's skips; 1 is none.")
]
FreeuS2 = Annotated[
    float, FACTOR, Infotext("freeu_s2", always=True), Help("FreeU: factor on the next level's skips; 1 is none.")
]
FreeuVersion = Annotated[
    Literal["1", "2", "diffusers"],
    Infotext("FreeU Version"),
    Help("FreeU: version of the authors' rule; diffusers is version 1, by level instead of by width."),
]
CfgIntervalLow = Annotated[
    float, SIGMA, Infotext("CFG interval low sigma"), Help("No CFG at this noise level and below.")
]
CfgIntervalHigh = Annotated[
    float,
    Limits(0, 10**9),
    Infotext("CFG interval high sigma"),
    Help("No CFG above this noise level; 0 is no limit."),
]
ClipGuidanceScale = Annotated[
    float,
    Limits(0, 1_000_000),
    Infotext("CLIP guidance scale"),
    Help("How strongly the model's own CLIP pulls the image to the prompt; 0 is off."),
]

# The second pass (hires fix).

HiresUpscale = Annotated[
    float,
    Limits(1, 16),
    Infotext("Hires upscale", aliases=("Hires scale",)),
    Help("Enlarge the image by this factor, and refine it in a second pass.", "one pass"),
    Option("Second pass", ("--hires",)),
]
HiresResize = Annotated[
    Sides,
    Infotext("Hires resize", neutral=(0, 0)),
    Help("Second pass: size in pixels; a side of 0 follows from the other; with both, the excess is cropped."),
]
HiresSteps = Annotated[
    int,
    Limits(0, 1000),
    Infotext("Hires steps", neutral=0),
    Help(
        "Second pass: number of steps, all of which are made; 0 is as many as in the first.", "as many as in the first"
    ),
    Option("Second pass"),
]
HiresUpscaler = Annotated[
    str,
    Infotext("Hires upscaler"),
    Help(
        "Second pass: the upscaler: Latent, Latent (antialiased), Latent (bicubic), Latent (bicubic antialiased), "
        "Latent (nearest), Latent (nearest-exact); or an image upscaler: Lanczos, Bicubic, Nearest, or a file's name, "
        "such as R-ESRGAN 4x+.",
        "Latent",
    ),
    Option("Second pass"),
]
HiresCheckpoint = Annotated[
    str,
    Infotext("Hires checkpoint", neutral="Use same checkpoint"),
    Help("Second pass: model, by name or path.", "that of the first"),
]
HiresSampler = Annotated[
    str, Infotext("Hires sampler", neutral="Use same sampler"), Help("Second pass: sampler.", "that of the first")
]
HiresScheduler = Annotated[
    str,
    Infotext("Hires schedule type", neutral="Use same scheduler"),
    Help("Second pass: scheduler.", "that of the first"),
]
HiresPrompt = Annotated[str, Infotext("Hires prompt"), Help("Second pass: prompt.", "that of the first")]
HiresNegativePrompt = Annotated[
    str, Infotext("Hires negative prompt"), Help("Second pass: negative prompt.", "that of the first")
]
HiresCfgScale = Annotated[
    float,
    FACTOR,
    Infotext("Hires CFG Scale", aliases=("Hires CFG scale",)),
    Help("Second pass: CFG scale.", "that of the first"),
]
HiresDenoisingStrength = Annotated[
    float,
    SHARE,
    Infotext("Hires strength"),
    Help("Second pass: how much is regenerated, 0 to 1.", "the denoising strength, else 0.75"),
    Option("Second pass", ("--hires-strength",)),
]
