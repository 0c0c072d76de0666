"""Training images with what is said of them, and how those of one folder are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from atelier.errors import BadFile
from atelier.train.data.buckets import Buckets, Size
from atelier.train.data.captions import ENDINGS
from atelier.train.data.wording import Wording


@dataclass(frozen=True, slots=True)
class Subset:
    """How images that lie together are read and shown.

    shape: buckets, or the one size of all. words: the caption of images that have none (the class tokens of kohya, the
    instance prompt of DreamBooth). repeats: how often an image comes in an epoch. is_class: whether they show what the
    class looks like without what is taught. flip: left and right are exchanged in half of the steps. random_crop: the
    part that is seen is drawn, not the middle. alpha_mask: the alpha channel says what counts; masks: a folder of
    images of the same names that do. endings: those of files with captions.
    """

    shape: Buckets | Size
    words: str = ""
    repeats: int = 1
    is_class: bool = False
    wording: Wording = field(default_factory=Wording)
    flip: bool = False
    random_crop: bool = False
    alpha_mask: bool = False
    masks: Path | None = None
    endings: tuple[str, ...] = ENDINGS

    @property
    def of_class(self) -> Subset:
        """The same of images of the class: what is put around captions is said of the new thing alone."""
        return replace(self, is_class=True, wording=replace(self.wording, prefix="", suffix=""))


@dataclass(frozen=True, slots=True)
class Found:
    """An image, and what the place it lies in says of it; caption: None for nothing."""

    path: Path
    caption: str | None
    mask: Path | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A training image: its size upright, its caption (one line or several), what says which pixels count. captioned:
    whether the caption is its own; if not, it is the words of the subset."""

    path: Path
    size: Size
    caption: str
    subset: Subset
    mask: Path | None = None
    captioned: bool = True


def _refused(error: BadFile) -> None:
    raise error


def _unheard(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told while training images are read. refuse: of what cannot be used, which is left out if it returns;
    note: of what may surprise."""

    refuse: Callable[[BadFile], None] = _refused
    note: Callable[[str], None] = _unheard


STRICT = Listener()
