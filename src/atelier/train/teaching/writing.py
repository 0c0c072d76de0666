"""What a teaching leaves: an adapter, a word, or a whole model, as other programs read them."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from torch import Tensor

from atelier.adapters import describing
from atelier.adapters.control_lora import stored_control_lora
from atelier.adapters.growing import Growing
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.write import write_ldm
from atelier.errors import BadFile
from atelier.models.ip_adapter import IpAdapterSpec
from atelier.train import checkpoint
from atelier.train.data.buckets import Buckets, Size
from atelier.train.data.cache import image_digest
from atelier.train.data.subsets import Example
from atelier.train.data.teaching import TeachingSet
from atelier.train.folder import began
from atelier.train.pace import pace
from atelier.train.recipes.control import ControlRecipe
from atelier.train.recipes.image_prompt import ImagePromptRecipe
from atelier.train.teaching.control import ControlPupil, LowControl
from atelier.train.teaching.recipe import TeachingRecipe
from atelier.train.teaching.taught_model import TaughtModel
from atelier.weights.cast import cast, precision
from atelier.weights.formats import safetensors
from atelier.weights.names.controlnet import names as control_names
from atelier.weights.names.ip_adapter import names as ip_adapter_names
from atelier.weights.save import stored_as

SUFFIX = ".safetensors"
AVERAGES = ".ema"
"""What the names of averaged weights end with in checkpoints."""
PLACES = frozenset({"base", "source", "masks", "class_source", "hints", "encoder", "references"})
"""Keys of recipes that name files and folders."""
WIDTHS: Mapping[int, str] = {0: "clip_l", 1: "clip_g"}
"""What files with vectors for several text encoders call them, in their order."""


def learned(run: Path) -> Mapping[str, Mapping[str, Tensor]]:
    """What the newest checkpoint of a run has of each net: the averages, by the names of the parameters. Raises
    BadFile."""
    tensors = checkpoint.load(_newest(run), only=AVERAGES).tensors
    return {name.removesuffix(AVERAGES): own for name, own in tensors.items()}


def _newest(run: Path) -> Path:
    newest = checkpoint.newest(run / checkpoint.FOLDER)
    if newest is None:
        raise BadFile(run, "holds no whole checkpoint; train first")
    return newest


def _base_sha256(run: Path, model: Checkpoint) -> str:
    """Of the model that the run learned on. Raises BadFile where another one lies there now."""
    found = model.sha256()
    if checkpoint.state_of(_newest(run)).get("model", found) != found:
        raise BadFile(model.path, f"is no longer what {run} learned on: put the earlier file back, and run it again")
    return found


def write_adapter(
    run: Path,
    recipe: TeachingRecipe,
    model: Checkpoint,
    adapters: Mapping[str, Growing],
    images: TeachingSet,
    more: Mapping[str, object],
) -> Path:
    """One file in kohya's and LyCORIS' names. adapters: of each part, as what was learned fits them; more: what its
    metadata has of the recipe beside the usual."""
    found = learned(run)
    tensors: dict[str, Tensor] = {}
    for part, adapter in adapters.items():
        tensors |= _adapter(adapter, found[part])
    return _write(run, recipe, model, images, tensors, more)


def _adapter(adapter: Growing, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in adapter.file(own).items()}


def write_word(run: Path, recipe: TeachingRecipe, model: Checkpoint, word: str, images: TeachingSet) -> Path:
    """One file of vectors, called as the word: one tensor under it, as diffusers and A1111 read; one for each text
    encoder, as kohya's scripts and ComfyUI do."""
    own = learned(run)["words"]
    vectors = [own[f"towers.{number}"].cpu().contiguous() for number in range(len(own))]
    named = {word: vectors[0]} if len(vectors) == 1 else {WIDTHS[n]: v for n, v in enumerate(vectors)}
    return _write(run, recipe, model, images, named, {}, "textual-inversion", word)


