"""kohya's file about training images: [general], [[datasets]], [[datasets.subsets]]; the lower level wins."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, cast

from pydantic import BaseModel, Field, ValidationError

from atelier.errors import BadFile, BadInput, nearest
from atelier.train.data.buckets import Buckets, Size
from atelier.train.data.captions import ENDINGS
from atelier.train.data.examples import MOST_REPEATS, read, read_metadata
from atelier.train.data.subsets import STRICT, Example, Listener, Subset
from atelier.train.data.wording import Wording
from atelier.weights.formats.text import read_text

Side = Annotated[int, Field(gt=0, le=8192)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Share = Annotated[float, Field(ge=0, le=1)]

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "color_aug": "colours are never changed, as what is kept of encoded images would not fit",
        "face_crop_aug_range": "parts are the middle, or drawn with random_crop",
        "random_crop_padding_percent": "the smallest size that covers the bucket is what is drawn from",
        "cache_info": "what is kept of images is named by their content",
        "network_multiplier": "the strength of what is trained is 1",
        "validation_seed": "the training says what is held out",
        "validation_split": "the training says what is held out",
        "skip_image_resolution": "take the images out that are too small; `atelier data inspect` lists them",
        "custom_attributes": "nothing reads them",
        "resize_interpolation": "images are resized with Lanczos' filter",
    }
)
"""Keys of kohya's that mean nothing here, with the reason; they may be there with a value that asks for nothing."""


class _Keys(BaseModel, frozen=True, extra="forbid", strict=True):
    """Everything that a subset is told, by kohya's names and with kohya's defaults."""

    image_dir: str = ""
    metadata_file: str = ""
    conditioning_data_dir: str = ""
    batch_size: Annotated[int, Field(gt=0, le=2**16)] | None = None
    resolution: Side | Annotated[list[Side], Field(min_length=2, max_length=2)]
    enable_bucket: bool = False
    bucket_no_upscale: bool = False
    bucket_reso_steps: Side = 64
    min_bucket_reso: Side = 256
    max_bucket_reso: Side = 1024
    is_reg: bool = False
    class_tokens: str = ""
    num_repeats: Annotated[int, Field(gt=0, le=MOST_REPEATS)] = 1
    caption_extension: str = ""
    caption_prefix: str = ""
    caption_suffix: str = ""
    caption_separator: str = ","
    caption_dropout_rate: Share = 0.0
    caption_dropout_every_n_epochs: Count = 0
    caption_tag_dropout_rate: Share = 0.0
    enable_wildcard: bool = False
    shuffle_caption: bool = False
    keep_tokens: Count = 0
    keep_tokens_separator: str = ""
    secondary_separator: str = ""
    token_warmup_min: Annotated[int, Field(ge=1, le=10**6)] = 1
    token_warmup_step: Annotated[float, Field(ge=0, le=10**9)] = 0
    flip_aug: bool = False
    random_crop: bool = False
    alpha_mask: bool = False


@dataclass(frozen=True, slots=True)
class Described:
    """What a file describes: its training images, and how many make a batch, None where it does not say."""

    examples: tuple[Example, ...]
    batch: int | None


def read_toml(path: Path, listener: Listener = STRICT) -> Described:
    """The training images that a file describes. Its folders are those from here, or else beside the file.

    Raises BadFile naming the key that cannot be used, and as `examples.read` does.
    """
    keys = [_checked(table, where, path) for where, table in _subsets(_parsed(path), path)]
    batches = {own.batch_size for own in keys}
    if len(batches) > 1:
        raise BadFile(path, "its data sets have several values of batch_size: give all of them one")
    examples = tuple(example for own in keys for example in _read(own, path, listener))
    return Described(examples, batches.pop())


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadFile(path, f"is no TOML: {error}") from error


