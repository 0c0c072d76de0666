"""Building blocks of networks, and the typed ports through which adapters reach them."""
