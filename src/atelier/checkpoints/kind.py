"""What a file is, told from the names and shapes of its tensors alone: models, their parts, adapters and much else.

Each kind is one module in `kinds` that exports SPECS. A kind knows its own files and no others, so that the order in
which kinds are asked does not matter; what it says is data, and nothing here reads a tensor. The names are those of
published files; the widths that tell families apart are those of their text encoders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property

from atelier.registry import discover
from atelier.weights.archive import Archive

Shape = tuple[int, ...]
WRAPPER = "model."
"""What programs put before the names of all tensors; a kind is looked for behind it too."""

TITLES: Mapping[str, str] = {
    "ldm": "latent diffusion",
    "flux": "Flux",
    "cascade": "Stable Cascade",
    "svd": "Stable Video Diffusion",
    "pixart": "PixArt",
    "auraflow": "AuraFlow",
    "hunyuan_dit": "Hunyuan-DiT",
    "kolors": "Kolors",
    "alt_diffusion": "AltDiffusion",
    "kandinsky": "Kandinsky",
    "deepfloyd": "DeepFloyd IF",
    "modelscope": "ModelScope's text to video",
    "flux2": "Flux.2",
    "chroma": "Chroma",
    "lumina": "Lumina",
    "z_image": "Z-Image",
    "qwen_image": "Qwen-Image",
    "hidream": "HiDream",
    "hunyuan_image": "HunyuanImage",
    "hunyuan_video": "HunyuanVideo",
    "sana": "Sana",
    "wan": "Wan",
    "ltx_video": "LTX-Video",
    "mochi": "Mochi",
    "cogview": "CogView",
    "cogvideox": "CogVideoX",
    "cosmos": "Cosmos",
    "omnigen": "OmniGen",
    "allegro": "Allegro",
    "latte": "Latte",
    "bria": "Bria",
    "dit": "DiT",
    "amused": "aMUSEd",
    "stable_audio": "Stable Audio",
    "unclip_prior": "unCLIP (a prior)",
}
"""Families that cannot be opened, whose names say too little."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file is.

    kind: checkpoint, unet, lora, …; family: the models that it belongs to, None where it belongs to none; variant:
    which of the kind. fits: further families whose files have the same names and shapes. prediction: what a denoiser
    predicts, where the file says it. notes: what is unusual, each a clause.
    """

    kind: str
    family: str | None = None
    variant: str | None = None
    fits: tuple[str, ...] = ()
    prediction: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def phrase(self) -> str:
        """The same after "is", as in "a LoRA of Stable Diffusion XL"."""
        article = "an" if self.title[0] in "aeiouAEIO" else "a"
        return f"{article} {self.title}"

    @property
    def title(self) -> str:
        """As in "LoRA of Stable Diffusion XL"."""
        noun = kinds()[self.kind].noun if self.kind in kinds() else self.kind.replace("_", " ")
        return noun if self.family is None else f"{noun} of {family_title(self.family)}"


@dataclass(frozen=True)
class Seen:
    """Names and shapes of the tensors of a file, and what it says beside them."""

    shapes: Mapping[str, Shape]
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, archive: Archive) -> Seen:
        return cls({name: info.shape for name, info in archive.tensors.items()}, archive.metadata)

    @cached_property
    def heads(self) -> frozenset[str]:
        """The first parts of all names, with their dot."""
        return frozenset(name[: name.find(".") + 1] or name for name in self.shapes)

    @cached_property
    def text(self) -> str:
        """All names, each in a line of its own."""
        return "\n" + "\n".join(self.shapes) + "\n"

    def has(self, *names: str) -> bool:
        """Whether there is a tensor of each of these names."""
        return all(name in self.shapes for name in names)

    def starts(self, *beginnings: str) -> bool:
        """Whether some name begins with one of these."""
        return any(f"\n{beginning}" in self.text for beginning in beginnings)

    def holds(self, *parts: str) -> bool:
        """Whether one of these is part of some name."""
        return any(part in self.text for part in parts)

    def below(self, prefix: str) -> Seen:
        """What lies behind a prefix, without it."""
        if not prefix:
            return self
        cut = len(prefix)
        inner = {name[cut:]: shape for name, shape in self.shapes.items() if name.startswith(prefix)}
        return Seen(inner, self.metadata)

    def find(self, pattern: str) -> Shape | None:
        """The shape of the first tensor of which the pattern matches the whole name."""
        found = re.search(f"\n({pattern})\n", self.text)
        return None if found is None else self.shapes[found[1]]

    def extent(self, name: str, axis: int) -> int | None:
        """The size of one dimension of a tensor; None where there is none."""
        shape = self.shapes.get(name, ())
        return shape[axis] if axis < len(shape) else None

    def count(self, pattern: str) -> int:
        """How many numbers from 0 on the pattern has, as names begin with it."""
        number = 0
        while self.starts(pattern.format(number)):
            number += 1
        return number


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file. noun: what messages call it; recognise: what a file is, None for one of another kind; reads:
    whether one of this identity can be used here (whole models are asked their families instead)."""

    name: str
    noun: str
    recognise: Callable[[Seen], Identity | None]
    reads: Callable[[Identity], bool] = lambda _: False
    aliases: tuple[str, ...] = ()


@cache
def kinds() -> Mapping[str, Kind]:
    """All kinds by name."""
    import atelier.checkpoints.kinds

    return discover(atelier.checkpoints.kinds, Kind)


def identify(archive: Archive) -> Identity | None:
    """What a file is; None for one that is nothing known."""
    return recognised(Seen.of(archive))


def recognised(seen: Seen) -> Identity | None:
    """The same from names and shapes, also where a program has put a wrapper before all names."""
    return next(_asked(seen), None)


def _asked(seen: Seen) -> Iterator[Identity]:
    for wrapped in (seen, seen.below(WRAPPER)) if seen.heads == frozenset({WRAPPER}) else (seen,):
        for kind in kinds().values():
            found = kind.recognise(wrapped)
            if found is not None:
                yield found


def of_known_family(own: Identity) -> bool:
    """Whether it belongs to models that can be opened, and is no variant that needs more than they do."""
    from atelier.checkpoints.opening import families

    return own.variant not in BEYOND and not families().keys().isdisjoint((own.family, *own.fits))


BEYOND = (
    *("unclip", "zero123", "distilled", "motion", "ema", "asymmetric", "consistency", "half", "xs", "sparse"),
    *("t5xxl_whole", "peft_boft", "vera"),
)
"""Variants of known families with parts or inputs of their own."""


def family_title(family: str) -> str:
    """What people call it."""
    from atelier.checkpoints.opening import families

    known = families().get(family)
    return TITLES.get(family, family) if known is None else known.title
