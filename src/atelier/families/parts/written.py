"""What the settings of all networks in a diffusers folder have in common."""

WRITTEN_FOR = "0.30.0"
"""The oldest diffusers that is promised to read what is written."""
SILU = ("silu", "swish")
"""What diffusers calls the activation x * sigmoid(x)."""
