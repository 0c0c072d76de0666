"""ControlNets for U-Nets against diffusers': residuals, what the U-Net makes of them, a trajectory, every layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import hint_support as support
import tiny
from atelier.adapters.hints import encoder_tensors
from atelier.adapters.port.controlnet import WHOLE
from atelier.adapters.steering import Acting, open_steering
from atelier.checkpoints.kind import Seen, recognised
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import write_diffusers
from atelier.errors import BadFile, BadInput
from atelier.families.facts import PartFacts
from atelier.families.parts import UNET
from atelier.families.parts.controlnet import NETWORK
from atelier.families.shapes import Shapes
from atelier.models.controlnet import ControlNet, ControlSpec, UnionSpec
from atelier.models.unet import UNetSpec
from atelier.nn.ports import NOTHING, Conditioning
from atelier.nn.seamless import Seamless
from atelier.weights.names.controlnet import names
from golden.test_true_sizes import SD2_UNET, SDXL_UNET
from hint_support import Both, control_of, drawn, hint, residuals, trajectory
from key_lists import key_list, sparse
from weights_support import assert_close, weight_of

pytest.importorskip("diffusers", reason="the reference extra is not installed")

X, T = drawn(2, 4, 8, 12), torch.tensor([7.0, 901.0])
WIDTHS = (8, 12, 16, 24)
"""Channels of the layers that read hints."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Both]:
    folder = tmp_path_factory.mktemp("models")
    return {name: support.both(folder, name) for name in ("sd1", "sd2", "sdxl")}


def saved(theirs: Any, folder: Path) -> Path:
    theirs.save_pretrained(folder)
    return folder


def said(theirs: Any, both: Both, shown: Tensor, **how: object) -> tuple[Tensor, ...]:
    down, middle = theirs(
        X, T, both.cond.tokens, controlnet_cond=shown, added_cond_kwargs=both.added, return_dict=False, **how
    )
    return (*down, middle)


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("how", ["plain", "pooled, bgr"])
def test_residuals_and_what_comes_of_them_are_those_of_diffusers(
    name: str, how: str, models: dict[str, Both], tmp_path: Path
) -> None:
    both, extra = models[name], how != "plain"
    theirs = control_of(
        both.theirs,
        conditioning_embedding_out_channels=WIDTHS,
        global_pool_conditions=extra,
        controlnet_conditioning_channel_order="bgr" if extra else "rgb",
    )
    net = open_steering(saved(theirs, tmp_path), both.model, torch.float32)
    shown, acting = hint(2), Acting(weight=0.7)
    expected = said(theirs, both, shown, conditioning_scale=0.7)
    ports = net.ports(net.read(shown), X, T, both.cond, acting)
    for ours, there in zip(residuals(ports), expected, strict=True):
        assert_close(ours, there.expand_as(ours))
    *down, middle = expected
    made = both.theirs(
        X,
        T,
        both.cond.tokens,
        added_cond_kwargs=both.added,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
    ).sample
    assert_close(both.ours(X, T, both.cond, ports), made)


FEWER: dict[str, dict[str, Any]] = {
    "no transformers on the way down, one of no blocks in the middle": {
        "down_block_types": ("DownBlock2D",) * 3,
        "transformer_layers_per_block": [0, 0, 0],
    },
    "none at all": {
        "down_block_types": ("DownBlock2D",) * 3,
        "mid_block_type": "UNetMidBlock2D",
        "transformer_layers_per_block": 1,
    },
    "some of no blocks": {"transformer_layers_per_block": [0, 0, 1]},
    "fewer": {
        "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        "transformer_layers_per_block": [1, 1, 1],
    },
}


