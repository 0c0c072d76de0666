"""A model on disk, whatever its family: what its headers say, and its networks when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from atelier.errors import BadFile, BadInput
from atelier.families.facts import Facts, LatentFormat, ModelDefaults
from atelier.families.family import Ends, Family, Tower
from atelier.families.part import PartSpec
from atelier.families.shapes import Shapes
from atelier.families.words import Tokenizer
from atelier.weights.archive import WAY_OUT, Archive, Stored
from atelier.weights.formats.safetensors import FLOATS, TORCH_NAMES
from atelier.weights.hashes import HashCache, files_sha256
from atelier.weights.names.name import Layout

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from atelier.diffusion.parameterization import Parameterization
    from atelier.diffusion.types import Levels

PRECISIONS: Mapping[str, str] = MappingProxyType({"F32": "fp32", "F16": "fp16", "BF16": "bf16"})
TOLD = "cond_proj.weight"
"""What the name of the layer ends with that reads the strength of guidance: only latent consistency models have it."""
S = TypeVar("S")
M = TypeVar("M", bound="nn.Module")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on disk, known from its headers and settings; networks are read when they are asked for.

    layout: how it is stored; facts: what the shapes do not say; parts: where each network lies, by the name of the
    part; ignored: names of the tensors that nothing reads; metadata: what the file says about the model beside its
    tensors; surplus: those of the ignored tensors that checkpoints of the family do not usually have.
    """

    path: Path
    family: Family
    layout: Layout
    facts: Facts
    parts: Mapping[str, Stored]
    ignored: tuple[str, ...]
    metadata: Mapping[str, str]
    surplus: tuple[str, ...] = ()
    _known: dict[object, Any] = field(default_factory=dict[object, Any], init=False, repr=False, compare=False)
    """What was told from the headers before, which takes milliseconds for thousands of names."""

    @property
    def name(self) -> str:
        """What infotexts call the model: the name of the file or folder."""
        path = self.path.absolute()
        return path.stem if self.layout == "ldm" else path.name

    def has(self, part: PartSpec[Any, Any]) -> bool:
        """Whether the model has this part, as a network of this architecture."""
        own = self.family.part(part.name)
        return own is not None and own.network is part.network and part.name in self.parts

    def spec(self, part: PartSpec[S, Any]) -> S:
        """What shapes the network. A part is known by its name and architecture; where it lies is the family's affair.

        Raises BadFile where the model has no such part, or the shapes are no such network's.
        """
        key = part.name, part.network.infer
        if key not in self._known:
            self._known[key] = part.network.infer(Shapes.of(self._stored(part)), self.facts.of(part.name))
        return self._known[key]

    def load(
        self,
        part: PartSpec[S, M],
        dtype: torch.dtype | None = None,
        *,
        mapped: bool = True,
        channels_last: bool = False,
    ) -> M:
        """The network, floating tensors as `dtype` (None: as they are stored).

        `mapped` says whether tensors that need no change stay in the file until they are touched; `channels_last` lays
        out kernels as convolutions of the CPU and of CUDA prefer them. Strict: raises BadFile for every tensor missing,
        left over or misshapen, and where the model has no such part.
        """
        from atelier.weights.load import load_into

        spec = self.spec(part)
        tensors = self.tensors(part, dtype, mapped=mapped, channels_last=channels_last)
        return load_into(lambda: part.network.build(spec), tensors, source=self._stored(part).archive.path)

    def tensors(
        self,
        part: PartSpec[Any, Any],
        dtype: torch.dtype | None = None,
        *,
        mapped: bool = True,
        channels_last: bool = False,
    ) -> dict[str, Tensor]:
        """The tensors of a network by our names; see `load`."""
        from atelier.weights.load import read

        names = part.network.names(self.spec(part))
        return read(self._stored(part), names, dtype=dtype, mapped=mapped, channels_last=channels_last)

    def numbers(self, part: str) -> int:
        """How many numbers the stored tensors of a part have together."""
        if ("numbers", part) not in self._known:
            self._known["numbers", part] = sum(prod(shape) for shape in self.parts[part].shapes().values())
        return self._known["numbers", part]

    @property
    def latent(self) -> LatentFormat:
        if "latent" not in self._known:
            shapes = Shapes.of(self.parts[self.family.autoencoder])
            self._known["latent"] = self.family.latent(shapes, self.facts)
        return self._known["latent"]

    @property
    def ends(self) -> Ends:
        """What goes into the denoising network and comes out. Raises BadFile where the shapes are no such network's."""
        if "ends" not in self._known:
            self._known["ends"] = self.family.ends(Shapes.of(self.parts[self.family.denoiser]))
        return self._known["ends"]

    @property
    def size(self) -> int:
        """The side in pixels that the model was trained on."""
        return trained_size(self.family, self.facts, self.latent)

    @property
    def defaults(self) -> ModelDefaults:
        own, stated = self.family.defaults(self.size, self.facts), self.facts.cfg_scale
        if "told" not in self._known:
            self._known["told"] = any(name.endswith(TOLD) for name in self.parts[self.family.denoiser].shapes())
        told = self._known["told"]
        if told or self.facts.consistency:
            own = replace(own, sampler="LCM", scheduler=None, steps=4, cfg_scale=8.0 if told else 1.0)
        return own if stated is None else replace(own, cfg_scale=stated)

    @property
    def parameterization(self) -> Parameterization:
        return self.family.parameterization(self.facts)

    @property
    def levels(self) -> Levels:
        """Raises BadFile for a noise schedule that is impossible."""
        facts = self.facts
        if "levels" in self._known:
            return self._known["levels"]
        try:
            return self._known.setdefault("levels", self.family.levels(facts))
        except BadInput as error:
            stated = f"{facts.timesteps} timesteps, beta_start {facts.beta_start:g}, beta_end {facts.beta_end:g}"
            raise BadFile(self.path, f"its noise schedule is impossible ({stated}); {WAY_OUT}") from error

    @property
    def towers(self) -> tuple[Tower, ...]:
        """The text encoders of the family that this model has."""
        return tuple(tower for tower in self.family.towers if self.has(tower.part))

    @property
    def tokenizers(self) -> tuple[Tokenizer, ...]:
        """That of each of `towers`, or else its family's. Raises BadFile where one has more ids than its tower knows,
        and where one is nowhere."""
        return tuple(self._tokenizer(tower) for tower in self.towers)

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

    @property
    def archives(self) -> tuple[Archive, ...]:
        """What the parts lie in, each once, though several parts lie in it."""
        return tuple({stored.archive.path: stored.archive for stored in self.parts.values()}.values())

    def sha256(self, cache: HashCache | None = None) -> str:
        """64 hex digits: of the file itself, or over all weights files of a folder."""
        return files_sha256(self.files, self.path, cache or HashCache())

    def _stored(self, part: PartSpec[Any, Any]) -> Stored:
        if not self.has(part):
            raise BadFile(self.path, f"has no {part.title}")
        return self.parts[part.name]

    def _beside(self, tower: Tower) -> Path:
        """The folder beside a single file that holds the tokenizer which the file lacks. Raises BadFile."""
        folder = self.path.parent / tower.tokenizer
        if folder.is_dir():
            return folder
        lacking = f"has a {tower.part.title}, but no tokenizer for it"
        raise BadFile(self.path, f"{lacking}: put its tokenizer.json or spiece.model into the folder {folder}")

    def _tokenizer(self, tower: Tower) -> Tokenizer:
        from atelier.weights.tokenizer import ClipTokenizer

        spec, key = self.spec(tower.part), f"atelier.{tower.tokenizer}"
        metadata = self._stored(tower.part).archive.metadata
        if self.layout == "diffusers":
            found = tower.words.from_folder(self.path / tower.tokenizer)
        elif key in metadata:
            found = tower.words.from_json(metadata[key], self.path)
        elif tower.standard is not None:
            found = tower.standard()
        else:
            found = tower.words.from_folder(self._beside(tower))
        if found.size > spec.vocab:
            raise BadFile(
                self.path,
                f"has a tokenizer of {found.size} tokens and a text encoder for {spec.vocab}: they are of two models",
            )
        if isinstance(found, ClipTokenizer):
            return replace(found, positions=min(found.positions, spec.positions))
        return found


def trained_size(family: Family, facts: Facts, latent: LatentFormat) -> int:
    """The side in pixels that a model was trained on: what is said of it, or else what its family was trained on."""
    return facts.size or (facts.latent_side or family.latent_side) * latent.factor
