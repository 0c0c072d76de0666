"""Training images for an identity adapter of the embedded model: faces of several open emoji fonts in many scenes.

    npm install --prefix FONTS @iconify-json/{noto,noto-v1,twemoji,fluent-emoji-flat}
    python scripts/lib/identity_scenes.py FONTS FOLDER [--count N]

An identity is one face of one font. FOLDER/images has N scenes of trained identities, with captions that say no more
than "face", where it is and on which background; FOLDER/faces has for each, by the same name, another image of the same
face: cut out, on white, turned a little, sometimes mirrored. `is_held_out` says which are in no scene.

The fonts: Noto Emoji and its first version (Apache 2.0), Twemoji (CC BY 4.0), Fluent Emoji (MIT), as SVG, drawn by
rsvg-convert of the Debian package librsvg2-bin.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atelier.train.data.scenes import BACKGROUNDS, CELLS, FULL, GRID, MIDDLE, PLACES, SMALL, STEP, on

SIZE = 128
SEED = 30_000
"""Of the sequence of scenes."""
FONTS = ("noto", "noto-v1", "twemoji", "fluent-emoji-flat")
DRAWS = "rsvg-convert"
DRAWN = 128
"""Pixels of a face as it is drawn, before it is made smaller."""
HELD_OUT = 0.12
ALIKE = 0.3
"""Faces whose images differ by less, as shares of their contrast, are one identity: fonts share some drawings."""
TURN, MIRRORED, LEAST = 6.0, 0.1, 115
"""Degrees by which another image of a face is turned at most, the share of those that are mirrored, and the pixels of
the longer side of the smallest. The ground is always white: the encoder learned to tell grounds apart, and of 389 faces
the embedding of another image is nearest for 91 % where the ground is one and the same, for 25 % where it is any."""
ANIMALS = (
    "bear cat-face cow-face dog-face dragon-face fox frog hamster horse-face koala lion monkey-face mouse-face panda "
    "pig-face rabbit-face tiger-face unicorn wolf boar baby-chick penguin see-no-evil-monkey crying-cat"
)
FACES = (
    "clown-face alien alien-monster robot skull ghost pile-of-poo ogre goblin jack-o-lantern sun-with-face "
    "new-moon-face full-moon-face first-quarter-moon-face smiling-face-with-sunglasses loudly-crying-face pouting-face "
    "smiling-face-with-horns smiling-face-with-halo smiling-face-with-heart-eyes nauseated-face face-vomiting "
    "cowboy-hat-face nerd-face face-with-medical-mask face-screaming-in-fear partying-face hot-face cold-face "
    "face-with-head-bandage thinking-face disguised-face face-with-tears-of-joy face-with-monocle grinning-face zombie"
)
PEOPLE = (
    "baby boy girl man woman old-man old-woman man-beard man-bald man-curly-hair woman-red-hair woman-white-hair "
    "person-wearing-turban person-with-skullcap woman-with-headscarf police-officer construction-worker detective "
    "guard santa-claus princess ninja woman-astronaut man-cook man-pilot woman-farmer woman-firefighter woman-singer "
    "baby-angel man-student person-with-veil woman-vampire man-mage woman-elf"
)
TONES = ("", "-medium-dark-skin-tone")

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """A face of a font: an RGBA image of it, cut to its visible part."""

    font: str
    name: str
    image: Image.Image

    def __str__(self) -> str:
        return f"{self.font}/{self.name}"


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a face stands: its middle and the length of its longer side, in cells; said: how a caption says it."""

    x: int
    y: int
    extent: int
    said: str


SPOTS = (
    Spot(MIDDLE, MIDDLE, FULL, "a large face"),
    Spot(MIDDLE, MIDDLE, SMALL, "a small face"),
    *(Spot(MIDDLE + STEP * x, MIDDLE + STEP * y, SMALL, f"a small face {said}") for said, (x, y) in PLACES.items()),
)
"""The first is the large one."""


def identities(fonts: Path) -> tuple[Identity, ...]:
    """All of the fonts below a folder of npm, without those that look like an earlier one. Exits with a line where a
    font or what draws it is missing."""
    if shutil.which(DRAWS) is None:
        raise SystemExit(f"{DRAWS}: is not there: install it, on Debian with `apt-get install librsvg2-bin`")
    kept: list[Identity] = []
    seen: list[Floats] = []
    for own in (face for font in FONTS for face in _of_font(fonts / "node_modules" / "@iconify-json" / font)):
        look = np.asarray(placed(own.image, SPOTS[0], (128, 128, 128)), np.float32)[::4, ::4] / 255
        contrast = float(((look - look[0, 0]) ** 2).mean())
        if all(float(((look - other) ** 2).mean()) > ALIKE * contrast for other in seen):
            kept.append(own)
            seen.append(look)
    return tuple(kept)


