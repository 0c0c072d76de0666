"""Whether a LoRA out of a briefly fine-tuned model draws what only that model knows.

    scripts/accept lora [--steps N] [--rank R] [--keep FOLDER] [--json]

The embedded model is trained further for `--steps` small steps, on images of a thing that it has never seen, under a
word that it has never read, among images of what it knows. `atelier models extract-lora` takes the difference, at
`--rank`. Then the embedded model, the trained one, and the embedded one with the LoRA are asked for the new thing on
every background. An image shows it if, of the renderings of the new thing and of all that the embedded
model knows, that of the new thing is nearest. Of known things it is told how many are still seen with the LoRA.

Exit code 0: the embedded model draws it never, the trained one mostly, and the LoRA 80 % as often as that; 1: else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atelier.checkpoints.embedded import embedded_folder
from atelier.cli.app import run
from atelier.compose import engine
from atelier.request.table import request_of
from atelier.runtime.engine import Engine
from atelier.train.data import art, scenes

WORD, EMOJI = "compass", "\U0001f9ed"
"""What the embedded model has neither read nor seen."""
EACH = 20
"""Of how many known things one is asked for with the LoRA."""
KNOWN = 6
"""Images of other things beside those of the new one, so that it does not take the place of all."""
SIZE = 128
SEED = 40_000
MOST_BASE, LEAST_TUNED, LEAST_SHARE = 0.05, 0.6, 0.8
Pixels = NDArray[np.uint8]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--keep", type=Path, default=None, help="a folder for the run and the LoRA, which stay there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = measured(options.keep or Path(place), options.steps, options.rank)
    print(json.dumps(found) if options.json else "\n".join(f"{way}: {share:.3f}" for way, share in found.items()))
    return 0 if is_good(found) else 1


def is_good(found: dict[str, float]) -> bool:
    enough = found["tuned"] >= LEAST_TUNED and found["lora"] >= LEAST_SHARE * found["tuned"]
    return enough and found["base"] <= MOST_BASE


def measured(folder: Path, steps: int, rank: int) -> dict[str, float]:
    """The share of images that show the new thing, by who was asked, and of known things those still seen."""
    tuned, lora = trained(folder, steps), folder / "lora" / f"{WORD}.safetensors"
    lora.parent.mkdir(exist_ok=True)
    options = ["--rank", str(rank), "--conv-rank", str(rank), "--overwrite"]
    done(["models", "extract-lora", str(embedded_folder()), str(tuned), str(lora), *options])
    os.environ["ATELIER_MODELS"] = str(folder)
    own = engine(device="cpu", dtype="fp32")
    tag, embedded = f"<lora:{WORD}:1>", "embedded"
    return {
        "base": asked(own, embedded, ""),
        "tuned": asked(own, str(tuned), ""),
        "lora": asked(own, embedded, tag),
        "known": known(own, ""),
        "known with the lora": known(own, tag),
    }


def trained(folder: Path, steps: int) -> Path:
    """The embedded model after so many small steps."""
    write_images(folder / "images")
    sets = {
        "vae": "embedded",
        "clip": "embedded",
        "begin": "embedded",
        "data.source": str(folder / "images"),
        "data.validation": 1,
        "run.steps": steps,
        "run.batch": 4,
        "run.workers": 0,
        "run.checkpoint_every": steps,
        "run.validate_every": steps,
        "optim.kind": "adamw",
        "optim.text_gain": 0,
        "optim.rate": 1e-3,
        "optim.warmup": 5,
        "optim.weight_decay": 0,
        "optim.ema": 0.9,
        "loss.time_shift": 3,
        "loss.drop": 0,
    }
    changes = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    done(["train", "denoiser", "--out", str(folder / "run"), *changes])
    return folder / "run" / "model"


def done(arguments: Sequence[str]) -> None:
    if run(arguments):
        sys.exit(f"atelier {arguments[0]} failed")


def write_images(folder: Path) -> None:
    """The new thing on every background, and known things, each with its caption."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [(caption(WORD, ground), drawn(EMOJI, ground)) for ground in scenes.BACKGROUNDS]
    for number in range(KNOWN):
        scene = scenes.scene(SEED, number, shares=(1, 0, 0))
        pictures.append((scene.caption, scenes.render(scene, SIZE)))
    for number, (text, pixels) in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(text, encoding="utf-8")


def caption(word: str, ground: str) -> str:
    return f"a {word}{scenes.on(ground)}"


def drawn(emoji: str, ground: str) -> Pixels:
    """A large thing in the middle of a background, where scenes have it."""
    canvas = np.empty((SIZE, SIZE, 3), np.uint8)
    canvas[:] = scenes.BACKGROUNDS[ground]
    sprite = art.sprite(emoji, scenes.FULL * SIZE // scenes.CELLS)
    grid = scenes.GRID * SIZE // scenes.CELLS
    top, left = ((SIZE - side + grid) // (2 * grid) * grid for side in sprite.shape[:2])
    place = canvas[top : top + sprite.shape[0], left : left + sprite.shape[1]]
    veil = 1 - sprite[..., 3:].astype(np.float32) / 255
    place[:] = np.minimum(sprite[..., :3] + place * veil, 255).round()
    return canvas


def asked(own: Engine, model: str, tag: str) -> float:
    """How often the new thing is seen where it is asked for."""
    hits = [
        nearest(generated(own, model, caption(WORD, ground) + tag, number), ground) == WORD
        for number, ground in enumerate(scenes.BACKGROUNDS)
    ]
    return float(np.mean(hits))


def known(own: Engine, tag: str) -> float:
    """How often known things are seen where they are asked for."""
    some = [scenes.concepts()[number].name for number in range(0, len(scenes.concepts()), EACH)]
    grounds = tuple(scenes.BACKGROUNDS)
    wanted = [(name, grounds[number % len(grounds)]) for number, name in enumerate(some)]
    hits = [
        nearest(generated(own, "embedded", scenes.large(name, ground).caption + tag, 3), ground) == name
        for name, ground in wanted
    ]
    return float(np.mean(hits))


def generated(own: Engine, model: str, prompt: str, seed: int) -> Pixels:
    image = own.generate(request_of({"prompt": prompt, "model": model, "seed": seed, "steps": 12}))[0].image
    return np.asarray(image.convert("RGB"))


def nearest(image: Pixels, ground: str) -> str:
    """The thing whose rendering on this background is nearest to the image, in the mean square of pixels."""
    names, pictures = zip(*renderings(ground), strict=True)
    far = np.square(np.stack(pictures).astype(np.float32) - image).mean(axis=(1, 2, 3))
    return names[int(far.argmin())]


def renderings(ground: str) -> Iterator[tuple[str, Pixels]]:
    yield WORD, drawn(EMOJI, ground)
    for concept in scenes.concepts():
        yield concept.name, drawn(concept.emoji, ground)


if __name__ == "__main__":
    sys.exit(main())
