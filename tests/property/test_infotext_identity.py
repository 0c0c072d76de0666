"""What is written is read back, whatever the prompts hold; and no text makes a reader fail or slow."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atelier.errors import BadInput
from atelier.request.groups import Noise, Prompting
from atelier.request.guidances import SWITCHED
from atelier.request.infotext import Infotext, interpret, read, to_request, without_effect, write
from atelier.request.infotext import settings as infotext_settings
from atelier.request.infotext.dialects.invokeai import read_command
from atelier.request.infotext.image import decode_comment, user_comment
from atelier.request.infotext.keys import ALL_KEYS, BY_NAME, Key, Settings
from atelier.request.infotext.pairs import joined, quoted, split_pairs
from atelier.request.infotext.png_info import filled
from atelier.request.infotext.resources import resources
from atelier.request.infotext.settings import settings_of
from atelier.request.model import Request
from atelier.request.resolved import AsMade, ModelRef, Resolved, SaidSize, Size
from counting import lines_run
from resolved_support import PROVENANCE, RESOLVED, changed, said

NASTY = (
    *"abc ,:\"'\\\n\r\t{}[]()<>|-/.#",
    "\u2028",
    "é",
    "猫",
    "🐈",
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64",
    "\nSteps: 20, Sampler: Euler a, CFG scale: 7",
    "Negative prompt: ",
    "\nNegative prompt: no",
    "\nTemplate: x",
    "\nSampler: x\nModel: y\nSeed: 1",
    "Steps: 1 | Seed: 2 | Size: 3x4",
    "\nTime taken: 1s",
    "Steps: 3,",
    '"quoted, text"',
    'Prompt: "x", Negative prompt: "y"',
    "Prompt: x",
    "```\n",
    "```",
    "> ",
    "\\nSteps: 20, ",
    "photo: ",
    "\nnegative prompt: x",
    "\nPostprocess upscale by: 2",
    '{"sui_image_params": {}}',
    '"a" -s 5 -S 6',
    "Parameters    : ",
    "<lora:x:1>",
    "\\n",
    "  ",
)
TEXTS = st.lists(st.sampled_from(NASTY), max_size=8).map("".join) | st.text(max_size=20)


def nasty(draw: random.Random) -> str:
    return "".join(draw.choice(NASTY) for _ in range(draw.randint(0, 7)))


def some(key: Key, draw: random.Random) -> object:
    low = 0.0 if key.low is None else key.low
    high = low + 1 if key.high is None else key.high
    match key.kind:
        case "int":
            return draw.randint(int(low), int(min(high, 2**63)))
        case "float":
            return draw.choice([low, high, draw.uniform(low, high), round(draw.uniform(low, high), 2)])
        case "flag":
            return draw.choice([True, False])
        case "size":
            return draw.randint(1, 9999), draw.randint(1, 9999)
        case "text":
            return nasty(draw) or "x"


def some_settings(draw: random.Random) -> Settings:
    fields = {key.field: some(key, draw) for key in ALL_KEYS if key.field != "version" and draw.random() < 0.05}
    fields = {k: v for k, v in fields.items() if v != _neutral(k) and not _says_nothing(v)}
    fields |= {one.flag: True for one in SWITCHED if one.flag in fields}  # off, its fields say nothing
    extras = tuple((name, text) for name in ("Some Key", "ControlNet 0") if (text := nasty(draw)))
    return Settings(prompt=nasty(draw), negative_prompt=nasty(draw), extras=extras, **fields)


def _neutral(field: str) -> object:
    return next(key.neutral for key in ALL_KEYS if key.field == field)


def _says_nothing(value: object) -> bool:
    return isinstance(value, str) and not value.strip()


def test_10000_settings_are_read_back_as_they_were_written() -> None:
    draw = random.Random(1)
    for number in range(10_000):
        wanted = some_settings(draw)
        reading = settings_of(read(write(wanted)))
        assert reading.settings == wanted, number
        assert not reading.lies, number


def test_requests_are_read_back_as_they_were_painted() -> None:
    draw = random.Random(2)
    for _ in range(1_000):
        wanted = some_request(draw)
        kept = wanted.noise.resized_from
        text = write(infotext_settings(wanted, 1, wanted.sampling, PROVENANCE))
        got = to_request(read(text))
        assert got == Request(
            prompt=wanted.prompting.prompt,
            negative_prompt=wanted.prompting.negative_prompt,
            model=wanted.model.name,
            model_hash=wanted.model.sha256[:10],
            steps=wanted.sampling.steps,
            sampler=wanted.sampling.sampler,
            scheduler=wanted.sampling.scheduler,
            cfg_scale=wanted.guidance.scale,
            seed=wanted.samples[1].seed,
            noise=Noise(rng=wanted.noise.source, seed_resize=kept.size if isinstance(kept, SaidSize) else None),
            width=wanted.size.width,
            height=wanted.size.height,
            prompting=Prompting(choices=False),
        )
        assert interpret(read(text)).settings.model_hash == wanted.model.sha256[:10]


def some_request(draw: random.Random) -> Resolved:
    size = Size(8 * draw.randint(8, 512), 8 * draw.randint(8, 512))
    worded = said(RESOLVED, nasty(draw), nasty(draw))
    samples = worded.samples[0], worded.samples[1].model_copy(update={"seed": draw.randrange(2**64)})
    return changed(
        worded,
        samples=samples,
        model=ModelRef(name=f"m{nasty(draw).strip()}m", path="somewhere", sha256=f"{draw.getrandbits(256):064x}"),
        batch_size=2,
        size=size,
        noise__source=draw.choice(["portable", "cpu", "nv"]),
        noise__resized_from=draw.choice([AsMade(), SaidSize(size=Size(8 * draw.randint(1, 512), 64))]),
        sampling__steps=draw.randint(1, 1000),
        sampling__sampler=draw.choice(["Euler a", "DPM++ 2M", "DDIM", "DPM++ 2M SDE Heun"]),
        sampling__scheduler=draw.choice(["Karras", "Uniform", "Automatic", "SGM Uniform"]),
        guidance__scale=draw.choice([7.0, 1.0, round(draw.uniform(0, 100), 3)]),
    )


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
@example("", "")
@example(" a ", "b\n")
@example('{"c": 1, "sampler": 2, "steps": 3, "scale": 4}', "")
def test_any_prompts_are_read_back(prompt: str, negative: str) -> None:
    wanted = Settings(prompt=prompt, negative_prompt=negative, steps=20, sampler="Euler", seed=1)
    assert settings_of(read(write(wanted))).settings == wanted
    alone = Settings(prompt=prompt, negative_prompt=negative)
    found = read(write(alone))
    assert (found.prompt, found.negative_prompt) == (prompt, negative)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.from_regex(r"\A[a-zA-Z][a-z0-9 /\-]{1,12}\Z"), TEXTS.filter(str.strip)), max_size=5))
def test_any_pairs_are_read_back(pairs: list[tuple[str, str]]) -> None:
    text = joined((key, value) for key, value in pairs)
    found = [(p.key, p.value) for p in split_pairs(text)]
    assert found == [(key, value) for key, value in pairs]


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_quoting_changes_nothing_that_is_read(text: str) -> None:
    (pair,) = split_pairs(f"Key: {quoted(text or 'x')}")
    assert pair.value == (text or "x")


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=30).map(lambda t: f"Steps {t}"))
def test_user_comments_are_read_back(text: str) -> None:
    assert decode_comment(user_comment(text)[44 + 6 :]).strip("\0\ufeff") == text.strip("\0\ufeff")


@settings(max_examples=300, deadline=None)
@given(TEXTS)
@example("a\nSteps: 1, Sampler: x, Seed: [,")
@example('{"Software": 1, "Comment": [[')
def test_no_text_makes_a_reader_fail(text: str) -> None:
    found = read(text)
    assert isinstance(found, Infotext)
    interpret(found)
    filled(text)
    resources(found)
    read_command(text)
    assert settings_of(read(write(settings_of(found).settings))).settings == settings_of(found).settings


HOSTILE: dict[str, Callable[[int], str]] = {
    "keys": lambda n: "ab: c, " * (n // 7),
    "colons": lambda n: "Steps: 1, Sampler: x, " + ":" * n,
    "quotes": lambda n: 'Steps: 1, Sampler: x, aa: "' + '\\"' * (n // 2),
    "open quotes": lambda n: "Steps: 1, Sampler: x, " + 'aa:"' * (n // 4),
    "brackets": lambda n: "Steps: 1, Sampler: x, aa: " + "[" * n,
    "many brackets": lambda n: "Steps: 1, Sampler: x, " + "aa:[[1," * (n // 7),
    "objects": lambda n: "Steps: 1, Sampler: x, " + 'aa: {"a":' * (n // 9),
    "lines": lambda n: "\n" * n + "x",
    "rows": lambda n: "Seed: 1\n" * (n // 8),
    "bars": lambda n: "Seed: 1|" * (n // 8),
    "open rows": lambda n: 'Seed: "\n' * (n // 8),
    "followed": lambda n: "Steps: 1, Seed: 2, Size: 3, x: " * (n // 31) + "\nx",
    "followed lines": lambda n: "Steps: 1, Seed: 2, Size: 3\n" * (n // 27) + "x",
    "wrapped lines": lambda n: "Seed: 2, Size: 3, aa: 1,\n" * (n // 25),
    "open lists": lambda n: "Steps: 1, Seed: 2, " + "aa: [1, " * (n // 8),
    "long list": lambda n: "Steps: 1, Seed: 2, aa: [" + "1, " * (n // 3),
    "comma lines": lambda n: "Steps: 1, Seed: 2, Size: 3,\nx\n" * (n // 30) + "x",
    "glued": lambda n: "x Steps: 1, Seed: 2 " * (n // 20),
    "negatives": lambda n: "Negative prompt: a\n" * (n // 19),
    "templates": lambda n: "Steps: 1, Seed: 2, Size: 3\n" + "Template: x\n" * (n // 12),
    "spaces": lambda n: "Steps:" + " " * n + "1, Seed: 2",
    "words": lambda n: "a " * (n // 2) + ": x, Steps: 1",
    "dashes": lambda n: "Steps: 1, Seed: 2, Size: 3, " + "- " * (n // 2) + ":",
    "dream": lambda n: '"' + "a [" * (n // 3) + '" -s 5 -S 6',
    "backslashes": lambda n: 'Steps: 1, Seed: 2, Size: 3, aa: "' + "\\" * n,
    "dream spaces": lambda n: '"[x]' + " " * n + 'y" -s 50 -S 1',
    "hash spaces": lambda n: 'p\nSteps: 20, Sampler: Euler a, Seed: 5, Size: 64x64, "a: 123456,' + " " * n + '"',
    "title spaces": lambda n: 'p\nSteps: 20, Sampler: Euler a, Seed: 5, Size: 64x64, Model: "a' + " " * n + 'b"',
    "flattened": lambda n: "a: b, c Negative prompt: d, " * (n // 28) + "Steps: 1, Seed: 2, Size: 3",
    "steps inside": lambda n: "a: b, c Steps: 1, " * (n // 18),
    "spaces before steps": lambda n: "Sampler: x, " + (" " * 60 + "Steps: 1, ") * (n // 70),
    "broken": lambda n: "Steps: 1, Seed: 2, Size:\n" * (n // 25) + "3x3, Model: m",
    "broken tail": lambda n: "Steps: 1, Seed: 2, Size: 3, a\n" + "b, Model: c\n" * (n // 12) + "d",
    "quotation": lambda n: "> a\n" * (n // 4),
    "fences": lambda n: "```\n" * (n // 4) + "a",
    "listing": lambda n: "ExifTool Version Number  : 1\n" + "Comment  :a\n" * (n // 12),
    "listing spaces": lambda n: "ExifTool Version Number" + " " * n,
    "announced": lambda n: "prompt:" + " " * n + "x\nSteps: 1, Seed: 2",
    "written out": lambda n: "a\\nSteps: 1, Seed: 2" * (n // 21),
    "later": lambda n: "Postprocess a: 1\n" * (n // 17) + "Postprocess a: 1, " * 5,
    "hashes": lambda n: 'a\nSteps: 1, Seed: 2, Hashes: {"lora:' + "a" * n + '": "12345678"}',
    "tags": lambda n: "<lora:a" * (n // 7) + '\nSteps: 1, Seed: 2, Lora hashes: "a: 123456"',
    "digits": lambda n: "Steps: " + "1" * n + ", Seed: 2, Size: 3x" + "4" * n,
}


def _requested(text: str) -> None:
    with suppress(BadInput):
        to_request(read(text))


def _written(text: str) -> None:
    write(settings_of(read(text)).settings)


def _told(text: str) -> None:
    found = read(text)
    without_effect(found)
    interpret(found)


PARSERS: dict[str, Callable[[str], object]] = {
    "told": _told,
    "read": read,
    "filled": filled,
    "request": _requested,
    "write": _written,
}


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_twice_the_text_takes_at_most_two_and_a_half_times_the_work(parser: str, kind: str) -> None:
    make, call = HOSTILE[kind], PARSERS[parser]
    small, large = lines_run(call, make(3_000)), lines_run(call, make(6_000))
    assert large <= 2.5 * small + 1_000


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_20000_characters_raise_nothing(parser: str, kind: str) -> None:
    PARSERS[parser](HOSTILE[kind](20_000))


def test_the_name_of_every_key_finds_it() -> None:
    assert all(BY_NAME[key.name.casefold()] is key for key in ALL_KEYS)


def test_settings_do_not_share_what_they_hold() -> None:
    assert replace(Settings(prompt="a"), steps=1) == Settings(prompt="a", steps=1)
