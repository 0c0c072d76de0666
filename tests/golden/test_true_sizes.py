"""Stable Diffusion 2.x and XL at true size: published key lists are recognised, and take every name and every number.

The lists lie outside of the repository; where they are absent, these tests are skipped.
"""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import open_checkpoint
from atelier.families.parts import UNET
from atelier.families.parts.openclip import BIG_G
from atelier.families.shapes import Shapes
from atelier.models.clip import TextSpec
from atelier.models.unet import UNet, UNetSpec
from atelier.weights.load import match
from atelier.weights.names import clip, unet
from facts import FACTS

KEYS = FACTS / "keys"
pytestmark = pytest.mark.skipif(not KEYS.is_dir(), reason="the lists of published keys are not on this machine")

VAE, CLIP_L, BIG, OPEN_H, OPEN_H_CUT = 83_653_863, 123_060_480, 694_659_840, 354_032_640, 340_387_840
SD2_UNET = UNetSpec(heads=(5, 10, 20, 20), context=1024, linear_proj=True)
X4_UNET = UNetSpec(
    in_channels=7,
    widths=(256, 512, 512, 1024),
    depth=(0, 1, 1, 1),
    context=1024,
    linear_proj=True,
    noise_levels=1000,
    only_cross=(False, True, True, False),
)
SDXL_UNET = UNetSpec(
    widths=(320, 640, 1280),
    depth=(0, 2, 10),
    mid_depth=10,
    heads=(5, 10, 20),
    context=2048,
    linear_proj=True,
    vector=2816,
)
REFINER_UNET = replace(
    SDXL_UNET,
    widths=(384, 768, 1536, 1536),
    depth=(0, 4, 4, 0),
    mid_depth=4,
    heads=(6, 12, 24, 24),
    context=1280,
    vector=2560,
)
BIG_SPEC = TextSpec(width=1280, layers=32, heads=20, mlp=5120, act="gelu", projection=1280)
H_SPEC = TextSpec(width=1024, layers=24, heads=16, mlp=4096, act="gelu", projection=1024)
H_CUT = replace(H_SPEC, layers=23, projection=None)

FILES = {
    "sdxl_base_sgm": ("sdxl", 1024, "epsilon", {"unet": 2_567_463_684, "vae": VAE, "text": CLIP_L, "text2": BIG}),
    "sdxl_refiner_sgm": ("sdxl-refiner", 1024, "epsilon", {"unet": 2_259_526_660, "vae": VAE, "text2": BIG}),
    "sd2_ldm": ("sd2", 768, "velocity", {"unet": 865_910_724, "vae": VAE, "text": OPEN_H}),
    "sd2_wd14_ldm": ("sd2", 768, "velocity", {"unet": 865_910_724, "vae": VAE, "text": OPEN_H_CUT}),
    "sd2_inpainting_ldm": ("sd2", 512, "epsilon", {"unet": 865_925_124, "vae": VAE, "text": OPEN_H}),
}
SPECS = {
    "sdxl_base_sgm": {"unet": SDXL_UNET, "text": TextSpec(), "text2": BIG_SPEC},
    "sdxl_refiner_sgm": {"unet": REFINER_UNET, "text2": BIG_SPEC},
    "sd2_ldm": {"unet": SD2_UNET, "text": H_SPEC},
    "sd2_wd14_ldm": {"unet": SD2_UNET, "text": H_CUT},
    "sd2_inpainting_ldm": {"unet": replace(SD2_UNET, in_channels=9), "text": H_SPEC},
}
FOLDERS = {
    "sdxl_unet_diffusers": (SDXL_UNET, unet.names),
    "sdxl_refiner_unet_diffusers": (REFINER_UNET, unet.names),
    "x4_upscaler_unet_diffusers": (X4_UNET, unet.names),
    "sd2_depth_unet_diffusers": (replace(SD2_UNET, in_channels=5), unet.names),
    "text_encoder_clip_g_hf": (BIG_SPEC, BIG_G.network.names),
    "text_encoder_sd2_hf": (H_CUT, BIG_G.network.names),
}


@functools.cache
def published(name: str) -> dict[str, tuple[int, ...]]:
    listed = json.loads((KEYS / f"{name}.json").read_text())["keys"]
    return {key: tuple(shape) for key, shape in listed.items()}


def hollow(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    """A file of zeros that takes no room on disk."""
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        kind, size = ("I64", 8) if name.endswith("position_ids") else ("F16", 2)
        count = size
        for extent in shape:
            count *= extent
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [end, end + count]}
        end += count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


@functools.cache
def numbers(build: object, spec: object) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(spec).parameters())  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_is_recognised_and_read_to_the_last_name(name: str, tmp_path: Path) -> None:
    family, size, prediction, counts = FILES[name]
    found: Checkpoint = open_checkpoint(hollow(tmp_path / "model.safetensors", published(name)))
    assert (found.family.name, found.size, found.facts.prediction) == (family, size, prediction)
    assert found.latent.scale == (0.18215 if family == "sd2" else 0.13025)
    taken = set(found.ignored)
    for part in found.family.parts:
        if part.required:
            spec = found.spec(part)
            assert spec == SPECS[name].get(part.name, spec)
            assert numbers(part.network.build, spec) == counts[part.name], part.name
            stored = found.parts[part.name]
            taken |= {stored.prefix + own for own in match(stored, part.network.names(spec)).values()}
    assert taken == published(name).keys()
    assert all(own.endswith(("position_ids", "logit_scale")) for own in found.ignored)


@pytest.mark.parametrize("name", FOLDERS)
def test_names_and_shapes_are_those_of_published_folders(name: str) -> None:
    spec, names = FOLDERS[name]
    build = UNET.network.build if isinstance(spec, UNetSpec) else BIG_G.network.build
    with torch.device("meta"):
        shapes = {own: tuple(tensor.shape) for own, tensor in build(spec).state_dict().items()}
    assert {own.diffusers: shapes[own.ours] for own in names(spec)} == published(name)


def test_the_upscaling_u_net_is_read_from_its_shapes() -> None:
    shapes = Shapes("x4", "diffusers", published("x4_upscaler_unet_diffusers"))
    assert UNET.network.infer(shapes, UNET.network.facts(X4_UNET)) == X4_UNET
    assert numbers(UNET.network.build, X4_UNET) == 473_398_020


def test_the_first_text_encoder_of_xl_is_that_of_1_x() -> None:
    assert {own.diffusers for own in clip.names(TextSpec())} == published("text_encoder_clip_l_hf").keys() - {
        "text_model.embeddings.position_ids"
    }


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        (replace(SDXL_UNET, in_channels=9), 2_567_478_084),
        (replace(SD2_UNET, in_channels=5), 865_913_604),
    ],
)
def test_variants_have_their_published_numbers(spec: UNetSpec, count: int) -> None:
    assert numbers(UNet, spec) == count
