"""Infotexts as strangers have them: put into one line, wrapped, announced, in other encodings, with lists in place of
names. What is right was written down by hand from what each text says."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from atelier.cli.app import run
from atelier.cli.regenerate import Original
from atelier.diffusion.catalogue import resolve_sampler
from atelier.errors import BadFile, BadInput
from atelier.request.infotext import Settings, interpret, read, to_request, without_effect, write
from atelier.request.infotext.image import read_image, save_options

LINE = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"
FOREST = "une forêt 森 🌲"


def said(text: str) -> tuple[str, str, int | None, int | None]:
    """Prompt, negative prompt, steps, seed."""
    settings = interpret(read(text)).settings
    return settings.prompt, settings.negative_prompt, settings.steps, settings.seed


def graph_saying(text: str, **more: object) -> dict[str, object]:
    """A graph of ComfyUI."""
    inputs = {"seed": 1, "steps": 20, "positive": ["6", 0], **more}
    return {
        "3": {"class_type": "KSampler", "inputs": inputs},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": text}},
    }


def notes(*more: str, prompt: str = "a cat") -> tuple[str, ...]:
    return without_effect(read(", ".join((f"{prompt}\n{LINE}", *more))))


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        (f"photo: a cat on a mat, evening Negative prompt: blurry, dark {LINE}", "photo: a cat on a mat, evening", 1),
        (f"Parameters   : photo: a cat, evening Negative prompt: blurry, dark {LINE}", "photo: a cat, evening", 1),
        (f"User Comment   : photo: a cat, evening Negative prompt: blurry, dark {LINE}", "photo: a cat, evening", 1),
        (f"Prompt: photo: a cat, evening Negative prompt: blurry, dark {LINE}", "photo: a cat, evening", 1),
        (f"parameters : a cat Negative prompt: blurry, dark {LINE}", "a cat", 1),
        (f"photo: a cat, evening. Negative prompt: blurry, dark. {LINE}", "photo: a cat, evening", 1),
        (f"photo: a cat, negative prompt: blurry, dark {LINE}", "photo: a cat,", 1),
        (f"Negative prompt: blurry, dark {LINE}", "", 1),
        (f"Parameters   : Negative prompt: blurry, dark {LINE}", "", 1),
        (f"photo: a cat, evening {LINE}", "photo: a cat, evening", 0),
        (f"style: oil, by: someone, mood: dark {LINE}", "style: oil, by: someone, mood: dark", 0),
        (f"style: oil, by: someone, mood: dark, {LINE}", "style: oil, by: someone, mood: dark,", 0),
        (
            f"photo: a, Size: big, Model: b, c Negative prompt: blurry, dark {LINE}",
            "photo: a, Size: big, Model: b, c",
            1,
        ),
        (f"photo: a, Steps: up, Seed: b Negative prompt: blurry, dark {LINE}", "photo: a, Steps: up, Seed: b", 1),
        (f"a cat\\nNegative prompt: blurry, dark\\n{LINE}", "a cat", 1),
        (f"photo: a, b\\nNegative prompt: blurry, dark\\n{LINE}", "photo: a, b", 1),
        (f"Prompt: a cat, black, Negative prompt: blurry, dark {LINE}", "a cat, black,", 1),
    ],
)
def test_texts_of_one_line(text: str, prompt: str, negative: int) -> None:
    assert said(text) == (prompt, "blurry, dark" if negative else "", 20, 1)


def test_a_line_that_begins_with_another_key_is_still_parameters() -> None:
    text = "a cat\nSampler: Euler a, Hires steps: 5, Refiner Steps: 6, Steps: 20, Seed: 1"
    assert said(text) == ("a cat", "", 20, 1)
    assert said('a cat\nSeed: 1, Template: "x Steps: 3", Steps: 20') == ("a cat", "", 20, 1)


@pytest.mark.parametrize(
    "header",
    [
        *("parameters: ", "parameters\n", "Parameters:\n", "prompt: ", "PROMPT: ", "Prompt:\n", "Prompt\n"),
        *("Positive prompt: ", "UserComment: "),
    ],
)
@pytest.mark.parametrize("negative", ["", "\nNegative prompt: b", "\nNegative Prompt: b", "\nnegative prompt : b"])
def test_a_word_that_announces_a_prompt_is_taken_off(header: str, negative: str) -> None:
    text = f"{header}picture of a cat{negative}\n{LINE}"
    assert said(text) == ("picture of a cat", "b" if negative else "", 20, 1)


def test_a_word_alone_announces_nothing_where_nothing_follows_but_text() -> None:
    assert (read("prompt: a cat").prompt, read("Prompt\na cat").prompt) == ("a cat", "Prompt\na cat")


@pytest.mark.parametrize(
    "lines",
    [
        ("Steps: 20, Sampler: Euler", "a, CFG scale: 7, Seed: 1,", "Size: 512x512"),
        ("Steps: 20, Sampler: Euler a, CFG", "scale: 7, Seed: 1, Size: 512x512"),
        ("Steps: 20, Sampler: Euler a, CFG scale:", "7, Seed: 1, Size: 512x512"),
        ('Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Lora hashes: "a: 12,', 'b: 34", Model: m'),
    ],
)
def test_parameters_that_are_broken_between_words(lines: tuple[str, ...]) -> None:
    found = read("\n".join(("a cat", "Negative prompt: b", *lines)))
    assert said("\n".join(("a cat", "Negative prompt: b", *lines, "Template: x"))) == ("a cat", "b", 20, 1)
    assert (found.prompt, found.negative_prompt) == ("a cat", "b")
    settings = interpret(found).settings
    assert (settings.sampler, settings.cfg_scale, settings.size) == ("Euler a", 7, (512, 512))


@pytest.mark.parametrize("behind", ["posted: by me, 2023", "Model: I made it: myself", "Seed", ""])
def test_a_line_behind_that_is_no_more_of_them_stays_behind(behind: str) -> None:
    found = read(f"a cat\n{LINE}\n{behind}")
    assert (found.get("Size"), found.get("Text behind")) == ("512x512", behind or None)


@pytest.mark.parametrize(
    "text",
    [
        f"> a cat\n> Negative prompt: b\n> {LINE}",
        f"a cat\rNegative prompt: b\r{LINE}",
        "a cat\rNegative prompt: b\r" + LINE.replace(", ", "\r"),
        "a cat\nNegative prompt: b\nsteps: 20, sampler: Euler a, cfg scale: 7, seed: 1, size: 512x512",
        "a cat\nNegative prompt: b\nSteps : 20, Sampler : Euler a, CFG scale : 7, Seed : 1, Size : 512*512",
        f"```\na cat\nNegative prompt: b\n{LINE}\n```",
        f"```text\na cat\nNegative prompt: b\n{LINE}\n```\nwith love",
        f"```a cat\nNegative prompt: b\n{LINE}```",
        json.dumps({"parameters": f"a cat\nNegative prompt: b\n{LINE}"}),
        json.dumps({"info": f"a cat\nNegative prompt: b\n{LINE}", "items": {}}),
        json.dumps({"images": [], "info": json.dumps({"infotexts": [f"a cat\nNegative prompt: b\n{LINE}"]})}),
        "\n".join(
            (
                "ExifTool Version Number         : 12.40",
                "File Name                       : a.png",
                f"Parameters                      : a cat.Negative prompt: b.{LINE}",
                "Megapixels                      : 0.3",
            )
        ),
    ],
)
def test_what_is_wrapped_around_a_text(text: str) -> None:
    assert said(text) == ("a cat", "b", 20, 1)
    assert interpret(read(text)).settings.size == (512, 512)


@pytest.mark.parametrize("template", ["a {b|c} ```", "```", "```\n```", "x\n```", "```x```"])
def test_a_template_keeps_its_backticks(template: str) -> None:
    settings = Settings(prompt="a cat", steps=20, sampler="Euler", seed=1, template=template)
    assert interpret(read(write(settings))).settings.template == template


def test_an_exiftool_line_may_hold_a_graph() -> None:
    graph = graph_saying("a cat")
    assert said(f"Prompt                          : {json.dumps(graph)}") == ("a cat", "", 20, 1)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with these chunks (kind, data)."""
    info = PngInfo()
    for kind, data in chunks:
        info.add(kind, data)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("raw", "prompt"),
    [
        (FOREST.encode(), FOREST),
        ("une forêt".encode(), "une forêt"),
        ("une forêt".encode("latin-1"), "une forêt"),
        ("Ã© forêt".encode("latin-1"), "Ã© forêt"),
    ],
)
def test_text_chunks_hold_utf_8_or_latin_1(raw: bytes, prompt: str) -> None:
    text = raw + f"\n{LINE}".encode()
    plain, packed = (b"tEXt", b"parameters\0" + text), (b"zTXt", b"parameters\0\0" + zlib.compress(text))
    for chunk in (plain, packed):
        found = read_image(png(chunk))
        assert found is not None
        assert found.prompt == prompt


