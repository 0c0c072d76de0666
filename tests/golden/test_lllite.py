"""ControlNet-LLLite: against the same formula written into the layers of diffusers' U-Net by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import hint_support as support
from atelier.adapters.steering import Acting, open_steering
from atelier.checkpoints.kind import Seen, recognised
from atelier.errors import BadFile
from atelier.families.parts.lllite import infer
from atelier.families.shapes import Shapes
from atelier.models.lllite import LLLite
from atelier.nn.ports import NOTHING, Ports, both
from atelier.weights.names.lllite import names, places
from golden.test_true_sizes import SDXL_UNET
from hint_support import Both, drawn, hint, trajectory
from key_lists import key_list
from weights_support import assert_close, weight_of

pytest.importorskip("diffusers", reason="the reference extra is not installed")

X, T = drawn(2, 4, 8, 12), torch.tensor([7.0, 901.0])
COND, INNER = 8, 6
PLACES = {
    f"input_blocks_{number}_1": f"down_blocks.{level}.attentions.{j}"
    for number, level, j in ((4, 1, 0), (5, 1, 1), (7, 2, 0), (8, 2, 1))
} | {"middle_block_1": "mid_block.attentions.0"}
"""Where a U-Net of three levels of two blocks each has its transformers, in both layouts."""
STRIDES = {"input_blocks_4_1": (4, 4), "input_blocks_5_1": (4, 4)}
"""Of the convolutions that read the hint: to a sixteenth, elsewhere to a thirty-second."""
READ = ("attn1_to_q", "attn1_to_k", "attn1_to_v", "attn2_to_q")
DEPTH = {"input_blocks_4_1": 1, "input_blocks_5_1": 1}


def tensors(width: int = 64) -> dict[str, Tensor]:
    """A file, whose weights are a function of its names."""
    shapes: dict[str, tuple[int, ...]] = {}
    for place in PLACES:
        for k in range(DEPTH.get(place, 2)):
            for read in READ:
                name = f"lllite_unet_{place}_transformer_blocks_{k}_{read}"
                kernels = STRIDES.get(place, (4, 4, 2))
                widths = (3, *(COND // 2,) * (len(kernels) - 1), COND)
                for n, kernel in enumerate(kernels):
                    shapes[f"{name}.conditioning1.{2 * n}.weight"] = (widths[n + 1], widths[n], kernel, kernel)
                    shapes[f"{name}.conditioning1.{2 * n}.bias"] = (widths[n + 1],)
                for layer, outs, ins in (("down", INNER, width), ("mid", INNER, COND + INNER), ("up", width, INNER)):
                    shapes[f"{name}.{layer}.0.weight"], shapes[f"{name}.{layer}.0.bias"] = (outs, ins), (outs,)
    return {name: weight_of(name, torch.Size(shape)) for name, shape in shapes.items()}


class ByHand(nn.Module):
    """x -> linear(x + factor * up(mid([hint, down(x)]))), as kohya-ss' program replaces a projection's forward."""

    def __init__(self, linear: nn.Linear, file: dict[str, Tensor], name: str, shown: Tensor, factor: float) -> None:
        super().__init__()
        self.linear, self.factor, self.file, self.name = linear, factor, file, name
        for n in range(3):
            kernel = file.get(f"{name}.conditioning1.{2 * n}.weight")
            if kernel is not None:
                shown = torch.relu(shown) if n else shown
                bias = file[f"{name}.conditioning1.{2 * n}.bias"]
                shown = torch.nn.functional.conv2d(shown, kernel, bias, stride=kernel.shape[-1])
        self.shown = shown.flatten(2).transpose(1, 2)

    def layer(self, name: str, x: Tensor) -> Tensor:
        return x @ self.file[f"{self.name}.{name}.0.weight"].T + self.file[f"{self.name}.{name}.0.bias"]

    def forward(self, x: Tensor) -> Tensor:
        shown = self.shown.repeat(len(x) // len(self.shown), 1, 1)
        seen = torch.cat([shown, self.layer("down", x).clamp(min=0)], dim=2)
        return self.linear(x + self.factor * self.layer("up", self.layer("mid", seen).clamp(min=0)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return support.both(tmp_path_factory.mktemp("models"), "sdxl-deep")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("files") / "lllite.safetensors"
    save_file(tensors(), file)
    return file


class Replaced:
    """diffusers' U-Net with projections replaced, for as long as it is entered."""

    def __init__(self, model: Both, file: dict[str, Tensor], shown: Tensor, factor: float) -> None:
        self.model, self.file, self.shown, self.factor = model, file, shown * 2 - 1, factor
        self.before: list[tuple[nn.Module, str, nn.Module]] = []

    def __enter__(self) -> None:
        for name in dict.fromkeys(key.split(".")[0] for key in self.file):
            place = next(p for p in PLACES if name.startswith(f"lllite_unet_{p}_"))
            block, attention, projection = name.split("_transformer_blocks_")[1].split("_", 2)
            parent = self.model.theirs.get_submodule(f"{PLACES[place]}.transformer_blocks.{block}.{attention}")
            linear = getattr(parent, projection)
            self.before.append((parent, projection, linear))
            setattr(parent, projection, ByHand(linear, self.file, name, self.shown, self.factor))

    def __exit__(self, *_: object) -> None:
        for parent, projection, linear in self.before:
            setattr(parent, projection, linear)


