"""Concept accuracy of the samplers at their usual step counts, on a model of emoji scenes.

    python benchmarks/sampler_accuracy.py --write

measures all 30 samplers on every concept with the embedded model and puts the table into docs/samplers.md; --limit 8
--samplers "Euler a,DPM++ 2M" is a quick look. Each concept is generated once, large, on a plain background, with the
seed and the prompt of `atelier evaluate`, along the sampler's own schedule at the model's own CFG scale (CFG++
samplers: a 12.5th of it), and judged by `atelier.train.strict`, which learns nothing. LCM and TCD want a distilled
model and are left out. Prints a table, then one JSON object; the progress goes to stderr. It needs the font Noto Color
Emoji.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import needs
from harness import machine

if TYPE_CHECKING:
    from atelier.diffusion.sampling import SamplerSpec
    from atelier.request.model import Request
    from atelier.runtime.engine import Engine
    from atelier.train.evaluate import Trial

PAGE = Path(__file__).parents[1] / "docs" / "samplers.md"
STEPS: Mapping[str, int] = {
    "Euler": 30,
    "Euler a": 30,
    "Heun": 30,
    "LMS": 30,
    "DPM2": 30,
    "DPM2 a": 20,
    "DPM++ 2S a": 20,
    "DPM++ 2M": 30,
    "DPM++ SDE": 20,
    "DPM++ 2M SDE": 30,
    "DPM++ 2M SDE Heun": 30,
    "DPM++ 3M SDE": 30,
    "DPM fast": 30,
    "DPM adaptive": 30,
    "Restart": 20,
    "DDIM": 30,
    "DDIM CFG++": 30,
    "PLMS": 30,
    "UniPC": 30,
    "UniPC BH2": 30,
    "DDPM": 30,
    "DEIS": 30,
    "IPNDM": 30,
    "IPNDM_V": 30,
    "HeunPP2": 30,
    "Euler CFG++": 30,
    "Res Multistep": 30,
    "Gradient Estimation": 30,
    "ER SDE": 30,
    "SA Solver": 30,
}
"""30 where the solver is deterministic, so that these can be compared; 20 for stochastic ones of two calls a step."""
OTHER_STEPS = 30
CFG_PP = 1 / 12.5
UNSUITED = "with this model Uniform"
"""In what the engine tells of a schedule."""


def main() -> None:
    options = _options()
    needs.modules("torch")
    rows: list[dict[str, Any]] = []
    model = model_of(engine_of(options.device), options.model)
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as processes:
        asked = [
            processes.submit(_row, name, model["path"], options.limit, options.steps, options.device, options.workers)
            for name in chosen(options.samplers)
        ]
        for row in asked:
            rows.append(row.result())
            print(line(rows[-1]), file=sys.stderr, flush=True)
    result = _result(rows, options.device or "cpu", model, len(trials_of(options.limit)))
    text = markdown(result)
    if options.write:
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
    if not options.json:
        print(text if options.markdown else "\n".join(map(line, ranked(rows))))
    if not options.markdown:
        print(json.dumps(result, indent=1))


def _row(sampler: str, model: str, limit: int, steps: int | None, device: str | None, workers: int) -> dict[str, Any]:
    """In a process of its own, one of `workers`: the row of one sampler."""
    import torch

    from atelier.diffusion.catalogue import resolve_sampler

    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    return measured(engine_of(device), resolve_sampler(sampler)[0], trials_of(limit), model, steps)


def measured(
    engine: Engine, spec: SamplerSpec, trials: Sequence[Trial], model: str, steps: int | None
) -> dict[str, Any]:
    """One sampler's row: shares of the right concepts and backgrounds, and seconds an image."""
    from atelier.train.evaluate import judged, share
    from atelier.train.judge import Judge

    count = steps or STEPS.get(spec.name, OTHER_STEPS)
    begun, judge = time.perf_counter(), Judge(size_of(engine, model))
    outcomes = list(judged(trials, Painter(engine, spec, model, count), judge))
    return {
        "sampler": spec.name,
        "schedule": spec.schedule,
        "steps": count,
        "deterministic": deterministic(spec),
        "concept_accuracy": round(share(o.strictly_right for o in outcomes), 4),
        "background_accuracy": round(share(o.ground == o.trial.scene.background for o in outcomes), 4),
        "seconds": round((time.perf_counter() - begun) / len(trials), 3),
    }


class Painter:
    """(prompt, seed) -> image, by one sampler along its own schedule or another."""

    def __init__(self, engine: Engine, spec: SamplerSpec, model: str, steps: int, schedule: str | None = None) -> None:
        self._engine, self._spec, self._model, self._steps, self._schedule = engine, spec, model, steps, schedule
        scale = _defaults(engine, model).cfg_scale
        self._scale = scale * CFG_PP if spec.unguided and spec.cfg == 1 else scale

    def __call__(self, prompt: str, seed: int) -> Any:
        import numpy as np

        return np.asarray(self._engine.generate(self._request(prompt, seed))[0].image)

    def is_told(self) -> bool:
        """Whether the engine tells of the schedule: that another suits the model better."""
        told: list[str] = []
        self._engine.resolve(self._request("", 0), told.append)
        return any(UNSUITED in text for text in told)

    def _request(self, prompt: str, seed: int) -> Request:
        from atelier.request.model import Request

        return Request(
            prompt=prompt,
            seed=seed,
            steps=self._steps,
            sampler=self._spec.name,
            scheduler=self._schedule,
            cfg_scale=self._scale,
            model=self._model,
        )


