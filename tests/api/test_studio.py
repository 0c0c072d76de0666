"""H19: the studio's files, and that nothing which users write can become code in a browser."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from atelier.api.fronts.studio import SCREENS
from atelier.api.guards.headers import PAGE
from fakes.client import client, keyed
from fakes.service import FakeService, png
from web_sources import WEB, digest

pytestmark = pytest.mark.anyio
FOLDER = Path(str(files("atelier.api"))) / "studio"
HTML = (FOLDER / "index.html").read_text()
BUILT = sorted(path for path in FOLDER.iterdir() if path.name != "index.html")
FIRST_LOAD = 300_000
"""Bytes of script, packed, that may be read before anything can be done."""


@pytest.mark.parametrize("path", SCREENS)
async def test_each_screen_is_the_page_and_needs_no_key(service: FakeService, path: str) -> None:
    async with client(service, keyed()) as http:
        answer = await http.get(path)
    assert (answer.status_code, answer.text) == (200, HTML)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"] == PAGE
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cache-Control"] == "no-cache"


async def test_the_files_of_the_page_are_served_with_their_kinds(service: FakeService) -> None:
    kinds = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
    async with client(service, keyed()) as http:
        for path in (path for path in BUILT if path.suffix in kinds):
            address = "/sw.js" if path.name == "sw.js" else "/studio/" + path.name
            answer = await http.get(address)
            assert (answer.status_code, answer.content) == (200, path.read_bytes()), path
            assert answer.headers["Content-Type"] == kinds[path.suffix]
            assert answer.headers["Content-Encoding"] == "gzip"
            hashed = path.suffix in {".js", ".css"} and path.name != "sw.js"
            assert ("immutable" in answer.headers["Cache-Control"]) == hashed


async def test_who_takes_no_gzip_gets_none(service: FakeService) -> None:
    async with client(service) as http:
        answer = await http.get("/", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in answer.headers
    assert answer.text == HTML
    assert answer.headers["Vary"] == "Accept-Encoding"


async def test_there_is_nothing_below_that_was_not_built(service: FakeService) -> None:
    async with client(service) as http:
        for path in ("/studio/", "/studio/x.js", "/studio/..%2f..%2fapp.py", "/studio/index.html/..", "/nowhere"):
            assert (await http.get(path)).status_code == 404, path


def test_its_policy_allows_no_inline_code_and_no_other_origin() -> None:
    directives = dict(part.strip().split(" ", 1) for part in PAGE.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == directives["connect-src"] == "'self'"
    assert directives["frame-ancestors"] == directives["base-uri"] == directives["form-action"] == "'none'"
    assert "unsafe" not in PAGE
    assert "http" not in PAGE
    assert "*" not in PAGE


def test_the_page_has_no_inline_code_and_names_no_other_host() -> None:
    assert re.findall(r"<script[^>]*>[^<]|<style", HTML) == []
    assert re.findall(r"\son\w+\s*=|\sstyle\s*=|javascript:", HTML) == []
    assert re.findall(r"https?://", HTML) == []


@pytest.mark.skipif(not WEB.is_dir(), reason="the sources of the studio are not here")
def test_what_it_writes_becomes_no_markup() -> None:
    dangerous = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
    for path in (*WEB.glob("src/**/*.ts"), *WEB.glob("src/**/*.tsx")):
        assert re.findall(dangerous, path.read_text()) == [], path
        assert "https://" not in path.read_text(), path


def test_what_is_read_first_is_small() -> None:
    entry = re.findall(r'src="/studio/([^"]+\.js)"', HTML) + re.findall(
        r'modulepreload"[^>]+href="/studio/([^"]+)"', HTML
    )
    assert entry
    assert sum(len(gzip.compress((FOLDER / name).read_bytes())) for name in entry) <= FIRST_LOAD


@pytest.mark.skipif(not WEB.is_dir(), reason="the sources of the studio are not here")
def test_it_was_built_of_the_sources_that_are_here() -> None:
    built = (FOLDER / "sources.txt").read_text().strip()
    assert built == digest(), "the studio changed since it was built: run scripts/web build"


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