@pytest.mark.parametrize("few", FEWER)
@pytest.mark.parametrize("layout", ["diffusers", "ldm"])
def test_those_of_xl_with_fewer_transformers_than_their_model_are_read(few: str, layout: str, tmp_path: Path) -> None:
    """As diffusers' "small" and "mid" ones, which A1111's users have as single files."""
    both = support.both(tmp_path, "sdxl-deep")
    theirs = control_of(both.theirs, conditioning_embedding_out_channels=WIDTHS, **FEWER[few])
    path = saved(theirs, tmp_path / "control")
    if layout == "ldm":
        stored = load_file(path / "diffusion_pytorch_model.safetensors")
        spec = NETWORK.infer(Shapes(path, "diffusers", {k: tuple(v.shape) for k, v in stored.items()}), PartFacts())
        path = tmp_path / "small.safetensors"
        save_file({name.ldm: stored[name.diffusers] for name in names(spec)}, path)
    net = open_steering(path, both.model, torch.float32)
    found = net.ports(net.read(hint(2)), X, T, both.cond, Acting())
    for ours, there in zip(residuals(found), said(theirs, both, hint(2)), strict=True):
        assert_close(ours, there)


def test_a_difference_has_all_transformers_of_its_model(tmp_path: Path) -> None:
    both = support.both(tmp_path, "sdxl-deep")
    few = replace(both.ours.spec, depth=(0, 0, 1), mid_depth=1)
    save_file({**cldm(ControlSpec(few)), "difference": torch.zeros(())}, tmp_path / "less.safetensors")
    with pytest.raises(BadFile, match="depth 0, 0, 1, and sdxl-deep has 0, 1, 2"):
        open_steering(tmp_path / "less.safetensors", both.model, torch.float32)


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_a_trajectory_is_that_of_diffusers(name: str, models: dict[str, Both], tmp_path: Path) -> None:
    both = models[name]
    theirs, x, shown = control_of(both.theirs), drawn(1, 4, 8, 12, seed=9), hint()
    net = open_steering(saved(theirs, tmp_path), both.model, torch.float32)

    def predict(x: Tensor, t: Tensor) -> Tensor:
        told = {"encoder_hidden_states": both.cond.tokens, "added_cond_kwargs": both.added}
        down, middle = theirs(x, t, controlnet_cond=shown.expand(2, -1, -1, -1), return_dict=False, **told)
        return both.theirs(
            x, t, down_block_additional_residuals=down, mid_block_additional_residual=middle, **told
        ).sample

    expected = support.steps_of(predict, x)
    assert_close(trajectory(both, net, net.read(shown), x), expected)
    assert not torch.allclose(expected, support.steps_of(lambda x, t: both.ours(x, t.float(), both.cond), x), atol=0.1)


