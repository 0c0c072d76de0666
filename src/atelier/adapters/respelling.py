"""Files of adapters in the layouts of other programs: the same numbers under other names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from atelier.adapters.delta import NEW_BIAS
from atelier.adapters.inversion import BUNDLED
from atelier.adapters.known import Known
from atelier.adapters.layouts import WITH_ALPHA, Layer, Layout, Slots, spelled, split, swapped_rows
from atelier.adapters.read import AdapterFile
from atelier.adapters.stated import PEFT
from atelier.adapters.weight.lora import SPARSE
from atelier.errors import BadFile
from atelier.weights.names.name import Halves, Rows

APART = frozenset({"LoRA", "full"})
"""Kinds whose tensors have rows as the weight has them."""


@dataclass(frozen=True, slots=True)
class Respelled:
    """tensors: of the file; layers: how many it has; left_out: names of tensors that the layout has no place for."""

    tensors: Mapping[str, Tensor]
    layers: int
    left_out: tuple[str, ...]


def respelled(file: AdapterFile, known: Known, layout: Layout) -> Respelled:
    """The file in another layout, in the precision that it has.

    Where a layout has no alpha, its share goes into a factor. Raises BadFile and BadInput for what cannot be written.
    """
    layers = list(layers_of(file, known, whole=layout in WITH_ALPHA, dtype=None))
    tensors = spelled(layers, known.family, layout)
    bundled = [name for name in file.archive.tensors if name.startswith(BUNDLED)]
    if layout in WITH_ALPHA:
        tensors |= file.archive.load(bundled, mapped=False)
    left_out = file.others if layout in WITH_ALPHA else (*file.others, *bundled)
    return Respelled(tensors, len(layers), tuple(left_out))


def metadata(file: AdapterFile) -> dict[str, str]:
    """That of the file, without what is said of factors that are others now."""
    return {key: value for key, value in file.metadata.items() if key != PEFT}


def layers_of(
    file: AdapterFile, known: Known, *, whole: bool, dtype: torch.dtype | None = torch.float32
) -> Iterator[Layer]:
    """The layers of a file as our networks have them, floating tensors as `dtype` (None: as they are stored).

    whole: what a file keeps for several layers together stays together. Raises BadFile for layers that are not known,
    and for what cannot be taken apart.
    """
    for base, slots in file.load(file.layers, dtype).items():
        if base not in known.layers:
            raise BadFile(file.path, f"has {base}, which is no layer of a {known.family.title} model")
        if file.layers[base].kind.of_peft or NEW_BIAS in slots:
            raise BadFile(file.path, f"has {base} as PEFT alone keeps it: put it into a model with atelier models bake")
        for own in known.layers[base]:
            if isinstance(own.rule, Rows) and whole:
                yield Layer(own.part, replace(own.module, rows=None), slots)
                break
            if own.rule is not None and (file.layers[base].kind.name not in APART or SPARSE & slots.keys()):
                kind = f"{file.layers[base].kind.name}{' with single elements' if SPARSE & slots.keys() else ''}"
                raise BadFile(file.path, f"has {base} as {kind}, which cannot be taken apart: keep kohya's layout")
            yield Layer(own.part, own.module, _arranged(slots, own.rule))


def _arranged(slots: Slots, rule: Rows | Halves | None) -> Slots:
    match rule:
        case Rows():
            return split(slots, rule)
        case Halves():
            return swapped_rows(slots)
        case None:
            return slots
