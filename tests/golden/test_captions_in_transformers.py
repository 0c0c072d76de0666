"""Captions by BLIP against transformers' own processor and search, with random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from annotator_support import blocks
from atelier.cli.app import run
from atelier.errors import BadFile, BadInput
from atelier.vision import by_transformers
from atelier.vision.sentences import open_captioner

transformers: Any = pytest.importorskip("transformers")
CPU = torch.device("cpu")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "red", "cat", "dog", "sit", "##ting", "on", "##s")
SIDE = 32


def blip() -> torch.nn.Module:
    """Of a vocabulary whose words are near each other: a beam of one finds other sentences than one of three."""
    text = {
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "encoder_hidden_size": 32,
        "intermediate_size": 48,
        "bos_token_id": 5,
    }
    more = {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64, "sep_token_id": 3}
    image = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BlipConfig(
        text_config={**text, **more, "pad_token_id": 0, "eos_token_id": 3, "projection_dim": 16},
        vision_config={**image, "image_size": SIDE, "patch_size": 8, "projection_dim": 16},
        projection_dim=16,
        image_text_hidden_size=16,
    )
    net = transformers.BlipForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3 if "norm" not in name.lower() else 0.05)
    return net


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "blip-tiny"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blip().save_pretrained(place)
    words = place.parent / "vocab.txt"
    words.write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizer(str(words))
    reader = transformers.BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    transformers.BlipProcessor(reader, tokenizer).save_pretrained(place)
    return place


def image(number: int, size: tuple[int, int] = (90, 60)) -> Image.Image:
    return Image.fromarray(blocks(size[1], size[0], seed=number))


def theirs(folder: Path, shown: Image.Image) -> tuple[torch.Tensor, str]:
    """As transformers' documentation does it, with the paper's beam."""
    net = transformers.BlipForConditionalGeneration.from_pretrained(folder)
    processor = transformers.BlipProcessor.from_pretrained(folder)
    given = processor(images=shown, return_tensors="pt")
    ids = net.generate(**given, num_beams=3, do_sample=False, max_new_tokens=40)
    return given["pixel_values"], processor.decode(ids[0], skip_special_tokens=True)


def test_pixels_and_sentences_are_theirs(folder: Path) -> None:
    captioner, found = open_captioner(folder, CPU), set[str]()
    for number in range(6):
        wanted, said = theirs(folder, image(number))
        assert torch.allclose(captioner.pixels(image(number)), wanted, atol=1e-5)
        assert captioner.caption(image(number)) == said
        found.add(said)
    assert len(found - {""}) > 2, "images that are told apart"


def test_what_the_folder_says_of_sampling_is_not_obeyed(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "sampling")
    told = json.loads((other / "generation_config.json").read_text())
    (other / "generation_config.json").write_text(json.dumps({**told, "do_sample": True, "temperature": 9.0}))
    one, two = (open_captioner(own, CPU) for own in (folder, other))
    assert [two.caption(image(1)) for _ in range(3)] == [one.caption(image(1))] * 3


def test_pickled_weights_are_read_and_run_nothing(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "pickled")
    torch.save(load_file(other / "model.safetensors"), other / "pytorch_model.bin")
    (other / "model.safetensors").unlink()
    assert open_captioner(other, CPU).caption(image(2)) == open_captioner(folder, CPU).caption(image(2))


def test_folders_that_are_none_are_refused(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    save_file(
        {name: own for name, own in tensors.items() if "patch_embedding" not in name}, other / "model.safetensors"
    )
    with pytest.raises(BadFile, match=r"other: lacks 2 tensors \(vision_model\.embeddings\.patch_embedding"):
        open_captioner(other, CPU)
    save_file(tensors, other / "model.safetensors")
    for name in ("tokenizer.json", "vocab.txt"):
        (other / name).unlink(missing_ok=True)
    with pytest.raises(BadFile, match=r"other: holds no tokenizer: put its vocab\.txt or tokenizer\.json there"):
        open_captioner(other, CPU)
    (other / "tokenizer.json").write_text("[")
    with pytest.raises(BadFile, match=r"other: is no network that can be used \("):
        open_captioner(other, CPU)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "architectures": ["BlipForQuestionAnswering"]}))
    with pytest.raises(
        BadFile, match=r"of another network \(BlipForQuestionAnswering\): BlipForConditionalGeneration is"
    ):
        open_captioner(other, CPU)
    with pytest.raises(BadFile, match=r"config\.json: cannot be read: get the folder again"):
        open_captioner(tmp_path / "nowhere", CPU)


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        image(number).save(tmp_path / f"{number}.png")
    (tmp_path / "0.txt").write_text("kept")
    (tmp_path / "3.png").write_bytes(b"x")
    assert run(["data", "caption", str(tmp_path), "--blip", str(folder), "--before", "zwx, "]) == 0
    told = capsys.readouterr()
    for number in (1, 2):
        said = f"zwx, {theirs(folder, image(number))[1]}"
        assert (tmp_path / f"{number}.txt").read_text() == f"{said}\n"
        assert f"{tmp_path / f'{number}.txt'}: {said}" in told.out.splitlines()
    assert (tmp_path / "0.txt").read_text() == "kept"
    assert "3.png: broken image" in told.err


@pytest.mark.parametrize(
    "more", [["--model", "embedded"], ["--words", "w"], ["--top", "2"], ["--least", "0.1"], ["--between", " "]]
)
def test_words_of_lists_are_not_for_sentences(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image(0).save(tmp_path / "0.png")
    assert run(["data", "caption", str(tmp_path), "--blip", "nowhere", *more]) == 2
    told = capsys.readouterr().err.strip()
    assert told == "atelier: --blip writes sentences: leave out --model, --words, --top, --least and --between"


def test_no_folder_and_no_package_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image(0).save(tmp_path / "0.png")
    command = ["data", "caption", str(tmp_path), "--blip", str(tmp_path / "nowhere")]
    assert run(command) == 2
    assert "config.json: cannot be read: get the folder again" in capsys.readouterr().err
    monkeypatch.setattr(by_transformers, "find_spec", lambda _: None)
    assert run(command) == 2
    assert "captioning by BLIP needs transformers: pip install 'atelier[depth]'" in capsys.readouterr().err
    with pytest.raises(BadInput, match="needs transformers"):
        open_captioner(tmp_path, CPU)
    assert not list(tmp_path.glob("*.txt"))