def cldm(spec: ControlSpec) -> dict[str, Tensor]:
    """A ControlNet in cldm's names, whose weights are a function of those."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in ControlNet(spec).state_dict().items()}
    return {name.ldm: weight_of(name.ldm, shapes[name.ours]) for name in names(spec)}


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
@pytest.mark.parametrize("prefix", ["control_model.", ""])
def test_files_of_cldm_are_read_as_diffusers_converts_them(
    name: str, prefix: str, models: dict[str, Both], tmp_path: Path
) -> None:
    """A whole training checkpoint may lie around it."""
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    both = models[name]
    tensors = cldm(ControlSpec(both.ours.spec))
    theirs = control_of(both.theirs)
    converted = convert_controlnet_checkpoint(dict(tensors), dict(theirs.config))
    if name == "sdxl":  # which the conversion forgets
        for kind in ("weight", "bias"):
            converted[f"add_embedding.linear_1.{kind}"] = tensors[f"label_emb.0.0.{kind}"]
            converted[f"add_embedding.linear_2.{kind}"] = tensors[f"label_emb.0.2.{kind}"]
    theirs.load_state_dict(converted)
    around = {"model.diffusion_model.out.0.weight": torch.ones(4), "first_stage_model.x.weight": torch.ones(4)}
    held = {prefix + key: tensor for key, tensor in tensors.items()} | (around if prefix else {})
    save_file(held, tmp_path / "control.safetensors")
    net = open_steering(tmp_path / "control.safetensors", both.model, torch.float32)
    shown = hint(2)
    for ours, there in zip(
        residuals(net.ports(net.read(shown), X, T, both.cond, Acting())), said(theirs, both, shown), strict=True
    ):
        assert_close(ours, there)


def test_differences_are_added_to_the_models_own_weights(models: dict[str, Both], tmp_path: Path) -> None:
    both = models["sd1"]
    spec = ControlSpec(both.ours.spec)
    tensors = cldm(spec)
    save_file({f"control_model.{k}": v for k, v in tensors.items()}, tmp_path / "whole.safetensors")
    own = {name.ours: name.ldm for name in names(spec)}
    base = {own[name]: tensor for name, tensor in encoder_tensors(both.model, 4).items()}
    less = {key: tensor - base[key] if key in base else tensor for key, tensor in tensors.items()}
    save_file({**less, "difference": torch.zeros(())}, tmp_path / "less.safetensors")
    whole, back = (
        open_steering(tmp_path / f"{name}.safetensors", both.model, torch.float32) for name in ("whole", "less")
    )
    for one, other in zip(
        *(residuals(net.ports(net.read(hint(2)), X, T, both.cond, Acting())) for net in (whole, back)), strict=True
    ):
        assert_close(one, other)


@pytest.mark.parametrize("name", ["control_v11e_sd15_shuffle", "control_v11e_sd15_shuffle_fp16", "Shuffle-v2"])
def test_the_name_of_a_file_says_that_the_mean_counts(name: str, models: dict[str, Both], tmp_path: Path) -> None:
    """And that negative prompts are left alone, as A1111 and diffusers do."""
    both = models["sd1"]
    save_file(cldm(ControlSpec(both.ours.spec)), tmp_path / f"{name}.safetensors")
    net = open_steering(tmp_path / f"{name}.safetensors", both.model, torch.float32)
    assert net.positive
    for residual in residuals(net.ports(net.read(hint(2)), X, T, both.cond, Acting())):
        assert float(residual.var(dim=(2, 3)).max()) < 1e-10


@pytest.fixture(scope="module")
def control(models: dict[str, Both], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = saved(control_of(models["sd1"].theirs), tmp_path_factory.mktemp("control"))
    return open_steering(folder, models["sd1"].model, torch.float32)


def test_what_acts_with_nothing_is_absent(models: dict[str, Both], control: Any) -> None:
    both, read = models["sd1"], control.read(hint())
    assert not control.positive
    assert control.ports(read, X, T, both.cond, Acting(weight=0)) is NOTHING
    assert control.ports(read, X, T, both.cond, Acting(rows=torch.tensor([], dtype=torch.long))) is NOTHING


def test_a_zero_initialized_one_changes_not_a_bit(models: dict[str, Both], tmp_path: Path) -> None:
    from diffusers import ControlNetModel

    both = models["sd1"]
    net = open_steering(saved(ControlNetModel.from_unet(both.theirs), tmp_path), both.model, torch.float32)
    ports = net.ports(net.read(hint(2)), X, T, both.cond, Acting())
    assert len(ports.residuals) == 5
    assert torch.equal(both.ours(X, T, both.cond, ports), both.ours(X, T, both.cond))


def test_rows_have_their_hints_and_others_nothing(models: dict[str, Both], control: Any) -> None:
    """Row i of four has hint i % 2; only rows 1 and 2 are acted on."""
    both, shown = models["sd1"], hint(2)
    x, t = torch.cat([X, X]), torch.cat([T, T])
    cond = Conditioning(both.cond.tokens.repeat(2, 1, 1))
    found = residuals(control.ports(control.read(shown), x, t, cond, Acting(rows=torch.tensor([1, 2]))))
    for row, own in ((1, shown[1:]), (2, shown[:1])):
        alone = control.ports(
            control.read(own), x[row, None], t[row, None], Conditioning(cond.tokens[row, None]), Acting()
        )
        for one, other in zip(found, residuals(alone), strict=True):
            assert_close(one[row, None], other)
    assert all(not bool(one[[0, 3]].any()) for one in found)


def test_a_mask_keeps_it_to_its_place(models: dict[str, Both], control: Any) -> None:
    both, mask = models["sd1"], torch.zeros(1, 1, 8, 12)
    mask[..., 6:] = 1
    read = control.read(hint(2))
    kept = residuals(control.ports(read, X, T, both.cond, Acting(mask=mask)))
    free = residuals(control.ports(read, X, T, both.cond, Acting()))
    for one, other in zip(kept, free, strict=True):
        half = one.shape[-1] // 2
        assert torch.equal(one[..., half:], other[..., half:])
        assert not bool(one[..., :half].any())


def test_layers_further_from_the_middle_fade(models: dict[str, Both], control: Any) -> None:
    """0.825 ** (12 - i), as of a network of thirteen layers, for four skips and the middle."""
    both, read = models["sd1"], control.read(hint(2))
    faded = residuals(control.ports(read, X, T, both.cond, Acting(weight=0.5, fades=True)))
    free = residuals(control.ports(read, X, T, both.cond, Acting()))
    for factor, one, other in zip((0.0994140, 0.1205018, 0.1460628, 0.1770458, 0.2146009), faded, free, strict=True):
        assert_close(one, 0.5 * factor * other)


def test_each_layer_may_have_a_factor_of_its_own(models: dict[str, Both], control: Any) -> None:
    """In place of those that fade: A1111's advanced weighting. With none above 0 the network is not asked."""
    both, read, own = models["sd1"], control.read(hint(2)), (3.0, 1.0, 0.25, 2.0, 0.5)
    assert control.layers == len(own)
    made = residuals(control.ports(read, X, T, both.cond, Acting(weight=0.5, layers=own, fades=True)))
    free = residuals(control.ports(read, X, T, both.cond, Acting()))
    for factor, one, other in zip(own, made, free, strict=True):
        assert_close(one, 0.5 * factor * other)
    assert control.ports(read, X, T, both.cond, Acting(layers=(0.0,) * 5)) is NOTHING
    with pytest.raises(ValueError, match="zip"):
        control.ports(read, X, T, both.cond, Acting(layers=own[1:]))


