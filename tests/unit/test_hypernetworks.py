"""Hypernetworks in prompts, on a very small model: against an attention that is written out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

import tiny
from atelier.adapters.hypernetwork import load_hypernetwork, open_hypernetwork
from atelier.checkpoints.inspecting import inspect
from atelier.errors import BadFile, BadInput
from atelier.nn.attention import Attention
from atelier.pipeline.resources import DENOISER, Adapted, Merged
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.runtime.resources import bytes_of
from atelier.runtime.workers.catalogue import listed
from atelier.weights.hashes import HashCache
from facts import FACTS
from pipeline_support import PLENTY, engine_on, request

WIDTHS = (32, 64)
KEYS = FACTS / "keys" / "hypernetwork_a1111.json"
Chain = Mapping[str, Tensor]


def chain(width: int, seed: int, names: tuple[str, str] = ("linear.0", "linear.2"), *, normed: bool = False) -> Chain:
    generator = torch.Generator().manual_seed(seed)
    first, last = names
    made = {
        f"{first}.weight": torch.randn(2 * width, width, generator=generator) / width**0.5,
        f"{first}.bias": torch.randn(2 * width, generator=generator),
        f"{last}.weight": torch.randn(width, 2 * width, generator=generator) / width**0.5,
        f"{last}.bias": torch.randn(width, generator=generator),
    }
    norm = {"linear.5.weight": 1 + 0.1 * torch.randn(width, generator=generator), "linear.5.bias": torch.ones(width)}
    return {**made, **norm} if normed else made


def a1111(path: Path, chains: Mapping[int, tuple[Chain, Chain]], **said: object) -> Path:
    """As A1111 saves one: widths as numbers, keys and values, and what it says beside them."""
    path.parent.mkdir(exist_ok=True)
    plain = {"step": 7, "name": "x", "layer_structure": [1, 2, 1], "optional_info": None}
    torch.save({**dict(chains), **plain, **said}, path)
    return path


def relu(own: Chain, x: Tensor) -> Tensor:
    hidden = F.relu(F.linear(x, own["linear.0.weight"], own["linear.0.bias"]))
    return F.linear(hidden, own["linear.2.weight"], own["linear.2.bias"])


def everywhere(own: Chain, x: Tensor) -> Tensor:
    return F.relu(relu(own, x))


def straight(own: Chain, x: Tensor) -> Tensor:
    hidden = F.linear(x, own["linear.0.weight"], own["linear.0.bias"])
    return F.linear(hidden, own["linear.1.weight"], own["linear.1.bias"])


def old(own: Chain, x: Tensor) -> Tensor:
    hidden = F.linear(x, own["linear1.weight"], own["linear1.bias"])
    return F.linear(hidden, own["linear2.weight"], own["linear2.bias"])


def normed(own: Chain, x: Tensor) -> Tensor:
    """tanh behind both, and a norm at the end."""
    hidden = torch.tanh(F.linear(x, own["linear.0.weight"], own["linear.0.bias"]))
    made = torch.tanh(F.linear(hidden, own["linear.3.weight"], own["linear.3.bias"]))
    return F.layer_norm(made, made.shape[-1:], own["linear.5.weight"], own["linear.5.bias"])


Run = Callable[[Chain, Tensor], Tensor]
FORMS: dict[str, tuple[tuple[str, str], dict[str, object], Run]] = {
    "relu between": (("linear.0", "linear.2"), {"activation_func": "relu", "activate_output": False}, relu),
    "relu everywhere": (("linear.0", "linear.2"), {"activation_func": "relu", "activate_output": True}, everywhere),
    "nothing said of the last": (("linear.0", "linear.2"), {"activation_func": "relu"}, everywhere),
    "linear": (("linear.0", "linear.1"), {"activation_func": "linear", "activate_output": True}, straight),
    "no activation": (("linear.0", "linear.1"), {"activation_func": None}, straight),
    "the first files": (("linear1", "linear2"), {}, old),
    "norm": (("linear.0", "linear.3"), {"activation_func": "tanh", "is_layer_norm": True}, normed),
}


def pairs(names: tuple[str, str], *, norm: bool = False) -> dict[int, tuple[Chain, Chain]]:
    return {
        width: (chain(width, width, names, normed=norm), chain(width, width + 1, names, normed=norm))
        for width in WIDTHS
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.folder(folder / "tiny")
    a1111(folder / "hypernetworks" / "Mood.pt", pairs(("linear.0", "linear.2")), activation_func="relu")
    a1111(folder / "hypernetworks" / "wide.pt", {768: (chain(768, 0), chain(768, 1))}, activation_func="relu")
    return folder


@pytest.fixture(scope="module")
def engine(models: Path) -> Engine:
    return engine_on(models / "tiny", budget=PLENTY)


def image(engine: Engine, prompt: str, **fields: object) -> bytes:
    (made,) = engine.generate(request(prompt=prompt, steps=1, **fields))
    return made.image.tobytes()


def test_they_are_listed(engine: Engine):
    assert listed(engine, HashCache())["hypernetworks"] == [
        {"name": "Mood", "file": "Mood.pt", "more": {}},
        {"name": "wide", "file": "wide.pt", "more": {}},
    ]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_as_it_computes(form: str, tmp_path: Path):
    names, said, run = FORMS[form]
    chains = pairs(names, norm=form == "norm")
    file = open_hypernetwork(a1111(tmp_path / "h" / "x.pt", chains, **said))
    assert file.widths == frozenset(WIDTHS)
    told = inspect(file.path).json()
    assert (told["kind"], told["supported"]) == ("hypernetwork", True)
    found = load_hypernetwork(file)
    for width, (key, value) in chains.items():
        x = torch.randn(2, 5, width)
        torch.testing.assert_close(found[width].key(x), run(key, x))
        torch.testing.assert_close(found[width].value(x), run(value, x))


def by_hand(acting: list[tuple[dict[int, tuple[Chain, Chain]], float]]) -> Callable[..., Tensor]:
    """An attention of the U-Net whose keys and values are of source + strength * net(source)."""

    def forward(self: Attention, x: Tensor, context: Tensor | None = None, **_: object) -> Tensor:
        key = value = x if context is None else context
        if self.path:
            for chains, strength in acting:
                own = chains.get(key.shape[-1])
                if own is not None:
                    key, value = key + strength * everywhere(own[0], key), value + strength * everywhere(own[1], value)
        split = [
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.to_q(x), self.to_k(key), self.to_v(value))
        ]
        return self.to_out(F.scaled_dot_product_attention(*split, is_causal=not self.path).transpose(1, 2).flatten(2))

    return forward


def test_a_tag_makes_keys_and_values_of_what_it_makes_of_their_source(
    engine: Engine, models: Path, monkeypatch: pytest.MonkeyPatch
):
    """Alone, twice, and with a LoRA that changes the keys."""
    torch.manual_seed(0)
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    (models / "lora").mkdir(exist_ok=True)
    lora = {f"{name}.lora_up.weight": torch.randn(64, 2), f"{name}.lora_down.weight": torch.randn(2, 32)}
    save_file(lora, models / "lora" / "keys.safetensors")
    engine = engine_on(models / "tiny")
    mood = pairs(("linear.0", "linear.2"))
    prompts = {
        "a red cat<hypernet:mood:0.3>": ("a red cat", [(mood, 0.3)]),
        "a red cat<hypernet:Mood>": ("a red cat", [(mood, 1.0)]),
        "a <hypernet:Mood:0.2>dog<lora:keys><hypernet:Mood:-0.4>": ("a dog<lora:keys>", [(mood, 0.2), (mood, -0.4)]),
    }
    for prompt, (plain, acting) in prompts.items():
        made = image(engine, prompt)
        assert made != image(engine, plain)
        with monkeypatch.context() as patched:
            patched.setattr(Attention, "forward", by_hand(acting))
            wanted = image(engine_on(models / "tiny"), plain)
        assert far(made, wanted) <= 1, prompt


def far(one: bytes, other: bytes) -> int:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def test_without_strength_it_is_not_there_and_others_never_see_it(engine: Engine):
    plain = image(engine, "a red cat")
    assert image(engine, "a red cat<hypernet:Mood:0>") == plain
    assert image(engine, "a red cat<hypernet:Mood>") != plain
    assert image(engine, "a red cat") == plain


def test_the_infotext_has_the_tag_and_generates_it_again(engine: Engine):
    (made,) = engine.generate(request(prompt="a red cat<hypernet:Mood:0.5>", steps=1))
    assert made.infotext.startswith("a red cat<hypernet:Mood:0.5>\n")
    assert "Lora hashes" not in made.infotext
    resolved = engine.resolve(request(prompt="a red cat<hypernet:Mood:0.5>"))
    (own,) = resolved.adapters
    assert (own.kind, own.name) == ("hypernet", "Mood")
    assert type(resolved).from_json(resolved.to_json()) == resolved


def test_a_lora_and_a_hypernetwork_may_have_one_name(models: Path, tmp_path: Path):
    (tmp_path / "lora").mkdir()
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {f"{name}.lora_up.weight": torch.ones(64, 2), f"{name}.lora_down.weight": torch.ones(2, 32)}
    save_file(tensors, tmp_path / "lora" / "Mood.safetensors")
    engine = engine_on(models / "tiny")
    engine.library = Library((tmp_path, models))
    made = {
        image(engine, f"a red cat{tag}") for tag in ("", "<lora:Mood>", "<hypernet:Mood>", "<lora:Mood><hypernet:Mood>")
    }
    assert len(made) == 4


def test_what_it_needs_in_memory_counts(engine: Engine, models: Path):
    resolved = engine.resolve(request(prompt="a red cat<hypernet:Mood>"))
    adapted = Adapted((Merged(resolved.adapters[0], 1.0),))
    borrow, model = engine.resources.borrow, resolved.model
    with borrow(model, DENOISER) as plain, borrow(model, DENOISER, adapted) as changed:
        added = bytes_of(changed, plain)
    tensors = [t for pair in pairs(("linear.0", "linear.2")).values() for own in pair for t in own.values()]
    assert added == 4 * sum(tensor.numel() for tensor in tensors)


def test_what_cannot_be_used_is_one_line(engine: Engine, models: Path, tmp_path: Path):
    for tag, told in {
        "<hypernet:mod>": r"hypernet 'mod' is not there \(nearest: Mood\)|hypernet 'mod' is not there",
        "<hypernet:wide>": "changes states 768 wide; the attentions of tiny read 32, 64",
        "<hypernet:Mood:unet=1>": "hypernet 'Mood' knows a strength alone, not 'unet'",
    }.items():
        with pytest.raises(BadInput, match=told):
            engine.resolve(request(prompt=f"a cat{tag}"))
    warnings: list[str] = []
    engine.resolve(request(prompt="a cat<hypernet:wide>", lenient=True), warnings.append)
    assert warnings[-1].endswith("generated without it")


def bad() -> Iterator[tuple[str, dict[int, tuple[Chain, Chain]], dict[str, object], str]]:
    own = chain(8, 0)
    yield (
        "activation",
        {8: (own, own)},
        {"activation_func": "softmax"},
        "has the activation 'softmax', which is none of",
    )
    yield (
        "ends",
        {8: ({**own, "linear.2.weight": torch.ones(9, 16), "linear.2.bias": torch.ones(9)}, own)},
        {},
        "width 9",
    )
    yield "middle", {8: ({**own, "linear.2.weight": torch.ones(8, 15)}, own)}, {}, "do not follow one another"
    yield "bias", {8: ({k: t for k, t in own.items() if k != "linear.0.bias"}, own)}, {}, "do not follow one another"


@pytest.mark.parametrize("case", list(bad()), ids=lambda case: case[0])
def test_files_that_cannot_be_computed_are_refused(case: tuple[str, dict, dict, str], tmp_path: Path):
    _, chains, said, told = case
    with pytest.raises(BadFile, match=told):
        open_hypernetwork(a1111(tmp_path / "h" / "x.pt", chains, **said))


def test_numbers_that_are_none_and_other_files_are_refused(tmp_path: Path):
    own = chain(8, 0)
    nan = {**own, "linear.0.bias": torch.full((16,), torch.nan)}
    with pytest.raises(BadFile, match="has NaN or infinity in its weights"):
        load_hypernetwork(open_hypernetwork(a1111(tmp_path / "h" / "nan.pt", {8: (own, nan)})))
    save_file({"emb_params": torch.ones(1, 8)}, tmp_path / "x.safetensors")
    with pytest.raises(BadFile, match="is no hypernetwork: it has 1 tensor"):
        open_hypernetwork(tmp_path / "x.safetensors")


@pytest.mark.skipif(not KEYS.is_file(), reason="the list of published keys is not here")
@pytest.mark.parametrize("form", ["example_768_1_2_1_linear", "example_768_1_2_2_1_relu_layernorm", "old_names"])
def test_the_published_forms_are_read(form: str, tmp_path: Path):
    listed = json.loads(KEYS.read_text())
    own = {name: torch.zeros(shape) for name, shape in listed[form].items()}
    said = (
        {}
        if form == "old_names"
        else {**listed["plain_entries"], "activation_func": "relu" if "relu" in form else "linear"}
    )
    file = open_hypernetwork(a1111(tmp_path / "h" / "x.pt", {768: (own, own)}, **said))
    assert file.widths == {768}
    assert load_hypernetwork(file)[768].key(torch.ones(1, 2, 768)).shape == (1, 2, 768)
