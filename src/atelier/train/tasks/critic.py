"""The critic of the autoencoder's training: a patch discriminator that is taught in turn."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from atelier.nn.conv import channels_last
from atelier.train.loop import Placement
from atelier.train.optimizers import adamw, stepped
from atelier.train.recipes.vae import VaeRecipe


class PatchDiscriminator(nn.Module):
    """Says of each patch whether it is real: three strided convolutions (Isola 2017), with group norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.GroupNorm(8, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 3, 1, 1),
            nn.GroupNorm(8, 4 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 3, 1, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image)


class Critic:
    """The patch discriminator and its optimizer."""

    def __init__(self, recipe: VaeRecipe, placement: Placement) -> None:
        self.net = channels_last(PatchDiscriminator(recipe.loss.gan_width).to(placement.device))
        self.optimizer = adamw([self.net], recipe.optim, recipe.loss.gan_rate)
        self._limit = recipe.optim.clip

    def taught(self, real: Tensor, decoded: Tensor) -> Tensor:
        """One step on the hinge loss (Lim and Ye 2017, arXiv:1705.02894, section 3), which is returned."""
        loss = 0.5 * (F.relu(1 - self.net(real)).mean() + F.relu(1 + self.net(decoded)).mean())
        stepped({"critic": self.optimizer}, self.net, loss, self._limit)
        return loss.detach()
