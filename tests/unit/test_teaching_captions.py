"""What text encoders that are not taught make of captions: encoded once, kept on disk, named by all that made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import taught_support as teaching
import tiny
import tiny_sd
import tiny_sd3
import training_support as support
from atelier.checkpoints.text import ClipTower
from atelier.checkpoints.write import write_diffusers
from atelier.families.telling import Said
from atelier.nn.ports import Conditioning
from atelier.train.data.excerpts import Excerpt
from atelier.train.tasks.teaching import caption_of
from atelier.train.teaching import kept_captions
from atelier.train.teaching.base import Base, Caption, base_of, conditioning_of, opened, states_of
from atelier.train.teaching.kept_captions import KeptCaptions, text_encoder_digest

pytestmark = pytest.mark.usefixtures("one_thread")
MODELS = {"SD 1": tiny.modules, "SDXL": tiny_sd.sdxl, "SD3 without T5": lambda: tiny_sd3.modules(("text", "text2"))}
CAPTIONS = (Caption("a red cat", 64, 48), Caption("dog", 64, 48, Said(original=(90, 80), top=1, left=2)))
LONG = "a cat and a dog, " * 30


def opened_base(model: str, folder: Path, dtype: torch.dtype = torch.float32, clip_skip: int = 1) -> Base:
    path = folder / model
    if not path.exists():
        write_diffusers(MODELS[model](), path)
    return base_of(opened(str(path)), torch.device("cpu"), dtype, clip_skip)


def kept(base: Base, folder: Path) -> KeptCaptions:
    return KeptCaptions(base, states_of(base, base.encoder, [""]), folder)


def parts(said: Conditioning) -> dict[str, Tensor]:
    found = {"tokens": said.tokens, "pooled": said.pooled, "sizes": said.sizes}
    return {name: own for name, own in found.items() if own is not None}


def refuse(*_: object) -> Conditioning:
    pytest.fail("a caption was encoded again")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_a_second_run_reads_what_the_first_encoded(
    model: str, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit by bit, of the same type, and as if each caption had been encoded alone without any cache."""
    base = opened_base(model, tmp_path, dtype)
    first = parts(kept(base, tmp_path / "texts")(CAPTIONS, 1))
    alone = [parts(conditioning_of(base, base.encoder, [own])) for own in CAPTIONS]
    monkeypatch.setattr(kept_captions, "states_of", refuse)
    second = parts(kept(base, tmp_path / "texts")(CAPTIONS, 1))
    assert first.keys() == second.keys() == alone[0].keys()
    for name, own in first.items():
        for other in (second[name], torch.cat([row[name] for row in alone])):
            assert other.dtype == own.dtype
            assert torch.equal(other, own)


