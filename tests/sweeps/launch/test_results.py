"""What the rows of a launch become: a table, figures, an export; what is missing or does not compare is said."""

import json
import shutil
from pathlib import Path

import matplotlib
import pytest
from order import CELLS, NAME

from analysis import export, figures, results, tables
from analysis.scores import path_label
from lf.core.errors import UserError


def test_the_table_has_a_row_a_cell_and_the_floor(done: Path) -> None:
    frame = results.load(NAME, done)
    assert len(frame) == CELLS and frame.fd.notna().all() and frame.protocol.nunique() == frame.budget.nunique() == 1
    text = tables.markdown(frame).partition("Published")[0]
    lines = [line for line in text.splitlines() if line.startswith(("| tiny", "| pixels", "| none"))]
    assert len(lines) == CELLS and "FD-digits" in text and "FID" not in text and "missing" not in text
    assert f"FD-digits {frame.real_fd.iloc[0]:.3g}" in text
    assert "32 images" in text and "4 steps" in text


def test_a_cell_that_is_not_done_is_missing_in_the_table_and_in_the_figures(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = results.load(NAME, copy).iloc[3]
    shutil.rmtree(copy / "evaluation" / gone.evaluation_id)
    frame = results.load(NAME, copy)
    assert len(frame) == CELLS and frame.fd.isna().sum() == 1
    lines = [line for line in tables.markdown(frame).splitlines() if "missing" in line]
    assert len(lines) == 1 and path_label(gone.path, gone.alpha) in lines[0] and gone.latent in lines[0]
    assert tables.table(frame).fd.isna().sum() == 1
    monkeypatch.setattr(results, "RESULTS", copy / "results")
    matplotlib.use("agg")
    written = figures.write(figures.draw(frame, copy), copy / "figures")
    assert {file.name for file in written} >= {"alpha.png", "paths.pdf", "samples.png"}
    assert all(file.stat().st_size > 1000 for file in written)


def test_rows_of_two_protocols_or_budgets_share_no_table(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    file = export.export(NAME, done) / "rows.jsonl"
    exported = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(exported) == CELLS
    same = results.load(NAME, runs=None)
    assert list(same.fd) == list(results.load(NAME, done).fd)
    assert len(results.samples(same, runs=None)) == CELLS
    for kind, key, value in (("protocol", "n", 50_000), ("protocol", "judging", {}), ("budget", "lr", 1.0)):
        changed = exported[5] | {kind: json.dumps(json.loads(exported[5][kind]) | {key: value}, sort_keys=True)}
        lines = [json.dumps(row) for row in [*exported[:5], changed, *exported[6:]]]
        file.write_text("\n".join(lines) + "\n")
        with pytest.raises(UserError, match=rf"{kind}.*: {key}.* in 1 row \({exported[5]['title']}\)"):
            tables.markdown(results.load(NAME, runs=None))
