"""Examples in webdataset shards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from atelier.errors import BadFile
from atelier.train.data import shards
from atelier.train.data.captions import ENDINGS, lines
from atelier.train.data.opening import IMAGE_SUFFIXES
from atelier.train.data.subsets import Found, Listener
from atelier.weights.formats.text import decoded

LONGEST_TEXT = 2**20
"""Bytes of a caption."""
TABLE = ".json"


def in_shard(shard: Path, listener: Listener) -> Iterator[Found]:
    """The images of a shard with their captions: members with the same name up to the first dot belong together.

    Raises BadFile for a shard that cannot be read.
    """
    groups: dict[str, dict[str, str]] = {}
    for name in shards.members(shard):
        folder, slash, last = name.rpartition("/")
        stem, _, ending = last.partition(".")
        groups.setdefault(f"{folder}{slash}{stem}", {})[f".{ending.lower()}"] = name
    for own in groups.values():
        image = next((name for ending, name in own.items() if ending in IMAGE_SUFFIXES), None)
        if image is not None:
            try:
                yield Found(shard / image, _said_in_shard(shard, own))
            except BadFile as error:
                listener.refuse(error)


def _said_in_shard(shard: Path, own: Mapping[str, str]) -> str | None:
    """The caption in the text of a group, or else in its JSON as img2dataset writes it. own: names by ending."""
    for ending in (ending for ending in (*ENDINGS, TABLE) if ending in own):
        name = own[ending]
        if shards.members(shard)[name].length > LONGEST_TEXT:
            raise BadFile(shard / name, f"is no caption: it has more than {LONGEST_TEXT:,} bytes")
        text = decoded(shards.content(shard, name), shard / name)
        said = lines(_caption_of(text, shard / name) if ending == TABLE else text)
        if said:
            return said
    return None


def _caption_of(text: str, path: Path) -> str:
    try:
        table: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadFile(path, f"is no JSON ({error}): write the shard again") from error
    caption = cast("dict[str, object]", table).get("caption") if isinstance(table, dict) else None
    return caption if isinstance(caption, str) else ""
