"""Rows of a sweep as a DataFrame: ``load("order_ablation")``.

A sweep's rows come from the run store if it was launched there, else from the committed ``results/NAME/rows.jsonl`` of
the working folder or, where it has none, of this package. ``guidance-ID`` is a search, with one row per trial;
``order-ID`` is one for an order, with one row per training and noise; ``run-ID`` is all evaluations of one training.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from lf.config import Evaluation
from lf.config.schema import stream_names
from lf.core.errors import UserError, nearest
from lf.core.parsing import flat
from lf.core.plugins import from_file
from lf.runs import training_folder
from lf.storage.json_files import read_json

RESULTS = Path("results")  # of the working folder: what `analysis.export` writes
SHIPPED = Path(__file__).parent / "committed"  # results/ of this project, which is installed with it
PAPER = SHIPPED / "paper"
PROTOCOL = ("data", "labels", "score", "n", "judging", "weights", "steps", "solver", "t_clip", "latent_noise",
            "shift", "guidance", "dtype", "seed")  # fmt: skip
GIVEN = ("given", "given_data")  # only in rows of images of which streams were given
BUDGET = ("steps", "batch", "lr", "network", "ema")
FROM = "from=trunk"  # word of a launch whose networks are specialised
CURVE = 80  # exported points of a training curve


def load(sweep: str, runs: Path | None = Path("runs")) -> pd.DataFrame:
    """One row per cell: its labels, scores (missing if it is not done), ids, and ``protocol`` and ``budget`` as JSON.

    Args:
        sweep: name of the sweep (its last launch) or of the folder of a report; ``guidance-ID``, ``order-ID``,
            ``run-ID``.
        runs: the run store. If it is None, or if the sweep was not launched there, the committed results are read.

    Returns:
        The rows. ``attrs`` has ``sweep``, ``source``, ``labels`` (the columns that are labels of cells), ``question``,
        ``launch`` (name of the question that was launched), ``words`` (of the launch), ``failures`` and ``runs`` (the
        run store; empty for committed rows).

    Raises:
        UserError: there are no rows of this sweep.
    """
    found = launched(sweep, runs)
    about, rows = found or _committed(sweep) or (None, [])
    if about is None:
        places = [f for kind in ("sweeps", "reports") for f in (runs or RESULTS).glob(f"{kind}/*/sweep.json")]
        known = {*committed_names("*"), *(file.parent.name for file in places)}
        raise UserError(f"{sweep}: no results yet; {nearest(sweep, known) if known else 'launch it first'}")
    frame = pd.DataFrame(rows)
    labels: dict[str, None] = {}
    for row in rows:  # the entries before the ids
        labels |= dict.fromkeys(list(row)[: list(row).index("training_id")])
    labels.pop("title", None)
    frame.attrs = {"sweep": sweep, "question": sweep, "launch": "", "words": [], "failures": []}
    frame.attrs.update(about)
    frame.attrs["labels"] = list(labels)
    frame.attrs["runs"] = str(runs) if found else ""
    return frame


def committed(sweep: str) -> Path:
    """Folder of a sweep's committed results: in ``results/`` of the working folder, else those of this package."""
    return RESULTS / sweep if (RESULTS / sweep / "rows.jsonl").exists() else SHIPPED / sweep


def committed_names(pattern: str) -> list[str]:
    """The sweeps with committed results whose names match ``pattern``, sorted."""
    return sorted({file.parent.name for place in (RESULTS, SHIPPED) for file in place.glob(f"{pattern}/rows.jsonl")})


def samples(frame: pd.DataFrame, runs: Path | None = Path("runs")) -> dict[str, Path]:
    """File of the sample images of each finished cell, by evaluation id."""
    folder = committed(frame.attrs["sweep"]) / "samples"
    found = {}
    for name in frame.evaluation_id.unique():
        files = [(runs or folder) / "evaluation" / name / "samples.safetensors", folder / f"{name}.safetensors"]
        if there := [file for file in files if file.exists()]:
            found[name] = there[0]
    return found


def define(frame: pd.DataFrame) -> None:
    """Runs the file of a question of one's own, if it is still there: it may define schedules that its rows name."""
    file = Path(frame.attrs.get("asked", ""))
    if file.suffix == ".py":
        with suppress(Exception):  # it may have been changed since; what it defined is then unknown
            from_file(file)


