"""Names: what A1111, ComfyUI, InvokeAI and diffusers call samplers and schedules."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier.diffusion.catalogue import resolve_sampler, resolve_schedule, samplers, schedules
from atelier.errors import BadInput, UnknownName

# A1111's names: (sampler, schedule) -> (sampler, schedule as shown)
A1111 = [
    ("DPM++ 2M Karras", None, "DPM++ 2M", "Automatic"),
    ("DPM++ SDE Karras", None, "DPM++ SDE", "Automatic"),
    ("Euler a Karras", None, "Euler a", "Karras"),
    ("DPM++ 2M SDE Karras", None, "DPM++ 2M SDE", "Karras"),
    ("DPM++ 2M SDE Exponential", None, "DPM++ 2M SDE", "Automatic"),
    ("Euler", "Karras", "Euler", "Karras"),
    ("LMS Karras", "Uniform", "LMS", "Karras"),
    ("DPM++ 2M", "Automatic", "DPM++ 2M", "Automatic"),
    (None, None, "DPM++ 2M", "Automatic"),
]

COMFY = [
    "euler",
    "euler_cfg_pp",
    "euler_ancestral",
    "euler_ancestral_cfg_pp",
    "heun",
    "heunpp2",
    "exp_heun_2_x0",
    "exp_heun_2_x0_sde",
    "dpm_2",
    "dpm_2_ancestral",
    "lms",
    "dpm_fast",
    "dpm_adaptive",
    "dpmpp_2s_ancestral",
    "dpmpp_2s_ancestral_cfg_pp",
    "dpmpp_sde",
    "dpmpp_sde_gpu",
    "dpmpp_2m",
    "dpmpp_2m_cfg_pp",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_gpu",
    "dpmpp_2m_sde_heun",
    "dpmpp_2m_sde_heun_gpu",
    "dpmpp_3m_sde",
    "dpmpp_3m_sde_gpu",
    "ddpm",
    "lcm",
    "ipndm",
    "ipndm_v",
    "deis",
    "res_multistep",
    "res_multistep_cfg_pp",
    "res_multistep_ancestral",
    "res_multistep_ancestral_cfg_pp",
    "gradient_estimation",
    "gradient_estimation_cfg_pp",
    "er_sde",
    "seeds_2",
    "seeds_3",
    "sa_solver",
    "sa_solver_pece",
    "ddim",
    "uni_pc",
    "uni_pc_bh2",
]
COMFY_SCHEDULES = [
    "simple",
    "sgm_uniform",
    "karras",
    "exponential",
    "ddim_uniform",
    "beta",
    "normal",
    "linear_quadratic",
    "kl_optimal",
]

A1111_ALIASES = [
    "k_dpmpp_2m",
    "k_dpmpp_sde",
    "k_dpmpp_2m_sde",
    "k_dpmpp_2m_sde_heun",
    "k_dpmpp_2s_a",
    "k_dpmpp_3m_sde",
    "k_euler_a",
    "k_euler_ancestral",
    "k_euler",
    "k_lms",
    "k_heun",
    "k_dpm_2",
    "k_dpm_2_a",
    "k_dpm_fast",
    "k_dpm_ad",
    "restart",
    "ddim",
    "ddim_cfgpp",
    "plms",
    "unipc",
    "k_lcm",
]
A1111_SCHEDULES = [
    "automatic",
    "uniform",
    "karras",
    "exponential",
    "polyexponential",
    "sgm_uniform",
    "kl_optimal",
    "align_your_steps",
    "simple",
    "normal",
    "ddim",
    "beta",
    "turbo",
]

DIFFUSERS = [
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "IPNDMScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
]

OLD = """DPM++ 2M Karras|DPM++ SDE Karras|DPM++ 2M SDE Exponential|DPM++ 2M SDE Karras|Euler a|Euler|LMS|Heun|DPM2|
DPM2 a|
DPM++ 2S a|DPM++ 2M|DPM++ SDE|DPM++ 2M SDE|DPM++ 2M SDE Heun|DPM++ 2M SDE Heun Karras|DPM++ 2M SDE Heun Exponential|
DPM++ 3M SDE|DPM++ 3M SDE Karras|DPM++ 3M SDE Exponential|DPM fast|DPM adaptive|LMS Karras|DPM2 Karras|DPM2 a Karras|
DPM++ 2S a Karras|Restart|DDIM|PLMS|UniPC|LCM""".replace("\n", "").split("|")


@pytest.mark.parametrize(("name", "schedule", "sampler", "shown"), A1111)
def test_names_resolve_as_in_a1111(name: str | None, schedule: str | None, sampler: str, shown: str) -> None:
    spec, found = resolve_sampler(name, schedule)
    assert (spec.name, "Automatic" if found.name == spec.schedule else found.name) == (sampler, shown)


@pytest.mark.parametrize("name", [*COMFY, *A1111_ALIASES, *DIFFUSERS, *OLD])
def test_every_known_name_resolves_whatever_its_case(name: str) -> None:
    assert resolve_sampler(name)[0] == resolve_sampler(name.upper())[0]


@pytest.mark.parametrize("name", OLD)
def test_old_names_are_their_parts(name: str) -> None:
    spec, schedule = resolve_sampler(name)
    tail = name.removeprefix(spec.name).strip()
    assert name.startswith(spec.name)
    assert schedule.name == (tail or spec.schedule)


@pytest.mark.parametrize("name", [*COMFY_SCHEDULES, *A1111_SCHEDULES])
def test_every_known_schedule_resolves(name: str) -> None:
    spec, schedule = resolve_sampler("Euler", name)
    assert schedule.name == ("Uniform" if name == "automatic" else resolve_schedule(name).name)
    assert spec.name == "Euler"


def test_the_samplers_defaults_are_those_of_a1111() -> None:
    karras = ["DPM++ 2M", "DPM++ SDE", "DPM++ 2S a", "DPM2", "DPM2 a", "Restart"]
    exponential = ["DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"]
    assert {samplers()[n].schedule for n in karras} == {"Karras"}
    assert {samplers()[n].schedule for n in exponential} == {"Exponential"}
    assert {samplers()[n].schedule for n in ("Euler", "Euler a", "LMS", "Heun")} == {"Uniform"}
    assert {s.name for s in samplers().values() if s.discards} == {"DPM2", "DPM2 a", "DPM++ 3M SDE"}
    ensd = {"DPM++ 2S a", "Euler a", "DPM2 a", "DPM fast", "DPM adaptive"}
    assert {s.name for s in samplers().values() if s.ensd} - {"DPM++ 2S a CFG++"} == ensd
    brownian = {"DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"}
    assert {s.name for s in samplers().values() if s.noise == "brownian"} == brownian


def test_suffixes_of_other_programs() -> None:
    assert resolve_sampler("k_dpmpp_2m_sde_exp")[1].name == "Exponential"
    assert resolve_sampler("dpmpp_2m_k")[1].name == "Karras"
    assert resolve_sampler("Euler a SGM Uniform")[1].name == "SGM Uniform"
    assert resolve_sampler("DPM++ 2M AYS")[1].name == "Align Your Steps"


@pytest.mark.parametrize(
    ("name", "schedule", "wrong"),
    [("Eulr a", None, "'Eulr a'.*Euler a"), ("Eulr Karras", None, "'Eulr'"), ("Euler", "Karas", "'Karas'.*Karras")],
)
def test_unknown_names_come_with_the_nearest(name: str, schedule: str | None, wrong: str) -> None:
    with pytest.raises(UnknownName, match=wrong):
        resolve_sampler(name, schedule)


def test_a_list_of_sigmas_is_a_schedule() -> None:
    assert resolve_sampler("Euler", "10, 5, 2, 0")[1].exact is False
    with pytest.raises(BadInput):
        resolve_sampler("Euler", "10, 20, 0")


def test_the_documents_name_them_all() -> None:
    text = (Path(__file__).parents[2] / "docs" / "samplers.md").read_text(encoding="utf-8")
    for name in (*samplers(), *schedules()):
        assert f"| {name} |" in text, name


def test_a_list_of_sigmas_has_its_own_number_of_steps() -> None:
    assert resolve_schedule("14.6, 7, 1.5, 0").steps == 3
    assert {schedule.steps for schedule in schedules().values()} == {None}


@pytest.mark.parametrize("sampler", ["DPM fast", "DPM adaptive"])
def test_samplers_that_read_only_the_ends_of_a_schedule_take_any(sampler: str) -> None:
    assert [resolve_sampler(sampler, name)[1].name for name in ("Beta", "normal")] == ["Beta", "Normal"]
    assert resolve_sampler(f"{sampler} Simple")[1].name == "Simple"
    assert {resolve_sampler(sampler, schedule)[1].name for schedule in (None, "Automatic", "Karras")} == {"Karras"}
