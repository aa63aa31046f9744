"""The notebooks run from committed results alone, and are committed as they ran."""

from pathlib import Path

import nbformat
import pytest

from analysis import notebooks

RESULTS = Path(__file__).parents[2] / "results"


@pytest.mark.slow
@pytest.mark.parametrize("name", notebooks.GROUPS)
def test_it_runs_and_shows_each_sweep_or_says_that_there_is_nothing_yet(name: str) -> None:
    made = notebooks.run(name)
    shown = [cell for cell in made.cells if cell.cell_type == "code" and cell.source.startswith("show(")]
    assert len(shown) == len(notebooks.GROUPS[name][2])
    for sweep, cell in zip(notebooks.GROUPS[name][2], shown, strict=True):
        assert not [output for output in cell.outputs if output.get("name") == "stderr"]
        data = [output.data for output in cell.outputs if "data" in output]
        if list(RESULTS.glob(f"{sweep}/rows.jsonl")):
            assert sum("image/png" in d for d in data) >= 3
            assert any("Protocol:" in d.get("text/markdown", "") for d in data)
        else:
            assert [output.text for output in cell.outputs] == [f"{sweep}: no results yet\n"]


@pytest.mark.parametrize("name", notebooks.GROUPS)
def test_it_is_committed_with_outputs(name: str) -> None:
    committed = nbformat.read(notebooks.FOLDER / f"{name}.ipynb", as_version=4)
    assert [cell.source for cell in committed.cells] == [cell.source for cell in notebooks.notebook(name).cells]
    assert all(cell.execution_count for cell in committed.cells if cell.cell_type == "code")
