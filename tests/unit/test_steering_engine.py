"""Controls on a tiny random model: when, where and on which rows they act, by what the denoiser is given."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from atelier.checkpoints.opening import open_checkpoint
from atelier.errors import AtelierError, BadFile, BadInput
from atelier.families.parts import UNET
from atelier.models.controlnet import ControlNet, ControlSpec
from atelier.models.unet import UNet
from atelier.nn.ports import Conditioning, Ports
from atelier.nn.seamless import Seamless
from atelier.request.controls import parse_control
from atelier.request.events import Failed, ImageReady
from atelier.request.infotext import read, to_request
from atelier.request.model import Request
from atelier.request.resolved import Resolved, ResolvedControl
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.runtime.steering import kind_of, maker_of
from atelier.weights.hashes import HashCache
from atelier.weights.names.controlnet import names
from control_support import written

CPU = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=None)


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "ControlNet").mkdir()
    (folder / "tiny").symlink_to(tiny_folder)
    written(folder / "ControlNet" / "tiny_canny.safetensors", tiny_folder, zero=False)
    written(folder / "ControlNet" / "tiny_depth.safetensors", tiny_folder, zero=True)
    generator = np.random.default_rng(5)
    Image.fromarray(generator.integers(0, 255, (96, 64, 3), np.uint8)).save(folder / "hint.png")
    half = np.zeros((96, 64), np.uint8)
    half[:, :32] = 255
    Image.fromarray(half).save(folder / "left.png")
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return Engine(CPU, Library((folder,)), HashCache(), version="1", budget=2**30)


BASE = {"prompt": "a red cat", "model": "tiny", "steps": 4, "seed": 7, "sampler": "Euler", "width": 64, "height": 96}


def request(**fields: object) -> Request:
    return request_of(BASE | fields)


def pixels(engine: Engine, **fields: object) -> bytes:
    (image,) = engine.generate(request(**fields))
    return image.image.tobytes()


def canny(folder: Path, more: str = "") -> tuple[str]:
    return (f"canny:{folder / 'hint.png'} annotator=none {more}",)


def ports_of(engine: Engine, monkeypatch: pytest.MonkeyPatch, **fields: object) -> list[tuple[int, Ports]]:
    """(rows, ports) of each call of the U-Net."""
    seen: list[tuple[int, Ports]] = []
    forward = UNet.forward

    def watched(self: UNet, x: Tensor, t: Tensor, cond: Conditioning, ports: Ports) -> Tensor:
        seen.append((len(x), ports))
        return forward(self, x, t, cond, ports)

    with monkeypatch.context() as patch:
        patch.setattr(UNet, "forward", watched)
        engine.generate(request(**fields))
    return seen


def strengths(ports: Ports) -> list[float]:
    """How much is added at each place, on average."""
    return [float(residual.abs().mean()) for residual in ports.residuals]


def test_a_control_changes_the_image_and_without_strength_it_is_absent(engine: Engine, folder: Path) -> None:
    plain = pixels(engine)
    steered = pixels(engine, controls=canny(folder))
    assert steered != plain
    assert pixels(engine, controls=canny(folder, "weight=0")) == plain
    assert pixels(engine, controls=canny(folder, "weight=0.5")) not in {plain, steered}


def test_one_that_has_not_learned_is_absent(engine: Engine, folder: Path) -> None:
    control = f"depth:{folder / 'hint.png'} annotator=none"
    assert pixels(engine, controls=(control,)) == pixels(engine)


def test_requests_do_not_disturb_each_other(engine: Engine, folder: Path) -> None:
    alone = [pixels(engine, controls=canny(folder)), pixels(engine)]
    both = zip_longest(engine.events(request(controls=canny(folder))), engine.events(request()))
    found = [event.image.tobytes() for pair in both for event in pair if isinstance(event, ImageReady)]
    assert sorted(found) == sorted(alone)


def test_it_acts_in_its_share_of_the_steps(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = ports_of(engine, monkeypatch, controls=canny(folder, "start=0.25 end=0.75"))
    assert [bool(ports.residuals) for _, ports in seen] == [False, True, True, False]
    assert [bool(p.residuals) for _, p in ports_of(engine, monkeypatch, controls=canny(folder, "start=0.5"))] == [
        *(False, False, True, True)
    ]


def test_where_the_control_counts_more_negative_prompts_are_left_alone(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And layers far from the middle count less: 0.825 for each, of which the thirteenth would count whole."""
    ((rows, both), *_) = ports_of(engine, monkeypatch, controls=canny(folder))
    ((_, control), *_) = ports_of(engine, monkeypatch, controls=canny(folder, "mode=control"))
    ((_, prompt), *_) = ports_of(engine, monkeypatch, controls=canny(folder, "mode=prompt"))
    assert rows == 2
    for number, (whole, weak, half) in enumerate(zip(both.residuals, prompt.residuals, control.residuals, strict=True)):
        fade = (0.099414, 0.1205018, 0.1460628, 0.1770458, 0.2146009)[number]
        assert torch.allclose(weak, whole * fade, atol=1e-6)
        assert torch.equal(half[0], torch.zeros_like(half[0]))
        assert torch.allclose(half[1], whole[1] * fade, atol=1e-5)


