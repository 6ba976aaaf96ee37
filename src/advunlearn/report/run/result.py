"""The result of a run or a comparison, for Python and notebooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.splits import Splits
from advunlearn.evaluation.metrics_file import Metrics
from advunlearn.evaluation.names import ModelName
from advunlearn.options import UserError
from advunlearn.report.drawing import drawn
from advunlearn.report.run.page import Provenance, draw_pictures, render
from advunlearn.report.run.table import records
from advunlearn.report.run.terminal import comparison_table
from advunlearn.storage.files import atomic_write

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from torch import nn


@dataclass(frozen=True)
class Result:
    """What a run or a comparison found.

    Attributes:
        folder: of the run, with its files; None for a comparison of models in Python.
        measured: the contents of `metrics.json`; None for a run that only trained shadow models. See `metrics`.
        networks: `original`, `retrained` and `unlearned`, in evaluation mode and on the CPU; empty for a run that took
            over the files of another.
        scores: the contents of `scores.npz`: for each of n attacked examples its row (`rows`), whether it is a forget
            example (`member`), its class (`label`), and under `model/attack` its member scores, (n,) each.
        splits: the rows of each part of the data. In a comparison, rows are numbered through `retain`, `forget`,
            `audit`, `selection` and `test`, in this order.
        about: how it was computed, as in `manifest.json`.
        objective: what `objective=` names, on the selection set, for a search; None in a comparison, and for a run
            without selection examples of the forget set's classes.
    """

    folder: Path | None
    measured: Metrics | None
    networks: dict[ModelName, nn.Module] = field(default_factory=dict, repr=False)
    scores: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    splits: Splits | None = field(default=None, repr=False)
    about: dict[str, Any] = field(default_factory=dict, repr=False)
    objective: float | None = None

    @property
    def metrics(self) -> Metrics:
        """Return the contents of `metrics.json`.

        Raises:
            UserError: for a run that only trained a shard of the shadow models.
        """
        if self.measured is None:
            raise UserError("the run only trained a shard of the shadow models: it has no metrics")
        return self.measured

    @property
    def network(self) -> nn.Module | None:
        """Return the unlearned network; None for a run that took over the files of another."""
        return self.networks.get("unlearned")

    def to_frame(self) -> pandas.DataFrame:
        """Return one row per number of each model, with its interval and gap to the retrained model.

        Raises:
            UserError: if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise UserError("to_frame needs the package pandas (try pip install 'advunlearn[pandas]')") from error
        return pandas.DataFrame(records(self.metrics))

    def plot(self) -> Figure:
        """Return the ROC curves of the primary attacks on the three models, as a matplotlib figure."""
        from advunlearn.report.run.pictures import roc_figure

        return roc_figure({name: np.asarray(score) for name, score in self.scores.items()})

    def save(self, path: str | Path) -> Path:
        """Write the report, one HTML file that loads no other, and return its path."""
        page = Path(path).expanduser()
        page.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(page) as temporary:
            temporary.write_text(self._page(), encoding="utf-8")
        return page

    def _page(self) -> str:
        pictures = drawn(lambda: draw_pictures(self.metrics["trace"], self.scores))
        forget = None if self.splits is None else self.splits.forget
        return render(self.metrics, cast("Provenance", self.about), pictures, forget=forget)

    def _repr_html_(self) -> str:
        return render(self.metrics, cast("Provenance", self.about), {}, template="table.html")

    def __str__(self) -> str:
        """Return the table of the three models, as `advunlearn run` prints it."""
        return comparison_table(self.metrics)
