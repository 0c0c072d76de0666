"""H19: the page at /, and that nothing which users write can become code in a browser."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files

import pytest

from atelier.api.guards.headers import PAGE
from fakes.client import client, keyed
from fakes.service import FakeService, png

pytestmark = pytest.mark.anyio
FOLDER = files("atelier.api") / "page"
HTML, CSS, JS = ((FOLDER / name).read_text() for name in ("index.html", "page.css", "page.js"))


async def test_the_page_and_its_files_are_served_to_all(service: FakeService) -> None:
    async with client(service, keyed()) as http:
        for path, kind, text in (
            ("/", "text/html", HTML),
            ("/page.css", "text/css", CSS),
            ("/page.js", "text/javascript", JS),
        ):
            answer = await http.get(path)
            assert (answer.status_code, answer.text) == (200, text)
            assert answer.headers["Content-Type"] == kind + "; charset=utf-8"
            assert answer.headers["Content-Security-Policy"] == PAGE
            assert answer.headers["X-Frame-Options"] == "DENY"


def test_its_policy_allows_no_inline_code_and_no_other_origin() -> None:
    directives = dict(part.strip().split(" ", 1) for part in PAGE.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == directives["connect-src"] == "'self'"
    assert directives["frame-ancestors"] == directives["base-uri"] == directives["form-action"] == "'none'"
    assert "unsafe" not in PAGE
    assert "http" not in PAGE
    assert "*" not in PAGE


def test_it_has_no_inline_code() -> None:
    assert re.findall(r"<script[^>]*>[^<]", HTML) == []
    assert re.findall(r"\son\w+\s*=|\sstyle\s*=|javascript:", HTML) == []
    assert re.findall(r"https?://|url\(|@import", HTML + CSS + JS) == []


def test_it_writes_text_as_text() -> None:
    dangerous = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|setAttribute|srcdoc|\$\{.*<"
    )
    assert re.findall(dangerous, JS) == []


def test_it_is_small() -> None:
    assert len((HTML + CSS + JS).splitlines()) <= 200


XSS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "</title><svg/onload=alert(1)>",
]


async def test_what_users_write_comes_back_as_data(service: FakeService) -> None:
    async with client(service) as http:
        for text in XSS:
            job = (await http.post("/v1/jobs", json={"prompt": text})).json()
            await service.kept[job["id"]].done.wait()
            answers = [
                await http.get(f"/v1/jobs/{job['id']}"),
                await http.get("/v1/jobs"),
                await http.get(f"/v1/images/{service.kept[job['id']].job.images[0].id}/metadata"),
                await http.get("/v1/models/" + text.replace("/", "")),
                await http.post("/v1/jobs", json={"prompt": "a", "model": text}),
                await http.post("/v1/image-text", content=png(text), headers={"Content-Type": "image/png"}),
            ]
            for answer in answers:
                assert answer.headers["Content-Type"] == "application/json"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            events = await http.get(f"/v1/jobs/{job['id']}/events")
            assert events.headers["Content-Type"].startswith("text/event-stream")


def test_http_and_jobs_import_no_torch_and_no_decoder_of_images() -> None:
    code = (
        "import sys; from atelier.api.app import app; import atelier.api.serving, atelier.runtime.jobs.store; "
        "from atelier.api.front import fronts; fronts(); "
        "print(sorted(set(sys.modules) & {'torch', 'PIL', 'numpy', 'cv2', 'safetensors'}))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