def test_a_chunk_of_latin_1_that_would_be_read_as_utf_8_is_not_written() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", **save_options("PNG", f"Ã©\n{LINE}"))
    found = read_image(buffer.getvalue())
    assert found is not None
    assert found.prompt == "Ã©"


@pytest.mark.parametrize("raw", [f"{FOREST}\n{LINE}".encode(), f"une forêt\n{LINE}".encode("latin-1")])
def test_comments_and_exif_hold_utf_8_or_latin_1(raw: bytes) -> None:
    image, exif = Image.new("RGB", (8, 8)), Image.Exif()
    exif[0x9286] = b"ASCII\0\0\0" + raw
    for options in ({"comment": raw}, {"exif": exif}):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", **options)
        found = read_image(buffer.getvalue())
        assert found is not None
        assert found.prompt in {FOREST, "une forêt"}


def test_a_graph_in_exif_holds_utf_8() -> None:
    graph = graph_saying(FOREST)
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0110] = b"prompt:" + json.dumps(graph, ensure_ascii=False).encode()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", exif=exif)
    found = read_image(buffer.getvalue())
    assert found is not None
    assert found.prompt == FOREST


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_files_of_windows(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(f"{FOREST}\r\n{LINE}".encode(encoding))
    assert Original.read(path).infotext.prompt == FOREST
    path.write_bytes(b"\xff\xfea")
    with pytest.raises(BadFile, match=r"is no text in UTF-16 \(byte 2\): save it as UTF-8"):
        Original.read(path)


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("sample_dpmpp_2m", "DPM++ 2M"),
        ("sample_dpmpp_sde", "DPM++ SDE"),
        ("sample_euler_ancestral", "Euler a"),
        ("sample_dpm_2_ancestral", "DPM2 a"),
        ("sample_lms", "LMS"),
    ],
)
def test_samplers_of_early_comfyui(name: str, sampler: str) -> None:
    graph = graph_saying("a cat", sampler_name=name)
    settings = interpret(read(json.dumps(graph))).settings
    assert resolve_sampler(settings.sampler, settings.scheduler)[0].name == sampler


