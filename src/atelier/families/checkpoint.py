"""Opening a model, whatever it is and wherever it lies: a single file or a diffusers folder. Headers only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import atelier.families
from atelier.errors import BadFile, BadInput
from atelier.families import folder as folders
from atelier.families import infer
from atelier.families.config import Config
from atelier.families.facts import Defaults, Facts, LatentFormat, carried
from atelier.families.family import Family, Part
from atelier.families.foreign import describe
from atelier.families.infer import Shapes
from atelier.registry import discover
from atelier.weights.archive import WAY_OUT, Archive, Stored, counted, open_file
from atelier.weights.formats.safetensors import FLOATS, TORCH_NAMES
from atelier.weights.hashes import HashCache, files_sha256
from atelier.weights.names.name import Layout

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from atelier.diffusion.levels import DiscreteLevels
    from atelier.diffusion.parameterization import Parameterization
    from atelier.models.clip import ClipText, ClipVision, TextSpec, VisionSpec
    from atelier.models.unet import UNet, UNetSpec
    from atelier.models.vae import AutoencoderKL, VaeSpec
    from atelier.weights.tokenizer import ClipTokenizer

PRECISIONS: Mapping[str, str] = MappingProxyType({"F32": "fp32", "F16": "fp16", "BF16": "bf16"})
NATIVE_LATENT = 64
"""Side of the latents that Stable Diffusion 1.x was trained on."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on disk, known from its headers and settings; networks are read when they are asked for.

    layout: how it is stored; facts: what the shapes do not say; parts: where each network lies; ignored: names of the
    tensors that nothing reads; metadata: what the file says about the model beside its tensors.

    The specs raise BadFile where the shapes are no such network's. The `load_*` methods are strict: they raise BadFile
    for every tensor missing, left over or misshapen, and give floating tensors as `dtype` (None: as they are stored).
    `mapped` says whether tensors that need no change stay in the file until they are touched; `channels_last` lays out
    kernels as convolutions of the CPU and of CUDA prefer them.
    """

    path: Path
    family: Family
    layout: Layout
    facts: Facts
    parts: Mapping[Part, Stored]
    ignored: tuple[str, ...]
    metadata: Mapping[str, str]

    @property
    def name(self) -> str:
        """What infotexts call the model: the name of the file or folder."""
        path = self.path.absolute()
        return path.stem if self.layout == "ldm" else path.name

    @property
    def unet_spec(self) -> UNetSpec:
        return infer.unet(self._shapes("unet"), self.facts)

    @property
    def vae_spec(self) -> VaeSpec:
        return infer.vae(self._shapes("vae"), self.facts)

    @property
    def text_spec(self) -> TextSpec:
        return infer.text(self._shapes("text"), self.facts)

    @property
    def vision_spec(self) -> VisionSpec | None:
        return infer.vision(self._shapes("vision"), self.facts) if "vision" in self.parts else None

    @property
    def latent(self) -> LatentFormat:
        shapes = self._shapes("vae")
        factor = 2 ** (infer.vae_levels(shapes) - 1)
        return LatentFormat(self.facts.latent_scale, self.facts.latent_shift, factor, infer.vae_latent(shapes))

    @property
    def size(self) -> int:
        """The side in pixels that the model was trained on."""
        return self.facts.size or NATIVE_LATENT * self.latent.factor

    @property
    def defaults(self) -> Defaults:
        own, said = self.family.defaults(self.size), self.facts.cfg_scale
        return own if said is None else replace(own, cfg_scale=said)

    @property
    def parameterization(self) -> Parameterization:
        from atelier.diffusion.parameterization import parameterization

        return parameterization(self.facts.prediction)

    @property
    def levels(self) -> DiscreteLevels:
        from atelier.diffusion import levels

        facts = self.facts
        try:
            if facts.beta_schedule == "squaredcos_cap_v2":
                table = levels.cosine(facts.timesteps)
            else:
                make = levels.scaled_linear if facts.beta_schedule == "scaled_linear" else levels.linear
                table = make(facts.timesteps, facts.beta_start, facts.beta_end)
            return levels.zero_terminal(table) if facts.zero_snr else table
        except BadInput as error:
            said = f"{facts.timesteps} timesteps, beta_start {facts.beta_start:g}, beta_end {facts.beta_end:g}"
            raise BadFile(self.path, f"its noise schedule is impossible ({said}); {WAY_OUT}") from error

    @property
    def tokenizer(self) -> ClipTokenizer:
        """The model's own tokenizer, or CLIP's. Raises BadFile where its ids are more than the text tower knows."""
        from atelier.weights.tokenizer import ClipTokenizer, standard

        spec, metadata = self.text_spec, self.parts["text"].archive.metadata
        if self.layout == "diffusers":
            found = ClipTokenizer.from_folder(self.path / "tokenizer")
        elif "atelier.tokenizer" in metadata:
            found = ClipTokenizer.from_json(metadata["atelier.tokenizer"], self.path)
        else:
            found = standard()
        if found.size > spec.vocab:
            raise BadFile(
                self.path,
                f"has a tokenizer of {found.size} tokens and a text encoder for {spec.vocab}: they are of two models",
            )
        return replace(found, positions=min(found.positions, spec.positions))

    @property
    def dtype(self) -> str:
        """The dtype of most bytes: fp32, fp16, bf16, or what the file calls it."""
        weight: Counter[str] = Counter()
        for stored in self.parts.values():
            for info in stored.infos().values():
                weight[info.dtype] += info.bytes if info.dtype in FLOATS else 0
        kind = weight.most_common(1)[0][0]
        return PRECISIONS.get(kind, TORCH_NAMES[kind])

    @property
    def files(self) -> tuple[Path, ...]:
        """The weights files, each once."""
        return tuple(dict.fromkeys(file for stored in self.parts.values() for file in stored.archive.files))

    def sha256(self, cache: HashCache | None = None) -> str:
        """64 hex digits: of the file itself, or over all weights files of a folder."""
        return files_sha256(self.files, self.path, cache or HashCache())

    def load_unet(self, dtype: torch.dtype | None = None, *, mapped: bool = True, channels_last: bool = False) -> UNet:
        from atelier.models.unet import UNet
        from atelier.weights.load import load_into

        spec = self.unet_spec
        tensors = self.tensors("unet", dtype, mapped=mapped, channels_last=channels_last)
        return load_into(lambda: UNet(spec), tensors, source=self._source("unet"))

    def load_vae(
        self, dtype: torch.dtype | None = None, *, mapped: bool = True, channels_last: bool = False
    ) -> AutoencoderKL:
        from atelier.models.vae import AutoencoderKL
        from atelier.weights.load import load_into

        spec = self.vae_spec
        tensors = self.tensors("vae", dtype, mapped=mapped, channels_last=channels_last)
        return load_into(lambda: AutoencoderKL(spec), tensors, source=self._source("vae"))

    def load_text(self, dtype: torch.dtype | None = None, *, mapped: bool = True) -> ClipText:
        from atelier.models.clip import ClipText
        from atelier.weights.load import load_into

        spec = self.text_spec
        return load_into(
            lambda: ClipText(spec), self.tensors("text", dtype, mapped=mapped), source=self._source("text")
        )

    def load_vision(self, dtype: torch.dtype | None = None, *, mapped: bool = True) -> ClipVision:
        """Raises BadFile where the model has no vision tower."""
        from atelier.models.clip import ClipVision
        from atelier.weights.load import load_into

        spec = self.vision_spec
        if spec is None:
            raise BadFile(self.path, "has no image encoder")
        tensors = self.tensors("vision", dtype, mapped=mapped)
        return load_into(lambda: ClipVision(spec), tensors, source=self._source("vision"))

    def tensors(
        self, part: Part, dtype: torch.dtype | None = None, *, mapped: bool = True, channels_last: bool = False
    ) -> dict[str, Tensor]:
        """One part's tensors by our names; those of `projection` by their own, none where it is not there."""
        from atelier.weights.load import read
        from atelier.weights.names import clip, unet, vae

        if part not in self.parts:
            return {}
        stored = self.parts[part]
        if part == "projection":
            loaded = stored.archive.load((stored.prefix + n for n in stored.infos()), dtype=dtype, mapped=mapped)
            return {name.removeprefix(stored.prefix): tensor for name, tensor in loaded.items()}
        vision = self.vision_spec
        names = {
            "unet": lambda: unet.names(self.unet_spec),
            "vae": lambda: vae.names(self.vae_spec),
            "text": lambda: clip.names(self.text_spec),
            "vision": lambda: clip.vision_names(vision) if vision is not None else iter(()),
        }[part]()
        return read(stored, names, dtype=dtype, mapped=mapped, channels_last=channels_last)

    def _shapes(self, part: Part) -> Shapes:
        return Shapes.of(self.parts[part])

    def _source(self, part: Part) -> Path:
        return self.parts[part].archive.path