def configs(frame: pd.DataFrame, runs: Path | None = Path("runs")) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The common part of all cells' configs, and by evaluation id the rest of each; keys as in ``training.lr``."""
    file = committed(frame.attrs["sweep"]) / "configs.json"
    if runs is None or not frame.attrs["runs"]:
        return tuple(json.loads(file.read_text())) if file.exists() else ({}, {})
    read = cache(lambda kind, name: _config(runs / kind / name / "config.json", kind))
    pairs = frame[["training_id", "evaluation_id"]].itertuples(index=False)
    own = {e: {**read("training", t), **read("evaluation", e)} for t, e in pairs}
    texts = {e: {k: json.dumps(v) for k, v in config.items()} for e, config in own.items()}
    first = next((config for config in texts.values() if config), {})
    shared = {k for k, v in first.items() if all(config.get(k) == v for config in texts.values() if config)}
    one = next((config for config in own.values() if config), {})
    hidden = {"evaluation.training"}
    return {k: one[k] for k in one if k in shared}, {
        e: {k: v for k, v in config.items() if k not in shared | hidden} for e, config in own.items()
    }


def _config(file: Path, kind: str) -> dict[str, Any]:
    """A flat config; with several latents, also the names of the streams in their order."""
    config = _read(file)
    if begun := config.get("contents", {}).get("init.name"):
        config["init"]["name"] = begun  # not its path
    latents = [latent["name"] for latent in config.get("latents", ())]
    return flat(config, f"{kind}.", named=True) | (
        {f"{kind}.streams": stream_names(latents)} if len(latents) > 1 else {}
    )


