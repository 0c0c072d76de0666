"""What the server's log holds of others."""

from __future__ import annotations

import logging

import pytest

from atelier.cli.serving import _log_to

QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "alembic", "httpx")


def test_the_addresses_that_are_called_are_not_logged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """httpx tells each whole address; that of a webhook is often a secret."""
    before = {name: logging.getLogger(name).level for name in QUIET}
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    try:
        _log_to(is_text=True)
        logging.getLogger("httpx").info("HTTP Request: POST https://hooks.example/services/secret")
        logging.getLogger("atelier.server").info("a job ended")
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
    said = capsys.readouterr().err
    assert "a job ended" in said
    assert "secret" not in said