def write_control(
    run: Path, recipe: ControlRecipe, model: Checkpoint, pupil: ControlPupil, images: TeachingSet
) -> Path:
    """A Control-LoRA in Stability AI's names, or a ControlNet in cldm's."""
    own, learner = learned(run)["control"], pupil.learner
    learner.load_state_dict({**learner.state_dict(), **own})
    if isinstance(learner, LowControl):
        tensors = stored_control_lora(learner.lora, pupil.spec)
    else:
        theirs = {name.ours: f"control_model.{name.ldm}" for name in control_names(pupil.spec)}
        tensors = {theirs[name]: tensor for name, tensor in learner.net.state_dict().items()}
    found = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return _write(run, recipe, model, images, found, {"control_type": recipe.type}, "control")


def write_image_prompt(
    run: Path, recipe: ImagePromptRecipe, model: Checkpoint, spec: IpAdapterSpec, images: TeachingSet
) -> Path:
    """An IP-Adapter in its authors' names."""
    tensors = stored_as(learned(run)["image_prompt"], ip_adapter_names(spec), "ldm")
    found = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    return _write(run, recipe, model, images, found, {}, "image-prompt")


def write_model(run: Path, recipe: TeachingRecipe, model: Checkpoint, channels: int, images: TeachingSet) -> Path:
    """The whole model as a single file in the original layout, with what was learned in the places of its own, of which
    little else is in memory. channels: of the denoiser's input."""
    path = run / f"{recipe.name}{SUFFIX}"
    parts = _base(run, model), _recipe_metadata(recipe, images), _data(images), _made(run, recipe, path.stem, "model")
    said = describing.described_model(*parts, model.metadata)
    write_ldm(TaughtModel(model, learned(run), channels, said), path, precision(recipe.dtype))
    return path


def _write(
    run: Path,
    recipe: TeachingRecipe,
    model: Checkpoint,
    images: TeachingSet,
    tensors: Mapping[str, Tensor],
    more: Mapping[str, object],
    kind: describing.Kind = "lora",
    name: str = "",
) -> Path:
    path = run / f"{name or recipe.name}{SUFFIX}"
    said = {**_recipe_metadata(recipe, images), **more}
    described = describing.described(_base(run, model), said, _data(images), _made(run, recipe, path.stem, kind))
    written = cast(tensors, precision(recipe.dtype))
    safetensors.save(path, written, describing.sealed(written, described))
    return path


def _base(run: Path, model: Checkpoint) -> describing.Base:
    return describing.Base(model.family.name, model.facts.prediction, model.name, _base_sha256(run, model))


def _made(run: Path, recipe: TeachingRecipe, name: str, kind: describing.Kind) -> describing.Made:
    keyed = {"trigger_phrase": recipe.trigger} if recipe.trigger else {}
    return describing.Made(name, *_times(run), kind, keyed)


def _times(run: Path) -> tuple[float, float]:
    """When the run began, and when it saved what is written, so that a run that is written again says the same."""
    finished, since = checkpoint.saved(_newest(run)), began(run)
    return (finished if since is None else since / 1e9), finished


