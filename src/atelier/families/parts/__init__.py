"""The networks that models are made of, as they lie on disk; each has the place where most families keep it."""

from atelier.families.parts.autoencoder import VAE
from atelier.families.parts.clip import PROJECTION, TEXT, VISION
from atelier.families.parts.unet import UNET

__all__ = ["PROJECTION", "TEXT", "UNET", "VAE", "VISION"]
