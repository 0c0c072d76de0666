"""Tiny autoencoders (TAESD, TAESDXL, TAESD3) in any of their files, recognised by their tensors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadFile
from atelier.families.facts import NO_FACTS
from atelier.families.part import Architecture
from atelier.families.parts.taesd import DECODER, ENCODER, halves
from atelier.families.shapes import Shapes
from atelier.weights.archive import Stored, counted, open_any

if TYPE_CHECKING:
    import torch

    from atelier.models.taesd import TinyAutoencoder

FOLDERS = ("vae_approx", "VAE-approx")
"""Where ComfyUI and A1111 keep tiny autoencoders."""
FACTOR = 8
"""Pixels of one position of their latents, along a side."""
DIFFUSERS = "diffusion_pytorch_model.safetensors"
ARCHITECTURES: dict[str, Architecture[Any, Any]] = {"encoder": ENCODER, "decoder": DECODER}


def find_tiny(path: Path) -> dict[str, Stored]:
    """The halves at a path, by name: a file with one or both, or a folder of diffusers. Headers only.

    The published files hold one half each: the other is looked for beside a file that has `decoder` or `encoder` in
    its name. Raises BadFile for what is no tiny autoencoder.
    """
    found: dict[str, Stored] = {}
    for file in _files(path / DIFFUSERS if path.is_dir() else path):
        archive = open_any(file)
        there = halves(archive.tensors)
        if not there:
            raise BadFile(file, f"is no tiny autoencoder: it holds {counted(archive.tensors)}")
        for half in there:
            found.setdefault(half.name, Stored(archive, half.layout, half.prefix))
    return found


def tiny_beside(model: Checkpoint) -> Path | None:
    """Where a tiny autoencoder for this model's latents lies: under the names that its author gave them, beside the
    model or in the folders of A1111 and ComfyUI. Raises BadFile for a damaged one.
    """
    name = model.family.tiny
    if name is None:
        return None
    near = model.path.absolute().parent
    folders = (near, *(place / folder for place in (near, near.parent) for folder in FOLDERS))
    spellings = (f"{name}_decoder.safetensors", f"{name}_decoder.pth", f"{name}.safetensors", f"{name}/{DIFFUSERS}")
    places = (folder / spelling for folder in folders for spelling in spellings)
    return next((path for path in places if path.is_file() and _suits(path, model)), None)


def is_tiny(path: Path) -> bool:
    """Whether a tiny autoencoder lies there."""
    try:
        return bool(find_tiny(path))
    except BadFile:
        return False


def check_suits(path: Path, model: Checkpoint) -> None:
    """Raises BadFile for a tiny autoencoder that cannot decode this model's latents."""
    if not _suits(path, model):
        told = f"{model.latent.channels} channels and {model.latent.factor} pixels of a position"
        raise BadFile(path, f"has no decoder for the latents of {model.name}, which have {told}")


def _suits(path: Path, model: Checkpoint) -> bool:
    decoder, latent = find_tiny(path).get("decoder"), model.latent
    if decoder is None or latent.factor != FACTOR:
        return False
    return DECODER.infer(Shapes.of(decoder), NO_FACTS).latent == latent.channels


def load_tiny(path: Path, dtype: torch.dtype | None = None) -> TinyAutoencoder:
    """The autoencoder at a path, floating tensors as `dtype` (None: as they are stored).

    Strict: raises BadFile for every tensor missing, left over or misshapen, for halves of two models, and where there
    is no decoder.
    """
    from atelier.models.taesd import TinyAutoencoder

    stored = find_tiny(path)
    if "decoder" not in stored:
        raise BadFile(path, "has no decoder: put the file of the decoder beside it")
    specs = {name: ARCHITECTURES[name].infer(Shapes.of(own), NO_FACTS) for name, own in stored.items()}
    if len(set(specs.values())) > 1:
        raise BadFile(path, "has an encoder and a decoder of two models: their latents differ")
    nets = {name: _load(own, ARCHITECTURES[name], specs[name], dtype) for name, own in stored.items()}
    return TinyAutoencoder(nets["decoder"], nets.get("encoder")).eval()


def _load(stored: Stored, network: Architecture[Any, Any], spec: object, dtype: torch.dtype | None) -> Any:  # noqa: ANN401 - encoder or decoder
    from atelier.weights.load import load_into, read

    tensors = read(stored, network.names(spec), dtype=dtype)
    return load_into(lambda: network.build(spec), tensors, source=stored.archive.path)


def _files(path: Path) -> Iterable[Path]:
    """The file, and that of the other half where there is one."""
    yield path
    for half, other in (("decoder", "encoder"), ("encoder", "decoder")):
        if half in path.name:
            beside = path.with_name(path.name.replace(half, other))
            if beside.is_file():
                yield beside
            return