def families() -> Mapping[str, Family]:
    """All families by name."""
    return discover(atelier.families, Family)


def open_checkpoint(path: str | Path, *, variant: str | None = None) -> Checkpoint:
    """Opens a single file or a folder, reading headers and settings only. `variant` chooses among a folder's weights.

    Raises BadFile with one line for what does not exist, is broken, or is another kind of file or family.
    """
    path = Path(path).expanduser()
    return _open_folder(path, variant) if path.is_dir() else _open_single(path)


def _open_single(path: Path) -> Checkpoint:
    archive = open_file(path)
    family = next((f for f in families().values() if f.in_file(archive)), None)
    if family is None:
        raise BadFile(path, describe(archive.tensors))
    parts: dict[Part, Stored] = {}
    for part, prefix in family.prefixes.items():
        if any(name.startswith(prefix) for name in archive.tensors):
            parts[part] = Stored(archive, "ldm", prefix, family.tolerated)
    for part in ("unet", "vae", "text"):
        if part not in parts:
            named = f"no tensor is called {family.prefixes[part]}*"
            raise BadFile(path, f"lacks its {PART_TITLES[part]}: {named}; {WAY_OUT}")
    claimed = tuple(family.prefixes.values())
    surplus = [name for name in archive.tensors if not name.startswith(claimed) and not family.tolerated(name)]
    if surplus:
        raise BadFile(path, f"has {counted(surplus)} beside the parts of a {family.title} checkpoint; {WAY_OUT}")
    facts, ignored = family.file_facts(archive), _ignored(family, archive)
    return Checkpoint(path, family, "ldm", facts, MappingProxyType(parts), ignored, carried(archive.metadata))


