"""What all tests share."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("fresh", derandomize=False, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
"""Every run tries the same examples, so that a red one is about the change; HYPOTHESIS_PROFILE=fresh draws new ones. No
example has a deadline: on a busy machine it would be about the others."""

SYNC = os.fsync


def pytest_collection_finish() -> None:
    """What is loaded by now stays to the end: no collection of garbage looks through it again."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Only a power failure tells a file that was synced from one that was not; waiting takes much of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by tests that are about what reaches the disk."""
    monkeypatch.setattr(os, "fsync", SYNC)


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


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch computes with one thread: sums are made in one order, and several tests do not crowd each other's cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def no_charts() -> Iterator[None]:
    """For tests that train: what draws curves is not there, which takes most of the time of a short training."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("tensorboard", "matplotlib.figure"):
            patch.setitem(sys.modules, module, None)
        yield


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, source: str, no_charts: None) -> dict[str, str]:
    """The runs that a training of the denoiser builds upon, on the images of the module's `source`."""
    import training_support

    return training_support.finished_parts(tmp_path_factory.mktemp("parts"), source)
