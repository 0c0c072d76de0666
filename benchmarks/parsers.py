"""How long the parsers take on hostile texts, and how that grows.

    python benchmarks/parsers.py

Every generator of the tests of linear time (tests/property) makes texts of 8,000 and 16,000 characters. A parser may
take 50 ms of processor time for the longer one, and at most 2.5 times as long as for the shorter. The two run in turn,
and the best of nine runs counts, of more where these miss a bound, since other work on the machine only adds time;
times under a millisecond are not compared. Prints one JSON object.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import needs
from harness import machine

TESTS = Path(__file__).parents[1] / "tests" / "property"
LENGTHS = 8_000, 16_000
ROUNDS, TRIES = 9, 6
BOUND_SECONDS, BOUND_RATIO, TOO_SHORT = 0.050, 2.5, 0.001


def main() -> None:
    needs.modules("pytest", "hypothesis")
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]
    import test_infotext_identity as infotexts
    import test_prompt_linear as prompts

    parsers = [(name, parse, infotexts.HOSTILE) for name, parse in infotexts.PARSERS.items()]
    parsers += [(name, parse, prompts.HOSTILE) for name, parse in prompts.PARSERS.items()]
    gc.collect()
    gc.freeze()  # what the tests import is no part of what a parser leaves behind
    rows = [measured(name, kind, parse, make) for name, parse, kinds in parsers for kind, make in kinds.items()]
    rows.sort(key=lambda row: -float(str(row["seconds"])))
    result = {"benchmark": "parsers", "machine": machine("cpu"), "rows": rows, "within": all(r["within"] for r in rows)}
    print(json.dumps(result, indent=1))


def measured(parser: str, kind: str, parse: Callable[[str], object], make: Callable[[int], str]) -> dict[str, object]:
    texts, seconds = [make(length) for length in LENGTHS], [math.inf] * len(LENGTHS)
    ratio, within = None, False
    for _ in range(TRIES):
        shorten(seconds, parse, texts)
        short, long = seconds
        ratio = long / short if long > TOO_SHORT else None
        within = long <= BOUND_SECONDS and (ratio is None or ratio <= BOUND_RATIO)
        if within:
            break
    return {
        "what": f"{parser}: {kind}",
        "seconds": round(long, 5),
        "ratio": None if ratio is None else round(ratio, 2),
        "within": within,
    }


def shorten(seconds: list[float], parse: Callable[[str], object], texts: Sequence[str]) -> None:
    """Puts the shortest time of each text where a shorter one is found."""
    for _ in range(ROUNDS):
        for i, text in enumerate(texts):
            begun = time.process_time()
            parse(text)
            seconds[i] = min(seconds[i], time.process_time() - begun)


if __name__ == "__main__":
    main()
