"""What files of adapters call the layers of a network, derived from the names of its parameters.

kohya's scripts and LyCORIS write a prefix and the path of the layer with underscores for dots; diffusers, PEFT and
ComfyUI write the path as it is. Nothing is ever taken apart at an underscore: every name that a layer may have is made,
and looked up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from atelier.families.family import Family
from atelier.families.part import PartSpec
from atelier.weights.names.name import Halves, Name, Rows

WRAPPED = "base_model.model."
"""What PEFT puts before the names of layers."""
FLAT_DENOISER = ("lora_unet_", "lycoris_", "lycoris_unet_", "oft_unet_", "lora_transformer_")
DENOISER = ("", "unet.", WRAPPED, f"unet.{WRAPPED}", "transformer.", f"transformer.{WRAPPED}", "lycoris.")
SINGLE_DENOISER = ("diffusion_model.", "model.diffusion_model.", "unet.", "")
FIRST_TOWER = ("lora_te_", "lycoris_te_", "oft_te_", "lycoris_")
TOWERS = ("text_encoder.", "text_encoder_2.", "text_encoder_3.")
COMFY_TOWERS = (("clip_l", "clip_h"), ("clip_g",), ("t5xxl",))
OLD_ATTENTION = (("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out"))
"""The text encoder's projections, and what the oldest files of diffusers call them."""


@dataclass(frozen=True, slots=True)
class Module:
    """ours: path in our network; ldm, diffusers: in published files, more than one where older files differ.

    rows: where the ldm layout keeps the layer together with others, its rows; halves: where diffusers keeps the halves
    of its rows in the other order.
    """

    ours: str
    diffusers: tuple[str, ...]
    ldm: str
    rows: Rows | None = None
    halves: Halves | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """A layer, by one of its names. rule: how the rows of what goes by that name become those of the layer: some of
    them, or their halves swapped; None: they are the same."""

    part: PartSpec[Any, Any]
    module: Module
    rule: Rows | Halves | None = None


def modules(names: Iterable[Name]) -> Iterator[Module]:
    """Every layer of a network, once."""
    seen: set[str] = set()
    for name in names:
        ours = _layer(name.ours)
        if ours not in seen:
            seen.add(ours)
            also = tuple(_layer(spelling) for spelling in name.also)
            halves = name.rule if isinstance(name.rule, Halves) else None
            yield Module(ours, (_layer(name.diffusers), *also), _layer(name.ldm), name.rows("ldm"), halves)


def named(family: Family, specs: Mapping[str, Any]) -> Mapping[str, tuple[Named, ...]]:
    """The layers of the denoiser and of the text encoders, by every name that files have for them; several by a name
    for which a file keeps them together. specs: of the networks that there are, by the names of the parts."""
    found: defaultdict[str, list[Named]] = defaultdict(list)
    for part in parts(family):
        if part.name in specs:
            for module in modules(part.network.names(specs[part.name])):
                for own, spellings in _spelled(family, part, module):
                    for spelling in spellings:
                        found[spelling].append(own)
    return {name: tuple(own) for name, own in found.items()}


def parts(family: Family) -> tuple[PartSpec[Any, Any], ...]:
    """What adapters act on: the text encoders, then the denoiser."""
    denoiser = family.part(family.denoiser)
    assert denoiser is not None
    return (*(tower.part for tower in family.towers), denoiser)


def _spelled(family: Family, part: PartSpec[Any, Any], module: Module) -> Iterator[tuple[Named, Iterable[str]]]:
    """Each way in which files keep a layer, and its names there."""
    if part.name != family.denoiser:
        yield Named(part, module), dict.fromkeys(of_tower(module, number_of(part)))
        return
    own = dict.fromkeys(of_denoiser(module))
    yield Named(part, module, module.halves), own
    yield Named(part, module, module.rows), dict.fromkeys(name for name in in_ldm(module) if name not in own)


def of_denoiser(module: Module) -> Iterator[str]:
    """What files that have diffusers' names call a layer of the denoising network."""
    for path in module.diffusers:
        yield from (prefix + _flat(path) for prefix in FLAT_DENOISER)
        yield from (prefix + path for prefix in DENOISER)
        if path.endswith(".to_out.0"):
            yield from (prefix + path.removesuffix(".0") for prefix in DENOISER)


def in_ldm(module: Module) -> Iterator[str]:
    """What files that have the names of single files call it, alone or with others."""
    yield from (prefix + _flat(module.ldm) for prefix in FLAT_DENOISER)
    yield from (prefix + module.ldm for prefix in SINGLE_DENOISER)


def of_tower(module: Module, number: int) -> Iterator[str]:
    """What files call a layer of text encoder `number`, from 0."""
    flat = (f"lora_te{number + 1}_", f"lycoris_te{number + 1}_", *(FIRST_TOWER if number == 0 else ()))
    dotted = (TOWERS[number], f"{TOWERS[number]}{WRAPPED}", *((WRAPPED,) if number == 0 else ()))
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


def flat_name(module: Module, part: PartSpec[Any, Any], family: Family) -> str:
    """What kohya's scripts call a layer, of families that are not Stable Diffusion 1 or 2 by the names of single files:
    alone, or with others where those keep it with them."""
    first = family.towers[0].part
    several = len(family.towers) > 1 or number_of(first) > 0
    if part.name != family.denoiser:
        return f"lora_te{number_of(part) + 1 if several else ''}_{_flat(module.diffusers[0])}"
    return f"{FLAT_DENOISER[0]}{_flat(module.ldm if several else module.diffusers[0])}"


def single_name(module: Module, part: PartSpec[Any, Any], family: Family) -> str:
    """What ComfyUI writes: the name in a single file, and transformers' for text encoders."""
    if part.name == family.denoiser:
        return SINGLE_DENOISER[0] + module.ldm
    number = number_of(part)
    wide = number == 0 and family.name == "sd2"
    return f"text_encoders.{COMFY_TOWERS[number][-1 if wide else 0]}.transformer.{module.diffusers[0]}"


def dotted_name(module: Module, part: PartSpec[Any, Any], family: Family) -> str:
    """What diffusers writes, of any age but the oldest."""
    denoiser = "transformer." if part.folder == "transformer" else "unet."
    return (denoiser if part.name == family.denoiser else TOWERS[number_of(part)]) + module.diffusers[0]


def usual(base: str) -> str:
    """The name of a layer without the level that diffusers' oldest files have in it."""
    return base.replace(".processor.", ".")


def _layer(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _flat(path: str) -> str:
    return path.replace(".", "_")