def curves(frame: pd.DataFrame, runs: Path | None = Path("runs")) -> pd.DataFrame:
    """Training losses of the first seed: ``training_id``, ``step``, ``name`` (``loss/pixels``, …), ``value``."""
    columns = ["training_id", "step", "name", "value"]
    file = committed(frame.attrs["sweep"]) / "curves.csv"
    if runs is None or not frame.attrs["runs"]:
        return pd.read_csv(file) if file.exists() else pd.DataFrame(columns=columns)
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )  # slow to import

    rows = []
    for name in frame[frame.seed == frame.seed.min()].training_id.unique():
        if not (runs / "training" / name / "row.json").exists():
            continue
        events = EventAccumulator(str(runs / "training" / name), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            points = events.Scalars(tag) if tag.startswith("loss") else []
            rows += [(name, p.step, tag, float(f"{p.value:.4g}")) for p in points[:: max(1, len(points) // CURVE)]]
    return pd.DataFrame(rows, columns=columns)


def nested(flattened: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `lf.core.parsing.flat`, for configs without lists of mappings."""
    tree: dict[str, Any] = {}
    for key, value in flattened.items():
        *above, last = key.split(".")
        place = tree
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return tree


def _read(file: Path) -> dict[str, Any]:
    return read_json(file) or {}


def launched(sweep: str, runs: Path | None) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """A sweep's manifest in a run store, or the one kept with a report, and its rows; None if there is none."""
    if runs is None:
        return None
    manifest = _read(runs / "sweeps" / sweep / "sweep.json") or _read(runs / "reports" / sweep / "sweep.json")
    name = manifest.get("sweep", sweep) if manifest.get("cells") and not sweep.startswith("order-") else ""
    if not manifest and sweep.startswith("run-"):
        run = training_folder(sweep.removeprefix("run-"), runs).name
        manifest = {"cells": _evaluations(run, runs), "question": f"Evaluations of the training {run}"}
    if manifest and not manifest.get("cells") and not sweep.startswith("order-"):  # those of an order come later
        manifest["cells"] = _trials(runs / "sweeps" / sweep, runs)
    if not manifest or not manifest["cells"]:
        return None
    about: dict[str, Any] = dict.fromkeys(("question", "words", "at", "asked"), "")
    about = {key: manifest[key] for key in about if key in manifest}
    failed = [
        (unit["title"], _read(runs / "jobs" / unit["key"] / "failure.json")) for unit in manifest.get("units", [])
    ]
    about["failures"] = [{"unit": title, **why} for title, why in failed if why]
    read = cache(lambda kind, name, file: _read(runs / kind / name / file))
    return about | {"launch": name, "source": f"{runs}/"}, [_row(cell, read) for cell in manifest["cells"]]


def _trials(folder: Path, runs: Path) -> list[dict[str, Any]]:
    """Cells of a search's complete trials, labelled by what the search varied; none before it has ended."""
    over = max(folder.glob("trials-*.jsonl"), key=lambda file: int(file.stem.partition("-")[2]), default=None)
    rows = [json.loads(line) for line in over.read_text().splitlines()] if over else []
    rows = [row for row in rows if row["state"] == "complete"]
    varied = [key for key in rows[0]["point"] if len({row["point"][key] for row in rows}) > 1] if rows else []
    cells = []
    for row in rows:
        run = _read(runs / "evaluation" / row["evaluation"] / "config.json")["training"]
        labels = {"trial": row["trial"], **{key: row["point"][key] for key in varied}}
        told = {"title": f"trial {row['trial']}", "training_id": run, "evaluation_id": row["evaluation"]}
        cells.append(labels | {"seed": _read(runs / "training" / run / "config.json")["seed"]} | told)
    return cells


def _evaluations(run: str, runs: Path) -> list[dict[str, Any]]:
    """Cells of all evaluations of a training, labelled by the settings in which they differ."""
    found = {f.parent.name: _read(f) for f in sorted((runs / "evaluation").glob("*/config.json"))}
    flattened = {
        name: {k: json.dumps(v) if isinstance(v, list) else v for k, v in flat(config, named=True).items()}
        for name, config in found.items()
        if config.get("training") == run
    }
    keys = dict.fromkeys(key for config in flattened.values() for key in config)
    varied = [k for k in keys if len({json.dumps(config.get(k)) for config in flattened.values()}) > 1]
    seed = _read(runs / "training" / run / "config.json").get("seed", 0)
    cells = []
    for name, config in flattened.items():
        labels = {k: config.get(k) for k in varied if k not in ("n", "seed")} | {"seed": seed}
        title = " ".join(f"{k} {v}" for k, v in labels.items())
        cells.append(labels | {"title": title, "training_id": run, "evaluation_id": name})
    return cells


def _committed(sweep: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    file = committed(sweep) / "rows.jsonl"
    if not file.exists():
        return None
    about = _read(file.with_name("sweep.json")) | {"source": f"results/{sweep}/"}
    return about, [json.loads(line) for line in file.read_text().splitlines()]


def _row(cell: dict[str, Any], read: Any) -> dict[str, Any]:
    trained, scored = (read(kind, cell[f"{kind}_id"], "row.json") for kind in ("training", "evaluation"))
    config = read("training", cell["training_id"], "config.json")
    hidden = {*Evaluation.model_fields, "seconds"}
    scores = {k: v for k, v in scored.items() if isinstance(v, float) and k not in hidden}
    return cell | {
        **scores,
        "protocol": json.dumps(_protocol(scored), sort_keys=True) if scored else None,
        "budget": json.dumps(_budget(config, read), sort_keys=True) if config else None,
        "n": scored.get("n"),
        "score": scored.get("score"),
        "seconds": scored.get("seconds"),
        "train_seconds": trained.get("seconds"),
        "seconds_per_step": trained.get("seconds_per_step"),
        "parameters": trained.get("parameters"),
        "revision": scored.get("revision"),
        "machine": scored.get("machine"),
        **({"data": scored["data"]} if ":" in scored.get("data", "") else {}),
    }


def _budget(config: Mapping[str, Any], read: Any) -> dict[str, Any]:
    """What was trained; of a warm start also ``init``: the trunk's identity and weights and, if known, its training."""
    told = {k: config.get(k) for k in BUDGET}
    if name := config.get("contents", {}).get("init.name"):
        trunk = read("training", name, "config.json")
        known = {"steps": trunk["steps"], "schedule": trunk["schedule"]["name"]} if trunk else {}
        told["init"] = {"name": name, "weights": config["init"]["weights"], **known}
    return told


def _protocol(scored: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide what may be compared; images at a path are named by their kind and their digest."""
    told = {k: scored.get(k) for k in PROTOCOL} | {k: scored[k] for k in GIVEN if k in scored}
    kind, colon, _ = str(scored.get("data")).partition(":")
    return told | ({"data": kind, "data_digest": scored["data_digest"]} if colon and "data_digest" in scored else {})
