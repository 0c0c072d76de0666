"""IP-Adapters against diffusers: tokens, what a U-Net gives, a whole trajectory, masks and factors of blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import ip_adapter_support as support
from atelier.adapters.port.ip_adapter import ImagePrompt
from atelier.adapters.steering import Acting, Features, open_steering
from atelier.diffusion.types import Moment
from atelier.models.unet import UNet
from atelier.nn.ports import NOTHING, Conditioning, Ports
from atelier.pipeline.prompted import Rows, Several
from atelier.pipeline.steers import ByFace, ByReference, Given, Span
from atelier.pipeline.values import Hint, Key, Looked, Values
from atelier.request.resolved import ModelRef, NetworkRef
from hint_support import control_of
from ip_adapter_support import TEXT, VARIANTS, T, X
from weights_support import assert_close

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(autouse=True, name="no_gradients")
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> UNet:
    return support.our_unet(tmp_path_factory.mktemp("unet"))


def opened(variant: str, folder: Path, name: str | None = None) -> ImagePrompt:
    path = support.saved(variant, folder / (name or "file.safetensors"))
    found = open_steering(path, support.model(), torch.float32)
    assert isinstance(found, ImagePrompt)
    return found


def theirs(net: Any, given: Mapping[str, Tensor]) -> Tensor:
    """What diffusers makes of the same features."""
    layer = support.projection(net)
    if "face" not in given:
        return layer(given["image"])
    if "image" in given:
        layer.clip_embeds = given["image"][:, None]
    face = given["face"]
    return layer(face[:, None] if isinstance(layer, plus()) else face)


def plus() -> type:
    from diffusers.models.embeddings import IPAdapterPlusImageProjection

    return IPAdapterPlusImageProjection


def absent(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The features of no image."""
    made = {"face": torch.zeros_like(given["face"])} if "face" in given else {}
    return made | ({"image": given["absent"].expand_as(given["image"])} if "image" in given else {})


@pytest.mark.parametrize("variant", VARIANTS)
def test_tokens_are_those_of_diffusers(variant: str, tmp_path: Path) -> None:
    own, net, given = opened(variant, tmp_path), support.diffusers_unet(variant), support.features(variant)
    tokens, nothing = own.tokens(Features(**given))
    assert_close(tokens, theirs(net, given))
    assert_close(nothing, theirs(net, absent(given)))
    assert tokens.shape[1] == {"faceid_portrait": 16, "plus": 16, "instantid": 16, "full_face": 7}.get(variant, 4)


