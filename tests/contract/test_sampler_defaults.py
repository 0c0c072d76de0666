"""What samplers and schedules do where nobody asks for anything else: numbers of the programs that they come from."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from atelier.diffusion.catalogue import samplers, schedules
from atelier.diffusion.sampling import Options

# eta: k-diffusion's functions and A1111's option eta_ancestral have 1, A1111's eta_ddim has 0, diffusers' TCD has 0.3
ETA = {
    "DPM++ SDE": 1.0,
    "DPM++ 2M SDE": 1.0,
    "DPM++ 2M SDE Heun": 1.0,
    "DPM++ 2S a": 1.0,
    "DPM++ 3M SDE": 1.0,
    "Euler a": 1.0,
    "DPM2 a": 1.0,
    "DPM fast": 1.0,
    "DPM adaptive": 1.0,
    "DDIM": 0.0,
    "DDIM CFG++": 0.0,
    "TCD": 0.3,
    # of ComfyUI alone
    "DPM++ 2S a CFG++": 1.0,
    "ER SDE": 1.0,
    "Euler a CFG++": 1.0,
    "Exp Heun 2 x0 SDE": 1.0,
    "Res Multistep a": 1.0,
    "Res Multistep a CFG++": 1.0,
    "SA Solver": 1.0,
    "SA Solver PECE": 1.0,
    "SEEDS 2": 1.0,
    "SEEDS 3": 1.0,
}
# order: k-diffusion's LMS has 4, A1111's UniPC 3, ComfyUI's DEIS 3, its IPNDM 4 and its ER SDE 3 stages
ORDER = {
    "LMS": 4,
    "UniPC": 3,
    "UniPC BH2": 3,
    "DEIS": 3,
    "DEIS log-rho": 3,
    "IPNDM": 4,
    "IPNDM_V": 4,
    "ER SDE": 3,
}
VARIANT = {"UniPC": "bh1", "UniPC BH2": "bh2"}
# churn: k-diffusion's 0, 0, inf, 1; noise on the way is taken as it is
CHURN = {"Euler", "Heun", "DPM2", "HeunPP2"}
RHO = {"Karras": 7.0, "Polyexponential": 1.0}

every = pytest.mark.parametrize("name", samplers())


@every
def test_eta(name: str) -> None:
    spec = samplers()[name]
    assert ("eta" in spec.uses) == (name in ETA)
    assert name not in ETA or spec.own.eta == ETA[name]


@every
def test_order_and_variant(name: str) -> None:
    spec = samplers()[name]
    assert ("order" in spec.uses) == (name in ORDER)
    assert name not in ORDER or spec.own.order == ORDER[name]
    assert ("variant" in spec.uses) == ("lower_order_final" in spec.uses) == (name in VARIANT)
    assert name not in VARIANT or (spec.own.variant, spec.own.lower_order_final) == (VARIANT[name], True)


@every
def test_churn(name: str) -> None:
    spec = samplers()[name]
    for option in ("s_churn", "s_tmin", "s_tmax"):
        assert (option in spec.uses) == (name in CHURN)
    assert (spec.own.s_churn, spec.own.s_tmin, spec.own.s_tmax, spec.own.s_noise) == (0.0, 0.0, math.inf, 1.0)


@every
def test_what_a_sampler_does_not_read_is_plain(name: str) -> None:
    """So that all of a settled sampling has a meaning, and equal ones are equal."""
    spec = samplers()[name]
    assert replace(spec.own, **{option: getattr(Options(), option) for option in spec.uses}) == Options()


@pytest.mark.parametrize("name", schedules())
def test_rho(name: str) -> None:
    spec = schedules()[name]
    assert ("rho" in spec.uses) == (name in RHO)
    assert spec.rho == RHO.get(name, 1.0)
