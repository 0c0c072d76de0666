"""Accuracy of samplers along every schedule, on a model of emoji scenes, and which pairs `atelier generate` tells of.

    python benchmarks/schedule_accuracy.py --keep runs/pairs.jsonl --write

Each of --limit concepts is generated once for each pair, large, on a plain background, with the seed and the prompt of
`atelier evaluate`, and judged by `atelier.train.strict`; `fidelity` is the mean PSNR against the right image. A pair is
behind where its recognition is more than 5 points below that of the best. With --keep, every row is written as it
comes, and those that are there are not measured again: a run may be stopped and go on. Prints a table, then one JSON
object; --write puts the table into docs/samplers.md. It needs the font Noto Color Emoji.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import needs
import sampler_accuracy as alone
from harness import machine

if TYPE_CHECKING:
    from atelier.runtime.engine import Engine
    from atelier.train.evaluate import Trial

SAMPLERS = "Euler,Euler a,DPM++ 2M,DPM++ 2M SDE,UniPC,DDIM,Heun"
STEPS = 30
BEHIND = 0.05
"""A share of recognised images that much below the best is told of (docs/samplers.md)."""
MARK = "pairs"


def main() -> None:
    options = _options()
    needs.modules("torch")
    engine = alone.engine_of(options.device)
    model = alone.model_of(engine, options.model)
    trials = alone.trials_of(options.limit)
    rows = list(measured(engine, pairs(options), trials, model, options.keep, options.steps))
    result = {
        "benchmark": "schedule_accuracy",
        "machine": machine(options.device or "cpu"),
        "date": datetime.now(UTC).date().isoformat(),
        "model": {name: model[name] for name in ("name", "sha256")},
        "concepts": len(trials),
        "steps": options.steps,
        "results": rows,
    }
    text = markdown(result)
    if options.write:
        page = alone.PAGE.read_text(encoding="utf-8")
        alone.PAGE.write_text(alone.replaced(page, text, MARK), encoding="utf-8")
    print(text)
    print(json.dumps(result, indent=1))


def pairs(options: argparse.Namespace) -> list[tuple[str, str]]:
    """(sampler, schedule), one schedule after the other, so that a run that is stopped has whole rows."""
    from atelier.diffusion.catalogue import resolve_schedule, schedules

    names = options.schedules.split(",") if options.schedules else list(schedules())
    chosen = [resolve_schedule(name.strip()).name for name in names]
    return [(sampler, schedule) for schedule in chosen for sampler in alone.chosen(options.samplers)]


def measured(
    engine: Engine,
    wanted: Sequence[tuple[str, str]],
    trials: Sequence[Trial],
    model: Mapping[str, str],
    keep: Path | None,
    steps: int,
) -> Iterator[dict[str, Any]]:
    """A row for each pair, from the file `keep` where it is there."""
    there = [json.loads(line) for line in keep.read_text(encoding="utf-8").splitlines()] if _is_there(keep) else []
    about = {"model": model["sha256"], "concepts": len(trials), "steps": steps}
    for sampler, schedule in wanted:
        named = {"sampler": sampler, "schedule": schedule, **about}
        row = next((row for row in there if named.items() <= row.items()), None)
        if row is None:
            row = named | pair(engine, sampler, schedule, trials, model["path"], steps)
            print(line(row), file=sys.stderr, flush=True)
            if keep is not None:
                keep.parent.mkdir(parents=True, exist_ok=True)
                with keep.open("a", encoding="utf-8") as file:
                    print(json.dumps(row), file=file)
        yield row


def pair(
    engine: Engine, sampler: str, schedule: str, trials: Sequence[Trial], model: str, steps: int
) -> dict[str, Any]:
    """Shares of the right concepts and backgrounds, the mean fidelity in dB, seconds an image, and whether `atelier
    generate` tells of the schedule."""
    from atelier.diffusion.catalogue import resolve_sampler
    from atelier.train.evaluate import judged, share
    from atelier.train.judge import Judge

    painter = alone.Painter(engine, resolve_sampler(sampler)[0], model, steps, schedule)
    begun = time.perf_counter()
    outcomes = list(judged(trials, painter, Judge(alone.size_of(engine, model))))
    return {
        "concept_accuracy": round(share(o.strictly_right for o in outcomes), 4),
        "background_accuracy": round(share(o.ground == o.trial.scene.background for o in outcomes), 4),
        "fidelity": round(sum(o.fidelity for o in outcomes) / len(outcomes), 2),
        "told": painter.is_told(),
        "seconds": round((time.perf_counter() - begun) / len(trials), 3),
    }


def line(row: Mapping[str, Any]) -> str:
    """A row as text."""
    told = "  told of" if row["told"] else ""
    return (
        f"{row['sampler']:14} {row['schedule']:22} concept {100 * row['concept_accuracy']:5.1f} %  background "
        f"{100 * row['background_accuracy']:5.1f} %  {row['fidelity']:5.2f} dB  {row['seconds']:.2f} s{told}"
    )


def markdown(result: Mapping[str, Any]) -> str:
    """The section of docs/samplers.md."""
    rows, model = result["results"], result["model"]
    samplers = list(dict.fromkeys(row["sampler"] for row in rows))
    schedules = list(dict.fromkeys(row["schedule"] for row in rows))
    cells = {(row["schedule"], row["sampler"]): _cell(row) for row in rows}
    best = max(row["concept_accuracy"] for row in rows)
    chance = 100 * alone.spread(best, result["concepts"])
    lines = [
        f"Measured on {result['date']} with {result['concepts']} concepts in {result['steps']} steps and the weights",
        f"{model['sha256'][:10]} ({model['name']}), {_told_machine(result['machine'])}: the share recognised,",
        "the share on the right background where not all are,",
        "and the mean fidelity in dB. A star: `generate` warns of the schedule.",
        f"The standard deviation of chance at the best share is {chance:.1f} points.",
        "",
        f"| schedule | {' | '.join(samplers)} |",
        f"| {' | '.join(['---'] * (1 + len(samplers)))} |",
        *(f"| {name} | {' | '.join(cells.get((name, sampler), '') for sampler in samplers)} |" for name in schedules),
        "",
        *verdict(rows),
    ]
    return "\n".join(lines)


def verdict(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which pairs are behind and not told of, and which are told of without being behind."""
    best = max(row["concept_accuracy"] for row in rows)
    behind = {_name(row): round(best - row["concept_accuracy"], 4) > BEHIND for row in rows}
    silent = [_name(row) for row in rows if behind[_name(row)] and not row["told"]]
    needless = [_name(row) for row in rows if not behind[_name(row)] and row["told"]]
    return [
        f"More than {100 * BEHIND:.0f} points behind the best without a warning: {', '.join(silent) or 'none'}.",
        f"Warned of but not behind: {', '.join(needless) or 'none'}.",
    ]


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['sampler']} with {row['schedule']}"


def _cell(row: Mapping[str, Any]) -> str:
    ground = f" ({100 * row['background_accuracy']:.0f} %)" if row["background_accuracy"] < 1 else ""
    return f"{100 * row['concept_accuracy']:.0f} %{ground}, {row['fidelity']:.1f}{'*' if row['told'] else ''}"


def _told_machine(found: Mapping[str, Any]) -> str:
    return ", ".join(str(found[name]) for name in ("cpu", "torch") if name in found) or "this machine"


def _is_there(path: Path | None) -> bool:
    return path is not None and path.is_file()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=16, metavar="CONCEPTS", help="at most so many (16); 0 = all")
    parser.add_argument("--samplers", default=SAMPLERS, metavar="A,B", help=f"these instead of {SAMPLERS}")
    parser.add_argument("--schedules", metavar="A,B", help="these instead of all")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--model", help="name or path; the embedded model if not given")
    parser.add_argument("--device", help="cpu, cuda; the machine's best if not given")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="rows are kept there, a line of JSON each")
    parser.add_argument("--write", action="store_true", help="put the table into docs/samplers.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
