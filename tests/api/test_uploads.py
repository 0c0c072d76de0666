"""I06, H11: images inside of requests."""

from __future__ import annotations

import base64

import pytest

from atelier.api.errors import Refused
from atelier.api.uploads import decoded
from effort import little_work
from fakes.service import jpeg, png

BYTES = png("a text that makes the file longer, so that its base64 has + and /: \xff\xfe?>")
TEXT = base64.b64encode(BYTES).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "data:image/png;base64," + TEXT,
        "DATA:IMAGE/PNG;BASE64," + TEXT,
        "data:image/png;name=a.png;base64," + TEXT,
        TEXT.rstrip("="),
        TEXT + "====",
        "\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76)),
        "  " + TEXT.replace("A", "A "),
        base64.urlsafe_b64encode(BYTES).decode(),
    ],
)
def test_spellings_of_base64(text: str) -> None:
    assert decoded(text, "image") == BYTES


def test_jpeg_and_webp() -> None:
    assert decoded(base64.b64encode(jpeg()).decode(), "image") == jpeg()
    webp = b"RIFF\x00\x00\x00\x00WEBPVP8 "
    assert decoded("data:image/webp;base64," + base64.b64encode(webp).decode(), "image") == webp


BAD = {
    "": "no PNG",
    "=": "no PNG",
    "a": "no base64",
    "é" * 8: "no base64",
    TEXT[:40] + "!" + TEXT[40:]: "no base64",
    "data:text/html;base64," + TEXT: "no data URL of an image",
    "data:image/svg+xml;base64," + TEXT: "no data URL of an image",
    "data:image/png;base64" + TEXT: "no data URL of an image",
    "data:image/png," + TEXT: "no data URL of an image",
    "data:,": "no data URL of an image",
    "data:image/png;base64,data:image/png;base64," + TEXT: "no base64",
    "/etc/passwd": "no PNG",
    "upload:" + "g" * 64: "no base64",
    base64.b64encode(b"<svg xmlns='x'/>").decode(): "no PNG",
    base64.b64encode(b"RIFF\x00\x00\x00\x00WAVE").decode(): "no PNG",
}
URLS = [
    "http://127.0.0.1/a.png", "HTTPS://evil.com/a.png", "ftp://a/b", "file:///etc/passwd", " http://a/b", "gopher://a",
    "http://[::1]/a", "http://2130706433/", "http://0x7f000001/", "http://a@127.0.0.1/",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_image_in_base64_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        decoded(text, "init_images.0")
    assert refused.value.problem.status == 422
    assert refused.value.problem.field == "init_images.0"
    assert refused.value.problem.message.startswith("init_images.0 is ")
    assert BAD[text] in refused.value.problem.message


@pytest.mark.parametrize("text", URLS)
def test_addresses_are_refused_and_nothing_is_fetched(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def connected(*_: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket, "socket", connected)
    with pytest.raises(Refused, match="is a URL: the server fetches nothing"):
        decoded(text, "image")


@pytest.mark.parametrize(
    "text", ["A" * 60_000_000, " " * 60_000_000, "a" * 60_000_000 + "!", "data:" + ";" * 30_000_000]
)
def test_large_texts_cost_little(text: str) -> None:
    with pytest.raises(Refused), little_work():
        decoded(text, "image")
