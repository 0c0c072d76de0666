"""Chromium without a window, driven through its debugging pipe."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")
SECONDS = 60.0
"""The longest that anything may take, on a busy machine."""


@dataclass(slots=True)
class Browser:
    """One page. events: what the browser told on its own: dialogs, exceptions, violations of the policy."""

    reads: int
    writes: int
    events: list[dict[str, object]] = field(default_factory=list)
    session: str = ""
    _number: int = 0
    _buffer: bytes = b""

    def call(self, method: str, **params: object) -> dict[str, object]:
        """One command of the DevTools protocol and its answer."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writes, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]  # type: ignore[return-value]
            self.events.append(answer)

    def _next(self) -> dict[str, object]:
        while b"\0" not in self._buffer:
            chunk = os.read(self.reads, 1 << 20)
            assert chunk, "the browser is gone"
            self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def open(self, url: str) -> None:
        """Opens an address and waits for it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = str(self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def evaluate(self, code: str) -> object:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")  # type: ignore[attr-defined]

    def until(self, code: str) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + SECONDS
        while not self.evaluate(code):
            assert time.monotonic() < end, f"{code}: {self.evaluate('document.body.innerText')}"
            time.sleep(0.05)

    def told(self, *methods: str) -> list[dict[str, object]]:
        """The events of some kinds."""
        return [event for event in self.events if event.get("method") in methods]


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with a profile in `folder`; it ends with the block."""
    assert CHROMIUM is not None
    (their_reads, writes), (reads, their_writes) = os.pipe(), os.pipe()
    actions = [
        (os.POSIX_SPAWN_DUP2, their_reads, 3),  # where the browser reads commands, and 4 where it answers
        (os.POSIX_SPAWN_DUP2, their_writes, 4),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0o600),
    ]
    process = os.posix_spawn(
        CHROMIUM, [CHROMIUM, *FLAGS, f"--user-data-dir={folder}"], os.environ, file_actions=actions
    )
    os.close(their_reads)
    os.close(their_writes)
    try:
        yield Browser(reads, writes)
    finally:
        os.kill(process, signal.SIGTERM)
        os.waitpid(process, 0)
        os.close(reads)
        os.close(writes)
