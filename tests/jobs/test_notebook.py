"""The notebook of the documentation, executed as `jupyter nbconvert --execute` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbconvert.preprocessors import ExecutePreprocessor

NOTEBOOK = Path(__file__).parents[2] / "docs" / "compare.ipynb"


@pytest.fixture(scope="module")
def outputs(folder: Path) -> dict[str, dict[str, Any]]:
    """Give what the last lines of the cells show, by kind, under the first line of each cell."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    ExecutePreprocessor(timeout=300, kernel_name="python3").preprocess(notebook, {"metadata": {"path": str(folder)}})
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return {
        cell.source.splitlines()[0]: output.data
        for cell in cells
        for output in cell.outputs
        if output.output_type == "execute_result"
    }


def test_a_result_is_shown_as_a_table_and_saved(outputs: dict[str, dict[str, Any]], folder: Path) -> None:
    table = outputs["result = advunlearn.compare("]["text/html"]
    assert "<table" in table
    assert "lira" in table
    assert "<table" in outputs["result.to_frame().head()"]["text/html"]
    assert "image/png" in outputs["result.plot()"]
    assert "lira" in (folder / "audit.html").read_text(encoding="utf-8")
    assert not [name for name, data in outputs.items() if "Error" in str(data)]


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
