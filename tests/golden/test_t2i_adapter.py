"""T2I-Adapters against diffusers': features, what the U-Net makes of them, a trajectory, both layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import hint_support as support
from atelier.adapters.steering import Acting, open_steering
from atelier.checkpoints.kind import Seen, kinds, recognised
from atelier.errors import BadFile
from atelier.families.parts.t2i_adapter import NETWORK
from atelier.families.shapes import Shapes
from atelier.models.t2i_adapter import AdapterSpec, T2IAdapter
from atelier.nn.ports import NOTHING
from atelier.weights.names.t2i_adapter import names
from hint_support import Both, drawn, hint, trajectory
from key_lists import key_list
from weights_support import assert_close, fill

pytest.importorskip("diffusers", reason="the reference extra is not installed")

T = torch.tensor([7.0, 901.0])
KINDS = {
    "full": ("sd1-deep", "full_adapter", 3, 8, (32, 64, 64)),
    "grey": ("sd1-deep", "full_adapter", 1, 8, (32, 64, 64)),
    "light": ("sd1-deep", "light_adapter", 3, 8, (32, 64)),
    "xl": ("sdxl-deep", "full_adapter_xl", 3, 16, (32, 64, 64, 64)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Both]:
    folder = tmp_path_factory.mktemp("models")
    return {name: support.both(folder, name) for name in ("sd1-deep", "sdxl-deep")}


def adapter(kind: str) -> Any:
    """diffusers' network. Its light one has a level more than it is told of."""
    from diffusers import T2IAdapter as Theirs

    _, called, channels, side, widths = KINDS[kind]
    net = Theirs(in_channels=channels, channels=list(widths), downscale_factor=side, adapter_type=called)
    return fill(net).requires_grad_(requires_grad=False)


def shown_to(kind: str, count: int, height: int, width: int) -> Tensor:
    """A hint as ours takes it: a grey one has three equal channels."""
    drawn = hint(count, height, width)
    return drawn[:, :1].expand(-1, 3, -1, -1) if KINDS[kind][2] == 1 else drawn


def opened(kind: str, models: dict[str, Both], folder: Path) -> tuple[Any, Any]:
    """Theirs, and ours from its folder."""
    theirs = adapter(kind)
    theirs.save_pretrained(folder)
    return theirs, open_steering(folder, models[KINDS[kind][0]].model, torch.float32)


