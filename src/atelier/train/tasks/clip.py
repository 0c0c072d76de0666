"""Training CLIP: text and vision towers that meet in one space, and the vocabulary they read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from atelier.errors import BadFile
from atelier.models.clip import DEVIATION, MEAN, ClipText, ClipVision, Layer, TextSpec, VisionSpec
from atelier.train import checkpoint
from atelier.train.batches import Captioned, CaptionedBatches, Order, captioned
from atelier.train.data.dataset import Dataset
from atelier.train.data.sheet import sheet
from atelier.train.folder import writing
from atelier.train.loop import Placement, Validation
from atelier.train.optimizers import optimizers, stepped
from atelier.train.recipes.clip import ClipRecipe
from atelier.train.recompute import recomputed
from atelier.train.sources import dataset, identity
from atelier.train.starts import TOKENIZER, Towers, towers_at
from atelier.train.trainable import freeze
from atelier.train.vocabulary import learn
from atelier.weights.formats.atomic import new_folder
from atelier.weights.load import load_into
from atelier.weights.tokenizer import ClipTokenizer

RETRIEVAL, SHOWN = 150, 24


def text_spec(recipe: ClipRecipe, vocabulary: ClipTokenizer) -> TextSpec:
    """The shape of the recipe's text tower for that vocabulary."""
    m = recipe.model
    return TextSpec(
        vocab=vocabulary.size,
        width=m.width,
        layers=m.layers,
        heads=m.heads,
        mlp=4 * m.width,
        positions=m.positions,
        projection=m.embedding,
        eos=vocabulary.eos,
    )


def vision_spec(recipe: ClipRecipe) -> VisionSpec:
    """The shape of the recipe's vision tower."""
    m = recipe.model
    return VisionSpec(
        image=recipe.data.size,
        patch=m.patch,
        width=m.vision_width,
        layers=m.vision_layers,
        heads=m.vision_heads,
        mlp=4 * m.vision_width,
        projection=m.embedding,
    )


