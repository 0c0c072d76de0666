"""Weight adapters: LoRA and its kin, in the names of kohya, LyCORIS, diffusers, PEFT and ComfyUI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from atelier.checkpoints.denoisers import FOREIGN
from atelier.checkpoints.kind import Identity, Kind, Seen, Shape, of_known_family

END = re.compile(
    r"\n([^\n]+?)[._](?:"
    r"(lora)_(?:down|up|mid)\.weight|lora_([AB])(?:\.\w+)?(?:\.weight)?|lora\d?\.(?:down|up)\.weight|"
    r"lora_linear_layer\.(?:down|up)\.weight|(hada)_[wt]\d(?:_[ab])?|(lokr)_[wt]\d(?:_[ab])?|([ab][12])\.weight|"
    r"(oft)_(?:blocks|diag)|(on_input)|(diff)(?:_b)?|([wb]_norm)|(dora_scale|lora_magnitude_vector)(?:\.weight)?"
    r")(?=\n)"
)
"""The end of a name of an adapter's tensor, behind the name of the module that it changes."""
ALGORITHMS = (
    *((".hada_w1", "loha"), (".lokr_w", "lokr"), (".on_input", "ia3"), (".a1.weight", "glora")),
    *((".oft_blocks", "oft"), (".oft_diag", "oft")),
)
LORA = ("lora_down", "lora_up", "lora_A", "lora.down", "lora_linear_layer", "lora1.down", "lora2.down")
DORA = (".dora_scale", "lora_magnitude_vector")
OTHERS = ("ip_adapter.", "image_proj.", "id_encoder.", "input_hint_block.", "control_model.", "pmid.", "lllite_")
"""What other kinds begin with that have tensors of low rank too."""
TEXT = {768: "sd1", 1024: "sd2"}
"""Width of the states of a family's only text encoder."""
CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl"}
SD3_WIDTHS = (1536, 2432)
BASES = (
    *(("sdxl", "sdxl"), ("stable-diffusion-xl", "sdxl"), ("pony", "sdxl"), ("illustrious", "sdxl")),
    *(("sd_v2", "sd2"), ("stable-diffusion-v2", "sd2"), ("sd_v1", "sd1"), ("stable-diffusion-v1", "sd1")),
    *(("sd3", "sd3"), ("stable-diffusion-3", "sd3"), ("flux", "flux"), ("chroma", "chroma"), ("lumina", "lumina")),
)
"""What metadata call the base model, from its beginning."""
FOREIGN_UNDERSCORED = (
    *(("double_blocks_", "flux"), ("single_blocks_", "flux"), ("single_transformer_blocks_", "flux")),
    *(("lora_prior_", "cascade"), ("channelwise", "cascade"), ("kv_mapper", "cascade"), ("single_blocks.", "flux")),
)


def is_adapter(seen: Seen) -> bool:
    return not seen.starts(*OTHERS) and END.search(seen.text) is not None and _is_known(seen)


def recognise(seen: Seen) -> Identity | None:
    from atelier.checkpoints.kinds.controlnet import is_control_lora

    if not is_adapter(seen) or is_control_lora(seen):
        return None
    return Identity("lora", family(seen), algorithm(seen), notes=tuple(_notes(seen)))


def _is_known(seen: Seen) -> bool:
    """Whether the ends are an adapter's for certain, or are common ones behind an adapter's names."""
    certain = seen.holds(*LORA, *DORA, *(mark for mark, _ in ALGORITHMS if mark != ".a1.weight"))
    return certain or seen.starts("lora_", "lycoris_", "oft_unet", "unet.", "text_encoder.", "diffusion_model.")


def algorithm(seen: Seen) -> str:
    """loha, lokr, …, or lora; locon for one that also changes convolutions, dora for one with magnitudes."""
    if seen.holds(*DORA):
        return "dora"
    special = next((name for mark, name in ALGORITHMS if seen.holds(mark)), None)
    if special is not None:
        return special
    if not seen.holds(*LORA):
        return "norm" if seen.holds(".w_norm") else "diff"
    return (
        "locon"
        if any(_is_kernel(shape) for _, shape in (*_downs(seen), *_ending(seen, ".lora_mid.weight")))
        else "lora"
    )


def _is_kernel(shape: Shape) -> bool:
    return len(shape) == 4 and shape[2] > 1


def family(seen: Seen) -> str | None:
    """From the names of modules, then from their widths, then from what the metadata say, then from what is usual."""
    return _by_name(seen) or _by_width(seen) or _by_metadata(seen) or _by_layout(seen)


