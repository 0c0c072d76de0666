"""The models on disk, by name and by path, and the files of adapters, textual inversions and upscalers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from atelier.checkpoints.embedded import EMBEDDED, embedded_controls, embedded_folder
from atelier.checkpoints.folder import CONFIG, NETWORK_STEM
from atelier.errors import BadFile, BadInput, UnknownName, nearest
from atelier.vision.onnx import SUFFIX
from atelier.weights.archive import open_any
from atelier.weights.formats.atomic import expanded
from atelier.weights.formats.tree import Bound, Place, again, places

SINGLE_FILES = (".safetensors", ".ckpt")
"""What the names of models in one file end with. What such a file is, its content decides."""
PART_FILES = (".vae.safetensors", ".vae.ckpt")
"""What A1111 calls autoencoders that lie beside the models that they belong to."""
FOLDER_MARK = "model_index.json"
TRAINING_MARK, TRAINED = "recipe.json", "model"
UPSCALER_FOLDERS = frozenset(
    {"upscalers", "upscale_models", "esrgan", "realesrgan", "bsrgan", "swinir", "scunet", "dat", "hat", "ldsr"}
)
"""What folders of upscalers are called, in any case: here, in ComfyUI, and in A1111 and its extensions."""
WEIGHT_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
"""What the names of files of weights end with, of whatever kind."""
UPSCALER_FILES = (".pth", ".pt", ".safetensors")
ADAPTER_FOLDERS = frozenset({"lora", "loras", "lycoris", "locon", "weight_adapters"})
ADAPTER_STEMS = ("adapter_model", "pytorch_lora_weights")
"""What PEFT and diffusers call the weights in the folder of an adapter."""
NETWORK_FOLDERS = frozenset({"unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3"})
"""Folders of networks within the folder of an adapter that changes several."""
HYPER_FOLDERS = frozenset({"hypernetwork", "hypernetworks"})
"""What folders of hypernetworks are called, in any case."""
EMBEDDING_FOLDERS = frozenset({"embeddings", "embedding", "textual_inversion", "textual-inversion"})
"""What folders of weight adapters and of textual inversions are called, in any case: here, in A1111, in ComfyUI."""
EMBEDDING_FILES = (".safetensors", ".pt", ".bin")
EMBEDDING_IMAGES = (".png", ".webp")
PREVIEW = ".preview"
"""Before the ending of an image that only shows what a file beside it makes."""
OUTPUT_NAME = "ss_output_name"
"""The key in a weight adapter's metadata for what its training was told to call it."""
VAE_FOLDERS = frozenset({"vae", "vaes", "vae_approx", "vae-approx"})
TEXT_FOLDERS = frozenset({"text_encoder", "text_encoders", "clip"})
"""What folders of autoencoders and of text encoders are called, in any case: in A1111, Forge and ComfyUI."""
CONTROL_FOLDERS = frozenset(
    {
        "controlnet",
        "controlnets",
        "controls",
        "control",
        "t2i_adapter",
        "t2i_adapters",
        "t2i-adapter",
        "ip_adapter",
        "ip-adapter",
        "ipadapter",
        "ip_adapters",
        "instantid",
        "photomaker",
    }
)
"""What folders of networks that steer are called, in any case: here, in A1111's extension, in ComfyUI and InvokeAI."""
VISION_FOLDERS = frozenset({"clip_vision", "image_encoder", "image_encoders"})
"""The same of encoders of images."""
ANNOTATOR_FOLDERS = frozenset({"annotators", "annotator", "controlnetpreprocessor", "controlnet_aux", "preprocessors"})
"""What folders of files of annotators are called, in any case: here and where published, in A1111, Forge, ComfyUI."""
FACE_FOLDERS = frozenset({"insightface"}) | ANNOTATOR_FOLDERS
"""The same of folders with packs of networks that find faces: in ComfyUI and A1111, and here also beside annotators."""
OTHER_FOLDERS = (
    UPSCALER_FOLDERS
    | ADAPTER_FOLDERS
    | HYPER_FOLDERS
    | EMBEDDING_FOLDERS
    | CONTROL_FOLDERS
    | VISION_FOLDERS
    | ANNOTATOR_FOLDERS
    | FACE_FOLDERS
)
QUOTED_HASH = re.compile(r"(?<!\s)\s*+\[[0-9a-fA-F]{8,64}\]$")
"""What A1111 shows behind a model's name."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model on disk: a single file or a diffusers folder. `name` is what infotexts call it."""

    name: str
    path: Path


DEEPEST, MOST = 12, 200_000
"""So many folders one in another, and so many entries of one folder of models, are looked at: far more than any
collection has, and few enough that a wrong path (/, a home) is told within seconds."""