def initialise(tower: ClipText | ClipVision) -> None:
    """CLIP's initialisation: branches shrink with the number of layers (Radford 2021, section 2.5)."""
    width, layers = tower.spec.width, tower.spec.layers
    into, out = width**-0.5, width**-0.5 * (2 * layers) ** -0.5
    if isinstance(tower, ClipText):
        nn.init.normal_(tower.token_embedding.weight, std=0.02)
    else:
        nn.init.normal_(tower.class_embedding, std=into)
    nn.init.normal_(tower.position_embedding.weight, std=0.01)
    for layer in tower.layers:
        assert isinstance(layer, Layer)
        for projection in (layer.attn.to_q, layer.attn.to_k, layer.attn.to_v):
            nn.init.normal_(projection.weight, std=into)
            nn.init.zeros_(projection.bias)
        nn.init.normal_(layer.attn.to_out.weight, std=out)
        nn.init.normal_(layer.mlp.fc1.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(layer.mlp.fc2.weight, std=out)
    assert tower.projection is not None
    nn.init.normal_(tower.projection.weight, std=into)


class Clip(nn.Module):
    """Both towers and the learned temperature of their similarity."""

    def __init__(self, text: TextSpec, vision: VisionSpec) -> None:
        super().__init__()
        self.text, self.vision = ClipText(text), ClipVision(vision)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def embed_text(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.text(tokens).pooled.float(), dim=-1)

    def embed_image(self, image: Tensor) -> Tensor:
        embedding = self.vision(image).embedding
        assert embedding is not None
        return F.normalize(embedding.float(), dim=-1)


def contrastive_loss(texts: Tensor, images: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy over the similarities of a batch of unit vectors (B, E)."""
    logits = scale * images @ texts.T
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def normalised(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 (B, H, W, 3) to what the vision tower reads: (B, 3, H, W) with CLIP's mean and deviation removed."""
    image = torch.from_numpy(pixels).to(device).float() / 255
    return ((image - torch.tensor(MEAN, device=device)) / torch.tensor(DEVIATION, device=device)).permute(0, 3, 1, 2)


OUTER = ("text.token_embedding", "text.position_embedding", "vision.patch_embedding", "vision.position_embedding")


TEXT = "text."
"""How the parameters of the text tower begin."""


def text_weights(towers: Towers) -> dict[str, Tensor]:
    """The weights of the text tower, by its own names."""
    return {name.removeprefix(TEXT): tensor for name, tensor in towers.tensors.items() if name.startswith(TEXT)}


class ClipTask:
    """Both towers on captioned images. A new run writes its vocabulary into `folder`/tokenizer first."""

    def __init__(self, recipe: ClipRecipe, placement: Placement, folder: Path) -> None:
        self.recipe, self.placement = recipe, placement
        self._data, self._held_out = dataset(recipe.data, "train"), dataset(recipe.data, "held_out")
        self.vocabulary = _vocabulary(recipe, self._data, folder)
        torch.manual_seed(recipe.run.seed)
        self.clip = Clip(text_spec(recipe, self.vocabulary), vision_spec(recipe))
        initialise(self.clip.text)
        initialise(self.clip.vision)
        if recipe.begin:
            freeze(self.clip, (TEXT,))
        self.clip = self.clip.to(placement.device)
        self._optimizers = optimizers("clip", self.clip, recipe.optim, OUTER)
        if recipe.run.checkpointing:
            recomputed(self.clip)

    def begin(self) -> None:
        """A text tower that is kept as it is, and the temperature that goes with it."""
        if not self.recipe.begin:
            return
        start = towers_at(Path(self.recipe.begin))
        if start.text != self.clip.text.spec:
            raise BadFile(self.recipe.begin, "holds a text tower of another shape than [model]; give the same numbers")
        self.clip.text.load_state_dict(text_weights(start))
        with torch.no_grad():
            self.clip.logit_scale.copy_(start.tensors["logit_scale"])

    @property
    def nets(self) -> Mapping[str, nn.Module]:
        return {"clip": self.clip}

    @property
    def aids(self) -> Mapping[str, nn.Module]:
        return {}

    @property
    def frozen(self) -> Sequence[nn.Module]:
        return ()

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return self._optimizers

    @property
    def identity(self) -> str:
        return identity(self.recipe, self._data)

    @property
    def maker(self) -> Callable[[int], Captioned]:
        order = Order(self._data.length, self.recipe.run.batch, self.recipe.run.seed)
        return CaptionedBatches(self._data, order, self.vocabulary)

    def count(self, batch: Captioned, /) -> int:
        return len(batch.tokens)

    def dry(self, batch: Captioned, /) -> Tensor:
        return self._loss(Captioned(batch.pixels[:1], batch.tokens[:1]))

    def _loss(self, batch: Captioned) -> Tensor:
        tokens = torch.from_numpy(batch.tokens).to(self.placement.device)
        with self.placement.autocast():
            texts = self.clip.embed_text(tokens)
            images = self.clip.embed_image(normalised(batch.pixels, self.placement.device))
        return contrastive_loss(texts, images, self.clip.logit_scale.exp())

    def update(self, _: int, batch: Captioned, /) -> Mapping[str, Tensor]:
        loss = self._loss(batch)
        norm = stepped(self._optimizers, self.clip, loss, self.recipe.optim.clip)
        with torch.no_grad():
            self.clip.logit_scale.clamp_(0, math.log(100))
        return {"loss": loss.detach(), "norm": norm, "temperature": self.clip.logit_scale.detach().exp()}

    def validate(self) -> Validation:
        """Retrieval among held-out images."""
        found = retrieval(self.clip, self._held_out, self.vocabulary, self.placement.device)
        return Validation({"r@1": found.r_at_1}, {"retrieval": found.page(SHOWN)})

    def extra(self) -> Mapping[str, Any]:
        return {}


def _vocabulary(recipe: ClipRecipe, data: Dataset, folder: Path) -> ClipTokenizer:
    """The run's vocabulary. As long as it has no checkpoint it is learned, or taken from where the run begins."""
    place = folder / TOKENIZER
    if checkpoint.newest(folder / checkpoint.FOLDER) is None:
        vocabulary = (
            ClipTokenizer.from_folder(towers_at(Path(recipe.begin)).vocabulary)
            if recipe.begin
            else _learned(recipe, data)
        )
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with new_folder(place, overwrite=True) as fresh:
                vocabulary.save(fresh)
    elif not place.is_dir():
        raise BadFile(folder, f"holds checkpoints without {TOKENIZER}/: a run of another kind? Give another --out")
    return ClipTokenizer.from_folder(place)


def _learned(recipe: ClipRecipe, data: Dataset) -> ClipTokenizer:
    count = min(data.length or recipe.model.captions, recipe.model.captions)
    return learn((data.caption(i) for i in range(count)), recipe.model.vocab, recipe.model.positions)


def assembled(towers: Towers) -> Clip:
    """CLIP of these towers, for use."""
    return load_into(lambda: Clip(towers.text, towers.vision), towers.tensors).eval()


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Images uint8 (N, H, W, 3) of different captions, and for each which caption is the most similar of all."""

    pixels: NDArray[np.uint8]
    captions: tuple[str, ...]
    nearest: tuple[int, ...]

    @property
    def r_at_1(self) -> float:
        """The share of the images whose own caption is the most similar."""
        return sum(own == found for own, found in enumerate(self.nearest)) / len(self.nearest)

    def page(self, count: int) -> Image.Image:
        """The first `count` images, each with the caption that was found, and the right one where that was wrong."""
        found = [self.captions[number] for number in self.nearest]
        words = [a if a == b else f"WRONG: {a} (is: {b})" for a, b in zip(found, self.captions, strict=True)]
        return sheet(list(self.pixels[:count]), words[:count], columns=8)


@torch.no_grad()
def retrieval(clip: Clip, data: Dataset, vocabulary: ClipTokenizer, device: torch.device) -> Retrieval:
    """Looks for the captions of 150 images among all of theirs."""
    chosen: dict[str, int] = {}
    index = 0
    limit = data.length or 100 * RETRIEVAL
    while len(chosen) < RETRIEVAL and index < limit:
        chosen.setdefault(data.caption(index), index)
        index += 1
    batch = captioned(data, list(chosen.values()), vocabulary)
    texts = clip.embed_text(torch.from_numpy(batch.tokens).to(device))
    images = clip.embed_image(normalised(batch.pixels, device))
    nearest = tuple(int(number) for number in (images @ texts.T).argmax(1))
    return Retrieval(batch.pixels, tuple(chosen), nearest)
