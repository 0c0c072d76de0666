"""The words that images are compared with where nobody gives others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier.vision.interrogate import WordList


def built_in_lists() -> Sequence[WordList]:
    """The concepts and backgrounds that the embedded model was made from, as its captions say them."""
    from atelier.train.data import scenes
    from atelier.vision.interrogate import WordList

    things = tuple(scenes.with_article(concept.name) for concept in scenes.concepts())
    return WordList("concepts", things), WordList(
        "backgrounds", tuple(scenes.on(b).strip() for b in scenes.BACKGROUNDS)
    )
