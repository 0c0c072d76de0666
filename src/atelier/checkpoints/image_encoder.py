"""CLIP's image encoders in files and folders of their own: ViT-L, ViT-H, ViT-bigG and whatever else is like them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.kind import identify
from atelier.errors import BadFile, BadInput
from atelier.families.config import Config
from atelier.families.facts import NO_FACTS, PartFacts
from atelier.families.parts import VISION, clip, openclip
from atelier.families.shapes import Shapes
from atelier.weights.archive import Archive, Stored, counted, open_any

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor

    from atelier.families.part import Architecture
    from atelier.models.clip import ClipVision, VisionSpec, VisionStates

SETTINGS = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""What transformers calls the files of a folder."""
OLD = "embeddings.position_ids"
"""A table 0, 1, 2, … in files of older transformers, which says nothing."""
LONGEST = 100
"""Of an image that is seen, how many times its shorter side the longer one may be: only the middle is looked at."""
VISUAL = "visual."
"""What OpenCLIP's names begin with."""


@dataclass(frozen=True, slots=True)
class ImageEncoder:
    """An image encoder, ready to run. name: what messages call it."""

    net: ClipVision
    name: str

    def pixels(self, images: Sequence[Image]) -> Tensor:
        """(N, 3, side, side), as the network reads them. Cut to the square in the middle: see `squared`."""
        import torch

        from atelier.models.clip import normalised

        weight = self.net.patch_embedding.weight
        made = torch.stack([squared(image, self.net.spec.image) for image in images])
        return normalised(made).to(weight)

    def states(self, images: Sequence[Image]) -> VisionStates:
        """What the network makes of images."""
        import torch

        with torch.no_grad():
            return self.net(self.pixels(images))

    def nothing(self) -> VisionStates:
        """What it makes of no image, (1, …): of the mean of all colours everywhere."""
        import torch

        side, weight = self.net.spec.image, self.net.patch_embedding.weight
        with torch.no_grad():
            return self.net(torch.zeros(1, 3, side, side).to(weight))


def squared(image: Image, side: int) -> Tensor:
    """(3, side, side) in [0, 1]: the shorter side resized to `side` with Pillow's bicubic filter, the longer one in
    proportion (rounded down), and the middle cut out, as transformers' CLIPImageProcessor does."""
    import numpy as np
    import torch
    from PIL.Image import Resampling

    image = image.convert("RGB")
    if max(image.size) > LONGEST * min(image.size):
        raise BadInput(f"an image of {image.width}x{image.height} is too narrow to be seen: cut it")
    short = min(image.size)
    width, height = (int(side * extent / short) for extent in image.size)
    resized = image.resize((width, height), Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    cut = resized.crop((left, top, left + side, top + side))
    return torch.from_numpy(np.array(cut)).permute(2, 0, 1) / 255


def open_image_encoder(path: Path, dtype: torch.dtype | None = None) -> ImageEncoder:
    """The encoder in a file, or in a folder of transformers.

    In either, a config.json beside the weights says how many heads there are and what is between the layers; without
    one it is told by the width, as of the published encoders. Raises BadFile for what is none.
    """
    from atelier.weights.load import load_into, read

    stored, network, spec = _described(path)
    file = stored.archive.path
    tensors = read(stored, network.names(spec), dtype=dtype, mapped=False)
    net = load_into(lambda: network.build(spec), tensors, source=file)
    return ImageEncoder(net, path.stem if path.is_file() else path.name)


def image_encoder_spec(path: Path) -> VisionSpec:
    """The shape of the encoder in a file or folder, from its header. Raises BadFile for what is none."""
    return _described(path)[2]


def _described(path: Path) -> tuple[Stored, Architecture[VisionSpec, ClipVision], VisionSpec]:
    file = _weights(path)
    stored = stored_in(open_any(file))
    network = openclip.VISION_NETWORK if stored.prefix == VISUAL else clip.VISION_NETWORK
    return stored, network, network.infer(Shapes.of(stored), _facts(file.with_name(SETTINGS)))


def own_image_encoder(model: Checkpoint, dtype: torch.dtype | None = None) -> ImageEncoder:
    """The one that a model brings. Raises BadFile for a model without."""
    return ImageEncoder(model.load(VISION, dtype, mapped=False), model.name)


def _weights(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if found is None:
        raise BadFile(path, f"has no weights of an image encoder: {' or '.join(WEIGHTS)} is looked for")
    return found


def stored_in(archive: Archive) -> Stored:
    """Where the encoder lies in a file. Raises BadFile for a file of anything else."""
    identity = identify(archive)
    if identity is None or identity.kind != "image_encoder":
        told = f"is {identity.phrase}" if identity else f"has {counted(archive.tensors)}"
        raise BadFile(archive.path, f"is no image encoder of CLIP: it {told}")
    if any(name.startswith(VISUAL) for name in archive.tensors):
        return Stored(archive, "ldm", VISUAL)
    return Stored(archive, "diffusers", tolerated=lambda name: name.endswith(OLD))


def _facts(settings: Path) -> PartFacts:
    """What a configuration says, where there is one of an image encoder."""
    from atelier.families.facts import activation

    if not settings.is_file():
        return NO_FACTS
    config = Config.read(settings)
    if config.values.get("model_type") != "clip_vision_model":
        return NO_FACTS
    return PartFacts(heads=(config.whole("num_attention_heads", 12),), act=activation(config, "hidden_act"))
