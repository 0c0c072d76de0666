"""CLIP's image encoders against transformers: files in every spelling, numbers, what is done to an image before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from atelier.adapters.image_features import image_features, suits
from atelier.adapters.steering import Needs
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.embedded import embedded_folder
from atelier.checkpoints.image_encoder import ImageEncoder, open_image_encoder, own_image_encoder, squared, stored_in
from atelier.checkpoints.kind import identify, kinds
from atelier.checkpoints.opening import open_checkpoint
from atelier.errors import BadFile, BadInput
from atelier.families.facts import NO_FACTS
from atelier.families.parts import clip, openclip
from atelier.families.shapes import Shapes
from atelier.models.clip import ClipVision, VisionSpec
from atelier.weights.archive import open_any
from atelier.weights.load import match
from key_lists import key_list, sparse
from weights_support import assert_close, fill

SIDE, WIDTH = 56, 48


def foreign(*, projected: bool = True, **config: Any) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection

    own = {"hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3}
    kind = CLIPVisionModelWithProjection if projected else CLIPVisionModel
    config = {**own, "image_size": SIDE, "patch_size": 14, "projection_dim": 20, "hidden_act": "gelu", **config}
    return fill(kind(CLIPVisionConfig(**config))).requires_grad_(requires_grad=False)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth and coloured, so that a shift of a pixel shows."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def saved(net: Any, folder: Path, *, settings: bool = True) -> Path:
    save_file({n: t.contiguous() for n, t in net.state_dict().items()}, folder / "model.safetensors")
    if settings:
        (folder / "config.json").write_text(json.dumps({"model_type": "clip_vision_model", **net.config.to_dict()}))
    return folder


@pytest.mark.parametrize("size", [(64, 64), (300, 200), (123, 457), (60, 97), (40, 31)])
def test_an_image_is_cut_as_transformers_cuts_it(size: tuple[int, int]) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    image = picture(*size)
    theirs = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    expected = theirs(images=image, return_tensors="pt").pixel_values
    encoder = ImageEncoder(ClipVision(VisionSpec(SIDE, 14, 32, 1, 1, 32)), "x")
    assert encoder.pixels([image]).shape == (1, 3, SIDE, SIDE)
    assert float((encoder.pixels([image]) - expected).abs().max()) <= 1e-5


def test_at_the_published_size_as_well() -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    image = picture(640, 427).convert("RGBA")
    expected = CLIPImageProcessorPil(do_normalize=False)(images=image, return_tensors="pt").pixel_values[0]
    assert float((squared(image, 224) - expected).abs().max()) <= 1e-6


@pytest.mark.parametrize("config", [{}, {"hidden_act": "quick_gelu"}, {"num_attention_heads": 2}])
def test_states_and_embedding_are_those_of_transformers(config: dict[str, Any], tmp_path: Path) -> None:
    net = foreign(**config)
    encoder = open_image_encoder(saved(net, tmp_path))
    images = [picture(80, 60), picture(56, 56, 1)]
    expected = net(encoder.pixels(images), output_hidden_states=True)
    own = encoder.states(images)
    assert own.embedding is not None
    assert_close(own.embedding, expected.image_embeds)
    assert own.hidden[-2].shape == (2, 17, WIDTH)
    assert_close(own.hidden[-2], expected.hidden_states[-2])
    nothing = net(torch.zeros(1, 3, SIDE, SIDE), output_hidden_states=True).hidden_states[-2]
    assert_close(encoder.nothing().hidden[-2], nothing)


def test_a_tower_without_projection_has_bare_names(tmp_path: Path) -> None:
    """Of recent transformers."""
    net = foreign(projected=False)
    assert any(name.startswith("encoder.layers.0") for name in net.state_dict())
    encoder = open_image_encoder(saved(net, tmp_path))
    images = [picture(80, 60)]
    assert_close(encoder.states(images).hidden[-1], net(encoder.pixels(images)).last_hidden_state)
    assert encoder.states(images).embedding is None
    assert not suits(encoder, Needs("embedding", 20))


def test_openclips_names_are_read(tmp_path: Path) -> None:
    """Written out here from transformers' network: query, key and value in one, the projection turned."""
    net = foreign(hidden_act="quick_gelu")
    state = net.state_dict()
    made: dict[str, Tensor] = {
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T.contiguous(),
    }
    around = (("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm"))
    inner = (("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"), ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2"))
    for kind in ("weight", "bias"):
        made |= {f"visual.{own}.{kind}": state[f"vision_model.{their}.{kind}"] for own, their in around}
        for i in range(3):
            own, their = f"visual.transformer.resblocks.{i}", f"vision_model.encoder.layers.{i}"
            made |= {f"{own}.{a}.{kind}": state[f"{their}.{b}.{kind}"] for a, b in inner}
            made[f"{own}.attn.out_proj.{kind}"] = state[f"{their}.self_attn.out_proj.{kind}"]
            rows = [state[f"{their}.self_attn.{n}_proj.{kind}"] for n in "qkv"]
            made[f"{own}.attn.in_proj_{kind}"] = torch.cat(rows)
    save_file(made, tmp_path / "visual.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "clip_vision_model", "num_attention_heads": 3}')
    encoder = open_image_encoder(tmp_path / "visual.safetensors")
    expected = net(encoder.pixels([picture(80, 60)])).image_embeds
    own_embedding = encoder.states([picture(80, 60)]).embedding
    assert own_embedding is not None
    assert_close(own_embedding, expected)


@pytest.mark.parametrize(
    ("name", "spec", "parameters"),
    [
        ("clip_vision_h", VisionSpec(224, 14, 1280, 32, 16, 5120, "gelu", 1024), 632_076_800),
        ("clip_vision_g", VisionSpec(224, 14, 1664, 48, 16, 8192, "gelu", 1280), 1_844_907_264),
    ],
)
def test_published_encoders_are_known(name: str, spec: VisionSpec, parameters: int, tmp_path: Path) -> None:
    archive = open_any(sparse(tmp_path / "x.safetensors", key_list(name)))
    identity = identify(archive)
    assert identity is not None
    assert kinds()["image_encoder"].reads(identity)

    stored = stored_in(archive)
    assert clip.infer_vision(Shapes.of(stored), NO_FACTS) == spec
    with torch.device("meta"):
        net = ClipVision(spec)
    shapes = {n.ours: archive.tensors[s].shape for n, s in match(stored, clip.names.vision_names(spec)).items()}
    assert {n: tuple(t.shape) for n, t in net.state_dict().items()} == shapes
    assert sum(tensor.numel() for tensor in net.parameters()) == parameters


def test_openais_encoder_is_known_from_its_width() -> None:
    with torch.device("meta"):
        state = ClipVision(VisionSpec()).state_dict()
    found = {n.diffusers: tuple(state[n.ours].shape) for n in clip.names.vision_names(VisionSpec())}
    assert clip.infer_vision(Shapes("x", "diffusers", found), NO_FACTS) == VisionSpec()
    fused = {n.ldm: (3 * s[0], *s[1:]) if "in_proj" in n.ldm else s for n, s in _openclip(state)}
    assert openclip.infer_vision(Shapes("x", "ldm", fused), NO_FACTS) == VisionSpec()


def _openclip(state: dict[str, Tensor]) -> list[tuple[Any, tuple[int, ...]]]:
    rows = [(n, tuple(state[n.ours].shape)) for n in openclip.names.vision_names(VisionSpec())]
    return [(n, s[::-1] if n.ldm == "proj" else s) for n, s in rows]


def test_features_are_what_is_needed(tmp_path: Path) -> None:
    encoder = open_image_encoder(saved(foreign(), tmp_path))
    images = [picture(80, 60), picture(60, 90, 2)]
    plain = image_features(encoder, images, Needs("embedding", 20))
    assert plain.image is not None
    assert plain.absent is not None
    assert torch.equal(plain.image, encoder.states(images).embedding)  # type: ignore[arg-type]
    assert (plain.absent.shape, float(plain.absent.abs().max())) == ((1, 20), 0.0)
    faces = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))
    both = image_features(encoder, images, Needs("states", WIDTH, face="unit"), faces)
    assert torch.equal(both.image, encoder.states(images).hidden[-2])  # type: ignore[arg-type]
    assert torch.equal(both.absent, encoder.nothing().hidden[-2])  # type: ignore[arg-type]
    assert both.face is not None
    assert torch.allclose(both.face, faces / faces.norm(dim=1, keepdim=True))
    raw = image_features(None, images, Needs(face="raw"), faces)
    assert (raw.image, raw.face) == (None, faces)


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    encoder = open_image_encoder(saved(foreign(), tmp_path))
    with pytest.raises(BadInput, match=r"has 20 where this .* needs .* embedding has 1024 numbers \(CLIP ViT-H\)"):
        image_features(encoder, [picture(60, 60)], Needs("embedding", 1024))
    with pytest.raises(BadInput, match="needs an image encoder whose states has 1280"):
        image_features(None, [picture(60, 60)], Needs("states", 1280))
    with pytest.raises(BadInput, match="an image with a face"):
        image_features(None, [picture(60, 60)], Needs(face="unit"))


def test_what_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="has no weights of an image encoder"):
        open_image_encoder(tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(BadFile, match=r"is no image encoder of CLIP: it has 1 tensor \(x\)"):
        open_image_encoder(tmp_path)


def test_the_model_that_comes_with_the_package_brings_one() -> None:
    model: Checkpoint = open_checkpoint(embedded_folder())
    encoder = own_image_encoder(model)
    found = image_features(encoder, [picture(90, 70)], Needs("embedding", 128))
    assert found.image is not None
    assert found.image.shape == (1, 128)
