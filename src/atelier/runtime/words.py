"""Saved styles and wildcards on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atelier.errors import BadFile, BadInput, UnknownName
from atelier.prompt.styles import Style, apply_styles, read_styles
from atelier.prompt.wildcards import read_wildcard


@dataclass(frozen=True, slots=True)
class Words:
    """styles_file: a styles.csv; wildcard_folder: .txt files, by their path without the ending. Neither has to exist
    before it is needed."""

    styles_file: Path = Path("styles.csv")
    wildcard_folder: Path = Path("wildcards")

    def styles(self) -> Mapping[str, Style]:
        """All saved styles by name. Raises BadFile."""
        try:
            return {style.name: style for style in read_styles(_text(self.styles_file))}
        except BadFile:
            raise
        except BadInput as error:
            raise BadFile(self.styles_file, str(error)) from None

    def styled(self, prompt: str, negative_prompt: str, names: Sequence[str]) -> tuple[str, str]:
        """Both prompts with the styles of these names around them. Raises BadFile, UnknownName."""
        if not names:
            return prompt, negative_prompt
        known = self.styles()
        for name in names:
            if name not in known:
                raise UnknownName("style", name, known)
        chosen = [known[name] for name in names]
        return (
            apply_styles(prompt, [style.prompt for style in chosen]),
            apply_styles(negative_prompt, [style.negative_prompt for style in chosen]),
        )

    def wildcards(self) -> Mapping[str, tuple[str, ...]]:
        """The lines of all wildcards by name, none where there is no folder. Raises BadFile."""
        folder = self.wildcard_folder
        found = sorted(folder.rglob("*.txt")) if folder.is_dir() else []
        return {file.relative_to(folder).with_suffix("").as_posix(): read_wildcard(_text(file)) for file in found}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadFile(file, f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise BadFile(file, "is not UTF-8 text") from error
