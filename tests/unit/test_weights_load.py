"""Strict loading, archives, casts and hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from atelier.errors import BadFile, BadInput, UnknownName
from atelier.weights.archive import Stored, counted, open_any, open_file, open_index
from atelier.weights.cast import cast, precision
from atelier.weights.formats.safetensors import save
from atelier.weights.hashes import HashCache, file_sha256, files_sha256, short
from atelier.weights.load import load_into, match, read
from atelier.weights.names.name import Layout, Name, Pointwise, Rows
from atelier.weights.save import stored_as


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 2)
        self.second = nn.Conv2d(2, 2, 1, bias=False)
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))


NAMES = (
    Name("first.weight", "a.w", "one.weight", Pointwise(ours=2, ldm=4, diffusers=2), also=("old.weight",)),
    Name("first.bias", "a.b", "one.bias"),
    Name("second.weight", "c", "two.weight", Pointwise(ours=4, ldm=4, diffusers=4)),
    Name("count", "n", "n"),
)


def state() -> dict[str, Tensor]:
    first, second = torch.randn(2, 3), torch.randn(2, 2, 1, 1)
    return {"first.weight": first, "first.bias": torch.randn(2), "second.weight": second, "count": torch.tensor([7])}


def file_of(tensors: dict[str, Tensor], folder: Path, layout: Layout = "ldm", prefix: str = "") -> Stored:
    save(folder / "net.safetensors", tensors)
    return Stored(open_file(folder / "net.safetensors"), layout, prefix)


@pytest.mark.parametrize("layout", ["ldm", "diffusers"])
def test_tensors_survive_a_layout(layout: Layout, tmp_path: Path) -> None:
    tensors = state()
    written = stored_as(tensors, NAMES, layout, "net.")
    assert {name.removeprefix("net.") for name in written} == {name.stored(layout) for name in NAMES}
    assert written["net.a.w" if layout == "ldm" else "net.one.weight"].ndim == (4 if layout == "ldm" else 2)
    found = read(file_of(written, tmp_path, layout, "net."), NAMES)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    net = load_into(Net, found)
    assert torch.equal(net.first.weight, tensors["first.weight"])
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_nothing_is_copied_unless_it_is_cast() -> None:
    tensors = state()
    assert load_into(Net, tensors).first.weight.data_ptr() == tensors["first.weight"].data_ptr()
    cast_net = load_into(Net, tensors, dtype=torch.float16)
    assert cast_net.first.weight.dtype == torch.float16
    assert cast_net.get_buffer("count").dtype == torch.int64


def test_older_spellings_and_either_shape_are_read(tmp_path: Path) -> None:
    tensors = state()
    written = stored_as(tensors, NAMES, "diffusers")
    written["old.weight"] = written.pop("one.weight")[:, :, None, None]
    written["two.weight"] = written["two.weight"][:, :, 0, 0]
    found = read(file_of(written, tmp_path, "diffusers"), NAMES)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_missing_and_surplus_tensors_are_counted_and_named(tmp_path: Path) -> None:
    written = stored_as(state(), NAMES, "ldm", "net.")
    part = file_of({"net.c": written["net.c"]}, tmp_path, "ldm", "net.")
    with pytest.raises(BadFile, match=r"net.safetensors: lacks 3 tensors \(net.a.b, net.a.w, net.n\); it is damaged"):
        match(part, NAMES)
    part = file_of({**written, **{f"net.x{i}": torch.ones(1) for i in range(5)}}, tmp_path, "ldm", "net.")
    with pytest.raises(BadFile, match=r"has 5 tensors \(net.x0, net.x1, net.x2, …\) that no module takes"):
        match(part, NAMES)
    tolerant = Stored(part.archive, "ldm", "net.", lambda name: name.startswith("net.x"))
    assert read(tolerant, NAMES).keys() == {name.ours for name in NAMES}


def test_numbers_that_are_not_floating_are_named() -> None:
    whole = {**state(), "first.weight": torch.ones(2, 3, dtype=torch.int8)}
    with pytest.raises(
        BadFile, match=r"int8.safetensors: has 1 tensor \(first.weight\) that are not floating .* \(.*int8\)"
    ):
        load_into(Net, whole, source="int8.safetensors")


def test_what_a_module_does_not_take_is_named() -> None:
    tensors = state()
    with pytest.raises(BadFile, match=r"file: lacks 1 tensor \(count\)"):
        load_into(Net, {name: t for name, t in tensors.items() if name != "count"}, source="file")
    with pytest.raises(BadFile, match=r"file: has 1 tensor \(more\) that no module takes"):
        load_into(Net, {**tensors, "more": torch.ones(1)}, source="file")
    wrong = {**tensors, "first.bias": torch.ones(5), "first.weight": torch.ones(5, 3)}
    with pytest.raises(BadFile, match=r"has 2 tensors .* of the wrong shape: first.weight is 5x3 where 2x3 is needed"):
        load_into(Net, wrong, source="file")


def test_a_module_with_state_outside_its_state_is_a_fault_of_ours() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.zeros(2), persistent=False)

    with pytest.raises(TypeError, match="Hidden keeps 1 tensor \\(table\\)"):
        load_into(Hidden, {})


def test_counts_read_as_a_sentence() -> None:
    assert counted(["b"]) == "1 tensor (b)"
    assert counted(["d", "c", "b", "a"]) == "4 tensors (a, b, c, …)"
    assert counted(["\x1b" + "n" * 200]).isprintable()


def shards(folder: Path, weight_map: object) -> Path:
    save(folder / "s-1.safetensors", {"a": torch.ones(1), "b": torch.ones(2)})
    save(folder / "s-2.safetensors", {"c": torch.ones(3)})
    path = folder / "s.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


FUSED: frozenset[Layout] = frozenset({"ldm"})
ATTENTION = (
    Name("k", "in_proj", "k_proj", Rows(3, 2, 9, FUSED)),
    Name("q", "in_proj", "q_proj", Rows(0, 3, 9, FUSED)),
    Name("v", "in_proj", "v_proj", Rows(5, 4, 9, FUSED)),
    Name("out", "out_proj", "out"),
)
"""Query, key and value of unequal sizes, one tensor in ldm; in no order."""


def test_a_fused_tensor_is_cut_on_reading_and_joined_on_writing(tmp_path: Path) -> None:
    whole, out = torch.randn(9, 5), torch.randn(2)
    found = read(file_of({"net.in_proj": whole, "net.out_proj": out}, tmp_path, "ldm", "net."), ATTENTION)
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        "q": (3, 5),
        "k": (2, 5),
        "v": (4, 5),
        "out": (2,),
    }
    assert torch.equal(found["q"], whole[0:3])
    assert torch.equal(found["k"], whole[3:5])
    assert torch.equal(found["v"], whole[5:9])
    back = stored_as(found, ATTENTION, "ldm", "net.")
    assert back.keys() == {"net.in_proj", "net.out_proj"}
    assert torch.equal(back["net.in_proj"], whole)
    apart = stored_as(found, ATTENTION, "diffusers")
    assert apart.keys() == {"q_proj", "k_proj", "v_proj", "out"}
    again = read(file_of(apart, tmp_path, "diffusers"), ATTENTION)
    assert all(torch.equal(again[name], tensor) for name, tensor in found.items())


def test_a_fused_tensor_of_another_size_is_refused(tmp_path: Path) -> None:
    for wrong in (torch.ones(8, 5), torch.ones(10, 5), torch.tensor(1.0)):
        part = file_of({"in_proj": wrong, "out_proj": torch.ones(2)}, tmp_path)
        with pytest.raises(BadFile, match=r"has in_proj of the shape \[.*\] where 9 rows are needed"):
            read(part, ATTENTION)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_names_that_leave_out_rows_write_nothing(left: int) -> None:
    names = [name for number, name in enumerate(ATTENTION) if number != left]
    tensors = {name.ours: torch.ones(name.rule.count if name.rule else 2, 5) for name in ATTENTION}
    with pytest.raises(ValueError, match="in_proj: its rows"):
        stored_as(tensors, names, "ldm")
    with pytest.raises(ValueError, match="in_proj: its rows"):
        stored_as(tensors | {"q": torch.ones(2, 5)}, ATTENTION, "ldm")


def test_shards_are_one_archive(tmp_path: Path) -> None:
    path = shards(tmp_path, {"a": "s-1.safetensors", "b": "s-1.safetensors", "c": "s-2.safetensors"})
    archive = open_index(path)
    assert archive.tensors.keys() == {"a", "b", "c"}
    assert {name: len(tensor) for name, tensor in archive.load(["c", "a"]).items()} == {"a": 1, "c": 3}


@pytest.mark.parametrize(
    ("weight_map", "problem"),
    [
        ({"a": "../s-1.safetensors"}, "no file of weights beside it"),
        ({"a": "/etc/passwd"}, "no file of weights beside it"),
        ({"a": "s-1.txt"}, "no file of weights beside it"),
        ({"a": 3}, "no file of weights beside it"),
        ({}, "no weight_map"),
        ([], "no weight_map"),
        ({"a": "s-9.safetensors"}, "does not exist"),
        ({"a": "s-1.safetensors"}, "does not place b in s-1.safetensors"),
        ({"a": "s-1.safetensors", "b": "s-1.safetensors", "z": "s-1.safetensors"}, "places z in s-1.safetensors"),
    ],
)
def test_an_index_that_lies_is_refused(weight_map: object, problem: str, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=problem):
        open_index(shards(tmp_path, weight_map))


def test_an_index_that_is_no_json_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"{", b"\xff", b"[" * 100_000):
        (tmp_path / "i.json").write_bytes(content)
        with pytest.raises(BadFile, match=r"no readable index|no text in UTF-8"):
            open_index(tmp_path / "i.json")


def test_casts_change_floats_only_and_never_write_infinity() -> None:
    tensors = {"f": torch.tensor([1.5]), "i": torch.tensor([1])}
    found = cast(tensors, precision("fp16"))
    assert (found["f"].dtype, found["i"].dtype) == (torch.float16, torch.int64)
    assert cast(tensors, None)["f"] is tensors["f"]
    with pytest.raises(BadInput, match="big: has values too large for float16"):
        cast({"big": torch.tensor([70000.0])}, torch.float16)
    assert cast({"inf": torch.tensor([float("inf")])}, torch.float16)["inf"].isinf()
    with pytest.raises(UnknownName, match="did you mean fp16"):
        precision("fp61")


def test_a_file_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert HashCache(tmp_path / "cache.json").sha256(file) == digest
    assert short(digest) == digest[:10]
    monkeypatch.setattr("atelier.weights.hashes.file_sha256", lambda _: pytest.fail("read twice"))
    assert HashCache(tmp_path / "cache.json").sha256(file) == digest
    monkeypatch.undo()
    file.write_bytes(b"other weights")
    assert HashCache(tmp_path / "cache.json").sha256(file) == file_sha256(file) != digest
    (tmp_path / "cache.json").write_text("[broken")
    assert HashCache(tmp_path / "cache.json").sha256(file) == file_sha256(file)


def test_the_hash_of_a_folder_is_of_every_file_and_name(tmp_path: Path) -> None:
    names = ("a", "b", "sub/c")
    (tmp_path / "sub").mkdir()

    def hashed(**contents: str) -> str:
        for name in names:
            (tmp_path / name).write_text(contents.get(name[-1], "same"))
        return files_sha256([tmp_path / name for name in names], tmp_path, HashCache())

    found = [hashed(), hashed(a="other"), hashed(b="other"), hashed(c="other")]
    (tmp_path / "sub" / "c").rename(tmp_path / "sub" / "d")
    found.append(files_sha256([tmp_path / "a", tmp_path / "b", tmp_path / "sub" / "d"], tmp_path, HashCache()))
    assert len(set(found)) == 5


def test_a_folder_has_one_hash_and_a_lone_file_its_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    cache = HashCache()
    both = files_sha256([tmp_path / "b", tmp_path / "a"], tmp_path, cache)
    assert both == files_sha256([tmp_path / "a", tmp_path / "b"], tmp_path, cache)
    assert (
        both == "a8f212a65253e4a23524e750541a8e8c20e002d70a2af01be016fdf0f6fb5a6b"
    )  # sha256sum of what `sha256sum a b` says, names first
    assert files_sha256([tmp_path / "a"], tmp_path / "a", cache) == file_sha256(tmp_path / "a")
    with pytest.raises(BadFile, match="cannot be read"):
        cache.sha256(tmp_path / "absent")


def test_an_index_may_be_named_in_place_of_its_shards(tmp_path: Path) -> None:
    index = shards(tmp_path, {"a": "s-1.safetensors", "b": "s-1.safetensors", "c": "s-2.safetensors"})
    path = index.rename(tmp_path / "model.safetensors.index.json")
    assert open_any(path).tensors.keys() == {"a", "b", "c"}
