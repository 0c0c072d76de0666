"""`atelier generate` from a folder of images, and from its own images again."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from atelier.cli.app import run
from atelier.cli.many import Strengths
from atelier.request.infotext import interpret
from atelier.request.infotext.image import read_image
from atelier.runtime.images import reference_to


@pytest.fixture(autouse=True)
def place(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to stand in, with images to start from, one library with the tiny model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_MODELS", str(tiny_folder.parent))
    monkeypatch.setenv("ATELIER_DTYPE", "fp32")
    monkeypatch.setenv("ATELIER_DEVICE", "cpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, colour in (("in/a.png", "red"), ("in/c.jpg", "blue"), ("masks/a.png", "white")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), colour).save(tmp_path / name)
    return tmp_path


def generate(*arguments: str) -> int:
    return run(["generate", "a red cat", "--model", "tiny", "--steps", "2", "--seed", "7", *arguments])


def hash_of(path: Path) -> str | None:
    found = read_image(path.read_bytes())
    assert found is not None
    return interpret(found).settings.init_image_hash


def test_a_folder_gives_an_image_of_each_and_names_the_bad_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "in" / "b.png").write_text("no image")
    (place / "in" / "notes.txt").write_text("passed over")
    assert generate("--image", "in", "--strength", "0.5") == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["outputs/00001-7.png", "outputs/00002-7.png"]
    told = [line for line in shown.err.splitlines() if line.startswith("atelier: ")]
    assert told[0].startswith("atelier: in/b.png: is no image that can be read")
    assert told[1:] == ["atelier: 1 of 3 images failed"]
    hashes = [hash_of(place / "outputs" / f"0000{i}-7.png") for i in (1, 2)]
    assert hashes == [reference_to(f"in/{name}").sha256[:10] for name in ("a.png", "c.jpg")]


def test_a_folder_of_masks_has_one_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--image", "in", "--mask", "masks") == 1
    shown = capsys.readouterr()
    assert shown.out == "outputs/00001-7.png\n"
    assert "atelier: masks/c.jpg: does not exist" in shown.err
    assert "atelier: 1 of 2 images failed" in shown.err


def test_all_good_is_0_and_what_concerns_every_image_is_said_once(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("--image", "in") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert generate("--image", "in", "--sampler", "nobody") == 2
    assert capsys.readouterr().err.count("nobody") == 1
    (place / "none").mkdir()
    assert generate("--image", "none") == 2
    assert "none: holds no images" in capsys.readouterr().err


def test_several_images_go_into_no_single_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "atelier: --output x.png: is one file, which each image would replace: name a folder\n"
    for options in (("in/a.png", "--loops", "2"), ("in",)):
        assert generate("--image", *options, "--output", "x.png") == 2
        assert capsys.readouterr().err == said
    assert generate("--image", "in/a.png", "--strength-curve", "lazy") == 2
    assert capsys.readouterr().err.startswith("atelier: --strength-curve is the way to --last-strength: give it")


def test_an_image_from_another_in_two_passes_asks_for_that_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--image", "in/a.png", "--hires", "1", "--output", "made.png") == 0
    capsys.readouterr()
    assert run(["generate", "--from", "made.png", "--output", "again.png"]) == 0
    said = "note: Init image hash: made from another image: name it with --image, or it begins with noise alone\n"
    assert capsys.readouterr().err.startswith(said)
    assert run(["generate", "--from", "made.png", "--image", "in/a.png", "--verify"]) == 0
    assert "note" not in capsys.readouterr().err


def test_loops_go_on_from_what_came_before(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--image", "in/a.png", "--loops", "3") == 0
    paths = [place / line for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in paths] == ["00001-7.png", "00002-8.png", "00003-9.png"]
    sources = [place / "in" / "a.png", *paths[:2]]
    assert [hash_of(path) for path in paths] == [reference_to(str(path)).sha256[:10] for path in sources]


@pytest.mark.parametrize(
    ("options", "size"),
    [((), (64, 96)), (("--hires", "1.5"), (96, 144)), (("--inpaint-area", "Only masked"), (60, 50))],
)
def test_a_mask_stays_where_it_is_in_all_loops(
    place: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], size: tuple[int, int]
) -> None:
    """A drawing on a transparent ground, of an image that has another size than what is made of it."""
    Image.new("RGB", (60, 50), "red").save("odd.png")
    drawn = Image.new("RGBA", (60, 50))
    drawn.paste("black", (0, 0, 30, 50))
    drawn.save("odd-mask.png")
    sides = ("--width", "64", "--height", "96", "--mask-blur", "0", "--masked-content", "latent nothing")
    assert generate("--image", "odd.png", "--mask", "odd-mask.png", "--loops", "2", *sides, *options) == 0
    first, second = (Image.open(place / line) for line in capsys.readouterr().out.splitlines())
    assert first.size == second.size == size
    across = size[0] * 3 // 4
    assert {image.getpixel((across, 20)) for image in (first, second)} == {(255, 0, 0)}
    assert first.crop((0, 0, size[0] // 4, 20)).tobytes() != second.crop((0, 0, size[0] // 4, 20)).tobytes()


def test_what_is_under_a_mask_is_filled_in_the_first_loop_alone(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the mask is what the image shows through, which no image that was made does."""
    hole = Image.new("RGBA", (64, 64), "red")
    hole.paste((0, 0, 0, 0), (0, 0, 32, 64))
    hole.save("hole.png")
    filled = ("--masked-content", "latent nothing", "--mask-blur", "0")
    assert generate("--image", "hole.png", "--mask", "alpha", "--loops", "2", *filled) == 0
    paths = [place / line for line in capsys.readouterr().out.splitlines()]
    found = [read_image(path.read_bytes()) for path in paths]
    said = [interpret(text).settings.masked_content for text in found if text is not None]
    assert said == ["latent nothing", None]
    assert [Image.open(path).getpixel((48, 32)) for path in paths] == [(255, 0, 0)] * 2


