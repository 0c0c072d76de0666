"""What is told to those who write prompts, and the cells of a comparison."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.client import client
from fakes.service import FakeService

pytestmark = pytest.mark.anyio


async def grid(service: FakeService, **body: object) -> Any:
    async with client(service) as http:
        answer = await http.post("/v1/grid", json=body)
    return answer.json() if answer.status_code == 200 else answer.json()["error"]


async def test_a_comparison_is_its_cells_with_one_seed(service: FakeService) -> None:
    told = await grid(service, request={"prompt": "a red apple"}, x="steps=10,20", y="prompt-sr=red,green,blue")
    assert (told["x"]["title"], told["x"]["labels"]) == ("Steps", ["Steps: 10", "Steps: 20"])
    assert told["y"]["labels"] == ["red", "green", "blue"]
    assert sorted((cell["x"], cell["y"], cell["z"]) for cell in told["cells"]) == [
        (0, 0, 0), (0, 1, 0), (0, 2, 0), (1, 0, 0), (1, 1, 0), (1, 2, 0),
    ]  # fmt: skip
    [corner] = [cell["fields"] for cell in told["cells"] if (cell["x"], cell["y"]) == (1, 2)]
    assert (corner["prompt"], corner["steps"]) == ("a blue apple", 20)
    assert len({cell["fields"]["seed"] for cell in told["cells"]}) == 1


async def test_cells_are_what_jobs_take(service: FakeService) -> None:
    told = await grid(service, request={"prompt": "a cat|small", "seed": 3, "seed_resize": [64, 64]}, matrix=True)
    assert [cell["fields"]["prompt"] for cell in told["cells"]] == ["a cat", "a cat, small"]
    async with client(service) as http:
        for cell in told["cells"]:
            assert (await http.post("/v1/jobs", json=cell["fields"])).status_code == 202
    assert service.submitted[-1].fields["seed_resize"] == [64, 64]


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"x": "steps=10,zwei"}, "steps"),
        ({"x": "stepps=10"}, "stepps"),
        ({"x": "steps=1-40", "y": "cfg_scale=1-40"}, "at most 1000"),
        ({"x": "prompt-sr=pear,plum"}, "pear"),
        ({"x": "seed=1,2", "y": "seed=3"}, "two axes"),
    ],
)
async def test_a_comparison_that_is_none_is_refused_in_a_line(
    service: FakeService, body: dict[str, str], part: str
) -> None:
    told = await grid(service, request={"prompt": "a red apple"}, **body)
    assert part in told["message"]
    assert "\n" not in told["message"]


async def test_a_prompt_is_explained_with_what_was_said(service: FakeService) -> None:
    async with client(service) as http:
        answer = await http.post("/v1/prompt", json={"prompt": "a (red:1.2) apple", "styles": ["x"]})
        assert (answer.status_code, answer.json()["count"], answer.json()["room"]) == (200, 3, 75)
        assert (await http.post("/v1/prompt", json={"prompt": "a", "steps": 0})).status_code == 422
        assert (await http.get("/v1/wildcards")).json()["data"] == ["animal", "colour"]