def test_each_layer_may_have_a_factor_of_its_own(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the weight, and in place of those that a mode has."""
    more = "weight=0.5 mode=prompt layers=0,1,0.25,2,0.5"
    ((_, free), *_) = ports_of(engine, monkeypatch, controls=canny(folder))
    ((_, made), *_) = ports_of(engine, monkeypatch, controls=canny(folder, more))
    for factor, one, other in zip((0.0, 0.5, 0.125, 1.0, 0.25), made.residuals, free.residuals, strict=True):
        assert torch.allclose(one, factor * other, atol=1e-6)
    with pytest.raises(
        BadInput, match=r"control 'canny': layers: tiny_canny.* has 5 layers, and there are 2 factors"
    ) as bad:
        engine.generate(request(controls=canny(folder, "layers=1,1")))
    assert bad.value.field == "controls"


def test_one_that_shuffles_leaves_negative_prompts_alone_and_does_not_fade(
    folder: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its residuals are the mean over the map."""
    (tmp_path / "tiny").symlink_to(tiny_folder)
    spec = ControlSpec(open_checkpoint(tiny_folder).spec(UNET), (8, 8, 8))
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in ControlNet(spec).state_dict().items()}
    drawn = {name.ldm: torch.randn(shapes[name.ours]) * 0.1 for name in names(spec)}
    (tmp_path / "ControlNet").mkdir()
    save_file(drawn, tmp_path / "ControlNet" / "tiny_shuffle_fp16.safetensors")
    own = Engine(CPU, Library((tmp_path,)), HashCache(), version="1", budget=2**30)
    control = (f"shuffle:{folder / 'hint.png'} annotator=none",)
    ((_, ports), *_) = ports_of(own, monkeypatch, controls=control)
    for residual in ports.residuals:
        assert not bool(residual[0].any())
        assert bool(residual[1].any())
        assert torch.equal(residual[1], residual[1, :, :1, :1].expand_as(residual[1]))


