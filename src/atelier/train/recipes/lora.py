"""Teaching with a weight adapter: LoRA and its kin, beside a model that stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from atelier.train.recipe import Positive, Rate, Table, Weight
from atelier.train.registry import RecipeSpec
from atelier.train.teaching.preparing import prepared
from atelier.train.teaching.recipe import Targets, TeachingRecipe, Word, check_names

if TYPE_CHECKING:
    from atelier.adapters.growing import Growth
    from atelier.train.loop import Placement
    from atelier.train.tasks.teaching import TeachingTask
    from atelier.train.teaching.base import Base
    from atelier.train.teaching.pupils import AdapterPupil, WordPupil

Rank = Annotated[int, Field(ge=1, le=4096)]
Dropped = Annotated[float, Field(ge=0, lt=1)]


WITHOUT_LENGTHS = frozenset({"ia3", "(ia)^3", "oft", "diag-oft", "full", "difference"})
"""Kinds of adapters that DoRA does not go with."""
THROUGH_RANKS = frozenset({"lora", "locon"})
"""Kinds that are computed through their ranks in training, without lengths of their own."""


ALGORITHMS: Mapping[str, str] = {"oft": "diag-oft", "(ia)^3": "ia3", "difference": "full"}
"""What LyCORIS calls kinds, where it is not their name here."""


class Adapter(Table, frozen=True):
    """kind: LoRA, LoHa, LoKr, GLoRA, IA3, OFT or full; dora: whether the lengths of the output channels are learned
    apart. rank, alpha: of the differences, which are multiplied with alpha / rank; conv_rank, conv_alpha: of
    convolutions larger than a point, 0: they get none. factor: of LoKr, -1 for the most square factors; block: of OFT,
    channels that are rotated together; up_ratio: the rate of LoRA's second matrices over that of the first (LoRA+).
    dropout, rank_dropout, module_dropout: shares of the activations between LoRA's matrices, of its ranks, and of the
    layers of any kind, that a step leaves out.
    """

    kind: str = "LoRA"
    rank: Rank = 16
    alpha: Weight = 16.0
    conv_rank: Annotated[int, Field(ge=0, le=4096)] = 0
    conv_alpha: Weight = 16.0
    dora: bool = False
    factor: Annotated[int, Field(ge=-1)] = -1
    block: Positive = 4
    up_ratio: Rate = 1.0
    dropout: Dropped = 0.0
    rank_dropout: Dropped = 0.0
    module_dropout: Dropped = 0.0


class LoraRecipe(TeachingRecipe, frozen=True):
    """adapter: what is trained; targets: of which layers; word: a word that is taught with it, if one is given."""

    kind: Literal["lora"]
    adapter: Adapter = Adapter()
    targets: Targets = Targets()
    word: Word = Word()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.adapter.dora and self.adapter.kind.lower() in WITHOUT_LENGTHS:
            raise ValueError(f"adapter.dora: {self.adapter.kind} has no lengths of its own; choose LoRA, LoHa or LoKr")
        own = self.adapter
        if (own.dropout or own.rank_dropout) and (own.dora or own.kind.lower() not in THROUGH_RANKS):
            raise ValueError(
                "adapter.dropout and rank_dropout: only LoRA without dora is computed through its ranks; choose that, "
                "or module_dropout"
            )
        if own.up_ratio != 1 and own.kind.lower() not in THROUGH_RANKS:
            raise ValueError(f"adapter.up_ratio: {own.kind} has no second matrices as LoRA has; choose LoRA, or 1")
        check_names(self.name, self.word)
        return self


def _growth(own: Adapter) -> Growth:
    from atelier.adapters.delta import Size
    from atelier.adapters.growing import Growth

    kernels = Size(own.conv_rank, own.conv_alpha, own.factor, own.block) if own.conv_rank else None
    return Growth(own.kind, Size(own.rank, own.alpha, own.factor, own.block), kernels, own.dora)


def _pupil(recipe: LoraRecipe, base: Base) -> AdapterPupil:
    from atelier.train.teaching.dropout import Dropout
    from atelier.train.teaching.parts import layers
    from atelier.train.teaching.pupils import AdapterPupil

    own, on = recipe.adapter, layers(recipe.targets, base.checkpoint)
    dropout = Dropout(own.dropout, own.rank_dropout, own.module_dropout)
    return AdapterPupil(base, _growth(own), on, recipe.run.seed, recipe.targets.text_rate, own.up_ratio, dropout)


def _word(recipe: LoraRecipe, base: Base) -> WordPupil:
    from atelier.train.teaching.pupils import WordPupil

    own = recipe.word
    return WordPupil(base, own.word, own.vectors, own.like, own.rate)


def _build(recipe: LoraRecipe, placement: Placement, folder: Path) -> TeachingTask:
    from atelier.train.tasks.teaching import TeachingTask
    from atelier.train.teaching.parts import base_for
    from atelier.train.teaching.pupils import Together
    from atelier.train.teaching.training_images import check_word, training_images

    base = base_for(recipe, placement, trains_it=False)
    images, adapter = training_images(recipe, base.checkpoint, folder), _pupil(recipe, base)
    if not recipe.word.word:
        return TeachingTask(recipe, placement, base, adapter, images, folder)
    check_word(recipe.word, images)
    return TeachingTask(recipe, placement, base, Together(_word(recipe, base), adapter), images, folder)


def _export(recipe: LoraRecipe, folder: Path) -> Path:
    from atelier.train.teaching.base import opened
    from atelier.train.teaching.parts import layers
    from atelier.train.teaching.pupils import grown
    from atelier.train.teaching.training_images import training_images
    from atelier.train.teaching.writing import write_adapter, write_word

    model, own = opened(recipe.base), recipe.adapter
    images = training_images(recipe, model, folder)
    if recipe.word.word:
        write_word(folder, recipe, model, recipe.word.word, images)
    more = {
        "network_module": "networks.lora" if own.kind.lower() == "lora" and not own.dora else "lycoris.kohya",
        "network_dim": own.rank,
        "network_alpha": own.alpha,
        "network_dropout": own.dropout or None,
        "network_args": _arguments(own),
        "text_encoder_lr": recipe.optim.rate * recipe.targets.text_rate if recipe.targets.text else None,
    }
    adapters = grown(model, _growth(own), layers(recipe.targets, model), recipe.run.seed)
    return write_adapter(folder, recipe, model, adapters, images, more)


def _arguments(own: Adapter) -> dict[str, object] | None:
    """What kohya's scripts say of the network beside its rank; None for a plain LoRA."""
    found: dict[str, object] = {}
    if own.conv_rank:
        found |= {"conv_dim": str(own.conv_rank), "conv_alpha": str(own.conv_alpha)}
    found |= {key: str(rate) for key, rate in _dropouts(own) if rate}
    if own.kind.lower() != "lora" or own.dora:
        found |= {"algo": ALGORITHMS.get(own.kind.lower(), own.kind.lower()), "dora_wd": own.dora, "factor": own.factor}
    return found or None


def _dropouts(own: Adapter) -> tuple[tuple[str, float], ...]:
    return ("rank_dropout", own.rank_dropout), ("module_dropout", own.module_dropout)


LORA = RecipeSpec(
    name="lora",
    model=LoraRecipe,
    build=_build,
    export=_export,
    defaults=Path(__file__).with_suffix(".toml"),
    help="a LoRA, LoHa, LoKr, DoRA, IA3 or OFT beside any model; writes one .safetensors file",
    aliases=("adapter",),
    splits=True,
    prepare=prepared,
)
SPECS = (LORA,)
