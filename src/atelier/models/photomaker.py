"""PhotoMaker (Li et al. 2024, arXiv:2312.04461): images of a person put into the text states of a class word."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from atelier.models.clip import ClipVision, VisionSpec
from atelier.models.ip_adapter import FaceSpec, FaceTokens


@dataclass(frozen=True, slots=True)
class PhotoMakerSpec:
    """vision: of CLIP-L, whose projection is as wide as the states of the first text encoder; second: of those of the
    second; face: of version 2, None in version 1."""

    vision: VisionSpec
    second: int
    face: FaceSpec | None = None

    @property
    def width(self) -> int:
        """Of the text states."""
        return (self.vision.projection or 0) + self.second


class NormedMlp(nn.Module):
    """A norm, and two layers with a GELU between them."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.fc1 = nn.Linear(inputs, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class PhotoMaker(nn.Module):
    """The encoder of a person's images, and what merges its tokens into text states (section 3.2)."""

    def __init__(self, spec: PhotoMakerSpec) -> None:
        super().__init__()
        self.spec = spec
        self.vision = ClipVision(spec.vision)
        self.projection2 = nn.Linear(spec.vision.width, spec.second, bias=False)
        self.face = None if spec.face is None else FaceTokens(spec.face)
        self.merge1 = NormedMlp(2 * spec.width, spec.width)
        self.merge2 = NormedMlp(spec.width, spec.width)
        self.norm = nn.LayerNorm(spec.width)

    @property
    def tokens_per_image(self) -> int:
        return 1 if self.spec.face is None else self.spec.face.face.tokens

    def person(self, pixels: Float[Tensor, "n 3 h w"], faces: Float[Tensor, "n 512"] | None) -> Float[Tensor, "k w"]:
        """pixels: of N images of one person, as CLIP reads them; faces: their embeddings, of version 2 alone.

        K is N times `tokens_per_image`. Raises ValueError where version 2 is given no faces.
        """
        seen = self.vision(pixels)
        if self.face is None:
            assert seen.embedding is not None
            return torch.cat([seen.embedding, self.projection2(seen.pooled)], dim=-1)
        if faces is None:
            raise ValueError("version 2 reads faces as well")
        return self.face(faces, seen.hidden[-1], 1.0).flatten(0, 1)

    def merged(
        self, states: Float[Tensor, "b t w"], person: Float[Tensor, "k w"], places: Int[Tensor, " k"]
    ) -> Float[Tensor, "b t w"]:
        """states: of both text encoders side by side. places: where along T the class word stands, once for each of the
        K tokens of the person."""
        words = states[:, places]
        both = torch.cat([words, person.to(words).expand_as(words)], dim=-1)
        made = self.merge1(both) + words
        made = self.norm(made + self.merge2(made))
        return states.index_copy(1, places, made.to(states))