def test_of_published_networks_the_middle_fades_in_xl_alone() -> None:
    """Forge's list: its first nine entries and 0.825 ** 3 for XL, all thirteen for 1.x."""
    acting = Acting(fades=True)
    xl, first = (acting.factors(len(ControlSpec(unet).outputs) + 1, WHOLE) for unet in (SDXL_UNET, UNetSpec()))
    assert (len(xl), xl[0], xl[-1]) == (10, pytest.approx(0.0994140), pytest.approx(0.561515625))
    assert (len(first), first[0], first[-1]) == (13, pytest.approx(0.0994140), 1.0)


def test_one_for_another_model_is_refused_with_both_their_names(models: dict[str, Both], tmp_path: Path) -> None:
    folder = saved(control_of(models["sdxl"].theirs), tmp_path / "control")
    with pytest.raises(BadFile, match=r"control.*depth 0, 2, and sd1 has 1, 1"):
        open_steering(folder, models["sd1"].model, torch.float32)
    path = sparse(tmp_path / "xl.safetensors", key_list("controlnet_sdxl_cldm"))
    with pytest.raises(BadFile, match=r"xl.*is a ControlNet of Stable Diffusion XL, and sd1 is Stable Diffusion 1.x"):
        open_steering(path, models["sd1"].model, torch.float32)


