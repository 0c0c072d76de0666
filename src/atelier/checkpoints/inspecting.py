"""What there is to say about any file of weights, and any folder of them, without reading a tensor."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from atelier.checkpoints.checkpoint import PRECISIONS, Checkpoint
from atelier.checkpoints.folder import ENDINGS, INDEX, NETWORK_STEM, TRANSFORMERS_STEM, VARIANTS, archive_in
from atelier.checkpoints.kind import Identity, Seen, kinds, recognised
from atelier.checkpoints.opening import NO_INDEX, check_variant, open_archive, open_checkpoint
from atelier.checkpoints.report import PartReport, Report, part_report, report
from atelier.checkpoints.trained_on import TrainedOn, tags, trained_on
from atelier.errors import BadFile
from atelier.weights.archive import Archive, TensorInfo, open_any
from atelier.weights.formats.atomic import expanded
from atelier.weights.formats.safetensors import FLOATS, TORCH_NAMES, shown
from atelier.weights.hashes import SHORT_TENSORS, HashCache, files_sha256, short

STEMS = (NETWORK_STEM, TRANSFORMERS_STEM, "pytorch_lora_weights", "adapter_model", "learned_embeds")
"""What diffusers and transformers call the weights in the folder of one network or adapter."""
DENOISERS = ("unet", "transformer", "prior")
"""The folders of a pipeline that tell its family."""
UNNAMED, MOST_PARTS = "all", 20
"""Names of one level are a network's layers where there are more of them than parts could be."""
LICENCE, TRIGGER, TAGS = "modelspec.license", "modelspec.trigger_phrase", "ss_tag_frequency"
BASES = ("ss_sd_model_name", "ss_base_model_version", "modelspec.merged_from", "modelspec.architecture")
"""What metadata say a file was made from, in the order in which they are believed."""
SHARD = re.compile(r"-\d+-of-0*([0-9]+)\.(?:safetensors|bin)$")
"""The end of the name of one of several files that hold a network together, and how many they are."""
MOST_TAGS = 10
NOTHING = frozenset({"", "None"})
"""What kohya writes where it knows nothing."""


@dataclass(frozen=True, slots=True)
class FileReport:
    """What a file or folder is. report: of a model that can be generated with, None of anything else.

    supported: whether it can be used here; problem: why not, where it is a model. parts: number of tensors, parameters,
    bytes and dtypes by the first level of names. base_model, trigger_words, licence, trained_on: what the metadata say.
    """

    name: str
    path: Path
    identity: Identity
    supported: bool
    problem: str | None
    dtype: str
    tensors: int
    parameters: int
    bytes: int
    files: tuple[Path, ...]
    archives: tuple[Archive, ...]
    parts: Mapping[str, PartReport]
    metadata: Mapping[str, str]
    notes: tuple[str, ...]
    report: Report | None

    @property
    def licence(self) -> str | None:
        return _said(self.metadata, LICENCE)

    @property
    def base_model(self) -> str | None:
        return next((said for key in BASES if (said := _said(self.metadata, key))), None)

    @property
    def trigger_words(self) -> tuple[str, ...]:
        """What the author says, else the captions' most frequent tags in the training images."""
        stated = _said(self.metadata, TRIGGER)
        if stated is not None:
            return tuple(word for word in map(str.strip, stated.split(",")) if word)
        return tuple(tags(self.metadata.get(TAGS, ""), MOST_TAGS))

    @property
    def trained_on(self) -> TrainedOn | None:
        return trained_on(self.metadata)

    def json(self) -> dict[str, object]:
        """Plain data; of a model that can be generated with, all of its report."""
        own, whole = self.identity, {} if self.report is None else self.report.json()
        return whole | {
            "name": self.name,
            "path": str(self.path),
            "kind": own.kind,
            "family": own.family,
            "variant": own.variant,
            "supported": self.supported,
            "problem": self.problem,
            "title": own.title if self.report is None else self.report.title,
            "fits": list(own.fits),
            "dtype": self.dtype,
            "prediction": own.prediction if self.report is None else self.report.prediction,
            "tensors": self.tensors,
            "parameters": self.parameters,
            "bytes": self.bytes,
            "parts": {name: asdict(part) for name, part in self.parts.items()},
            "licence": self.licence,
            "base_model": self.base_model,
            "trigger_words": list(self.trigger_words),
            "trained_on": None if self.trained_on is None else asdict(self.trained_on),
            "metadata": dict(self.metadata),
            "notes": list(self.notes),
        }


def inspect(path: str | Path, *, variant: str | None = None) -> FileReport:
    """Says what a file or folder is. Raises BadFile for what is no weights at all, or broken."""
    path = expanded(path)
    if path.is_dir():
        return _folder(path, variant)
    check_variant(path, variant)
    archive = open_any(path)
    seen = Seen.of(archive)
    identity = recognised(seen) or Identity("unknown", notes=("has tensors of names that no known kind has",))
    shard = SHARD.search(path.name)
    if shard is not None and int(shard[1]) > 1:
        return _told(path, archive, identity, None, f"is one of {int(shard[1])} shards: name their folder or index")
    if identity.kind != "checkpoint":
        return _told(path, archive, identity, None, None)
    try:
        return _told(path, archive, identity, open_archive(path, archive), None)
    except BadFile as error:
        return _told(path, archive, identity, None, _why(path, error))