def is_held_out(identity: Identity) -> bool:
    """Whether an identity is kept from training: a function of its name alone."""
    digest = hashlib.blake2b(str(identity).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < HELD_OUT


def placed(face: Image.Image, spot: Spot, background: tuple[int, ...]) -> Image.Image:
    """A scene, RGB of SIZE pixels: nothing is cut off, and faces lie on the lattice of `train.data.scenes`."""
    cell = SIZE // CELLS
    small = scaled(face, spot.extent * cell)
    canvas = Image.new("RGB", (SIZE, SIZE), background)
    corner = tuple(
        _on_lattice(middle * cell - side / 2, SIZE - side, GRID * cell)
        for middle, side in zip((spot.x, spot.y), small.size, strict=True)
    )
    canvas.paste(small, (corner[0], corner[1]), small)
    return canvas


def another(face: Image.Image, random: np.random.Generator) -> Image.Image:
    """Another image of a face, in the middle of a white ground that it fills: RGB of SIZE pixels."""
    turned = scaled(face, DRAWN).rotate(random.uniform(-TURN, TURN), Image.Resampling.BICUBIC, expand=True)
    if random.random() < MIRRORED:
        turned = turned.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    small = scaled(turned.crop(turned.getbbox()), int(random.integers(LEAST, SIZE + 1)))
    canvas = Image.new("RGB", (SIZE, SIZE), "white")
    canvas.paste(small, ((SIZE - small.width) // 2, (SIZE - small.height) // 2), small)
    return canvas


def scaled(face: Image.Image, pixels: int) -> Image.Image:
    """With its longer side so long."""
    ratio = pixels / max(face.size)
    width, height = (max(1, round(side * ratio)) for side in face.size)
    return face.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")


def drawn(seed: int, number: int) -> np.random.Generator:
    """What is random of scene `number` of the sequence `seed`."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, number], dtype=np.uint64)))


def _on_lattice(value: float, high: int, grid: int) -> int:
    """The multiple of `grid` nearest to `value` that lies in 0 to `high`."""
    return max(0, min(round(value / grid), high // grid) * grid)


def _of_font(folder: Path) -> Iterator[Identity]:
    path = folder / "icons.json"
    if not path.is_file():
        raise SystemExit(f"{path}: is not there: `npm install --prefix FONTS @iconify-json/{folder.name}` brings it")
    table = json.loads(path.read_text(encoding="utf-8"))
    toned = [name + tone for tone in TONES for name in PEOPLE.split()]
    for name in (*ANIMALS.split(), *FACES.split(), *toned):
        icon = table["icons"].get(name) or table["icons"].get(table.get("aliases", {}).get(name, {}).get("parent"))
        if icon is not None:
            width, height = (icon.get(side, table.get(side, 16)) for side in ("width", "height"))
            yield Identity(folder.name, name, _drawn(icon["body"], width, height))


@functools.cache
def _drawn(body: str, width: int, height: int) -> Image.Image:
    link = "http://www.w3.org/2000/svg"
    text = f'<svg xmlns="{link}" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {width} {height}">{body}</svg>'
    command = [DRAWS, "--width", str(DRAWN), "--height", str(DRAWN), "--keep-aspect-ratio"]
    made = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout
    image = Image.open(io.BytesIO(made)).convert("RGBA")
    return image.crop(image.getbbox())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fonts", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=8192)
    options = parser.parse_args()
    for name in ("images", "faces"):
        (options.folder / name).mkdir(parents=True, exist_ok=True)
    trained = [own for own in identities(options.fonts) if not is_held_out(own)]
    for number in range(options.count):
        random = drawn(SEED, number)
        own = trained[random.integers(len(trained))]
        spot = SPOTS[0] if random.random() < 0.5 else SPOTS[random.integers(1, len(SPOTS))]
        background = tuple(BACKGROUNDS)[random.integers(len(BACKGROUNDS))]
        path = options.folder / "images" / f"{number:05d}.png"
        placed(own.image, spot, BACKGROUNDS[background]).save(path)
        path.with_suffix(".txt").write_text(spot.said + on(background), encoding="utf-8")
        another(own.image, random).save(options.folder / "faces" / path.name)


if __name__ == "__main__":
    main()
