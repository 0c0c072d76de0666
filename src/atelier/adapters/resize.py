"""LoRA files of another rank: each layer at its best approximation (docs/networks.md, "Resizing")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from atelier.adapters.delta import ALPHA
from atelier.adapters.factors import Decomposed, decomposed_product
from atelier.adapters.read import AdapterFile
from atelier.adapters.stated import PEFT
from atelier.errors import BadFile, BadInput

Rule = Literal["rank", "keep", "ratio", "frobenius"]
LIMITS: Mapping[Rule, tuple[float, float]] = {"keep": (0, 1), "ratio": (1, 1e6), "frobenius": (0, 1)}
"""What the number of a rule must lie above, and at most be."""
RULES: Mapping[Rule, str] = {"keep": "sv_cumulative", "ratio": "sv_ratio", "frobenius": "sv_fro"}
"""What kohya's script calls them."""
MID = "mid"
FACTORS = ("up", "down")
DYNAMIC = "Dynamic"
"""What kohya's scripts write where every layer has a rank of its own."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many ranks a layer has afterwards, at most `rank`, `kernel_rank` where a kernel is larger than a point.

    rule, bound: which of kohya's rules tells it from the singular values: "keep" (sv_cumulative), the fewest whose sum
    is at least that share of all; "frobenius" (sv_fro), the same of the root of the sum of squares; "ratio" (sv_ratio),
    those larger than the largest one divided by it; "rank": none, it is the same for all.
    """

    rank: int
    kernel_rank: int
    rule: Rule = "rank"
    bound: float = 0.0

    def __post_init__(self) -> None:
        """Raises BadInput for a number that no rule can take."""
        low, high = LIMITS.get(self.rule, (-1, 0))
        if not low < self.bound <= high:
            raise BadInput(f"--{self.rule} {self.bound:g}: it must be more than {low:g} and at most {high:g}")

    def of(self, values: Tensor, *, kernel: bool) -> int:
        """At least 1, and at most as many as there are."""
        return max(1, min(self._told(values.double()), self.kernel_rank if kernel else self.rank, len(values)))

    def _told(self, values: Tensor) -> int:
        match self.rule:
            case "keep":
                return _first_past(values.cumsum(0) / values.sum(), self.bound)
            case "frobenius":
                squares = values.square()
                return _first_past(squares.cumsum(0) / squares.sum(), self.bound**2)
            case "ratio":
                return int((values > values[0] / self.bound).sum())
            case "rank":
                return len(values)


@dataclass(frozen=True, slots=True)
class Resized:
    """tensors: of the file. layers: how many were resized; ranks: the smallest and the largest that they have now;
    kept: the share of the squared difference of these layers that is still in it, 0 to 1; others: layers of other
    kinds, which are as they were."""

    tensors: Mapping[str, Tensor]
    layers: int
    ranks: tuple[int, int]
    kept: float
    others: tuple[str, ...]


def resized(file: AdapterFile, size: Size) -> Resized:
    """The tensors by the names that they have in the file, and in its precision.

    A core between the factors goes into one of them. Alpha divided by the rank stays what it was, and so do the lengths
    of a DoRA. Raises BadFile where nothing can be resized, or the file is damaged.
    """
    tensors = file.archive.load(file.archive.tensors, mapped=False)
    ranks: list[int] = []
    kept = total = 0.0
    low = [base for base, layer in file.layers.items() if layer.kind.ranked]
    for base, own in file.load(low, dtype=None).items():
        up, down = flat(own)
        if not bool(up.isfinite().all() and down.isfinite().all()):
            raise BadFile(file.path, f"has NaN or infinity in {base}: it is damaged, get it again")
        found = decomposed_product(up, down)
        rank = size.of(found.values, kernel=is_kernel(own))
        ranks.append(rank)
        weight = scale_of(own) ** 2
        kept, total = kept + weight * found.kept(rank), total + weight * found.squares
        names, new = file.layers[base].tensors, _cut(own, found, rank, alpha=ALPHA in file.layers[base].tensors)
        for name in names.values():
            del tensors[name]
        tensors |= {_name(names, slot): tensor for slot, tensor in new.items()}
    if not ranks:
        raise BadFile(file.path, f"has no LoRA to resize, but {', '.join(file.kind_names)}")
    others = tuple(sorted(file.layers.keys() - set(low)))
    return Resized(tensors, len(ranks), (min(ranks), max(ranks)), kept / total if total else 1.0, others)


