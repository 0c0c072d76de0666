"""File formats of weights, and the one way in which files are written: whole or not at all."""
