"""The `openai` client from PyPI, unmodified, against a real socket."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterator

import openai
import pytest
from PIL import Image

from fakes.client import SECRETS, keyed
from fakes.live import get, live
from fakes.service import FakeService, png

SERVICE = FakeService()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with live(SERVICE, keyed()) as url:
        yield url


@pytest.fixture
def anna(address: str) -> Iterator[openai.OpenAI]:
    SERVICE.delay, SERVICE.full = 0.0, False
    with openai.OpenAI(base_url=address + "/v1", api_key=SECRETS["anna"], max_retries=0) as made:
        yield made


def kind_of(data: bytes) -> str | None:
    return Image.open(io.BytesIO(data)).format


def asked() -> dict[str, object]:
    """The fields of the newest job."""
    return dict(SERVICE.submitted[-1].fields)


def test_generations(anna: openai.OpenAI) -> None:
    made = anna.images.generate(prompt="a red apple", n=2, size="1024x1536", quality="medium", user="user-1234")
    assert made.data is not None
    assert [kind_of(base64.b64decode(image.b64_json or "")) for image in made.data] == ["PNG", "PNG"]
    assert made.data[0].b64_json != made.data[1].b64_json
    assert asked() == {"prompt": "a red apple", "batch_count": 2, "width": 1024, "height": 1536, "steps": 25}
    assert (made.output_format, made.quality, made.background, made.size) == ("png", "medium", "opaque", "16x16")
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens == 3 + 2


def test_what_others_add_to_openais_fields(anna: openai.OpenAI) -> None:
    extra = {
        "negative_prompt": "blurry",
        "seed": 7,
        "step": 9,
        "guidance_scale": 3.5,
        "sampler_name": "DPM++ 2M",
        "scheduler": "Karras",
        "clip_skip": 2,
        "output": "/etc/passwd",
        "api_version": "2",
    }
    anna.images.generate(prompt="a cat", model="embedded", extra_body=extra)
    assert asked() == {
        "prompt": "a cat",
        "model": "embedded",
        "batch_count": 1,
        "negative_prompt": "blurry",
        "seed": 7,
        "steps": 9,
        "cfg_scale": 3.5,
        "sampler": "DPM++ 2M",
        "scheduler": "Karras",
        "clip_skip": 2,
    }


@pytest.mark.parametrize(("kind", "pillow"), [("jpeg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
def test_formats(anna: openai.OpenAI, kind: str, pillow: str) -> None:
    made = anna.images.generate(prompt="a", output_format=kind, output_compression=50)  # type: ignore[call-overload]
    assert kind_of(base64.b64decode(made.data[0].b64_json)) == pillow
    assert made.output_format == kind


def test_an_address_in_place_of_bytes_needs_no_key(anna: openai.OpenAI, address: str) -> None:
    made = anna.images.generate(prompt="a", model="dall-e-3", response_format="url", style="vivid", quality="hd")
    assert made.data is not None
    url = made.data[0].url or ""
    assert url.startswith(address + "/v1/files/")
    answer = get(url)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
    assert kind_of(answer.content) == "PNG"
    assert SECRETS["anna"] not in url
    assert get(url[:-2] + ("AA" if url[-2:] != "AA" else "BB")).status_code == 404


def test_streaming_gives_partial_images_and_then_the_whole(anna: openai.OpenAI) -> None:
    SERVICE.delay = 0.03
    stream = anna.images.generate(prompt="a red apple", stream=True, partial_images=2, n=2)
    events = list(stream)
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + [
        "image_generation.completed"
    ] * 2
    assert [getattr(event, "partial_image_index", None) for event in events] == [0, 1, None, None]
    kinds = [kind_of(base64.b64decode(event.b64_json)) for event in events]
    assert kinds == ["JPEG", "JPEG", "PNG", "PNG"]
    assert events[-1].usage.input_tokens == 3  # type: ignore[union-attr]


def test_streaming_without_partial_images(anna: openai.OpenAI) -> None:
    assert [e.type for e in anna.images.generate(prompt="a", stream=True)] == ["image_generation.completed"]


def test_edits_with_a_mask(anna: openai.OpenAI) -> None:
    clear = io.BytesIO()
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(clear, "PNG")
    made = anna.images.edit(
        image=io.BytesIO(png(size=(100, 60))),
        mask=clear.getvalue(),
        prompt="a beret",
        background="transparent",
        input_fidelity="high",
        model="gpt-image-2",
        n=1,
        output_compression=100,
        output_format="png",
        quality="high",
        response_format="url",
        user="user-1234",
    )
    assert made.data is not None
    assert made.data[0].url
    fields = asked()
    assert str(fields.pop("image")).startswith("upload:")
    assert str(fields.pop("mask")).startswith("upload:")
    assert fields == {
        "mask_mode": "Inpaint not masked",
        "batch_count": 1,
        "width": 104,
        "height": 64,
        "prompt": "a beret",
        "steps": 40,
        "denoising_strength": 0.5,
    }


def test_edits_with_a_mask_in_black_and_white_repaint_the_white(anna: openai.OpenAI) -> None:
    anna.images.edit(image=png(), mask=png(), prompt="a", size="256x256")
    assert asked()["mask_mode"] == "Inpaint masked"
    assert (asked()["width"], asked()["height"]) == (256, 256)


def test_edits_of_a_list_of_one_image_and_streaming(anna: openai.OpenAI) -> None:
    SERVICE.delay = 0.02
    stream = anna.images.edit(image=[png()], prompt="a", stream=True, partial_images=1)
    assert [event.type for event in stream] == ["image_edit.partial_image", "image_edit.completed"]


def test_more_images_than_one_are_refused(anna: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="image: 2 files were sent, and one is taken"):
        anna.images.edit(image=[png(), png()], prompt="a")


def test_variations_take_the_prompt_of_the_image(anna: openai.OpenAI) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = anna.images.create_variation(
            image=png("a red apple\nSteps: 20"), model="gpt-image-1", n=1, response_format="b64_json", size="512x512"
        )
    assert made.data is not None
    assert kind_of(base64.b64decode(made.data[0].b64_json or "")) == "PNG"
    assert (asked()["prompt"], asked()["denoising_strength"], asked()["width"]) == ("a red apple", 0.6, 512)


def test_models(anna: openai.OpenAI) -> None:
    assert [model.id for model in anna.models.list()] == ["embedded", "animagine-xl"]
    assert anna.models.retrieve("animagine-xl").owned_by == "atelier"
    with pytest.raises(openai.NotFoundError):
        anna.models.retrieve("../../etc/passwd")


def test_errors_are_the_clients_own(anna: openai.OpenAI, address: str) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        anna.images.generate(prompt="a", model="nope")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="n: input should be less than or equal to 10") as many:
        anna.images.generate(prompt="a", n=11)
    assert (many.value.param, many.value.type) == ("n", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="steps 99999: must be a whole number from 1 to 1000") as steps:
        anna.images.generate(prompt="a", extra_body={"steps": 99_999})
    assert steps.value.param == "steps"
    with pytest.raises(openai.BadRequestError, match="size 32x32: each side is from 64 to 4096 pixels"):
        anna.images.generate(prompt="a", size="32x32")  # type: ignore[call-overload]
    SERVICE.full = True
    with pytest.raises(openai.RateLimitError) as full:
        anna.images.generate(prompt="a")
    assert (full.value.code, full.value.response.headers["Retry-After"]) == ("rate_limit_exceeded", "7")
    with (
        openai.OpenAI(base_url=address + "/v1", api_key="wrong") as stranger,
        pytest.raises(openai.AuthenticationError) as wrong,
    ):
        stranger.images.generate(prompt="a")
    assert wrong.value.code == "invalid_api_key"


def test_a_repeated_key_gives_the_same_images(anna: openai.OpenAI) -> None:
    before = len(SERVICE.kept)
    one, two = (
        anna.images.generate(prompt="a", extra_headers={"Idempotency-Key": "once"}).model_dump() for _ in range(2)
    )
    assert one["data"] == two["data"]
    assert len(SERVICE.kept) == before + 1
