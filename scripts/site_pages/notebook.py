"""A notebook as a page, executed when the site is built: it is kept without outputs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from unittest.mock import patch


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook and what its cells show as Markdown, and its pictures by name."""
    import nbformat
    from nbconvert import MarkdownExporter
    from nbconvert.preprocessors import ExecutePreprocessor

    book = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {"ADVUNLEARN_CACHE": folder}):
        execution = ExecutePreprocessor(timeout=300, kernel_name="python3")
        execution.preprocess(book, {"metadata": {"path": folder}})
    text, resources = MarkdownExporter().from_notebook_node(book)
    return text, resources["outputs"]