@torch.no_grad()
def test_the_u_net_says_what_the_formula_says(model: Both, path: Path) -> None:
    net, shown = open_steering(path, model.model, torch.float32), hint(2)
    found = model.ours(X, T, model.cond, net.ports(net.read(shown), X, T, model.cond, Acting(weight=0.7)))
    with Replaced(model, load_file(path), shown, 0.7):
        expected = model.theirs(X, T, model.cond.tokens, added_cond_kwargs=model.added).sample
    assert_close(found, expected)
    assert not torch.allclose(found, model.ours(X, T, model.cond), atol=0.05)


@torch.no_grad()
def test_sides_that_cannot_be_halved_are_read_too(model: Both, path: Path) -> None:
    """Of 72 x 104 pixels, levels have 9 x 13, 5 x 7 and 3 x 4 positions; what the hint lacks is as its last ones."""
    net, x, shown = open_steering(path, model.model, torch.float32), drawn(2, 4, 9, 13), hint(1, 72, 104)
    padded = torch.cat([shown, shown[:, :, -1:].expand(-1, -1, 24, -1)], dim=2)
    padded = torch.cat([padded, padded[..., -1:].expand(-1, -1, -1, 24)], dim=3)
    whole, read = net.read(padded), net.read(shown)
    assert all(torch.equal(one, other) for one, other in zip(whole, read, strict=True))
    found = model.ours(x, T, model.cond, net.ports(read, x, T, model.cond, Acting()))
    assert not torch.allclose(found, model.ours(x, T, model.cond), atol=0.05)


@torch.no_grad()
def test_a_trajectory_is_that_of_the_formula(model: Both, path: Path) -> None:
    net, x, shown = open_steering(path, model.model, torch.float32), drawn(1, 4, 8, 12, seed=9), hint()
    with Replaced(model, load_file(path), shown, 1.0):
        expected = support.steps_of(
            lambda x, t: model.theirs(x, t, model.cond.tokens, added_cond_kwargs=model.added).sample, x
        )
    assert_close(trajectory(model, net, net.read(shown), x), expected)


@torch.no_grad()
def test_what_acts_with_nothing_is_absent_and_rows_and_masks_count(model: Both, path: Path) -> None:
    net = open_steering(path, model.model, torch.float32)
    read, mask = net.read(hint()), torch.zeros(1, 1, 8, 12)
    assert net.ports(read, X, T, model.cond, Acting(weight=0)) is NOTHING
    mask[..., 8:] = 1
    ports = net.ports(read, X, T, model.cond, Acting(rows=torch.tensor([1]), mask=mask))
    free = net.ports(read, X, T, model.cond, Acting())
    patch = "down.1.attentions.0.blocks.0.attn1.to_q"
    x = drawn(2, 24, 64)
    kept, whole = ((p.inputs[patch](x) - x).reshape(2, 4, 6, 64) for p in (ports, free))
    assert not bool(kept[0].any())
    assert not bool(kept[1, :, :4].any())
    assert torch.equal(kept[1, :, 4:], whole[1, :, 4:])
    row = model.ours(X, T, model.cond, ports)[0]
    assert_close(row, model.ours(X, T, model.cond)[0], 1e-6)


@torch.no_grad()
def test_each_level_may_have_a_factor_of_its_own(model: Both, path: Path) -> None:
    net = open_steering(path, model.model, torch.float32)
    read, own = net.read(hint()), (1.0, 3.0, 1.0, 0.5)
    assert net.layers == len(own)
    made, free = (net.ports(read, X, T, model.cond, acting).inputs for acting in (Acting(layers=own), Acting()))
    places = {"down.1.attentions.0": (24, 3.0), "middle.attention": (6, 0.5)}
    for place, (tokens, factor) in places.items():
        patch, x = f"{place}.blocks.0.attn1.to_q", drawn(2, tokens, 64)
        assert_close(made[patch](x) - x, factor * (free[patch](x) - x))


def test_two_that_read_one_projection_follow_one_another(model: Both) -> None:
    first, second = Ports(inputs={"a": lambda x: x + 1, "b": lambda x: x}), Ports(inputs={"a": lambda x: x * 3})
    joined = both(first, second)
    assert joined.inputs.keys() == {"a", "b"}
    assert torch.equal(joined.inputs["a"](torch.ones(1)), torch.tensor([6.0]))


def test_one_for_another_model_is_refused_with_both_their_names(path: Path, tmp_path: Path) -> None:
    other = support.both(tmp_path, "sd1").model
    with pytest.raises(BadFile, match=r"lllite.*ControlNet of Stable Diffusion XL, and sd1 is Stable Diffusion 1.x"):
        open_steering(path, other, torch.float32)
    save_file(tensors(width=48), tmp_path / "narrow.safetensors")
    deep = support.both(tmp_path, "sdxl-deep").model
    with pytest.raises(BadFile, match=r"narrow.*width 48 at down.1.*attn1.to_q, and sdxl-deep has 64"):
        open_steering(tmp_path / "narrow.safetensors", deep, torch.float32)


def test_the_published_file_is_recognised_and_read_to_the_last_name() -> None:
    listed = key_list("controlnet_lllite_sdxl")
    identity = recognised(Seen(listed))
    assert identity is not None
    assert (identity.kind, identity.family, identity.variant) == ("controlnet", "sdxl", "lllite")
    spec = infer(Shapes("lllite", "ldm", listed), SDXL_UNET)
    with torch.device("meta"):
        shapes = {own: tuple(tensor.shape) for own, tensor in LLLite(spec).state_dict().items()}
    listed_names = list(names(spec, places(SDXL_UNET)))
    assert {own.ldm: shapes[own.ours] for own in listed_names} == listed
    assert len(spec) == 136
    assert {own.factor for own in spec} == {16, 32}
