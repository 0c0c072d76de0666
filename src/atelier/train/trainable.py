"""What of a network is trained: its parameters with gradients. The rest is the base, which no checkpoint repeats."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from atelier.weights.formats import safetensors


def freeze(net: nn.Module, beginnings: Sequence[str]) -> None:
    """Parameters whose names begin so are no longer trained."""
    for name, parameter in net.named_parameters():
        if name.startswith(tuple(beginnings)):
            parameter.requires_grad = False


def learned(net: nn.Module) -> dict[str, Tensor]:
    """What training changes: the parameters that are trained, and the buffers. By name, the tensors themselves."""
    frozen = base(net)
    return {name: tensor for name, tensor in net.state_dict().items() if name not in frozen}


def base(net: nn.Module) -> dict[str, Tensor]:
    """The parameters that stay as they are, by name, the tensors themselves."""
    return {name: p.detach() for name, p in net.named_parameters(remove_duplicate=False) if not p.requires_grad}


def base_digest(nets: Mapping[str, nn.Module]) -> str:
    """Sixteen hexadecimal digits that change with every bit of what stays as it is; empty where all is trained."""
    tensors = {f"{net}.{name}": tensor for net, module in nets.items() for name, tensor in base(module).items()}
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(safetensors.tensor_bytes(tensor))
    return digest.hexdigest()[:16] if tensors else ""
