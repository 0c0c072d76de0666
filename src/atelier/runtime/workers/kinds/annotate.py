"""Drawing hints: what annotators make of images, and the poses that keypoints are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel, ConfigDict, Field

from atelier.errors import BadInput, about
from atelier.pipeline.resources import annotator_net
from atelier.pipeline.stages.prepare import flat
from atelier.request.controls import Control, parse_control
from atelier.request.events import Json
from atelier.request.resolved import ModelRef, NetworkRef, NoNetwork
from atelier.runtime.jobs.job import JobProgress, TooLarge
from atelier.runtime.jobs.lease import MadeImage, Settled
from atelier.runtime.steering import annotator_file, maker_of
from atelier.runtime.workers.kind import Bench, Kind, Task, Told
from atelier.runtime.workers.kinds.upscale import asked_of
from atelier.runtime.workers.names import uploads_in
from atelier.runtime.workers.pictures import made_image
from atelier.vision.annotate import Ready, annotators, completed, ready
from atelier.vision.geometry import Resize
from atelier.vision.hints import sized_hint
from atelier.vision.pose import Pose, drawn, read_poses

if TYPE_CHECKING:
    from PIL.Image import Image

PIXELS_A_SECOND = 1_000_000
"""About what a core annotates in a second with a network: costs are counted in seconds."""


class Annotate(BaseModel):
    """The fields of this kind.

    controls: as in requests, of which the type or the annotator, the image, the resolution and the options count;
    poses: keypoints in OpenPose's JSON, one text each, drawn behind the hints; width, height: what hints are brought
    to, None = as they are drawn; model: the one beside which networks of annotators are kept, None = the embedded one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    controls: tuple[str, ...] = ()
    poses: tuple[str, ...] = ()
    width: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=1)
    model: str | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """Raises BadInput."""
        if (self.width is None) != (self.height is None):
            raise BadInput("width, height: a size needs both; or leave both out")
        return None if self.width is None or self.height is None else (self.width, self.height)


def settle(fields: Mapping[str, Json], bench: Bench) -> Settled:
    """Raises BadInput, TooLarge, and UnknownName for an annotator that there is not."""
    asked = asked_of(Annotate, fields)
    count, size = len(asked.controls) + len(asked.poses), asked.size
    if not count:
        raise BadInput("controls: nothing to draw: name an annotator and an upload")
    if count > bench.most.images:
        raise TooLarge(f"controls: {count} hints are asked for, at most {bench.most.images} are drawn in one job")
    with about("controls"):
        hints = [_settled(parse_control(text), bench) for text in asked.controls]
        sizes = [size or bench.images.size(str(own["image"])) for own in hints]
    with about("poses"):
        sizes += [(pose.width, pose.height) for pose in _poses(asked.poses)]
    pixels = [width * height for width, height in sizes]
    if max(pixels) > max(bench.most.pixels, bench.most.upload_pixels):
        raise TooLarge(f"width: a hint of {max(pixels):,} pixels is asked for, {bench.most.pixels:,} are the most")
    found = bench.engine.library.find(asked.model)
    reference = bench.engine.resources.refer(found.name, bench.engine.resources.open(found.path))
    resolved: dict[str, Json] = {
        "hints": cast("list[Json]", hints),
        "poses": [*asked.poses],
        "size": None if size is None else list(size),
        "model": cast("Json", json.loads(reference.model_dump_json())),
    }
    return Settled(resolved, cost=sum(pixels) / PIXELS_A_SECOND, uploads=uploads_in(fields))


def _settled(control: Control, bench: Bench) -> dict[str, Json]:
    """A hint with nothing left open. Raises BadInput."""
    if not control.image:
        raise BadInput("controls: a hint is drawn of an image: name an upload")
    maker, engine = maker_of(control), bench.engine
    file = annotator_file(maker, engine.library, engine.resources.hash_of)
    bench.images.size(control.image)
    return {
        "image": control.image,
        "annotator": maker.name,
        "options": cast("dict[str, Json]", completed(maker, dict(control.options))),
        "resolution": control.resolution,
        "resize": control.resize,
        "file": None if isinstance(file, NoNetwork) else cast("Json", json.loads(file.file.model_dump_json())),
    }


def _poses(texts: tuple[str, ...]) -> list[Pose]:
    """One of each text. Raises BadInput."""
    found = [pose for text in texts for pose in read_poses(text)]
    if len(found) != len(texts):
        raise BadInput("poses: each text is one pose, and no list of them")
    return found


def perform(task: Task, bench: Bench) -> Iterator[Told]:
    """An image for each hint, then for each pose."""
    hints, poses = cast("list[dict[str, Json]]", task.resolved["hints"]), cast("list[str]", task.resolved["poses"])
    count = len(hints) + len(poses)
    for index in range(count):
        yield JobProgress(index, count, index, count, index / count)
        if index not in task.there:
            own = hints[index] if index < len(hints) else None
            image = _drawn(own, task.resolved, bench) if own else drawn(*_poses((poses[index - len(hints)],)))
            yield _made(image, index)
    yield JobProgress(count, count, count - 1, count, 1.0)


def _made(image: Image, index: int) -> MadeImage:
    return made_image(image, "", index, None)


def _drawn(own: Mapping[str, Json], resolved: Mapping[str, Json], bench: Bench) -> Image:
    options = cast("dict[str, float]", own["options"])
    resolution, size = int(cast("int", own["resolution"])), cast("list[int] | None", resolved["size"])
    image = flat(bench.images.source(str(own["image"])).image)
    with ExitStack() as lent:
        maker = _ready(own, ModelRef.model_validate(resolved["model"]), bench, lent)
        if size is None:
            return maker.hint(image, resolution=resolution or None, options=options)
        return sized_hint(maker, image, (size[0], size[1]), cast("Resize", own["resize"]), resolution, options)


def _ready(own: Mapping[str, Json], model: ModelRef, bench: Bench, lent: ExitStack) -> Ready:
    if own["file"] is None:
        return ready(annotators()[str(own["annotator"])], lambda _: None, bench.engine.resources.device)
    part = annotator_net(NetworkRef.model_validate(own["file"]))
    return lent.enter_context(bench.engine.resources.borrow(model, part))


SPECS = (Kind("annotate", settle, perform),)
