"""Weight adapters that prompts name, on a very small model: found, merged, and never seen by others."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tiny
from atelier.adapters.read import deltas, matched, open_adapter
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import write_diffusers
from atelier.cli.app import run
from atelier.errors import BadInput
from atelier.nn.ports import Conditioning
from atelier.pipeline.resources import DENOISER, PLAIN, Adapted, Merged
from atelier.request.events import Loading
from atelier.request.infotext import read
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from pipeline_support import PLENTY, engine_on, request

UNET = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
TEXT = "lora_te_text_model_encoder_layers_0_mlp_fc1"
SIZES = {UNET: (32, 32), TEXT: (64, 32)}
RANK = 4


def lora(path: Path, *layers: str, seed: int = 0, metadata: dict[str, str] | None = None, **more: Tensor) -> Path:
    """A file as kohya's scripts write it."""
    generator = torch.Generator().manual_seed(seed)
    tensors = dict(more)
    for layer in layers or SIZES:
        out, into = SIZES[layer]
        tensors[f"{layer}.lora_down.weight"] = torch.randn(RANK, into, generator=generator)
        tensors[f"{layer}.lora_up.weight"] = torch.randn(out, RANK, generator=generator)
        tensors[f"{layer}.alpha"] = torch.tensor(float(RANK))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {"format": "pt", **(metadata or {})})
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.folder(folder / "tiny")
    lora(folder / "Lora" / "both.safetensors", metadata={"ss_output_name": "My Style"})
    lora(folder / "Lora" / "only" / "unet.safetensors", UNET, seed=1)
    lora(folder / "Lora" / "words.safetensors", TEXT, seed=2)
    return folder


@pytest.fixture(scope="module")
def engine(models: Path) -> Engine:
    return engine_on(models / "tiny", budget=PLENTY)


def image(engine: Engine, prompt: str, **fields: object) -> bytes:
    (made,) = engine.generate(request(prompt=prompt, **fields))
    return made.image.tobytes()


def test_a_tag_changes_the_image_and_leaves_no_bit(engine: Engine):
    plain = image(engine, "a red cat")
    changed = image(engine, "a red cat<lora:both:0.8>")
    assert changed != plain
    assert image(engine, "a red cat<lora:both:0.4>") not in {plain, changed}
    assert image(engine, "a red cat<lora:both:0>") == plain
    assert image(engine, "a red cat") == plain


def test_the_image_is_that_of_a_model_whose_weights_are_the_sum(engine: Engine, models: Path, tmp_path: Path):
    """W + strength * alpha / r * up @ down, written into the weights of a copy of the model by hand."""
    made = tiny.modules()
    with torch.no_grad():
        file = load_file(models / "Lora" / "both.safetensors")
        for layer, weight in (
            (UNET, made.networks["unet"].down[0].attentions[0].blocks[0].attn2.to_k.weight),
            (TEXT, made.networks["text"].layers[0].mlp.fc1.weight),
        ):
            weight.add_(0.8 * file[f"{layer}.lora_up.weight"] @ file[f"{layer}.lora_down.weight"])
    write_diffusers(made, tmp_path / "tiny")
    by_hand = image(engine_on(tmp_path / "tiny"), "a red cat")
    ours = image(engine, "a red cat<lora:both:0.8>")
    far = np.abs(np.frombuffer(by_hand, np.uint8).astype(int) - np.frombuffer(ours, np.uint8))
    assert far.max() <= 1
    assert by_hand != image(engine, "a red cat")


def test_text_encoder_and_unet_have_strengths_of_their_own(engine: Engine):
    plain, words, net = (image(engine, f"a red cat{tag}") for tag in ("", "<lora:words>", "<lora:unet>"))
    assert len({plain, words, net}) == 3
    assert image(engine, "a red cat<lora:words:0:1>") == plain
    assert image(engine, "a red cat<lora:unet:1:0>") == plain
    assert image(engine, "a red cat<lora:words:te=1:unet=0>") == words
    assert image(engine, "a red cat<lora:both:te=0:unet=1>") != image(engine, "a red cat<lora:both:te=1:unet=0>")
    both = image(engine, "a red cat<lora:words><lora:unet>")
    assert both not in {plain, words, net}