@pytest.mark.parametrize("side", [(64, 96), (72, 104)])
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_u_net_makes_of_them_is_what_diffusers_makes(
    kind: str, side: tuple[int, int], models: dict[str, Both], tmp_path: Path
) -> None:
    both = models[KINDS[kind][0]]
    theirs, net = opened(kind, models, tmp_path)
    shown, x = shown_to(kind, 2, *side), drawn(2, 4, side[0] // 8, side[1] // 8)
    square = KINDS[kind][3]
    padded = torch.nn.functional.pad(shown, (0, -side[1] % square, 0, -side[0] % square), mode="replicate")
    features = theirs(padded[:, : KINDS[kind][2]])
    for ours, there in zip(net.read(shown), features, strict=True):
        assert_close(ours, there)
    made = both.theirs(
        x,
        T,
        both.cond.tokens,
        added_cond_kwargs=both.added,
        down_intrablock_additional_residuals=[0.6 * f for f in features],
    ).sample
    found = both.ours(x, T, both.cond, net.ports(net.read(shown), x, T, both.cond, Acting(weight=0.6)))
    assert_close(found, made)
    assert not torch.allclose(found, both.ours(x, T, both.cond), atol=0.05)


@pytest.mark.parametrize("kind", ["full", "xl"])
def test_a_trajectory_is_that_of_diffusers(kind: str, models: dict[str, Both], tmp_path: Path) -> None:
    both = models[KINDS[kind][0]]
    theirs, net = opened(kind, models, tmp_path)
    shown, x = hint(), drawn(1, 4, 8, 12, seed=9)
    features = [torch.cat([f, f]) for f in theirs(shown)]

    def predict(x: Tensor, t: Tensor) -> Tensor:
        told = {"encoder_hidden_states": both.cond.tokens, "added_cond_kwargs": both.added}
        return both.theirs(x, t, down_intrablock_additional_residuals=[*features], **told).sample

    assert_close(trajectory(both, net, net.read(shown), x), support.steps_of(predict, x))


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_the_authors_have_the_same_weights(kind: str, models: dict[str, Both], tmp_path: Path) -> None:
    """The names are spelled out here: the authors count blocks through all levels, and call a light one's `body`."""
    both = models[KINDS[kind][0]]
    _, net = opened(kind, models, tmp_path / "folder")
    tensors = load_file(tmp_path / "folder" / "diffusion_pytorch_model.safetensors")
    save_file({authors(name, kind): tensor for name, tensor in tensors.items()}, tmp_path / "file.safetensors")
    again = open_steering(tmp_path / "file.safetensors", both.model, torch.float32)
    shown = shown_to(kind, 1, 64, 96)
    for one, other in zip(net.read(shown), again.read(shown), strict=True):
        assert torch.equal(one, other)


def authors(name: str, kind: str) -> str:
    name = name.removeprefix("adapter.")
    if kind == "light" or not name.startswith("body."):
        return name.replace(".resnets.", ".body.")
    _, level, *rest = name.split(".")
    block = 4 if kind == "light" else 2
    place = int(level) * block + (int(rest[1]) if rest[0] == "resnets" else 0)
    return ".".join(["body", str(place), *(rest[2:] if rest[0] == "resnets" else rest)])


def test_what_acts_with_nothing_is_absent_and_a_mask_keeps_it_to_its_place(
    models: dict[str, Both], tmp_path: Path
) -> None:
    both = models["sd1-deep"]
    _, net = opened("full", models, tmp_path)
    x, read, mask = drawn(2, 4, 8, 12), net.read(hint()), torch.zeros(1, 1, 8, 12)
    assert net.ports(read, x, T, both.cond, Acting(weight=0)) is NOTHING
    mask[..., 6:] = 1
    ports = net.ports(read, x, T, both.cond, Acting(rows=torch.tensor([1]), mask=mask))
    assert set(ports.features) == {"down.0.1", "down.1.1", "down.2.1"}
    for level, path in enumerate(sorted(ports.features)):
        added = ports.features[path](torch.zeros(2, *read[level].shape[1:]))
        half = added.shape[-1] // 2
        assert not bool(added[0].any())
        assert not bool(added[1, ..., :half].any())
        assert torch.equal(added[1, ..., -half:], read[level][0, ..., -half:])


def test_levels_further_from_the_middle_fade_as_in_a1111(models: dict[str, Both], tmp_path: Path) -> None:
    """0.25, 0.62, 0.825 and 1 for four levels; of three, the last three."""
    both = models["sd1-deep"]
    _, net = opened("full", models, tmp_path)
    read, x = net.read(hint(2)), drawn(2, 4, 8, 12)
    assert len(read) == 3
    faded, free = (
        net.ports(read, x, T, both.cond, Acting(weight=0.5, fades=fades)).features for fades in (True, False)
    )
    for factor, path, features in zip((0.62, 0.825, 1.0), faded, read, strict=True):
        nothing = torch.zeros_like(features)
        assert_close(faded[path](nothing), factor * free[path](nothing))
        assert_close(free[path](nothing), 0.5 * features)


def test_each_level_may_have_a_factor_of_its_own(models: dict[str, Both], tmp_path: Path) -> None:
    both = models["sd1-deep"]
    _, net = opened("full", models, tmp_path)
    read, x = net.read(hint(2)), drawn(2, 4, 8, 12)
    assert net.layers == len(read) == 3
    made, free = (
        net.ports(read, x, T, both.cond, Acting(weight=0.5, layers=layers, fades=True)).features
        for layers in ((3.0, 2.0, 0.5), (1.0, 1.0, 1.0))
    )
    for factor, path, features in zip((3.0, 2.0, 0.5), made, read, strict=True):
        nothing = torch.zeros_like(features)
        assert_close(made[path](nothing), factor * free[path](nothing))
        assert_close(free[path](nothing), 0.5 * features)


def test_one_for_other_widths_is_refused(models: dict[str, Both], tmp_path: Path) -> None:
    adapter("full").save_pretrained(tmp_path / "adapter")
    narrow = support.both(tmp_path, "sd1").model
    with pytest.raises(BadFile, match=r"adapter.*widths 32, 64, 64, and sd1 has 32, 64"):
        open_steering(tmp_path / "adapter", narrow, torch.float32)


FULL = AdapterSpec()
PUBLISHED = {
    "t2iadapter_sd14_1ch": ("ldm", "", AdapterSpec(channels=1), "sd1"),
    "t2iadapter_sd14_3ch": ("ldm", "", FULL, "sd1"),
    "t2iadapter_sdxl_diffusers": ("diffusers", "adapter.", AdapterSpec(unshuffle=16, xl=True), "sdxl"),
    "t2iadapter_sdxl_original_cin256": ("ldm", "", AdapterSpec(1, unshuffle=16, xl=True), "sdxl"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_are_recognised_and_read_to_the_last_name(name: str) -> None:
    layout, prefix, expected, family = PUBLISHED[name]
    listed = key_list(name)
    identity = recognised(Seen(listed))
    assert identity is not None
    assert (identity.kind, identity.family) == ("t2i_adapter", family)
    assert kinds()["t2i_adapter"].reads(identity)
    found = {key.removeprefix(prefix): shape for key, shape in listed.items()}
    spec = NETWORK.infer(Shapes(name, layout, found), NETWORK.facts(FULL))
    assert spec == expected
    with torch.device("meta"):
        shapes = {own: tuple(tensor.shape) for own, tensor in T2IAdapter(spec).state_dict().items()}
    assert {own.stored(layout): shapes[own.ours] for own in names(spec)} == found
    assert {own.ours for own in names(spec)} == shapes.keys()


@pytest.mark.parametrize("name", ["t2iadapter_style", "coadapter_fuser"])
def test_styles_and_what_joins_several_are_only_known(name: str) -> None:
    identity = recognised(Seen(key_list(name)))
    assert identity is not None
    assert not kinds()[identity.kind].reads(identity)
