"""What to learn at which rate for how long, from what is known before: the method, the model, and how many images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from atelier.errors import UnknownName

Subject = Literal["thing", "face", "style"]
SUBJECTS: tuple[Subject, ...] = ("thing", "face", "style")
SMALL = 200_000_000
"""Weights of a denoiser below which a model learns at other rates than published ones; tried on the embedded one."""
Table = Mapping[str, object]
PURE_NOISE: Table = MappingProxyType({"loss.weight": "even"})
"""Of small models, for methods that were measured with it: min-SNR weighs times of pure noise at nothing, at which a
model with zero terminal SNR decides what is where (docs/adr/0010-muon-and-a-floor.md). Not of `locon`: it drew small
things worse (docs/teaching.md)."""


@dataclass(frozen=True, slots=True)
class Method:
    """A way of teaching.

    recipe: the kind that does it; changes: in its defaults; small: further ones for small models. rates: the learning
    rate of published models and of small ones; steps: for each image, of either, and at least and at most so many of
    both. has_word: whether it learns vectors for its word.
    """

    name: str
    help: str
    recipe: str
    rates: tuple[float, float]
    steps: tuple[int, int]
    least: int
    most: int
    changes: Table = field(default_factory=dict[str, object])
    small: Table = field(default_factory=dict[str, object])
    has_word: bool = False
    aliases: tuple[str, ...] = ()


def _adapter(**own: object) -> dict[str, object]:
    return {f"adapter.{key}": value for key, value in own.items()}


_METHODS = (
    Method(
        "lora",
        "a LoRA: small, quick, right for most",
        "lora",
        (1e-4, 2e-3),
        (150, 30),
        120,
        3000,
        small=PURE_NOISE,
    ),
    Method(
        "locon",
        "a LoRA of the convolutions too",
        "lora",
        (1e-4, 2e-3),
        (150, 30),
        120,
        3000,
        {**_adapter(conv_rank=8, conv_alpha=8), "targets.layers": "all"},
    ),
    Method(
        "loha",
        "products of two LoRAs",
        "lora",
        (2e-4, 3e-3),
        (150, 32),
        120,
        3000,
        _adapter(kind="LoHa", rank=8, alpha=8),
        small=PURE_NOISE,
    ),
    Method(
        "lokr",
        "Kronecker products, smaller still",
        "lora",
        (5e-4, 4e-3),
        (150, 32),
        120,
        3000,
        _adapter(kind="LoKr", factor=4, rank=32, alpha=32),
        small=PURE_NOISE,
    ),
    Method(
        "dora",
        "a LoRA with lengths of its own",
        "lora",
        (1e-4, 2e-3),
        (150, 30),
        120,
        3000,
        _adapter(dora=True),
        small=PURE_NOISE,
    ),
    Method("ia3", "one factor a channel: a few KB", "lora", (5e-3, 2e-2), (150, 60), 120, 3000, _adapter(kind="IA3")),
    Method("oft", "rotations of channels", "lora", (1e-4, 2e-3), (150, 40), 120, 3000, _adapter(kind="OFT")),
    Method(
        "dreambooth",
        "the model's own weights; writes a whole model",
        "dreambooth",
        (2e-6, 3e-4),
        (150, 32),
        120,
        3000,
        small=PURE_NOISE,
    ),
    Method(
        "custom-diffusion",
        "the layers that read the text, and a word",
        "dreambooth",
        (1e-5, 1e-3),
        (100, 40),
        120,
        2000,
        {"targets.layers": "cross-attention", "word.vectors": 1},
        has_word=True,
    ),
    Method(
        "inversion",
        "a word alone: a few KB",
        "inversion",
        (5e-3, 1e-2),
        (600, 60),
        250,
        5000,
        {"loss.weight": "even"},
        small={"word.vectors": 8},
        has_word=True,
        aliases=("ti",),
    ),
    Method(
        "pivotal",
        "a LoRA and a word",
        "lora",
        (1e-4, 2e-3),
        (150, 30),
        120,
        3000,
        {"word.vectors": 2, "word.rate": 5.0},
        small=PURE_NOISE,
        has_word=True,
    ),
)
METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _METHODS})
"""All ways of teaching, by name."""


def method(name: str) -> Method:
    """By its name or another that it goes by. Raises UnknownName."""
    known = {**{alias: own for own in _METHODS for alias in own.aliases}, **METHODS}
    if name.lower() not in known:
        raise UnknownName("method", name, tuple(METHODS))
    return known[name.lower()]


@dataclass(frozen=True, slots=True)
class PresetInput:
    """What presets depend on.

    data: the training images; images: how many there are; base: the model, small: whether it is a small one; word: what
    stands for the new thing in prompts; like: a known word for what it is, "" for none; subject: what kind of thing;
    flow: whether the model is one.
    """

    data: str
    images: int
    base: str
    word: str
    small: bool
    like: str = ""
    subject: Subject = "thing"
    flow: bool = False


def changes(way: Method, given: PresetInput) -> dict[str, object]:
    """What the method and what is given change in the recipe's defaults: dotted key -> value."""
    steps = min(way.most, max(way.least, way.steps[given.small] * given.images))
    table: dict[str, object] = {
        "base": given.base,
        "data.source": given.data,
        "data.caption": caption(way, given),
        "samples": [caption(way, given)],
        "trigger": trigger(way, given),
        "run.steps": steps,
        "run.batch": 4 if given.small else 1,
        "run.validate_every": max(1, steps // 2),
        "run.checkpoint_every": max(50, steps // 4),
        "optim.rate": way.rates[given.small],
        "loss.weight": "min-snr" if (given.small or given.subject == "style") and not given.flow else "even",
        **way.changes,
        **(way.small if given.small else {}),
    }
    if way.recipe == "lora":
        table.setdefault("targets.layers", "transformer")
    if way.has_word:
        table |= {"word.word": given.word, "word.like": given.like or "thing"}
    if given.subject == "face" and not given.small and way.recipe != "inversion":
        table |= {"targets.text": True}
    if not given.small:
        table |= {"run.checkpointing": True, "data.buckets": True, "base_dtype": "auto"}
    return table


def one_rate(way: Method) -> dict[str, object]:
    """What an optimizer that finds its rate itself needs: the whole of it for all that learns."""
    words = {"word.rate": 1.0} if way.has_word else {}
    texts = {} if way.recipe == "inversion" else {"targets.text_rate": 1.0}
    return {"optim.rate": 1.0, **words, **texts}


def trigger(way: Method, given: PresetInput) -> str:
    """What stands for the new thing in captions and prompts: a word of vectors alone is all of it."""
    alone = way.recipe == "inversion" or not given.like or given.subject == "style"
    return given.word if alone else f"{given.word} {given.like}"


def caption(way: Method, given: PresetInput) -> str:
    """What images without a caption are said to show, as the published scripts say it."""
    named = trigger(way, given)
    if given.subject == "style":
        return f"{given.word} style"
    return f"a {named}" if given.small else f"a photo of {named}"
