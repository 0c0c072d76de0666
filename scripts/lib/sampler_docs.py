"""The tables of docs/samplers.md, from the registries: sampler_docs.py writes them, sampler_docs.py --check compares.

Names of other programs are asked of the resolver that reads their files, calls and draws of noise are counted in a run
of every sampler on a world of Gaussians; only the remarks are written by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from atelier.diffusion.catalogue import resolve_sampler, samplers, schedules
from atelier.diffusion.levels import scaled_linear
from atelier.diffusion.rng import fresh, streams
from atelier.diffusion.sampling import Options, SamplerSpec
from atelier.diffusion.scheduling import ScheduleOptions, ScheduleSpec, run_sigmas
from atelier.diffusion.types import Prediction
from atelier.request.infotext.sampler import comfy_method, method
from doc_tables import filled, table, write

PAGE = Path(__file__).parents[2] / "docs" / "samplers.md"
STEPS = 20


def names(text: str) -> list[str]:
    """What stands between commas."""
    return text.split(",")


A1111 = names(
    "DPM++ 2M,DPM++ SDE,DPM++ 2M SDE,DPM++ 2M SDE Heun,DPM++ 2S a,DPM++ 3M SDE,Euler a,Euler,LMS,Heun,DPM2,DPM2 a,"
    "DPM fast,DPM adaptive,Restart,DDIM,DDIM CFG++,PLMS,UniPC,LCM"
)
FORGE = names("HeunPP2,IPNDM,IPNDM_V,DEIS,DDPM")
COMFY = names(
    "euler,euler_cfg_pp,euler_ancestral,euler_ancestral_cfg_pp,heun,heunpp2,exp_heun_2_x0,"
    "exp_heun_2_x0_sde,dpm_2,dpm_2_ancestral,lms,dpm_fast,dpm_adaptive,dpmpp_2s_ancestral,"
    "dpmpp_2s_ancestral_cfg_pp,dpmpp_sde,dpmpp_sde_gpu,dpmpp_2m,dpmpp_2m_cfg_pp,dpmpp_2m_sde,"
    "dpmpp_2m_sde_gpu,dpmpp_2m_sde_heun,dpmpp_2m_sde_heun_gpu,dpmpp_3m_sde,dpmpp_3m_sde_gpu,ddpm,lcm,"
    "ipndm,ipndm_v,deis,res_multistep,res_multistep_cfg_pp,res_multistep_ancestral,"
    "res_multistep_ancestral_cfg_pp,gradient_estimation,gradient_estimation_cfg_pp,er_sde,seeds_2,seeds_3,"
    "sa_solver,sa_solver_pece,ddim,uni_pc,uni_pc_bh2"
)
A1111_SCHEDULES = names(
    "Uniform,Karras,Exponential,Polyexponential,SGM Uniform,KL Optimal,Align Your Steps,Simple,Normal,DDIM,Beta"
)
FORGE_SCHEDULES = names("Align Your Steps GITS,Turbo")
COMFY_SCHEDULES = names("simple,sgm_uniform,karras,exponential,ddim_uniform,beta,normal,linear_quadratic,kl_optimal")

CHURN, TARGET = "with churn, a draw at every step", "a draw at every step whose target is above 0"
PATH = "one increment of the path a step"
NOISE = {
    "Euler": CHURN,
    "Euler a": TARGET,
    "Heun": CHURN,
    "DPM2": CHURN,
    "DPM2 a": "a draw at every step but one to 0",
    "DPM++ 2S a": TARGET,
    "DPM++ SDE": "two increments of the path a step, to the middle and to the target",
    "DPM++ 2M SDE": PATH,
    "DPM++ 2M SDE Heun": PATH,
    "DPM++ 3M SDE": PATH,
    "DPM fast": "a draw at every step, of about n/3",
    "DPM adaptive": "a draw at every accepted step",
    "Restart": "a draw at every way back up: none below 20 steps, 1 from 20, 2 from 36",
    "DDIM": TARGET,
    "DDIM CFG++": TARGET,
    "LCM": TARGET,
    "DDPM": TARGET,
    "TCD": TARGET,
    "HeunPP2": CHURN,
    "Euler a CFG++": TARGET,
    "DPM++ 2S a CFG++": TARGET,
    "Res Multistep a": TARGET,
    "Res Multistep a CFG++": TARGET,
    "ER SDE": TARGET,
    "SA Solver": "a draw at every step whose target is within the middle 60 % of the timesteps",
    "SA Solver PECE": "a draw at every step whose target is within the middle 60 % of the timesteps",
    "SEEDS 2": "two draws a step but one to 0",
    "SEEDS 3": "three draws a step but one to 0",
    "Exp Heun 2 x0 SDE": "two draws a step but one to 0; the second has no weight",
}
WHAT = {
    "Uniform": "equal steps in time from the last level to the first, then 0",
    "Normal": "as Uniform, between the times of the largest and the smallest sigma",
    "Karras": "equal steps in sigma^(1/rho), rho 7 (Karras et al. 2022)",
    "Exponential": "equal steps in log sigma",
    "Polyexponential": "log sigma falls as a power rho of the step, 1 by default",
    "SGM Uniform": "the first n of n+1 equal steps in time, then 0",
    "KL Optimal": "equal steps in arctan sigma, as A1111 has it: ends at the smallest sigma",
    "KL Optimal to zero": "KL Optimal as ComfyUI has it: n levels, then 0",
    "Align Your Steps": "NVIDIA's table of eleven levels (SD1 or SDXL), between them log-linear",
    "Align Your Steps GITS": "Forge's table of eleven levels (SD1 or SDXL), between them log-linear",
    "Simple": "every T/n-th level from the last",
    "DDIM": "every (T // n)-th level from the second up",
    "Beta": "quantiles of Beta(alpha, beta), 0.6 each, over sigma, as A1111 has it",
    "Beta in time": "the quantiles of Beta over the timesteps, as ComfyUI and the paper have it",
    "Turbo": "T/n apart, counted down from the last level: diffusers' trailing spacing",
    "Leading": "T // n apart, from level 1: diffusers' leading spacing",
    "Linear Quadratic": "half of the steps linear for the first 2.5 % of sigma, then a parabola (Movie Gen)",
    "Timesteps": "A1111's times of DDIM, DDIM CFG++ and PLMS: n levels, n-1 steps, ends at level 1",
    "Time Uniform": "UniPC's skip type: n+1 equal steps in time, ends at level 0",
    "Time Quadratic": "UniPC's skip type: equal steps in the square root of the time",
    "Log SNR": "UniPC's skip type: equal steps in log sigma",
    "LCM": "A1111's for LCM: over the 50 levels of its distillation",
}


def page(text: str) -> str:
    """The page with its tables made anew."""
    return filled(filled(text, "samplers", sampler_table()), "schedules", schedule_table())


def sampler_table() -> str:
    head = names("sampler,A1111,ComfyUI,diffusers and others,order,calls,draws,noise,options,Automatic")
    return table(head, (sampler_row(samplers()[name]) for name in in_order(samplers(), A1111, FORGE)))


def in_order(registry: Iterable[str], *first: Sequence[str]) -> list[str]:
    """A1111's and Forge's in their order, then the others by name."""
    known = [name for group in first for name in group]
    return [*known, *sorted(set(registry) - set(known), key=str.casefold)]


def sampler_row(spec: SamplerSpec) -> Sequence[str]:
    comfy = [name for name in COMFY if resolve_sampler(*in_comfy(name))[0] is spec]
    web = [a for a in spec.aliases if a.startswith("k_")]
    program = "yes" if spec.name in A1111 else "Forge" if spec.name in FORGE else "-"
    own = f"{spec.schedule}{', penultimate discarded' if spec.discards else ''}"
    return (
        spec.name,
        ", ".join([program, *map(quoted, web)]),
        listed(comfy),
        listed(a for a in spec.aliases if a not in comfy and a not in web),
        str(spec.order) if spec.order else "-",
        "about 3 a step" if spec.alone else str(counted(spec, spec.own)[0]),
        drawn(spec),
        NOISE.get(spec.name, "none"),
        ", ".join(sorted(spec.uses)) or "-",
        own,
    )


def in_comfy(sampler: str, schedule: str | None = None) -> tuple[str | None, str | None]:
    """What names of ComfyUI mean, as its infotexts are read."""
    return comfy_method(*method(sampler, schedule, None))


def drawn(spec: SamplerSpec) -> str:
    """Draws of noise with the sampler's own options, and without eta where that makes a difference."""
    if spec.alone:
        return "1 a step"
    usual, without = (counted(spec, options)[1] for options in (spec.own, replace(spec.own, eta=0.0)))
    if (spec.noise == "none") != (spec.name not in NOISE):
        raise ValueError(f"{spec.name}: say in NOISE when it draws")
    return str(usual) if usual == without else f"{usual}; {without} for eta 0"


