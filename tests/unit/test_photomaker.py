"""PhotoMaker: the published list, the formulas written out, its LoRA, and the words that stand for a person."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

import tiny
import tiny_sd
from atelier.adapters.photomaker import expanded, open_photomaker, photomaker_lora
from atelier.adapters.read import deltas, matched
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import write_ldm
from atelier.errors import BadFile, BadInput
from atelier.families.facts import NO_FACTS
from atelier.families.parts.photomaker import NETWORK
from atelier.families.shapes import Shapes
from atelier.models.clip import VisionSpec
from atelier.models.ip_adapter import FaceSpec
from atelier.models.photomaker import PhotoMaker
from atelier.weights.archive import Stored, open_any
from atelier.weights.load import match
from key_lists import key_list, sparse
from photomaker_support import FACE, WIDTH, made


@pytest.fixture(autouse=True, name="no_gradients")
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("xl") / "xl.safetensors"
    write_ldm(tiny_sd.sdxl(), path)
    return open_checkpoint(path)


@pytest.mark.parametrize("version", [1, 2])
def test_the_published_file_has_these_names_and_shapes(version: int, tmp_path: Path) -> None:
    listed = {n: s for n, s in key_list("photomaker_v2").items() if version == 2 or "qformer" not in n}
    archive = open_any(sparse(tmp_path / "x.safetensors", listed))
    stored = Stored(archive, "ldm", "id_encoder.")
    spec = NETWORK.infer(Shapes.of(stored), NO_FACTS)
    assert (spec.vision, spec.second, spec.width) == (VisionSpec(), 1280, 2048)
    assert (spec.face is None) == (version == 1)
    assert spec.face is None or (spec.face.states.heads, spec.face.face.tokens) == (16, 2)
    with torch.device("meta"):
        own = {n: tuple(t.shape) for n, t in PhotoMaker(spec).state_dict().items()}
    for name, spelling in match(stored, NETWORK.names(spec)).items():
        rows, shape = name.rows("ldm"), archive.tensors[f"id_encoder.{spelling}"].shape
        assert own.pop(name.ours) == (shape if rows is None else (rows.count, *shape[1:]))
    assert not own


@pytest.mark.parametrize("face", [None, FACE])
def test_a_person_takes_the_place_of_the_class_word(face: FaceSpec | None, model: Checkpoint, tmp_path: Path) -> None:
    net, file = made(face)
    save_file(file, tmp_path / "x.safetensors")
    found = open_photomaker(tmp_path / "x.safetensors", model, torch.float32)
    pixels, faces = torch.rand(3, 3, 28, 28), torch.randn(3, 512)
    person = found.person(pixels, faces)
    assert torch.equal(person, net.person(pixels, faces))
    seen = net.vision(pixels)
    if face is None:
        assert seen.embedding is not None
        second = seen.pooled @ file["id_encoder.visual_projection_2.weight"].T
        assert torch.allclose(person, torch.cat([seen.embedding, second], dim=1), atol=1e-5)
    count = 3 * found.tokens_per_image
    assert person.shape == (count, WIDTH)
    states, places = torch.randn(2, 12, WIDTH), torch.arange(4, 4 + count)
    merged = found.merged(states, person, places)
    expected = states.clone()
    for row in range(2):
        for k in range(count):
            expected[row, 4 + k] = fused(file, states[row, 4 + k], person[k])
    assert torch.allclose(merged, expected, atol=1e-5)


def fused(file: dict[str, Tensor], word: Tensor, person: Tensor) -> Tensor:
    """Layer by layer, from the file."""
    at = "id_encoder.fuse_module."

    def layer(x: Tensor, name: str) -> Tensor:
        x = F.layer_norm(x, x.shape, file[f"{at}{name}.layernorm.weight"], file[f"{at}{name}.layernorm.bias"])
        x = F.gelu(file[f"{at}{name}.fc1.weight"] @ x + file[f"{at}{name}.fc1.bias"])
        return file[f"{at}{name}.fc2.weight"] @ x + file[f"{at}{name}.fc2.bias"]

    first = layer(torch.cat([word, person]), "mlp1") + word
    second = first + layer(first, "mlp2")
    return F.layer_norm(second, second.shape, file[f"{at}layer_norm.weight"], file[f"{at}layer_norm.bias"])


def test_version_2_needs_faces() -> None:
    net, _ = made(FACE)
    with pytest.raises(ValueError, match="faces"):
        net.person(torch.rand(1, 3, 28, 28), None)


def test_its_lora_is_for_the_unet(model: Checkpoint, tmp_path: Path) -> None:
    _, file = made(None)
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora"
    down, up = torch.randn(2, WIDTH), torch.randn(64, 2)
    file |= {f"lora_weights.unet.{layer}.down.weight": down, f"lora_weights.unet.{layer}.up.weight": up}
    save_file(file, tmp_path / "x.safetensors")
    open_photomaker(tmp_path / "x.safetensors", model, torch.float32)
    own = photomaker_lora(open_any(tmp_path / "x.safetensors"))
    assert own is not None
    ((name, (delta, _)),) = deltas(matched(own, model), "unet").items()
    assert name == "middle.attention.blocks.0.attn2.to_k.weight"
    assert torch.allclose(delta.fold(torch.zeros(64, WIDTH), 1.0), up @ down, atol=1e-5)


def test_what_does_not_fit_is_refused(model: Checkpoint, tmp_path: Path) -> None:
    _, file = made(None)
    save_file(file, tmp_path / "x.safetensors")
    small = open_checkpoint(tiny.single_file(tmp_path / "tiny.safetensors"))
    with pytest.raises(BadFile, match="PhotoMaker of Stable Diffusion XL, for text states 80 wide, and tiny is"):
        open_photomaker(tmp_path / "x.safetensors", small, torch.float32)
    save_file({"x": torch.zeros(1)}, tmp_path / "y.safetensors")
    with pytest.raises(BadFile, match="is no PhotoMaker: it has 1 tensor"):
        open_photomaker(tmp_path / "y.safetensors", model, torch.float32)


def test_the_class_word_stands_once_for_each_token() -> None:
    assert expanded([320, 786, 9, 4], trigger=9, count=3) == ([320, 786, 786, 786, 4], range(1, 4))
    for ids in ([9, 320], [320, 786], [320, 9, 786, 9]):
        with pytest.raises(BadInput, match="needs the word img once"):
            expanded(ids, trigger=9, count=1)
