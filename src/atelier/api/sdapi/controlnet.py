"""/controlnet/*: well-formed, and empty; ControlNet is not yet there."""

from __future__ import annotations

from fastapi import APIRouter

from atelier.api.caller import Caller
from atelier.api.sdapi.bodies import Detect
from atelier.api.sdapi.fields import refused
from atelier.api.sdapi.routing import Answer, routes
from atelier.request.events import Json

VERSION = 3
UNITS = 3
NOTHING: dict[str, Json] = {
    "module_list": ["none"],
    "model_list": ["None"],
    "default_option": "none",
    "default_model": "None",
}


def router() -> APIRouter:
    """Its routes."""
    made = routes("/controlnet")

    @made.get("/version")
    async def version(_: Caller) -> dict[str, int]:
        return {"version": VERSION}

    @made.get("/model_list")
    async def models(_: Caller) -> dict[str, list[str]]:
        return {"model_list": []}

    @made.get("/module_list")
    async def modules(_: Caller) -> Answer:
        return {"module_list": ["none"], "module_detail": {"none": {"model_free": False, "sliders": []}}}

    @made.get("/control_types")
    async def types(_: Caller) -> Answer:
        return {"control_types": {"All": NOTHING}}

    @made.get("/settings")
    async def settings(_: Caller) -> dict[str, int]:
        return {"control_net_unit_count": UNITS}

    @made.post("/detect")
    async def detect(body: Detect, _: Caller) -> None:
        """Refused: there are no annotators yet."""
        message = f"Module not available: {body.controlnet_module[:80]!r}; ControlNet is not yet there"
        raise refused(message, "controlnet_module")

    return made