def test_loops_take_the_next_seed_wherever_the_first_came_from(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last one: a seed that is drawn is drawn once."""
    assert generate("--image", "in/a.png", "--seed", "11") == 0
    (made,) = capsys.readouterr().out.splitlines()
    again = ("--model", "tiny", "--loops", "2", "--output", "again")
    assert run(["generate", "--from", made, "--image", "in/a.png", *again]) == 0
    names = [Path(line).stem.split("-")[1] for line in capsys.readouterr().out.splitlines()]
    assert names == ["11", "12"]
    assert generate("--image", "in/a.png", "--loops", "2", "--seed", "-1", "--output", "drawn") == 0
    first, second = (int(Path(line).stem.split("-")[1]) for line in capsys.readouterr().out.splitlines())
    assert second == (first + 1) % 2**64


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ("Linear", [0.8, 0.65, 0.5]),
        ("Aggressive", [0.8, 0.8 - 0.3 * 0.70710678, 0.5]),
        ("Lazy", [0.8, 0.8 - 0.3 * 0.29289322, 0.5]),
    ],
)
def test_the_strength_goes_along_a_curve(
    place: Path, capsys: pytest.CaptureFixture[str], curve: str, expected: list[float]
) -> None:
    """A1111's: of a third of the way by sin and cos of 45 degrees."""
    loops = ("--loops", "3", "--strength", "0.8", "--last-strength", "0.5", "--strength-curve", curve.lower())
    assert generate("--image", "in/a.png", *loops) == 0
    found = [read_image((place / line).read_bytes()) for line in capsys.readouterr().out.splitlines()]
    said = [interpret(text).settings.denoising_strength for text in found if text is not None]
    assert said == pytest.approx(expected, abs=1e-6)


def test_the_strength_of_an_infotext_is_where_the_curve_begins(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--image", "in/a.png", "--strength", "0.4", "--output", "made.png") == 0
    capsys.readouterr()
    loops = ("--loops", "2", "--last-strength", "0.2")
    assert run(["generate", "--from", "made.png", "--image", "in/a.png", "--model", "tiny", *loops]) == 0
    found = [read_image((place / line).read_bytes()) for line in capsys.readouterr().out.splitlines()]
    assert [interpret(text).settings.denoising_strength for text in found if text is not None] == [0.4, 0.2]


def test_without_a_strength_the_curve_begins_at_the_usual_one() -> None:
    assert Strengths(0.25).of(1, 3, None) == {"denoising_strength": 0.5}
    assert Strengths().of(1, 3, 0.9) == {}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--last-strength", "0.5", "--image", "in/a.png"), "--last-strength is that of the last loop: give --loops"),
        (("--loops", "2"), "--loops needs an image"),
        (("--image", ""), "atelier: image is empty: say which, or leave it out"),
        (("--image", "in", "--mask", ""), "atelier: mask is empty: say which, or leave it out"),
        (("--loops", "2", "--image", "in/a.png", "--batch-size", "2"), "--loops follows one image, and 2 are asked"),
        (("--image", "in", "--from", "in/a.png", "--verify"), "carries no infotext"),
    ],
)
def test_bad_input(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str) -> None:
    assert generate(*arguments) == 2
    assert told in capsys.readouterr().err
