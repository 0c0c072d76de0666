"""`atelier serve` in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from fakes.live import SECONDS, get, wait_for


def serve(data: Path, *options: str, port: int = 0) -> tuple[subprocess.Popen[bytes], str]:
    """`atelier serve` in a process of its own, and its address once it accepts jobs."""
    command = (
        sys.executable,
        "-m",
        "atelier",
        "serve",
        "--port",
        str(port),
        "--data-dir",
        str(data),
        "--log-text",
        *options,
    )
    log = data.parent / f"{data.name}.log"
    with log.open("a") as out:
        process = subprocess.Popen(command, stderr=out, stdout=out, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def told() -> list[str]:
        assert process.poll() is None, log.read_text()
        return re.findall(r"http://127\.0\.0\.1:\d+", log.read_text())

    wait_for(told)
    url = told()[-1]
    wait_for(lambda: _ready(url))
    return process, url


def _ready(url: str) -> bool:
    try:
        return get(url + "/readyz").status_code == 200
    except httpx.TransportError:
        return False


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(SECONDS)
