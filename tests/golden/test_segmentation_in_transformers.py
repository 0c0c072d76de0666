"""Segmentation against transformers' networks and its own reading of what they say, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from annotator_support import Pixels, blocks
from atelier.errors import BadFile, BadInput
from atelier.vision import by_transformers, segmentation
from atelier.vision.annotate import annotator, ready
from atelier.vision.palette import in_colours

transformers: Any = pytest.importorskip("transformers")
CPU = torch.device("cpu")
STAGES = ["stage1", "stage2", "stage3", "stage4"]
THE_TASK_IS_SEMANTIC = (49406, 518, 10549, 533, 29119, 1883, 49407)


def uper(labels: int = 150) -> nn.Module:
    backbone = transformers.ConvNextConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], out_features=STAGES)
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=16, num_labels=labels, auxiliary_channels=8, auxiliary_in_channels=8,
        pool_scales=[1, 2],
    )  # fmt: skip
    return transformers.UperNetForSemanticSegmentation(config)


def segformer() -> nn.Module:
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], decoder_hidden_size=16, num_labels=150,
        num_attention_heads=[1, 1, 2, 2],
    )  # fmt: skip
    return transformers.SegformerForSemanticSegmentation(config)


def one() -> nn.Module:
    backbone = transformers.SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2, out_features=STAGES
    )
    config = transformers.OneFormerConfig(
        backbone_config=backbone, num_queries=10, hidden_dim=32, mask_dim=32, conv_dim=32, encoder_feedforward_dim=32,
        dim_feedforward=32, num_attention_heads=2, encoder_layers=1, decoder_layers=2, is_training=False,
        num_labels=150, task_seq_len=77,
    )  # fmt: skip
    return transformers.OneFormerForUniversalSegmentation(config)


NETWORKS = {"uper": uper, "segformer": segformer, "one": one}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, make in NETWORKS.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            net = make().eval()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.add_(torch.rand_like(parameter) - 0.5, alpha=0.5)
                for key, parameter in net.named_parameters():
                    if "class_embed" in key or "mask_embed" in key:
                        parameter.mul_(4)  # queries that differ
        found[name] = tmp_path_factory.mktemp(name)
        net.save_pretrained(found[name])
    return found


def theirs(name: str, folder: Path, pixels: Pixels) -> Pixels:
    """As transformers' documentation does it."""
    net = getattr(transformers, segmentation.KINDS[list(NETWORKS).index(name)]).from_pretrained(folder)
    reads = transformers.SegformerImageProcessor(do_resize=False, do_reduce_labels=False)
    given = reads(Image.fromarray(pixels), return_tensors="pt")
    with torch.no_grad():
        if name == "one":
            task = torch.tensor([[*THE_TASK_IS_SEMANTIC, *[0] * (77 - len(THE_TASK_IS_SEMANTIC))]])
            said = net(**given, task_inputs=task)
            reader = transformers.OneFormerImageProcessor.post_process_semantic_segmentation
            return reader(None, said, target_sizes=[pixels.shape[:2]])[0].numpy()
        said = net(**given)
    return reads.post_process_semantic_segmentation(said, target_sizes=[pixels.shape[:2]])[0].numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_labels_are_theirs(name: str, folders: dict[str, Path]) -> None:
    pixels = blocks(64, 128, seed=3, side=16)
    wanted = theirs(name, folders[name], pixels)
    ours = segmentation.open_segmenter(folders[name], CPU).labels(pixels)
    assert len(np.unique(wanted)) > 3
    assert (ours == wanted).mean() > 0.995
    own = "seg_ofade20k" if name == "one" else "seg_ufade20k"
    hint = ready(annotator(own), lambda _: folders[name], CPU).hint(Image.fromarray(pixels))
    assert (np.asarray(hint) == in_colours(wanted.astype(np.uint8))).all(2).mean() > 0.995


def test_pickled_weights_are_read_too(folders: dict[str, Path], tmp_path: Path) -> None:
    """By our own reader, which never unpickles; old files hold indices besides."""
    (tmp_path / "config.json").write_bytes((folders["uper"] / "config.json").read_bytes())
    tensors = load_file(folders["uper"] / "model.safetensors")
    torch.save(tensors | {"a.relative_position_index": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    pixels = blocks(64, 64)
    first, second = (segmentation.open_segmenter(own, CPU) for own in (folders["uper"], tmp_path))
    assert (first.labels(pixels) == second.labels(pixels)).all()


def test_a_folder_without_all_tensors_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folders["uper"] / "config.json").read_bytes())
    tensors = load_file(folders["uper"] / "model.safetensors")
    del tensors["decode_head.classifier.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(BadFile, match=r"lacks 1 tensors \(decode_head.classifier.weight\)"):
        segmentation.open_segmenter(tmp_path, CPU)


def test_other_networks_and_classes_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    uper(21).save_pretrained(tmp_path / "voc")
    with pytest.raises(BadFile, match="knows 21 classes; one of ADE20K's 150 is needed"):
        segmentation.open_segmenter(tmp_path / "voc", CPU)
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "auto_map": {"x": "y.z"}}))
    with pytest.raises(BadFile, match="is of another network"):
        segmentation.open_segmenter(tmp_path, CPU)
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(BadFile, match="cannot be read"):
        segmentation.open_segmenter(tmp_path, CPU)
    assert folders


def test_without_transformers_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(by_transformers, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match="needs transformers: pip install"):
        segmentation.open_segmenter(tmp_path, CPU)
