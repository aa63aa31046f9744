"""Specialised networks (from=trunk) beside those from scratch: rows, tables, sentences, names."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from made import made

import analysis
from analysis import export, figures, findings, folders, protocol, results, tables
from lf.core.errors import UserError

matplotlib.use("agg")
WORDS = ["from=trunk", "seeds=[0,1,2]"]
ALL = {"words": WORDS, "begun": lambda labels: True}


def some(labels: dict[str, Any]) -> bool:
    return labels.get("p_latent") == 0.4 or labels.get("model") == "cascaded"


def test_a_row_says_with_which_trunk_it_began_and_others_are_as_before(tmp_path: Path) -> None:
    frame = analysis.load("p_latent", made(tmp_path, "p_latent", words=WORDS, begun=some))
    budgets = {p: json.loads(part.budget.iloc[0]) for p, part in frame.groupby("p_latent")}
    assert {*budgets[0.3]} == {*results.BUDGET}
    begun = budgets[0.4].pop("init")
    assert {*begun} == {"name", "weights", "steps", "schedule"} and begun["steps"] == 60
    assert (tmp_path / "training" / begun["name"]).is_dir() and budgets[0.4] == budgets[0.3]
    shared, own = results.configs(frame, tmp_path)
    assert str(tmp_path) not in json.dumps([shared, own]), "no path of this machine"
    (tmp_path / "training" / begun["name"] / "config.json").unlink()  # weights from elsewhere
    told = tables.markdown(analysis.load("p_latent", tmp_path)[lambda rows: rows.seed == 0])
    assert "or 60 steps, from the averaged weights of another network (from=trunk)." in told


def test_the_table_marks_specialised_cells_where_only_some_are(tmp_path: Path) -> None:
    mixed = analysis.load("p_latent", made(tmp_path / "mixed", "p_latent", words=WORDS, begun=some))
    shown = tables.table(mixed)
    assert {p: {*part["from"]} for p, part in shown.groupby("p_latent")} == {
        0.3: {"scratch"}, 0.4: {"trunk"}, 0.8: {"scratch"},
    }  # fmt: skip
    text = tables.markdown(mixed)
    assert "| from " in text and text.count("| trunk ") == 2 and text.count("| scratch ") == 4
    told = "steps of 8 at lr 0.001; or 60 steps, from the averaged weights of an independent network of 60 steps"
    assert f"{told} (from=trunk)." in text
    assert any("2 of 6 cells are of specialised networks, of 60 steps after a trunk of 60, the" in line
               for line in findings.findings(mixed))  # fmt: skip

    whole = analysis.load("p_latent", made(tmp_path / "all", "p_latent", **ALL))
    assert "from" not in tables.table(whole) and not any("not equal" in line for line in findings.findings(whole))
    assert "Training: 60 steps of 8 at lr 0.001, from the averaged weights of an" in tables.markdown(whole)


@pytest.mark.parametrize(("begun", "said"), [(lambda _: False, "equal budget"), (some, "60 steps after a trunk of 60")])
def test_an_equal_budget_is_claimed_only_where_it_is(begun: Any, said: str, tmp_path: Path) -> None:
    frame = analysis.load("order_ablation", made(tmp_path, "order_ablation", begun=begun))
    told = findings.findings(frame)
    assert said in told[0] and ("equal budget" in told[0]) == (said == "equal budget")


@pytest.mark.parametrize(
    ("text", "other", "refused"),
    [
        ('"steps": 60, "weights"', '"steps": 90, "weights"', "init.steps is 60 in 2 rows .* but 90 in 1 row"),
        ('"weights": "ema"', '"weights": "raw"', "init.weights"),
        ('"independent"', '"cascaded"', "init.schedule"),
    ],
)
def test_seeds_of_a_cell_have_trunks_of_their_own_but_of_one_training(
    text: str, other: str, refused: str, tmp_path: Path
) -> None:
    frame = analysis.load("p_latent", made(tmp_path, "p_latent", **ALL))
    assert len({json.loads(budget)["init"]["name"] for budget in frame.budget}) == 3
    protocol.comparable(frame)
    changed = frame.budget.str.replace(text, other)
    assert (changed != frame.budget).all()
    with pytest.raises(UserError, match=refused):
        protocol.comparable(frame.assign(budget=changed.where(frame.seed == 2, frame.budget)))
    protocol.comparable(frame.assign(budget=changed.where(frame.p_latent == 0.4, frame.budget)))


def test_what_was_probed_of_networks_from_scratch_is_not_theirs(tmp_path: Path) -> None:
    for words, found in ((["seeds=[0,1,2]"], True), (WORDS, False)):
        frame = analysis.load("p_latent", made(tmp_path, "p_latent", words=words))
        probed = tmp_path / "reports" / "p_latent" / "measured.safetensors"
        probed.parent.mkdir(parents=True, exist_ok=True)
        probed.touch()
        assert (probed in folders.measured(frame)) == found


def test_they_are_committed_beside_those_from_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    export.export("p_latent", made(tmp_path / "runs", "p_latent"))
    folder = export.export("p_latent", made(tmp_path / "short", "p_latent", **ALL))
    assert folder == Path("results/p_latent-trunk") and Path("results/p_latent").is_dir()
    here, there = analysis.load("p_latent-trunk", runs=None), analysis.load("p_latent", tmp_path / "short")
    assert tables.table(here).equals(tables.table(there)) and tables.notes(here) == tables.notes(there)
    assert findings.findings(here) == findings.findings(there) and len(tables.published(here)) == 1
    assert {*figures.draw(here, None)} == {*figures.draw(there, tmp_path / "short")}
    assert str(tmp_path) not in "".join(file.read_text() for file in folder.glob("*.json*"))
    with pytest.raises(UserError, match=r"another budget \(init.schedule none→\"independent\""):
        monkeypatch.setattr(export, "committed_name", lambda frame: "p_latent")
        export.export("p_latent", tmp_path / "short")