def test_the_first_version_of_faceid_plus_has_no_shortcut(tmp_path: Path) -> None:
    """Which only the name of a file says."""
    given = support.features("faceid_plus")
    first = opened("faceid_plus", tmp_path, "ip-adapter-faceid-plus_sd15.bin")
    assert first.shortcut is None
    layer = support.projection(support.diffusers_unet("faceid_plus"))
    layer.shortcut = False
    expected = theirs(support.diffusers_unet("faceid_plus"), given)
    layer.shortcut = True
    assert_close(first.tokens(Features(**given))[0], expected)
    assert opened("faceid_plus", tmp_path, "ip-adapter-faceid-plusv2_sd15.bin").shortcut == 1.0
    layer.shortcut_scale = 0.4
    expected = theirs(support.diffusers_unet("faceid_plus"), given)
    layer.shortcut_scale = 1.0
    assert_close(replace(first, shortcut=0.4).tokens(Features(**given))[0], expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_unet_gives_what_diffusers_gives(variant: str, net: UNet, tmp_path: Path) -> None:
    own, foreign, given = opened(variant, tmp_path), support.diffusers_unet(variant), support.features(variant)
    tokens, _ = own.tokens(Features(**given))
    made = net(X, T, Conditioning(TEXT), own.ports(tokens, Acting(0.7), {}))
    assert_close(made, foreign_output(foreign, X, T, TEXT, given, scale=0.7))
    assert float((made - net(X, T, Conditioning(TEXT))).abs().max()) > 1e-3


def foreign_output(
    net: Any,
    x: Tensor,
    t: Tensor,
    text: Tensor,
    given: Mapping[str, Tensor],
    scale: Any = 1.0,
    residuals: Mapping[str, Any] = MappingProxyType({}),
    **how: Any,
) -> Tensor:
    for name, processor in net.attn_processors.items():
        if name.endswith("attn2.processor"):
            processor.scale = [scale(name) if callable(scale) else scale]
    embeds = given["face"] if "face" in given else given["image"]
    if "face" in given and "image" in given:
        support.projection(net).clip_embeds = given["image"][:, None]
    one = embeds[:, None]
    one = one[:, :, None] if isinstance(support.projection(net), plus()) and "face" in given else one
    added = {"image_embeds": [one]}
    return net(x, t, text, added_cond_kwargs=added, cross_attention_kwargs=how or None, **residuals).sample


@pytest.mark.parametrize("variant", ["base", "plus", "faceid_plus"])
def test_four_steps_with_guidance_go_where_diffusers_goes(variant: str, net: UNet, tmp_path: Path) -> None:
    own, foreign = opened(variant, tmp_path), support.diffusers_unet(variant)
    given = support.features(variant, 1)
    tokens, nothing = own.tokens(Features(**given))
    none = absent(given)
    rows = {name: torch.cat([none[name], tensor]) for name, tensor in given.items() if name != "absent"}
    ports = own.ports(torch.cat([nothing, tokens]), Acting(0.8), {})

    def ours(x: Tensor, t: Tensor) -> Tensor:
        return net(x, t, Conditioning(TEXT), ports)

    expected = walk(lambda x, t: foreign_output(foreign, x, t, TEXT, rows, 0.8))
    assert_close(walk(ours), expected)
    assert float((walk(lambda x, t: net(x, t, Conditioning(TEXT))) - expected).abs().max()) > 1e-2


class Lending:
    """What a pass of InstantID is lent: its two networks by their names."""

    def __init__(self, nets: Mapping[str, Any]) -> None:
        self.nets = nets

    def take(self, need: Any) -> Any:
        return SimpleNamespace(net=self.nets[need.part.file.name])

    def checkpoint(self, _: object) -> Any:
        return SimpleNamespace(latent=SimpleNamespace(factor=8))


def test_instantid_goes_where_diffusers_goes(net: UNet, tmp_path: Path) -> None:
    """Its ControlNet reads the tokens of the face in place of the text, with those of no face in the negative row."""
    own, foreign = opened("instantid", tmp_path), support.diffusers_unet("instantid")
    control = control_of(support.diffusers_unet(), conditioning_embedding_out_channels=(8, 8, 8, 16))
    control.save_pretrained(tmp_path / "control")
    hinted = open_steering(tmp_path / "control", support.model(), torch.float32)
    given, drawn = support.features("instantid", 1), torch.rand(1, 3, 128, 192, generator=torch.manual_seed(8))
    rows = {"face": torch.cat([torch.zeros_like(given["face"]), given["face"]])}
    refs = [NetworkRef(name=name, path="", sha256="") for name in ("adapter", "control")]
    values, span = Values(), Span()
    values.put(Key("looked"), Looked(Features(**given), None))
    values.put(Key("hint"), Hint(drawn, None))
    model: Any = ModelRef(name="tiny", path="", sha256="", parts=())
    lent: Any = Lending({"adapter": own, "control": hinted})
    about = Given(model, lent, values)
    adapters = (
        ByReference(refs[0], Key("looked"), 0.8, span, {}).adapter(about),
        ByFace(refs[1], refs[0], Key("looked"), Key("hint"), 0.6, span).adapter(about),
    )
    which = Rows(torch.tensor([True, False]), torch.zeros(2, dtype=torch.long), net)

    def ours(x: Tensor, t: Tensor) -> Tensor:
        cond = Conditioning(TEXT)
        return net(x, t, cond, Several(adapters).ports(x, t, Moment(0, 0.0), cond, which))

    def expected(x: Tensor, t: Tensor) -> Tensor:
        tokens = theirs(foreign, rows)
        down, middle = control(x, t, tokens, controlnet_cond=drawn.expand(2, -1, -1, -1), return_dict=False)
        residuals = {
            "down_block_additional_residuals": [0.6 * one for one in down],
            "mid_block_additional_residual": 0.6 * middle,
        }
        return foreign_output(foreign, x, t, TEXT, rows, 0.8, residuals=residuals)

    assert_close(walk(ours), walk(expected))
    assert float((walk(ours) - walk(lambda x, t: net(x, t, Conditioning(TEXT)))).abs().max()) > 1e-2


def walk(predict: Any) -> Tensor:
    """DDIM (Song 2021, arXiv:2010.02502, equation 12 without noise) over the schedule of Stable Diffusion, CFG 5."""
    alphas = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0)
    x = X[:1]
    for t, after in ((999, 749), (749, 499), (499, 249), (249, None)):
        negative, positive = predict(x.repeat(2, 1, 1, 1), torch.tensor([t, t])).chunk(2)
        noise = negative + 5 * (positive - negative)
        clean = (x - (1 - alphas[t]).sqrt() * noise) / alphas[t].sqrt()
        end = torch.tensor(1.0) if after is None else alphas[after]
        x = end.sqrt() * clean + (1 - end).sqrt() * noise
    return x


def test_a_mask_says_where_as_in_diffusers(net: UNet, tmp_path: Path) -> None:
    own, foreign, given = opened("base", tmp_path), support.diffusers_unet("base"), support.features("base")
    mask = torch.rand(1, 1, 32, 48, generator=torch.Generator().manual_seed(6))
    tokens, _ = own.tokens(Features(**given))
    made = net(X, T, Conditioning(TEXT), own.ports(tokens, Acting(0.9, mask=mask), {}))
    assert_close(made, foreign_output(foreign, X, T, TEXT, given, 0.9, ip_adapter_masks=[mask]))
    everywhere = net(X, T, Conditioning(TEXT), own.ports(tokens, Acting(0.9), {}))
    assert float((made - everywhere).abs().max()) > 1e-3
    whole = Acting(0.9, mask=torch.ones(2, 1, 16, 24))
    assert_close(net(X, T, Conditioning(TEXT), own.ports(tokens, whole, {})), everywhere, 1e-6)


