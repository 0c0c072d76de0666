"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv:2403.03206): a flow of an MMDiT, with three text encoders.

Each text encoder may be missing; zeros stand in its place, as the networks were trained to see (section 5.3.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from atelier.errors import BadInput
from atelier.families.config import Config
from atelier.families.facts import Facts, LatentFormat, ModelDefaults, PartFacts
from atelier.families.family import Ends, Family, Folder, Silence, SingleFile, Tower
from atelier.families.part import Architecture
from atelier.families.parts import TEXT, VAE, autoencoder, clip, mmdit
from atelier.families.parts.clip import clip_l
from atelier.families.parts.mmdit import MMDIT
from atelier.families.parts.openclip import BIG_G, padded_with_zero
from atelier.families.parts.t5 import T5
from atelier.families.parts.written import WRITTEN_FOR
from atelier.families.shapes import Shapes
from atelier.families.words import T5_WORDS
from atelier.weights.archive import Archive
from atelier.weights.names import clip as clip_names
from atelier.weights.names.t5 import TIED

if TYPE_CHECKING:
    from atelier.diffusion.levels import FlowLevels
    from atelier.diffusion.parameterization import Parameterization
    from atelier.models.clip import TextSpec
    from atelier.nn.ports import Conditioning

SIZE = 1024
LATENT_SCALE, LATENT_SHIFT = 1.5305, 0.0609
SHIFT = 3.0
"""Of the levels, at every published size (section 5.3.2)."""
WIDTH_L, WIDTH_G = 768, 1280
"""Of the published CLIP towers: what is missing has the width that the others leave, in these shares."""
CLIP_POSITIONS, T5_POSITIONS = 77, 256
"""Of a chunk that is not there."""
TURBO, TURBO_STEPS = "turbo", 4
STEPS = 28

ROOT = "text_encoders."
LEFTOVERS = frozenset(
    {"model.model_sampling.sigmas", *(f"{ROOT}{own}.logit_scale" for own in ("clip_l", "clip_g", "t5xxl"))}
)
"""Levels, which can be computed, and what images were compared with."""
UNUSED = f"{ROOT}clip_l.transformer.text_projection.weight"
"""Single files hold one or none; Stability's and ComfyUI's programs take the pooled state before it."""
LEFTOVER_ENDINGS = ("embeddings.position_ids", TIED)

PIPELINES = frozenset(
    {
        "StableDiffusion3Pipeline",
        "StableDiffusion3Img2ImgPipeline",
        "StableDiffusion3InpaintPipeline",
        "StableDiffusion3ControlNetPipeline",
        "StableDiffusion3ControlNetInpaintingPipeline",
        "StableDiffusion3PAGPipeline",
    }
)


def _infer_first(shapes: Shapes, facts: PartFacts) -> TextSpec:
    """The pooled state goes through a projection that single files leave out: one that changes nothing."""
    found = clip.infer_text(shapes, facts)
    return replace(found, projection=found.width) if shapes.layout == "ldm" else found


def _infer_second(shapes: Shapes, facts: PartFacts) -> TextSpec:
    return clip.infer_text(shapes, replace(facts, act=facts.act or "gelu"))


FIRST_NETWORK: Architecture[Any, Any] = replace(
    clip.TEXT_NETWORK, infer=_infer_first, names=clip_names.unprojected_names
)
FIRST = replace(TEXT, prefix=f"{ROOT}clip_l.", network=FIRST_NETWORK, required=False)
SECOND_NETWORK: Architecture[Any, Any] = replace(clip.TEXT_NETWORK, infer=_infer_second)
SECOND = replace(BIG_G, prefix=f"{ROOT}clip_g.", network=SECOND_NETWORK, required=False)


def in_file(archive: Archive) -> bool:
    block = f"{MMDIT.prefix}joint_blocks.0.context_block.attn.qkv.weight"
    return block in archive.tensors and f"{MMDIT.prefix}x_embedder.proj.weight" in archive.tensors


def in_folder(index: Config) -> bool:
    named = index.values.get("_class_name")
    return isinstance(named, str) and named in PIPELINES


def tolerated(name: str) -> bool:
    """Whether a tensor may be left unread."""
    return name in LEFTOVERS or name == UNUSED or name.endswith(LEFTOVER_ENDINGS)


def file_facts(archive: Archive) -> Facts:
    """What all published files have in common, and what the name says."""
    known = Facts(prediction="flow", latent_scale=LATENT_SCALE, latent_shift=LATENT_SHIFT, flow_shift=SHIFT)
    return _made_for(known, f"{archive.path.stem} {archive.metadata.get('modelspec.architecture', '')}")


def _made_for(known: Facts, name: str) -> Facts:
    """Turbo was made for four steps without guidance; nothing but its name says so."""
    is_turbo = TURBO in name.casefold() and known.steps is None
    return replace(known, steps=TURBO_STEPS, cfg_scale=1.0) if is_turbo else known


def levels(facts: Facts) -> FlowLevels:
    from atelier.diffusion.levels import FlowLevels

    return FlowLevels(facts.flow_shift, facts.timesteps)


def parameterization(_: Facts) -> Parameterization:
    from atelier.diffusion.parameterization import FLOW

    return FLOW


def join(states: Sequence[Conditioning]) -> Conditioning:
    """CLIP's channels side by side, filled up with zeros to the width of T5's, and T5's tokens behind them; both pooled
    states side by side (section 5.3.1, figure 2)."""
    import torch
    import torch.nn.functional as F

    from atelier.nn.ports import Conditioning

    first, second, t5 = states
    assert first.pooled is not None
    assert second.pooled is not None
    both = torch.cat([first.tokens, second.tokens], dim=-1)
    room = t5.tokens.shape[-1] - both.shape[-1]
    if room < 0:
        raise BadInput(f"the CLIP text encoders are {-room} channels wider than T5's: they are of another model")
    filled = F.pad(both, (0, room))
    return Conditioning(torch.cat([filled, t5.tokens], dim=-2), torch.cat([first.pooled, second.pooled], dim=-1))


def _no_first(ends: Ends, there: Mapping[str, Any]) -> Silence:
    second = there.get(SECOND.name)
    width = ends.pooled * WIDTH_L // (WIDTH_L + WIDTH_G) if second is None else ends.pooled - _pooled(second)
    return Silence(CLIP_POSITIONS if second is None else second.positions, width, width)


def _no_second(ends: Ends, there: Mapping[str, Any]) -> Silence:
    first = there.get(FIRST.name)
    alone = ends.pooled - ends.pooled * WIDTH_L // (WIDTH_L + WIDTH_G)
    width = alone if first is None else ends.pooled - _pooled(first)
    return Silence(CLIP_POSITIONS if first is None else first.positions, width, width)


def _pooled(there: TextSpec) -> int:
    """The width of a pooled state."""
    return there.projection or there.width


def _no_t5(ends: Ends, _: Mapping[str, Any]) -> Silence:
    return Silence(T5_POSITIONS, ends.context, 0)


def read(known: Facts, config: Config) -> Facts:
    """The facts with those of a scheduler's configuration. Raises BadFile."""
    config.only({"use_dynamic_shifting": (False,), "shift_terminal": (None,), "invert_sigmas": (False,)})
    shift, count = config.number("shift", 1.0), config.whole("num_train_timesteps", 1000)
    found = replace(known, prediction="flow", flow_shift=shift, timesteps=count)
    return _made_for(found, config.path.parent.parent.name)


def write(facts: Facts) -> Mapping[str, object]:
    return {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "_diffusers_version": WRITTEN_FOR,
        "num_train_timesteps": facts.timesteps,
        "shift": facts.flow_shift,
    }


def pipeline(_: Ends, __: LatentFormat) -> str:
    return "StableDiffusion3Pipeline"


def defaults(size: int, facts: Facts) -> ModelDefaults:
    """As Stability's model cards have them for 3.5."""
    return ModelDefaults(sampler="Euler", steps=facts.steps or STEPS, width=size, height=size, cfg_scale=4.5)


SD3 = Family(
    name="sd3",
    title="Stable Diffusion 3",
    aliases=("sd35", "stable-diffusion-3", "stable-diffusion-3.5"),
    parts=(MMDIT, VAE, FIRST, SECOND, T5),
    denoiser=MMDIT.name,
    autoencoder=VAE.name,
    towers=(
        Tower(FIRST, "tokenizer", clip_l, least_skip=2, normed=False, silent=_no_first),
        Tower(SECOND, "tokenizer_2", padded_with_zero, least_skip=2, normed=False, silent=_no_second),
        Tower(T5, "tokenizer_3", None, words=T5_WORDS, silent=_no_t5),
    ),
    join=join,
    single=SingleFile(detect=in_file, facts=file_facts, tolerated=tolerated, markers={}),
    folder=Folder(
        detect=in_folder,
        pipeline=pipeline,
        index={"feature_extractor": [None, None], "image_encoder": [None, None]},
        read=read,
        write=write,
    ),
    predictions=("flow",),
    levels=levels,
    parameterization=parameterization,
    latent=autoencoder.latent,
    ends=mmdit.ends,
    defaults=defaults,
    latent_side=SIZE // 8,
    table=None,
    tiny="taesd3",
)
SPECS = (SD3,)
