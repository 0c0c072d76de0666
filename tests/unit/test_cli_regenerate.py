"""`atelier generate --from`: an image generated again, and what is said where it differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from atelier.cli.app import run
from atelier.request.infotext import pixel_hash, read

LINES = (
    (
        "(stare, realistic, lips, eyelashes:0.75), 1girl [:(detailed face:1.2):0.2], "
        "<lora:stLouisLuxuriousWheels_v1:1>,st. louis \\(luxurious wheels\\) \\(azur lane\\)\n"
        "Negative prompt: (worst quality:1.4), bad\n"
        "Steps: 4, Sampler: DPM++ SDE Karras, CFG scale: 7, Seed: 2555331127, Size: 64x96, Model hash: b4201c7c37, "
        "Denoising strength: 0.6, ENSD: 31337, Hires upscale: 1.75, Hires steps: 10, Hires upscaler: R-ESRGAN 4x+"
    ),
    (
        "a cat [:(detailed face:1.2):0.2], <lora:x:1>\n"
        "Steps: 4, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 3534095324, Size: 96x64, Model hash: 95afa0d9ea, "
        "Model: chilloutmix_NiPrunedFp32, Denoising strength: 0.5, Hires upscale: 2, Hires steps: 6, "
        "Hires upscaler: Latent"
    ),
)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to stand in, one library with the tiny model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_MODELS", str(tiny_folder.parent))
    return tmp_path


@pytest.fixture
def painted(place: Path) -> Path:
    options = "--model tiny --steps 3 --seed 5 --set eta=0.5 --set variation-strength=0.2 --set seed_resize=64x96"
    words = ["generate", "a {red|blue} (cat:1.3)", *options.split(), "--sampler", "Euler a", "-o", "cat.png"]
    assert run(words) == 0
    return place / "cat.png"


def said(path: Path) -> str:
    with Image.open(path) as image:
        return image.info["parameters"]


def test_a_picture_is_painted_again_to_the_last_bit(painted: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["generate", "--from", "cat.png", "--verify", "-o", "again.png"]) == 0
    assert "equal: every pixel is that of cat.png" in capsys.readouterr().out
    with Image.open(painted) as before, Image.open("again.png") as now:
        assert before.tobytes() == now.tobytes()
        assert read(said(painted)).get("Pixel hash") == pixel_hash(now)


def test_a_text_is_painted_again_and_compared_by_its_hash(painted: Path, capsys: pytest.CaptureFixture[str]):
    Path("cat.txt").write_text(said(painted), encoding="utf-8")
    assert run(["generate", "--from", "cat.txt", "--verify", "-o", "again.png"]) == 0
    assert "equal: the pixels have the hash" in capsys.readouterr().out


def test_several_pictures_are_not_compared_and_not_painted(painted: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["generate", "--from", "cat.png", "--verify", "--batch-size", "2", "-o", "two.png"]) == 2
    assert "compares one image, and 2 are asked for" in capsys.readouterr().err
    assert not list(painted.parent.glob("two*"))


def test_what_is_said_replaces_what_the_picture_says(painted: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["generate", "a dog", "--from", "cat.png", "--verify", "--steps", "4", "-o", "dog.png"]) == 1
    out = capsys.readouterr().out
    assert "differs" in out
    assert "of the values differ" in out
    assert "steps: 3 then, 4 now" in out
    assert "then, 'a dog' now" in out
    assert "what is generated now is what was generated then" not in out
    assert "another program" not in out
    assert said(Path("dog.png")).startswith("a dog\n")


def test_a_lossy_copy_is_told_from_another_picture(painted: Path, capsys: pytest.CaptureFixture[str]):
    from atelier.request.infotext.image import save_options

    with Image.open(painted) as image:
        image.save("cat.jpg", quality=60, **save_options("JPEG", said(painted)))
    assert run(["generate", "--from", "cat.jpg", "--verify", "-o", "again.png"]) == 1
    out = capsys.readouterr().out
    assert "its format is lossy" in out
    assert "what is generated now is what was generated then" in out


@pytest.mark.parametrize("line", LINES)
def test_lines_from_the_web_are_painted(line: str, capsys: pytest.CaptureFixture[str]):
    """With the model at hand standing in for theirs."""
    Path("line.txt").write_text(line, encoding="utf-8")
    assert run(["generate", "--from", "line.txt", "-o", "x.png", "--model", "tiny"]) == 2
    refused = "is not there: choose one of Latent, " if "ESRGAN" in line else "is not there: take <lora:"
    assert refused in capsys.readouterr().err
    assert run(["generate", "--from", "line.txt", "-o", "x.png", "--model", "tiny", "--lenient"]) == 0
    told = capsys.readouterr().err
    assert "generated without it" in told
    assert ("hires_upscaler 'R-ESRGAN 4x+' is not there: enlarged with Lanczos" in told) == ("ESRGAN" in line)
    again = read(said(Path("x.png")))
    before = read(line)
    assert (again.prompt, again.negative_prompt) == (before.prompt, before.negative_prompt)
    for key in ("Steps", "Seed", "Size", "ENSD"):
        assert (again.get(key) or "") == (before.get(key) or ""), key
    for key in ("Denoising strength", "Hires upscale", "Hires steps", "Hires upscaler"):
        wanted = before.get(key) or ""
        assert wanted, key
        assert again.get(key) == {"R-ESRGAN 4x+": "Lanczos", "2": "2.0"}.get(wanted, wanted)
    with Image.open("x.png") as image:
        assert image.size == ((112, 168) if "ESRGAN" in line else (192, 128))
    assert run(["generate", "--from", "x.png", "--verify", "--lenient", "-o", "y.png"]) == 0
    assert "equal: every pixel is that of x.png" in capsys.readouterr().out
    assert (again.get("Sampler"), again.get("Schedule type")) == ((before.get("Sampler") or "")[:-7], "Karras")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: None, "cannot be read"),
        (lambda: Image.new("RGB", (8, 8)).save("no.png"), "carries no infotext"),
        (lambda: Path("no.png").write_bytes(b"GIF89a"), "no.png"),
        (lambda: Path("no.txt").write_text(" \n"), "is empty"),
        (lambda: Path("no.txt").write_text("a\nSteps: 99999, Sampler: Euler, CFG scale: 7"), "out of range"),
        (lambda: Path("no.txt").write_text(f"a\nSteps: 9, Sampler: Euler, Seed: {'9' * 28}"), "out of range"),
    ],
)
def test_what_cannot_be_painted_again_is_one_line(
    make: Callable[[], object], told: str, capsys: pytest.CaptureFixture[str]
):
    make()
    name = "no.txt" if Path("no.txt").exists() else "no.png"
    assert run(["generate", "--from", name, "-o", "x.png"]) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.count("\n") == 1
    assert not Path("x.png").exists()


def test_a_picture_is_compared_with_what_it_was_before_it_was_replaced(
    painted: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(["generate", "--from", "cat.png", "--verify", "--set", "eta=0.25", "-o", "cat.png"]) == 1
    out = capsys.readouterr().out
    assert "eta: 0.5 then, 0.25 now" in out
    assert "sampler" not in out


def test_what_cannot_be_done_again_is_told_in_a_line_each(capsys: pytest.CaptureFixture[str]):
    text = "a cat\nSteps: 2, Sampler: Euler, Seed: 5, Size: 64x64, Tiling: True, Model hash: b4201c7c37, VAE: v"
    Path("other.txt").write_text(f"{text}, Denoising strength: 0.4", encoding="utf-8")
    assert run(["generate", "--from", "other.txt", "-o", "x.png"]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 3
    assert notes[0] == "note: VAE v: is not there, so this is generated with the model's own"
    assert "model hash b4201c7c37 was asked for; 'embedded' has" in notes[1]
    assert "denoising_strength: needs an image to start from: name it with --image" in notes[2]
    assert run(["generate", "--from", "other.txt", "-o", "x.png", "--model", "tiny"]) == 0
    assert "b4201c7c37" not in capsys.readouterr().err


def test_what_extensions_did_is_told(painted: Path, capsys: pytest.CaptureFixture[str]):
    extensions = 'VAE: Automatic, ControlNet 0: "Module: canny, Weight: 1", ADetailer model: face.pt'
    text = said(painted).replace(", Version:", f", {extensions}, Version:")
    Path("other.txt").write_text(text, encoding="utf-8")
    assert run(["generate", "--from", "other.txt", "--verify", "--steps", "2", "-o", "x.png"]) == 1
    shown = capsys.readouterr()
    assert "note: ADetailer model: not done yet" in shown.err
    told = "ControlNet 0: its image is in no infotext, so it does not act: give it again, --control 'canny:IMAGE:1"
    assert shown.err.count(told) == 1
    assert "  ControlNet 0, ADetailer model: done then, not now" in shown.out


def test_a_list_of_sigmas_says_how_many_steps_there_are(capsys: pytest.CaptureFixture[str]):
    asked = ["generate", "a", "--model", "tiny", "--seed", "1", "--scheduler", "9, 4, 2, 0.5, 0", "-o", "x.png"]
    assert run([*asked, "--steps", "7", "--sampler", "DPM2"]) == 0
    assert "7 steps are ignored: the list of sigmas has 4" in capsys.readouterr().err
    assert read(said(Path("x.png"))).get("Steps") == "4"
    assert run(["generate", "--from", "x.png", "--verify", "-o", "y.png"]) == 0


def test_comments_are_gone_before_choices_are_made(capsys: pytest.CaptureFixture[str]):
    asked = ["--model", "tiny", "--steps", "2", "--seed", "3", "-o", "x.png"]
    assert run(["generate", "a cat # {red|blue} __nothing__", *asked]) == 0
    assert "nothing" not in capsys.readouterr().err
    found = read(said(Path("x.png")))
    assert (found.prompt.strip(), found.get("Template")) == ("a cat", None)


def test_levels_of_old_versions_are_those_that_are_used():
    asked = ["generate", "a", "--model", "tiny", "--steps", "2", "--seed", "3", "--sampler", "Euler"]
    images: set[bytes] = set()
    for number, change in enumerate(
        ("downcast_alphas=false", "downcast_alphas=true", "noise_schedule=Zero Terminal SNR")
    ):
        assert run([*asked, "--set", change, "--set", "sigma_max=0", "-o", f"{number}.png"]) == 0
        with Image.open(f"{number}.png") as image:
            images.add(image.tobytes())
    assert len(images) == 3


def test_options_that_nothing_reads_are_told(capsys: pytest.CaptureFixture[str]):
    asked = ["generate", "a", "--model", "tiny", "--steps", "2", "--seed", "3", "-o", "x.png"]
    options = ["--set", "eta=0.5", "--set", "rho=5", "--set", "s_churn=1"]
    assert run([*asked, *options, "--sampler", "Euler", "--scheduler", "Uniform"]) == 0
    assert "note: eta, rho: Euler with Uniform has no such option\n" in capsys.readouterr().err
    assert run([*asked, *options[:4], "--sampler", "Euler a", "--scheduler", "Karras"]) == 0
    assert "no such option" not in capsys.readouterr().err
