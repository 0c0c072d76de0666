"""What the HTTP dialects ask of the server behind them, and nothing more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from atelier.request.events import Json
from atelier.runtime.jobs.canvases import Canvas, CanvasEntry
from atelier.runtime.jobs.collection import Board, Change, Entry, Found, Wanted, Window
from atelier.runtime.jobs.job import Job, JobEvent, JobImage, NewJob, Owner, State
from atelier.runtime.jobs.lease import Counts

ImageKind = Literal["png", "jpeg", "webp"]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A checkpoint that can be generated with. sha256: None until it was computed. file: its name without folders."""

    name: str
    family: str
    variant: str
    file: str
    sha256: str | None
    loaded: bool


@dataclass(frozen=True, slots=True)
class NamedEntry:
    """A LoRA, an embedding, an autoencoder or an upscaler by the name that requests use. more: what else is known."""

    name: str
    file: str
    more: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class SamplerEntry:
    """name: ours and A1111's; aliases: other names that are read; scheduler: what is used when none is named."""

    name: str
    aliases: tuple[str, ...]
    scheduler: str


@dataclass(frozen=True, slots=True)
class SchedulerEntry:
    """name: short, as in requests; label: as A1111 shows it."""

    name: str
    label: str
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StyleEntry:
    """A saved style."""

    name: str
    prompt: str
    negative_prompt: str


@dataclass(frozen=True, slots=True)
class OptionEntry:
    """A number that changes what an annotator draws; step: how finely it is set in a form."""

    name: str
    default: float
    low: float
    high: float
    step: float
    help: str


