"""Fits the matrix of previews for a model in the diffusers layout, on rendered scenes: `fit_preview MODEL [SCENES]`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image

from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.preview import FILE
from atelier.families.parts import VAE
from atelier.runtime.store import write
from atelier.train.data import scenes
from atelier.train.preview import fitted

SEED, SCENES = 77, 64


def main() -> None:
    model = open_checkpoint(Path(sys.argv[1]))
    if model.layout != "diffusers":
        sys.exit(f"{model.path}: is one file; the matrix lies in the folder of a model")
    count = int(sys.argv[2]) if len(sys.argv) > 2 else SCENES
    images = [Image.fromarray(scenes.render(scenes.scene(SEED, n), model.size)) for n in range(count)]
    matrix = fitted(images, model.load(VAE, torch.float32), model.latent)
    write(model.path / FILE, matrix.to_json().encode())
    print(model.path / FILE)


if __name__ == "__main__":
    main()