def test_blocks_have_factors_of_their_own_as_in_diffusers(net: UNet, tmp_path: Path) -> None:
    own, foreign, given = opened("base", tmp_path), support.diffusers_unet("base"), support.features("base")
    tokens, _ = own.tokens(Features(**given))
    blocks = {"": 0.0, "down.1": 0.5, "down.1.attentions.0.blocks.1": 2.0, "up.2.attentions.1": 1.0}

    def scale(name: str) -> float:
        if name.startswith("down_blocks.1"):
            return 1.2 if "blocks.1.attn2" in name else 0.3
        return 0.6 if name.startswith("up_blocks.2.attentions.1") else 0.0

    made = net(X, T, Conditioning(TEXT), own.ports(tokens, Acting(0.6), blocks))
    assert_close(made, foreign_output(foreign, X, T, TEXT, given, scale))


def test_it_acts_on_its_rows_alone(net: UNet, tmp_path: Path) -> None:
    own = opened("plus", tmp_path)
    tokens, _ = own.tokens(Features(**support.features("plus")))
    cond = Conditioning(TEXT)
    plain, full = net(X, T, cond), net(X, T, cond, own.ports(tokens, Acting(), {}))
    mask = torch.rand(2, 1, 16, 24, generator=torch.Generator().manual_seed(6))
    second = net(X, T, cond, own.ports(tokens, Acting(rows=torch.tensor([1])), {}))
    assert_close(second[:1], plain[:1], 1e-5)
    assert_close(second[1:], full[1:], 1e-5)
    masked = net(X, T, cond, own.ports(tokens, Acting(mask=mask), {}))
    alone = net(X, T, cond, own.ports(tokens, Acting(mask=mask[1:]), {}))
    assert_close(masked[1:], alone[1:], 1e-5)
    of_second = net(X, T, cond, own.ports(tokens, Acting(mask=mask, rows=torch.tensor([1])), {}))
    assert_close(of_second[1:], masked[1:], 1e-5)


def test_without_weight_it_is_not_there(net: UNet, tmp_path: Path) -> None:
    own = opened("base", tmp_path)
    tokens, _ = own.tokens(Features(**support.features("base")))
    nowhere = (Acting(0.0), {}), (Acting(), {"": 0.0}), (Acting(rows=torch.tensor([], dtype=torch.long)), {})
    for acting, blocks in nowhere:
        assert own.ports(tokens, acting, blocks) is NOTHING
    before = net(X, T, Conditioning(TEXT))
    net(X, T, Conditioning(TEXT), own.ports(tokens, Acting(), {}))
    assert torch.equal(net(X, T, Conditioning(TEXT)), before)


def test_two_requests_do_not_know_of_each_other(net: UNet, tmp_path: Path) -> None:
    """The second calls the network in the middle of the first's call."""
    own = opened("base", tmp_path)
    tokens, nothing = own.tokens(Features(**support.features("base")))
    first, second = own.ports(tokens, Acting(), {}), own.ports(nothing, Acting(0.5), {})
    alone = [net(X, T, Conditioning(TEXT), ports) for ports in (first, second)]
    seen: list[Tensor] = []

    def between(features: Tensor, /) -> Tensor:
        seen.append(net(X, T, Conditioning(TEXT), second))
        return features

    interrupted = replace(first, features={"down.1": between, "middle": between})
    assert torch.equal(net(X, T, Conditioning(TEXT), interrupted), alone[0])
    assert all(torch.equal(own, alone[1]) for own in seen)
    assert len(seen) == 2
    assert isinstance(first, Ports)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("prefix", ["", "unet."])
def test_what_diffusers_saves_is_the_same(variant: str, prefix: str, tmp_path: Path) -> None:
    foreign = support.diffusers_unet(variant)
    own = {n: t for n, t in foreign.state_dict().items() if n.startswith("encoder_hid_proj.") or "_ip." in n}
    save_file({prefix + n: t.contiguous() for n, t in own.items()}, tmp_path / "saved.safetensors")
    found = open_steering(tmp_path / "saved.safetensors", support.model(), torch.float32)
    expected = opened(variant, tmp_path).nets[0].state_dict()
    assert isinstance(found, ImagePrompt)
    assert {n: t.tolist() for n, t in found.nets[0].state_dict().items()} == {
        n: t.tolist() for n, t in expected.items()
    }


def test_a_bin_file_is_the_same(tmp_path: Path) -> None:
    ours, other = opened("plus", tmp_path).nets[0], opened("plus", tmp_path, "plus.bin").nets[0]
    assert all(torch.equal(own, other.state_dict()[name]) for name, own in ours.state_dict().items())
