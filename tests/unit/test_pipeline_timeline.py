"""When which text acts: what a network is shown at each call, against A1111's rules written out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from atelier.runtime.engine import Engine
from pipeline_support import engine_on, planned, shown


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return engine_on(tiny_folder)


def texts(engine: Engine, **fields: object) -> list[list[str]]:
    return shown(engine, planned(engine, **{"negative_prompt": "n", "steps": 8, **fields})).texts


def prompts(engine: Engine, **fields: object) -> str:
    """The text of the only part at each call."""
    seen = texts(engine, **fields)
    assert all(negative == "n" for negative, _ in seen)
    return "".join(text for _, text in seen)


@pytest.mark.parametrize(
    ("sampler", "prompt", "expected"),
    [
        ("Euler", "[a:b:3]", "aaaabbbb"),
        ("Euler", "[a:b:0.5]", "aaaaabbb"),
        ("Euler", "[a|b]", "aabababa"),
        ("Euler", "[a|b|c]", "aabcabca"),
        ("DPM++ 2M", "[a:b:3]", "aaaabbbb"),
        ("DPM fast", "[a:b:3]", "aaaabbbb"),
        ("Heun", "[a:b:3]", "aaaa" + "b" * 11),
        ("Heun", "[a:b:0.5]", "a" * 9 + "b" * 6),
        ("Heun", "[a|b]", "a" + "ab" * 7),
    ],
)
def test_a_text_acts_at_its_calls(engine: Engine, sampler: str, prompt: str, expected: str) -> None:
    """The entry in use is the first that does not end before the number of calls made; Heun's last step is one call."""
    assert prompts(engine, sampler=sampler, prompt=prompt) == expected


def test_a_sampler_of_any_number_of_calls_keeps_its_last_text(engine: Engine) -> None:
    seen = prompts(engine, sampler="DPM adaptive", prompt="[a:b:3]")
    assert len(seen) > 8
    assert seen == "aaaa" + "b" * (len(seen) - 4)


def test_before_a1111_1_6_a_number_is_a_step_and_below_1_a_share(engine: Engine) -> None:
    assert prompts(engine, prompt="[a:b:2.5]", sampler="Euler", old_timelines=True) == "aaabbbbb"
    assert prompts(engine, prompt="[a:b:0.5]", sampler="Euler", old_timelines=True) == "aaaaabbb"


def test_the_negative_prompt_has_a_timeline_too(engine: Engine) -> None:
    seen = texts(engine, prompt="p", negative_prompt="[a:b:3]", sampler="Euler")
    assert seen == [["a", "p"]] * 4 + [["b", "p"]] * 4


def test_each_part_of_and_has_its_own(engine: Engine) -> None:
    seen = texts(engine, prompt="[a:b:1] AND c AND [d|e]", sampler="Euler", steps=4)
    assert seen == [["n", "a", "c", "d"], ["n", "a", "c", "d"], ["n", "b", "c", "e"], ["n", "b", "c", "d"]]


def test_samples_of_a_batch_follow_their_own(engine: Engine) -> None:
    """Rows: the negative prompts of all samples, then the prompts of all samples."""
    stages = planned(engine, prompt="{[a:b:1]|c}", negative_prompt="n", batch_size=6, max_batch=None, sampler="Euler")
    rows = shown(engine, stages).texts
    assert all(row[:6] == ["n"] * 6 for row in rows)
    samples = list(zip(*(row[6:] for row in rows), strict=True))
    assert set(samples) == {("a", "a", "b"), ("c", "c", "c")}


def test_without_guidance_the_timeline_is_the_same(engine: Engine) -> None:
    assert texts(engine, prompt="[a:b:3]", sampler="Euler", cfg_scale=1) == [["a"]] * 4 + [["b"]] * 4
    mixed = texts(engine, prompt="[a:b:3]", sampler="Euler", ngms=1000)
    assert [row[-1] for row in mixed] == list("aaaabbbb")


@pytest.mark.parametrize(
    ("fields", "rows"),
    [
        ({}, [2, 2, 2, 2]),
        ({"cfg_scale": 1}, [1, 1, 1, 1]),
        ({"ngms": 1000}, [2, 1, 2, 1]),
        ({"ngms": 1000, "ngms_all_steps": True}, [1, 1, 1, 1]),
        ({"skip_early_cfg": 0.5}, [1, 1, 1, 2]),
        ({"prompt": "a AND b"}, [3, 3, 3, 3]),
        ({"sampler": "Euler CFG++", "cfg_scale": 1}, [2, 2, 2, 2]),
    ],
    ids=str,
)
def test_the_negative_prompt_is_asked_only_where_it_counts(
    engine: Engine, fields: dict[str, object], rows: list[int]
) -> None:
    seen = shown(engine, planned(engine, **{"sampler": "Euler", "steps": 4, "prompt": "a", **fields}))
    assert [len(call.x) for call in seen.calls] == rows


def test_a_network_reads_the_time_of_its_sigma(engine: Engine) -> None:
    """Times of a schedule descend from the table's last to near its first."""
    seen = [float(call.t[0]) for call in shown(engine, planned(engine, sampler="Euler", steps=6)).calls]
    assert seen[0] == pytest.approx(999, abs=0.01)
    assert all(a > b for a, b in pairwise(seen))
