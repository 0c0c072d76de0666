"""Teaching by a few words: from what somebody wants to a recipe, and from its result to what prompts can name."""

from __future__ import annotations

import filecmp
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.embedded import EMBEDDED
from atelier.errors import BadFile, BadInput
from atelier.runtime.library import Library
from atelier.train import checkpoint
from atelier.train.data import scenes
from atelier.train.data.subsets import Listener, Subset
from atelier.train.data.teaching import collected
from atelier.train.folder import writing
from atelier.train.recipe import FINDS_ITS_RATE, Recipe
from atelier.train.registry import RecipeSpec, read, recipes
from atelier.train.teaching.base import opened
from atelier.train.teaching.presets import SMALL, Method, PresetInput, Subject, changes, method, one_rate, trigger
from atelier.weights.formats.atomic import new_file, reachable

LORA, EMBEDDINGS, MODELS = "Lora", "embeddings", "Stable-diffusion"
"""The folders that results are put into, called as A1111 calls them."""
LONGEST = 255
"""Bytes of a file's name, on all usual file systems."""
PRIOR, KNOWN = 24, 48
"""Images of what the embedded model knows, that keep it from forgetting, and captions that they show in turn."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants. method: its name; data: the training images; name: of the file that is written; base: of a
    model; place: where that lies, for one that was found before; word: what stands for the new thing in prompts; like:
    a known word for what it is; prior: images of the class that the model generates beforehand, None for the usual
    number; more: further changes in the recipe, which win."""

    method: str
    data: Path
    name: str
    base: str = EMBEDDED
    word: str = "zwx"
    like: str = ""
    subject: Subject = "thing"
    prior: int | None = None
    more: Mapping[str, object] = field(default_factory=dict[str, object])
    place: Path | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """recipe: of this kind of training, spec; results: the names of the files that it makes, without their ending, and
    the folder among models for each; uses: what a prompt says to get what is learned, prompt: the same alone; model:
    the one to say it to. size: of the images that are learned from, in pixels; weights: of the network that learns."""

    spec: RecipeSpec[Any]
    recipe: Recipe
    results: Mapping[str, str]
    uses: str
    prompt: str
    model: str
    size: int
    weights: int


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of the training images before they are looked at: how many show the new thing, whether others show
    its class, and how many make a batch, None for the usual number."""

    images: int
    has_class: bool = False
    batch: int | None = None


def default_name(way: str, word: str) -> str:
    """What a result is called where nobody says: as the word; with the method where the word has a file of its own."""
    plain, own = "-".join(word.split()), method(way)
    return f"{plain}-{own.name}" if own.has_word and own.recipe != "inversion" else plain


def planned(wish: Wish, library: Library, tell: Callable[[str], None] = lambda _: None) -> Planned:
    """The recipe of a wish. tell: hears what may surprise. Raises BadInput, BadFile."""
    base = _base(wish, library)
    model = opened(base)
    _check_word(wish.word)
    shown = Subset((model.size, model.size), words=wish.word)
    data = collected(wish.data, shown, listener=Listener(note=tell))
    images = sum(not example.subset.is_class for example in data.examples)
    has_class = len(data.examples) > images or "data.class_source" in wish.more
    return _outlined(wish, base, model, Found(images, has_class, data.batch), tell)


def outlined(wish: Wish, library: Library, found: Found, tell: Callable[[str], None] = lambda _: None) -> Planned:
    """The same before the training images are there. Raises BadInput, BadFile."""
    base = _base(wish, library)
    return _outlined(wish, base, opened(base), found, tell)


def _base(wish: Wish, library: Library) -> str:
    return EMBEDDED if wish.base == EMBEDDED else str(wish.place or library.find(wish.base).path)


def _check_word(word: str) -> None:
    if not word.strip():
        raise BadInput("the word is empty: give one that stands for the new thing, such as zwx")


def _outlined(wish: Wish, base: str, model: Checkpoint, found: Found, tell: Callable[[str], None]) -> Planned:
    way = method(wish.method)
    _check_word(wish.word)
    for known in _meanings(model, wish.word):
        tell(f"{known!r} is a word that {model.name} knows, and its meaning will change: a rarer one keeps it")
    if found.images == 1:
        tell(
            f"{wish.data}: holds one image, which will be learned by heart; five or more show what is to stay the same"
        )
    flow = model.parameterization.flow
    given = PresetInput(str(wish.data), found.images, base, wish.word, _is_small(model), wish.like, wish.subject, flow)
    table = {"name": wish.name, **changes(way, given), **_prior(wish, way, given, has_class=found.has_class)}
    if found.batch is not None:
        table["run.batch"] = found.batch
    if wish.more.get("optim.kind") == FINDS_ITS_RATE:
        table |= one_rate(way)
    if way.recipe == "inversion" and wish.name != default_name(wish.method, wish.word):
        tell(f"the file of a word is called as the word, {wish.word}; {wish.name} is what the run is called")
    spec = recipes()[way.recipe]
    recipe = read(spec.name, spec, {**table, **wish.more})
    prompt, model_of = _uses(way, wish, given)
    uses = prompt if model_of == wish.base else f"{prompt}  (--model {model_of})"
    return Planned(spec, recipe, _results(way, wish), uses, prompt, model_of, model.size, _weights(model))


def _results(way: Method, wish: Wish) -> dict[str, str]:
    word = {wish.word: EMBEDDINGS} if way.has_word else {}
    if way.recipe == "inversion":
        return word
    return {**word, wish.name: LORA if way.recipe == "lora" else MODELS}


def _uses(way: Method, wish: Wish, given: PresetInput) -> tuple[str, str]:
    """What a prompt says, and to which model."""
    named = trigger(way, given)
    match way.recipe:
        case "lora":
            return f"<lora:{wish.name}:1> {named}", wish.base
        case "dreambooth":
            return named, wish.name
        case _:
            return named, wish.base


def _prior(wish: Wish, way: Method, given: PresetInput, *, has_class: bool) -> dict[str, object]:
    """Images of the class. For the embedded model they are of captions such as it was trained on."""
    usual = PRIOR if given.base == EMBEDDED and way.recipe != "inversion" and not has_class else 0
    count = usual if wish.prior is None else wish.prior
    if not count:
        return {}
    if given.base == EMBEDDED and not wish.like:
        return {"data.class_images": count, "data.class_captions": [scenes.scene(0, n).caption for n in range(KNOWN)]}
    if not wish.like:
        raise BadInput("--prior: say with --like what the new thing is, such as dog: images of that are generated")
    return {"data.class_images": count, "data.class_captions": [f"a photo of a {wish.like}"]}


def _is_small(model: Checkpoint) -> bool:
    return _weights(model) < SMALL


def _weights(model: Checkpoint) -> int:
    """Of the denoising network."""
    return sum(map(math.prod, model.parts[model.family.denoiser].shapes().values()))


def _meanings(model: Checkpoint, text: str) -> list[str]:
    """Of the words of a text, those that are one token of the model's first text encoder."""
    tokenizer = model.tokenizers[0]
    return [word for word in text.split() if len(tokenizer.encode(word)) == 1]


