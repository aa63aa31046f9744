"""Which rows may share a table, and the captions that state their common protocol."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.results import FROM, GIVEN
from lf.core.errors import UserError, few
from lf.core.parsing import flat

QUESTION = {"labels", "guidance", "latent_noise", "shift", "steps of training", "network", "ema", "init"}
"""Settings that may differ between the cells of a sweep; all others must be the same in all rows of a table."""
NAMED = 4  # most rows of one kind that an error lists
AVERAGES = {"ema": "averaged weights", "raw": "weights"}


def comparable(frame: pd.DataFrame) -> None:
    """Checks that all rows may be compared in one table, figure or sentence.

    N, feature spaces, their weights and references, weight average, solver, steps, sampling seed, batch and learning
    rate must be the same in all rows. Guidance, labels, noise, shifts, the network and the length of training may
    differ between cells, since questions vary them, but not between the seeds of one cell. So may the trunk that a
    training began with; the seeds of a cell have trunks of their own, of the same training. Which streams were given,
    and any other setting, may differ only if a label of its name says so, such as ``lr``.

    Raises:
        UserError: some differ; the message lists each such field, its values and their rows.
    """
    for kind in ("protocol", "budget"):
        texts = frame[kind].dropna() if kind in frame else pd.Series(dtype=object)
        if texts.nunique() < 2:
            continue
        of = {text: fields(kind, text) for text in texts.unique()}
        keys = dict.fromkeys(key for fields in of.values() for key in fields)
        varied = [key for key in keys if len({fields.get(key) for fields in of.values()}) > 1]
        _refuse(frame, kind, texts, of, [key for key in varied if not _asked(key, frame)])
        asked = [key for key in varied if _asked(key, frame)]
        cells = [label for label in frame.attrs["labels"] if label != "seed"]
        if asked and cells:
            for _, part in frame.loc[texts.index].groupby(cells, dropna=False, sort=False):
                if part[kind].nunique() > 1:
                    own = [key for key in asked if len(_values(key, [of[text] for text in part[kind]])) > 1]
                    _refuse(part, kind, part[kind], of, own)


def _values(key: str, rows: Sequence[dict[str, str]]) -> set[str | None]:
    """The values of a field. What a trunk was is unknown once it is removed, and then equals any other."""
    of_trunk = key in ("init.steps", "init.schedule")
    return {fields.get(key) for fields in rows if not of_trunk or key in fields or "init.weights" not in fields}


def fields(kind: str, text: str) -> dict[str, str]:
    """A row's ``protocol`` or ``budget`` (``kind``) as dotted keys and values, both as text."""
    names = ("guidance.guide", "init.name")  # of networks: each seed has its own
    found = flat(json.loads(text), named=True).items()
    fields = {key: json.dumps(value) for key, value in found if not key.endswith(names)}
    if kind == "budget":
        fields["steps of training"] = fields.pop("steps", "")
    return fields


def _asked(key: str, frame: pd.DataFrame) -> bool:
    told = {label.partition(".")[0] for label in frame.attrs["labels"]}
    field = key.partition(".")[0]
    return field in QUESTION or field in told or (field in GIVEN and "given" in told)


def _refuse(frame: pd.DataFrame, kind: str, texts: pd.Series, of: dict[str, dict[str, str]], keys: list[str]) -> None:
    if not keys:
        return
    said = []
    for key in keys:
        values = texts.map({text: fields.get(key, "missing") for text, fields in of.items()})
        rows = [f"{value} in {_titles(frame.loc[part.index])}" for value, part in values.groupby(values, sort=False)]
        said.append(f"{key} is {', but '.join(rows)}")
    raise UserError(f"{frame.attrs['sweep']}: rows differ in {kind} and cannot share a table: {'; '.join(said)}")


def _titles(rows: pd.DataFrame) -> str:
    return f"{len(rows)} row{'s' * (len(rows) > 1)} ({few(list(map(str, rows.title)), NAMED, '; ')})"


def shared(frame: pd.DataFrame) -> dict[str, Any]:
    """The protocol of the first finished row; of all rows, except for what `comparable` allows to differ."""
    return json.loads(frame.protocol.dropna().iloc[0])


