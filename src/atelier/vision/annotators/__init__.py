"""Annotators by name: one file each. Those that need no file are exact; the others read published networks."""
