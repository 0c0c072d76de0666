"""Faces through a request, on the embedded model, with drawn weights and a detector for which what is red is a face."""

from __future__ import annotations

import json
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torch import Tensor

import face_support
from atelier.adapters.control_lora import ControlLora, LowRank, shapes_of, write_control_lora
from atelier.checkpoints.embedded import embedded_folder
from atelier.checkpoints.opening import open_checkpoint
from atelier.compose import annotator
from atelier.errors import AtelierError, BadInput
from atelier.families.parts import UNET
from atelier.models.controlnet import ControlNet, ControlSpec
from atelier.models.unet import UNet
from atelier.nn.ports import Conditioning, Ports
from atelier.pipeline.plan import plan
from atelier.pipeline.stages import read_face
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.request.events import Failed, ImageReady, Warned
from atelier.request.infotext import read, to_request
from atelier.request.model import Request
from atelier.request.resolved import Resolved
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.runtime.workers.catalogue import listed
from atelier.vision import onnx
from atelier.vision.arrays.shapes import Point
from atelier.vision.pose import face_drawn
from atelier.weights.hashes import HashCache
from pipeline_support import PROVENANCE

CPU = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=None)
CONTEXT, FACE, SEEN = 160, 512, 96
"""Widths of the embedded model's text states, of embeddings of faces, and of what its encoder of images sees."""
WIDTHS = (128, 256, 256, 256, 128, 128, 256)
"""Of its attentions to the text: down, up, middle, counted by hand."""
SIDE = 64
Shapes = dict[str, tuple[int, ...]]


def layers(variant: str) -> Shapes:
    """What makes tokens of a face, in the names of its authors."""
    perceiver: Shapes = {
        "proj_in.weight": (CONTEXT, SEEN if variant == "faceid_plus" else FACE),
        "proj_in.bias": (CONTEXT,),
        "proj_out.weight": (CONTEXT, CONTEXT),
        "proj_out.bias": (CONTEXT,),
        "norm_out.weight": (CONTEXT,),
        "norm_out.bias": (CONTEXT,),
        **{f"layers.0.0.{name}.{kind}": (CONTEXT,) for name in ("norm1", "norm2") for kind in ("weight", "bias")},
        "layers.0.0.to_q.weight": (CONTEXT, CONTEXT),
        "layers.0.0.to_kv.weight": (2 * CONTEXT, CONTEXT),
        "layers.0.0.to_out.weight": (CONTEXT, CONTEXT),
        "layers.0.1.0.weight": (CONTEXT,),
        "layers.0.1.0.bias": (CONTEXT,),
        "layers.0.1.1.weight": (CONTEXT, CONTEXT),
        "layers.0.1.3.weight": (CONTEXT, CONTEXT),
    }
    if variant == "instantid":
        return {"latents": (1, 4, CONTEXT), **perceiver}
    made: Shapes = {"proj.0.weight": (FACE, FACE), "proj.0.bias": (FACE,)}
    made |= {"proj.2.weight": (2 * CONTEXT, FACE), "proj.2.bias": (2 * CONTEXT,)}
    made |= {"norm.weight": (CONTEXT,), "norm.bias": (CONTEXT,)}
    refined = {f"perceiver_resampler.{name}": shape for name, shape in perceiver.items()}
    return made | (refined if variant == "faceid_plus" else {})


def adapter(path: Path, variant: str, seed: int, *, lora: bool = False) -> None:
    random, other = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)

    def drawn(*shape: int, random: torch.Generator = random) -> Tensor:
        return torch.randn(shape, generator=random) * shape[-1] ** -0.5

    tensors = {f"image_proj.{name}": drawn(*shape) for name, shape in layers(variant).items()}
    tensors |= {name: torch.ones(CONTEXT) for name in tensors if name.endswith(("norm.weight", "norm_out.weight"))}
    for number, width in enumerate(WIDTHS):
        at = f"ip_adapter.{2 * number + 1}"
        tensors |= {f"{at}.to_{kind}_ip.weight": drawn(width, CONTEXT) for kind in "kv"}
        if lora:
            tensors[f"{at}.to_q_lora.down.weight"] = drawn(2, width, random=other)
            tensors[f"{at}.to_q_lora.up.weight"] = drawn(width, 2, random=other)
    save_file(tensors, path)