def taken(plan: Planned, folder: Path) -> tuple[str, ...]:
    """The names of files that are there already where results of the run would be put."""
    return tuple(target.name for target in targets(plan, folder) if target.exists())


def check_free(plan: Planned, run: Path, folder: Path, *, overwrite: bool = False) -> None:
    """Raises BadFile where a result of the run would take the place of another file, also of an earlier result of its
    own, if there are steps left."""
    for target in targets(plan, folder):
        if target.exists() and not overwrite and not (_same(run / target.name, target) and _is_over(plan, run)):
            raise _taken(target)


def _is_over(plan: Planned, run: Path) -> bool:
    return checkpoint.reached(run / checkpoint.FOLDER) >= plan.recipe.run.steps


def install(plan: Planned, run: Path, folder: Path, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Copies what a run has made to where prompts find it, whole or not at all; where that is. Raises BadFile, also
    where another file has come there meanwhile, and StorageFull."""
    for target in targets(plan, folder):
        if _same(run / target.name, target):
            continue
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with (run / target.name).open("rb") as source, new_file(target, replace=overwrite) as file:
                    shutil.copyfileobj(source, file, 2**20)
            except FileExistsError:
                raise _taken(target) from None
    return targets(plan, folder)


def _taken(target: Path) -> BadFile:
    return BadFile(target, "exists already; choose another --name, or add --overwrite")


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def targets(plan: Planned, folder: Path) -> tuple[Path, ...]:
    """Where the results of a run are put. Raises BadFile for a name that is too long for a file, and for a place that
    cannot be looked at."""
    files = {f"{name}.safetensors": place for name, place in plan.results.items()}
    for file in files:
        if (size := len(os.fsencode(file))) > LONGEST:
            raise BadFile(file, f"takes {size} bytes and names of files at most {LONGEST}: choose a shorter --name")
    return tuple(reachable(folder / place / file) for file, place in files.items())
