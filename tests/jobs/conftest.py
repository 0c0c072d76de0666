"""The store is tested on SQLite, and on a PostgreSQL that is started for the session where one is installed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from atelier.runtime.jobs import database
from job_support import FakeClock, Postgres, Stores


@pytest.fixture(autouse=True)
def no_waiting_for_the_database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """See `no_waiting_for_the_disk`."""
    if "disk" not in request.fixturenames:
        monkeypatch.setattr(database, "SYNCHRONOUS", "OFF")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine PostgreSQL takes long to see that a client is gone."""
    monkeypatch.setattr(database, "PATIENCE", 120.0)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    found = Postgres.installed()
    if found is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with tempfile.TemporaryDirectory(prefix="atelier-pg-") as folder:
        server = Postgres(found, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    if request.param == "sqlite":
        return None
    server = request.getfixturevalue("postgres")
    server.empty()
    return server.url


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def stores(tmp_path: Path, url: str | None, clock: FakeClock) -> Iterator[Stores]:
    """Stores in one folder, on both databases."""
    made = Stores(tmp_path / "data", url, clock)
    yield made
    made.bury()


@pytest.fixture
def sqlite_stores(tmp_path: Path, clock: FakeClock) -> Iterator[Stores]:
    """Stores in one folder, on SQLite."""
    made = Stores(tmp_path / "data", None, clock)
    yield made
    made.bury()
