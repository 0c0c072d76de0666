"""What a prompt means, for those who write one: weights, what is active when, tokens, wildcards."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from atelier.prompt import Clock
from atelier.prompt import emphasis as emphasis_mode
from atelier.prompt.explain import Encoder, explain
from atelier.request.events import Json
from atelier.weights.tokenizer import standard

if TYPE_CHECKING:
    from atelier.prompt.explain import Explanation
    from atelier.runtime.words import Words
    from atelier.runtime.workers.messages import Message

ROOM = 75
"""Tokens of a chunk between its marks."""


def explained(call: Message, words: Words) -> dict[str, Json]:
    """The explanation of a prompt with its styles; `count` is the largest of its texts, in `chunks` chunks of `room`.

    Raises BadInput for a text over the limits, an unknown style or an unknown way to read weights.
    """
    styles = cast("list[str]", call.data["styles"])
    text = words.styled(call.text("prompt"), "", styles)[0]
    found = explain(
        text,
        Clock(int(call.number("steps"))),
        mode=emphasis_mode(call.text("emphasis")),
        seed=int(call.number("seed")),
        files=words.wildcards(),
        encoder=_encoder(),
    )
    return {**_plain(found), **_counted(found)}


def _encoder() -> Encoder:
    from atelier.prompt.chunks import Marks

    tokenizer = standard()
    marks = Marks(tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.comma, tokenizer.positions - 2)
    return Encoder(tokenizer.encode, marks)


def _plain(found: Explanation) -> dict[str, Json]:
    """The explanation without the numbers of its tokens."""
    data = cast("dict[str, Json]", found.data())
    return {
        "text": found.text,
        "attention": [{"text": item.text, "weight": item.weight} for item in found.attention],
        "schedule": [{"until": span.end, "text": span.text} for span in found.schedule.spans],
        "parts": [{"text": part.text, "weight": part.weight} for part in found.parts],
        "networks": data["networks"],
        "warnings": [*found.warnings],
    }


def _counted(found: Explanation) -> dict[str, Json]:
    longest = max((encoded.chunks for encoded in found.encoded), key=lambda chunks: chunks.count)
    return {"count": longest.count, "chunks": len(longest.chunks), "room": ROOM}