@pytest.mark.parametrize(
    ("hashes", "model", "digits"),
    [
        ('{"model": "c0d1994c73"}', None, "c0d1994c73"),
        ('{"Model:tiny": "c0d1994c73", "vae": "1234567890"}', "tiny", "c0d1994c73"),
        ('{"model:sub/tiny": "c0d1994c73"}', "sub/tiny", "c0d1994c73"),
        ('{"model": "?"}', None, None),
        ('{"vae": "c0d1994c73"}', None, None),
    ],
)
def test_the_model_of_a_list(hashes: str, model: str | None, digits: str | None) -> None:
    found = to_request(read(f"a cat\n{LINE}, Hashes: {hashes}"))
    assert (found.model, found.model_hash) == (model, digits)
    said_apart = to_request(read(f"a cat\n{LINE}, Model hash: 1111111111, Model: m, Hashes: {hashes}"))
    assert (said_apart.model, said_apart.model_hash) == ("m", "1111111111")


CIVITAI = (
    'Civitai resources: [{"type":"checkpoint","modelVersionId":12,"modelName":"Big"},'
    '{"type":"lora","modelVersionId":13,"modelName":"Nice Lora","weight":1}]'
)


def test_networks_of_lists_without_a_tag_are_told() -> None:
    assert notes('Lora hashes: "x: 123456789abc"') == ("Lora hashes",)
    assert notes('TI hashes: "x: 123456789abc"') == ("TI hashes",)
    assert notes('Hashes: {"model": "c0d1994c73", "LORA:sub/x": "123456"}') == ("Hashes",)
    assert notes('Hashes: {"embed:x": "123456"}', prompt="<lora:x:1>") == ("Hashes",)
    assert notes(CIVITAI) == ("Civitai resources",)


@pytest.mark.parametrize(
    "line",
    ['Lora hashes: "x: 123456789abc"', 'Hashes: {"lora:sub/x": "123456"}', 'Hashes: {"vae:v": "123456"}', CIVITAI],
)
def test_networks_with_a_tag_are_told_by_the_tag_alone(line: str) -> None:
    assert notes(line, prompt="a <lora:X:0.5> cat") == ()


def test_a_model_that_a_number_alone_names_is_told() -> None:
    (note,) = interpret(read(f"a cat\n{LINE}, {CIVITAI}")).warnings
    assert note == "Civitai resources: no file is found by the number 12 of the model 'Big', choose one"
    for named in ("Model: m", "Model hash: c0d1994c73", 'Hashes: {"model": "c0d1994c73"}'):
        assert interpret(read(f"a cat\n{LINE}, {named}, {CIVITAI}")).warnings == ()


