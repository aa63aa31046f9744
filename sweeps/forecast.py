"""Forecast of a plan's duration, from the measured times of earlier runs."""

import json
from pathlib import Path
from statistics import median
from typing import Any

from analysis.results import SHIPPED
from lf.storage.json_files import read_json
from sweeps.plan import Plan
from sweeps.recipe import Recipe

LEAST = 100  # fewest steps or images of a run whose time counts: a shorter one mostly starts up


def forecast_hours(planned: Plan, launch: Recipe) -> float | None:
    """Hours that one worker would take; None if nothing was measured yet."""
    cost = rates(Path(launch.runtime.runs))
    if not cost:
        return None
    seconds = planned.steps * cost["step"] + planned.images * cost["image"] + planned.evaluations * cost["evaluation"]
    return seconds / 3600


def forecast(planned: Plan, launch: Recipe) -> str:
    """The forecast as the end of a sentence; empty if nothing was measured yet."""
    cost, hours = rates(Path(launch.runtime.runs)), forecast_hours(planned, launch)
    if hours is None:
        return ""
    each = f"{cost['step']:.3f} s/step, {cost['image']:.3f} s/image"
    return f": about {duration(hours)} of one worker ({each}: {cost['source']})"


def duration(hours: float) -> str:
    """Hours as text: minutes below three hours."""
    return f"{hours * 60:.0f} min" if hours < 3 else f"{hours:,.0f} hours"


def rates(runs: Path) -> dict[str, Any]:
    """Median times of the runs of this store or else of the committed results.

    Work that is done once, such as training a judge, is not taken for the cost of an image: images are timed by their
    sampling, and what else an evaluation takes counts once for each. Runs of fewer than `LEAST` steps or images do not
    count.

    Returns:
        Seconds per training ``step``, per ``image`` and per ``evaluation`` beside its images, and their ``source``;
        empty if nothing was measured yet.
    """
    for source in (runs, SHIPPED):
        files = [*source.glob("training/*/row.json"), *source.glob("evaluation/*/row.json")]
        rows = [row for file in files if (row := read_json(file))]
        rows += [json.loads(line) for file in source.glob("*/rows.jsonl") for line in file.read_text().splitlines()]
        steps = [row["seconds_per_step"] for row in rows if _steps(row) >= LEAST]
        scored = [row for row in rows if (row.get("n") or 0) >= LEAST and row.get("seconds")]
        sampled = [(row, row.get("seconds_sampling", row["seconds"])) for row in scored]
        if steps and scored:
            return {
                "step": median(steps),
                "image": median(seconds / row["n"] for row, seconds in sampled),
                "evaluation": median(row["seconds"] - seconds for row, seconds in sampled),
                "source": "results/" if source == SHIPPED else f"{source.name}/",
            }
    return {}


def _steps(row: dict[str, Any]) -> float:
    """Steps of the training that a row is of."""
    seconds = row.get("train_seconds") or row.get("seconds") or 0.0
    return round(seconds / row["seconds_per_step"]) if row.get("seconds_per_step") else 0.0
