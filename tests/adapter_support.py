"""Weight adapters of every kind for one layer: the tensors of a file, and the arithmetic of the formats written out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
RANK, ALPHA, SCALE = 4, 2.0, 0.75
OUT, IN = 12, 8


@dataclass(frozen=True)
class Example:
    """tensors: by the end of their names in a file; restated: (W, tensors) -> what is added to W at strength 1."""

    tensors: Callable[[tuple[int, ...]], Mapping[str, Tensor]]
    restated: Callable[[Array, Mapping[str, Array]], Array]
    shapes: tuple[tuple[int, ...], ...] = ((OUT, IN), (OUT, IN, 1, 1), (OUT, IN, 3, 3))


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum((n + 1) * s for n, s in enumerate(shape))))


def number(value: float) -> Tensor:
    return torch.tensor(value)


def lora(shape: tuple[int, ...]) -> Mapping[str, Tensor]:
    ones = (1,) * (len(shape) - 2)
    return {
        "lora_down.weight": drawn(RANK, *shape[1:]),
        "lora_up.weight": drawn(shape[0], RANK, *ones),
        "alpha": number(ALPHA),
    }


def lora_restated(w: Array, t: Mapping[str, Array]) -> Array:
    """dW[o, i, y, x] = alpha / r * sum over ranks of up[o, r] down[r, i, y, x]."""
    up = t["lora_up.weight"].reshape(len(w), RANK)
    total = np.zeros_like(w)
    for o in range(len(w)):
        for r in range(RANK):
            total[o] += up[o, r] * t["lora_down.weight"][r]
    return ALPHA / RANK * total


def tucker(shape: tuple[int, ...]) -> Mapping[str, Tensor]:
    return {
        "lora_down.weight": drawn(RANK, shape[1], 1, 1),
        "lora_mid.weight": drawn(RANK, RANK, *shape[2:]),
        "lora_up.weight": drawn(shape[0], RANK, 1, 1),
        "alpha": number(ALPHA),
    }


def tucker_restated(w: Array, t: Mapping[str, Array]) -> Array:
    return ALPHA / RANK * core(t["lora_mid.weight"], t["lora_up.weight"][:, :, 0, 0], t["lora_down.weight"][:, :, 0, 0])


def core(mid: Array, up: Array, down: Array) -> Array:
    """up (out, r), down (r, in): the first axis of the core pairs with up, the second with down."""
    total = np.zeros((len(up), down.shape[1], *mid.shape[2:]))
    for o, i in product(range(len(up)), range(down.shape[1])):
        for a, b in product(range(len(mid)), range(mid.shape[1])):
            total[o, i] += up[o, a] * down[b, i] * mid[a, b]
    return total


def loha(shape: tuple[int, ...]) -> Mapping[str, Tensor]:
    width = int(np.prod(shape[1:]))
    sides = {f"hada_w{n}_a": drawn(shape[0], RANK) * n for n in (1, 2)}
    return {**sides, **{f"hada_w{n}_b": drawn(RANK, width) + n for n in (1, 2)}, "alpha": number(ALPHA)}


def loha_restated(w: Array, t: Mapping[str, Array]) -> Array:
    left, right = (t[f"hada_w{n}_a"] @ t[f"hada_w{n}_b"] for n in (1, 2))
    return (ALPHA / RANK * left * right).reshape(w.shape)


def loha_tucker(shape: tuple[int, ...]) -> Mapping[str, Tensor]:
    made: dict[str, Tensor] = {"alpha": number(ALPHA)}
    for n in (1, 2):
        made[f"hada_t{n}"] = drawn(RANK, RANK, *shape[2:]) + n
        made[f"hada_w{n}_a"], made[f"hada_w{n}_b"] = drawn(RANK, shape[0]), drawn(RANK, shape[1]) * n
    return made


def loha_tucker_restated(w: Array, t: Mapping[str, Array]) -> Array:
    left, right = (core(t[f"hada_t{n}"], t[f"hada_w{n}_a"].T, t[f"hada_w{n}_b"]) for n in (1, 2))
    return ALPHA / RANK * left * right


def lokr(shape: tuple[int, ...]) -> Mapping[str, Tensor]:
    """Both factors whole: alpha is there and does not count."""
    return {"lokr_w1": drawn(3, 2), "lokr_w2": drawn(shape[0] // 3, shape[1] // 2, *shape[2:]), "alpha": number(ALPHA)}


def kron(w: Array, first: Array, second: Array) -> Array:
    total = np.zeros_like(w)
    for o, i in product(range(w.shape[0]), range(w.shape[1])):
        total[o, i] = first[o // len(second), i // second.shape[1]] * second[o % len(second), i % second.shape[1]]
    return total


def lokr_restated(w: Array, t: Mapping[str, Array]) -> Array:
    return kron(w, t["lokr_w1"], t["lokr_w2"])


def lokr_low(shape: tuple[int, ...]) -> Mapping[str, Tensor]:
    width = shape[1] // 2 * int(np.prod(shape[2:]))
    return {
        "lokr_w1_a": drawn(3, 2),
        "lokr_w1_b": drawn(2, 2) + 1,
        "lokr_w2_a": drawn(shape[0] // 3, 2),
        "lokr_w2_b": drawn(2, width),
        "alpha": number(ALPHA),
    }


def lokr_low_restated(w: Array, t: Mapping[str, Array]) -> Array:
    second = (t["lokr_w2_a"] @ t["lokr_w2_b"]).reshape(w.shape[0] // 3, w.shape[1] // 2, *w.shape[2:])
    return ALPHA / 2 * kron(w, t["lokr_w1_a"] @ t["lokr_w1_b"], second)


def lokr_tucker(shape: tuple[int, ...]) -> Mapping[str, Tensor]:
    return {
        "lokr_w1": drawn(3, 2),
        "lokr_w2_a": drawn(RANK, shape[0] // 3),
        "lokr_w2_b": drawn(RANK, shape[1] // 2),
        "lokr_t2": drawn(RANK, RANK, *shape[2:]),
        "alpha": number(ALPHA),
    }


def lokr_tucker_restated(w: Array, t: Mapping[str, Array]) -> Array:
    return ALPHA / RANK * kron(w, t["lokr_w1"], core(t["lokr_t2"], t["lokr_w2_a"].T, t["lokr_w2_b"]))


def ia3(shape: tuple[int, ...], *, on_input: bool) -> Mapping[str, Tensor]:
    width = shape[1] if on_input else shape[0]
    kernel = len(shape) > 2
    channels = drawn(1, width, 1, 1) if kernel else drawn(width)
    return {"weight": channels, "on_input": torch.tensor(int(on_input))}


def ia3_restated(w: Array, t: Mapping[str, Array]) -> Array:
    channels, total = t["weight"].flatten(), np.zeros_like(w)
    for o, i in product(range(w.shape[0]), range(w.shape[1])):
        total[o, i] = w[o, i] * channels[i if t["on_input"] else o]
    return total


def glora(shape: tuple[int, ...]) -> Mapping[str, Tensor]:
    ones = (1,) * (len(shape) - 2)
    return {
        "a1.weight": drawn(shape[1], RANK, *ones),
        "a2.weight": drawn(RANK, shape[1], *ones),
        "b1.weight": drawn(shape[0], RANK, *ones),
        "b2.weight": drawn(RANK, *shape[1:]),
        "alpha": number(ALPHA),
    }


def glora_restated(w: Array, t: Mapping[str, Array], a: tuple[str, str] = ("a1", "a2"), b: str = "b") -> Array:
    first, second = (t[f"{name}.weight"].reshape(t[f"{name}.weight"].shape[:2]) for name in a)
    mixing, total = first @ second, np.zeros_like(w)
    for o, i in product(range(w.shape[0]), range(w.shape[1])):
        total[o, i] = sum(w[o, j] * mixing[j, i] for j in range(w.shape[1]))
    up, down = ("b1", "b2") if b == "b" else ("b2", "b1")
    added = t[f"{up}.weight"].reshape(len(w), RANK) @ t[f"{down}.weight"].reshape(RANK, -1)
    return ALPHA / RANK * (total + added.reshape(w.shape))


def glora_old(shape: tuple[int, ...]) -> Mapping[str, Tensor]:
    new = glora(shape)
    swapped = {"a1": "a2", "a2": "a1", "b1": "b2", "b2": "b1"}
    return {"alpha": new["alpha"], **{f"{old}.weight": new[f"{name}.weight"] for old, name in swapped.items()}}


def glora_old_restated(w: Array, t: Mapping[str, Array]) -> Array:
    return glora_restated(w, t, ("a2", "a1"), "old")


def oft(shape: tuple[int, ...], *, alpha: float, rows: bool) -> Mapping[str, Tensor]:
    own = {"oft_blocks": 0.3 * drawn(shape[0] // 4, 4, 4), "alpha": number(alpha)}
    return {**own, "rescale": 1 + 0.1 * drawn(shape[0], *(1,) * (len(shape) - 1))} if rows else own


def oft_restated(w: Array, t: Mapping[str, Array]) -> Array:
    blocks = t["oft_blocks"]
    skew = blocks - blocks.transpose(0, 2, 1)
    limit, norm = float(t["alpha"]) * len(w), float(np.sqrt((skew**2).sum()))
    skew = skew * min(1.0, limit / norm) if limit > 0 else skew
    total = np.zeros_like(w)
    for k, q in enumerate(skew):
        rotation = (np.eye(4) + q) @ np.linalg.inv(np.eye(4) - q)
        for m, n in product(range(4), range(4)):
            total[4 * k + m] += rotation[n, m] * w[4 * k + n]
    for o in range(len(w)):
        total[o] *= t["rescale"].flatten()[o] if "rescale" in t else 1.0
    return total - w


def boft(shape: tuple[int, ...], *, alpha: float, rows: bool) -> Mapping[str, Tensor]:
    """Two layers of rotations of six channels each."""
    own = {"oft_blocks": 0.3 * drawn(2, shape[0] // 6, 6, 6), "alpha": number(alpha)}
    return {**own, "rescale": 1 + 0.1 * drawn(shape[0], *(1,) * (len(shape) - 1))} if rows else own


def boft_restated(w: Array, t: Mapping[str, Array]) -> Array:
    """In layer i, channels that lie 2^i * 3 apart are neighbours."""
    blocks = t["oft_blocks"]
    skew = blocks - blocks.transpose(0, 1, 3, 2)
    limit, norm = float(t["alpha"]) * len(w), float(np.sqrt((skew**2).sum()))
    skew = skew * min(1.0, limit / norm) if limit > 0 else skew
    total = w.copy()
    for i, layer in enumerate(skew):
        apart = 2**i * 3
        order = [(a * 2 + s) * apart + j for a in range(len(w) // (2 * apart)) for j in range(apart) for s in (0, 1)]
        before = total.copy()
        for k, q in enumerate(layer):
            rotation = (np.eye(6) + q) @ np.linalg.inv(np.eye(6) - q)
            here = order[6 * k : 6 * k + 6]
            for m in range(6):
                total[here[m]] = sum(rotation[m, n] * before[here[n]] for n in range(6))
    for o in range(len(w)):
        total[o] *= t["rescale"].flatten()[o] if "rescale" in t else 1.0
    return total - w


def oft_given(shape: tuple[int, ...]) -> Mapping[str, Tensor]:
    return {"oft_diag": drawn(shape[0] // 4, 4, 4)}


def oft_given_restated(w: Array, t: Mapping[str, Array]) -> Array:
    total = np.zeros_like(w)
    for k, block in enumerate(t["oft_diag"]):
        for m, n in product(range(4), range(4)):
            total[4 * k + m] += block[n, m] * w[4 * k + n]
    return total - w


def dora(shape: tuple[int, ...], *, axis: int) -> Mapping[str, Tensor]:
    lengths = [width if n == axis else 1 for n, width in enumerate(shape)]
    return {**lora(shape), "dora_scale": 1 + 0.2 * drawn(*lengths)}


def dora_restated(w: Array, t: Mapping[str, Array], axis: int | None = None) -> Array:
    v, lengths = w + lora_restated(w, t), t["dora_scale"].flatten()
    axis = (0 if t["dora_scale"].shape[0] == len(w) else 1) if axis is None else axis
    result = np.zeros_like(w)
    for n in range(w.shape[axis]):
        one = v[n] if axis == 0 else v[:, n]
        scaled = one * lengths[n] / np.sqrt((one**2).sum())
        if axis == 0:
            result[n] = scaled
        else:
            result[:, n] = scaled
    return result - w


def peft_dora(shape: tuple[int, ...]) -> Mapping[str, Tensor]:
    own = lora(shape)
    return {
        "lora_A.weight": own["lora_down.weight"],
        "lora_B.weight": own["lora_up.weight"],
        "lora_magnitude_vector": 1 + 0.2 * drawn(shape[0]),
    }


def peft_dora_restated(w: Array, t: Mapping[str, Array]) -> Array:
    """Without an alpha the scale is 1."""
    own = {"lora_down.weight": t["lora_A.weight"] * RANK / ALPHA, "lora_up.weight": t["lora_B.weight"]}
    return dora_restated(w, {**own, "dora_scale": t["lora_magnitude_vector"]}, axis=0)


Restated = Callable[[Array, Mapping[str, Array]], Array]


def scaled(own: Callable[[tuple[int, ...]], Mapping[str, Tensor]]) -> Callable[[tuple[int, ...]], Mapping[str, Tensor]]:
    """With a scale, which counts in place of an alpha."""
    return lambda shape: {**own(shape), "scale": number(SCALE)}


def scaled_restated(own: Restated, before: float = 1.0) -> Restated:
    """before: what the alpha alone multiplies with."""
    return lambda w, t: SCALE / before * own(w, t)


def elements(shape: tuple[int, ...], own: Callable[[tuple[int, ...]], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """Three single ones beside the factors, two at one place."""
    places = torch.tensor([[0, n - 1, n - 1] for n in shape], dtype=torch.int16)
    size = torch.tensor(shape, dtype=torch.int16)
    return {**own(shape), "bias_size": size, "bias_indices": places, "bias_values": torch.tensor([5.0, -7.0, 1.0])}


def elements_restated(w: Array, t: Mapping[str, Array], own: Restated) -> Array:
    total = own(w, t)
    total[(0,) * w.ndim] += ALPHA / RANK * 5
    total[(-1,) * w.ndim] += ALPHA / RANK * -6
    return total


def ia3_of_peft(shape: tuple[int, ...]) -> Mapping[str, Tensor]:
    return {"ia3_l": drawn(shape[0], 1) if len(shape) == 2 else drawn(1, shape[0], 1, 1)}


def ia3_of_peft_restated(w: Array, t: Mapping[str, Array]) -> Array:
    """In linear layers the axis that is one tells the other."""
    lengths, total = t["ia3_l"], np.zeros_like(w)
    of_input = lengths.ndim == 2 and len(lengths) == 1
    for o, i in product(range(w.shape[0]), range(w.shape[1])):
        total[o, i] = w[o, i] * (lengths.flatten()[i if of_input else o] - 1)
    return total


def oft_of_inputs(shape: tuple[int, ...], blocks: int) -> Mapping[str, Tensor]:
    return {"oft_R.weight": 0.2 * drawn(blocks, 6)}


def oft_of_inputs_restated(w: Array, t: Mapping[str, Array]) -> Array:
    """Without settings, five terms: I + 2Q + 2Q^2 + 2Q^3 + Q^4."""
    total = np.zeros_like(w)
    for block in range(IN // 4):
        q = np.zeros((4, 4))
        q[np.triu_indices(4, 1)] = t["oft_R.weight"][min(block, len(t["oft_R.weight"]) - 1)]
        q -= q.T
        rotation = np.eye(4) + 2 * q + 2 * q @ q + 2 * q @ q @ q + q @ q @ q @ q
        for i, j in product(range(4), range(4)):
            total[:, 4 * block + i] += rotation[i, j] * w[:, 4 * block + j]
    return total - w


def embedded(shape: tuple[int, ...]) -> Mapping[str, Tensor]:
    """One row for each token."""
    return {
        "lora_embedding_A": drawn(RANK, shape[0]),
        "lora_embedding_B": drawn(shape[1], RANK),
        "alpha": number(ALPHA),
    }


def embedded_restated(w: Array, t: Mapping[str, Array]) -> Array:
    return ALPHA / RANK * (t["lora_embedding_B"] @ t["lora_embedding_A"]).T.reshape(w.shape)


LINEAR, KERNEL, POINT = ((OUT, IN),), ((OUT, IN, 3, 3),), ((OUT, IN), (OUT, IN, 1, 1))
EXAMPLES: Mapping[str, Mapping[str, Example]] = {
    "LoRA": {
        "lora": Example(lora, lora_restated),
        "core": Example(tucker, tucker_restated, KERNEL),
        "scale": Example(scaled(lora), scaled_restated(lora_restated, ALPHA / RANK)),
        "elements": Example(lambda s: elements(s, lora), lambda w, t: elements_restated(w, t, lora_restated)),
        "elements, core": Example(
            lambda s: elements(s, tucker), lambda w, t: elements_restated(w, t, tucker_restated), KERNEL
        ),
    },
    "LoHa": {
        "loha": Example(loha, loha_restated),
        "cores": Example(loha_tucker, loha_tucker_restated, KERNEL),
        "scale": Example(scaled(loha), scaled_restated(loha_restated, ALPHA / RANK)),
    },
    "LoKr": {
        "whole": Example(lokr, lokr_restated),
        "low": Example(lokr_low, lokr_low_restated),
        "core": Example(lokr_tucker, lokr_tucker_restated, KERNEL),
        "scale": Example(scaled(lokr), scaled_restated(lokr_restated)),
    },
    "IA3": {
        "output": Example(lambda shape: ia3(shape, on_input=False), ia3_restated),
        "input": Example(lambda shape: ia3(shape, on_input=True), ia3_restated),
        "scale": Example(scaled(lambda shape: ia3(shape, on_input=True)), scaled_restated(ia3_restated)),
    },
    "IA3 of PEFT": {
        "output": Example(ia3_of_peft, ia3_of_peft_restated),
        "input": Example(lambda shape: {"ia3_l": drawn(1, shape[1])}, ia3_of_peft_restated, ((OUT, IN),)),
    },
    "OFT of inputs": {
        "blocks": Example(lambda shape: oft_of_inputs(shape, IN // 4), oft_of_inputs_restated, POINT),
        "one block for all": Example(lambda shape: oft_of_inputs(shape, 1), oft_of_inputs_restated, POINT),
    },
    "LoRA of embeddings": {
        "plain": Example(embedded, embedded_restated, LINEAR),
    },
    "replaced": {
        "weight": Example(lambda shape: {"weight": 1 + drawn(*shape)}, lambda w, t: t["weight"] - w),
        "norm": Example(lambda shape: {"weight": 1 + drawn(*shape)}, lambda w, t: t["weight"] - w, ((OUT,),)),
    },
    "GLoRA": {
        "now": Example(glora, glora_restated),
        "old": Example(glora_old, glora_old_restated),
        "scale": Example(scaled(glora), scaled_restated(glora_restated, ALPHA / RANK)),
    },
    "OFT": {
        "free": Example(lambda shape: oft(shape, alpha=0.0, rows=False), oft_restated),
        "limited": Example(lambda shape: oft(shape, alpha=0.01, rows=True), oft_restated),
        "given": Example(oft_given, oft_given_restated),
        "butterfly": Example(lambda shape: boft(shape, alpha=0.0, rows=False), boft_restated),
        "limited butterfly": Example(lambda shape: boft(shape, alpha=0.01, rows=True), boft_restated),
    },
    "full": {
        "diff": Example(lambda shape: {"diff": drawn(*shape)}, lambda w, t: t["diff"]),
        "scale": Example(scaled(lambda shape: {"diff": drawn(*shape)}), lambda w, t: SCALE * t["diff"]),
    },
    "norm": {
        "weight": Example(lambda shape: {"w_norm": drawn(*shape)}, lambda w, t: t["w_norm"], ((OUT,),)),
        "scale": Example(scaled(lambda shape: {"w_norm": drawn(*shape)}), lambda w, t: SCALE * t["w_norm"], ((OUT,),)),
    },
}
"""At least one for every kind."""
DORA: Mapping[str, Example] = {
    "outputs": Example(lambda shape: dora(shape, axis=0), dora_restated),
    "inputs": Example(lambda shape: dora(shape, axis=1), dora_restated),
    "peft": Example(peft_dora, peft_dora_restated),
}