def _untold(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Library:
    """The embedded model, and what lies in `folders` (searched in order, with subfolders, to a bound).

    by_path: whether a path names a file as well; a server, whose clients know nothing of its disk, takes names only.
    tell: is given a line about what was not looked at. seen: what was seen in each folder, in place of the disk.
    """

    folders: tuple[Path, ...] = ()
    by_path: bool = True
    tell: Callable[[str], None] = _untold
    seen: Mapping[Path, tuple[Place, ...]] | None = field(default=None, repr=False, compare=False)

    def at_once(self) -> Library:
        """The same as it is now, for many questions: each folder is looked at once."""
        return replace(self, seen={folder: tuple(self._walk(folder)) for folder in self.folders})

    def _walk(self, folder: Path) -> Iterator[Place]:
        if self.seen is not None:
            return again(self.seen[folder])
        return places(folder, bound=Bound(DEEPEST, MOST, self.tell))

    def models(self) -> tuple[Model, ...]:
        """All models, the embedded one first, then by name; the first folder wins where two hold the same name."""
        found = {EMBEDDED: Model(EMBEDDED, embedded_folder())}
        for _, model in self.everything():
            found.setdefault(model.name, model)
        first, *others = found.values()
        return (first, *sorted(others, key=lambda m: m.name.casefold()))

    def everything(self) -> Iterator[tuple[str, Model]]:
        """Every model in the folders, also those of one name, each behind its path there (`sd1/photo.safetensors`)."""
        for folder in self.folders:
            for path in sorted(_candidates(self._walk(folder))):
                yield path.relative_to(folder).as_posix(), Model(_name(path), path)

    def find(self, name: str | None = None) -> Model:
        """By path, or by name ignoring case; a path that exists is meant before any name. None is the embedded model.

        A name may be written as other programs do: with the file's ending, with the folders it lies in, divided by
        either slash, with a hash in brackets behind it. Raises UnknownName with the nearest names, BadFile for a path
        that leads nowhere.
        """
        if name is None:
            return Model(EMBEDDED, embedded_folder())
        if self.by_path and _is_there(path := expanded(name)):
            return Model(_name(path.resolve()), path)
        known = self.models()
        for model in known:
            if model.name.casefold() == name.casefold():
                return model
        if (found := self._written(name)) is not None:
            return found
        names = tuple(model.name for model in known)
        if self.by_path and (os.sep in name or _is_single(name)):
            near = nearest(_parts(name)[-1] if _parts(name) else Path(name).stem, names)
            raise BadFile(name, f"there is no such file or folder, and no model of that name (`models list`): {near}")
        raise UnknownName("model", name, names)

    def _written(self, name: str) -> Model | None:
        """The model that another program calls so."""
        wanted = _parts(QUOTED_HASH.sub("", name))
        if wanted == (EMBEDDED,):
            return self.find()
        of_one_name = (model for place, model in self.everything() if _parts(place)[-len(wanted) :] == wanted)
        return next(of_one_name, None) if wanted else None

    def adapters(self) -> Mapping[str, Path]:
        """The files of weight adapters by name, those in a folder of PEFT's or diffusers' by the folder's; the first
        one wins where two have the same name."""
        found: dict[str, Path] = {}
        for place, path in self._placed(ADAPTER_FOLDERS, WEIGHT_FILES):
            folder = _adapter_folder(place)
            found.setdefault(path.stem if folder is None else _folder_name(folder), path)
        return MappingProxyType(dict(sorted(found.items(), key=lambda item: item[0].casefold())))

    def embeddings(self) -> Mapping[str, Path]:
        """The files of textual inversions by name; the first folder wins where two hold the same name."""
        return self._files(EMBEDDING_FOLDERS, EMBEDDING_FILES)

    def embedding_images(self) -> tuple[Path, ...]:
        """The images in the folders of textual inversions, which may carry one."""
        placed = (path for _, path in self._placed(EMBEDDING_FOLDERS, EMBEDDING_IMAGES))
        return tuple(path for path in placed if not path.stem.casefold().endswith(PREVIEW))

    def adapter(self, name: str) -> Path:
        """The file of a weight adapter: by path, also that of a folder of PEFT's or diffusers'; by the file's name, or
        such a folder's, with folders before it or without, in any case; by what its training called it; last among the
        models, where it may have been put.

        Raises UnknownName with the nearest names, BadInput where two files call themselves so.
        """
        if self.by_path and name and _is_there(path := expanded(name)):
            inside = (path / f"{stem}{ending}" for stem in ADAPTER_STEMS for ending in WEIGHT_FILES)
            found = path if path.is_file() else next((file for file in inside if file.is_file()), None)
            if found is not None:
                return found
        known = self.adapters()
        if name in known:
            return known[name]
        wanted = _parts(name)
        files = [(place, path) for place, path in self._placed(ADAPTER_FOLDERS, WEIGHT_FILES)]
        files += [(folder, path) for place, path in files if (folder := _adapter_folder(place)) is not None]
        written = next((path for place, path in files if _parts(place)[-len(wanted) :] == wanted), None)
        if wanted and written is not None:
            return written
        called = _called(name, known)
        if called is not None:
            return called
        for place, model in self.everything():
            if wanted and model.path.is_file() and _parts(place)[-len(wanted) :] == wanted:
                return model.path
        raise UnknownName("lora", name, known)

    def hypernetworks(self) -> Mapping[str, Path]:
        """The files of hypernetworks by name; the first folder wins where two hold the same name."""
        return self._files(HYPER_FOLDERS, WEIGHT_FILES)

    def hypernetwork(self, name: str) -> Path:
        """By path, or by the file's name in any case. Raises UnknownName with the nearest names."""
        if self.by_path and name and _is_there(path := expanded(name)) and path.is_file():
            return path
        known = self.hypernetworks()
        found = next((path for own, path in known.items() if own.casefold() == name.casefold()), None)
        if found is None:
            raise UnknownName("hypernet", name, known)
        return found

    def controls(self) -> Mapping[str, Path]:
        """The files of networks that steer, and diffusers' folders with one, by name, those of the embedded model last;
        the first folder wins where two hold the same name."""
        found: dict[str, Path] = {}
        for _, path in self._placed(CONTROL_FOLDERS, WEIGHT_FILES):
            folder = _network_folder(path)
            found.setdefault(path.stem if folder is None else folder.name, folder or path)
        return {**dict(sorted(found.items(), key=lambda item: item[0].casefold())), **embedded_controls()}

    def control(self, name: str) -> Path:
        """By path, or by the name of the file, or of the folder, as other programs write it: with its ending, its
        folders, a hash in brackets. Raises UnknownName with the nearest names."""
        if self.by_path and name and _is_there(path := expanded(name)):
            return path
        wanted, known = _parts(QUOTED_HASH.sub("", name))[-1:], self.controls()
        found = next((path for own, path in known.items() if wanted and _parts(own) == wanted), None)
        if found is None:
            raise UnknownName("control", name, known)
        return found

    def image_encoders(self) -> Mapping[str, Path]:
        """The files of encoders of images by name; the first folder wins where two hold the same name."""
        return self._files(VISION_FOLDERS, WEIGHT_FILES)

    def autoencoders(self) -> Mapping[str, Path]:
        """The files of autoencoders by their names, in folders of such and beside models; the first of a name wins."""
        beside = (path for folder in self.folders for path in _parts_in(self._walk(folder)))
        placed = (path for _, path in self._placed(VAE_FOLDERS, WEIGHT_FILES))
        return {path.name: path for path in reversed((*placed, *beside))}

    def autoencoder(self, name: str) -> Path:
        """By path; by the name of a file with or without its ending, in a folder of autoencoders, beside a model, or of
        a model that has one. Raises UnknownName."""
        return self._part("VAE", name, self.autoencoders)

    def text_encoder(self, name: str) -> Path:
        """The same of a text encoder."""
        return self._part("text encoder", name, self._text_encoders)

    def _text_encoders(self) -> Mapping[str, Path]:
        return {path.name: path for path in reversed([path for _, path in self._placed(TEXT_FOLDERS, WEIGHT_FILES)])}

    def _part(self, kind: str, name: str, there: Callable[[], Mapping[str, Path]]) -> Path:
        if self.by_path and _is_there(path := expanded(name)):
            return path
        known = there()
        wanted = _parts(QUOTED_HASH.sub("", name))[-1:]
        for file, found in known.items():
            if wanted and wanted == _parts(file):
                return found
        for model in self.models():
            if wanted == (model.name.casefold(),):
                return model.path
        raise UnknownName(kind, name, tuple(known))

    def _files(self, folders: frozenset[str], endings: tuple[str, ...]) -> Mapping[str, Path]:
        found: dict[str, Path] = {}
        for _, path in self._placed(folders, endings):
            found.setdefault(path.stem, path)
        return MappingProxyType(dict(sorted(found.items(), key=lambda item: item[0].casefold())))

    def _placed(self, folders: frozenset[str], endings: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
        """Files in folders of these names, each behind its path below its folder of models."""
        for folder in self.folders:
            for path in sorted(_inside(folder, self._walk(folder), folders, endings)):
                yield path.relative_to(folder).as_posix(), path

    def files(self) -> Iterator[Path]:
        """Every file of weights in the folders, whatever it is, those within the folders of models left out."""
        for folder in self.folders:
            for path, folders, names in self._walk(folder):
                if FOLDER_MARK in names:
                    folders.clear()
                else:
                    yield from (path / name for name in names if name.casefold().endswith(WEIGHT_FILES))

    def upscalers(self) -> Mapping[str, Path]:
        """The files of upscalers by the name of the file; the first folder wins where two hold the same name."""
        return self._files(UPSCALER_FOLDERS, UPSCALER_FILES)

    def annotator(self, name: str) -> Path | None:
        """The file of annotators that is called so, in any case, or the folder that transformers reads, or a pack of
        networks that find faces; None where it is not here."""
        for folder in self.folders:
            for path, folders, names in self._walk(folder):
                if any(part.casefold() in ANNOTATOR_FOLDERS for part in path.relative_to(folder.parent).parts):
                    for entry in (*names, *folders):
                        if entry.casefold() == name.casefold():
                            return path / entry
        return self.faces(name)

    def faces(self, pack: str) -> Path | None:
        """The folder with a pack of networks that find faces, called so in any case; None where it is not here."""
        for folder in self.folders:
            for path, _, names in self._walk(folder):
                parts = [part.casefold() for part in path.relative_to(folder.parent).parts]
                is_there = any(name.casefold().endswith(SUFFIX) for name in names)
                if is_there and parts[-1] == pack.casefold() and not FACE_FOLDERS.isdisjoint(parts):
                    return path
        return None


def hash_in(name: str) -> str:
    """The hash that A1111 shows in brackets behind a model's name, "" if there is none."""
    found = QUOTED_HASH.search(name)
    return "" if found is None else found[0].strip(" []")


def _network_folder(path: Path) -> Path | None:
    """The folder of diffusers that a file of weights belongs to; None for a file of its own."""
    is_part = path.name.startswith(NETWORK_STEM) and (path.parent / CONFIG).is_file()
    return path.parent if is_part and path.parent.name.casefold() not in CONTROL_FOLDERS else None


def _adapter_folder(place: str) -> str | None:
    """The place of the folder that a file is the weights of, by its place; None for a file of its own."""
    folder, _, file = place.rpartition("/")
    own = folder.rpartition("/")[2]
    return folder if file.partition(".")[0] in ADAPTER_STEMS and own and own.casefold() not in ADAPTER_FOLDERS else None


def _folder_name(place: str) -> str:
    parts = place.split("/")
    return "/".join(parts[-2 if parts[-1] in NETWORK_FOLDERS else -1 :])


def _candidates(walk: Iterator[Place]) -> Iterator[Path]:
    """Model files and folders on a walk; a model folder is not searched for more, of a training's folder
    only what it made, and what lies among upscalers, weight adapters and textual inversions is none."""
    for path, folders, names in walk:
        folders[:] = [name for name in folders if name.casefold() not in OTHER_FOLDERS]
        if FOLDER_MARK in names:
            folders.clear()
            yield path
        elif TRAINING_MARK in names:
            folders[:] = [name for name in folders if name == TRAINED]
        else:
            yield from (path / name for name in names if _is_single(name))


def _parts_in(walk: Iterator[Place]) -> Iterator[Path]:
    """What A1111 calls autoencoders that lie beside their models."""
    return (path / name for path, _, names in walk for name in names if name.casefold().endswith(PART_FILES))


def _inside(folder: Path, walk: Iterator[Place], named: frozenset[str], endings: tuple[str, ...]) -> Iterator[Path]:
    """Files with these endings in the folders so `named` at or below `folder`, and in those folders' own."""
    for path, folders, names in walk:
        if FOLDER_MARK in names:
            folders.clear()
        elif any(part.casefold() in named for part in (folder.name, *path.relative_to(folder).parts)):
            yield from (path / name for name in names if name.casefold().endswith(endings))


def _called(name: str, known: Mapping[str, Path]) -> Path | None:
    """The weight adapter whose training was told to call it so. Raises BadInput where there are two."""
    found: list[Path] = []
    for path in known.values():
        with suppress(BadFile):
            if open_any(path).metadata.get(OUTPUT_NAME) == name:
                found.append(path)
    if len(found) > 1:
        raise BadInput(f"lora {name!r}: {found[0]} and {found[1]} both call themselves so: name one by its file")
    return found[0] if found else None


def _is_single(name: str) -> bool:
    folded = name.casefold()
    return folded.endswith(SINGLE_FILES) and not folded.endswith(PART_FILES)


def _parts(name: str) -> tuple[str, ...]:
    """The folders of a name and its last part, without a file's ending, compared without case; none of an absolute
    path."""
    written = name.strip().replace("\\", "/").casefold()
    ending = next((ending for ending in WEIGHT_FILES if written.endswith(ending)), "")
    written = written.removesuffix(ending)
    return () if written.startswith(("/", "~")) else tuple(part for part in written.split("/") if part not in {"", "."})


def _is_there(path: Path) -> bool:
    """Also for what is no name of a file at all: too long a text, say."""
    try:
        return path.exists()
    except OSError:
        return False


def _name(path: Path) -> str:
    return path.stem if path.is_file() else path.name