def test_rows_get_as_many_chunks_as_the_longest(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_of(opened(str(tiny_file)), torch.device("cpu"), torch.float32)
    captions = (CAPTIONS[0], Caption(LONG, 64, 48))
    wanted = conditioning_of(base, base.encoder, captions).tokens
    assert wanted.shape[1] > 2 * base.encoder.towers[0].tokenizer.positions
    first = kept(base, tmp_path)(captions, 1).tokens
    assert torch.allclose(first, wanted, atol=1e-5)
    monkeypatch.setattr(kept_captions, "states_of", refuse)
    assert torch.equal(kept(base, tmp_path)(captions, 1).tokens, first)


def weight(base: Base) -> Base:
    with torch.no_grad():
        next(iter(base.encoder.nets[-1].parameters()))[0, 0] += 1e-6
    return base


def towers(change: Callable[[ClipTower], ClipTower]) -> Callable[[Base], Base]:
    def changed(base: Base) -> Base:
        (tower,) = base.encoder.towers
        assert isinstance(tower, ClipTower)
        return replace(base, encoder=replace(base.encoder, towers=(change(tower),)))

    return changed


OTHERS: dict[str, Callable[[Base], Base]] = {
    "a weight": weight,
    "clip skip": lambda base: replace(base, clip_skip=2),
    "the tokenizer": towers(lambda own: replace(own, tokenizer=replace(own.tokenizer, pad_token="!"))),
    "the final norm": towers(lambda own: replace(own, normed=False)),
    "the least skip": towers(lambda own: replace(own, least_skip=2)),
    "layers that are cut off": towers(lambda own: replace(own, cut_off=1)),
}


@pytest.mark.parametrize("change", OTHERS)
def test_another_encoder_or_another_reading_is_encoded_anew(change: str, tmp_path: Path) -> None:
    base = opened_base("SD 1", tmp_path)
    kept(base, tmp_path / "texts")(CAPTIONS, 1)
    assert len(list((tmp_path / "texts").glob("*.npz"))) == 2
    other = OTHERS[change](base)
    found = kept(other, tmp_path / "texts")(CAPTIONS, 1)
    assert len(list((tmp_path / "texts").glob("*.npz"))) == 4
    for number, own in enumerate(CAPTIONS):
        assert torch.equal(found.tokens[number], conditioning_of(other, other.encoder, [own]).tokens[0])


def test_another_number_of_chunks_is_another_key(tmp_path: Path) -> None:
    base = opened_base("SD 1", tmp_path)
    own = kept(base, tmp_path / "texts")
    one, two = (own(CAPTIONS, count).tokens for count in (1, 2))
    assert (two.shape[1], len(list((tmp_path / "texts").glob("*.npz")))) == (2 * one.shape[1], 4)


def test_sizes_are_told_anew(tmp_path: Path) -> None:
    """What XL is told beside the words is not of the encoders: one file serves all sizes."""
    base = opened_base("SDXL", tmp_path)
    own = kept(base, tmp_path / "texts")
    sizes = [own([replace(CAPTIONS[0], width=width)], 1).sizes for width in (48, 64)]
    assert [found.tolist() for found in sizes if found is not None] == [
        [[64, 48, 0, 0, 64, 48]],
        [[64, 64, 0, 0, 64, 64]],
    ]
    assert len(list((tmp_path / "texts").glob("*.npz"))) == 1


def test_the_digest_is_of_every_text_encoder_and_of_nothing_else(tmp_path: Path) -> None:
    base = opened_base("SDXL", tmp_path)
    before = text_encoder_digest(base)
    with torch.no_grad():
        next(base.net.parameters()).add_(1)
    assert text_encoder_digest(base) == before == text_encoder_digest(opened_base("SDXL", tmp_path))
    assert text_encoder_digest(opened_base("SDXL", tmp_path, torch.bfloat16)) != before
    for net in base.encoder.nets:
        with torch.no_grad():
            next(net.parameters())[0, 0] += 1e-3
        assert text_encoder_digest(base) != before
        before = text_encoder_digest(base)


def test_no_more_than_fit_are_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_captions, "CACHED", 1)
    own = kept(opened_base("SD 1", tmp_path), tmp_path / "texts")
    own(CAPTIONS, 1)
    assert len(own) == 1


@pytest.mark.parametrize("kind", ["lora", "dreambooth", "control"])
def test_a_run_that_goes_on_encodes_no_caption_again(
    kind: str, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor for what it validates; and the weights are those of a run that nothing interrupted."""
    more = (
        {"control__annotator": "canny", "control__widths": [4, 4, 4], "data__dropout": 0} if kind == "control" else {}
    )
    images = teaching.images(tmp_path / "images")
    told = {**teaching.changes(kind, tiny_file, images, **more), "run.validate_every": 2}
    support.trained(support.recipe(kind, told), tmp_path / "unbroken")
    support.trained(support.recipe(kind, {**told, "run.steps": 2}), tmp_path / "run")
    assert list((tmp_path / "run" / "texts").glob("*.npz"))
    monkeypatch.setattr(kept_captions, "states_of", refuse)
    monkeypatch.setattr("atelier.train.tasks.teaching.conditioning_of", refuse)
    support.trained(support.recipe(kind, told), tmp_path / "run")
    assert support.result(tmp_path / "run") == support.result(tmp_path / "unbroken")


@pytest.mark.parametrize(("kind", "more"), [("lora", {"targets__text": True}), ("inversion", {"data__prefix": "zwx "})])
def test_where_texts_are_learned_nothing_is_kept(
    kind: str, more: dict[str, object], tiny_file: Path, tmp_path: Path
) -> None:
    told = teaching.changes(kind, tiny_file, teaching.images(tmp_path / "images"), run__steps=1, **more)
    support.trained(support.recipe(kind, told), tmp_path / "run")
    assert not (tmp_path / "run" / "texts").exists()


@pytest.mark.parametrize(("flipped", "left"), [(False, 10), (True, 6)])
def test_a_caption_carries_the_sizes_of_its_image(flipped: bool, left: int) -> None:
    """Height before width; in a flipped image the part lies as far from the left as it did from the right."""
    seen = Excerpt(Path("a.png"), (64, 48), (80, 50), 10, 2, flipped=flipped, original=(800, 500), caption="a cat")
    assert caption_of(seen) == Caption("a cat", 48, 64, Said(original=(500, 800), top=2, left=left))