def test_block_weights_and_ranks(engine: Engine):
    """The layer lies in input block 1, the second of the twelve on the way down; BASE is the text encoder."""
    blocks = ["1"] * 26
    whole = image(engine, "a red cat<lora:unet>")
    assert image(engine, f"a red cat<lora:unet:1:lbw={','.join(blocks)}>") == whole
    blocks[2] = "0"
    assert image(engine, f"a red cat<lora:unet:1:{','.join(blocks)}>") == image(engine, "a red cat")
    assert image(engine, f"a red cat<lora:words:1:lbw=0,{','.join(blocks[1:])}>") == image(engine, "a red cat")
    assert image(engine, "a red cat<lora:unet:dyn=2>") not in {whole, image(engine, "a red cat")}
    assert image(engine, f"a red cat<lora:unet:dyn={RANK}>") == whole


def test_every_way_to_name_it_is_the_same_image(engine: Engine, models: Path):
    wanted = image(engine, "a red cat<lora:both:1>")
    for name in ("BOTH", "My Style", "lora/both", "both.safetensors", str(models / "Lora" / "both.safetensors")):
        assert image(engine, f"a red cat<lora:{name}:1>") == wanted
    assert image(engine, "a red cat<lyco:only/unet>") == image(engine, "a red cat<lora:unet>")