@pytest.mark.parametrize("text", ["Postprocess upscale by: 2, Postprocess upscaler: R-ESRGAN 4x+", "Postprocess a: 2"])
def test_what_was_done_later_is_no_prompt(text: str) -> None:
    with pytest.raises(BadInput, match="infotext: there is no prompt in it, only Postprocess"):
        to_request(read(text))
    assert to_request(read(text), {"prompt": "a dog"}).prompt == "a dog"
    behind = read(f"a cat\n{LINE}\n{text}")
    undone = () if "upscaler" in text else ("Postprocess a",)
    assert (behind.prompt, behind.get("Size"), without_effect(behind)) == ("a cat", "512x512", undone)


def test_what_was_done_later_may_be_a_chunk_of_its_own() -> None:
    later = (b"tEXt", b"postprocessing\0Postprocess upscale by: 2, Postprocess upscaler: None")
    both, alone = (
        read_image(png(*chunks)) for chunks in (((b"tEXt", f"parameters\0a cat\n{LINE}".encode()), later), (later,))
    )
    assert both is not None
    assert alone is not None
    assert (both.prompt, both.get("Size"), without_effect(both)) == ("a cat", "512x512", ())
    assert (alone.prompt, without_effect(alone)) == ("", ())
    asked = to_request(both).postprocess
    assert asked is not None
    assert (asked.upscale_by, asked.upscaler) == (2.0, "None")


def test_wires_to_nodes_that_are_not_there_are_told() -> None:
    inputs: dict[str, object] = {"seed": ["77", 0], "steps": 20, "positive": ["6", 0], "size": [512, 512]}
    found = read(json.dumps({"3": {"class_type": "KSampler", "inputs": inputs}}))
    assert interpret(found).warnings == (
        "seed of node 3 (KSampler) comes from node 77, which is not there",
        "positive of node 3 (KSampler) comes from node 6, which is not there",
    )


def test_an_image_that_a_graph_starts_from_is_told() -> None:
    graph = {
        "3": {"steps": 20, "positive": ["6", 0], "latent_image": ["8", 0], "denoise": 0.5},
        "6": {"text": "a cat"},
        "8": {"pixels": ["9", 0]},
        "9": {"image": "photo.png"},
    }
    kinds = {"3": "KSampler", "6": "CLIPTextEncode", "8": "VAEEncode", "9": "LoadImage"}
    found = read(json.dumps({at: {"class_type": kinds[at], "inputs": inputs} for at, inputs in graph.items()}))
    assert (without_effect(found), found.get("Node VAEEncode")) == (("Node VAEEncode",), "photo.png")


def test_what_invokeai_did_later_is_told() -> None:
    command = '"a cat" -s 50 -S 5 -W 512 -H 512 -C 7.5 -A k_lms -G 0.8 -U 2 0.75 -I in.png --hires_fix'
    assert without_effect(read(command)) == ("Face restoration", "Init image", "Upscale", "Hires fix")
    image: dict[str, object] = {
        "prompt": "a cat",
        "steps": 5,
        "seed": 1,
        "type": "img2img",
        "variations": [[5, 0.1]],
        "hires_fix": True,
    }
    image |= {"postprocessing": [{"type": "gfpgan"}, {"type": "esrgan", "scale": 2}]}
    found = read(json.dumps({"app_id": "invoke-ai/InvokeAI", "image": image}))
    assert without_effect(found) == ("Init image", "Variations", "Hires fix", "Postprocess")
    assert found.get("Postprocess") == "gfpgan, esrgan"


def test_sd_next_says_where_guidance_ends() -> None:
    assert (notes("CFG end: 0.8"), notes("CFG end: 1.0")) == (("CFG end",), ())


def test_samplers_that_read_the_ends_of_a_schedule_keep_it_where_the_program_does() -> None:
    line = LINE.replace("Euler a", "DPM fast") + ", Schedule type: Simple"
    schedules = [interpret(read(f"a cat\n{line}{end}")).settings.scheduler for end in ("", ", Version: atelier-0.1.0")]
    assert schedules == [None, "Simple"]
    assert interpret(read(f"a cat\n{line}, Version: ComfyUI")).settings.scheduler == "Simple"


def test_a_schedule_for_dpm_fast_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.png"
    asked = ["generate", "a cat", "--sampler", "DPM fast", "--scheduler", "Normal", "--steps", "2", "--seed", "1"]
    assert run([*asked, "-o", str(out)]) == 0
    assert run(["generate", "--from", str(out), "--verify", "-o", str(tmp_path / "y.png")]) == 0
    assert "equal: every pixel" in capsys.readouterr().out
