"""The hashes of files of weight adapters. The settings of PEFT beside one are a part of it: its scales are there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from atelier.adapters.stated import settings_of
from atelier.weights.hashes import HashCache, files_sha256

TOLD = "sshs_model_hash"
"""What kohya's scripts call the hash without the header, in the metadata."""


def adapter_sha256(path: Path, hashes: HashCache) -> str:
    """64 hex digits: of the file, or of it and of the settings beside it. Raises BadFile."""
    settings = settings_of(path)
    return hashes.sha256(path) if settings is None else files_sha256((path, settings), path.parent, hashes)


def quoted_hash(path: Path, metadata: Mapping[str, str], hashes: HashCache) -> str:
    """What infotexts begin to quote: the hash that the metadata say, or that without the header, as A1111 does; of a
    file with settings beside it, which A1111 does not know, that of both. Raises BadFile."""
    if settings_of(path) is not None:
        return adapter_sha256(path, hashes)
    return metadata.get(TOLD) or hashes.tensors_sha256(path)


def known_quoted(path: Path, metadata: Mapping[str, str], hashes: HashCache) -> str:
    """`quoted_hash` where the tensors need not be read for it, else "". Raises BadFile."""
    if settings_of(path) is not None:
        return adapter_sha256(path, hashes) if hashes.known(path) else ""
    return metadata.get(TOLD) or hashes.known_tensors(path) or ""