def _by_name(seen: Seen) -> str | None:
    foreign = next((own for part, own in (*FOREIGN, *FOREIGN_UNDERSCORED) if seen.holds(part)), None)
    if foreign is not None:
        return foreign
    if seen.holds("joint_blocks_", "joint_blocks."):
        return "sd3"
    if seen.starts("transformer.", "lora_transformer_", "base_model.model.transformer_blocks."):
        width = next((module.width for module in modules(seen) if module.name.endswith(("to_q", "attn_to_q"))), None)
        return {1152: "pixart"}.get(width or 0, "sd3" if width in SD3_WIDTHS else None)
    if seen.holds("lora_te2_", "text_encoder_2.", "lora_te3_"):
        return "sd3" if seen.holds("lora_te3_") else "sdxl"
    if seen.holds("transformer_blocks_1_", "transformer_blocks.1."):
        return "sdxl"
    return None


def _by_width(seen: Seen) -> str | None:
    """From what reads text states, or from the text encoder; hidden layers of the latter are four times as wide."""
    for module in modules(seen):
        if module.name.endswith(("attn2_to_k", "attn2_to_v", "attn2.to_k", "attn2.to_v", "attn2.processor.to_k")):
            found = CONTEXT.get(module.width or 0)
            if found is not None:
                return found
    for module in modules(seen):
        if "text_model" in module.name:
            width = (module.width or 0) // (4 if module.name.endswith("fc2") else 1)
            if width in TEXT:
                return "sdxl" if module.name.startswith("lora_te1_") else TEXT[width]
    return None


def _by_layout(seen: Seen) -> str | None:
    """SDXL has no attention in its outer blocks, which SD 1 and 2 have; of these SD 1 is far more common."""
    outer = ("down_blocks_0_attentions", "down_blocks.0.attentions", "up_blocks_3_attentions", "up_blocks.3.attentions")
    if seen.holds(*outer):
        return "sd1"
    return "sdxl" if seen.holds("input_blocks_7_1", "input_blocks_8_1", "down_blocks_2_attentions") else None


def _by_metadata(seen: Seen) -> str | None:
    for key in ("ss_base_model_version", "modelspec.architecture", "ss_sd_model_name"):
        stated = seen.metadata.get(key, "").casefold()
        for beginning, own in BASES:
            if stated.startswith(beginning):
                return own
    return None


class Module(NamedTuple):
    """A layer that an adapter changes, and how many numbers it reads at once, where the tensors tell it."""

    name: str
    width: int | None


def modules(seen: Seen) -> Iterator[Module]:
    """Each layer, once for each of its tensors that tells a width."""
    for name, shape in _downs(seen):
        yield Module(name, shape[1])
    for name, shape in _ending(seen, ".hada_w1_b"):
        yield Module(name, shape[1])
    for name, shape in _ending(seen, ".a2.weight"):
        yield Module(name, max(shape[:2]))
    for name, shape in (*_ending(seen, ".lokr_w1"), *_ending(seen, ".lokr_w1_b")):
        second = seen.shapes.get(f"{name}.lokr_w2") or seen.shapes.get(f"{name}.lokr_w2_b")
        yield Module(name, shape[1] * second[1] if second is not None and len(second) > 1 else None)
    for name, shape in _ending(seen, ".diff"):
        yield Module(name, shape[1] if len(shape) > 1 else None)
    for name, _ in _ending(seen, ".on_input"):
        scale = seen.shapes.get(f"{name}.weight", ())
        yield Module(name, max(scale, default=0) if name.endswith("fc2") else None)


DOWN = re.compile(
    r"[._](?:lora_down\.weight|lora_A(?:\.\w+)?\.weight|lora\d?\.down\.weight|lora_linear_layer\.down\.weight)$"
)


def _downs(seen: Seen) -> Iterator[tuple[str, Shape]]:
    for name, shape in seen.shapes.items():
        found = DOWN.search(name)
        if found is not None and len(shape) >= 2:
            yield name[: found.start()], shape


def _ending(seen: Seen, ending: str) -> Iterator[tuple[str, Shape]]:
    return ((n.removesuffix(ending), s) for n, s in seen.shapes.items() if n.endswith(ending) and len(s) != 1)


def _notes(seen: Seen) -> Iterator[str]:
    if seen.holds(".diff\n", ".diff_b\n", ".w_norm\n") and seen.holds(*LORA):
        yield "also has full differences"
    if not seen.holds("text_model", "text_encoder", "lora_te"):
        yield "leaves the text encoder as it is"
    if not seen.holds("lora_unet", "unet.", "transformer", "diffusion_model", "lycoris_unet", "oft_unet", "_blocks"):
        yield "changes the text encoder alone"


SPECS = (Kind("lora", "LoRA", recognise, reads=of_known_family),)
