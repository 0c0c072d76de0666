"""The composition root: puts the parts together as the environment says, for the command line and for Python.

ATELIER_DEVICE (cpu, cuda, cuda:1, mps) and ATELIER_DTYPE (fp32, fp16, bf16) overrule what the machine is best at;
ATELIER_MODELS lists the folders of models, ATELIER_WEBUI installations of A1111 or ComfyUI; ATELIER_STYLES is the file
of saved styles, ATELIER_WILDCARDS the folder of wildcards. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from atelier import __version__
from atelier.errors import BadInput, shortened

if TYPE_CHECKING:
    from typing import Unpack

    from PIL.Image import Image

    from atelier.request.grid.axes import Asked
    from atelier.request.table import Fields
    from atelier.runtime.comparing import Comparison
    from atelier.runtime.device import Device
    from atelier.runtime.engine import Engine, GeneratedImage
    from atelier.runtime.index import Index
    from atelier.runtime.library import Library
    from atelier.runtime.upscalers import Upscalers
    from atelier.runtime.upscaling import Scale
    from atelier.runtime.words import Words
    from atelier.runtime.workers.messages import Channel
    from atelier.runtime.workers.process import Command
    from atelier.vision.annotate import Ready
    from atelier.weights.hashes import HashCache

PROCESSES = "atelier.cli.process"
"""The module that the server's own processes run."""


def generate(prompt: str, **fields: Unpack[Fields]) -> list[GeneratedImage]:
    """Generates images from a prompt.

    fields: those of a request, also of its groups, by name: `seed=7, steps=20, eta=0.5`. `atelier.request.table.Fields`
    lists them with their types, docs/cli.md says what they mean. Raises BadInput and other AtelierErrors.
    Every call loads the model; `atelier.engine()` gives an Engine that keeps it.
    """
    from atelier.request.table import request_of

    return engine(keep=False).generate(request_of({"prompt": prompt, **fields}))


def upscale(
    image: Image | str | Path,
    upscaler: str = "Lanczos",
    scale: float | tuple[int, int] = 2.0,
    *,
    second: str | None = None,
    visibility: float = 0.5,
    tile: int | None = None,
) -> Image:
    """An image, or that in a file, enlarged: RGB, or RGBA where it has transparency.

    upscaler: Nearest, Bicubic, Lanczos, or the name or path of a file (docs/upscaling.md); scale: a factor, or the size
    (width, height) that it is made to cover, what is too much cut off evenly; second, visibility: another upscaler, and
    its share of the result; tile: the largest side of what a network is given at once, in pixels. Raises BadInput and
    other AtelierErrors.
    """
    from atelier.runtime.source_images import open_image
    from atelier.runtime.upscaling import Upscaling, blended

    size, known = _scale(scale), upscalers()
    other = None if second is None else known.get(second, tile=tile)
    found = open_image(Path(image)).image if isinstance(image, (str, Path)) else _in_colours(_checked(image))
    return Upscaling(blended(known.get(upscaler, tile=tile), other, visibility), size).image(found)


def upscalers(folders: tuple[Path, ...] | None = None) -> Upscalers:
    """The upscalers that need no file and those in the folders of models, ready for the device of the environment.

    folders: in place of those of the environment.
    """
    from atelier.runtime.library import Library
    from atelier.runtime.upscalers import UpscalerNames, Upscalers

    known = UpscalerNames(library() if folders is None else Library(folders))
    chosen = _device()
    return Upscalers(known, chosen.torch_device, chosen.image_dtype)


def annotator(
    name: str, *, file: Path | None = None, folders: tuple[Path, ...] | None = None, device: str | None = None
) -> Ready:
    """An annotator by its name, A1111's or controlnet_aux's, ready: `annotator("canny").hint(image)`.

    file: that of its network, in place of one in the folders of models; folders: in place of those of the environment.
    Raises UnknownName, BadInput where its file is not there, BadFile for a wrong one.
    """
    from atelier.runtime.library import Library
    from atelier.vision import annotate
    from atelier.vision.annotating import NeedsFile

    spec = annotate.annotator(name)
    if not isinstance(spec.draw, NeedsFile):
        return annotate.Ready(spec, spec.draw)
    known = library() if folders is None else Library(folders)

    def find(name: str) -> Path | None:
        return known.annotator(name) if file is None else file

    return annotate.ready(spec, find, _device(device).torch_device)


