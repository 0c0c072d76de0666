"""RRDBNet and SRVGGNetCompact against their formulas written out, in every spelling of their names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from atelier.errors import BadFile
from atelier.families.facts import NO_FACTS
from atelier.families.parts import rrdbnet, srvgg
from atelier.families.shapes import Shapes
from atelier.models.rrdbnet import RrdbNet, RrdbSpec
from atelier.models.srvgg import SrvggNet, SrvggSpec
from atelier.vision.catalogue import architecture, open_upscaler
from upscaler_support import Compact, Esrgan, saved

CPU = torch.device("cpu")
NETWORKS: dict[str, tuple[Esrgan | Compact, str, int]] = {
    "x4": (Esrgan(), "RRDBNet", 4),
    "x4, six blocks": (Esrgan(blocks=6, width=8, growth=4), "RRDBNet", 4),
    "x2 by unshuffling": (Esrgan(fold=2), "RRDBNet", 2),
    "x1 by unshuffling": (Esrgan(fold=4), "RRDBNet", 1),
    "trunk x4": (Esrgan("trunk"), "RRDBNet", 4),
    "trunk x2": (Esrgan("trunk", ups=1), "RRDBNet", 2),
    "old x1": (Esrgan("old", ups=0), "RRDBNet", 1),
    "old x2": (Esrgan("old", ups=1), "RRDBNet", 2),
    "old x4": (Esrgan("old"), "RRDBNet", 4),
    "old x8": (Esrgan("old", ups=3), "RRDBNet", 8),
    "old, ESRGAN+": (Esrgan("old", plus=True), "RRDBNet", 4),
    "compact x4": (Compact(), "SRVGGNetCompact", 4),
    "compact x2": (Compact(convs=1, scale=2), "SRVGGNetCompact", 2),
    "compact x1": (Compact(convs=0, scale=1), "SRVGGNetCompact", 1),
}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_it_computes_the_formulas(name: str, tmp_path: Path) -> None:
    literal, kind, scale = NETWORKS[name]
    tensors = literal.tensors()
    path = saved(tmp_path / "net.pth", tensors)
    assert architecture(path) == kind
    net = open_upscaler(path, CPU, torch.float32).net
    assert (net.scale, net.multiple) == (scale, literal.fold if isinstance(literal, Esrgan) else 1)
    x = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(1))
    expected = literal.run(tensors, x)
    assert expected.shape == (1, 3, 12 * scale, 20 * scale)
    assert float(expected.std()) > 0.05
    assert float((net.run(x) - expected).abs().max()) <= 1e-5


@pytest.mark.parametrize(
    ("spec", "parameters"),
    [
        (RrdbSpec(), 16_697_987),  # Real-ESRGAN x4plus
        (RrdbSpec(blocks=6), 4_467_779),  # anime 6B: 17 blocks of 719,424 less
    ],
)
def test_the_published_sizes(spec: RrdbSpec, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in RrdbNet(spec).parameters()) == parameters


def test_the_compact_sizes() -> None:
    """64 channels: first 1792, each further 36,928, rectifiers 64, last 27,696 (animevideov3 has 16 layers)."""
    with torch.device("meta"):
        net = SrvggNet(SrvggSpec())
    assert sum(p.numel() for p in net.parameters()) == 1792 + 16 * 36_928 + 17 * 64 + 27_696
    assert max(int(n.split(".")[1]) for n in Compact(convs=16).tensors()) == 34
    shapes = Shapes("x", "ldm", {n: tuple(t.shape) for n, t in Compact(convs=16, width=64).tensors().items()})
    assert srvgg.infer(shapes, NO_FACTS) == SrvggSpec()


def test_the_spec_of_a_published_file_is_told_from_shapes() -> None:
    """A list of names of RealESRGAN_x2plus, as BasicSR writes them."""
    tensors = Esrgan(width=64, growth=32, blocks=23, fold=2).tensors()
    assert {"conv_first.weight", "body.22.rdb3.conv5.bias", "conv_up2.weight", "conv_hr.bias"} <= tensors.keys()
    shapes = Shapes("x", "ldm", {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    assert shapes.found["conv_first.weight"] == (64, 12, 3, 3)
    assert rrdbnet.infer(shapes, NO_FACTS) == RrdbSpec(unshuffle=2)


@pytest.mark.parametrize("wrapper", ["params_ema", "params", "state_dict", "model", None])
def test_what_training_programs_put_around_the_weights(wrapper: str | None, tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pth", {f"module.{n}": t for n, t in Esrgan().tensors().items()}, wrapper)
    assert open_upscaler(path, CPU, torch.float32).net.scale == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"body.1.rdb2.conv3.weight": None}, r"lacks 1 tensor \(body\.1\.rdb2\.conv3\.weight\)"),
        ({"conv_extra.weight": torch.zeros(1)}, r"has 1 tensor \(conv_extra\.weight\) that no module takes"),
        ({"body.1.rdb2.conv3.weight": torch.zeros(8, 31, 3, 3)}, "of the wrong shape"),
        ({"conv_first.weight": torch.zeros(16, 5, 3, 3)}, "takes 5 channels and gives 3"),
        ({"conv_last.weight": None}, "lacks conv_last.weight"),
        ({"lora_unet_x": torch.zeros(1)}, "it is a model or an adapter that generates images"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, torch.Tensor | None], message: str, tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in (Esrgan().tensors() | change).items() if tensor is not None}
    with pytest.raises(BadFile, match=message):
        open_upscaler(saved(tmp_path / "net.pth", tensors), CPU, torch.float32)


def test_an_upscaler_of_grey_images_is_refused(tmp_path: Path) -> None:
    tensors = Esrgan().tensors()
    tensors["conv_first.weight"] = tensors["conv_first.weight"][:, :1]
    tensors |= {name: tensors[name][:1] for name in ("conv_last.weight", "conv_last.bias")}
    with pytest.raises(BadFile, match="images with 1 channels; one of colour images"):
        open_upscaler(saved(tmp_path / "net.pth", tensors), CPU, torch.float32)


def test_an_odd_chain_is_no_compact_network(tmp_path: Path) -> None:
    tensors = Compact().tensors()
    tensors["body.9.weight"] = tensors["body.7.weight"]
    with pytest.raises(BadFile, match="do not fit together"):
        open_upscaler(saved(tmp_path / "net.pth", tensors), CPU, torch.float32)
