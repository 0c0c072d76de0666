"""Weights on disk: formats, names, and the way into and out of modules. Knows networks, no families."""