def data_of(frame: pd.DataFrame) -> str:
    """The data of the rows: with its path where all rows have the same one, else the kind."""
    paths: Sequence[Any] = list(frame.data.dropna().unique()) if "data" in frame else []
    return str(paths[0]) if len(paths) == 1 else str(shared(frame)["data"])


def caption(frame: pd.DataFrame) -> str:
    """The protocol and the training budget of a table, as sentences that list values that differ between rows."""
    protocol = shared(frame)
    judges = "; ".join(
        f"{name} {how['weights']} against {how['reference_n']:,} ({how['reference']})"
        for name, how in protocol["judging"].items()
    )
    guidance = sorted({json.loads(text)["guidance"]["kind"] for text in frame.protocol.dropna().unique()})
    return (
        f"Protocol: {protocol['n']:,} images of {data_of(frame)}, {judges}, {protocol['solver']}, "
        f"{protocol['steps']} steps, guidance {' or '.join(guidance)}, {protocol['weights']} weights, "
        f"sampling seed {protocol['seed']}.{_trained(frame)}"
    )


def _trained(frame: pd.DataFrame) -> str:
    """The training budgets as a sentence: those from scratch, then those that began with a trunk."""
    budgets = [json.loads(text) for text in frame.budget.dropna().unique()]
    steps: dict[str, set[int]] = {"": set()}
    for budget in budgets:
        steps.setdefault(_beginning(budget), set()).add(budget["steps"])
    parts: list[str] = []
    for begun, counts in steps.items():
        if counts:
            size = "" if parts else f" of {budgets[0]['batch']} at lr {budgets[0]['lr']:g}"
            parts.append(f"{' or '.join(f'{n:,}' for n in sorted(counts))} steps{size}{begun}")
    word = f" ({FROM})" if parts and FROM in frame.attrs["words"] else ""
    return f" Training: {'; or '.join(parts)}{word}." if parts else ""


def _beginning(budget: dict[str, Any]) -> str:
    """What a training began with, as ``, from the averaged weights of an independent network of 4,000 steps``."""
    if "init" not in budget:
        return ""
    init = budget["init"]
    weights = AVERAGES.get(init["weights"], f"weights {init['weights']}")
    if "schedule" not in init:
        return f", from the {weights} of another network"
    article = "an" if init["schedule"][0] in "aeiou" else "a"
    return f", from the {weights} of {article} {init['schedule']} network of {init['steps']:,} steps"


def begun(frame: pd.DataFrame) -> pd.Series:
    """With what each row's training began: ``trunk`` or ``scratch``; missing if it is not known yet."""
    told = {text: "trunk" if "init" in json.loads(text) else "scratch" for text in frame.budget.dropna().unique()}
    return frame.budget.map(told)


def spent(frame: pd.DataFrame) -> str:
    """The steps of the rows' trainings: ``4,000 steps``; ``800 steps after a trunk of 4,000``."""
    budgets = [json.loads(text) for text in frame.budget.dropna().unique()]
    said: dict[str, None] = {}
    for one in sorted(budgets, key=lambda one: one["steps"]):
        trunk = one.get("init", {}).get("steps")
        after = f" after a trunk of {trunk:,}" if trunk else " after another network's" if "init" in one else ""
        said[f"{one['steps']:,} steps{after}"] = None
    return " or ".join(said)


def floor(frame: pd.DataFrame) -> str:
    """A sentence with the scores of real images (the floor), which no row is expected to beat."""
    found = frame[[c for c in frame if str(c).startswith("real_") and c != "real_n" and "_" not in str(c)[5:]]]
    found = found.dropna().head(1)
    if found.empty or not len(found.columns):
        return "No real images were held out, so there is no floor."
    count = f"{frame.real_n.max():,.0f}" if "real_n" in frame else f"{shared(frame)['n']:,}"
    name = shared(frame)["score"]
    first = sorted(found, key=lambda c: c != "real_fd")
    said = ", ".join(f"{str(c)[5:].replace('fd', name)} {found[c].iloc[0]:.3g}" for c in first)
    return f"{count} real images against the reference (the floor): {said}."
