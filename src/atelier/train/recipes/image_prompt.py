"""Teaching a model to read images as prompts: an IP-Adapter from images and their captions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from atelier.train.recipe import Share, Table
from atelier.train.registry import RecipeSpec
from atelier.train.teaching.recipe import TeachingRecipe, check_no_class_images

if TYPE_CHECKING:
    from atelier.checkpoints.image_encoder import ImageEncoder
    from atelier.models.ip_adapter import IpAdapterSpec
    from atelier.train.loop import Placement
    from atelier.train.tasks.image_prompt import ImagePromptTask
    from atelier.train.teaching.base import Base
    from atelier.train.teaching.image_prompt import ImagePromptPupil


class ImagePromptTable(Table, frozen=True):
    """encoder: the file of what sees the images, "" for the model's own. reads: of what it makes of them, the embedding
    (a plain IP-Adapter), or the states of all places (plus). tokens: that become of an image; layers: of the perceiver
    that reads states. references: a folder with an image for each training image, of its name, which is seen in its
    place: another one of the same thing, say. dropout: the share of images that are left out. align: first steps in
    which tokens learn to be what the text encoder makes of the captions. begin: a file of this
    shape, to go on from."""

    encoder: str = ""
    reads: Literal["embedding", "states"] = "embedding"
    tokens: Annotated[int, Field(ge=1, le=1024)] = 4
    layers: Annotated[int, Field(ge=1, le=16)] = 4
    references: str = ""
    dropout: Share = 0.05
    align: Annotated[int, Field(ge=0)] = 0
    begin: str = ""


class ImagePromptRecipe(TeachingRecipe, frozen=True):
    """image_prompt: what is learned, and what sees the images."""

    kind: Literal["image-prompt"]
    image_prompt: ImagePromptTable = ImagePromptTable()

    @model_validator(mode="after")
    def _class(self) -> Self:
        check_no_class_images(self.data)
        return self


def _encoder(recipe: ImagePromptRecipe, base: Base) -> ImageEncoder:
    """Raises BadInput where the model has none of its own and none is named."""
    import torch

    from atelier.checkpoints.image_encoder import open_image_encoder, own_image_encoder
    from atelier.errors import BadInput
    from atelier.families.parts import VISION

    named = recipe.image_prompt.encoder
    if named:
        return open_image_encoder(Path(named), torch.float32)
    if not base.checkpoint.has(VISION):
        raise BadInput(
            f"base {base.checkpoint.name}: has no encoder of images of its own: name one as image_prompt.encoder"
        )
    return own_image_encoder(base.checkpoint, torch.float32)


def _spec(recipe: ImagePromptRecipe, base: Base, encoder: ImageEncoder) -> IpAdapterSpec:
    """Raises BadInput for an encoder without embeddings where those are read."""
    from atelier.errors import BadInput
    from atelier.families.parts.ip_adapter import HEAD_WIDTH
    from atelier.models.ip_adapter import IpAdapterSpec, LinearSpec, ResamplerSpec
    from atelier.train.teaching.image_prompt import unet_of

    own, unet, vision = recipe.image_prompt, unet_of(base).spec, encoder.net.spec
    width = unet.context
    if own.reads == "embedding":
        if vision.projection is None:
            raise BadInput(f"{encoder.name}: has no embedding of images: set image_prompt.reads to states")
        return IpAdapterSpec(LinearSpec(vision.projection, own.tokens, width), unet)
    heads = max(1, width // HEAD_WIDTH)
    return IpAdapterSpec(ResamplerSpec(vision.width, width, width, own.tokens, own.layers, heads, 4 * width), unet)


def _pupil(recipe: ImagePromptRecipe, base: Base) -> ImagePromptPupil:
    from atelier.train.teaching.image_prompt import FAINT, SPOKEN, Seen, finished, pupil_of

    own, encoder = recipe.image_prompt, _encoder(recipe, base)
    seen = Seen(Path(own.references) if own.references else None, Path(recipe.data.source))
    deviation = SPOKEN if own.align else FAINT
    spec = _spec(recipe, base, encoder)
    pupil = pupil_of(base, spec, encoder, seen, own.dropout, recipe.run.seed, deviation)
    if own.begin:
        pupil.prompt.net.load_state_dict(finished(Path(own.begin), base, spec))
    return pupil


def _build(recipe: ImagePromptRecipe, placement: Placement, folder: Path) -> ImagePromptTask:
    from atelier.train.tasks.image_prompt import ImagePromptTask
    from atelier.train.teaching.parts import base_for
    from atelier.train.teaching.training_images import training_images

    base = base_for(recipe, placement, trains_it=False)
    whole = recipe.model_copy(update={"data": recipe.data.model_copy(update={"dropout": 0.0})})
    images, captioned = (training_images(own, base.checkpoint, folder) for own in (recipe, whole))
    return ImagePromptTask(recipe, placement, _pupil(recipe, base), images, captioned, folder)


def _export(recipe: ImagePromptRecipe, folder: Path) -> Path:
    from atelier.train.loop import HERE
    from atelier.train.teaching.parts import base_for
    from atelier.train.teaching.training_images import training_images
    from atelier.train.teaching.writing import write_image_prompt

    base = base_for(recipe, HERE, trains_it=False)
    images = training_images(recipe, base.checkpoint, folder)
    spec = _spec(recipe, base, _encoder(recipe, base))
    return write_image_prompt(folder, recipe, base.checkpoint, spec, images)


IMAGE_PROMPT = RecipeSpec(
    name="image-prompt",
    model=ImagePromptRecipe,
    build=_build,
    export=_export,
    defaults=Path(__file__).with_suffix(".toml"),
    help="an IP-Adapter beside a model, which reads images as prompts; writes a file in its authors' layout",
    aliases=("ip-adapter",),
    splits=True,
)
SPECS = (IMAGE_PROMPT,)
