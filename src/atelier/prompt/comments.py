"""Comments: from # to the end of the line. There is no escape for #."""

from __future__ import annotations


def without_comments(text: str) -> str:
    """The text without comments, as A1111 takes them out.

    First a comment that fills its line goes together with the line breaks around it, then every other comment together
    with the line break after it; each leaves one line break.
    """
    if "#" not in text:
        return text
    return _without_tails(_without_lines(text))


def _without_lines(text: str) -> str:
    kept: list[str] = []
    at = 0
    while (start := _comment_line(text, at)) >= 0:
        end = text.find("\n", start)
        before = start - 1 if start > 0 else start
        kept += [text[at:before], "\n"]
        at = len(text) if end < 0 else end + 1
    return "".join([*kept, text[at:]])


def _comment_line(text: str, at: int) -> int:
    if at == 0 and text.startswith("#"):
        return 0
    found = text.find("\n#", at)
    return found + 1 if found >= 0 else -1


def _without_tails(text: str) -> str:
    kept: list[str] = []
    at = 0
    while (start := text.find("#", at)) >= 0:
        end = text.find("\n", start)
        kept += [text[at:start], "\n"]
        at = len(text) if end < 0 else end + 1
    return "".join([*kept, text[at:]])
