"""Networks of annotators in the model cache: counted, within the budget, leased, from files and from folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from annotator_support import pidinet, saved
from atelier.pipeline.resources import annotator_net
from atelier.request.model import Request
from atelier.request.resolved import InNetwork, ModelRef, NetworkRef, Resolved, ResolvedControl
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.runtime.resources import LocalResources, bytes_of
from atelier.vision.annotate import Ready
from atelier.weights.hashes import HashCache
from control_support import written

CPU = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=None)


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("ControlNet", "annotators"):
        (folder / name).mkdir()
    (folder / "tiny").symlink_to(tiny_folder)
    written(folder / "ControlNet" / "tiny_canny.safetensors", tiny_folder, zero=False)
    saved(pidinet(), folder / "annotators" / "table5_pidinet.pth")
    generator = np.random.default_rng(5)
    Image.fromarray(generator.integers(0, 255, (64, 64, 3), np.uint8)).save(folder / "photo.png")
    return folder


def asked(folder: Path, annotator: str) -> Request:
    control = f"canny:{folder / 'photo.png'} model=tiny_canny annotator={annotator}"
    fields = {"prompt": "a cat", "model": "tiny", "steps": 1, "sampler": "Euler", "width": 64, "height": 64}
    return request_of(fields | {"controls": (control,), "seed": 1})


def resolved(folder: Path, annotator: str) -> Resolved:
    return engine(folder).resolve(asked(folder, annotator))


def engine(folder: Path, budget: int = 2**30) -> Engine:
    return Engine(CPU, Library((folder,)), HashCache(), version="1", budget=budget)


def file_of(made: Resolved) -> NetworkRef:
    (control,) = made.steering
    assert isinstance(control, ResolvedControl)
    assert isinstance(control.annotator_file, InNetwork)
    return control.annotator_file.file


def borrowed(have: LocalResources, model: ModelRef, file: NetworkRef) -> int:
    with have.borrow(model, annotator_net(file)) as maker:
        return bytes_of(maker)


def test_its_network_counts_and_goes_by_the_budget(folder: Path) -> None:
    made = resolved(folder, "softedge_pidinet")
    file = file_of(made)
    size = sum(tensor.numel() for tensor in pidinet().state_dict().values()) * 4
    for budget, stays in ((size, True), (size - 1, False)):
        have = engine(folder, budget).resources
        with have.borrow(made.model, annotator_net(file)) as maker:
            assert isinstance(maker, Ready)
            assert have.cache.bytes == size
            have.cache.free(size)
            assert have.cache.bytes == size, "it is leased"
        assert have.cache.bytes == (size if stays else 0)


def test_the_least_recently_used_goes_first(folder: Path) -> None:
    made = resolved(folder, "softedge_pidinet")
    file = file_of(made)
    other = file.model_copy(update={"name": "scribble_pidinet"})
    size = borrowed(engine(folder).resources, made.model, file)
    have = engine(folder, 2 * size - 1).resources
    borrowed(have, made.model, file)
    borrowed(have, made.model, other)
    assert [ref.file for ref in have.cache.held()] == [other]


def test_a_folder_of_transformers_draws_the_hint_of_a_control(folder: Path) -> None:
    """Its weights are called model.safetensors, not as diffusers calls those of a ControlNet."""
    from test_depth_annotators import _dpt

    transformers: Any = pytest.importorskip("transformers")
    own = folder / "annotators" / "dpt-large"
    with torch.random.fork_rng(devices=[]):
        _dpt().save_pretrained(own)
    size = {"height": 32, "width": 32}
    transformers.DPTImageProcessor(size=size, ensure_multiple_of=8).save_pretrained(own)
    made = resolved(folder, "depth_midas")
    assert file_of(made).path == str(own)
    have = engine(folder).resources
    assert borrowed(have, made.model, file_of(made)) > 0
    assert have.cache.bytes > 0
    assert len(engine(folder).generate(asked(folder, "depth_midas"))) == 1


def test_what_is_outside_of_torch_counts_as_well() -> None:
    from atelier.vision.annotate import annotator

    net = torch.nn.Linear(3, 5)
    assert bytes_of(Ready(annotator("canny"), lambda pixels, _: pixels, (net,), 1000)) == 1000 + 20 * 4
    assert bytes_of(Ready(annotator("canny"), lambda pixels, _: pixels)) == 0