def deterministic(spec: SamplerSpec) -> bool:
    """Whether it adds no noise with its own options: nothing at all, only churn, or an eta that is 0 of itself."""
    return spec.noise == "none" or "s_churn" in spec.uses or spec.own.eta == 0


def ranked(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best first."""
    return sorted(rows, key=lambda row: -row["concept_accuracy"])


def line(row: Mapping[str, Any]) -> str:
    """A row as text."""
    accuracy, background = (100 * row[f"{what}_accuracy"] for what in ("concept", "background"))
    return (
        f"{row['sampler']:22} {row['schedule']:13} {row['steps']:3} steps  concept {accuracy:5.1f} %  "
        f"background {background:5.1f} %  {row['seconds']:.2f} s"
    )


def markdown(result: Mapping[str, Any]) -> str:
    """The section of docs/samplers.md: what was measured, the table, the best first, and the spread of chance."""
    rows = ranked(result["results"])
    best = rows[0]["concept_accuracy"]
    solvers = [row for row in rows if row["deterministic"]]
    lines = list(_head(result, best))
    for row in rows:
        cells = (
            row["sampler"],
            row["schedule"],
            str(row["steps"]),
            "yes" if row["deterministic"] else "no",
            f"{100 * row['concept_accuracy']:.1f} %",
            f"{100 * row['background_accuracy']:.1f} %",
            f"{100 * (best - row['concept_accuracy']):.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    if solvers:
        gap = 100 * (solvers[0]["concept_accuracy"] - solvers[-1]["concept_accuracy"])
        lines += ["", f"The deterministic solvers are within {gap:.1f} points of each other."]
    return "\n".join(lines)


def _head(result: Mapping[str, Any], best: float) -> Iterator[str]:
    count, model = result["concepts"], result["model"]
    chance = 100 * spread(best, count)
    yield f"Measured on {result['date']} with {count} concepts and the weights {model['sha256'][:10]}"
    yield f"({model['name']}); the standard deviation of chance at the best value is {chance:.1f} points."
    yield ""
    yield "| sampler | schedule | steps | deterministic | concepts | backgrounds | points behind the best |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"


def spread(share: float, count: int) -> float:
    """The standard deviation of a share of `count` trials, as Agresti 1998 (The American Statistician 52) estimates it:
    of four trials more, half of them right. So it is not 0 where all or none were."""
    near = (share * count + 2) / (count + 4)
    return math.sqrt(near * (1 - near) / (count + 4))


def _result(rows: Sequence[dict[str, Any]], device: str, model: Mapping[str, str], concepts: int) -> dict[str, Any]:
    return {
        "benchmark": "sampler_accuracy",
        "machine": machine(device),
        "date": datetime.now(UTC).date().isoformat(),
        "model": {name: model[name] for name in ("name", "sha256")},
        "concepts": concepts,
        "results": list(rows),
    }


def replaced(page: str, body: str, mark: str = "accuracy") -> str:
    """The page with a section between its marks."""
    marks = re.compile(rf"(<!-- {mark} -->\n).*(<!-- /{mark} -->\n)", re.DOTALL)
    made, count = marks.subn(lambda found: f"{found[1]}\n{body}\n\n{found[2]}", page)
    if count != 1:
        raise ValueError(f"{PAGE.name} has no marks <!-- {mark} --> and <!-- /{mark} -->")
    return made


def engine_of(device: str | None) -> Engine:
    from atelier.compose import engine

    return engine(device=device)


def model_of(engine: Engine, name: str | None) -> dict[str, str]:
    from atelier.request.model import Request

    found = engine.resolve(Request(prompt="", model=name)).model
    return {"name": found.name, "path": found.path, "sha256": found.sha256}


def _defaults(engine: Engine, model: str) -> Any:
    from atelier.checkpoints.opening import open_checkpoint

    return open_checkpoint(engine.library.find(model).path).defaults


def size_of(engine: Engine, model: str) -> int:
    return _defaults(engine, model).width


def trials_of(limit: int) -> list[Trial]:
    """Of all concepts, evenly spread."""
    from atelier.train.evaluate import rounds

    trials = rounds()["large"]
    return trials if not 0 < limit < len(trials) else [trials[i * len(trials) // limit] for i in range(limit)]


def chosen(names: str | None) -> list[str]:
    from atelier.diffusion.catalogue import resolve_sampler

    return [resolve_sampler(name)[0].name for name in (names.split(",") if names else STEPS)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=0, metavar="CONCEPTS", help="at most so many; 0 = all")
    parser.add_argument("--samplers", metavar="A,B", help="these instead of the 30")
    parser.add_argument("--steps", type=int, help="instead of each sampler's usual number")
    parser.add_argument("--model", help="name or path; the embedded model if not given")
    parser.add_argument("--device", help="cpu, cuda; the machine's best if not given")
    parser.add_argument("--workers", type=int, default=1, help="processes, which share the cores; one sampler in each")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--markdown", action="store_true", help="print the section of docs/samplers.md only")
    parser.add_argument("--write", action="store_true", help="put that section into docs/samplers.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
