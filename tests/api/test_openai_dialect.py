"""What OpenAI's and LocalAI's fields mean, and how jobs that end badly are told."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping

import pytest

from atelier.api.openai.asked import Generation, divided, fields_of, size_of
from atelier.api.settings import Settings
from atelier.api.signing import Ticket, ticket, token
from atelier.api.uploads import has_alpha
from atelier.request.events import Json
from atelier.runtime.jobs.job import JobError
from fakes.client import bearer, client, keyed
from fakes.service import CATALOGUE, FakeService, Kept, png

pytestmark = pytest.mark.anyio
GENERATE = "/v1/images/generations"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat|a dog", ("a cat", "a dog")),
        ("a cat | a dog", ("a cat", "a dog")),
        ("[cat|dog] in {a|b}", ("[cat|dog] in {a|b}", "")),
        ("[cat|dog]|blurry", ("[cat|dog]", "blurry")),
        ("a|b|c", ("a|b|c", "")),
        ("a cat", ("a cat", "")),
        ("a) | b", ("a)", "b")),
    ],
)
def test_localais_bar_divides_outside_of_brackets(prompt: str, expected: tuple[str, str]) -> None:
    assert divided(prompt) == expected


@pytest.mark.parametrize(
    ("size", "shape", "expected"),
    [
        (None, None, None),
        ("auto", None, None),
        ("auto", (100, 60), (104, 64)),
        (None, (5000, 30), (4096, 64)),
        ("1792x1024", None, (1792, 1024)),
        ("500x333", (1, 1), (504, 336)),
        ("64x4096", None, (64, 4096)),
    ],
)
def test_sizes_become_the_nearest_that_can_be_made(
    size: str | None, shape: tuple[int, int] | None, expected: tuple[int, int] | None
) -> None:
    assert size_of(size, shape) == expected


@pytest.mark.parametrize(("quality", "steps"), [("low", 12), ("medium", 25), ("high", 40), ("hd", 40), ("auto", None)])
def test_quality_is_a_number_of_steps(quality: str, steps: int | None) -> None:
    fields = fields_of(Generation(prompt="a", quality=quality), CATALOGUE)  # type: ignore[arg-type]
    assert fields.get("steps") == steps


def test_high_quality_makes_a_large_image_of_a_small_model_in_two_passes() -> None:
    asked = Generation(prompt="a", quality="high", size="1536x1024")
    fields = fields_of(asked, CATALOGUE)
    assert (fields["width"], fields["height"], fields["hires_resize"]) == (768, 512, [1536, 1024])
    large = fields_of(Generation(prompt="a", quality="high", size="1536x1024", model="animagine-xl"), CATALOGUE)
    assert (large["width"], large["height"], "hires_resize" in large) == (1536, 1024, False)
    own = fields_of(Generation.model_validate({**asked.model_dump(exclude_none=True), "hires_steps": 5}), CATALOGUE)
    assert own["width"] == 1536


@pytest.mark.parametrize("name", ["dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-2", "chatgpt-image-latest", ""])
def test_openais_own_models_are_the_one_in_use(name: str) -> None:
    assert "model" not in fields_of(Generation(prompt="a", model=name), CATALOGUE)


async def test_localais_calls(service: FakeService) -> None:
    async with client(service) as http:
        file = base64.b64encode(png(size=(80, 64))).decode()
        body = {"file": file, "prompt": "a sky background", "size": "512x512", "model": "animagine-xl", "step": 51}
        answer = await http.post(GENERATE, json=body)
        assert answer.status_code == 200
        fields = dict(service.submitted[-1].fields)
        assert str(fields.pop("image")).startswith("upload:")
        assert fields == {
            "prompt": "a sky background",
            "batch_count": 1,
            "model": "animagine-xl",
            "width": 512,
            "height": 512,
            "steps": 51,
        }
        bad = await http.post(GENERATE, json={**body, "file": "http://127.0.0.1/x.png"})
        assert bad.status_code == 400
        assert bad.json()["error"]["message"].startswith("file is a URL")


@pytest.mark.parametrize(
    ("error", "status"), [(JobError("BadInput", "no such upscaler", 2), 400), (JobError("NotFinite", "NaN", 3), 500)]
)
async def test_a_job_that_fails_is_an_error(service: FakeService, error: JobError, status: int) -> None:
    service.failing = error
    async with client(service) as http:
        answer = await http.post(GENERATE, json={"prompt": "a"})
        streamed = await http.post(GENERATE, json={"prompt": "a", "stream": True})
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == error.message
    assert streamed.status_code == 200
    assert "event: error" in streamed.text
    assert error.message in streamed.text


async def test_a_server_that_is_not_ready_says_when_to_come_back(service: FakeService) -> None:
    service.is_ready = False
    async with client(service) as http:
        answer = await http.post(GENERATE, json={"prompt": "a"})
        health = await http.get("/readyz")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert answer.json()["error"]["type"] == "server_error"
    assert health.status_code == 503


def test_a_ticket_holds_for_its_image_alone_and_for_its_time() -> None:
    until = int(time.time()) + 60
    good = Ticket("img_1", "anna", "png", 90, until)
    text = token(good, b"secret")
    assert ticket(text, b"secret") == good
    assert ticket(text, b"another") is None
    assert ticket(token(Ticket("img_1", "anna", "png", 90, until - 120), b"secret"), b"secret") is None
    other = token(Ticket("img_2", "anna", "png", 90, until), b"another")
    assert ticket(other.split(".")[0] + "." + text.split(".")[1], b"secret") is None
    for bad in ("", ".", "a.b", "é.é", text + "x", text.split(".")[0]):
        assert ticket(bad, b"secret") is None


async def test_addresses_begin_with_the_public_one_and_end(service: FakeService) -> None:
    settings = Settings(public_url="https://studio.example/", url_seconds=-1)
    async with client(service, settings) as http:
        answer = await http.post(GENERATE, json={"prompt": "a", "response_format": "url"})
        url = answer.json()["data"][0]["url"]
        assert url.startswith("https://studio.example/v1/files/")
        assert (await http.get(url.removeprefix("https://studio.example"))).status_code == 404


async def test_a_signed_address_gives_its_owners_image_alone(service: FakeService) -> None:
    settings = keyed()
    async with client(service, settings, **bearer("anna")) as http:
        answer = await http.post(GENERATE, json={"prompt": "a", "response_format": "url", "output_format": "webp"})
        path = answer.json()["data"][0]["url"].removeprefix("http://localhost")
        image = await http.get(path, headers={"Authorization": ""})
        assert (image.status_code, image.headers["Content-Type"]) == (200, "image/webp")
        assert image.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        found = ticket(path.removeprefix("/v1/files/"), settings.url_secret)
        assert found is not None
        theirs = token(Ticket(found.image, "ben", "png", 90, found.until), settings.url_secret)
        assert (await http.get(f"/v1/files/{theirs}")).status_code == 404


@pytest.mark.parametrize(("mode", "expected"), [("RGBA", True), ("LA", True), ("RGB", False), ("L", False)])
def test_a_png_says_whether_it_may_be_transparent(mode: str, expected: bool) -> None:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new(mode, (4, 4)).save(file, "PNG")
    assert has_alpha(file.getvalue()) is expected
    clear = io.BytesIO()
    Image.new("P", (4, 4)).save(clear, "PNG", transparency=0)
    assert has_alpha(clear.getvalue())
    assert not has_alpha(b"")


@pytest.mark.parametrize("name", ["image", "mask"])
async def test_images_as_text_of_a_form_are_read_or_refused(service: FakeService, name: str) -> None:
    other = {"image": "mask", "mask": "image"}[name]
    files = {other: ("a.png", png(), "image/png")}
    async with client(service) as http:
        for head in ("", "data:image/png;base64,"):
            text = head + base64.b64encode(png(size=(32, 16))).decode()
            answer = await http.post("/v1/images/edits", data={"prompt": "a", name: text}, files=files)
            assert answer.status_code == 200, answer.text
            sent = service.submitted.pop().fields
            kept = {upload.partition("upload:")[2]: data for upload, (_, data) in service.uploads.items()}
            assert kept[str(sent[name]).removeprefix("upload:")] == png(size=(32, 16))
        for text in ("/etc/passwd", "https://example.com/a.png", "?"):
            answer = await http.post("/v1/images/edits", data={"prompt": "a", name: text}, files=files)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
        both = {**files, name: ("b.png", png(), "image/png")}
        answer = await http.post("/v1/images/edits", data={"prompt": "a", name: text}, files=both)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
        assert not service.submitted


class Fast(FakeService):
    """A service that makes no more than one preview of a job, or none."""

    previews = 1

    def _event(self, kept: Kept, name: str, data: Mapping[str, Json]) -> None:
        if name == "preview":
            if sum(event.name == "preview" for event in kept.events) >= self.previews:
                return
            data = {**data, "image": ONLY}
        super()._event(kept, name, data)


class Faster(Fast):
    previews = 0


ONLY = base64.b64encode(b"the only preview").decode()


@pytest.mark.parametrize("kind", [FakeService, Fast, Faster])
@pytest.mark.parametrize("partial", [0, 1, 2, 3])
async def test_so_many_partial_images_come_as_were_asked_for(kind: type[FakeService], partial: int) -> None:
    body = {"prompt": "a", "stream": True, "partial_images": partial}
    async with client(kind()) as http:
        answer = await http.post(GENERATE, json=body)
    told = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    shown = [one for one in told if one["type"] == "image_generation.partial_image"]
    assert [one["partial_image_index"] for one in shown] == list(range(partial))
    assert told[-1]["type"] == "image_generation.completed"
    if kind is Fast:
        assert [one["b64_json"] for one in shown] == [ONLY] * partial
    elif kind is Faster:
        assert all(base64.b64decode(one["b64_json"])[:3] == b"\xff\xd8\xff" for one in shown)


async def test_a_job_that_fails_shows_no_partial_image_in_its_place() -> None:
    service = Faster(failing=JobError("BadInput", "no", 2))
    async with client(service) as http:
        answer = await http.post(GENERATE, json={"prompt": "a", "stream": True, "partial_images": 2})
    assert "partial_image" not in answer.text
    assert "event: error" in answer.text
