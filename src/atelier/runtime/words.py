"""Saved styles and wildcards on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import final

from atelier.errors import BadFile, BadInput, UnknownName
from atelier.prompt.styles import Style, apply_styles, read_styles
from atelier.prompt.wildcards import read_wildcard
from atelier.weights.formats.text import read_text
from atelier.weights.formats.tree import places

WILDCARD = ".txt"


@dataclass(frozen=True, slots=True)
class Words:
    """styles_file: a styles.csv; wildcard_folder: .txt files, by their path without the ending. Neither has to exist
    before it is needed."""

    styles_file: Path = Path("styles.csv")
    wildcard_folder: Path = Path("wildcards")

    def styles(self) -> Mapping[str, Style]:
        """All styles by name: those of the package, and the saved ones, which may replace them. Raises BadFile."""
        if not self.styles_file.exists():
            return packaged()
        try:
            saved = {style.name: style for style in read_styles(read_text(self.styles_file))}
            return {**packaged(), **saved}
        except BadFile:
            raise
        except BadInput as error:
            raise BadFile(self.styles_file, str(error)) from None

    def styled(self, prompt: str, negative_prompt: str, names: Sequence[str]) -> tuple[str, str]:
        """Both prompts with the styles of these names around them. Raises BadInput, UnknownName."""
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
        """The lines of all wildcards by name, none where there is no folder. A file is read when it is looked up, which
        raises BadFile for one that cannot be."""
        folder = self.wildcard_folder
        found = sorted(_wildcard_files(folder)) if folder.is_dir() else []
        return _Lines({file.relative_to(folder).with_suffix("").as_posix(): file for file in found})


@cache
def packaged() -> Mapping[str, Style]:
    """The styles that the package brings, by name."""
    text = files("atelier").joinpath("data", "styles.csv").read_text(encoding="utf-8")
    return MappingProxyType({style.name: style for style in read_styles(text)})


@final
class _Lines(Mapping[str, tuple[str, ...]]):
    """The lines of files by name, each read once, when it is asked for. A name may have the file's ending, and another
    case where the file system of its author makes no difference of it."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files, self._read = files, dict[str, tuple[str, ...]]()
        self._folded = {name.casefold(): name for name in reversed(files)}

    def __getitem__(self, name: str) -> tuple[str, ...]:
        known = name if name in self._files else self._folded[name.casefold().removesuffix(WILDCARD)]
        if known not in self._read:
            self._read[known] = read_wildcard(read_text(self._files[known]))
        return self._read[known]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _wildcard_files(folder: Path) -> Iterator[Path]:
    for path, _, names in places(folder):
        yield from (path / n for n in names if Path(n).suffix.lower() == WILDCARD and (path / n).is_file())