def _recipe_metadata(recipe: TeachingRecipe, images: TeachingSet) -> dict[str, object]:
    """The recipe as plain values, and under kohya's names what those have one for."""
    run, optim, loss, noise = recipe.run, recipe.optim, recipe.loss, recipe.noise
    epochs = -(-run.steps // images.epoch)
    return {
        **_shared(recipe),
        "learning_rate": optim.rate,
        "unet_lr": optim.rate,
        "optimizer": optim.kind,
        "lr_scheduler": optim.schedule,
        "lr_warmup_steps": pace(optim, run.steps).warmup,
        "max_grad_norm": optim.clip,
        "max_train_steps": run.steps,
        "steps": run.steps,
        "epoch": epochs,
        "num_epochs": epochs,
        "num_batches_per_epoch": images.epoch,
        "seed": run.seed,
        "total_batch_size": run.batch,
        "gradient_accumulation_steps": run.accumulate,
        "gradient_checkpointing": run.checkpointing,
        "min_snr_gamma": loss.snr_gamma if loss.weight == "min-snr" else None,
        "debiased_estimation": loss.weight == "debiased",
        "prior_loss_weight": loss.prior_weight,
        "zero_terminal_snr": loss.zero_snr,
        "clip_skip": recipe.clip_skip if recipe.clip_skip > 1 else None,
        "noise_offset": noise.offset or None,
        "multires_noise_iterations": noise.pyramid or None,
        "multires_noise_discount": noise.discount,
        "ip_noise_gamma": noise.perturbation or None,
        **_shown(images),
    }


def _shared(recipe: TeachingRecipe) -> dict[str, object]:
    """The recipe for a file that others read: of each place the last part, since folders of somebody's machine are
    nobody's business. What was learned from which model is told by hashes."""
    return json.loads(recipe.model_dump_json(), object_hook=_without_folders)


def _without_folders(table: dict[str, object]) -> dict[str, object]:
    return {
        key: PurePath(value).name if key in PLACES and isinstance(value, str) else value for key, value in table.items()
    }


def _shown(images: TeachingSet) -> dict[str, object]:
    """How the images were shown, under kohya's names: as their own places say, a TOML file say."""
    ways = {example.subset for example in images.instances}
    return {
        "cache_latents": not any(way.random_crop for way in ways),
        "flip_aug": any(way.flip for way in ways),
        "random_crop": any(way.random_crop for way in ways),
        "shuffle_caption": any(way.wording.shuffle for way in ways),
        "keep_tokens": max(way.wording.keep for way in ways),
        "caption_dropout_rate": max(way.wording.dropout for way in ways),
        "caption_dropout_every_n_epochs": max(way.wording.every_epochs for way in ways),
        "caption_tag_dropout_rate": max(way.wording.tag_dropout for way in ways),
        **_buckets(images, [way.shape for way in ways if isinstance(way.shape, Buckets)]),
    }


def _buckets(images: TeachingSet, ways: Sequence[Buckets]) -> dict[str, object]:
    if not ways:
        return {"enable_bucket": False}
    shown = ({"resolution": list(size), "count": count} for size, count in images.buckets.items())
    return {
        "enable_bucket": True,
        "bucket_no_upscale": not all(way.upscale for way in ways),
        "min_bucket_reso": min(way.smallest for way in ways),
        "max_bucket_reso": max(way.largest for way in ways),
        "bucket_info": {"buckets": {str(number): bucket for number, bucket in enumerate(shown)}},
    }


def _data(images: TeachingSet) -> describing.Data:
    folders = _folders(images, of_class=False), _folders(images, of_class=True)
    return describing.Data(_digest(images), _size(images.instances[0].subset.shape), *folders, _tags(images))


def _size(shape: Buckets | Size) -> Size:
    """What was asked for: of buckets the square of their area."""
    if not isinstance(shape, Buckets):
        return shape
    side = math.isqrt(shape.area)
    return side, side


def _digest(images: TeachingSet) -> str:
    """SHA-256 of the images, their masks and captions, wherever they lie and whatever they are called."""
    rows = sorted(repr(_content(example)) for example in (*images.instances, *images.classes))
    return hashlib.sha256("\n".join(rows).encode(errors="surrogateescape")).hexdigest()


def _content(example: Example) -> tuple[object, ...]:
    mask = None if example.mask is None else image_digest(example.mask)
    return image_digest(example.path), mask, example.caption, example.subset.repeats, example.subset.is_class


def _tags(images: TeachingSet) -> dict[str, dict[str, int]]:
    """How often each tag stands in the captions of a folder, as kohya's scripts count them."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for example in (*images.instances, *images.classes):
        tags = (tag.strip() for tag in example.caption.replace("\n", ",").split(","))
        found[example.path.parent.name].update(tag for tag in tags if tag)
    return {name: dict(counted) for name, counted in found.items()}


def _folders(images: TeachingSet, *, of_class: bool) -> dict[str, describing.Folder]:
    found: dict[str, describing.Folder] = {}
    for example in images.classes if of_class else images.instances:
        before = found.get(example.path.parent.name, describing.Folder(0, example.subset.repeats))
        found[example.path.parent.name] = describing.Folder(before.images + 1, before.repeats)
    return found
