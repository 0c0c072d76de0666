"""What was done to an image, as keys of extensions and fields of other programs say it, and cannot be done yet."""

from __future__ import annotations

from atelier.request.infotext.record import Pairs


def _names(text: str) -> tuple[str, ...]:
    """Names between commas; a low line at the end of one is a space."""
    return tuple(name.replace("_", " ") for name in " ".join(text.split()).split(", "))


_BEGINNINGS = _names(
    """
    controlnet, adetailer, tiled diffusion, tiled vae, multidiffusion, dynamic thresholding, cutoff, rp_, regional
    prompter, latent couple, freeu, kohya hrfix, kohya hires, addnet, ultimate sd upscale, ipadapter, ip adapter,
    ip-adapter, t2iadapter, t2i adapter, pag_, perturbed attention, sag_, self attention guidance, negpip, lora
    block weight, lora_, module_, animatediff, reactor, roop, composable lora, postprocess, layerdiffusion,
    layerdiffuse, cfg interval, scaling startpoint, variability measure, separate feature channels,
    mimic mode, cfg mode, sag mask, sag attention, pag start, pag end, pag sanf,
    style aligned, stylealign, refiner, latentmodifier, latent modifier, cfg zero, epsilon scaling,
    mahiro, instantid, seamless, hidiffusion, cfg end, detailer, teacache, embedding_, facetool
    """
)
"""What the keys of extensions begin with, folded."""
_WHOLE = frozenset(
    _names(
        """
        adm guidance, control layers, controllayers, face restoration model, hrf enabled, init image, init images,
        initimage, lora, loras, lyco, mask, mask image, maskimage, prompt expansion, reference image multiple, refine,
        sharpness, styles, upscale model, use controlnet model, use embeddings model, use face correction, use
        hypernetwork model, use lora model, use upscale, upscale, variations, hires fix
        """
    )
)
"""Keys and fields that are nothing else, folded."""
NODE = "Node "
"""What the key of a node of ComfyUI that changes an image begins with; its kind follows."""
FORGES = "dynthres "
"""What the keys of Forge's dynamic thresholding begin with, folded; the rest is what the extension of A1111 says."""
_SWITCHES = ("enabled", "active")
_NEUTRAL = {
    "cfg end": frozenset({"1", "1.0"}),
    "scaling startpoint": frozenset({"MEAN"}),
    "variability measure": frozenset({"AD"}),
    "separate feature channels": frozenset({"True", "enable"}),
    "mimic mode": frozenset({"Constant"}),
    "cfg mode": frozenset({"Constant"}),
    "pag start": frozenset({"0"}),
    "sag mask": frozenset({"1", "1.0"}),
}
"""Values, folded, by which keys of these beginnings do nothing."""
_OFF = frozenset({"", "none", "false", "off", "no", "0", "0.0", "[]", "{}", "null", "disabled", "use same choices"})
"""Values, folded, by which nothing is done."""


def changes(pairs: Pairs) -> tuple[str, ...]:
    """The keys, among pairs that no field takes, that say how an image was changed: the first of each extension."""
    found: dict[str, str] = {}
    switched_off: set[str] = set()
    for name, value in pairs:
        folded, is_off = name.casefold().replace("_", " ").removeprefix(FORGES), value.strip().casefold() in _OFF
        owner = _owner(folded)
        is_off = is_off or value.strip() in _NEUTRAL.get(owner or "", ())
        if owner and is_off and folded.endswith(_SWITCHES):
            switched_off.add(owner)
        elif owner and not is_off:
            found.setdefault(owner, name)
    return tuple(name for owner, name in found.items() if owner not in switched_off)


def _owner(name: str) -> str | None:
    """What a folded key belongs to; None if it changes nothing."""
    if name in _WHOLE or name.startswith(NODE.casefold()):
        return name
    return next((owner for owner in _BEGINNINGS if name.startswith(owner)), None)
