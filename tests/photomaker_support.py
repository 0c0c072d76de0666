"""Tiny PhotoMakers for the tiny model of XL, and files of them."""

from __future__ import annotations

import torch
from torch import Tensor

import tiny
import tiny_sd
from atelier.families.parts.photomaker import NETWORK
from atelier.models.clip import VisionSpec
from atelier.models.ip_adapter import FaceSpec, MlpSpec, ResamplerSpec
from atelier.models.photomaker import PhotoMaker, PhotoMakerSpec

L, G = tiny_sd.L, tiny_sd.G
WIDTH = L + G
VISION = VisionSpec(image=28, patch=14, width=64, layers=2, heads=1, mlp=64, projection=L)
FACE = FaceSpec(MlpSpec(512, 64, 2, WIDTH), ResamplerSpec(64, WIDTH, WIDTH, 0, 4, 1, 96))


def made(face: FaceSpec | None) -> tuple[PhotoMaker, dict[str, Tensor]]:
    """A network, and the file of it."""
    net = PhotoMaker(PhotoMakerSpec(VISION, G, face))
    tiny.randomize(net, 3)
    state = net.state_dict()
    file: dict[str, Tensor] = {}
    for name in NETWORK.names(net.spec):
        own = state[name.ours]
        there = f"id_encoder.{name.ldm}"
        file[there] = torch.cat([file[there], own]) if there in file else own
    return net.eval(), file
