"""Hints as a kind of job: what is settled, what is refused, and that they are what a generation is steered by."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from atelier.adapters.control_lora import ControlLora, LowRank, shapes_of, write_control_lora
from atelier.checkpoints.opening import open_checkpoint
from atelier.errors import AtelierError
from atelier.families.parts import UNET
from atelier.models.controlnet import ControlNet, ControlSpec
from atelier.runtime.engine import Engine
from atelier.runtime.jobs.job import JobProgress, TooLarge
from atelier.runtime.jobs.lease import MadeImage
from atelier.runtime.library import Library
from atelier.runtime.workers.catalogue import listed
from atelier.runtime.workers.handed import HandedImages
from atelier.runtime.workers.kind import Bench, Most, Task, kinds
from atelier.vision.annotate import Ready
from atelier.vision.annotating import Annotator
from atelier.vision.hints import sized_hint
from atelier.weights.hashes import HashCache
from pipeline_support import CPU, PLENTY

SMALL: dict[str, Any] = {"prompt": "a cat", "model": "tiny", "steps": 2, "seed": 7, "width": 64, "height": 64}
POSE = {"people": [{"pose_keypoints_2d": [32.0, 32.0, 1.0] * 18}], "canvas_width": 64, "canvas_height": 48}


def photo() -> bytes:
    """Left black, right white: one edge, in the middle of 96 x 64 pixels."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, 48:] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


PHOTO = photo()


def name(data: bytes) -> str:
    return "upload:" + hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("models")
    tiny.folder(folder / "tiny")
    (folder / "ControlNet").mkdir()
    spec = ControlSpec(open_checkpoint(folder / "tiny").spec(UNET), (8, 8, 8))
    torch.manual_seed(3)
    net = ControlNet(spec)
    own = [name for name in shapes_of(spec) if name.startswith(("hint.", "outs.", "out_middle."))]
    key = "middle.attention.blocks.0.attn2.to_k.weight"  # by whose width the family is told
    rows, columns = shapes_of(spec)[key]
    low = {key: LowRank(torch.zeros(rows, 1), torch.zeros(1, columns))}
    lora = ControlLora(low, {name: net.get_parameter(name).detach() for name in own})
    write_control_lora(folder / "ControlNet" / "tiny_canny.safetensors", lora, spec, torch.float32)
    images = HandedImages(Most())
    return Engine(CPU, Library((folder,), by_path=False), HashCache(), version="1", budget=PLENTY, images=images)


def bench(engine: Engine, *data: bytes, most: Most | None = None) -> Bench:
    images = HandedImages(most or Most())
    images.hold({name(one): one for one in data})
    engine.resources.images = images
    return Bench(engine, images, most or Most())


def performed(kind: str, fields: Mapping[str, Any], own: Bench, there: tuple[int, ...] = ()) -> list[MadeImage]:
    settled = kinds()[kind].settle(fields, own)
    told = list(kinds()[kind].perform(Task(json.loads(json.dumps(settled.resolved)), there), own))
    assert isinstance(told[-2 if kind == "generate" else -1], JobProgress | MadeImage)
    return [one for one in told if isinstance(one, MadeImage)]


def opened(made: MadeImage) -> Any:
    return np.asarray(Image.open(io.BytesIO(made.data)).convert("RGB"))


def test_a_hint_is_drawn_at_a_resolution_or_at_a_size(engine: Engine) -> None:
    text = f"canny:{name(PHOTO)}:1 annotator=canny resolution=128"
    (made,) = performed("annotate", {"controls": [text]}, bench(engine, PHOTO))
    pixels = opened(made)
    assert pixels.shape == (128, 192, 3)
    assert set(np.unique(pixels)) == {0, 255}
    assert np.flatnonzero(pixels[64, :, 0]).tolist() in ([95], [96])
    (sized,) = performed("annotate", {"controls": [text], "width": 64, "height": 48}, bench(engine, PHOTO))
    assert (sized.width, sized.height, sized.infotext, sized.seed) == (64, 48, "", None)


def test_several_hints_and_poses_come_in_order_and_none_twice(engine: Engine) -> None:
    fields = {"controls": [f"none:{name(PHOTO)}:1", f"invert:{name(PHOTO)}:1"], "poses": [json.dumps(POSE)]}
    made = performed("annotate", fields, bench(engine, PHOTO))
    assert [one.index for one in made] == [0, 1, 2]
    same, turned, pose = map(opened, made)
    assert (same == np.asarray(Image.open(io.BytesIO(PHOTO)))).all()
    assert (turned == 255 - same).all()
    assert pose.shape == (48, 64, 3)
    assert pose.any()
    assert [one.index for one in performed("annotate", fields, bench(engine, PHOTO), there=(0, 2))] == [1]


