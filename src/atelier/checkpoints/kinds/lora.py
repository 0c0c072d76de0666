"""Weight adapters: LoRA and its kin, in the names of kohya, LyCORIS, diffusers, PEFT and ComfyUI."""

from __future__ import annotations

import re
from collections.abc import Iterator

from atelier.checkpoints.adapted import HIDDEN, OF_TEXT, Module, possible
from atelier.checkpoints.kind import Identity, Kind, Seen, Shape, of_known_family
from atelier.checkpoints.strangers import JOINT_WIDTHS, PLAIN_WIDTHS, strange_module

END = re.compile(
    r"\n([^\n]+?)[._](?:"
    r"(lora)_(?:down|up|mid)\.weight|lora_([ABE])(?:\.\w+)?(?:\.(?:weight|bias))?|lora\d?\.(?:down|up)\.weight|"
    r"lora_linear_layer\.(?:down|up)\.weight|(hada)_[wt]\d(?:_[ab])?|(lokr)_[wt]\d(?:_[ab])?|([ab][12])\.weight|"
    r"(?:oft_R|boft_[Rs]|ia3_l|vera_lambda_[bd])(?:\.\w+)*|(oft)_(?:blocks|diag)|(on_input)|(diff)(?:_b)?|([wb]_norm)|(dora_scale|lora_magnitude_vector)(?:\.weight)?"
    r")(?=\n)"
)
"""The end of a name of an adapter's tensor, behind the name of the module that it changes."""
ALGORITHMS = (
    *((".hada_w1", "loha"), (".lokr_w", "lokr"), (".on_input", "ia3"), (".a1.weight", "glora")),
    *((".oft_blocks", "oft"), (".oft_diag", "oft"), (".oft_R", "peft_oft"), (".boft_R", "peft_boft")),
    *((".ia3_l", "peft_ia3"), (".vera_lambda_", "vera"), (".lora_E", "adalora")),
)
LORA = ("lora_down", "lora_up", "lora_A", "lora.down", "lora_linear_layer", "lora1.down", "lora2.down")
DORA = (".dora_scale", "lora_magnitude_vector")
OTHERS = ("ip_adapter.", "image_proj.", "id_encoder.", "input_hint_block.", "control_model.", "pmid.", "lllite_")
"""What other kinds begin with that have tensors of low rank too."""
CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl"}
BASES = (
    *(("sdxl", "sdxl"), ("stable-diffusion-xl", "sdxl"), ("pony", "sdxl"), ("illustrious", "sdxl")),
    *(("sd_v2", "sd2"), ("stable-diffusion-v2", "sd2"), ("sd_v1", "sd1"), ("stable-diffusion-v1", "sd1")),
    *(("sd3", "sd3"), ("stable-diffusion-3", "sd3"), ("flux", "flux"), ("chroma", "chroma"), ("lumina", "lumina")),
)
"""What metadata call the base model, from its beginning."""
TRANSFORMER = re.compile(
    r"(?:transformer\.|lora_transformer_|lora_unet_|lycoris_|diffusion_model\.|unet\.)?(?:base_model\.model\.)?"
    r"transformer_blocks[._]\d+[._](?P<rest>.+)"
)
"""A layer of a transformer that is no part of a U-Net, which has its transformers in its blocks."""
JOINT = re.compile(r"attn[._](?:to|add)_")
INNER = (
    *("to_q", "to_k", "to_v", "q_proj", "k_proj", "v_proj", "net_0_proj"),
    *("to_out_0", "to_add_out", "norm1_linear", "norm1_context_linear"),
)
"""What the names of layers that read the transformer's own states end with, underscores for dots."""
NUMBER, FLUX_BLOCKS = re.compile(r"transformer_blocks[._](\d+)"), 19
"""A block, and how many Flux has that read image and text apart; Qwen-Image is as wide, and deeper."""


def is_adapter(seen: Seen) -> bool:
    return not seen.starts(*OTHERS) and END.search(seen.text) is not None and _is_known(seen)


def recognise(seen: Seen) -> Identity | None:
    from atelier.checkpoints.kinds.controlnet import is_control_lora

    if not is_adapter(seen) or is_control_lora(seen):
        return None
    if seen.holds("motion_modules."):
        deep = seen.holds("down_blocks.3.", "up_blocks.3.")
        return Identity("lora", "sd1" if deep else "sdxl", "motion", notes=("changes a motion module (AnimateDiff)",))
    own, others = _told(seen)
    return Identity("lora", own, algorithm(seen), fits=others, notes=tuple(_notes(seen)))


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
    """What an adapter is for, as far as its names and widths tell, or else its metadata."""
    return _told(seen)[0]


