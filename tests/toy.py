"""A family from outside the package: a flow model with two text encoders, whose states stand side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import tiny
from atelier.checkpoints.write import Modules, write_ldm
from atelier.diffusion.levels import FlowLevels
from atelier.diffusion.parameterization import FLOW
from atelier.families.config import Config
from atelier.families.facts import Facts, ModelDefaults
from atelier.families.family import Family, Folder, SingleFile, Tower
from atelier.families.joining import side_by_side
from atelier.families.parts import TEXT, UNET, VAE, autoencoder, unet
from atelier.models.clip import ClipText, TextSpec
from atelier.models.unet import UNet, UNetSpec
from atelier.weights.archive import Archive
from atelier.weights.tokenizer import ClipTokenizer

NET = replace(UNET, name="net", title="network", prefix="toy.net.")
FIRST = replace(TEXT, prefix="toy.first.")
SECOND = replace(
    TEXT, name="text2", title="second text encoder", prefix="toy.second.", folder="text_encoder_2", stem="model"
)
TABLE = {"_class_name": "ToyScheduler"}


def in_file(archive: Archive) -> bool:
    return any(name.startswith(NET.prefix) for name in archive.tensors)


def in_folder(index: Config) -> bool:
    return index.values.get("_class_name") == "ToyPipeline"


def defaults(size: int, facts: Facts) -> ModelDefaults:
    return ModelDefaults(sampler="Euler", steps=4, width=size, height=size, cfg_scale=2.0)


FAMILY = Family(
    name="toy",
    title="Toy",
    aliases=(),
    parts=(NET, VAE, FIRST, SECOND),
    denoiser="net",
    autoencoder="vae",
    towers=(
        Tower(FIRST, "tokenizer", tiny.tokenizer),
        Tower(SECOND, "tokenizer_2", tiny.tokenizer, least_skip=2, normed=False),
    ),
    join=side_by_side(pooled=1),
    single=SingleFile(in_file, lambda _: Facts(prediction="flow"), lambda _: False, {}),
    folder=Folder(
        in_folder,
        pipeline=lambda _ends, _latent: "ToyPipeline",
        index={},
        read=lambda known, _: replace(known, prediction="flow"),
        write=lambda _: TABLE,
    ),
    predictions=("flow",),
    levels=lambda _: FlowLevels(3.0),
    parameterization=lambda _: FLOW,
    latent=autoencoder.latent,
    ends=unet.ends,
    defaults=defaults,
    latent_side=16,
    table=None,
)


def tokenizers() -> tuple[ClipTokenizer, ClipTokenizer]:
    """Two that tell words apart at other places, and pad with other marks."""
    second = ClipTokenizer.from_merges(tiny.MERGES[:2], positions=12)
    return tiny.tokenizer(), replace(second, pad_token="!")


def modules() -> Modules:
    first, second = tokenizers()
    text = TextSpec(first.size, width=32, layers=2, heads=2, mlp=64, positions=12, eos=first.eos)
    text2 = TextSpec(
        second.size, width=48, layers=3, heads=3, mlp=64, positions=12, act="gelu", projection=20, eos=second.eos
    )
    networks = {
        "net": UNet(UNetSpec(widths=(32, 64), blocks=1, depth=(1, 1), heads=(2, 4), context=80, groups=8)),
        "vae": tiny.modules().networks["vae"],
        "text": ClipText(text),
        "text2": ClipText(text2),
    }
    for number, name in enumerate(("net", "text", "text2")):
        tiny.randomize(networks[name], number)
    return Modules(FAMILY, networks, (first, second), Facts(prediction="flow", latent_scale=0.5))


def single_file(path: Path) -> Path:
    write_ldm(modules(), path)
    return path
