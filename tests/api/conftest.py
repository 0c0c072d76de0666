"""Tests of HTTP: the application over a fake service, in this process or behind a real socket."""

from __future__ import annotations

import pytest

from fakes.service import FakeService


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def service() -> FakeService:
    return FakeService()
