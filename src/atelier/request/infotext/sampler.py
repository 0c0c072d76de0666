"""The names of samplers in infotexts: with the schedule in them, as A1111 wrote before 1.9, and of other programs.

Policy for texts without a schedule of their own: a name that ends in a schedule has that schedule; any other had the
uniform one where the text is known to be older than A1111 1.9, and has the sampler's own where it is not (A1111 itself
takes the sampler's own always, so that its old images come out differently).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from atelier.request.infotext.version import Version

AUTOMATIC, UNIFORM = "Automatic", "Uniform"

_SCHEDULES: Mapping[str, str] = {
    "align your steps gits": "Align Your Steps GITS",
    "align your steps 11": "Align Your Steps",
    "align your steps 32": "Align Your Steps",
    "align your steps": "Align Your Steps",
    "ays": "Align Your Steps",
    "polyexponential": "Polyexponential",
    "exponential": "Exponential",
    "karras": "Karras",
    "sgm uniform": "SGM Uniform",
    "sgmuniform": "SGM Uniform",
    "sgm_uniform": "SGM Uniform",
    "trailing": "Turbo",
    "ddim uniform": "DDIM",
    "ddim_uniform": "DDIM",
    "linear quadratic": "Linear quadratic",
    "linear_quadratic": "Linear quadratic",
    "kl_optimal": "KL Optimal",
    "kl optimal": "KL Optimal",
    "discrete": "Uniform",
    "uniform": "Uniform",
    "automatic": "Automatic",
    "simple": "Simple",
    "normal": "Normal",
    "turbo": "Turbo",
    "sgm": "SGM Uniform",
    "edm": "Karras",
    "beta": "Beta",
    "gits": "Align Your Steps GITS",
    "lcm": "LCM",
}
"""What a schedule is called, folded, to its label; longer names stand before those that they end in."""

OTHER_NAMES: Mapping[str, str] = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "lms": "LMS",
    "ddim": "DDIM",
    "ddim_v3": "DDIM",
    "ddpm": "DDPM",
    "deis": "DEIS",
    "plms": "PLMS",
    "pndm": "PLMS",
    "unipc": "UniPC",
    "lcm": "LCM",
    "tcd": "TCD",
    "dpm++2s_a": "DPM++ 2S a",
    "dpm++2m": "DPM++ 2M",
    "dpm++2mv2": "DPM++ 2M",
    "dpm2": "DPM2",
    "ipndm": "IPNDM",
    "ddim_trailing": "DDIM",
    "kdpm_2": "DPM2",
    "kdpm_2_a": "DPM2 a",
    "k_lms": "LMS",
    "k_heun": "Heun",
    "k_euler": "Euler",
    "k_euler_a": "Euler a",
    "k_euler_ancestral": "Euler a",
    "k_dpm_2": "DPM2",
    "k_dpm_2_a": "DPM2 a",
    "k_dpm_2_ancestral": "DPM2 a",
    "k_dpm_fast": "DPM fast",
    "k_dpm_adaptive": "DPM adaptive",
    "k_dpmpp_2": "DPM++ 2M",
    "k_dpmpp_2_a": "DPM++ 2S a",
    "k_dpmpp_2m": "DPM++ 2M",
    "k_dpmpp_2m_sde": "DPM++ 2M SDE",
    "k_dpmpp_2s_ancestral": "DPM++ 2S a",
    "k_dpmpp_sde": "DPM++ SDE",
    "dpmpp_2s": "DPM++ 2S",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m": "DPM++ 3M",
    "dpmpp_sde": "DPM++ SDE",
}
"""InvokeAI's, NovelAI's and stable-diffusion.cpp's names; a trailing _k in InvokeAI's is the Karras schedule."""

_FIXED: Mapping[str, str | None] = {"ddim_trailing": "Turbo", "tcd": None}
"""stable-diffusion.cpp's that do not use the schedule they are written with, and which they use (None: their own)."""
PRESETS: Mapping[str, tuple[str, str]] = {
    "default - dpm++ 2m": ("DPM++ 2M", "Karras"),
    "alternative - euler a": ("Euler a", "Normal"),
    "creative - dpm++ 2m sde": ("DPM++ 2M SDE", "Karras"),
    "fast - unipc bh2": ("UniPC BH2", "Align Your Steps GITS"),
    "turbo/lightning merge - dpm++ sde": ("DPM++ SDE", "Karras"),
    "lightning merge - euler a uniform": ("Euler a", "SGM Uniform"),
    "realtime - hyper": ("Euler", "SGM Uniform"),
    "realtime - lcm": ("LCM", "SGM Uniform"),
    "realtime - lightning": ("Euler", "SGM Uniform"),
    "sd3 - dpm++ 2m uniform": ("DPM++ 2M", "SGM Uniform"),
    "flux - euler simple": ("Euler", "Simple"),
    "flux - turbo": ("Euler", "Simple"),
}
"""What comes with Krita's plugin, folded: sampler and schedule."""
_KNOWN: Mapping[str, str] = {
    name.casefold(): name for name in (*OTHER_NAMES.values(), "UniPC BH2", "DPM++ 2M SDE Heun")
}

