"""Weight adapters: LoRA and its kin, in the names of kohya, LyCORIS, diffusers, PEFT and ComfyUI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from atelier.checkpoints.kind import Identity, Kind, Seen, Shape, of_known_family
from atelier.checkpoints.strangers import JOINT_WIDTHS, PLAIN_WIDTHS, strange_module

END = re.compile(
    r"\n([^\n]+?)[._](?:"
    r"(lora)_(?:down|up|mid)\.weight|lora_([AB])(?:\.\w+)?(?:\.weight)?|lora\d?\.(?:down|up)\.weight|"
    r"lora_linear_layer\.(?:down|up)\.weight|(hada)_[wt]\d(?:_[ab])?|(lokr)_[wt]\d(?:_[ab])?|([ab][12])\.weight|"
    r"(?:oft_R|boft_[Rs]|ia3_l|vera_lambda_[bd])(?:\.\w+)*|(oft)_(?:blocks|diag)|(on_input)|(diff)(?:_b)?|([wb]_norm)|(dora_scale|lora_magnitude_vector)(?:\.weight)?"
    r")(?=\n)"
)
"""The end of a name of an adapter's tensor, behind the name of the module that it changes."""
ALGORITHMS = (
    *((".hada_w1", "loha"), (".lokr_w", "lokr"), (".on_input", "ia3"), (".a1.weight", "glora")),
    *((".oft_blocks", "oft"), (".oft_diag", "oft"), (".oft_R", "peft_oft"), (".boft_R", "peft_boft")),
    *((".ia3_l", "peft_ia3"), (".vera_lambda_", "vera")),
)
LORA = ("lora_down", "lora_up", "lora_A", "lora.down", "lora_linear_layer", "lora1.down", "lora2.down")
DORA = (".dora_scale", "lora_magnitude_vector")
OTHERS = ("ip_adapter.", "image_proj.", "id_encoder.", "input_hint_block.", "control_model.", "pmid.", "lllite_")
"""What other kinds begin with that have tensors of low rank too."""
TEXT = {768: "sd1", 1024: "sd2"}
"""Width of the states of a family's only text encoder."""
CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl"}
BASES = (
    *(("sdxl", "sdxl"), ("stable-diffusion-xl", "sdxl"), ("pony", "sdxl"), ("illustrious", "sdxl")),
    *(("sd_v2", "sd2"), ("stable-diffusion-v2", "sd2"), ("sd_v1", "sd1"), ("stable-diffusion-v1", "sd1")),
    *(("sd3", "sd3"), ("stable-diffusion-3", "sd3"), ("flux", "flux"), ("chroma", "chroma"), ("lumina", "lumina")),
)
"""What metadata call the base model, from its beginning."""
TRANSFORMER = re.compile(
    r"(?:transformer\.|lora_transformer_|lora_unet_|lycoris_|diffusion_model\.|unet\.|base_model\.model\.)?"
    r"transformer_blocks[._]\d+[._](?P<rest>.+)"
)
"""A layer of a transformer that is no part of a U-Net, which has its transformers in its blocks."""
JOINT = re.compile(r"attn[._](?:to|add)_")
INNER = ("to_q", "to_k", "to_v", "q_proj", "k_proj", "v_proj", "net_0_proj", "net.0.proj")
"""What the names of layers that read the transformer's own states end with."""


def is_adapter(seen: Seen) -> bool:
    return not seen.starts(*OTHERS) and END.search(seen.text) is not None and _is_known(seen)


def recognise(seen: Seen) -> Identity | None:
    from atelier.checkpoints.kinds.controlnet import is_control_lora

    if not is_adapter(seen) or is_control_lora(seen):
        return None
    if seen.holds("motion_modules."):
        deep = seen.holds("down_blocks.3.", "up_blocks.3.")
        return Identity("lora", "sd1" if deep else "sdxl", "motion", notes=("changes a motion module (AnimateDiff)",))
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
    if _is_transformer(seen):
        return _by_name(seen) or _of_transformer(seen) or _by_metadata(seen)
    return _by_name(seen) or _by_width(seen) or _by_metadata(seen) or _by_layout(seen)


def _by_name(seen: Seen) -> str | None:
    other = strange_module(found[1] for found in END.finditer(seen.text))
    if other is not None:
        return other
    if seen.holds("joint_blocks_", "joint_blocks.", "lora_te3_", "text_encoder_3."):
        return "sd3"
    if seen.holds("lora_te2_", "text_encoder_2.") and not seen.starts("transformer.", "lora_transformer_"):
        return "sdxl"
    if seen.holds("transformer_blocks_1_", "transformer_blocks.1.") and not _is_transformer(seen):
        return "sdxl"
    return "sdxl" if seen.holds("up_blocks_0_attentions", "up_blocks.0.attentions") else None


def _is_transformer(seen: Seen) -> bool:
    return any(TRANSFORMER.match(module.name) for module in modules(seen))


def _of_transformer(seen: Seen) -> str | None:
    """By the width of its states, and whether image and text are read in one attention."""
    found = [(module, match["rest"]) for module in modules(seen) if (match := TRANSFORMER.match(module.name))]
    width = next((module.width for module, _ in found if module.width and module.name.endswith(INNER)), 0)
    joint = not any("attn1" in rest or "attn2" in rest for _, rest in found) or any(JOINT.match(r) for _, r in found)
    return (JOINT_WIDTHS if joint else PLAIN_WIDTHS).get(width)


def _by_width(seen: Seen) -> str | None:
    """From what reads text states, or from the text encoder; hidden layers of the latter are four times as wide."""
    for module in modules(seen):
        if module.name.endswith(("attn2_to_k", "attn2_to_v", "attn2.to_k", "attn2.to_v", "attn2.processor.to_k")):
            found = CONTEXT.get(module.width or 0)
            if found is not None:
                return found
    for module in modules(seen):
        if "text_model" in module.name or module.name.startswith("text_encoder."):
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
