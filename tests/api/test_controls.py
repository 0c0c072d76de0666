"""Controls in the native API: uploads in their texts, and what they can name."""

from __future__ import annotations

import pytest

from fakes.a1111 import LikeA1111
from fakes.client import SECRETS, client, keyed
from fakes.service import png

pytestmark = pytest.mark.anyio


async def test_a_job_is_steered_by_uploads() -> None:
    service = LikeA1111()
    async with client(service) as http:
        name = (await http.post("/v1/uploads", content=png(), headers={"Content-Type": "image/png"})).json()["id"]
        sent = {
            "prompt": "a cat",
            "controls": [f"canny:{name}:0.8 resolution=512 low=50", f"depth:{name} annotator=none"],
            "references": [f"{name}:0.6 blocks=style"],
            "faces": [f'{name} which=2 pose="{name}"'],
        }
        answer = await http.post("/v1/jobs", json=sent)
        assert answer.status_code == 202, answer.text
        assert dict(service.submitted[-1].fields) == sent
        for field in ("controls", "references", "faces"):
            gone = await http.post(
                "/v1/jobs", json={**sent, field: [sent[field][0].replace(name, "upload:" + "0" * 64)]}
            )
            assert gone.status_code == 422
            assert gone.json()["error"]["param"] == field


async def test_uploads_of_others_steer_nothing() -> None:
    service = LikeA1111()
    headers = {who: {"Authorization": f"Bearer {SECRETS[who]}"} for who in ("anna", "root")}
    async with client(service, keyed()) as http:
        typed = {**headers["anna"], "Content-Type": "image/png"}
        name = (await http.post("/v1/uploads", content=png(), headers=typed)).json()["id"]
        sent = {"prompt": "a cat", "controls": [f"canny:{name}"]}
        assert (await http.post("/v1/jobs", json=sent, headers=headers["anna"])).status_code == 202
        assert (await http.post("/v1/jobs", json=sent, headers=headers["root"])).status_code == 422


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"controls": ["canny:a.png strength=x"]}, "no key of a control"),
        ({"controls": ["canny:a.png"] * 11}, "11 controls: at most 10 act at once"),
        ({"references": [":0.5"]}, "names no image"),
        ({"faces": ["a.png which=0"]}, "must be a whole number from 1 to 100"),
    ],
)
async def test_bad_texts_are_refused(fields: dict[str, list[str]], told: str) -> None:
    async with client(LikeA1111()) as http:
        answer = await http.post("/v1/jobs", json={"prompt": "a cat", **fields})
    assert answer.status_code == 422
    assert told in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] == next(iter(fields))


async def test_what_controls_can_name() -> None:
    async with client(LikeA1111()) as http:
        found = (await http.get("/v1/controls")).json()
    assert found["networks"][0] == {
        "name": "control_v11p_sd15_canny",
        "file": "control_v11p_sd15_canny.safetensors",
        "more": {"kind": "hint", "family": "sd1", "hash": "d14c016b"},
    }
    types = {own["name"]: own for own in found["types"]}
    assert types["canny"] == {"name": "canny", "title": "Canny", "annotators": ["canny"]}
    assert types["depth"]["annotators"] == ["depth_midas"]
    assert types["mlsd"]["annotators"] == []
    annotators = {own["name"]: own for own in found["annotators"]}
    assert annotators["canny"]["options"][0]["name"] == "low"
    assert (annotators["openpose"]["there"], annotators["openpose"]["file"]) == (False, "body_pose.pth")
