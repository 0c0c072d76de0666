"""What files that clients name may be called."""

from __future__ import annotations

NAME = r"^[^./\\:<>\"|?*\x00-\x1f\x7f][^/\\:<>\"|?*\x00-\x1f\x7f]*$"
"""What can be the name of a file on every system, and no path."""