def _told(seen: Seen) -> tuple[str | None, tuple[str, ...]]:
    """The family, None where several may be meant; and further ones that have the same layers.

    Layers of other families have names of their own; those of ours rule families out, and the metadata choose among
    those that are left. Where all are ruled out, the model is no published one: the metadata are believed.
    """
    other = strange_module(found[1] for found in END.finditer(seen.text))
    if other is not None:
        return other, ()
    if seen.holds("joint_blocks_", "joint_blocks."):
        return "sd3", ()
    stated = _by_metadata(seen)
    if any(TRANSFORMER.match(module.name) for module in modules(seen)):
        return _of_transformer(seen) or stated, ()
    left = possible(modules(seen))
    if not left:
        return stated or _by_context(seen), ()
    if stated in left:
        return stated, ()
    left = possible(modules(seen), exact=True) or left
    usual = len(left) == 1 or {*left} == OLD or not seen.holds(*OF_UNET)
    first = left[0] if usual else None
    return first, tuple(own for own in left if own != first)


OLD = {"sd1", "sd2"}
"""Of these, 1.x is far more common."""
OF_UNET = ("_blocks_", "_blocks.", "middle_block", "mid_block")
"""Parts of the names of a U-Net's layers; a text encoder alone is taken for the first family that reads it."""


def _of_transformer(seen: Seen) -> str | None:
    """By the width of its states, and whether image and text are read in one attention."""
    found = [(module, match["rest"]) for module in modules(seen) if (match := TRANSFORMER.match(module.name))]
    width = next((width for module, rest in found if (width := _inner_width(module, rest))), 0)
    joint = not any("attn1" in rest or "attn2" in rest for _, rest in found) or any(JOINT.match(r) for _, r in found)
    named = (JOINT_WIDTHS if joint else PLAIN_WIDTHS).get(width)
    deepest = max(int(number[1]) for module, _ in found if (number := NUMBER.search(module.name)))
    return "qwen_image" if named == "flux" and deepest >= FLUX_BLOCKS else named


def _inner_width(module: Module, rest: str) -> int:
    """Of the transformer's states, where a layer reads them; its hidden layers are four times as wide."""
    rest = rest.replace(".", "_")
    if rest.endswith(HIDDEN):
        return (module.width or 0) // 4
    return module.width or 0 if rest.endswith(INNER) else 0


def _by_context(seen: Seen) -> str | None:
    """From what reads text states, in a U-Net whose other widths are none of the published ones."""
    for module in modules(seen):
        if module.name.replace(".processor", "").replace(".", "_").endswith(OF_TEXT):
            found = CONTEXT.get(module.width or 0)
            if found is not None:
                return found
    return None


def _by_metadata(seen: Seen) -> str | None:
    for key in ("ss_base_model_version", "modelspec.architecture", "ss_sd_model_name"):
        stated = seen.metadata.get(key, "").casefold()
        for beginning, own in BASES:
            if stated.startswith(beginning):
                return own
    return None


def modules(seen: Seen) -> Iterator[Module]:
    """Each layer, once for each of its tensors that tells a width, and once by its name alone."""
    for name, shape in _downs(seen):
        yield Module(name, shape[1], len(shape))
    for name, shape in _ending(seen, ".hada_w1_b"):
        yield Module(name, shape[1])
    for name, shape in _ending(seen, ".a2.weight"):
        yield Module(name, max(shape[:2]))
    for name, shape in (*_ending(seen, ".lokr_w1"), *_ending(seen, ".lokr_w1_b")):
        second = seen.shapes.get(f"{name}.lokr_w2") or seen.shapes.get(f"{name}.lokr_w2_b")
        yield Module(name, shape[1] * second[1] if second is not None and len(second) > 1 else None)
    for name, shape in _ending(seen, ".diff"):
        yield Module(name, shape[1] if len(shape) > 1 else None, len(shape))
    for name, _ in _ending(seen, ".on_input"):
        scale = seen.shapes.get(f"{name}.weight", ())
        yield Module(name, max(scale, default=0) if name.endswith("fc2") else None)
    yield from (Module(found[1]) for found in END.finditer(seen.text))


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
