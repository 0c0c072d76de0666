"""Networks that read the strength of guidance (latent consistency models) against diffusers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import Modules, write_diffusers, write_ldm
from atelier.errors import BadFile
from atelier.families.parts import UNET
from atelier.models.unet import UNet
from atelier.nn.embeddings import guidance_embedding
from atelier.nn.ports import NOTHING, Conditioning, Ports
from pipeline_support import PLENTY, Lending, Letters, engine_on, happened, planned, request

WIDTH = 16
"""Numbers that the strength is embedded in."""


def lcm() -> Modules:
    made = tiny.modules("epsilon")
    net = UNet(replace(made.networks["unet"].spec, guidance=WIDTH))
    tiny.randomize(net, 3)
    return replace(made, networks={**made.networks, "unet": net})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_diffusers(lcm(), folder / "lcm")
    index = json.loads((folder / "lcm" / "model_index.json").read_text())
    index["_class_name"] = "LatentConsistencyModelPipeline"
    (folder / "lcm" / "model_index.json").write_text(json.dumps(index))
    write_ldm(lcm(), folder / "lcm-file.safetensors")
    return folder


def test_the_strength_is_embedded_as_diffusers_does() -> None:
    from diffusers import LatentConsistencyModelPipeline

    w = torch.tensor([0.0, 0.5, 6.5, 7.0])
    theirs = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, w, embedding_dim=256)  # pyright: ignore[reportArgumentType, reportUnknownMemberType]
    assert torch.allclose(guidance_embedding(w, 256), theirs, atol=1e-6)


@pytest.mark.parametrize("name", ["lcm", "lcm-file.safetensors"])
def test_the_network_says_what_diffusers_does(folder: Path, name: str) -> None:
    from diffusers import LatentConsistencyModelPipeline, UNet2DConditionModel

    theirs: Any = UNet2DConditionModel.from_pretrained(folder / "lcm", subfolder="unet")
    assert theirs.config.time_cond_proj_dim == WIDTH
    model = open_checkpoint(folder / name)
    ours, strength = model.load(UNET, torch.float32), torch.tensor([6.5, 0.0])
    assert (model.family.name, ours.spec.guidance) == ("sd1", WIDTH)
    x, t, tokens = tiny_input(ours.spec.context)
    told = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, strength, embedding_dim=WIDTH)  # pyright: ignore[reportArgumentType, reportUnknownMemberType]
    with torch.no_grad():
        wanted = theirs(x, t, tokens, timestep_cond=told).sample
        found = ours(x, t, Conditioning(tokens, guidance=strength))
        other = ours(x, t, Conditioning(tokens, guidance=strength + 1))
    assert (found - wanted).abs().max() <= 1e-4 * wanted.std()
    assert (found - other).abs().max() > 1e-2 * wanted.std()
    with pytest.raises(ValueError, match="strength of guidance"):
        ours(x, t, Conditioning(tokens))


def tiny_input(context: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, tokens = (torch.randn(*shape, generator=generator) for shape in ((2, 4, 8, 8), (2, 7, context)))
    return x, torch.tensor([999.0, 19.0]), tokens


def test_it_is_told_the_cfg_scale_and_asked_once(folder: Path) -> None:
    """diffusers: w = guidance scale - 1, and no call for the negative prompt."""
    engine, conds = engine_on(folder / "lcm", budget=PLENTY), list[Conditioning]()

    class Told:
        device, dtype = torch.device("cpu"), torch.float32

        def __call__(self, x: Tensor, t: Tensor, cond: Conditioning, ports: Ports = NOTHING) -> Tensor:
            conds.append(cond)
            return torch.zeros_like(x)

    for sampler, scale in (("LCM", 8.5), ("Euler", 1.0), ("Euler", 3.0)):
        asked = {"model": "lcm", "sampler": sampler, "steps": 1, "cfg_scale": scale, "negative_prompt": "a dog"}
        happened(planned(engine, **asked), Lending(engine.resources, {"text": Letters, "denoiser": lambda _: Told()}))
    strengths = [None if cond.guidance is None else cond.guidance.tolist() for cond in conds]
    assert strengths == [[7.5], [0.0], [2.0]]
    images = {engine.generate(request(model="lcm", cfg_scale=s, steps=1))[0].image.tobytes() for s in (1.0, 2.0, 8.0)}
    assert len(images) == 3


def test_a_setting_without_its_weights_is_one_line(folder: Path, tmp_path: Path) -> None:
    write_diffusers(lcm(), tmp_path / "lcm")
    file = tmp_path / "lcm" / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if "cond_proj" not in k}, file, {"format": "pt"})
    with pytest.raises(BadFile, match=r"time_cond_proj_dim is 16, but the weights have null"):
        open_checkpoint(tmp_path / "lcm")


def test_what_a_consistency_model_generates_with_where_nothing_is_said(folder: Path, tmp_path: Path) -> None:
    """A network that is told the strength says it by itself; another says it by its scheduler, in either layout."""
    told = [open_checkpoint(folder / name).defaults for name in ("lcm", "lcm-file.safetensors")]
    assert [(own.sampler, own.scheduler, own.steps, own.cfg_scale) for own in told] == [("LCM", None, 4, 8.0)] * 2
    plain = tiny.folder(tmp_path / "plain", prediction="epsilon")
    assert open_checkpoint(plain).defaults.sampler != "LCM"
    config = plain / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_class_name": "LCMScheduler"}))
    write_ldm(open_checkpoint(plain), tmp_path / "file.safetensors")
    write_diffusers(open_checkpoint(tmp_path / "file.safetensors"), tmp_path / "again")
    said = json.loads((tmp_path / "again" / "scheduler" / "scheduler_config.json").read_text())
    assert said["_class_name"] == "LCMScheduler"
    for name in ("plain", "file.safetensors", "again"):
        own = open_checkpoint(tmp_path / name).defaults
        assert (own.sampler, own.scheduler, own.steps, own.cfg_scale) == ("LCM", None, 4, 1.0), name
