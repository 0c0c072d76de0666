"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("same", derandomize=True)
settings.register_profile("fresh", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
"""Every run tries the same examples, so that a red one is about the change; HYPOTHESIS_PROFILE=fresh draws new ones."""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model in the diffusers layout; see `tiny`. Do not change it."""
    import tiny

    return tiny.folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a single file. Do not change it."""
    import tiny

    return tiny.single_file(tmp_path_factory.mktemp("models") / "tiny.safetensors")