def identity(path: Path) -> None:
    """A ControlNet of the embedded model's own encoder with drawn layers of its own."""
    spec = ControlSpec(open_checkpoint(embedded_folder()).spec(UNET), (8, 8, 8, 8))
    torch.manual_seed(3)
    net = ControlNet(spec)
    own = ("hint.", "outs.", "out_middle.")
    full = {name: net.get_parameter(name).detach() for name in shapes_of(spec) if name.startswith(own)}
    name = "middle.attention.blocks.0.attn2.to_k.weight"
    low = {name: LowRank(torch.zeros(shapes_of(spec)[name][0], 1), torch.randn(1, CONTEXT))}
    write_control_lora(path, ControlLora(low, full), spec, torch.float32)


def portrait(path: Path, *faces: tuple[int, int, int], size: tuple[int, int] = (128, 128)) -> None:
    """faces: the left and the upper edge, and how blue it is."""
    image = Image.new("RGB", size)
    for left, top, blue in faces:
        ImageDraw.Draw(image).rectangle((left, top, left + 6, top + 6), (255, 0, blue))
    image.save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("ipadapter", "instantid", "insightface/models/buffalo_l", "insightface/antelopev2"):
        (folder / name).mkdir(parents=True)
    for number, pack in enumerate(("models/buffalo_l", "antelopev2")):
        face_support.red_detector(folder / "insightface" / pack / "det_10g.onnx")
        face_support.embedder(folder / "insightface" / pack / "w600k_r50.onnx", seed=number)
    pytest.importorskip("onnxruntime", reason=face_support.WHY)
    adapter(folder / "ipadapter" / "tiny-faceid.safetensors", "faceid", 1)
    adapter(folder / "ipadapter" / "tiny-faceid-lora.safetensors", "faceid", 1, lora=True)
    adapter(folder / "ipadapter" / "tiny-faceid-plusv2.safetensors", "faceid_plus", 2)
    adapter(folder / "instantid" / "ip-adapter.safetensors", "instantid", 3)
    identity(folder / "instantid" / "diffusion_pytorch_model.safetensors")
    portrait(folder / "anna.png", (40, 40, 0))
    portrait(folder / "both.png", (20, 60, 0), (90, 20, 200))
    portrait(folder / "nobody.png")
    portrait(folder / "pose.png", (90, 90, 0), size=(192, 128))
    left = Image.new("L", (SIDE, SIDE))
    left.paste(255, (0, 0, SIDE // 2, SIDE))
    left.save(folder / "left.png")
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return Engine(CPU, Library((folder,)), HashCache(), version="1", budget=2**30)


def request(**fields: object) -> Request:
    return request_of(
        {"prompt": "a red apple", "steps": 2, "seed": 7, "sampler": "Euler", "width": SIDE, "height": SIDE} | fields
    )


def pixels(engine: Engine, *faces: str, **fields: object) -> bytes:
    (image,) = engine.generate(request(faces=faces, **fields))
    return image.image.tobytes()


FILES = ("tiny-faceid", "tiny-faceid-lora", "tiny-faceid-plusv2", "ip-adapter")


@pytest.mark.parametrize("name", FILES)
def test_the_face_and_its_weight_matter(engine: Engine, folder: Path, name: str) -> None:
    plain, anna = pixels(engine), pixels(engine, f"{folder}/anna.png model={name}")
    assert anna != plain
    assert pixels(engine, f"{folder}/anna.png:0 model={name}") == plain
    assert pixels(engine, f"{folder}/both.png model={name}") not in {plain, anna}
    assert pixels(engine, f"{folder}/anna.png:0.5 model={name}") not in {plain, anna}


def test_the_lora_of_a_file_acts_with_it(engine: Engine, folder: Path) -> None:
    """Both files are the same but for the LoRA."""
    bare = pixels(engine, f"{folder}/anna.png model=tiny-faceid")
    brought = pixels(engine, f"{folder}/anna.png model=tiny-faceid-lora")
    assert brought != bare
    assert pixels(engine, f"{folder}/anna.png model=tiny-faceid-lora lora=0") == bare
    assert pixels(engine, f"{folder}/anna.png model=tiny-faceid-lora lora=0.5") not in {bare, brought}
    alone = pixels(engine, f'{folder}/anna.png model=tiny-faceid-lora blocks="=0"')
    assert alone != pixels(engine)


def test_the_lora_of_a_file_acts_once_however_many_faces_it_reads(engine: Engine, folder: Path) -> None:
    """By the larger of the weights that are said."""

    def brought(*faces: str) -> list[tuple[str, float]]:
        resolved = engine.resolve(request(faces=faces))
        stages = plan(resolved, resolved.sampling, PROVENANCE)
        (own,) = (stage for stage in stages if isinstance(stage, Diffuse))
        return [(each.file.name, each.strength) for each in own.adapted.merged]

    one, two = f"{folder}/anna.png model=tiny-faceid-lora", f"{folder}/both.png model=tiny-faceid-lora"
    assert brought(one, f"{two} mask={folder}/left.png") == [("tiny-faceid-lora", 1.0)]
    assert brought(f"{one} lora=0.5", f"{two} lora=0.8") == [("tiny-faceid-lora", 0.8)]
    assert brought(f"{one} lora=0", f"{two} lora=0") == []


def test_the_lora_acts_in_its_pass_alone(engine: Engine, folder: Path) -> None:
    twice = {"hires_resize": (96, 96), "hires_upscaler": "Latent", "denoising_strength": 0.5, "hires_steps": 1}
    made = {
        passes: pixels(engine, f'{folder}/anna.png model=tiny-faceid-lora blocks="=0" pass={passes}', **twice)
        for passes in ("first", "second", "both")
    }
    assert len({*made.values(), pixels(engine, **twice)}) == 4


def test_two_requests_at_once_are_as_alone(engine: Engine, folder: Path) -> None:
    texts = (f"{folder}/anna.png model=tiny-faceid-lora", f"{folder}/anna.png model=ip-adapter")
    alone = [pixels(engine, text) for text in texts]
    streams = [engine.events(request(faces=(text,))) for text in texts]
    found = [e.image.tobytes() for pair in zip_longest(*streams) for e in pair if isinstance(e, ImageReady)]
    assert sorted(found) == sorted(alone)


def test_of_several_faces_the_largest_is_read_and_told(engine: Engine, folder: Path) -> None:
    """The second one is to the left, and has less blue in it."""
    text = f"{folder}/both.png model=tiny-faceid"
    twice = {"hires_resize": (96, 96), "hires_upscaler": "Latent", "denoising_strength": 0.5, "hires_steps": 1}
    told = [own.message for own in engine.events(request(faces=(text,), **twice)) if isinstance(own, Warned)]
    assert told == [f"{folder}/both.png: has 2 faces, the largest is read; which=2 is the next"]
    first, second = pixels(engine, text), pixels(engine, f"{text} which=2")
    assert first != second
    portrait(folder / "left_alone.png", (20, 60, 0))
    assert pixels(engine, f"{folder}/left_alone.png model=tiny-faceid") == second
    assert not [own for own in engine.events(request(faces=(f"{text} which=2",))) if isinstance(own, Warned)]


def test_the_face_is_cut_out_for_the_encoder(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is far from it does not matter to FaceID-plus, what is near does."""
    text = "model=tiny-faceid-plusv2"
    made = pixels(engine, f"{folder}/anna.png {text}")
    seen: list[tuple[int, int]] = []
    crop = read_face.crop

    def watched(image: Image.Image, face: object) -> Image.Image:
        seen.append(crop(image, face).size)  # pyright: ignore[reportArgumentType]
        return crop(image, face)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(read_face, "crop", watched)
    for name, place in (("far", (120, 120)), ("near", (36, 40))):
        image = Image.open(folder / "anna.png").convert("RGB")
        image.putpixel(place, (0, 255, 0))
        image.save(folder / f"{name}.png")
    assert pixels(engine, f"{folder}/far.png {text}") == made
    assert pixels(engine, f"{folder}/near.png {text}") != made
    assert seen == [(224, 224)] * 2


class Calls:
    """What the ControlNet is given: the hint once, and in each call the tokens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hints: list[Tensor] = []
        self.tokens: list[Tensor] = []
        embedded, forward = ControlNet.embedded, ControlNet.forward

        def watch_hint(net: ControlNet, hint: Tensor, task: int | None = None) -> Tensor:
            self.hints.append(hint)
            return embedded(net, hint, task)

        def watch(net: ControlNet, x: Tensor, t: Tensor, cond: Conditioning, *rest: object) -> object:
            self.tokens.append(cond.tokens)
            return forward(net, x, t, cond, *rest)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(ControlNet, "embedded", watch_hint)
        monkeypatch.setattr(ControlNet, "forward", watch)


def test_the_controlnet_reads_the_face_in_place_of_the_text(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hint is the face's points; negative prompts' rows are told of no face."""
    calls = Calls(monkeypatch)
    engine.generate(request(faces=(f"{folder}/anna.png model=ip-adapter",), steps=1))
    engine.generate(request(faces=(f"{folder}/both.png model=ip-adapter",), steps=1, prompt="a blue car"))
    (anna, other), (hint, _) = calls.tokens, calls.hints
    assert anna.shape == (2, 4, CONTEXT)
    assert torch.equal(anna[0], other[0])
    assert float((anna[1] - other[1]).abs().max()) > 1e-3
    spots = [Point(x * SIDE / 640, y * SIDE / 640) for x, y in points(208, 208)]
    assert np.abs(np.asarray(face_drawn(spots, SIDE, SIDE)) / 255 - hint[0].permute(1, 2, 0).numpy()).mean() < 0.02


def points(x: float, y: float) -> list[tuple[float, float]]:
    """Of a face in the middle (x, y) of a canvas of 640 pixels."""
    spots = face_support.POINTS
    return [(x + 16 * spots[i], y + 16 * spots[i + 1]) for i in range(0, 10, 2)]


def test_the_pose_says_where_the_face_is(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cropped as it covers the size: what is in the middle there stays in the middle."""
    calls, face = Calls(monkeypatch), f"{folder}/anna.png model=ip-adapter"
    own = pixels(engine, face)
    posed = pixels(engine, f"{face} pose={folder}/pose.png")
    assert posed != own
    centres: list[list[float]] = [(hint[0].amax(0) > 0).nonzero().float().mean(0).tolist() for hint in calls.hints]
    assert centres[0] == pytest.approx([21, 21], abs=2)
    assert centres[1] == pytest.approx([45.5, 29.5], abs=2)
    assert all(torch.equal(one, calls.tokens[0]) for one in calls.tokens)


def test_in_the_image_to_start_from_it_lies_where_the_face_is_that_is_named(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one of the image, which is both; inside a mask, the largest in the part that is made anew."""
    calls, both = Calls(monkeypatch), f"{folder}/both.png"
    face = f"{both} model=ip-adapter which=2"
    pixels(engine, face)
    pixels(engine, face, image=both, denoising_strength=0.9)
    centres = [[*(hint[0].amax(0) > 0).nonzero().float().mean(0).tolist()] for hint in calls.hints]
    assert centres[1] == pytest.approx(centres[0], abs=2)
    part = Image.new("L", (128, 128))
    part.paste(255, (10, 50, 42, 82))
    part.save(folder / "part.png")
    inside = {"inpaint_area": "Only masked", "masked_area_padding": 0, "mask_blur": 0, "mask": f"{folder}/part.png"}
    pixels(engine, face, image=both, denoising_strength=0.9, **inside)
    assert (calls.hints[2][0].amax(0) > 0).nonzero().float().mean(0).tolist() == pytest.approx([27, 27], abs=5)


def test_the_controlnet_has_a_weight_of_its_own_and_can_be_left_out(engine: Engine, folder: Path) -> None:
    face = f"{folder}/anna.png model=ip-adapter"
    both, half, without = (pixels(engine, f"{face} {more}") for more in ("", "control_weight=0.5", "control=none"))
    assert len({both, half, without, pixels(engine)}) == 4
    assert pixels(engine, f"{face} control_weight=0") == without
    assert pixels(engine, f"{face} control_weight=1") == both
    named = f"{face} control={folder}/instantid/diffusion_pytorch_model.safetensors"
    assert pixels(engine, named) == both


def test_a_mask_says_where_it_acts(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the ControlNet, residuals outside are 0."""
    seen: list[Ports] = []
    forward = UNet.forward

    def watched(self: UNet, x: Tensor, t: Tensor, cond: object, ports: Ports) -> Tensor:
        seen.append(ports)
        return forward(self, x, t, cond, ports)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(UNet, "forward", watched)
    engine.generate(request(faces=(f"{folder}/anna.png model=ip-adapter mask={folder}/left.png end=0.5",)))
    first, second = seen
    residual = first.residuals[0]
    assert not residual[..., residual.shape[-1] // 2 :].any()
    assert bool(residual[..., : residual.shape[-1] // 2].any())
    assert first.attention
    assert not second.residuals
    assert not second.attention


@pytest.mark.parametrize(
    "more",
    [
        "model=tiny-faceid-lora lora=0.7 start=0.1",
        "model=tiny-faceid-plusv2 mask={folder}/left.png",
        "model=ip-adapter control_weight=0.4 pose={folder}/pose.png which=1",
        'model=ip-adapter control=none blocks="up.0=0.5"',
    ],
)
def test_the_infotext_generates_the_same_image_again(engine: Engine, folder: Path, more: str) -> None:
    wanted = request(faces=(f"{folder}/anna.png:0.6 {more.format(folder=folder)}",))
    (image,) = engine.generate(wanted)
    (same,) = engine.generate(to_request(read(image.infotext)))
    assert same.image.tobytes() == image.image.tobytes()
    assert same.infotext == image.infotext
    resolved = engine.resolve(wanted)
    assert Resolved.from_json(resolved.to_json()) == resolved


@pytest.mark.parametrize("name", FILES[1:])
def test_several_images_of_one_face_are_one_prompt(engine: Engine, folder: Path, name: str) -> None:
    """Twice the same says what it says once; the ControlNet of InstantID reads both as well."""

    def made(*texts: str) -> np.ndarray:
        return np.asarray(engine.generate(request(faces=[f"{folder}/{text}" for text in texts]))[0].image, np.int16)

    anna, twice = made(f"anna.png:8 model={name}"), made(f"anna.png:8 model={name}", "anna.png with=previous")
    other = made(f"anna.png:8 model={name}", "both.png with=previous which=2")
    assert abs(twice - anna).mean() < 0.02
    assert abs(other - anna).mean() > 0.2


def test_the_infotext_of_several_images_of_one_face_generates_the_same_image_again(
    engine: Engine, folder: Path
) -> None:
    (image,) = engine.generate(
        request(faces=(f"{folder}/anna.png model=ip-adapter", f"{folder}/both.png with=previous which=2"))
    )
    (same,) = engine.generate(to_request(read(image.infotext)))
    assert same.image.tobytes() == image.image.tobytes()


def test_without_a_name_the_first_one_for_faces_is_taken(engine: Engine, folder: Path) -> None:
    (own,) = engine.resolve(request(faces=(f"{folder}/anna.png",))).steering
    assert (own.kind, own.network.name) == ("face", "ip-adapter")  # pyright: ignore[reportAttributeAccessIssue]


BAD = {
    "{folder}/no.png": "no.png",
    "{folder}/anna.png model=none": "unknown control 'none'",
    "{folder}/anna.png model=diffusion_pytorch_model": "reads a hint: give it as --control",
    "{folder}/anna.png model=tiny-faceid pose={folder}/pose.png": "tiny-faceid: has no ControlNet beside it",
    "{folder}/anna.png model=ip-adapter control=tiny-faceid": "is no ControlNet: name one with control=",
    "{folder}/anna.png model=ip-adapter pose={folder}/gone.png": "gone.png",
    "{folder}/anna.png model=tiny-faceid blocks=nowhere=1": "blocks 'nowhere'",
    '{folder}/anna.png model=ip-adapter pose="sha256:ab"': "sha256:ab: an image that came with a request",
    "{folder}/anna.png which=0": "which '0': must be a whole number from 1 to 100",
    "{folder}/anna.png control=none pose=a.png": "pose has no effect with control=none",
}


@pytest.mark.parametrize("text", BAD)
def test_what_cannot_be_used_is_told_in_one_line(engine: Engine, folder: Path, text: str) -> None:
    with pytest.raises(AtelierError) as caught:
        engine.resolve(request(faces=(text.format(folder=folder),)))
    assert BAD[text] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (caught.value.exit_code, caught.value.field) == (2, "faces")


def test_the_points_of_the_largest_face_are_drawn(folder: Path) -> None:
    """As InstantID's ControlNet reads them; the packs of insightface lie where they lie for faces."""
    draws = annotator("instant_id_face_keypoints", folders=(folder,))
    hint = np.asarray(draws.hint(Image.open(folder / "both.png")))
    assert hint.shape == (128, 128, 3)
    places = np.argwhere(hint.any(2)).mean(0)
    assert places.tolist() == pytest.approx([23, 93], abs=3)
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255)} & {tuple(pixel) for pixel in hint.reshape(-1, 3).tolist()}
    with pytest.raises(BadInput, match="no face is found in the image"):
        draws.hint(Image.open(folder / "nobody.png"))


def test_what_reads_faces_is_listed_as_such(engine: Engine) -> None:
    controls = json.loads(json.dumps(listed(engine, HashCache())["controls"]))
    kinds = {own["name"]: own["more"]["kind"] for own in controls if own["name"] in (*FILES, "diffusion_pytorch_model")}
    assert kinds == {**dict.fromkeys(FILES, "face"), "diffusion_pytorch_model": "hint"}


def test_a_file_for_faces_is_no_reference(engine: Engine, folder: Path) -> None:
    with pytest.raises(AtelierError, match=r"tiny-faceid\.safetensors: reads a face: give it as --face"):
        engine.resolve(request(references=(f"{folder}/anna.png model=tiny-faceid",)))


MISSING = {
    "nobody.png": "nobody.png: no face is found in it: choose one with a face seen from the front",
    "anna.png which=2": "anna.png: which=2, and it has one face: choose 1 to 1",
}


@pytest.mark.parametrize("text", MISSING)
def test_an_image_without_such_a_face_is_told(engine: Engine, folder: Path, text: str) -> None:
    *_, last = engine.events(request(faces=(f"{folder}/{text}",)))
    assert isinstance(last, Failed)
    assert str(last.error) == f"{folder}/{MISSING[text]}"
    assert last.error.exit_code == 2


def test_networks_that_are_not_there_are_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ipadapter").symlink_to(folder / "ipadapter")
    (tmp_path / "instantid").mkdir()
    (tmp_path / "instantid" / "ip-adapter.safetensors").symlink_to(folder / "instantid" / "ip-adapter.safetensors")
    lacking = Engine(CPU, Library((tmp_path,)), HashCache(), version="1")
    with pytest.raises(AtelierError, match=r"the folder buffalo_l with the .onnx files of insightface into the folder"):
        lacking.resolve(request(faces=(f"{folder}/anna.png model=tiny-faceid",)))
    (tmp_path / "insightface").symlink_to(folder / "insightface")
    with pytest.raises(AtelierError, match="ip-adapter: its ControlNet is not there: put it into the folder instantid"):
        lacking.resolve(request(faces=(f"{folder}/anna.png model=ip-adapter",)))
    monkeypatch.setattr(onnx, "PACKAGE", "no_such_package")
    with pytest.raises(AtelierError, match=r"pip install 'atelier\[faces\]'"):
        lacking.resolve(request(faces=(f"{folder}/anna.png model=tiny-faceid",)))


def test_a_pack_that_changes_is_told(folder: Path, tmp_path: Path) -> None:
    pack = tmp_path / "insightface" / "buffalo_l"
    pack.mkdir(parents=True)
    face_support.red_detector(pack / "det.onnx")
    face_support.embedder(pack / "w.onnx")
    own = Engine(CPU, Library((tmp_path,)), HashCache(), version="1")
    resolved = own.resolve(request(faces=(f"{folder}/anna.png model={folder}/ipadapter/tiny-faceid.safetensors",)))
    face_support.embedder(pack / "w.onnx", seed=9)
    *_, last = Engine(CPU, own.library, HashCache(), version="1").run(resolved)
    assert isinstance(last, Failed)
    assert "has changed since the request was resolved" in str(last.error)
