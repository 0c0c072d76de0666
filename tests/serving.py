"""A server in a process of its own, with its workers, and a client of it."""

from __future__ import annotations

import copy
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

SECONDS = 120.0
"""How long anything may take on a busy machine."""
SMALL = {"prompt": "a red apple", "width": 64, "height": 64, "steps": 3, "seed": 7}


@dataclass
class Server:
    """A running server. url: where it is; lines: of its log so far, as objects."""

    process: subprocess.Popen[bytes]
    folder: Path
    lines: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    _news: queue.Queue[None] = field(default_factory=queue.Queue)
    _reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                said = json.loads(line)
            except ValueError:
                said = {"message": line.decode(errors="replace")}
            self.lines.append(said)
            self._news.put(None)
        self._news.put(None)

    def said(self, message: str, seconds: float = SECONDS, after: int = 0) -> dict[str, Any]:
        """The first line of the log (from number `after` on) that says so, as soon as it does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            is_over = not self._reader.is_alive()
            for line in self.lines[after:]:
                if line["message"].startswith(message):
                    return line
            if is_over:
                break
            try:
                self._news.get(timeout=0.2)
            except queue.Empty:
                continue
        raise AssertionError(f"{message!r} was not said:\n" + "\n".join(map(str, self.lines[-30:])))

    def client(self, **more: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=SECONDS, trust_env=False, headers=self.headers, **more)

    def of_key(self, secret: str) -> Server:
        """The same server, for the client that has this key."""
        other = copy.copy(self)
        other.headers = {"Authorization": f"Bearer {secret}"}
        return other

    def submit(self, **fields: Any) -> str:
        with self.client() as client:
            answer = client.post("/v1/jobs", json=SMALL | fields)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def job(self, job_id: str) -> dict[str, Any]:
        with self.client() as client:
            answer = client.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    @contextmanager
    def held(self, step: int) -> Iterator[None]:
        """Of a server of `faulty`: until the block ends, no job goes on behind its step of that number, unless it is
        told to stop."""
        self.write("held", step)
        try:
            yield
        finally:
            (self.folder / "held").unlink()

    def write(self, name: str, number: int) -> None:
        """A file for `faulty`, there as a whole or not at all."""
        (self.folder / f"{name}.new").write_text(str(number))
        (self.folder / f"{name}.new").replace(self.folder / name)

    def until(
        self, job_id: str, test: Callable[[dict[str, Any]], bool], seconds: float = SECONDS, every: float = 0.1
    ) -> dict[str, Any]:
        """The job as soon as the test is true of it. every: seconds between two looks."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            job = self.job(job_id)
            if test(job):
                return job
            time.sleep(every)
        raise AssertionError(f"{job}\n" + "\n".join(map(str, self.lines[-30:])))

    def ended(self, job_id: str, seconds: float = SECONDS) -> dict[str, Any]:
        return self.until(job_id, has_ended, seconds)

    def hashes(self, job_id: str) -> list[str]:
        return [image["sha256"] for image in self.ended(job_id)["images"]]

    def generated(self, **fields: Any) -> list[str]:
        """The hashes of the images of a job."""
        job = self.ended(self.submit(**fields))
        assert job["state"] == "done", job
        return [image["sha256"] for image in job["images"]]

    def children(self) -> dict[str, psutil.Process]:
        """The processes of the server by their role, resolver and worker, as soon as both are there."""
        end, found = time.monotonic() + SECONDS, dict[str, psutil.Process]()
        while len(found) < 2:
            assert time.monotonic() < end, f"there is nothing but {found}"
            for child in psutil.Process(self.process.pid).children():
                with suppress(psutil.NoSuchProcess):  # it ended a moment ago
                    found |= {role: child for role in ("resolver", "worker") if role in child.cmdline()}
            time.sleep(0.01)
        return found

    def wait_until_ready(self) -> None:
        """Until it generates."""
        self.said("the resolver is ready")
        self.said("a worker is ready")

    def kill(self) -> None:
        """As kill -9 does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds: float = SECONDS) -> int:
        """As SIGTERM does; what it exits with."""
        self.process.terminate()
        return self.process.wait(seconds)


def has_ended(job: Mapping[str, Any]) -> bool:
    return job["state"] not in {"queued", "running"}


@contextmanager
def serving(folder: Path, *options: str, module: str = "atelier", ready: bool = True, **env: str) -> Iterator[Server]:
    """A server on a free port with its data in `folder`; ready: wait until it generates."""
    own = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path), "ATELIER_MODELS": str(folder / "models")}
    own["FAULTY_FOLDER"] = str(folder)
    environment = {**os.environ, **own, **env}
    command = [sys.executable, "-m", module, "serve", "--port", "0", "--data-dir", str(folder / "data"), *options]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    server = Server(process, folder)
    try:
        server.url = server.said("Atelier serves")["url"]
        if ready:
            server.wait_until_ready()
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close() if process.stderr is not None else None
