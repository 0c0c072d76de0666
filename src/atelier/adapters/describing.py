"""What the file of an adapter says of itself: kohya's `ss_*` keys, ModelSpec, hashes, and what it was made from.

kohya's scripts write text for every value ("None", "True", JSON); A1111, Civitai and other trainers read it. ModelSpec
is Stability's (version 1.0.0). The `atelier.*` keys are the lineage: the hashes of the data, of the base model and of
the recipe, and the recipe itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, cast

from atelier.errors import BadInput
from atelier.weights.formats import safetensors
from atelier.weights.hashes import LEGACY_END, LEGACY_START

if TYPE_CHECKING:
    from torch import Tensor

    from atelier.families.facts import PredictionType

KOHYA = "ss_"
SPEC = "modelspec."
LINEAGE = "atelier."
NOTHING = "None"

_SAID = """
adaptive_noise_scale base_model_version batch_size_per_device bucket_info bucket_no_upscale cache_latents
caption_dropout_every_n_epochs caption_dropout_rate caption_tag_dropout_rate clip_skip color_aug dataset_dirs
datasets debiased_estimation enable_bucket epoch face_crop_aug_range flip_aug fp8_base fp8_base_unet full_fp16
gradient_accumulation_steps gradient_checkpointing huber_c huber_scale huber_schedule ip_noise_gamma
ip_noise_gamma_random_strength keep_tokens learning_rate loss_type lowram lr_scheduler lr_warmup_steps
max_bucket_reso max_grad_norm max_token_length max_train_steps max_validation_steps min_bucket_reso min_snr_gamma
mixed_precision multires_noise_discount multires_noise_iterations network_alpha network_args network_dim
network_dropout network_module new_sd_model_hash new_vae_hash noise_offset noise_offset_random_strength
num_batches_per_epoch num_epochs num_reg_images num_train_images num_validation_images optimizer output_name
prior_loss_weight random_crop reg_dataset_dirs resize_interpolation resolution scale_weight_norms sd_model_hash
sd_model_name sd_scripts_commit_hash seed session_id shuffle_caption steps tag_frequency text_encoder_lr
total_batch_size training_comment training_finished_at training_started_at unet_lr v2 vae_hash vae_name
validate_every_n_epochs validate_every_n_steps validation_seed validation_split zero_terminal_snr
"""
SAID = frozenset(_SAID.split())
"""Every key of kohya's, without the prefix."""
JSON_KEYS = frozenset({"tag_frequency", "dataset_dirs", "reg_dataset_dirs", "bucket_info", "datasets", "network_args"})
"""Whose values are JSON."""
FAMILIES: Mapping[tuple[str, bool], tuple[str, str]] = {
    ("sd1", False): ("sd_v1", "stable-diffusion-v1"),
    ("sd1", True): ("sd_v1_v", "stable-diffusion-v1"),
    ("sd2", False): ("sd_v2", "stable-diffusion-v2-512"),
    ("sd2", True): ("sd_v2_v", "stable-diffusion-v2-768-v"),
    ("sdxl", False): ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base"),
    ("sdxl", True): ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base"),
    ("sd3", False): ("sd3_m", "stable-diffusion-3"),
}
"""(family, whether velocity is predicted) -> what kohya's scripts call the base, and ModelSpec's architecture."""
STABILITY, DIFFUSERS = "https://github.com/Stability-AI/generative-models", "diffusers"
"""ModelSpec's implementations: whose names the layers go by."""
KEYED = frozenset({"author", "description", "license", "tags", "trigger_phrase", "usage_hint", "merged_from"})
"""Keys of ModelSpec that a caller may give."""
HASHES = "sshs_"
INHERITED = frozenset(SPEC + key for key in ("architecture", "implementation", "prediction_type", "license", "author"))
"""What a model that is trained further takes over from its base, where that says it."""
Kind = Literal["model", "lora", "textual-inversion", "control", "image-prompt"]


@dataclass(frozen=True, slots=True)
class Base:
    """The model that was trained on.

    family: its name here; name: of its file; sha256: 64 hex digits; legacy: 8 hex digits (`legacy_hash`), where known.
    """

    family: str
    prediction: PredictionType
    name: str
    sha256: str
    legacy: str | None = None

    @property
    def known(self) -> tuple[str, str]:
        """What kohya's scripts and ModelSpec call it; the family's name where they have none for it."""
        return FAMILIES.get((self.family, self.prediction == "velocity"), (self.family, self.family))


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of training images: how many there are, and how often each is seen in an epoch."""

    images: int
    repeats: int = 1


@dataclass(frozen=True, slots=True)
class Data:
    """What was trained on.

    sha256: 64 hex digits that tell the data from others; size: width and height in pixels; folders: of the images, by
    name; regular: of those that keep what is known; tags: by folder, how often each stands in its captions.
    """

    sha256: str
    size: tuple[int, int]
    folders: Mapping[str, Folder]
    regular: Mapping[str, Folder] = field(default_factory=dict[str, Folder])
    tags: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])


@dataclass(frozen=True, slots=True)
class Made:
    """The result. name: of its file, without the ending; started, finished: seconds since 1970, UTC. said: further keys
    of ModelSpec (KEYED)."""

    name: str
    started: float
    finished: float
    kind: Kind = "lora"
    said: Mapping[str, str] = field(default_factory=dict[str, str])


def described(base: Base, recipe: Mapping[str, object], data: Data, made: Made) -> dict[str, str]:
    """The metadata of a trained adapter, without hashes: `sealed` adds those.

    recipe: plain values by name. Those that kohya has a key for, by its name without `ss_` (network_dim, unet_lr, …),
    are written there; all stand in `atelier.recipe`. Raises BadInput for a key of ModelSpec that no caller may give.
    """
    strange = sorted(made.said.keys() - KEYED)
    if strange:
        raise BadInput(f"modelspec.{strange[0]}: cannot be given; choose among {', '.join(sorted(KEYED))}")
    told = {**dict.fromkeys(SAID), **{key: recipe[key] for key in SAID & recipe.keys()}, **_kohya(base, data, made)}
    kohyas = {KOHYA + key: _text(key, value) for key, value in told.items()}
    return {"format": "pt", **kohyas, **_spec_and_lineage(base, recipe, data, made)}


def described_model(
    base: Base, recipe: Mapping[str, object], data: Data, made: Made, before: Mapping[str, str]
) -> dict[str, str]:
    """The metadata of a whole model that was trained further: ModelSpec's and the lineage. before: those of the base,
    of which what is still so stays; kohya's keys, title, date and hashes are not."""
    stays = {key: value for key, value in before.items() if not key.startswith((KOHYA, HASHES, SPEC))}
    said = _spec_and_lineage(base, recipe, data, made)
    return {**stays, **said, **{key: before[key] for key in INHERITED & before.keys()}}