def test_a_map_is_what_the_generation_was_steered_by(engine: Engine) -> None:
    own = bench(engine, PHOTO)
    for more in ("resolution=128 resize=fill low=30", "resolution=512", "resize=stretch"):
        control = f"canny:{name(PHOTO)}:1 model=tiny_canny annotator=canny {more}"
        (steered,) = performed("generate", {**SMALL, "controls": [control]}, own)
        (drawn,) = performed("annotate", {"controls": [control], "width": 64, "height": 64, "model": "tiny"}, own)
        again = bench(engine, PHOTO, drawn.data)
        hint = f"canny:{name(drawn.data)}:1 model=tiny_canny annotator=none"
        (same,) = performed("generate", {**SMALL, "controls": [hint]}, again)
        assert (opened(steered) == opened(same)).all()
    (plain,) = performed("generate", SMALL, own)
    assert (opened(plain) != opened(steered)).any()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "controls: nothing to draw"),
        ({"controls": ["canny:1"]}, "controls: a hint is drawn of an image"),
        ({"controls": [f"canny:{name(b'x')}:1"]}, "is no image that was uploaded"),
        ({"controls": ["canny:/etc/passwd:1"]}, "is no image that was uploaded"),
        ({"controls": [f"canny:{name(PHOTO)}:1 annotator=cany"]}, "unknown annotator 'cany': did you mean canny?"),
        ({"controls": [f"depth:{name(PHOTO)}:1"]}, "annotator depth_midas: its file dpt-hybrid-midas is not there"),
        ({"controls": [f"canny:{name(PHOTO)}:1 low=900"]}, "annotator canny: low is 900"),
        ({"controls": [f"canny:{name(PHOTO)}:1"], "width": 64}, "width, height: a size needs both"),
        ({"controls": [f"canny:{name(PHOTO)}:1"], "width": 9000, "height": 9000}, "81,000,000 pixels"),
        ({"controls": [f"canny:{name(PHOTO)}:1"] * 65}, "controls: 65 hints are asked for, at most 64"),
        ({"poses": ["[]"]}, "poses: each text is one pose"),
        ({"poses": ["5"]}, "keypoints: an object with"),
        ({"poses": [json.dumps({**POSE, "canvas_width": 16000, "canvas_height": 16000})]}, "256,000,000 pixels"),
        ({"controls": [f"canny:{name(PHOTO)}:1"], "model": "gone"}, "unknown model 'gone'"),
        ({"colour": 1}, "colour: extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_drawn_is_refused(engine: Engine, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(AtelierError, match=told.replace("?", r"\?")) as caught:
        kinds()["annotate"].settle(fields, bench(engine, PHOTO))
    assert "\n" not in str(caught.value)


def test_large_images_are_drawn_where_they_may_come_in(engine: Engine) -> None:
    small = Most(pixels=64 * 96, upload_pixels=64 * 96)
    text = f"invert:{name(PHOTO)}:1"
    assert len(performed("annotate", {"controls": [text]}, bench(engine, PHOTO, most=small))) == 1
    with pytest.raises(TooLarge, match="width: a hint of 6,240 pixels"):
        kinds()["annotate"].settle({"controls": [text], "width": 96, "height": 65}, bench(engine, PHOTO, most=small))


def test_networks_and_annotators_are_listed(engine: Engine) -> None:
    found: Any = json.loads(json.dumps(listed(engine, HashCache())))
    entry = next(own for own in found["controls"] if own["name"] == "tiny_canny")
    assert entry["file"] == "tiny_canny.safetensors"
    assert (entry["more"]["kind"], entry["more"]["hash"]) == ("hint", None)
    makers = {own["name"]: own for own in found["annotators"]}
    assert makers["canny"]["options"][0] | {"help": ""} == {
        "name": "low", "default": 100, "low": 0, "high": 256, "step": 1, "help": ""
    }  # fmt: skip
    assert (makers["canny"]["there"], makers["canny"]["file"], makers["canny"]["sized"]) == (True, None, True)
    midas = makers["depth_midas"]
    assert (midas["there"], midas["file"], "depth" in midas["aliases"]) == (False, "dpt-hybrid-midas", True)
    assert makers["invert"]["sized"] is False


def test_a_list_looks_at_each_folder_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many kinds of files, and annotators that want one, are asked for."""
    (folder,), looked, listing = engine.library.folders, list[Path](), Path.iterdir

    def counted(self: Path) -> Iterator[Path]:
        looked.append(self)
        return listing(self)

    monkeypatch.setattr(Path, "iterdir", counted)
    assert listed(engine, HashCache())["annotators"]
    assert looked.count(folder) == 1
    assert looked.count(folder / "ControlNet") == 1


@pytest.mark.parametrize(("resolution", "seen"), [(0, (48, 72)), (128, (128, 192))])
def test_without_a_resolution_an_annotator_sees_the_scale_of_the_request(
    resolution: int, seen: tuple[int, int]
) -> None:
    shapes: list[tuple[int, ...]] = []

    def draw(pixels: Any, _: object) -> Any:
        shapes.append(pixels.shape[:2])
        return pixels

    image = Image.open(io.BytesIO(PHOTO)).convert("RGB")
    maker = Ready(Annotator("draws", "", draw, frame="sized"), draw)
    assert sized_hint(maker, image, (64, 48), "crop", resolution, {}).size == (64, 48)
    assert shapes == [seen]
