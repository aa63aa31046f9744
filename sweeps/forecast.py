"""Forecast of a plan's duration, from the measured times of earlier runs."""

import json
from pathlib import Path
from statistics import median
from typing import Any

from analysis.results import SHIPPED
from lf.storage.json_files import read_json
from sweeps.cells import Launch
from sweeps.plan import Plan


def forecast_hours(planned: Plan, launch: Launch) -> float | None:
    """Hours that one worker would take; None if nothing was measured yet."""
    cost = rates(Path(launch.runtime.runs))
    return (planned.steps * cost["step"] + planned.images * cost["image"]) / 3600 if cost else None


def forecast(planned: Plan, launch: Launch) -> str:
    """The forecast as the end of a sentence; empty if nothing was measured yet."""
    cost, hours = rates(Path(launch.runtime.runs)), forecast_hours(planned, launch)
    if hours is None:
        return ""
    took = f"{hours * 60:.0f} min" if hours < 3 else f"{hours:,.0f} hours"
    return f": about {took} of one worker ({cost['step']:.3f} s/step, {cost['image']:.3f} s/image: {cost['source']})"


def rates(runs: Path) -> dict[str, Any]:
    """Median seconds per training step and per evaluated image, of this run store or else of the committed results.

    Returns:
        ``step``, ``image`` and ``source``; empty if nothing was measured yet.
    """
    for source in (runs, SHIPPED):
        files = [*source.glob("training/*/row.json"), *source.glob("evaluation/*/row.json")]
        rows = [row for file in files if (row := read_json(file))]
        rows += [json.loads(line) for file in source.glob("*/rows.jsonl") for line in file.read_text().splitlines()]
        steps = [row["seconds_per_step"] for row in rows if row.get("seconds_per_step")]
        images = [row["seconds"] / row["n"] for row in rows if row.get("n") and row.get("seconds")]
        if steps and images:
            return {
                "step": median(steps),
                "image": median(images),
                "source": "results/" if source == SHIPPED else f"{source.name}/",
            }
    return {}
