"""What there is to say about a checkpoint without reading its tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass

from atelier.checkpoints.checkpoint import PRECISIONS, Checkpoint
from atelier.weights.archive import TensorInfo
from atelier.weights.formats.safetensors import TORCH_NAMES


@dataclass(frozen=True, slots=True)
class PartReport:
    """One network: numbers of tensors and parameters, bytes on disk, and how many tensors have each dtype."""

    tensors: int
    parameters: int
    bytes: int
    dtypes: dict[str, int]


@dataclass(frozen=True, slots=True)
class Report:
    """size: the side in pixels the model was trained on; latent_factor: pixels per latent position along a side;
    context: width of the text states; ignored: tensors that nothing reads; bytes: of all weights files."""

    name: str
    path: str
    family: str
    title: str
    layout: str
    dtype: str
    prediction: str
    size: int
    in_channels: int
    context: int
    latent_channels: int
    latent_factor: int
    latent_scale: float
    latent_shift: float
    parameters: int
    bytes: int
    parts: dict[str, PartReport]
    ignored: tuple[str, ...]
    metadata: dict[str, str]

    def json(self) -> dict[str, object]:
        return asdict(self)


def report(checkpoint: Checkpoint) -> Report:
    """Raises BadFile where the headers already show that a network cannot be built."""
    parts = {part: part_report(stored.infos().values()) for part, stored in checkpoint.parts.items()}
    ends, latent = checkpoint.ends, checkpoint.latent
    return Report(
        name=checkpoint.name,
        path=str(checkpoint.path),
        family=checkpoint.family.name,
        title=checkpoint.family.title,
        layout=checkpoint.layout,
        dtype=checkpoint.dtype,
        prediction=checkpoint.facts.prediction,
        size=checkpoint.size,
        in_channels=ends.in_channels,
        context=ends.context,
        latent_channels=latent.channels,
        latent_factor=latent.factor,
        latent_scale=latent.scale,
        latent_shift=latent.shift,
        parameters=sum(part.parameters for part in parts.values()),
        bytes=sum(file.stat().st_size for file in checkpoint.files),
        parts=parts,
        ignored=checkpoint.ignored,
        metadata=dict(checkpoint.metadata),
    )


def part_report(infos: Collection[TensorInfo]) -> PartReport:
    """Of the tensors of one network."""
    dtypes = Counter(PRECISIONS.get(info.dtype, TORCH_NAMES[info.dtype]) for info in infos)
    return PartReport(
        tensors=len(infos),
        parameters=sum(info.count for info in infos),
        bytes=sum(info.bytes for info in infos),
        dtypes=dict(dtypes),
    )
