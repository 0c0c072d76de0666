"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


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
