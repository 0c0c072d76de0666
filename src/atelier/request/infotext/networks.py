"""What an infotext says of the files that an image's prompts name: `Lora hashes` and `TI hashes`, as A1111 does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from atelier.request.resolved import AdapterRef

TAG = re.compile(r"<(?:lora|lyco):([^:<>]++)[^<>]*+>")
"""The tag of a weight adapter, and its name."""


def lora_hashes(files: Sequence[AdapterRef], prompts: Iterable[str]) -> str | None:
    """`name: digits, …` of the weight adapters with a tag in one of the prompts, in order; None without any."""
    known = {file.name: file for file in files if file.kind == "lora"}
    tagged = dict.fromkeys(name for prompt in prompts for name in TAG.findall(prompt))
    return _listed(known[name] for name in tagged if name in known)


def ti_hashes(files: Sequence[AdapterRef], prompts: Iterable[str]) -> str | None:
    """The same of the textual inversions whose name may be in one of the prompts."""
    texts = [squeezed(prompt) for prompt in prompts]
    return _listed(file for file in files if any(squeezed(file.name) in text for text in texts))


def listed_name(name: str) -> str:
    """What a file is called in such a list: without the marks that divide it."""
    return re.sub("[:,]", "", name)


def squeezed(text: str) -> str:
    """Without spaces and case. Where a name is found among the tokens of a text, it is found in this too."""
    return "".join(text.casefold().split())


def _listed(files: Iterable[AdapterRef]) -> str | None:
    return ", ".join(f"{listed_name(file.name)}: {file.digits}" for file in files) or None