_FUNCTION = "sample_"
"""What k-diffusion's functions, and samplers of ComfyUI in its first months, are called with in front."""
_WIRED: Mapping[str, str] = {
    "_ka": "Karras",
    "_exp": "Exponential",
    "_karras": "Karras",
    "_exponential": "Exponential",
    "_sgm_uniform": "SGM Uniform",
    "_ddim_uniform": "DDIM",
    "_normal": "Normal",
    "_simple": "Simple",
    "_beta": "Beta",
}
"""What A1111's aliases, and saver nodes of ComfyUI, put behind names in lower case."""
TIMESTEP_SAMPLERS = frozenset({"DDIM", "DDIM CFG++", "PLMS", "UniPC"})
"""Those for which A1111 ignores the schedule, though it writes the one that was chosen."""
_OWN_LEVELS = frozenset({"DPM fast", "DPM adaptive"})
_WITH_OWN = TIMESTEP_SAMPLERS | _OWN_LEVELS | {"LCM", "Restart"}
"""Those that never had the uniform schedule."""
_COMFY_SAMPLERS: Mapping[str, str] = {"ddim": "Euler"}
_COMFY_SCHEDULES: Mapping[str, str] = {"beta": "Beta in time", "kl optimal": "KL Optimal to zero"}
"""ComfyUI's, folded, that are not what A1111 calls so."""
_NO_SAMPLER = frozenset({"default", "same as primary", "none"})
"""SD.Next's and stable-diffusion.cpp's words for the sampler of their own choice."""
_NO_SCHEDULE = frozenset({"default", "none"})
_LAST_WITHOUT_TYPE = Version((1, 9, 0))


def method(name: str | None, schedule: str | None, version: Version | None) -> tuple[str | None, str | None]:
    """(sampler, schedule label) of a text by `version` of A1111 or a fork (None: not known), without a schedule in the
    name. A schedule in the name comes before one given apart, as in A1111. None: the text says nothing."""
    named = None if schedule is None or schedule.casefold() in _NO_SCHEDULE else schedule
    label = named and _SCHEDULES.get(named.casefold(), named)
    if name is None or name.strip().casefold() in _NO_SAMPLER:
        return None, label
    bare, inside = split_name(name)
    if inside or label:
        return bare, inside or label
    if schedule is None and version is not None and version < _LAST_WITHOUT_TYPE and bare not in _WITH_OWN:
        return bare, UNIFORM
    return bare, None


def comfy_method(sampler: str | None, schedule: str | None) -> tuple[str | None, str | None]:
    """The same for a text of ComfyUI, whose names `method` has read: without a schedule it is Normal."""
    if sampler is None:
        return None, schedule
    label = schedule or "Normal"
    return _COMFY_SAMPLERS.get(sampler.casefold(), sampler), _COMFY_SCHEDULES.get(label.casefold(), label)


def chooses_levels(sampler: str | None) -> bool:
    """Whether a sampler, by A1111's or ComfyUI's name, chooses its levels itself, so that a schedule says nothing."""
    return (sampler or "").casefold().replace("_", " ") in {name.casefold() for name in _OWN_LEVELS}


def is_schedule(name: str) -> bool:
    """Whether a name is that of a schedule."""
    return name.strip().casefold() in _SCHEDULES


def novelai_sampler(name: str | None) -> str | None:
    """NovelAI's sampler, whose name `method` has read: what nobody knows is Euler a, as in A1111."""
    return name if name is None or name.casefold() in _KNOWN else "Euler a"


def is_titled(name: str) -> bool:
    """Whether a name is Krita's: a title, and what it stands for."""
    return name.strip().casefold() in PRESETS or _without_title(name.strip()) != name.strip()


def split_name(name: str) -> tuple[str, str | None]:
    """A sampler's name without the schedule at its end, and the label of that schedule. SD.Next says DPM2++, and
    FlowMatch where the model is one."""
    if preset := PRESETS.get(name.strip().casefold()):
        return preset
    name = _without_title(name.strip()).removeprefix(_FUNCTION)
    name = re.sub(r"^DPM2\+\+ | FlowMatch$", lambda found: "DPM++ " if found[0][0] == "D" else "", name)
    folded = name.casefold()
    for suffix, label in _SCHEDULES.items():
        if folded.endswith(f" {suffix}"):
            bare = name[: -len(suffix) - 1].rstrip()
            return OTHER_NAMES.get(bare, bare), _FIXED.get(bare, label)
    for suffix, label in _WIRED.items():
        if folded.endswith(suffix) and folded != suffix:
            bare = name[: -len(suffix)]
            return OTHER_NAMES.get(bare, bare), label
    return OTHER_NAMES.get(name, name), _FIXED.get(name)


def _without_title(name: str) -> str:
    """Krita's plugin writes `Euler - euler_a`, `Mine - DPM++ 2M`: a title of the user's, and the sampler's name."""
    title, dash, known = name.rpartition(" - ")
    is_id = known.replace("_", "").isalnum() and known == known.casefold()
    return _KNOWN.get(known.casefold(), known) if dash and title and (is_id or known.casefold() in _KNOWN) else name
