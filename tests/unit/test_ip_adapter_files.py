"""Files of IP-Adapters: the published lists at their true size, the order of layers, what is refused, and LoRAs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import ip_adapter_support as support
import tiny
import tiny_sd
from atelier.adapters.known import XL
from atelier.adapters.port.ip_adapter import ONLY, ImagePrompt, face_lora, stored_in
from atelier.adapters.read import deltas, matched
from atelier.adapters.steering import Acting, Features, Needs, open_steering
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.kind import Seen, identify, kinds, recognised
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import write_ldm
from atelier.errors import BadFile
from atelier.families.parts import UNET
from atelier.families.parts.ip_adapter import infer
from atelier.families.shapes import Shapes
from atelier.models.ip_adapter import IpAdapter, IpAdapterSpec, LinearSpec, places
from atelier.models.unet import UNetSpec
from atelier.weights.archive import open_any
from atelier.weights.load import match
from atelier.weights.names import ip_adapter as names
from key_lists import key_list, published, sparse

LISTS = {
    "ipadapter_sd15_vitG": (UNetSpec(), Needs("embedding", 1280)),
    "ipadapter_sdxl": (XL, Needs("embedding", 1280)),
    "ipadapter_plus_sd15": (UNetSpec(), Needs("states", 1280)),
    "ipadapter_plus_sdxl_vith": (XL, Needs("states", 1280)),
    "ipadapter_faceid_sd15": (UNetSpec(), Needs(face="unit")),
    "ipadapter_faceid_sdxl": (XL, Needs(face="unit")),
    "ipadapter_faceid_portrait_sd15": (UNetSpec(), Needs(face="unit")),
    "ipadapter_faceid_plusv2_sdxl": (XL, Needs("states", 1280, face="unit")),
    "instantid_ip_adapter": (XL, Needs(face="raw")),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_published_file_has_these_names_and_shapes(name: str, tmp_path: Path) -> None:
    """All that its list has, and nothing else, but for the LoRA that is beside it."""
    unet, needs = LISTS[name]
    archive = open_any(sparse(tmp_path / "x.safetensors", key_list(name)))
    stored = stored_in(archive)
    spec = infer(Shapes.of(stored), unet)
    with torch.device("meta"):
        net = IpAdapter(spec)
    own = {n: tuple(t.shape) for n, t in net.state_dict().items()}
    for found, spelling in match(stored, names.names(spec)).items():
        rows = found.rows("ldm")
        expected = archive.tensors[spelling].shape
        assert own.pop(found.ours) == (expected if rows is None else (rows.count, *expected[1:]))
    assert not own
    assert ImagePrompt(net).needs == needs
    identity = identify(archive)
    assert identity is not None
    assert kinds()["ip_adapter"].reads(identity)


def test_attentions_of_xl_are_counted_as_in_the_list() -> None:
    table = published("ipadapter_sdxl")["ip_adapter_index_to_diffusers_module"]
    assert [table[str(i)] for i in range(len(table))] == [f"{p.theirs}.attn{k}" for p in places(XL) for k in (1, 2)]


def test_attentions_of_sd1_are_counted_down_up_and_then_in_the_middle() -> None:
    found = places(UNetSpec())
    assert [place.width for place in found] == [320] * 2 + [640] * 2 + [1280] * 2 + [1280] * 3 + [640] * 3 + [
        320
    ] * 3 + [1280]
    assert found[0].path == "down.0.attentions.0.blocks.0"
    assert found[6].theirs == "up_blocks.1.attentions.0.transformer_blocks.0"
    assert found[15].path == "middle.attention.blocks.0"


def test_diffusers_counts_attentions_in_the_same_order() -> None:
    theirs = [name.removesuffix(".processor") for name in support.diffusers_unet().attn_processors]
    assert theirs == [f"{place.theirs}.attn{k}" for place in places(support.SPEC) for k in (1, 2)]


@pytest.mark.parametrize("variant", support.VARIANTS)
def test_a_variant_is_told_from_either_spelling(variant: str) -> None:
    authors = recognised(Seen(shapes_of(support.flat(support.file_of(variant)))))
    foreign = shapes_of(support.diffusers_unet(variant).state_dict())
    saved = recognised(Seen({n: s for n, s in foreign.items() if n.startswith("encoder_hid_proj.") or "_ip." in n}))
    for found in (authors, saved):
        assert found is not None
        assert (found.kind, found.variant) == ("ip_adapter", variant)
        assert kinds()["ip_adapter"].reads(found)
    assert kinds()["ip_adapter"].recognise(Seen(foreign)) is None, "a model that has one loaded is none"


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(tiny.single_file(tmp_path_factory.mktemp("model") / "tiny.safetensors"))


def file_for(model: Checkpoint, path: Path, **tensors: Tensor) -> Path:
    """A plain one that fits a model."""
    unet = model.spec(UNET)
    spec = IpAdapterSpec(LinearSpec(48, 4, unet.context), unet)
    net = IpAdapter(spec)
    tiny.randomize(net, 7)
    own = {name.ldm: net.state_dict()[name.ours] for name in names.names(spec)}
    save_file({**own, **tensors}, path)
    return path


def test_a_small_model_has_small_ones(model: Checkpoint, tmp_path: Path) -> None:
    found = open_steering(file_for(model, tmp_path / "x.safetensors"), model, torch.float32)
    assert isinstance(found, ImagePrompt)
    assert found.needs == Needs("embedding", 48)
    tokens, nothing = found.tokens(Features(image=torch.ones(3, 48), absent=torch.zeros(1, 48)))
    assert tokens.shape == nothing.shape == (3, 4, 32)
    assert found.ports(tokens, Acting(), {}).attention.keys() == {f"{p.path}.attn2" for p in places(model.spec(UNET))}
    with pytest.raises(ValueError, match="reads Needs"):
        found.tokens(Features(face=torch.ones(3, 512)))


def test_one_of_another_family_is_refused_with_both_names(model: Checkpoint, tmp_path: Path) -> None:
    path = sparse(tmp_path / "x.safetensors", key_list("ipadapter_sdxl"))
    told = r"is an IP-Adapter of Stable Diffusion XL, and tiny is Stable Diffusion 1"
    with pytest.raises(BadFile, match=told):
        open_steering(path, model, torch.float32)


def test_one_of_another_size_is_refused(model: Checkpoint, tmp_path: Path) -> None:
    wide = sparse(tmp_path / "x.safetensors", key_list("ipadapter_sd15_vitG"))
    with pytest.raises(BadFile, match="reads text states 768 wide, and those of tiny are 32 wide"):
        open_steering(wide, model, torch.float32)
    write_ldm(tiny_sd.sdxl(), tmp_path / "xl.safetensors")
    other = open_checkpoint(tmp_path / "xl.safetensors")
    deep = file_for(model, tmp_path / "small.safetensors")
    with pytest.raises(BadFile, match="32 wide, and those of xl are 80"):
        open_steering(deep, other, torch.float32)


def test_damaged_ones_are_refused(model: Checkpoint, tmp_path: Path) -> None:
    more = file_for(model, tmp_path / "more.safetensors", **{"image_proj.extra": torch.zeros(2)})
    with pytest.raises(BadFile, match=r"image_proj\.extra"):
        open_steering(more, model, torch.float32)
    fewer = file_for(model, tmp_path / "fewer.safetensors", **{"ip_adapter.99.to_k_ip.weight": torch.zeros(32, 32)})
    with pytest.raises(BadFile, match="attentions to the text, and that of tiny has"):
        open_steering(fewer, model, torch.float32)
    odd = file_for(model, tmp_path / "odd.safetensors", **{"image_proj.proj.weight": torch.zeros(33, 48)})
    with pytest.raises(BadFile, match="makes 33 numbers"):
        open_steering(odd, model, torch.float32)


def test_the_lora_of_a_face_file_is_that_of_diffusers(tmp_path: Path) -> None:
    """By the number of the attention, which counts those of both kinds."""
    support_model = support.model()
    foreign = support.diffusers_unet()
    shapes = {n: tuple(p.shape) for n, p in foreign.named_parameters()}
    layers: dict[str, Tensor] = {}
    for number, name in enumerate(foreign.attn_processors):
        for kind in ("q", "k", "v", "out"):
            own = f"{name.removesuffix('.processor')}.to_{kind}{'.0' if kind == 'out' else ''}.weight"
            rows, columns = shapes[own]
            layers[f"ip_adapter.{number}.to_{kind}_lora.down.weight"] = support.random(3, columns, seed=number)
            layers[f"ip_adapter.{number}.to_{kind}_lora.up.weight"] = support.random(rows, 3, seed=number + 50)
    path = tmp_path / "face.safetensors"
    save_file({**support.flat(support.file_of("faceid")), **layers}, path)
    file = face_lora(open_any(path), support_model)
    assert file is not None
    assert not file.others
    assert len(file.layers) == 4 * len(foreign.attn_processors)
    parts = {"image_proj": {}, "ip_adapter": {n.removeprefix("ip_adapter."): t for n, t in layers.items()}}
    expected = foreign._load_ip_adapter_loras([parts])[0]
    loaded = file.load(file.layers)
    for base, slots in loaded.items():
        for slot in ("down", "up"):
            layer, _, kind = base.rpartition(".")
            assert torch.equal(slots[slot], expected[f"{layer}.processor.{kind}_lora.{slot}.weight"])
    assert isinstance(open_steering(path, support_model, torch.float32), ImagePrompt)
    assert face_lora(open_any(support.saved("base", tmp_path / "plain.safetensors")), support_model) is None


def test_the_lora_of_a_face_file_changes_the_weights_of_a_model(model: Checkpoint, tmp_path: Path) -> None:
    unet = model.spec(UNET)
    number = 2 * next(i for i, place in enumerate(places(unet)) if place.path == "middle.attention.blocks.0") + 1
    down, up = support.random(3, unet.context), support.random(unet.widths[-1], 3)
    own = {f"ip_adapter.{number}.to_k_lora.{n}.weight": t for n, t in (("down", down), ("up", up))}
    file = face_lora(open_any(file_for(model, tmp_path / "x.safetensors", **own)), model)
    assert file is not None
    found = matched(file, model)
    assert not found.unmatched
    made = deltas(found, "unet")
    assert list(made) == ["middle.attention.blocks.0.attn2.to_k.weight"]
    weight = torch.zeros(unet.widths[-1], unet.context)
    delta, _ = made["middle.attention.blocks.0.attn2.to_k.weight"]
    assert torch.allclose(delta.fold(weight, 1.0), up @ down, atol=1e-6)
    beyond = {"ip_adapter.99.to_k_lora.down.weight": down}
    with pytest.raises(BadFile, match="changes attention 99"):
        face_lora(open_any(file_for(model, tmp_path / "y.safetensors", **beyond)), model)


@pytest.mark.parametrize(("family", "unet"), [("sd1", UNetSpec()), ("sdxl", XL)])
def test_blocks_for_style_or_composition_are_there(family: str, unet: UNetSpec) -> None:
    """By the numbers of ComfyUI's nodes: of 1.x one for each attention; of XL the blocks that InstantStyle names."""
    paths = [place.path for place in places(unet)]
    net = ImagePrompt(meta(unet))
    style, composition = (on(net, ONLY[family][name], paths) for name in ("style", "composition"))
    if family == "sd1":
        assert style == dict.fromkeys((0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14), 1)
        left_out = {paths[i].partition(".blocks")[0] for i in range(len(paths)) if i not in style}
        assert left_out == {
            *("down.2.attentions.0", "down.2.attentions.1", "middle.attention"),
            *("up.1.attentions.0", "up.1.attentions.1"),
        }
        assert composition == {4: 0.25, 5: 1}
    else:
        assert {paths[i].partition(".blocks")[0] for i in style} == {"up.0.attentions.1"}
        assert {paths[i].partition(".blocks")[0] for i in composition} == {"down.2.attentions.1"}
        assert (len(style), len(composition)) == (10, 10)


def test_a_block_is_named_by_whole_parts_of_its_path() -> None:
    unet = UNetSpec()
    net, paths = ImagePrompt(meta(unet)), [place.path for place in places(unet)]
    assert on(net, {"": 0.0, "mid": 1.0, "down.0.att": 1.0}, paths) == {}
    assert on(net, {"": 0.0, "middle": 0.5, "down.0.attentions.1": 2.0}, paths) == {1: 2.0, 15: 0.5}


def meta(unet: UNetSpec) -> IpAdapter:
    with torch.device("meta"):
        return IpAdapter(IpAdapterSpec(LinearSpec(1024, 4, unet.context), unet))


def on(net: ImagePrompt, blocks: object, paths: list[str]) -> dict[int, float]:
    made = net.ports(torch.zeros(1), Acting(), blocks).attention  # type: ignore[arg-type]
    return {paths.index(path.removesuffix(".attn2")): patch.factor for path, patch in made.items()}  # type: ignore[attr-defined]
