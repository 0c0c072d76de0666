"""The mean of the denoisers of two models, weight by weight, as a model. See scripts/average."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import Modules, write_diffusers
from atelier.errors import AtelierError, BadInput
from atelier.families.parts import UNET
from atelier.weights.cast import precision


def averaged(model: Path, other: Path, share: float, target: Path) -> None:
    """Writes `share` of the denoiser of `model` and the rest of that of `other`, with the other parts of `model` and
    its precision. Raises BadInput where the two have not the same shape."""
    first, second = open_checkpoint(model), open_checkpoint(other)
    if first.spec(UNET) != second.spec(UNET):
        raise BadInput(f"{other}: its denoiser has another shape than that of {model}")
    unet, rest = first.load(UNET, torch.float32, mapped=False), second.load(UNET, torch.float32).state_dict()
    unet.load_state_dict({name: share * mine + (1 - share) * rest[name] for name, mine in unet.state_dict().items()})
    others = (part for part in first.family.parts if part is not UNET and first.has(part))
    networks = {"unet": unet, **{part.name: first.load(part, torch.float32) for part in others}}
    made = Modules(first.family, networks, first.tokenizers, first.facts)
    write_diffusers(made, target, precision(first.dtype))


def _share(text: str) -> float:
    """Raises BadInput for what is no number from 0 to 1."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise BadInput(f"share {text!r}: a number from 0 to 1 is needed")
    return share


def main(model: str, other: str, share: str, target: str) -> int:
    """The exit status. What is refused is one line on standard error."""
    try:
        averaged(Path(model), Path(other), _share(share), Path(target))
    except AtelierError as error:
        print(f"average: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
