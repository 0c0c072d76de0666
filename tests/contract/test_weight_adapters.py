"""What every kind of weight adapter must do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adapter_support import ALPHA, DORA, EXAMPLES, IN, OUT, RANK, Example, drawn, lora
from atelier.adapters.attach import Strong, attached, merged
from atelier.adapters.delta import Delta
from atelier.adapters.read import AdapterLayer, built, fits, kinds, layers_of
from atelier.nn.conv import PointwiseConv
from atelier.nn.seamless import Conv, Seamless

CASES = {f"{kind}-{name}": example for kind, own in EXAMPLES.items() for name, example in own.items()}
DORAS = {f"DoRA-{name}": example for name, example in DORA.items()}
EVERY = [
    pytest.param(example, shape, id=f"{n}-{len(shape)}d")
    for n, example in (CASES | DORAS).items()
    for shape in example.shapes
]
TOLERANCE = 1e-5


def test_every_kind_has_an_example():
    assert set(EXAMPLES) == set(kinds())


def deltas_of(tensors: Mapping[str, Tensor]) -> Mapping[str, Delta]:
    """As a file that holds one layer says."""
    layers, others = layers_of((f"lora_unet_x.{name}" for name in tensors), whole=True)
    assert not others
    (own,) = layers.values()
    return built(own, {slot: tensors[name.removeprefix("lora_unet_x.")].float() for slot, name in own.tensors.items()})


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, own in EXAMPLES.items() for name in own])
def test_the_names_of_its_tensors_tell_the_kind(kind: str, name: str):
    example = EXAMPLES[kind][name]
    layers, _ = layers_of((f"lora_unet_x.{ending}" for ending in example.tensors(example.shapes[0])), whole=True)
    found = layers["lora_unet_x"]
    assert isinstance(found, AdapterLayer)
    assert found.kind.name == kind


@pytest.mark.parametrize(("example", "shape"), EVERY)
def test_what_is_added_is_the_arithmetic_of_the_format(example: Example, shape: tuple[int, ...]):
    weight, tensors = drawn(*shape), example.tensors(shape)
    wanted = example.restated(
        weight.numpy().astype(np.float64), {n: t.numpy().astype(np.float64) for n, t in tensors.items()}
    )
    delta = deltas_of(tensors)["weight"]
    assert float(np.abs(wanted).max()) > 1e-2
    for strength in (1.0, -0.5):
        folded = delta.fold(weight, strength)
        expected = weight + strength * torch.from_numpy(wanted).float()
        torch.testing.assert_close(folded, expected, rtol=TOLERANCE, atol=TOLERANCE)
        place = weight.clone()
        delta.fold(place, strength, inside=True)
        assert torch.equal(place, folded)
        assert torch.equal(weight, drawn(*shape)), "the weight itself stays"


WEIGHTS = [(OUT, IN), (IN, OUT), (OUT,), (IN,), (OUT, IN, 1, 1), (OUT, IN, 3, 3), (2 * OUT, IN), (OUT, 2 * IN), (1, 1)]


@pytest.mark.parametrize("name", list(CASES | DORAS))
def test_what_fits_by_its_shapes_can_be_computed(name: str):
    example = (CASES | DORAS)[name]
    for shape in example.shapes:
        tensors = example.tensors(shape)
        layers, _ = layers_of((f"x.{ending}" for ending in tensors), whole=True)
        own = {slot: tensors[key.removeprefix("x.")] for slot, key in layers["x"].tensors.items()}
        shapes = {slot: tuple(tensor.shape) for slot, tensor in own.items()}
        assert fits(layers["x"].kind, shapes, shape)
        fitting = [other for other in WEIGHTS if fits(layers["x"].kind, shapes, other)]
        assert len(fitting) < len(WEIGHTS)
        for other in fitting if {"on_input", "ia3_l"}.isdisjoint(own) else [shape]:
            assert built(layers["x"], own)["weight"].difference(drawn(*other)).shape == other
        wrong = {slot: (*size[:-1], size[-1] + 1) if size else size for slot, size in shapes.items()}
        assert not fits(layers["x"].kind, wrong, shape)


@pytest.mark.parametrize("name", [name for name, own in (CASES | DORAS).items() if (OUT, IN) in own.shapes])
@pytest.mark.parametrize("shape", [(OUT, IN), (OUT, IN, 1, 1)])
def test_linear_layers_and_kernels_of_a_point_are_one(name: str, shape: tuple[int, ...]):
    """Converted models have the one where an adapter was made for the other."""
    tensors, other = (CASES | DORAS)[name].tensors(shape), (OUT, IN, 1, 1)[: 6 - len(shape)]
    layers, _ = layers_of((f"x.{ending}" for ending in tensors), whole=True)
    own = {slot: tensors[key.removeprefix("x.")] for slot, key in layers["x"].tensors.items()}
    assert fits(layers["x"].kind, {slot: tuple(tensor.shape) for slot, tensor in own.items()}, other)
    delta, weight = built(layers["x"], own)["weight"], drawn(OUT, IN)
    torch.testing.assert_close(
        delta.difference(weight.reshape(other)).reshape(OUT, IN),
        delta.difference(weight.reshape(shape)).reshape(OUT, IN),
    )


def layer_of(shape: tuple[int, ...]) -> tuple[nn.Module, Tensor, dict[str, object]]:
    """A layer with a weight of this shape, something for it to work on, and how it is called."""
    match shape:
        case (_,):
            return nn.LayerNorm(shape[0]), drawn(2, 3, shape[0]), {}
        case (_, _):
            return nn.Linear(shape[1], shape[0]), drawn(2, 3, shape[1]), {}
        case (_, _, 1, 1):
            return PointwiseConv(shape[1], shape[0]), drawn(2, shape[1], 6, 4), {}
        case _:
            return (
                Conv(shape[1], shape[0], 3, padding=1, stride=2),
                drawn(2, shape[1], 6, 4),
                {"seamless": Seamless(x=True)},
            )


@pytest.mark.parametrize(("example", "shape"), EVERY)
def test_folding_is_adding_to_the_output_and_leaves_no_bit(example: Example, shape: tuple[int, ...]):
    """Two of them on one layer, so that the second acts on what the first has changed."""
    layer, x, how = layer_of(shape)
    layer.requires_grad_(requires_grad=False)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    deltas = deltas_of(example.tensors(shape))
    changes = {"weight": [Strong(deltas["weight"], 0.7), Strong(deltas["weight"], -1.3)]}
    plain = layer(x, **how)
    made: list[Tensor] = []
    for kind in ("merge", "hook"):
        with attached(layer, changes, kind):
            made.append(layer(x, **how))
    assert float((made[0] - plain).abs().max()) > 1e-3
    torch.testing.assert_close(made[0], made[1], rtol=1e-4, atol=1e-4)
    assert {name: bool((tensor == before[name]).all()) for name, tensor in layer.state_dict().items()} == dict.fromkeys(
        before, True
    )
    assert torch.equal(layer(x, **how), plain)


def test_a_part_of_the_ranks_keeps_the_scale_of_all():
    """up[:, :D] @ down[:D], still over the whole rank."""
    tensors = lora((OUT, IN))
    layers, _ = layers_of((f"x.{name}" for name in tensors), whole=True)
    own = layers["x"]
    values = {slot: tensors[name.removeprefix("x.")] for slot, name in own.tensors.items()}
    delta = built(own, values, rank=2)["weight"]
    wanted = ALPHA / RANK * tensors["lora_up.weight"][:, :2] @ tensors["lora_down.weight"][:2]
    torch.testing.assert_close(delta.difference(torch.zeros(OUT, IN)), wanted)


def test_a_merge_keeps_the_dtype_and_the_layout():
    weight = drawn(OUT, IN, 3, 3).to(torch.bfloat16).to(memory_format=torch.channels_last)
    tensors = lora((OUT, IN, 3, 3))
    made = merged({"a.weight": weight}, {"a.weight": [Strong(deltas_of(tensors)["weight"], 1.0)]})["a.weight"]
    assert made.dtype == torch.bfloat16
    assert made.stride() == weight.stride()
    difference = deltas_of(tensors)["weight"].difference(weight.float())
    assert torch.equal(made, (weight.float() + difference).to(torch.bfloat16))


def test_short_weights_of_several_sizes_are_each_merged_as_alone():
    """They share the room that they are computed in."""
    tensors, seen = {"lora": lora((OUT, IN)), "wide": lora((2 * OUT, IN))}, dict[str, Tensor]()
    weights = {name: drawn(*shape).half() for name, shape in (("wide", (2 * OUT, IN)), ("lora", (OUT, IN)))}
    changes = {name: [Strong(deltas_of(tensors[name])["weight"], s) for s in (0.5, 2.0)] for name in weights}
    made = merged(weights, changes, lambda name, weight: seen.update({name: weight.clone()}))
    for name, weight in weights.items():
        wanted = weight.float() + 2.5 * deltas_of(tensors[name])["weight"].difference(weight.float())
        torch.testing.assert_close(seen[name], wanted)
        assert torch.equal(made[name], seen[name].half())
    assert torch.equal(weights["lora"], drawn(OUT, IN).half())


@pytest.mark.parametrize("shape", [(OUT, IN), (OUT, IN, 3, 3), (OUT,)])
def test_biases_are_changed_too_whatever_becomes_of_the_weight(shape: tuple[int, ...]):
    layer, x, how = layer_of(shape)
    layer.requires_grad_(requires_grad=False)
    difference = drawn(OUT)
    tensors = {"b_norm" if len(shape) == 1 else "diff_b": difference}
    if len(shape) > 1:
        tensors |= lora(shape)
    deltas = deltas_of(tensors)
    assert set(deltas) == ({"bias"} if len(shape) == 1 else {"weight", "bias"})
    plain = layer(x, **how)
    for kind in ("merge", "hook"):
        with attached(layer, {"bias": [Strong(deltas["bias"], 0.5), Strong(deltas["bias"], 1.0)]}, kind):
            changed = layer(x, **how)
        channels = (1, -1, 1, 1) if len(shape) > 2 else (-1,)
        torch.testing.assert_close(changed, plain + 1.5 * difference.reshape(channels), rtol=1e-5, atol=1e-5)


def test_what_goes_wrong_inside_leaves_no_trace(tmp_path: Path):
    layer, x, _ = layer_of((OUT, IN))
    plain, deltas = layer(x), deltas_of(lora((OUT, IN)))
    for how in ("merge", "hook"):
        with pytest.raises(ZeroDivisionError), attached(layer, {"weight": [Strong(deltas["weight"], 1.0)]}, how):
            raise ZeroDivisionError
        assert torch.equal(layer(x), plain)


@pytest.mark.parametrize(("first", "second"), [("1", "2"), ("2", "1")])
def test_glora_fits_square_layers_in_the_order_of_any_version(first: str, second: str):
    tall, wide = {f"a{first}", f"b{first}"}, {f"a{second}", f"b{second}"}
    own = {slot: drawn(6, 2) for slot in sorted(tall)} | {slot: drawn(2, 6) for slot in sorted(wide)}
    assert fits(kinds()["GLoRA"], {slot: tuple(tensor.shape) for slot, tensor in own.items()}, (6, 6))
    weight = drawn(6, 6)
    wanted = weight @ own[f"a{first}"] @ own[f"a{second}"] + own[f"b{first}"] @ own[f"b{second}"]
    made = deltas_of({f"{slot}.weight": tensor for slot, tensor in own.items()})["weight"].difference(weight)
    torch.testing.assert_close(made, wanted)


@pytest.mark.parametrize("ending", ["", ".weight", ".default", ".default.weight", ".default_0.weight", ".style.weight"])
def test_pefts_names_are_read_with_the_name_of_an_adapter_in_them(ending: str):
    slots = {"up": "lora_B", "down": "lora_A", "magnitude": "lora_magnitude_vector"}
    layers, others = layers_of(f"unet.x.{name}{ending}" for name in slots.values())
    assert layers["unet.x"].tensors == {slot: f"unet.x.{name}{ending}" for slot, name in slots.items()}
    assert others == []


def test_a_second_adapter_in_a_file_takes_nothing_of_the_first():
    names = [f"unet.x.lora_{half}.{adapter}.weight" for adapter in ("one", "two") for half in "AB"]
    layers, others = layers_of(names)
    assert [*layers["unet.x"].tensors.values()] == names[:2]
    assert others == names[2:]


@pytest.mark.parametrize("ending", ["", ".default"])
def test_a_lora_may_have_weights_of_its_ranks_and_a_bias(ending: str):
    slots = {"down": "lora_A", "up": "lora_B", "weights": "lora_E"}
    names = {slot: f"unet.x.{name}{ending}" for slot, name in slots.items()}
    names["factor_bias"] = f"unet.x.lora_B{ending}.bias"
    layers, others = layers_of(names.values())
    assert layers["unet.x"].tensors == names
    assert others == []
    shapes = {"down": (4, 6), "up": (8, 4), "weights": (4, 1), "factor_bias": (8,)}
    assert fits(kinds()["LoRA"], shapes, (8, 6))
    assert not fits(kinds()["LoRA"], {**shapes, "weights": (3, 1)}, (8, 6))


def test_a_bias_beside_a_lora_counts_only_where_the_settings_say_so():
    names = ["x.lora_down.weight", "x.lora_up.weight", "x.bias"]
    layers, others = layers_of(names)
    assert [*layers["x"].tensors.values()] == names[:2]
    assert others == ["x.bias"]
    layers, others = layers_of(names, whole=True)
    assert [*layers["x"].tensors.values()] == names
    assert others == []
    assert layers_of(["y.bias", "y.weight"]) == ({}, ["y.bias", "y.weight"])


def test_rotated_inputs_of_larger_kernels_are_not_read():
    """PEFT trains one thing there and merges another."""
    kind = kinds()["OFT of inputs"]
    assert fits(kind, {"oft_R": (2, 6)}, (OUT, 8, 1, 1))
    assert not fits(kind, {"oft_R": (18, 6)}, (OUT, 8, 3, 3))


@pytest.mark.parametrize("kind", ["LoRA of embeddings", "replaced"])
def test_embeddings_are_hooked_as_they_are_merged(kind: str):
    tokens, layer = torch.tensor([[0, 3, OUT - 1]]), nn.Embedding(OUT, IN)
    tensors = next(iter(EXAMPLES[kind].values())).tensors((OUT, IN))
    changes = {"weight": [Strong(deltas_of(tensors)["weight"], 0.5)]}
    with torch.no_grad():
        plain = layer(tokens)
        with attached(layer, changes, "merge"):
            merged_ = layer(tokens)
        with attached(layer, changes, "hook"):
            torch.testing.assert_close(layer(tokens), merged_, rtol=TOLERANCE, atol=TOLERANCE)
    assert float((merged_ - plain).abs().max()) > 1e-2


def test_a_scaled_bias_is_hooked_as_it_is_merged():
    """(IA)^3 of PEFT scales the output with its bias."""
    layer, x, lengths = nn.Linear(IN, OUT), drawn(2, IN), drawn(OUT, 1)
    changes = {name: [Strong(delta, 1.0)] for name, delta in deltas_of({"ia3_l": lengths}).items()}
    with torch.no_grad():
        expected = layer(x) * lengths.flatten()
        for how in ("merge", "hook"):
            with attached(layer, changes, how):
                torch.testing.assert_close(layer(x), expected, rtol=TOLERANCE, atol=TOLERANCE)
