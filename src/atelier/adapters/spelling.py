"""What files of adapters call the layers of a network, derived from the names of its parameters.

kohya's scripts and LyCORIS write a prefix and the path of the layer with underscores for dots; diffusers, PEFT and
ComfyUI write the path as it is. Nothing is ever taken apart at an underscore: every name that a layer may have is made,
and looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.families.part import PartSpec
from atelier.weights.names.name import Name

FLAT_DENOISER = ("lora_unet_", "lycoris_", "oft_unet_", "lora_transformer_")
DENOISER = ("", "unet.", "base_model.model.", "unet.base_model.model.", "transformer.", "lycoris.")
SINGLE_DENOISER = ("diffusion_model.", "model.diffusion_model.")
FIRST_TOWER = ("lora_te_", "oft_te_", "lycoris_")
TOWERS = ("text_encoder.", "text_encoder_2.", "text_encoder_3.")
COMFY_TOWERS = (("clip_l", "clip_h"), ("clip_g",), ("t5xxl",))
OLD_ATTENTION = (("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out"))
"""The text encoder's projections, and what the oldest files of diffusers call them."""


@dataclass(frozen=True, slots=True)
class Module:
    """ours: path in our network; ldm, diffusers: in published files, more than one where older files differ. ldm is
    None where that layout keeps the layer together with others."""

    ours: str
    diffusers: tuple[str, ...]
    ldm: str | None


def modules(names: Iterable[Name]) -> Iterator[Module]:
    """Every layer of a network, once."""
    seen: set[str] = set()
    for name in names:
        ours = _layer(name.ours)
        if ours not in seen:
            seen.add(ours)
            also = tuple(_layer(spelling) for spelling in name.also)
            whole = name.rows("ldm") is None
            yield Module(ours, (_layer(name.diffusers), *also), _layer(name.ldm) if whole else None)


def of_denoiser(module: Module) -> Iterator[str]:
    """What files call a layer of the denoising network."""
    for path in module.diffusers:
        yield from (prefix + _flat(path) for prefix in FLAT_DENOISER)
        yield from (prefix + path for prefix in DENOISER)
        if path.endswith(".to_out.0"):
            yield from (prefix + path.removesuffix(".0") for prefix in DENOISER)
    if module.ldm is not None:
        yield from (prefix + _flat(module.ldm) for prefix in FLAT_DENOISER)
        yield from (prefix + module.ldm for prefix in SINGLE_DENOISER)


def of_tower(module: Module, number: int) -> Iterator[str]:
    """What files call a layer of text encoder `number`, from 0."""
    flat = (f"lora_te{number + 1}_", *(FIRST_TOWER if number == 0 else ()))
    dotted = (TOWERS[number], f"{TOWERS[number]}base_model.model.")
    comfy = tuple(f"text_encoders.{name}.transformer." for name in COMFY_TOWERS[number])
    for path in module.diffusers:
        yield from (prefix + _flat(path) for prefix in flat)
        yield from (prefix + path for prefix in (*dotted, *comfy))
        for ending, old in OLD_ATTENTION:
            if path.endswith(f".self_attn.{ending}"):
                yield dotted[0] + path.removesuffix(ending) + old


def number_of(part: PartSpec[Any, Any]) -> int:
    """Which text encoder a part is, from 0, by its folder in diffusers' layout: XL's refiner has the second alone."""
    folder = f"{part.folder}."
    return TOWERS.index(folder) if folder in TOWERS else 0


def flat_name(module: Module, part: PartSpec[Any, Any], model: Checkpoint) -> str:
    """What kohya's scripts call a layer: with several text encoders by the names of the single-file layout."""
    towers = [tower.part.name for tower in model.family.towers]
    if part.name in towers:
        number = str(number_of(part) + 1) if len(towers) > 1 or number_of(part) else ""
        return f"lora_te{number}_{_flat(module.diffusers[0])}"
    ldm = module.ldm if len(towers) > 1 else None
    return f"{FLAT_DENOISER[0]}{_flat(ldm or module.diffusers[0])}"


def usual(base: str) -> str:
    """The name of a layer without the level that diffusers' oldest files have in it."""
    return base.replace(".processor.", ".")


def _layer(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _flat(path: str) -> str:
    return path.replace(".", "_")
