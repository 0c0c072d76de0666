"""Depths and normals by networks of transformers' own, small ones with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from annotator_support import scene
from atelier.errors import BadFile, BadInput
from atelier.vision import depth
from atelier.vision.annotate import annotator, ready
from atelier.vision.arrays.tones import normals

transformers: Any = pytest.importorskip("transformers")
CPU = torch.device("cpu")


def _dpt() -> Any:
    config = transformers.DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, is_hybrid=False,
    )  # fmt: skip
    return transformers.DPTForDepthEstimation(config)


def _anything() -> Any:
    backbone = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, mlp_ratio=1, image_size=28, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8, head_hidden_size=4,
    )  # fmt: skip
    return transformers.DepthAnythingForDepthEstimation(config)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders as transformers writes them, whose networks differ by place."""
    found: dict[str, Path] = {}
    for name, make, multiple in (("depth_midas", _dpt, 8), ("depth_anything", _anything, 14)):
        torch.manual_seed(0)
        net = make().eval()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.rand_like(parameter), alpha=0.3)
        found[name] = tmp_path_factory.mktemp(name)
        net.save_pretrained(found[name])
        size = {"height": 4 * multiple, "width": 4 * multiple}
        transformers.DPTImageProcessor(size=size, ensure_multiple_of=multiple).save_pretrained(found[name])
    return found


@pytest.mark.parametrize("name", ["depth_midas", "depth_anything"])
def test_near_is_bright_from_black_to_white(name: str, folders: dict[str, Path]) -> None:
    image = Image.fromarray(scene(side=90)).resize((90, 60))
    made = ready(annotator(name), lambda _: folders[name], CPU).hint(image)
    pixels = np.asarray(made).astype(int)
    assert made.size == (90, 60)
    assert (pixels.min(), pixels.max()) == (0, 255)
    depths = depth.open_any_estimator(folders[name], CPU).depths(image)
    full = torch.nn.functional.interpolate(depths, size=(60, 90), mode="bicubic")[0, 0].numpy()
    wanted = (full - full.min()) / (full.max() - full.min()) * 255
    assert abs(pixels[..., 0] - wanted).max() < 1.01


def test_normals_are_those_of_the_depths(folders: dict[str, Path]) -> None:
    image = Image.fromarray(scene(side=64))
    depths = depth.open_any_estimator(folders["depth_midas"], CPU).depths(image)
    full = torch.nn.functional.interpolate(depths, size=(64, 64), mode="bicubic")[0, 0].double().numpy()
    for background in (0.4, 0.0):
        made = ready(annotator("normal_midas"), lambda _: folders["depth_midas"], CPU).hint(
            image, options={"background": background}
        )
        assert abs(np.asarray(made).astype(int) - normals(full, background)).max() <= 1


def test_what_is_no_estimator_and_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadFile, match="get it again"):
        ready(annotator("depth_anything"), lambda _: tmp_path, CPU)
    monkeypatch.setattr(depth, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"pip install 'atelier\[depth\]'"):
        ready(annotator("depth_anything"), lambda _: tmp_path, CPU)