def counted(spec: SamplerSpec, options: Options) -> tuple[int, int]:
    """Network calls and draws of noise of STEPS steps along the sampler's own schedule."""
    levels, x = scaled_linear(), torch.ones(1, 1, 4, 4)
    sigmas = run_sigmas(schedules()[spec.schedule].make(ScheduleOptions()), levels, STEPS, discard=spec.discards)
    source, counts = fresh(streams([1], "cpu"), x), [0, 0]

    def denoise(x: Tensor, sigma: Tensor, /) -> Prediction:
        counts[0] += 1
        return Prediction(x / (1 + sigma**2))

    def noise(sigma: Tensor, target: Tensor) -> Tensor:
        counts[1] += 1
        return source(sigma, target)

    for _ in spec.make(options)(denoise, spec.begin(x, float(sigmas[0])), sigmas, noise):
        pass
    return counts[0], counts[1]


def schedule_table() -> str:
    head = names("schedule,A1111,ComfyUI,other names,options,sigmas,what it is")
    ordered = in_order(schedules(), A1111_SCHEDULES, FORGE_SCHEDULES)
    return table(head, (schedule_row(schedules()[name]) for name in ordered))


def schedule_row(spec: ScheduleSpec) -> Sequence[str]:
    program = "yes" if spec.name in A1111_SCHEDULES else "Forge" if spec.name in FORGE_SCHEDULES else "-"
    comfy = [name for name in COMFY_SCHEDULES if resolve_sampler(*in_comfy("euler", name))[1] is spec]
    return (
        spec.name,
        program,
        listed(comfy),
        listed(a for a in spec.aliases if a not in comfy),
        ", ".join(sorted(spec.uses)) or "-",
        f"{'' if spec.exact else 'about '}n + 1{'' if spec.to_zero else ', last above 0'}",
        WHAT[spec.name],
    )


def listed(found: Iterable[str]) -> str:
    return ", ".join(map(quoted, found)) or "-"


def quoted(name: str) -> str:
    return f"`{name}`"


if __name__ == "__main__":
    write(PAGE, page)
