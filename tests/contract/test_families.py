"""What every family must do, whoever adds it: the registry is the list of cases, and a family from outside joins it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import tiny
import tiny_sd
import tiny_sd3
import toy
from atelier.checkpoints.opening import families, open_checkpoint
from atelier.checkpoints.text import encode, text_encoder
from atelier.checkpoints.write import Modules, write_diffusers, write_ldm
from atelier.diffusion.catalogue import resolve_sampler
from atelier.families.config import Config
from atelier.families.family import Family
from atelier.request.groups import Source
from atelier.request.model import Request
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.archive import open_file
from atelier.weights.hashes import HashCache
from atelier.weights.names.name import Layout
from weights_support import LAYOUTS

ALL: dict[str, Family] = {**families(), "toy": toy.FAMILY}
SMALL: dict[str, Callable[[], Modules]] = {
    "sd1": tiny.modules,
    "sd2": tiny_sd.sd2,
    "sd2-x4-upscaler": tiny_sd.x4_upscaler,
    "sdxl": tiny_sd.sdxl,
    "sdxl-refiner": tiny_sd.refiner,
    "sd3": tiny_sd3.modules,
    "toy": toy.modules,
}
"""A very small model of each family; a new family has one here."""
every = pytest.mark.parametrize("family", ALL.values(), ids=ALL.keys())

CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"
FOREIGN = {
    "SD 2 unCLIP": ["cond_stage_model.model.ln_final.weight", CONV_IN, "noise_augmentor.data_mean"],
    "SD 2 upscaler": ["cond_stage_model.model.ln_final.weight", CONV_IN, "low_scale_model.betas"],
    "half of SDXL": ["conditioner.embedders.0.transformer.text_model.x", CONV_IN],
    "text encoders of SDXL": ["conditioner.embedders.0.transformer.x", "conditioner.embedders.1.model.ln_final.weight"],
    "SD 3": ["model.diffusion_model.joint_blocks.0.x", "text_encoders.clip_l.transformer.x"],
    "Flux": ["double_blocks.0.img_attn.norm", "single_blocks.0.linear1.weight"],
    "LoRA": ["lora_unet_down_blocks_0.lora_down.weight"],
    "ControlNet": ["control_model.zero_convs.0.0.weight", "control_model.input_blocks.0.0.weight"],
    "U-Net": [CONV_IN],
    "autoencoder": ["first_stage_model.encoder.conv_in.weight"],
    "nothing": [],
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model of each family as a file, and as a folder where the family has that."""
    shelf = tmp_path_factory.mktemp("shelf")
    for name, family in ALL.items():
        model = SMALL[name]()
        write_ldm(model, shelf / f"{name}.safetensors")
        if family.folder is not None:
            write_diffusers(model, shelf / name)
    return shelf


def at(shelf: Path, name: str, layout: Layout) -> Path:
    path = shelf / (f"{name}.safetensors" if layout == "ldm" else name)
    if not path.exists():
        pytest.skip("diffusers has no layout for it")
    return path


@every
def test_it_knows_its_own_models_only(family: Family, shelf: Path) -> None:
    for name in ALL:
        own = name == family.name
        assert family.single.detect(open_file(shelf / f"{name}.safetensors")) == own, name
        if family.folder is not None and (shelf / name).is_dir():
            assert family.folder.detect(Config.read(shelf / name / "model_index.json")) == own, name


@every
@pytest.mark.parametrize("names", FOREIGN.values(), ids=FOREIGN.keys())
def test_it_claims_no_other_file(family: Family, names: list[str], tmp_path: Path) -> None:
    save_file({name: torch.ones(1) for name in names}, tmp_path / "a.safetensors")
    assert not family.single.detect(open_file(tmp_path / "a.safetensors"))


@every
@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_are_one_to_one(family: Family, layout: Layout) -> None:
    """Each parameter has one name, each stored name one parameter, or rows that are all of it."""
    model = SMALL[family.name]()
    taken: set[str] = set()
    for part in family.parts:
        if not model.has(part):
            continue
        names = list(part.network.names(model.spec(part)))
        assert sorted(name.ours for name in names) == sorted(model.tensors(part))
        pieces: defaultdict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for name in names:
            rows = name.rows(layout)
            length = len(torch.atleast_1d(model.tensors(part)[name.ours]))
            whole = (0, length, length) if rows is None else (rows.start, rows.count, rows.total)
            pieces[name.stored(layout)].append(whole)
        for spelling, found in pieces.items():
            ends = [start + count for start, count, _ in sorted(found)]
            assert [0, *ends[:-1]] == [start for start, _, _ in sorted(found)], spelling
            assert {total for _, _, total in found} == {ends[-1]}, spelling
        place = part.prefix if layout == "ldm" else f"{part.folder}/"
        assert not taken & {place + spelling for spelling in pieces}
        taken |= {place + spelling for spelling in pieces}


@every
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_is_read_again(family: Family, layout: Layout, shelf: Path, tmp_path: Path) -> None:
    made, found = SMALL[family.name](), open_checkpoint(at(shelf, family.name, layout), known=ALL.values())
    assert (found.family, found.layout, found.size) == (family, layout, made.size)
    for part in family.parts:
        assert found.has(part) == made.has(part) == (part.required or made.has(part))
        if made.has(part):
            assert found.spec(part) == made.spec(part), part.name
            loaded, original = found.load(part).state_dict(), made.tensors(part)
            assert loaded.keys() == original.keys()
            assert all(torch.equal(loaded[name], original[name]) for name in original), part.name
    for ours, theirs in zip(found.tokenizers, made.tokenizers, strict=True):
        assert ours.same_as(theirs)
    write_ldm(found, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == at(shelf, family.name, "ldm").read_bytes()


@every
def test_a_small_one_generates(family: Family, shelf: Path) -> None:
    cpu = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=1)
    engine = Engine(cpu, Library((shelf,)), HashCache(), version="1", families=ALL.values())
    Image.new("RGB", (16, 16), (200, 40, 90)).save(shelf / "small.png")
    source = None if family.augmented is None else Source(image=str(shelf / "small.png"))
    model = str(shelf / f"{family.name}.safetensors")
    asked = Request(prompt="a cat", model=model, seed=1, steps=1, source=source)
    (image,) = engine.generate(asked)
    again = Engine(cpu, Library((shelf,)), HashCache(), version="1", families=ALL.values()).generate(asked)
    assert image.image.tobytes() == again[0].image.tobytes()
    assert len(set(image.image.tobytes())) > 8


@every
def test_its_defaults_are_a_request_that_it_can_fulfil(family: Family, shelf: Path) -> None:
    found = open_checkpoint(shelf / f"{family.name}.safetensors", known=ALL.values())
    own = found.defaults
    sampler, schedule = resolve_sampler(own.sampler, own.scheduler)
    assert (sampler.name, sampler.flow or not found.parameterization.flow) == (own.sampler, True)
    assert family.table is not None or "table" not in schedule.uses
    assert own.width % found.latent.factor == own.height % found.latent.factor == 0
    assert {family.denoiser, family.autoencoder} <= {part.name for part in family.parts if part.required}
    assert encode(text_encoder(found), [""]).tokens.shape[-1] == found.ends.context