def _name(names: Mapping[str, str], slot: str) -> str:
    """Of a tensor in the file; what is made of the bias of a factor stands beside that one."""
    return names[slot] if slot in names else f"{names['up'].rpartition('.lora_B')[0]}.{slot}"


def told(file: AdapterFile, size: Size, done: Resized) -> dict[str, str]:
    """The metadata of the file, with what was done, in the words of kohya's script."""
    before, comment = (file.metadata.get(f"ss_{key}", "None") for key in ("network_dim", "training_comment"))
    what = f"dimension is resized from {before} to {size.rank}"
    if size.rule != "rank":
        what = f"Dynamic resize with {RULES[size.rule]}: {size.bound:g} from {before}"
    alphas = {float(tensor) for name, tensor in done.tensors.items() if name.endswith(".alpha")}
    one, alpha = done.ranks[0] == done.ranks[1], alphas or {float(done.ranks[0])}
    return {
        **{key: value for key, value in file.metadata.items() if key != PEFT},
        "ss_training_comment": f"{what}; {comment}",
        "ss_network_dim": str(done.ranks[0]) if one else DYNAMIC,
        "ss_network_alpha": str(min(alpha)) if one and len(alpha) == 1 else DYNAMIC,
    }


def flat(own: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(up (out, r), down (r, all else)) of the tensors of a LoRA by slot, float32, without their scale; a core
    (r, r, k, k) becomes part of the second."""
    up, down = (own[slot].float().flatten(1) for slot in FACTORS)
    if MID in own:
        down = torch.einsum("ijkl,jq->iqkl", own[MID].float(), down).flatten(1)
    return up, down


def scale_of(own: Mapping[str, Tensor]) -> float:
    """What the product of the factors of a LoRA is multiplied by: alpha divided by the rank."""
    rank = len(own["down"])
    return float(own[ALPHA]) / rank if ALPHA in own else 1.0


def is_kernel(own: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of a LoRA are for a convolution that is larger than a point."""
    return _kernel(own) not in ((), (1, 1))


def _kernel(own: Mapping[str, Tensor]) -> tuple[int, ...]:
    return tuple(own[MID if MID in own else "down"].shape[2:])


def _cut(own: Mapping[str, Tensor], found: Decomposed, rank: int, *, alpha: bool) -> dict[str, Tensor]:
    """The tensors of a layer, by slot, in the precision that they had. alpha: whether the file says one; another scale
    goes into a factor."""
    up, down = found.cut(rank)
    new = {
        "up": (up if alpha else scale_of(own) * up).reshape(-1, rank, *own["up"].shape[2:]),
        "down": down.reshape(rank, own["down"].shape[1], *_kernel(own)),
    }
    if alpha:
        dtype = own[ALPHA].dtype if own[ALPHA].is_floating_point() else torch.float32
        new[ALPHA] = torch.tensor(scale_of(own) * rank, dtype=dtype)
    others = {slot: tensor for slot, tensor in own.items() if slot not in (*FACTORS, MID, ALPHA)}
    return {**others, **new, **{slot: new[slot].to(own[slot].dtype) for slot in FACTORS}}


def _first_past(shares: Tensor, bound: float) -> int:
    """How many shares, rising to 1, there are up to the first that is at least the bound."""
    return int(torch.searchsorted(shares, bound)) + 1