def _folder(path: Path, variant: str | None) -> FileReport:
    """A pipeline, or the folder of one network. Raises BadFile."""
    if not (path / INDEX).is_file():
        if any((path / name).is_dir() for name in DENOISERS):
            raise BadFile(path, f"{NO_INDEX}; the folders of its networks can be inspected alone")
        archive = _lone(path, variant)
        return _told(path, archive, recognised(Seen.of(archive)) or Identity("unknown"), None, None)
    denoiser = next((path / name for name in DENOISERS if (path / name).is_dir()), path)
    archive = _lone(denoiser, variant)
    found = recognised(Seen.of(archive)) or Identity("unknown")
    identity = Identity("checkpoint", found.family, found.variant, found.fits, found.prediction, found.notes)
    try:
        return _told(path, archive, identity, open_checkpoint(path, variant=variant), None)
    except BadFile as error:
        return _told(path, archive, identity, None, _why(path, error))


def _why(path: Path, error: BadFile) -> str:
    """What is wrong; of a folder, or with a file beside it, also the file that it is wrong with."""
    culprit = Path(error.path)
    if culprit == path:
        return error.problem
    inner = culprit.relative_to(path) if culprit.is_relative_to(path) else culprit
    return f"cannot be read: {inner} {error.problem}"


def _lone(folder: Path, variant: str | None) -> Archive:
    """The weights in the folder of one network. Raises BadFile where there are none."""
    for stem in STEMS:
        try:
            return archive_in(folder, stem, variant)
        except BadFile as error:
            if error.path != str(folder):  # a file that is there and cannot be used
                raise
    sort = f"that are known ({', '.join(STEMS)}, plain or {', '.join(VARIANTS)})"
    wanted = sort if variant is None else f"of the variant {shown(variant)}"
    others = sorted(shown(path.name) for ending in ENDINGS for path in folder.glob(f"*{ending}"))
    also = f"; there {'is' if len(others) == 1 else 'are'} {', '.join(others[:3])}" if others else ""
    raise BadFile(folder, f"holds no weights {wanted}{also}")


def _told(
    path: Path, archive: Archive, identity: Identity, checkpoint: Checkpoint | None, problem: str | None
) -> FileReport:
    whole = None if checkpoint is None else report(checkpoint)
    kind = kinds().get(identity.kind)
    infos = archive.tensors.values()
    files = archive.files if checkpoint is None else checkpoint.files
    return FileReport(
        name=path.name if path.is_dir() else path.stem,
        path=path,
        identity=identity if checkpoint is None else _agreed(identity, checkpoint),
        supported=checkpoint is not None or (problem is None and kind is not None and kind.reads(identity)),
        problem=problem,
        dtype=_dtype(infos) if checkpoint is None else checkpoint.dtype,
        tensors=len(infos),
        parameters=sum(i.count for i in infos) if whole is None else whole.parameters,
        bytes=sum(file.stat().st_size for file in files),
        files=files,
        archives=(archive,) if checkpoint is None else checkpoint.archives,
        parts=_parts(archive) if whole is None else whole.parts,
        metadata=archive.metadata if checkpoint is None else checkpoint.metadata,
        notes=(*identity.notes, *_unusual(archive)),
        report=whole,
    )


def _agreed(identity: Identity, checkpoint: Checkpoint) -> Identity:
    """A model that a family opens is of that family, whatever its widths; a refiner is a variant, and here a family."""
    family, ends = checkpoint.family.name, checkpoint.ends
    told = identity.family is not None and family.startswith(identity.family)
    variant = "base" if ends.in_channels == checkpoint.latent.channels else f"{ends.in_channels}_channels"
    return Identity(
        identity.kind,
        identity.family if told else family,
        identity.variant if told else variant,
        identity.fits,
        checkpoint.facts.prediction,
        identity.notes,
    )


def _dtype(infos: Iterable[TensorInfo]) -> str:
    weight: Counter[str] = Counter()
    for info in infos:
        weight[info.dtype] += max(1, info.bytes) if info.dtype in FLOATS else 0
    kind = weight.most_common(1)[0][0] if weight else ""
    return PRECISIONS.get(kind, TORCH_NAMES.get(kind, "none"))


def _unusual(archive: Archive) -> Iterable[str]:
    """What no healthy file has, or few have."""
    floats = Counter(info.dtype for info in archive.tensors.values() if info.dtype in FLOATS and info.count > 1)
    if len(floats) > 1:
        names = ", ".join(f"{count} in {PRECISIONS.get(kind, TORCH_NAMES[kind])}" for kind, count in floats.items())
        yield f"mixes precisions ({names})"
    empty = sum(0 in info.shape for name, info in archive.tensors.items() if "." in name)
    if empty:
        yield f"has {empty} empty tensors"


def _parts(archive: Archive) -> dict[str, PartReport]:
    """The tensors by the first level of their names, or all of them as one."""
    groups: dict[str, list[TensorInfo]] = {}
    for name, info in archive.tensors.items():
        groups.setdefault(name.partition(".")[0], []).append(info)
    if len(groups) > MOST_PARTS:
        groups = {UNNAMED: list(archive.tensors.values())}
    return {name: part_report(infos) for name, infos in groups.items()}


def _said(metadata: Mapping[str, str], key: str) -> str | None:
    found = metadata.get(key, "").strip()
    return None if found in NOTHING else found


@dataclass(frozen=True, slots=True)
class Hashes:
    """sha256: of the file, or over all files of a folder; short: its first ten digits, which A1111 and Civitai quote
    (AutoV2); autov3: twelve digits of the tensors without the header, which infotexts say of LoRAs, None of a folder.
    """

    sha256: str
    short: str
    autov3: str | None


def hashes(found: FileReport, cache: HashCache | None = None) -> Hashes:
    """Reads all bytes. Raises BadFile."""
    cache = cache or HashCache()
    whole = files_sha256(found.files, found.path, cache)
    alone = len(found.files) == 1
    autov3 = cache.tensors_sha256(found.files[0])[:SHORT_TENSORS] if alone else None
    return Hashes(whole, short(whole), autov3)
