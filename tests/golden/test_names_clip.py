"""CLIP's towers against transformers': key sets at true size, numbers at tiny sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from atelier.checkpoints.text import ClipTower
from atelier.families.facts import PartFacts
from atelier.families.parts import clip
from atelier.families.shapes import Shapes
from atelier.models.clip import ClipText, ClipVision, TextSpec
from atelier.prompt import Weighted, chunk, inversions
from atelier.weights.archive import Stored, open_file
from atelier.weights.load import load_into, read
from atelier.weights.names.clip import names, vision_names
from atelier.weights.tokenizer import ClipTokenizer
from weights_support import assert_close, fill, published, stored

SD1 = 123_060_480
PREFIX = "cond_stage_model."


def test_true_size_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        net = ClipText(TextSpec())
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    listed = list(names(net.spec))
    assert sum(parameter.numel() for parameter in net.parameters()) == SD1
    assert {name.ours for name in listed} == shapes.keys()
    ids = "text_model.embeddings.position_ids"
    required = {key: shape for key, shape in published("sd1_ldm_required").items() if key.startswith(PREFIX)}
    assert {PREFIX + name.ldm: shapes[name.ours] for name in listed} == {
        key: shape for key, shape in required.items() if not key.endswith(ids)
    }
    folder = {key: shape for key, shape in published("text_encoder_clip_l_hf").items() if key != ids}
    assert {name.diffusers: shapes[name.ours] for name in listed} == folder


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("projection", [None, 24])
def test_text_states_are_those_of_transformers(act: str, projection: int | None, tmp_path: Path) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=99,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=3,
        max_position_embeddings=16,
        hidden_act=act,
        eos_token_id=98,
        bos_token_id=97,
        pad_token_id=0,
        projection_dim=projection or 1,
    )
    theirs = fill(CLIPTextModel(config) if projection is None else CLIPTextModelWithProjection(config))
    part = stored(theirs, tmp_path)
    spec = clip.infer_text(Shapes.of(part), PartFacts(heads=(3,), act="gelu" if act == "gelu" else "quick_gelu"))
    ours = load_into(lambda: ClipText(spec), read(part, names(spec)))
    tokens = torch.randint(0, 97, (2, 16))
    tokens[:, 0], tokens[0, 7], tokens[1, 15] = 97, 98, 98
    with torch.no_grad():
        expected, found = theirs(tokens, output_hidden_states=True), ours(tokens)
    assert_close(found.last, expected.last_hidden_state)
    for mine, foreign in zip(found.hidden, expected.hidden_states, strict=True):
        assert_close(mine, foreign)
    assert_close(found.pooled, expected.pooler_output if projection is None else expected.text_embeds)


def test_vision_embedding_is_that_of_transformers(tmp_path: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=20,
    )
    theirs = fill(CLIPVisionModelWithProjection(config))
    part = stored(theirs, tmp_path)
    tolerant = Stored(part.archive, "diffusers", "", lambda name: name.endswith("position_ids"))
    spec = clip.infer_vision(Shapes.of(tolerant), PartFacts(heads=(4,)))
    assert (spec.image, spec.patch, spec.projection) == (32, 8, 20)
    ours = load_into(lambda: ClipVision(spec), read(tolerant, vision_names(spec)))
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected, found = theirs(image), ours(image)
    assert found.embedding is not None
    assert_close(found.hidden[-1], expected.last_hidden_state)
    assert_close(found.embedding, expected.image_embeds)


def test_both_spellings_of_the_text_tower_are_read(tmp_path: Path) -> None:
    spec = TextSpec(vocab=20, width=8, layers=1, heads=2, mlp=16, positions=4)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in ClipText(spec).state_dict().items()}
    for layout in ("ldm", "diffusers"):
        for level in ("text_model.", ""):
            tensors = {name.stored(layout).replace("text_model.", level): shapes[name.ours] for name in names(spec)}
            path = tmp_path / f"{layout}{level}.safetensors"
            save_file({name: torch.randn(shape) for name, shape in tensors.items()}, path)
            part = Stored(open_file(path), layout)
            assert clip.infer_text(Shapes.of(part), PartFacts(heads=(2,))) == TextSpec(**{**_fields(spec), "eos": 19})
            assert read(part, names(spec)).keys() == shapes.keys()


def _fields(spec: TextSpec) -> dict[str, object]:
    return {name: getattr(spec, name) for name in TextSpec.__dataclass_fields__}


def test_clip_skip_takes_an_earlier_layer_through_the_final_norm() -> None:
    from atelier.errors import BadInput

    tokenizer = ClipTokenizer.from_merges([("c", "a"), ("ca", "t</w>")], positions=8)
    spec = TextSpec(vocab=tokenizer.size, width=16, layers=3, heads=2, mlp=16, positions=8, eos=tokenizer.eos)
    net = ClipText(spec).eval()
    tower = ClipTower(net, tokenizer)
    chunks = [chunk([Weighted(text)], tower.tokenize, tower.marks).chunks[0] for text in ("a cat", "")]
    assert [list(own.tokens) for own in chunks] == [tokenizer.ids("a cat"), tokenizer.ids("")]
    with torch.no_grad():
        states = net(torch.tensor([own.tokens for own in chunks]))
        for skip in (1, 2, 3):
            said = tower.encode(chunks, skip)
            assert torch.equal(said.tokens, net.final_norm(states.hidden[-skip]))
            assert torch.equal(said.pooled, states.pooled)
        deep = ClipTower(net, tokenizer, least_skip=2, normed=False)
        for skip, taken in ((1, 2), (2, 2), (3, 3)):
            assert torch.equal(deep.encode(chunks, skip).tokens, states.hidden[-taken])
    for skip in (0, 4):
        with pytest.raises(BadInput, match="3 layers"):
            tower.encode(chunks, skip)


@torch.no_grad()
def test_vectors_of_an_inversion_stand_where_its_name_stood() -> None:
    """Vectors that equal the embeddings of two words give what the words give; the states say where they were put."""
    from atelier.errors import BadInput

    tokenizer = ClipTokenizer.from_merges([("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")], positions=8)
    spec = TextSpec(vocab=tokenizer.size, width=16, layers=2, heads=2, mlp=16, positions=8, eos=tokenizer.eos)
    net = ClipText(spec).eval()
    tower = ClipTower(net, tokenizer)
    cat, dog, x = (tokenizer.encode(word)[0] for word in ("cat", "dog", "x"))
    embedding = net.token_embedding.weight
    vectors = {"x": torch.stack([embedding[dog], embedding[cat]])}

    known = inversions({"x": 2}, tower.tokenize)
    (learned,) = chunk([Weighted("cat x cat")], tower.tokenize, tower.marks, known).chunks
    (words,) = chunk([Weighted("cat dog cat cat")], tower.tokenize, tower.marks).chunks
    assert words.tokens[1:5] == (cat, dog, cat, cat)
    assert learned.tokens != words.tokens
    taught = replace(tower, vectors=vectors)
    assert torch.equal(taught.encode([learned, words]).tokens[0], tower.encode([words, words]).tokens[0])
    assert taught.inversions == known
    assert torch.equal(embedding, net.token_embedding.weight)
    assert not torch.equal(vectors["x"][0], embedding[x])
    with pytest.raises(BadInput, match="inversion 'x' is not there"):
        tower.encode([learned])
    for wrong in (torch.zeros(1, 16), torch.zeros(2, 17)):
        with pytest.raises(BadInput, match="inversion 'x' is not for this model"):
            replace(tower, vectors={"x": wrong}).encode([learned])
