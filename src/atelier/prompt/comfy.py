r"""ComfyUI's weights: (x) is 1.1 times, (x:1.3) is 1.3 whatever stands around it, square brackets mean nothing.

Escapes are \( and \). A closing bracket that closes nothing makes the next opening one literal, and a bracket that is
never closed holds the rest of its text, as ComfyUI reads them.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from atelier.prompt.attention import ROUND, Weighted
from atelier.prompt.text import Warn, clamped, silent

_SIGN = re.compile(r"\\[()]|[():]")


def parse_comfy(text: str, warn: Warn = silent) -> tuple[Weighted, ...]:
    """The text as weighted pieces, in order; at least one. Never raises, linear time."""
    return _Parser(text, warn).parse() or (Weighted(""),)


class _Parser:
    """Works on ranges of the text; the brackets of all ranges are paired once, at the start."""

    def __init__(self, text: str, warn: Warn) -> None:
        self.text = text
        self.warn = warn
        self.brackets: list[int] = []
        self.colons: list[int] = []
        self.partner: dict[int, int] = {}
        self._pair()

    def parse(self) -> tuple[Weighted, ...]:
        found: list[Weighted] = []
        waiting = [(0, len(self.text), 1.0, True)]
        while waiting:
            start, end, weight, is_group = waiting.pop()
            if not is_group:
                found.append(Weighted(self._unescaped(start, end), weight))
                continue
            waiting += [
                (*self._group(a + 1, b - 1, weight), True) if is_inner else (a, b, weight, False)
                for a, b, is_inner in reversed(list(self._pieces(start, end)))
            ]
        return tuple(found)

    def _pair(self) -> None:
        opened: list[int] = []
        for found in _SIGN.finditer(self.text):
            sign, at = found.group(), found.start()
            if sign == ":":
                self.colons.append(at)
            elif len(sign) == 1:
                self.brackets.append(at)
                if sign == "(":
                    opened.append(at)
                elif opened:
                    self.partner[opened.pop()] = at

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Cuts a range at the brackets of its outermost level; says which pieces stand in brackets."""
        depth, piece, i = 0, start, bisect_left(self.brackets, start)
        while i < len(self.brackets) and (at := self.brackets[i]) < end:
            i += 1
            if self.text[at] == ")":
                depth -= 1
            elif depth < 0:
                depth += 1
            else:
                if at > piece:
                    yield piece, at, False
                closing = self.partner.get(at, end)
                piece, depth = at, 0
                if closing >= end:
                    break
                yield at, closing + 1, True
                piece = closing + 1
                i = bisect_right(self.brackets, closing)
        if piece < end:
            yield piece, end, self._is_group(piece, end - 1)

    def _is_group(self, first: int, last: int) -> bool:
        """Whether there are brackets at both places; they need not be a pair."""
        opens = self.text[first] == "(" and self._is_bracket(first)
        return opens and self.text[last] == ")" and self._is_bracket(last)

    def _is_bracket(self, at: int) -> bool:
        i = bisect_left(self.brackets, at)
        return i < len(self.brackets) and self.brackets[i] == at

    def _group(self, start: int, end: int, weight: float) -> tuple[int, int, float]:
        colon = self.colons[bisect_left(self.colons, end) - 1] if self.colons else -1
        number = self._number(colon + 1, end) if colon > start else None
        if number is None:
            return start, end, clamped(weight * ROUND)
        return start, colon, clamped(number, self.warn)

    def _number(self, start: int, end: int) -> float | None:
        i = bisect_left(self.brackets, start)
        if i < len(self.brackets) and self.brackets[i] < end:
            return None
        try:
            return float(self.text[start:end])
        except ValueError:
            return None

    def _unescaped(self, start: int, end: int) -> str:
        return self.text[start:end].replace(r"\(", "(").replace(r"\)", ")")