def _scale(scale: object) -> Scale:
    """For callers without types. Raises BadInput for what says neither how many times larger nor how large."""
    from atelier.runtime.upscaling import Scale

    match scale:
        case int() | float():
            return Scale.checked(by=scale)
        case [int() as width, int() as height]:
            return Scale.checked(to=(width, height))
        case _:
            raise BadInput(f"scale {shortened(repr(scale))}: give a factor such as 2, or a size such as (1024, 768)")


def _checked(image: object) -> Image:
    """For callers without types. Raises BadInput for what is no image."""
    from PIL.Image import Image

    if not isinstance(image, Image):
        raise BadInput(f"{shortened(repr(image))} is no image: give a PIL image, or the path of a file")
    return image


def _in_colours(image: Image) -> Image:
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _device(device: str | None = None, dtype: str | None = None) -> Device:
    from atelier.runtime.device import pick

    return pick(device or os.environ.get("ATELIER_DEVICE") or None, dtype or os.environ.get("ATELIER_DTYPE") or None)


def grid(
    prompt: str,
    *,
    x: Asked = None,
    y: Asked = None,
    z: Asked = None,
    matrix: bool = False,
    vary_seed: bool = False,
    **fields: Unpack[Fields],
) -> Comparison:
    """Generates a request with one field changed along each axis, and a labelled sheet for each value along z.

    x, y, z: `"steps=10,20,30"` as on the command line (docs/comparing.md), or `("sampler", ["Euler", "DPM++ 2M"])`.
    matrix: a prompt `a|b|c` with and without each of its later parts. With an `output`, a folder, images that lie there
    already are not made again. Raises BadInput and other AtelierErrors.
    """
    from atelier.request.grid.asked import grid_of
    from atelier.runtime.comparing import compare

    asked = grid_of({"prompt": prompt, **fields}, x=x, y=y, z=z, matrix=matrix, vary_seed=vary_seed)
    return compare(engine(), asked)


def engine(
    *,
    device: str | None = None,
    dtype: str | None = None,
    keep: bool = True,
    vocabulary: Words | None = None,
    installations: tuple[Path, ...] = (),
) -> Engine:
    """A Engine on the device and in the precision named, else those of the environment, else the machine's best.

    keep: whether networks stay in memory between requests, within half of the device's memory. vocabulary: styles and
    wildcards, else those of the environment. installations: of A1111 or ComfyUI, whose models are found too.
    """
    from atelier.runtime.device import memory_of
    from atelier.runtime.engine import Engine

    chosen = _device(device, dtype)
    budget = memory_of(chosen.torch_device) // 2 if keep else 0
    return Engine(
        chosen, library(installations), _hashes(), version=__version__, budget=budget, words=vocabulary or words()
    )


def _card(number: int) -> str | None:
    """The graphics card of a worker, where nobody says which and there are several."""
    import torch

    cards = torch.cuda.device_count()
    return f"cuda:{number % cards}" if cards > 1 and not os.environ.get("ATELIER_DEVICE") else None


def library(installations: tuple[Path, ...] = (), *, by_path: bool = True) -> Library:
    """The models of `model_folders`. by_path: whether a path names one too. Raises BadFile, as that does."""
    from atelier.runtime.library import Library

    return Library(model_folders(installations), by_path)


def model_folders(installations: tuple[Path, ...] = ()) -> tuple[Path, ...]:
    """Those of ATELIER_MODELS, else ./models and the user's own folder; behind them those of installations of A1111 or
    ComfyUI: the ones given, and the ones of ATELIER_WEBUI. Raises BadFile for what is no installation."""
    from atelier.runtime.installed import installed

    theirs = tuple(folder for root in (*installations, *_listed("ATELIER_WEBUI")) for folder in installed(root))
    if named := _listed("ATELIER_MODELS"):
        return *named, *theirs
    own = _below_home("XDG_DATA_HOME", ".local/share")
    return Path("models"), *(() if own is None else (own / "models",)), *theirs