def test_requests_at_once_never_see_each_others(engine: Engine):
    prompts = ["a red cat", "a red cat<lora:both:1>", "a red cat<lora:unet:1>", "a red cat<lora:words:-1>"]
    alone = [image(engine, prompt) for prompt in prompts]
    made: dict[int, list[bytes]] = {}

    def work(number: int) -> None:
        made[number] = [image(engine, prompts[(number + i) % 4]) for i in range(4)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == {n: [alone[(n + i) % 4] for i in range(4)] for n in range(4)}


def test_a_second_pass_has_the_networks_of_its_own_prompt(engine: Engine):
    twice = {"hires_upscale": 1.5, "hires_steps": 1, "steps": 1}
    plain, tagged = "a red cat", "a red cat<lora:both:1>"
    made = {
        (first, second): image(engine, first, hires_prompt=second, **twice)
        for first in (plain, tagged)
        for second in (plain, tagged)
    }
    assert len(set(made.values())) == 4
    assert image(engine, tagged, **twice) == made[tagged, tagged]


def test_images_of_one_batch_may_name_others(engine: Engine):
    """The tag is drawn from a choice for each image by itself."""
    prompt = "a red cat{<lora:both:1>|<lora:unet:1>}"
    made = engine.generate(request(prompt=prompt, batch_size=4, choices=True))
    assert len({read(one.infotext).prompt for one in made}) == 2
    for one in made:
        alone = image(engine, read(one.infotext).prompt, seed=one.seed)
        assert one.image.tobytes() == alone


REFUSED = {
    "a red cat<lora:unnet:1>": "prompt: lora 'unnet' is not there (did you mean unet?): take <lora:unnet:1> out, or "
    "generate without it with --lenient",
    "a red cat<lora::1>": "lora '' is not there",
    "a red cat<hypernet:ink:1>": "hypernet 'ink' is not there: take <hypernet:ink:1> out",
    "a red cat<lora:both:begin=3>": "lora 'both' knows te, unet, dyn, lbw, start and end, not 'begin=3'",
    "a red cat<lora:xl:1>": "xl.safetensors: is for Stable Diffusion XL, and tiny is a Stable Diffusion 1.x model",
    "a red cat<lora:wide:1>": f"wide.safetensors: has {UNET} of another shape than the model's layer, 32x32",
    "a red cat<lora:alien:1>": "alien.safetensors: has no layer that tiny has (3 tensors (lora_unet_al",
    "a red cat<lora:broken:1>": "broken.safetensors: ",
    "a red cat<lora:plain:1>": "plain.safetensors: is no LoRA or other weight adapter: it has 1 tensor (a.b)",
    "a red cat<lora:whole:1>": "to_k.lora_dow... as I32, which are no floating numbers: take <lora:",
    "a red cat<lora:boft:1>": "of another shape than the model's layer, 32x32, or as no OFT that is known: it is",
}


@pytest.fixture(scope="module")
def strange(models: Path) -> Path:
    folder = models / "Lora"
    large = {f"{UNET}.lora_down.weight": torch.zeros(4, 2048), f"{UNET}.lora_up.weight": torch.zeros(32, 4)}
    save_file(large, folder / "xl.safetensors")
    wide = {f"{UNET}.lora_down.weight": torch.zeros(4, 32), f"{UNET}.lora_up.weight": torch.zeros(48, 4)}
    save_file(wide, folder / "wide.safetensors")
    names = ("lora_down.weight", "lora_up.weight", "alpha")
    save_file({f"lora_unet_alien.{name}": torch.zeros(2, 2) for name in names}, folder / "alien.safetensors")
    whole = {f"{UNET}.lora_down.weight": torch.ones(4, 32), f"{UNET}.lora_up.weight": torch.ones(32, 4)}
    save_file({name: tensor.int() for name, tensor in whole.items()}, folder / "whole.safetensors")
    save_file({"a.b": torch.zeros(2)}, folder / "plain.safetensors")
    save_file({f"{UNET}.oft_blocks": torch.zeros(2, 8, 4, 5)}, folder / "boft.safetensors")
    (folder / "broken.safetensors").write_bytes(b"\xff" * 100)
    return folder


@pytest.mark.parametrize(("prompt", "told"), REFUSED.items())
def test_what_cannot_be_used_is_told_in_one_line_or_left_out(engine: Engine, strange: Path, prompt: str, told: str):
    with pytest.raises(BadInput) as caught:
        engine.resolve(request(prompt=prompt))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    warnings: list[str] = []
    resolved = engine.resolve(request(prompt=prompt, lenient=True), warnings.append)
    assert resolved.adapters == ()
    assert len(warnings) == 1
    assert warnings[0].endswith(": generated without it")


def test_layers_that_the_model_lacks_are_told_by_name(engine: Engine, models: Path):
    lora(
        models / "Lora" / "more.safetensors",
        UNET,
        **{"lora_unet_up_blocks_7.alpha": torch.tensor(1.0), "odd": torch.ones(1)},
    )
    warnings: list[str] = []
    engine.resolve(request(prompt="a cat<lora:more>"), warnings.append)
    assert warnings == [
        "lora 'more': 2 tensors (lora_unet_up_blocks_7.alpha, odd) left out, which no layer of tiny takes"
    ]


def test_a_file_that_changes_after_it_was_resolved_is_refused(models: Path):
    path = lora(models / "Lora" / "fickle.safetensors", UNET)
    engine = engine_on(models / "tiny")
    resolved = engine.resolve(request(prompt="a cat<lora:fickle>"))
    lora(path, TEXT, UNET, seed=9)
    events = list(engine.run(resolved))
    assert "fickle.safetensors: has changed since the request was resolved" in str(events[-1])


def test_infotexts_say_the_hash_without_the_header(engine: Engine, models: Path):
    """As A1111 does: sshs_model_hash where the file says one, else SHA-256 of what follows the header, 12 digits."""
    data = (models / "Lora" / "both.safetensors").read_bytes()
    digits = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()[:12]
    lora(models / "Lora" / "told.safetensors", UNET, metadata={"sshs_model_hash": "ABCDEF0123456789"})
    (made,) = engine.generate(request(prompt="a <lora:told:0.1> cat<lora:both:1>"))
    assert f'Lora hashes: "told: abcdef012345, both: {digits}"' in made.infotext
    assert read(made.infotext).prompt == "a <lora:told:0.1> cat<lora:both:1>"
    (plain,) = engine.generate(request(prompt="a cat"))
    assert "hashes" not in plain.infotext


def test_an_image_is_generated_again_to_the_last_bit(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ATELIER_MODELS", str(models))
    out = str(tmp_path / "a.png")
    run(["generate", "a red cat<lora:both:0.7>", "--model", "tiny", "--steps", "2", "--seed", "3", "--output", out])
    capsys.readouterr()
    assert run(["generate", "--from", out, "--verify"]) == 0
    assert "equal: every pixel" in capsys.readouterr().out
    lora(models / "Lora" / "both.safetensors", seed=77, metadata={"ss_output_name": "My Style"})
    assert run(["generate", "--from", out, "--verify"]) == 1
    told = capsys.readouterr().out
    assert "lora hashes: 'both: " in told


def test_a_renamed_file_is_found_by_its_hash_and_another_one_is_told(models: Path, tmp_path: Path):
    path = lora(tmp_path / "lora" / "now.safetensors", UNET, seed=5, metadata={"sshs_model_hash": "ab" * 32})
    engine = engine_on(models / "tiny")
    engine.library = Library((tmp_path, models))
    told: list[str] = []
    asked = {"prompt": "a cat<lora:before>", "lora_hashes": "before: ABABABABABAB, both: 0123456789ab"}
    (found,) = engine.resolve(request(**asked), told.append).adapters
    assert (found.name, found.path, found.digits) == ("before", str(path), "ab" * 6)
    assert told == [f"lora 'before' is found by its hash: {path}"]
    engine.resolve(request(**asked | {"prompt": "a cat<lora:both>"}), told.append)
    assert told[-1].startswith("lora 'both': the hash 0123456789ab was asked for; ")
    with pytest.raises(BadInput, match="lora 'before' is not there"):
        engine.resolve(request(prompt="a cat<lora:before>", lora_hashes="before: cdcdcdcdcdcd"))


PEFT = "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"


def of_peft(folder: Path, alpha: int) -> Path:
    """A folder as PEFT saves it: alpha is beside the tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    path, settings = folder / "adapter_model.safetensors", f'{{"peft_type": "LORA", "r": 4, "lora_alpha": {alpha}}}'
    save_file({f"{PEFT}.lora_A.weight": torch.ones(4, 32), f"{PEFT}.lora_B.weight": torch.ones(32, 4) / 64}, path)
    (folder / "adapter_config.json").write_text(settings)
    return path


def test_the_settings_beside_a_file_are_a_part_of_it(models: Path, tmp_path: Path):
    """Equal tensors with another alpha make another image, of another hash, also in the same place."""
    engine = engine_on(models / "tiny", budget=PLENTY)
    path = of_peft(tmp_path / "lora" / "ink", 4)
    of_peft(tmp_path / "lora" / "wash", 32)
    engine.library = Library((tmp_path, models))
    asked = request(prompt="a red cat<lora:ink>")
    before, (made,) = engine.resolve(asked), engine.generate(asked)
    own = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (path.with_name("adapter_config.json"), path)]
    both = f"adapter_config.json {own[0]}\nadapter_model.safetensors {own[1]}\n"
    digest = hashlib.sha256(both.encode()).hexdigest()
    assert (before.adapters[0].sha256, before.adapters[0].digits) == (digest, digest[:12])
    (other,) = engine.resolve(request(prompt="a red cat<lora:wash>")).adapters
    assert other.sha256 != digest
    assert other.digits != digest[:12]
    of_peft(tmp_path / "lora" / "ink", 32)
    assert "adapter_model.safetensors: has changed" in str(list(engine_on(models / "tiny").run(before))[-1])
    (again,) = engine.generate(asked)
    assert again.image.tobytes() != made.image.tobytes()
    assert again.image.tobytes() == image(engine, "a red cat<lora:wash>")


def test_a_renamed_folder_of_peft_is_found_by_its_hash(models: Path, tmp_path: Path):
    path = of_peft(tmp_path / "lora" / "ink", 4)
    engine = engine_on(models / "tiny")
    engine.library = Library((tmp_path, models))
    digits = engine.resolve(request(prompt="a cat<lora:ink>")).adapters[0].digits
    (tmp_path / "lora" / "ink").rename(tmp_path / "lora" / "renamed")
    engine.resolve(request(prompt="a cat<lora:renamed>"))
    told: list[str] = []
    asked = request(prompt="a cat<lora:ink>", lora_hashes=f"ink: {digits}")
    (found,) = engine.resolve(asked, told.append).adapters
    assert found.path == str(path.parent.with_name("renamed") / path.name)
    assert told == [f"lora 'ink' is found by its hash: {found.path}"]
    unread = engine_on(models / "tiny")
    unread.library = engine.library
    with pytest.raises(BadInput, match="lora 'ink' is not there"):
        unread.resolve(asked)


def test_deltas_are_made_where_the_network_is(models: Path):
    found = matched(open_adapter(models / "Lora" / "both.safetensors"), open_checkpoint(models / "tiny"))
    made = deltas(found, "unet", device=torch.device("meta"))
    assert [(delta.up.device.type, delta.down.device.type) for delta, _ in made.values()] == [("meta", "meta")]


def test_a_changed_network_is_counted_by_what_it_does_not_share(models: Path):
    """One weight of the U-Net and one of the text encoder, both in float32."""
    engine = engine_on(models / "tiny", budget=PLENTY)
    engine.generate(request(steps=1))
    plain = engine.resources.cache.bytes
    engine.generate(request(prompt="a red cat<lora:both:0.8>", steps=1))
    assert engine.resources.cache.bytes - plain == sum(4 * out * into for out, into in SIZES.values())


def test_a_budget_for_one_model_holds_it_with_a_lora_too(models: Path):
    """As large as the plain networks and the two changed weights: nothing has to be read again."""
    room = engine_on(models / "tiny", budget=PLENTY)
    room.generate(request(prompt="a red cat<lora:both:0.8>", steps=1))
    engine = engine_on(models / "tiny", budget=room.resources.cache.bytes)
    for _ in range(2):
        told = list(engine.events(request(prompt="a red cat<lora:both:0.8>", steps=1)))
    assert not [event for event in told if isinstance(event, Loading)]
    told = list(engine.events(request(steps=1)))
    assert not [event for event in told if isinstance(event, Loading)]


class Operations(TorchDispatchMode):
    """Notes what torch computes, and on tensors of which shapes and layouts."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        del types
        given = [(x.shape, x.stride(), x.dtype) for x in tree_leaves(args) if isinstance(x, Tensor)]
        self.seen.append((str(func), given))
        return func(*args, **(kwargs or {}))


def test_a_step_with_a_merged_network_computes_what_it_does_without(engine: Engine):
    """The same operations on tensors of the same shapes and layouts, one after the other."""
    resolved = engine.resolve(request(prompt="a red cat<lora:both:0.8>"))
    adapted = Adapted((Merged(resolved.adapters[0], 0.8),))
    noted: list[list[object]] = []
    for how in (PLAIN, adapted):
        with engine.resources.borrow(resolved.model, DENOISER, how) as net, Operations() as counted, torch.no_grad():
            net(torch.ones(1, 4, 16, 16), torch.tensor([5.0]), Conditioning(torch.ones(1, 12, 32)))
        noted.append(counted.seen)
    assert noted[0] == noted[1]
    assert len(noted[0]) > 100


@pytest.mark.parametrize(
    ("tag", "acting"),
    [
        ("start=0.5", "0011"),
        ("end=0.5", "1100"),
        ("start=0.25:end=0.75", "0110"),
        ("start=0:end=1", "1111"),
        ("start=0.6:end=0.4", "0000"),
        ("start=0.3", "0011"),
    ],
)
def test_a_network_acts_within_its_share_of_the_steps(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tag: str, acting: str
):
    """Euler calls the network once a step: which of the two it is, is seen by the weight that the file changes."""
    name, seen = "down.0.attentions.0.blocks.0.attn2.to_k.weight", list[str]()
    with engine.resources.borrow(engine.resolve(request()).model, DENOISER) as net:
        plain = net.state_dict()[name].clone()
        forward = type(net).forward

    def watched(self: torch.nn.Module, *arguments: Any) -> Any:
        seen.append("0" if torch.equal(self.state_dict()[name], plain) else "1")
        return forward(self, *arguments)

    monkeypatch.setattr(type(net), "forward", watched)
    made = image(engine, f"a red cat<lora:unet:1:{tag}>", steps=4, sampler="Euler")
    assert "".join(seen) == acting
    if acting == "1111":
        assert made == image(engine, "a red cat<lora:unet:1>", steps=4, sampler="Euler")


def test_two_networks_in_turn(engine: Engine):
    """What acts first, and what acts last, are each as without the other there."""
    one = "<lora:unet:te=0:unet=1:end=0.5>"
    made = image(engine, f"a red cat{one}<lora:both:te=0:unet=0.5:start=0.5>", steps=4)
    assert made not in {image(engine, f"a red cat{one}", steps=4), image(engine, "a red cat", steps=4)}
    again = image(engine, f"a red cat{one}<lora:unet:te=0:unet=1:start=0.5>", steps=4)
    assert again == image(engine, "a red cat<lora:unet:te=0:unet=1>", steps=4)


def test_a_share_that_is_none_is_told(engine: Engine):
    told: list[str] = []
    engine.resolve(request(prompt="a red cat<lora:unet:1:start=3>"), told.append)
    assert told == ["<lora:unet:1:start=3>: start is a share of the steps, 0 to 1, not 3; 0 is used"]
