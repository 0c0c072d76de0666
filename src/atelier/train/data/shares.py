"""How many emoji scenes are of which kind. A module of its own, so that recipes are read without numpy."""

SHARES = (0.40, 0.25, 0.35)
"""How many scenes show one thing large, one thing small, and a pair, unless a recipe says otherwise."""