def _listed(variable: str) -> tuple[Path, ...]:
    """The folders that a variable of the environment lists."""
    return tuple(Path(folder).expanduser() for folder in os.environ.get(variable, "").split(os.pathsep) if folder)


def data_folder() -> Path:
    """Where a server keeps its jobs: ATELIER_DATA, else the user's own folder, else ./atelier-data."""
    named, own = os.environ.get("ATELIER_DATA"), _below_home("XDG_DATA_HOME", ".local/share")
    return Path(named).expanduser() if named else Path("atelier-data") if own is None else own / "server"


def server_command(role: str, folders: Sequence[Path], data: Path, arguments: Sequence[str] = ()) -> Command:
    """How the server starts a process of its own: "resolver" or "worker", with these folders of models; `data` is where
    the server keeps its jobs."""
    from atelier.runtime.workers.process import Command

    environment = {**os.environ, "ATELIER_MODELS": os.pathsep.join(map(str, folders)), "ATELIER_DATA": str(data)}
    return Command((sys.executable, "-m", PROCESSES, role, *arguments), environment)


def resolve_for_server(way: Channel) -> None:
    """The life of the process that settles what a server is asked for: it reads headers, on the CPU, names only."""
    from atelier.runtime.engine import Engine
    from atelier.runtime.workers.handed import HandedImages
    from atelier.runtime.workers.kind import Most
    from atelier.runtime.workers.resolver import Resolver

    most, hashes = Most(), _hashes()
    images = HandedImages(most)
    engine = Engine(_device(), library(by_path=False), hashes, version=__version__, words=words(), images=images)
    Resolver(way, engine, images, most, hashes, index()).run()


def work_for_server(way: Channel, number: int = 0) -> None:
    """The life of a process that generates for a server; of several, `number` (0-based) says which graphics card."""
    from atelier.runtime.device import memory_of
    from atelier.runtime.engine import Engine
    from atelier.runtime.jobs.saved import RUNS
    from atelier.runtime.workers.handed import HandedImages
    from atelier.runtime.workers.kind import Most
    from atelier.runtime.workers.worker import Worker

    most, chosen = Most(), _device(_card(number))
    images = HandedImages(most)
    budget = memory_of(chosen.torch_device) // 2
    known = library(by_path=False)
    engine = Engine(chosen, known, _hashes(), version=__version__, budget=budget, words=words(), images=images)
    Worker(way, engine, images, most, data_folder() / RUNS).run()


def words(styles_file: Path | None = None, wildcard_folder: Path | None = None) -> Words:
    """Those given, else of ATELIER_STYLES and ATELIER_WILDCARDS, else ./styles.csv and ./wildcards. Raises BadFile."""
    from atelier.errors import BadFile
    from atelier.runtime.words import Words

    if styles_file is not None and not styles_file.is_file():
        raise BadFile(styles_file, "is no file: name the one that holds the styles (a styles.csv)")
    if wildcard_folder is not None and not wildcard_folder.is_dir():
        raise BadFile(wildcard_folder, "is no folder: name the one that holds the .txt files of wildcards")
    return Words(
        styles_file or Path(os.environ.get("ATELIER_STYLES") or "styles.csv").expanduser(),
        wildcard_folder or Path(os.environ.get("ATELIER_WILDCARDS") or "wildcards").expanduser(),
    )


def _hashes() -> HashCache:
    from atelier.weights.hashes import HashCache

    folder = _below_home("XDG_CACHE_HOME", ".cache")
    if folder is None:
        return HashCache()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return HashCache(folder / "hashes.json")


def index() -> Index:
    """What is known of files from their headers, remembered from one list to the next."""
    from atelier.runtime.index import Index

    folder = _below_home("XDG_CACHE_HOME", ".cache")
    if folder is None:
        return Index()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return Index(folder / "files.sqlite")


def _below_home(variable: str, otherwise: str) -> Path | None:
    """Atelier's own folder of a kind; None for a user without a home."""
    try:
        return Path(os.environ.get(variable) or Path.home() / otherwise) / "atelier"
    except RuntimeError:
        return None
