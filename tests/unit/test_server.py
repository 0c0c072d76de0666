"""A whole server: its processes, what they do, how jobs end, and what it refuses."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psutil
import pytest
from PIL import Image

import tiny
from atelier import compose
from atelier.request.infotext.image import TEXT_KEY
from atelier.request.table import request_of
from atelier.runtime.store import encoded
from serving import SECONDS, SMALL, Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "models").mkdir()
    tiny.folder(folder / "models" / "tiny")
    told = json.dumps({"opened": str(folder / "opened"), "lease": SECONDS})
    with serving(folder, "--grace", "0", module="faulty", ready=False, FAULTY=told) as running:
        (folder / "opened").touch()
        running.wait_until_ready()
        yield running


def picture(size: tuple[int, int] = (64, 64), image_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, image_format)
    return buffer.getvalue()


def uploaded(server: Server, data: bytes) -> str:
    with server.client() as client:
        answer = client.post("/v1/uploads", content=data, headers={"content-type": "image/png"})
    assert answer.status_code < 300, answer.text
    found = answer.json()
    return next(value for value in found.values() if str(value).startswith("upload:"))


def test_an_image_is_the_file_that_the_command_line_writes(server: Server) -> None:
    job = server.ended(server.submit(batch_count=2))
    engine = compose.engine()
    expected = [encoded(made.image, made.infotext) for made in engine.generate(request_of({**SMALL, "batch_count": 2}))]
    assert [image["sha256"] for image in job["images"]] == [hashlib.sha256(data).hexdigest() for data in expected]
    with server.client() as client:
        files = [client.get(image["url"]).content for image in job["images"]]
    assert files == expected
    assert Image.open(io.BytesIO(files[0])).info[TEXT_KEY].startswith("a red apple\nSteps: 3, ")
    assert [image["seed"] for image in job["images"]] == [7, 8]


def test_cancelling_stops_within_a_step_and_the_worker_goes_on(server: Server) -> None:
    pid = server.children()["worker"].pid
    with server.held(2), server.client() as client:
        job_id = server.submit(steps=200)
        server.until(job_id, lambda job: job["progress"]["done"] == 2)
        client.post(f"/v1/jobs/{job_id}/cancel")
        job = server.ended(job_id)
    assert job["state"] == "cancelled"
    assert job["images"] == []
    assert job["progress"]["done"] <= 4
    assert server.generated() == server.generated()
    assert server.children()["worker"].pid == pid


def test_a_job_that_runs_too_long_ends_and_frees_its_worker(server: Server) -> None:
    with server.held(2), server.client() as client:
        job_id = client.post("/v1/jobs", params={"timeout": 0.5}, json={**SMALL, "steps": 500}).json()["id"]
        job = server.ended(job_id)
    assert job["state"] == "timed_out"
    assert "0.5 seconds" in job["error"]["message"]
    assert server.ended(server.submit())["state"] == "done"


def test_a_job_that_cannot_be_done_fails_in_one_line(server: Server) -> None:
    """The file of its model goes away behind the acceptance."""
    with server.held(1), server.client() as client:
        first, job_id = server.submit(steps=300), server.submit(model="tiny")
        assert server.job(job_id)["resolved"]["model"]["path"] == "tiny"
        shutil.rmtree(server.folder / "models" / "tiny")
        client.post(f"/v1/jobs/{first}/cancel")
    job = server.ended(job_id)
    assert job["state"] == "failed"
    assert job["error"]["kind"] == "BadFile"
    assert str(server.folder) not in job["error"]["message"]


def test_events_come_in_order_and_end_with_the_state(server: Server) -> None:
    job_id = server.submit(steps=6)
    events: list[tuple[int, str, dict[str, Any]]] = []
    with server.client() as client, client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        number, name = 0, ""
        for line in stream.iter_lines():
            key, _, value = line.partition(": ")
            if key == "id":
                number = int(value)
            if key == "event":
                name = value
            if key == "data":
                events.append((number, name, json.loads(value)))
    numbers, names = [e[0] for e in events], [e[1] for e in events]
    assert numbers == sorted(set(numbers))
    steps = [e[2]["done"] for e in events if e[1] == "progress"]
    assert steps == sorted(steps)
    assert steps[-1] == 6
    assert names.count("image") == 1
    assert names[-1] == "state"
    with server.client() as client:
        again = client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": str(numbers[-2])}).text
    assert again.count("event: ") == 1


def test_refusals_name_the_field_and_cost_nothing(server: Server) -> None:
    refusals = {
        "steps": {"steps": 10**9},
        "width": {"width": 65536},
        "batch_count": {"batch_size": 64, "batch_count": 1000},
        "model": {"model": "/etc/passwd"},
        "sampler": {"sampler": "no such thing"},
        "lora": {"prompt": "a cat <lora:/etc/passwd:1>"},
        "hires_upscaler": {"hires_upscale": 2, "hires_upscaler": "/etc/passwd.pth"},
        "mask.png": {"regions": ["mask=/etc/mask.png: a cat"]},
    }
    with server.client() as client:
        for name, fields in refusals.items():
            answer = client.post("/v1/jobs", json=SMALL | fields)
            assert answer.status_code == 422, (name, answer.text)
            message = answer.json()["error"]["message"]
            assert name in message, message
            assert str(server.folder) not in message


def test_images_start_others_only_as_uploads(server: Server) -> None:
    name = uploaded(server, picture())
    job = server.ended(server.submit(image=name, denoising_strength=0.5))
    assert job["state"] == "done", job
    with server.client() as client:
        for bad in ("/etc/hostname", "upload:" + "0" * 64):
            assert client.post("/v1/jobs", json=SMALL | {"image": bad}).status_code in {404, 422}
        cut = uploaded(server, picture()[:100])
        answer = client.post("/v1/jobs", json=SMALL | {"image": cut})
        assert answer.status_code == 422
        assert answer.json()["error"]["message"].startswith("image: is damaged")


def test_a_decoder_that_dies_takes_nothing_with_it(server: Server) -> None:
    """The process that decodes uploads is killed while it is asked."""
    resolver = server.children()["resolver"]
    lines = len(server.lines)
    resolver.kill()
    server.said("the resolver died", after=lines)
    server.said("the resolver is ready", after=lines)
    assert server.ended(server.submit())["state"] == "done"


def test_a_worker_that_is_killed_is_an_event_and_its_job_is_done(server: Server) -> None:
    """C01, C14: a seed that was left open is drawn when the job is accepted."""
    with server.held(3):
        job_id = server.submit(steps=30, seed=-1)
        server.until(job_id, lambda job: job["progress"]["done"] == 3)
        server.children()["worker"].kill()
    job = server.ended(job_id)
    assert (job["state"], job["attempt"]) == ("done", 2)
    assert [image["sha256"] for image in job["images"]] == server.generated(steps=30, seed=job["images"][0]["seed"])


def test_a_job_that_kills_its_workers_is_put_aside_and_others_run(server: Server) -> None:
    """C03."""
    poison, other = server.submit(prompt="abort"), server.submit()
    job = server.ended(poison)
    assert (job["state"], job["attempt"]) == ("quarantined", 2)
    assert "died" in job["error"]["message"]
    assert server.ended(other)["state"] == "done"


def test_a_frozen_worker_loses_its_job_and_never_comes_back_with_it(server: Server) -> None:
    """C07."""
    worker = server.children()["worker"]
    with server.held(3):
        job_id, lines = server.submit(steps=30, seed=11), len(server.lines)
        server.until(job_id, lambda job: job["progress"]["done"] == 3)
        server.write("hurried", worker.pid)
        server.said("a worker is hurried", after=lines)
        with suppress(psutil.NoSuchProcess):  # where it had no turn for so long it was taken for dead already
            worker.suspend()
        server.said("a worker died", after=lines)
    job = server.ended(job_id)
    assert (job["state"], job["attempt"], len(job["images"])) == ("done", 2, 1)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    assert [image["sha256"] for image in job["images"]] == server.generated(steps=30, seed=11)


def test_many_clients_get_what_one_alone_gets(server: Server) -> None:
    """O11, smaller."""
    asked = [{"seed": n % 4, "steps": 2 + n % 2, "sampler": ("Euler", "Euler a")[n % 2]} for n in range(8)]
    alone = {json.dumps(fields): server.generated(**fields) for fields in asked[:4]}
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda fields: server.generated(**fields), asked))
    assert together == [alone[json.dumps(fields)] for fields in asked]


def test_unknown_jobs_are_unknown(server: Server) -> None:
    """C04."""
    with server.client() as client:
        assert client.get("/v1/jobs/" + "0" * 32).status_code == 404


def test_a_second_server_on_the_folder_or_the_port_says_so_in_one_line(server: Server) -> None:
    """C12, C13."""
    port = server.url.rpartition(":")[2]
    for options, word in (
        (["--port", port, "--data-dir", str(server.folder / "other")], f"--port {port}"),
        (["--port", "0", "--data-dir", str(server.folder / "data")], "data"),
        (["--port", "0", "--host", "0.0.0.0"], "--api-key"),
    ):
        made = subprocess.run(
            [sys.executable, "-m", "atelier", "serve", *options], capture_output=True, timeout=SECONDS, check=False
        )
        told = made.stderr.decode()
        assert made.returncode == 2, told
        assert word in told
        assert told.count("\n") == 1, told


def test_it_opens_before_its_processes_are_ready(server: Server) -> None:
    told = [line["message"] for line in server.lines]
    opened = told.index("Atelier serves")
    assert opened < told.index("the resolver is ready")
    assert opened < told.index("a worker is ready")


def test_the_server_holds_no_torch(server: Server) -> None:
    import atelier

    code = (
        "import sys; import atelier.api.desk, atelier.cli.serving, atelier.cli.serve; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=SECONDS)
    assert atelier
    maps = {m.path for m in psutil.Process(server.process.pid).memory_maps()}
    assert not any("libtorch" in path for path in maps)


def test_the_log_is_lines_of_json_that_no_value_breaks(server: Server) -> None:
    server.ended(server.submit(prompt="a cat\n\x1b[31m{}"))
    assert all("time" in line for line in server.lines if "message" in line)
