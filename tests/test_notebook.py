"""The notebook runs from the committed results alone and draws what it says."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "order_ablation.ipynb"
ROWS = ROOT / "results" / "order_ablation" / "rows.jsonl"


@pytest.mark.skipif(not ROWS.exists(), reason=f"{ROWS.relative_to(ROOT)} is not there yet")
def test_the_notebook_runs_and_draws_all_figures_and_the_table() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": NOTEBOOK.parent}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    shown = [output.data for output in outputs if "data" in output]
    assert sum("image/png" in data for data in shown) == 3
    table = next(data["text/markdown"] for data in shown if "text/markdown" in data)
    assert "| independent" in table and "the floor" in table


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