def test_fine_lines_fade_in_a_second_pass(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A1111's rule for canny and mlsd, by the annotator: 0.825 ** 12 on the outermost layer of both rows."""
    fields = {"hires_resize": (128, 192), "hires_upscaler": "Latent", "denoising_strength": 0.5}

    def second(control: str) -> Ports:
        seen = ports_of(engine, monkeypatch, **fields, controls=(control,))
        return next(ports for _, ports in seen if ports.residuals and ports.residuals[0].shape[-1] == 32)

    lines = second(f"canny:{folder / 'hint.png'} pass=second")
    monkeypatch.setattr("atelier.pipeline.plan.LINES", frozenset[str]())
    plain = second(f"canny:{folder / 'hint.png'} pass=second")
    for faded, own, fade in zip(lines.residuals[:2], plain.residuals[:2], (0.099414, 0.1205018), strict=True):
        assert torch.allclose(faded, own * fade, atol=1e-6)
    monkeypatch.undo()
    drawn = second(f"canny:{folder / 'hint.png'} annotator=none pass=second")
    assert strengths(drawn)[0] > 3 * strengths(lines)[0]


def test_a_mask_keeps_it_in_its_place(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((_, everywhere), *_) = ports_of(engine, monkeypatch, controls=canny(folder))
    ((_, left), *_) = ports_of(engine, monkeypatch, controls=canny(folder, f"mask={folder / 'left.png'}"))
    whole, masked = everywhere.residuals[0], left.residuals[0]
    half = whole.shape[-1] // 2
    assert torch.equal(masked[..., :half], whole[..., :half])
    assert not masked[..., half:].any()
    assert whole[..., half:].abs().min() > 0


def test_two_controls_add_up(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((_, one), *_) = ports_of(engine, monkeypatch, controls=canny(folder))
    ((_, two), *_) = ports_of(engine, monkeypatch, controls=canny(folder) * 2)
    for single, double in zip(one.residuals, two.residuals, strict=True):
        assert torch.equal(double, single * 2)


def test_views_see_their_part_of_the_hint(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from the edges of a view, what a network with a small field of view adds is what it adds to the whole."""
    fields = {"view_method": "multidiffusion", "view_width": 64, "view_height": 64, "view_overlap": 32}
    hints: list[Tensor] = []
    embedded = ControlNet.embedded

    def watched(self: ControlNet, hint: Tensor, task: int | None = None) -> Tensor:
        hints.append(hint)
        return embedded(self, hint, task)

    monkeypatch.setattr(ControlNet, "embedded", watched)
    engine.generate(request(**fields, controls=canny(folder)))
    whole = torch.from_numpy(np.array(Image.open(folder / "hint.png"))).permute(2, 0, 1)[None] / 255
    assert [tuple(hint.shape) for hint in hints] == [(2, 3, 64, 64)]
    assert torch.equal(hints[0][0], whole[0, :, :64])
    assert torch.equal(hints[0][1], whole[0, :, 32:])


def test_the_edges_of_a_view_meet_where_the_networks_do(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As wide as the canvas and lower than it: from left to right alone, in the ControlNet as in the U-Net."""
    seen: list[Seamless] = []
    forward = ControlNet.forward

    def watched(
        net: ControlNet, x: Tensor, t: Tensor, cond: Conditioning, hint: Tensor, task: None, at: Seamless
    ) -> object:
        seen.append(at)
        return forward(net, x, t, cond, hint, task, at)

    monkeypatch.setattr(ControlNet, "forward", watched)
    fields = {"view_method": "multidiffusion", "view_width": 64, "view_height": 64, "view_overlap": 32}
    calls = ports_of(engine, monkeypatch, **fields, tile="xy", controls=canny(folder))
    assert {ports.seamless for _, ports in calls} == set(seen) == {Seamless(x=True)}


def test_an_inpainting_hint_leaves_out_what_the_mask_shows(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-1 there, and the image as it is elsewhere."""
    hints: list[Tensor] = []
    embedded = ControlNet.embedded

    def watched(self: ControlNet, hint: Tensor, task: int | None = None) -> Tensor:
        hints.append(hint)
        return embedded(self, hint, task)

    monkeypatch.setattr(ControlNet, "embedded", watched)
    image, control = str(folder / "hint.png"), ("inpaint model=tiny_canny",)
    engine.generate(request(image=image, mask=str(folder / "left.png"), mask_blur=0, controls=control))
    whole = torch.from_numpy(np.array(Image.open(image))).permute(2, 0, 1) / 255
    (hint,) = hints
    assert torch.equal(hint[0, ..., :32], torch.full((3, 96, 32), -1.0))
    assert torch.equal(hint[0, ..., 32:], whole[..., 32:])
    with pytest.raises(BadInput, match="leaves out what the mask shows: give --mask"):
        engine.resolve(request(image=image, controls=control))


def test_each_pass_has_a_hint_of_its_size(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"hires_resize": (128, 192), "hires_upscaler": "Latent", "denoising_strength": 0.5}

    def sizes(more: str) -> list[tuple[int, ...]]:
        seen = ports_of(engine, monkeypatch, **fields, controls=canny(folder, more))
        return list(dict.fromkeys(tuple(ports.residuals[0].shape[2:]) for _, ports in seen if ports.residuals))

    assert sizes("") == [(24, 16), (48, 32)]
    assert sizes("pass=first") == [(24, 16)]
    assert sizes("pass=second") == [(48, 32)]


def test_the_infotext_generates_the_same_image_again(engine: Engine, folder: Path) -> None:
    controls = (
        f"canny:{folder / 'hint.png'}:0.7 start=0.2 mode=prompt low=40 mask={folder / 'left.png'} layers=1,1,1,1,0.5",
    )
    (image,) = engine.generate(request(controls=controls))
    again = to_request(read(image.infotext))
    (same,) = engine.generate(again)
    assert same.image.tobytes() == image.image.tobytes()
    assert same.infotext == image.infotext
    assert 'model=\\"tiny_canny [' in image.infotext
    resolved = engine.resolve(request(controls=controls))
    assert Resolved.from_json(resolved.to_json()) == resolved


def test_inside_a_mask_an_image_of_any_size_lies_as_on_the_whole(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As A1111 does it: brought to the size of the image to start from, then cut as that is."""
    fields = {"image": str(folder / "hint.png"), "mask": str(folder / "left.png"), "mask_blur": 0, "width": 64}
    fields |= {"height": 192, "inpaint_area": "Only masked", "masked_area_padding": 0}
    with Image.open(folder / "hint.png") as opened:
        opened.resize((128, 192), Image.Resampling.NEAREST).save(folder / "double.png")
        wide = Image.new("RGB", (96, 96))
        wide.paste(opened, (16, 0))
        wide.save(folder / "wide.png")
    (same,), (double,), (wide,) = (
        hints_of(engine, monkeypatch, **fields, controls=(f"canny:{folder}/{name}.png annotator=none",))
        for name in ("hint", "double", "wide")
    )
    assert float((double - same).abs().mean()) < 0.02
    assert torch.equal(wide, same)


def test_an_image_to_start_from_is_the_hint_where_none_is_named(engine: Engine, folder: Path) -> None:
    image = str(folder / "hint.png")
    named = pixels(engine, image=image, controls=(f"canny:{image} annotator=none",))
    assert pixels(engine, image=image, controls=("canny annotator=none",)) == named
    assert pixels(engine, image=image) != named
    with pytest.raises(BadInput, match="reads the one to start from: name one, or give --image"):
        engine.resolve(request(controls=("canny",)))


@pytest.mark.parametrize(
    ("said", "kind", "maker"),
    [
        ("canny", "canny", "canny"),
        ("scribble", "scribble", "scribble_xdog"),
        ("Lineart", "lineart", "lineart_standard"),
        ("pidinet", "softedge", "softedge_pidinet"),
        ("depth_midas", "depth", "depth_midas"),
        ("depth_anything", "depth", "depth_anything"),
        ("softedge_hed", "softedge", "softedge_hed"),
        ("softedge_hedsafe", "softedge", "softedge_hedsafe"),
        ("softedge_pidinet", "softedge", "softedge_pidinet"),
        ("normal_from_depth", "normal", "normal_from_depth"),
        ("lineart_coarse", "lineart", "lineart_coarse"),
        ("t2ia_sketch_pidi", "scribble", "t2ia_sketch_pidi"),
        ("MidasDetector", "depth", "depth_midas"),
    ],
)
def test_an_annotator_is_the_type_that_it_draws(said: str, kind: str, maker: str) -> None:
    control = parse_control(f"{said}:a.png")
    found = kind_of(control)
    assert found is not None
    assert (found.name, maker_of(control).name) == (kind, maker)


@pytest.mark.parametrize("said", ["none", "invert", "threshold", "smell"])
def test_what_draws_nothing_of_its_own_is_of_no_type(said: str) -> None:
    assert kind_of(parse_control(f"{said}:a.png annotator=none")) is None


def test_an_annotator_finds_the_network_of_its_type(engine: Engine, folder: Path) -> None:
    resolved = engine.resolve(request(controls=(f"normal_from_depth:{folder}/hint.png model=tiny_depth",)))
    (own,) = resolved.steering
    assert isinstance(own, ResolvedControl)
    assert (own.type, own.annotator) == ("normal", "normal_from_depth")
    resolved = engine.resolve(request(controls=(f"depth_midas:{folder}/hint.png annotator=none",)))
    (own,) = resolved.steering
    assert isinstance(own, ResolvedControl)
    assert (own.type, own.network.name) == ("depth", "tiny_depth")


def test_what_acts_in_a_second_pass_alone_needs_one(engine: Engine, folder: Path) -> None:
    fields = {"hires_resize": (128, 192), "hires_upscaler": "Latent"}
    assert engine.resolve(request(**fields, controls=canny(folder, "pass=second"))).steering
    example = f"{folder}/hint.png method=example pass=second"
    for name, text in (("controls", canny(folder, "pass=second")), ("references", (example,))):
        with pytest.raises(BadInput, match="pass=second has no effect without a second pass") as caught:
            engine.resolve(request(**{name: text}))
        assert caught.value.field == name


BAD: Mapping[str, str] = {
    "canny:{folder}/none.png": "none.png",
    "canny:{folder}/hint.png model=nowhere": "unknown control 'nowhere'",
    "seg:{folder}/hint.png annotator=none": "seg: there is no network of this type for tiny",
    "canny:{folder}/hint.png annotator=cany": "unknown annotator 'cany'",
    "canny:{folder}/hint.png low=900": "low is 900",
    "canny:{folder}/hint.png lower=9": "there is no option 'lower'",
    "depth:{folder}/hint.png": "its file",
    "canny:{folder}/hint.png model={folder}/hint.png": "hint.png",
    "canny:{folder}/hint.png mask={folder}/no.png": "no.png",
}


@pytest.mark.parametrize("text", BAD)
def test_what_cannot_be_used_is_told_in_one_line(engine: Engine, folder: Path, text: str) -> None:
    with pytest.raises(AtelierError) as caught:
        engine.resolve(request(controls=(text.format(folder=folder),)))
    assert BAD[text] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert caught.value.field == "controls"


def test_a_file_that_changes_is_told(engine: Engine, folder: Path, tiny_folder: Path) -> None:
    path = folder / "ControlNet" / "tiny_mlsd.safetensors"
    written(path, tiny_folder, zero=False)
    control = f"mlsd:{folder / 'hint.png'} annotator=none"
    resolved = engine.resolve(request(controls=(control,)))
    written(path, tiny_folder, zero=True)
    told = list(Engine(CPU, engine.library, HashCache(), version="1").run(resolved))
    assert isinstance(told[-1], Failed)
    assert isinstance(told[-1].error, BadFile)
    assert "has changed since the request was resolved" in str(told[-1].error)
    path.unlink()


def test_it_is_not_read_again_for_the_next_request(engine: Engine, folder: Path) -> None:
    for _ in range(2):
        pixels(engine, controls=canny(folder))
    held = [ref.file.sha256 for ref in engine.resources.cache.held() if ref.file is not None]
    assert len(held) == len(set(held)) > 0


def hints_of(engine: Engine, monkeypatch: pytest.MonkeyPatch, **fields: object) -> list[Tensor]:
    """What the network reads, each once."""
    seen: list[Tensor] = []
    embedded = ControlNet.embedded

    def watched(self: ControlNet, hint: Tensor, task: int | None = None) -> Tensor:
        seen.append(hint)
        return embedded(self, hint, task)

    with monkeypatch.context() as patch:
        patch.setattr(ControlNet, "embedded", watched)
        engine.generate(request(**fields))
    return seen


def as_numbers(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255


def test_images_of_a_batch_have_the_views_that_each_has_alone(engine: Engine, folder: Path) -> None:
    """Three views of two images at once, hint and mask other in each view."""
    fields = {"view_method": "multidiffusion", "view_width": 64, "view_height": 64, "view_overlap": 48, "height": 96}
    controls = canny(folder, f"mask={folder / 'left.png'}")
    both = engine.generate(request(**fields, controls=controls, batch_size=2))
    alone = engine.generate(request(**fields, controls=controls, batch_count=2))
    for one, other in zip(both, alone, strict=True):
        apart = np.abs(np.asarray(one.image, np.int16) - np.asarray(other.image, np.int16))
        assert int(apart.max()) <= 2


def test_a_hint_of_the_image_to_start_from_lies_as_that_does(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stretched with it, whatever the control's own way is; grown with it."""
    image = folder / "hint.png"
    control = ("canny annotator=none resize=crop",)
    (hint,) = hints_of(engine, monkeypatch, image=str(image), controls=control, width=64, height=64)
    with Image.open(image) as opened:
        assert torch.equal(hint[0], as_numbers(opened.resize((64, 64), Image.Resampling.LANCZOS)))
        whole = as_numbers(opened)
    grown = {"image": str(image), "outpaint": "left=64", "width": None, "height": None, "controls": control}
    (hint, *_) = hints_of(engine, monkeypatch, **grown)
    assert hint.shape[2:] == (96, 128)
    assert torch.equal(hint[0, ..., 64:], whole)


def test_where_only_what_a_mask_shows_is_made_a_control_is_cut_with_it(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own mask too."""
    image, left = str(folder / "hint.png"), folder / "left.png"
    fields = {
        "image": image,
        "mask": str(left),
        "mask_blur": 0,
        "inpaint_area": "Only masked",
        "masked_area_padding": 0,
    }
    (hint,) = hints_of(engine, monkeypatch, **fields, controls=canny(folder), width=64, height=192)
    with Image.open(folder / "hint.png") as opened:
        cut = opened.crop((0, 0, 32, 96)).resize((64, 192), Image.Resampling.LANCZOS)
    assert float((hint[0] - as_numbers(cut)).abs().mean()) < 0.1
    ((_, ports), *_) = ports_of(
        engine, monkeypatch, **fields, controls=canny(folder, f"mask={left}"), width=64, height=192
    )
    assert bool(ports.residuals[0].abs().amin(1).gt(0).all())


def test_nothing_is_drawn_without_what_it_takes(engine: Engine, folder: Path) -> None:
    files = {"mlsd": "mlsd_large_512_fp32.pth", "segmentation": "oneformer_ade20k_swin_large"}
    for kind, file in files.items():
        with pytest.raises(BadInput, match=f"its file {file} is not there: put it into the folder annotators"):
            engine.resolve(request(controls=(f"{kind}:{folder / 'hint.png'} model=tiny_canny",)))
    with pytest.raises(BadInput, match="sha256:ab: an image that came with a request is in no infotext"):
        engine.resolve(request(controls=("canny:sha256:ab",)))


def test_an_image_that_is_next_to_a_line_is_refused(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atelier.vision.hints.MOST_PIXELS", 100_000)  # the usual ones take seconds
    path = folder / "line.png"
    Image.new("RGB", (1, 8000)).save(path)
    made = list(engine.events(request(controls=(f"canny:{path}",), width=512, height=512)))
    assert isinstance(made[-1], Failed)
    assert "cannot cover 512x512: cut it" in str(made[-1].error)
