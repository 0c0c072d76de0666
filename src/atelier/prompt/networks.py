"""Extra networks: <lora:name:weight>, <lyco:…>, <hypernet:…>. Cut out of the text, and put back when it is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atelier.prompt.text import Warn, clamped, is_word_character, silent

ALIASES: Mapping[str, str] = {"lyco": "lora"}
TYPES = ("lora", "hypernet")
NAMED = ("te", "unet", "dyn", "lbw", "start", "end")
"""Arguments that are known by their names."""
BLOCKS: Mapping[int, tuple[str, ...]] = {
    12: ("BASE", "IN04", "IN05", "IN07", "IN08", "MID", *(f"OUT{n:02d}" for n in range(6))),
    17: ("BASE", *(f"IN{n:02d}" for n in (1, 2, 4, 5, 7, 8)), "MID", *(f"OUT{n:02d}" for n in range(3, 12))),
    20: ("BASE", *(f"IN{n:02d}" for n in range(9)), "MID", *(f"OUT{n:02d}" for n in range(9))),
    26: ("BASE", *(f"IN{n:02d}" for n in range(12)), "MID", *(f"OUT{n:02d}" for n in range(12))),
}
"""What lists of block weights are about, by their length: 12 and 20 for Stable Diffusion XL, 17 (those with attention)
and 26 for Stable Diffusion 1 and 2. BASE is what is in no block, the text encoder among it."""


@dataclass(frozen=True, slots=True)
class Network:
    """One tag as it was written: `<kind:argument:argument…>`, cut out at character `at` of the text that is left."""

    kind: str
    arguments: tuple[str, ...]
    at: int = 0

    @property
    def type(self) -> str:
        """The kind, where it is an alias the kind it stands for: lora, hypernet, or what nobody knows."""
        return ALIASES.get(self.kind, self.kind)

    @property
    def positional(self) -> tuple[str, ...]:
        """The arguments that are not of the form name=value."""
        return tuple(a for a in self.arguments if a.count("=") != 1)

    @property
    def named(self) -> dict[str, str]:
        """The arguments of the form name=value; of two with one name the last."""
        return {a.partition("=")[0]: a.partition("=")[2] for a in self.arguments if a.count("=") == 1}

    @property
    def name(self) -> str:
        """What the network is called: its first positional argument, "" if there is none."""
        return next(iter(self.positional), "")

    @property
    def unknown(self) -> tuple[str, ...]:
        """The arguments of the form name=value whose names nobody knows."""
        return tuple(f"{name}={value}" for name, value in self.named.items() if name not in NAMED)

    def strength(self, warn: Warn = silent) -> Strength:
        """How strongly it acts. `:A` is both, `:A:B` text encoder and U-Net, `:A:B:D` with rank D; te=, unet= and dyn=
        come before these. lbw=, or a list of numbers in B's place, are the weights of blocks; start= and end= the share
        of the steps within which it acts on the U-Net. An argument that is no number counts as not given, with a
        warning (A1111 then applies no network at all)."""
        positional, named = self.positional, self.named
        blocks = named.get("lbw")
        if len(positional) > 2 and "," in positional[2]:
            blocks, positional = blocks or positional[2], (*positional[:2], *positional[3:])
        te = self._number(positional[1], warn, 1.0) if len(positional) > 1 else 1.0
        te = self._number(named["te"], warn, te) if "te" in named else te
        unet = self._number(positional[2], warn, te) if len(positional) > 2 else te
        unet = self._number(named["unet"], warn, unet) if "unet" in named else unet
        rank = named.get("dyn", positional[3] if len(positional) > 3 else None)
        ranks = None if rank is None else self._rank(rank, warn)
        lasting = self._share("start", 0.0, warn), self._share("end", 1.0, warn)
        return Strength(te, unet, ranks, () if blocks is None else self._blocks(blocks, warn), lasting)

    def __str__(self) -> str:
        return f"<{self.kind}:{':'.join(self.arguments)}>"

    def _number(self, text: str, warn: Warn, default: float) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if number != number:  # noqa: PLR0124 - NaN is not itself
            warn(f"{self}: {text!r} is no number, {default:g} is used")
            return default
        return clamped(number, warn)

    def _share(self, name: str, default: float, warn: Warn) -> float:
        share = self._number(self.named[name], warn, default) if name in self.named else default
        if 0 <= share <= 1:
            return share
        warn(f"{self}: {name} is a share of the steps, 0 to 1, not {share:g}; {default:g} is used")
        return default

    def _blocks(self, text: str, warn: Warn) -> tuple[tuple[str, float], ...]:
        values = text.split(",")
        if len(values) not in BLOCKS:
            counts = ", ".join(map(str, BLOCKS))
            warn(f"{self}: {len(values)} block weights, where lists of {counts} are known; all are 1")
            return ()
        return tuple(
            (block, self._number(value, warn, 1.0)) for block, value in zip(BLOCKS[len(values)], values, strict=True)
        )

    def _rank(self, text: str, warn: Warn) -> int | None:
        digits = text.strip()
        if digits.isdecimal() and len(digits) < 10 and int(digits) > 0:
            return int(digits)
        warn(f"{self}: dyn must be a whole number above 0, not {text!r}; the full rank is used")
        return None


@dataclass(frozen=True, slots=True)
class Strength:
    """Multipliers for the text encoder and the U-Net, the rank to cut a LoRA to (None: its own), further multipliers
    of blocks (those that are not named have 1), and from which share of the steps to which it acts on the U-Net."""

    te: float = 1.0
    unet: float = 1.0
    rank: int | None = None
    blocks: tuple[tuple[str, float], ...] = ()
    lasting: tuple[float, float] = (0.0, 1.0)


def cut_networks(text: str) -> tuple[str, tuple[Network, ...]]:
    """The text without its tags, nothing put in their place, and the tags in order. Linear time.

    A tag is `<`, one or more word characters, `:`, one or more characters other than `>`, `>`.
    """
    kept: list[str] = []
    networks: list[Network] = []
    length = done = at = 0
    last = text.rfind(">")
    while 0 <= (start := text.find("<", at)) < last:
        at = colon = _word_end(text, start + 1)
        if colon == start + 1 or text[colon] != ":" or text[colon + 1] == ">":
            continue
        end = text.find(">", colon)
        kept.append(text[done:start])
        length += start - done
        networks.append(Network(text[start + 1 : colon], tuple(text[colon + 1 : end].split(":")), length))
        done = at = end + 1
    return "".join([*kept, text[done:]]), tuple(networks)


def paste_networks(text: str, networks: Sequence[Network]) -> str:
    """The text with every tag at its place: the inverse of cut_networks."""
    pieces: list[str] = []
    done = 0
    for network in networks:
        pieces += [text[done : network.at], str(network)]
        done = network.at
    return "".join([*pieces, text[done:]])


def _word_end(text: str, at: int) -> int:
    """Where the word that starts at `at` ends; there is a ">" behind it."""
    while is_word_character(text[at]):
        at += 1
    return at
