"""Comparing: a request in many variants, side by side along up to three axes. Data and text, no torch."""