@dataclass(frozen=True, slots=True)
class AnnotatorEntry:
    """What draws hints. aliases: other names that are read; file: of its network, None where it needs none; there:
    whether that is here; sized: whether it sees the image at a resolution, or else as it is."""

    name: str
    aliases: tuple[str, ...]
    help: str
    options: tuple[OptionEntry, ...]
    file: str | None
    there: bool
    sized: bool


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that a request can name. model: the one that is used where none is named. Of controls, `more` tells
    the kind (hint, reference, unknown), the family, and A1111's hash."""

    model: str
    models: tuple[ModelEntry, ...]
    samplers: tuple[SamplerEntry, ...]
    schedulers: tuple[SchedulerEntry, ...]
    upscalers: tuple[NamedEntry, ...]
    latent_upscalers: tuple[str, ...]
    autoencoders: tuple[NamedEntry, ...]
    loras: tuple[NamedEntry, ...]
    hypernetworks: tuple[NamedEntry, ...]
    embeddings: tuple[NamedEntry, ...]
    styles: tuple[StyleEntry, ...]
    controls: tuple[NamedEntry, ...] = ()
    annotators: tuple[AnnotatorEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageText:
    """What an uploaded image says of itself. infotext: "" where there is none; items: its other texts; fields: the
    request that the infotext asks for, by the names of `request.table.FIELDS`."""

    width: int
    height: int
    format: str
    infotext: str
    items: Mapping[str, str]
    fields: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: of the machine, of the worker, of the device; 0 where there is none."""

    ram_free: int
    ram_used: int
    ram_total: int
    device_free: int
    device_used: int
    device_total: int


class Easel(Protocol):
    """The canvases of owners. UnknownJob for what is not there or belongs to another."""

    async def all(self, owner: Owner) -> Sequence[CanvasEntry]:
        """The one that was changed last comes first."""
        ...

    async def read(self, canvas_id: str, owner: Owner) -> Canvas: ...

    async def put(
        self, canvas_id: str, owner: Owner, document: Mapping[str, Json], expected: int | None = None
    ) -> CanvasEntry:
        """Keeps a document and the uploads that it names. expected: the revision that it replaces, 0 for none, None for
        any. Raises Changed where another is there, TooLarge, BadInput for one canvas too many, UnknownJob for an upload
        that is not there."""
        ...

    async def delete(self, canvas_id: str, owner: Owner) -> None: ...


class Album(Protocol):
    """What owners do with their images. UnknownJob for what is not there or belongs to another."""

    async def find(self, owner: Owner, wanted: Wanted, window: Window) -> Found:
        """Raises BadInput for a search that is too long."""
        ...

    async def entry(self, image_id: str, owner: Owner) -> Entry: ...

    async def change(self, owner: Owner, image_ids: Sequence[str], change: Change) -> int:
        """Does the same to several images; how many it concerned. Ids of nothing, and of others, concern none."""
        ...

    async def boards(self, owner: Owner) -> Sequence[Board]: ...

    async def make_board(self, owner: Owner, name: str) -> Board:
        """Raises BadInput for a name that another board has."""
        ...

    async def rename_board(self, owner: Owner, board_id: str, name: str) -> None: ...

    async def remove_board(self, owner: Owner, board_id: str) -> None:
        """Its images stay."""
        ...

    async def put(self, owner: Owner, board_id: str, image_ids: Sequence[str], *, inside: bool) -> Sequence[str]:
        """Puts images on a board, or takes them off; the ids of those that it concerned."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """A process that generates. device: "cpu", "cuda:0", …, "" until it has said so; busy: whether it does a job;
    loaded: the models in its memory; device_free, device_total: bytes of a graphics card, 0 where there is none."""

    name: str
    device: str
    ready: bool
    busy: bool
    loaded: tuple[str, ...]
    device_free: int
    device_total: int


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """A folder of the server's. free, total: bytes of its disk; there: whether it exists; writable: by the server."""

    path: str
    free: int
    total: int
    there: bool
    writable: bool


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server runs with. started: seconds since 1970; limits: of the store of jobs, by name; kept: bytes on
    disk by what they are; models: the folders of models, the first one gets what is made; data: of jobs and images;
    database: where jobs are kept, without a password."""

    started: float
    workers: tuple[WorkerFacts, ...]
    limits: Mapping[str, float]
    kept: Mapping[str, int]
    models: tuple[FolderFacts, ...]
    data: FolderFacts
    database: str


class Service(Protocol):
    """All of it is async, answers for one owner, and raises AtelierErrors: BadInput names the field of the request.

    UnknownJob for what is not there or belongs to another; QueueFull; NotReady; TooLarge.
    """

    @property
    def easel(self) -> Easel: ...

    @property
    def album(self) -> Album: ...

    async def upload(self, data: bytes, owner: Owner) -> str:
        """Keeps the bytes of an image (PNG, JPEG or WebP), decoded by nobody yet, and gives the name for fields:
        "upload:" and 64 hexadecimal digits."""
        ...

    async def uploaded(self, name: str, owner: Owner) -> bytes:
        """The bytes of an upload. Raises UnknownJob where the owner has none of this name."""
        ...

    async def submit(self, job: NewJob, owner: Owner) -> Job:
        """Settles the job and commits it; when this returns, the job survives the death of every process."""
        ...

    async def job(self, job_id: str, owner: Owner) -> Job: ...

    async def jobs(
        self,
        owner: Owner,
        *,
        limit: int = 100,
        before: str | None = None,
        states: Collection[State] = tuple(State),
        kind: str | None = None,
    ) -> Sequence[Job]:
        """The owner's in one of the states, newest first; before: the id to go on from."""
        ...

    async def alive(self, owner: Owner) -> Sequence[Job]:
        """The owner's that run, then those that wait, in the order in which they will start."""
        ...

    async def to_front(self, job_id: str, owner: Owner) -> Job:
        """Lets a job that waits start before the owner's others. Raises BadInput for one that waits no longer."""
        ...

    def stream(self, owner: Owner, after: int | None = None) -> AsyncIterator[JobEvent]:
        """What happens to all jobs and images of an owner, for ever, each event with the "job" that it is about. It
        begins behind event number `after`, or with "reset" and how far jobs are, where something may have been missed.
        Beside the events of jobs: "queue" (the order changed), "gallery" (images or boards did)."""
        ...

    async def cancel(self, job_id: str, owner: Owner) -> Job:
        """Asks it to stop; one that ended stays as it is. It stops within one step."""
        ...

    async def delete(self, job_id: str, owner: Owner) -> None:
        """Removes a job that ended, and its images. Raises BadInput for one that has not ended."""
        ...

    async def ended(self, job_id: str, owner: Owner) -> Job:
        """Waits until the job has ended. Being cancelled while waiting leaves the job alone."""
        ...

    def events(self, job_id: str, owner: Owner, after: int = 0) -> AsyncIterator[JobEvent]:
        """What happens to a job, from behind event number `after`, until it has ended."""
        ...

    async def image(self, image_id: str, owner: Owner) -> tuple[JobImage, bytes]:
        """The file of an image."""
        ...

    async def about(self, image_id: str, owner: Owner) -> JobImage:
        """What is known of an image, also where its file is gone."""
        ...

    async def thumbnail(self, image_id: str, owner: Owner) -> bytes:
        """The image, small, as JPEG."""
        ...

    async def rendition(self, image_id: str, owner: Owner, *, kind: ImageKind, quality: int = 90) -> bytes:
        """The image in another format, with the same infotext. quality: of JPEG and WebP, 0 to 100."""
        ...

    async def running(self, owner: Owner) -> Job | None:
        """The owner's job that runs, or else the one that starts next."""
        ...

    async def preview(self, job_id: str, owner: Owner) -> bytes | None:
        """The newest preview of a running job as JPEG."""
        ...

    async def catalogue(self) -> Catalogue: ...

    async def refresh(self) -> None:
        """Looks at the folders of models again."""
        ...

    async def load(self, model: str) -> None:
        """Makes a model the one that is used where none is named, and reads it into memory."""
        ...

    async def unload(self) -> None:
        """Gives the memory of all networks back."""
        ...

    async def explain(self, fields: Mapping[str, Json]) -> Mapping[str, Json]:
        """What a prompt means (`PromptShape`). Raises BadInput, UnknownName."""
        ...

    async def wildcards(self) -> Sequence[str]:
        """The names of all wildcards."""
        ...

    async def weights(self) -> Sequence[Mapping[str, Json]]:
        """Every file of weights that is there, whatever it is, by opaque ids."""
        ...

    async def weight(self, name: str) -> Mapping[str, Json]:
        """All that the headers of one of them say. Raises UnknownJob for an id that none has."""
        ...

    async def forecast(self, fields: Mapping[str, Json]) -> Mapping[str, Json]:
        """What a job that teaches would do, its images only counted."""
        ...

    async def course(self, job_id: str, owner: Owner) -> Mapping[str, Json]:
        """How a job that teaches went until now."""
        ...

    async def resume(self, job_id: str, owner: Owner) -> Job:
        """A new job that goes on where one was stopped or failed. Raises BadInput for one that cannot be."""
        ...

    async def facts(self) -> ServerFacts: ...

    async def read_image(self, data: bytes) -> ImageText: ...

    async def memory(self) -> Memory: ...

    async def counts(self) -> Counts:
        """What waits and runs, of all owners."""
        ...

    async def ready(self) -> bool:
        """Whether jobs are accepted and done."""
        ...
