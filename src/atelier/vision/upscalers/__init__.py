"""Upscalers by name: those here need no file; `files` has the architectures of those that users bring."""
