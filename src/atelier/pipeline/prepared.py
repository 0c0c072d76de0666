"""What the prompts of an image mean: parts with weights, and which text acts when."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.prompt import Clock, Network, Timeline, Warn, parse, parse_negative, without_comments


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """parts: a timeline for each side of AND, with their weights; networks: the tags of the prompt, in order."""

    parts: tuple[Timeline, ...]
    weights: tuple[float, ...]
    negative: Timeline
    networks: tuple[Network, ...] = ()

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The texts of each timeline, the negative prompt's first."""
        return (self.negative.texts, *(part.texts for part in self.parts))


def prepare(prompt: str, negative_prompt: str, clock: Clock, warn: Warn) -> PreparedPrompt:
    """Parses the prompts of an image, whose choices are made. Raises BadInput for one over the limits."""
    phrase = parse(without_comments(prompt), warn)
    return PreparedPrompt(
        parts=tuple(part.timeline(clock) for part in phrase.parts),
        weights=tuple(part.weight for part in phrase.parts),
        negative=parse_negative(without_comments(negative_prompt), warn).parts[0].timeline(clock),
        networks=phrase.networks,
    )
