"""What the words of a request mean for one picture: choices made, parts with weights, and which text acts when."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.errors import BadInput
from atelier.prompt import Clock, Network, Timeline, Warn, checked, expand, parse, parse_negative, without_comments
from atelier.prompt.wildcards import Files
from atelier.request.model import Request


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """prompt, negative_prompt: as infotexts say them. parts: a timeline for each side of AND, with their weights."""

    prompt: str
    negative_prompt: str
    parts: tuple[Timeline, ...]
    weights: tuple[float, ...]
    negative: Timeline

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The texts of each timeline, the negative prompt's first."""
        return (self.negative.texts, *(part.texts for part in self.parts))


def prepared(
    prompt: str, negative_prompt: str, asked: Request, seed: int, clock: Clock, files: Files, warn: Warn
) -> PreparedPrompt:
    """The words of a picture with this seed.

    Raises BadInput for a prompt over the limits, wildcards that include themselves, and, unless the request is
    lenient, for networks.
    """
    if asked.hires is not None:
        checked(asked.hires.prompt or "", "hires_prompt")
        checked(asked.hires.negative_prompt or "", "hires_negative_prompt")
    said = _chosen(prompt, "prompt", asked, seed, files, warn)
    unsaid = _chosen(negative_prompt, "negative prompt", asked, seed, files, warn)
    phrase = parse(without_comments(said), warn)
    for network in phrase.networks:
        _refuse(network, warn if asked.prompting.lenient else None)
    return PreparedPrompt(
        prompt=said,
        negative_prompt=unsaid,
        parts=tuple(part.timeline(clock) for part in phrase.parts),
        weights=tuple(part.weight for part in phrase.parts),
        negative=parse_negative(without_comments(unsaid), warn).parts[0].timeline(clock),
    )


def _chosen(text: str, what: str, asked: Request, seed: int, files: Files, warn: Warn) -> str:
    checked(text, what)
    return checked(expand(text, seed, files, warn), what) if asked.prompting.choices else text


def _refuse(network: Network, warn: Warn | None) -> None:
    name = f"{network.type} {network.name!r}"
    if warn is None:
        raise BadInput(f"prompt: {name} is not there: take {network} out, or paint without it with --lenient")
    warn(f"{name} is not there: painted without it")