def _spec_and_lineage(base: Base, recipe: Mapping[str, object], data: Data, made: Made) -> dict[str, str]:
    written = json.dumps(recipe, sort_keys=True, ensure_ascii=False, default=str)
    lineage = {
        "data_sha256": data.sha256,
        "base_sha256": base.sha256,
        "recipe": written,
        "recipe_sha256": hashlib.sha256(written.encode()).hexdigest(),
    }
    spec = {SPEC + key: value for key, value in _spec(base, recipe, data, made).items()}
    return {**spec, **{LINEAGE + key: value for key, value in lineage.items()}}


def sealed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata with the hashes of these tensors, as they will be written.

    `sshs_model_hash` is SHA-256 of all that follows the header, the LoRA hash of infotexts; `sshs_legacy_hash` that of
    64 KiB at 1 MiB of a file with kohya's keys alone, 8 digits: both as kohya's scripts compute them.
    """
    own = {key: value for key, value in metadata.items() if key.startswith(KOHYA)}
    digest, legacy, at = hashlib.sha256(), hashlib.sha256(), 0
    pieces = safetensors.written(safetensors.declaration(tensors), lambda name: tensors[name], own)
    for number, piece in enumerate(pieces):
        legacy.update(piece[max(0, LEGACY_START - at) : max(0, LEGACY_END - at)])
        at += len(piece)
        if number:
            digest.update(piece)
    told = {"sshs_model_hash": digest.hexdigest(), "sshs_legacy_hash": legacy.hexdigest()[:8]}
    is_spec = any(key.startswith(SPEC) for key in metadata)
    return {**metadata, **told, **({f"{SPEC}hash_sha256": f"0x{digest.hexdigest()}"} if is_spec else {})}


def of_base(family: str, prediction: PredictionType) -> dict[str, str]:
    """What kohya's scripts say of the base alone."""
    known = Base(family, prediction, "", "").known[0]
    return {f"{KOHYA}base_model_version": known, f"{KOHYA}v2": str(family == "sd2")}


def _kohya(base: Base, data: Data, made: Made) -> dict[str, object]:
    """What no recipe decides."""
    return {
        "base_model_version": base.known[0],
        "v2": base.family == "sd2",
        "sd_model_name": base.name,
        "sd_model_hash": base.legacy,
        "new_sd_model_hash": base.sha256,
        "resolution": data.size,
        "num_train_images": _seen(data.folders),
        "num_reg_images": _seen(data.regular),
        "dataset_dirs": _folders(data.folders),
        "reg_dataset_dirs": _folders(data.regular),
        "tag_frequency": {name: dict(tags) for name, tags in data.tags.items()},
        "output_name": made.name,
        "training_started_at": float(made.started),
        "training_finished_at": float(made.finished),
    }


def _seen(folders: Mapping[str, Folder]) -> int:
    return sum(folder.images * folder.repeats for folder in folders.values())


def _folders(folders: Mapping[str, Folder]) -> dict[str, object]:
    return {name: {"n_repeats": folder.repeats, "img_count": folder.images} for name, folder in folders.items()}


def _spec(base: Base, recipe: Mapping[str, object], data: Data, made: Made) -> dict[str, str]:
    """A flow has no prediction type there."""
    original = made.kind in {"model", "textual-inversion"} or base.family in {"sdxl", "sd3"}
    prediction = {"epsilon": "epsilon", "velocity": "v"}.get(base.prediction)
    skip = recipe.get("clip_skip")
    return {
        "sai_model_spec": "1.0.0",
        "architecture": base.known[1] if made.kind == "model" else f"{base.known[1]}/{made.kind}",
        "implementation": STABILITY if original else DIFFUSERS,
        "title": made.name,
        "resolution": f"{data.size[0]}x{data.size[1]}",
        "date": datetime.fromtimestamp(int(made.finished), UTC).replace(tzinfo=None).isoformat(),
        **({} if prediction is None else {"prediction_type": prediction}),
        **({} if skip is None else {"encoder_layer": str(skip)}),
        **made.said,
    }


def _text(key: str, value: object) -> str:
    if value is None:
        return NOTHING
    if key in JSON_KEYS:
        return json.dumps(value, ensure_ascii=False)
    return str(tuple(cast("list[object]", value)) if isinstance(value, list) else value)