def _subsets(table: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What every subset is told, by its place in the file."""
    for key in table.keys() - {"general", "datasets"}:
        raise BadFile(path, f"{key} is no table of training images: {nearest(key, ('general', 'datasets'))}")
    general = _table(table.get("general", {}), "general", path)
    datasets = _tables(table.get("datasets", []), "datasets", path)
    for number, dataset in enumerate(datasets):
        where = f"datasets.{number}"
        own = {key: value for key, value in dataset.items() if key != "subsets"}
        for place, subset in enumerate(_tables(dataset.get("subsets", []), f"{where}.subsets", path)):
            yield f"{where}.subsets.{place}", {**general, **own, **subset}


def _tables(value: object, where: str, path: Path) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list) or not value:
        raise BadFile(path, f"has no [[{where}]]: write one, with the image_dir of its subsets")
    return [_table(one, where, path) for one in cast("list[object]", value)]


def _table(value: object, where: str, path: Path) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadFile(path, f"{where} is no table of keys")
    return cast("dict[str, Any]", value)


def _checked(table: Mapping[str, Any], where: str, path: Path) -> _Keys:
    for key in table.keys() & REFUSED.keys():
        if table[key]:
            raise BadFile(path, f"{where}: {key} is not taken ({REFUSED[key]}): take it out")
    told = {key: value for key, value in table.items() if key not in REFUSED}
    for key in told.keys() - _Keys.model_fields.keys():
        raise BadFile(path, f"{where}: {key} is no key of training images: {nearest(key, tuple(_Keys.model_fields))}")
    try:
        return _Keys.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        key = first["loc"][0]
        value = json.dumps(told.get(str(key)), default=str)
        raise BadFile(path, f"{where}: {key} = {value}: {first['msg'][0].lower()}{first['msg'][1:]}") from None


def _read(keys: _Keys, path: Path, listener: Listener) -> Iterator[Example]:
    try:
        subset = _subset(keys, path)
    except BadInput as error:
        raise BadFile(path, str(error)) from None
    if keys.metadata_file:
        file = _place(keys.metadata_file, path)
        folder = _place(keys.image_dir, path) if keys.image_dir else file.parent
        yield from read_metadata(file, folder, subset, listener)
    elif keys.image_dir:
        yield from read(_place(keys.image_dir, path), subset, listener)
    else:
        raise BadFile(path, "a subset has neither image_dir nor metadata_file: give it the folder of its images")


def _subset(keys: _Keys, path: Path) -> Subset:
    return Subset(
        shape=_shape(keys),
        words=keys.class_tokens,
        repeats=keys.num_repeats,
        is_class=keys.is_reg,
        wording=Wording(
            prefix=keys.caption_prefix,
            suffix=keys.caption_suffix,
            dropout=keys.caption_dropout_rate,
            every_epochs=keys.caption_dropout_every_n_epochs,
            choices=keys.enable_wildcard,
            shuffle=keys.shuffle_caption,
            keep=keys.keep_tokens,
            keep_separator=keys.keep_tokens_separator,
            separator=keys.caption_separator,
            second_separator=keys.secondary_separator,
            tag_dropout=keys.caption_tag_dropout_rate,
            warmup=keys.token_warmup_step,
            least=keys.token_warmup_min,
        ),
        flip=keys.flip_aug,
        random_crop=keys.random_crop,
        alpha_mask=keys.alpha_mask,
        masks=_place(keys.conditioning_data_dir, path) if keys.conditioning_data_dir else None,
        endings=(keys.caption_extension,) if keys.caption_extension else ENDINGS,
    )


def _shape(keys: _Keys) -> Buckets | Size:
    width, height = keys.resolution if isinstance(keys.resolution, list) else (keys.resolution, keys.resolution)
    if not keys.enable_bucket:
        return width, height
    return Buckets(
        width * height,
        keys.bucket_reso_steps,
        keys.min_bucket_reso,
        keys.max_bucket_reso,
        upscale=not keys.bucket_no_upscale,
    )


def _place(name: str, path: Path) -> Path:
    here = Path(name).expanduser()
    return here if here.exists() else path.parent / here