XL_UNION = (48, 96, 192, 384)
PUBLISHED = {
    "controlnet_v1_cldm_control_model": ("ldm", "control_model.", ControlSpec(UNetSpec())),
    "controlnet_sd15_diffusers": ("diffusers", "", ControlSpec(UNetSpec())),
    "controlnet_sd21_diffusers": ("diffusers", "", ControlSpec(SD2_UNET)),
    "controlnet_sdxl_cldm": ("ldm", "", ControlSpec(SDXL_UNET)),
    "controlnet_union_sdxl_diffusers": ("diffusers", "", ControlSpec(SDXL_UNET, XL_UNION, union=UnionSpec(6))),
    "controlnet_union_promax_sdxl_diffusers": (
        "diffusers",
        "",
        ControlSpec(SDXL_UNET, XL_UNION, union=UnionSpec(8)),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_are_recognised_and_read_to_the_last_name(name: str) -> None:
    layout, prefix, expected = PUBLISHED[name]
    listed = key_list(name)
    identity = recognised(Seen(listed))
    assert identity is not None
    assert identity.kind == "controlnet"
    found = {key.removeprefix(prefix): shape for key, shape in listed.items()}
    facts = PartFacts(heads=expected.unet.heads)
    spec = NETWORK.infer(Shapes(name, layout, found), facts)
    with torch.device("meta"):
        net = ControlNet(spec)
    shapes = {own: tuple(tensor.shape) for own, tensor in net.state_dict().items()}
    assert {own.stored(layout): shapes[own.ours] for own in names(spec)} == found
    assert {own.ours for own in names(spec)} == shapes.keys()
    assert (spec.hint, spec.union, spec.unet.widths) == (expected.hint, expected.union, expected.unet.widths)


def test_the_one_for_stable_diffusion_1_has_its_published_number_of_parameters() -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in ControlNet(ControlSpec(UNetSpec())).parameters()) == 361_279_120


@pytest.mark.parametrize("task", ["openpose", "canny", "segmentation"])
def test_a_union_makes_of_each_kind_of_hint_what_diffusers_makes(
    task: str, models: dict[str, Both], tmp_path: Path
) -> None:
    """Its attention runs over the rows of a batch, which have one hint here, as in a generation."""
    from diffusers import ControlNetUnionModel

    both, place = models["sdxl"], {"openpose": 0, "canny": 3, "segmentation": 5}[task]
    sizes = {"num_trans_channel": 32, "num_trans_head": 2, "num_trans_layer": 2, "num_proj_channel": 32}
    theirs = control_of(both.theirs, ControlNetUnionModel, **sizes)
    net = open_steering(saved(theirs, tmp_path), both.model, torch.float32)
    shown = hint().expand(2, -1, -1, -1)
    told = torch.zeros(2, 6)
    told[:, place] = 1
    down, middle = theirs(
        X,
        T,
        both.cond.tokens,
        controlnet_cond=[shown],
        control_type=told,
        control_type_idx=[place],
        conditioning_scale=0.6,
        added_cond_kwargs=both.added,
        return_dict=False,
    )
    found = residuals(net.ports(net.read(hint(), task), X, T, both.cond, Acting(weight=0.6)))
    for ours, there in zip(found, (*down, middle), strict=True):
        assert_close(ours, there)


def test_a_union_asks_for_the_kind_of_hint(models: dict[str, Both], tmp_path: Path) -> None:
    from diffusers import ControlNetUnionModel

    both = models["sdxl"]
    theirs = control_of(both.theirs, ControlNetUnionModel, num_trans_channel=32, num_trans_head=2, num_proj_channel=32)
    net = open_steering(saved(theirs, tmp_path), both.model, torch.float32)
    with pytest.raises(BadInput, match=r"several kinds: say which \(openpose, depth"):
        net.read(hint())
    with pytest.raises(BadInput, match="unknown kind of hint 'tile'"):
        net.read(hint(), "tile")


def test_one_of_four_channels_acts_on_a_model_that_inpaints(models: dict[str, Both], tmp_path: Path) -> None:
    """It sees the noised latent alone; a difference is added to the first channels of the model's first layer."""
    write_diffusers(tiny.modules(in_channels=9), tmp_path / "inpaints")
    model, both = open_checkpoint(tmp_path / "inpaints"), models["sd1"]
    saved(control_of(both.theirs), tmp_path / "control")
    net = open_steering(tmp_path / "control", model, torch.float32)
    alone = open_steering(tmp_path / "control", both.model, torch.float32)
    beside = Conditioning(both.cond.tokens, channels=drawn(2, 5, 8, 12, seed=4))
    read = net.read(hint())
    found = (net.ports(read, X, T, beside, Acting()), alone.ports(read, X, T, both.cond, Acting()))
    for one, other in zip(*map(residuals, found), strict=True):
        assert torch.equal(one, other)
    with torch.no_grad():
        assert model.load(UNET)(X, T, beside, found[0]).isfinite().all()
    less = cldm(ControlSpec(both.ours.spec))
    save_file({**less, "difference": torch.zeros(())}, tmp_path / "less.safetensors")
    added = open_steering(tmp_path / "less.safetensors", model, torch.float32).nets[0].get_parameter("conv_in.weight")
    assert_close(added, less["input_blocks.0.0.weight"] + model.tensors(UNET)["conv_in.weight"][:, :4])


def test_one_of_nine_channels_sees_the_hole_too(models: dict[str, Both], tmp_path: Path) -> None:
    """On the model that inpaints; another model has nothing to show it."""
    write_diffusers(tiny.modules(in_channels=9), tmp_path / "inpaints")
    model, both = open_checkpoint(tmp_path / "inpaints"), models["sd1"]
    theirs = control_of(both.theirs, in_channels=9)
    saved(theirs, tmp_path / "control")
    beside = Conditioning(both.cond.tokens, channels=drawn(2, 5, 8, 12, seed=4))
    down, middle = theirs(torch.cat([X, beside.channels], 1), T, beside.tokens, hint(), return_dict=False)
    net = open_steering(tmp_path / "control", model, torch.float32)
    found = residuals(net.ports(net.read(hint()), X, T, beside, Acting()))
    for ours, there in zip(found, (*down, middle), strict=True):
        assert_close(ours, there)
    (row,) = residuals(net.ports(net.read(hint()), X, T, beside, Acting(rows=torch.tensor([1]))))[:1]
    assert_close(row[1], down[0][1])
    with pytest.raises(BadFile, match="sees 9 channels, and sd1 4: choose"):
        open_steering(tmp_path / "control", both.model, torch.float32)


def test_where_edges_meet_what_is_moved_gives_what_is_moved(models: dict[str, Both], control: Any) -> None:
    both = models["sd1"]
    read, whole = control.read(hint(2)), Acting(seamless=Seamless(x=True, y=True))
    moved = replace(read, hint=read.hint.roll((2, 4), (2, 3)))
    first = residuals(control.ports(read, X, T, both.cond, whole))
    second = residuals(control.ports(moved, X.roll((2, 4), (2, 3)), T, both.cond, whole))
    for one, other in zip(first, second, strict=True):
        scale = 8 // one.shape[-2]
        assert_close(other, one.roll((2 // scale, 4 // scale), (2, 3)))


def test_a_hint_of_another_size_is_refused(models: dict[str, Both], control: Any) -> None:
    with pytest.raises(ValueError, match="a hint of"):
        control.ports(control.read(hint(2, 64, 64)), X, T, models["sd1"].cond, Acting())


@pytest.mark.parametrize("wrapper", ["module.", "model."])
def test_pickled_files_with_a_wrapper_around_all_names_are_read(
    wrapper: str, models: dict[str, Both], tmp_path: Path
) -> None:
    both = models["sd1"]
    tensors = cldm(ControlSpec(both.ours.spec))
    wrapped = {f"{wrapper}control_model.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"state_dict": wrapped}, tmp_path / "wrapped.pth")
    save_file(tensors, tmp_path / "plain.safetensors")
    nets = (open_steering(tmp_path / name, both.model, torch.float32) for name in ("wrapped.pth", "plain.safetensors"))
    for one, other in zip(*(net.nets[0].state_dict().values() for net in nets), strict=True):
        assert torch.equal(one, other)