def _open_folder(path: Path, variant: str | None) -> Checkpoint:
    if not (path / folders.INDEX).is_file():
        raise BadFile(path, f"is no model: a diffusers folder has a {folders.INDEX}")
    index = Config.read(path / folders.INDEX)
    family = next((f for f in families().values() if f.in_folder(index)), None)
    if family is None:
        kind = str(index.values.get("_class_name", "nothing that diffusers writes"))
        raise BadFile(path, f"holds {kind}, of a family that cannot be read yet")
    archives: dict[Part, Archive] = folders.archives(path, variant)
    parts: dict[Part, Stored] = {
        part: Stored(archive, "diffusers", "", family.tolerated) for part, archive in archives.items()
    }
    ignored = _ignored(family, *archives.values())
    facts = family.folder_facts(path, archives)
    metadata = carried(archives["unet"].metadata)
    return Checkpoint(path, family, "diffusers", facts, MappingProxyType(parts), ignored, metadata)


def _ignored(family: Family, *archives: Archive) -> tuple[str, ...]:
    names = (name for archive in archives for name in archive.tensors)
    return tuple(sorted(name for name in names if family.tolerated(name) and name not in family.markers))


PART_TITLES: Mapping[Part, str] = MappingProxyType(
    {
        "unet": "U-Net",
        "vae": "autoencoder",
        "text": "text encoder",
        "vision": "image encoder",
        "projection": "projection",
    }
)
