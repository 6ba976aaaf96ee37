"""Forget whole classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from advunlearn.data.dataset import DatasetInfo
from advunlearn.data.forget.scenario import Forget
from advunlearn.options import option
from advunlearn.runtime.arrays import Rows


@dataclass
class Class(Forget):
    """Forget every training example of the named classes.

    References:
        No publication.
    """

    classes: list[int] = option([0])

    def problems(self, info: DatasetInfo, train_size: int) -> list[str]:
        """Refuse classes that the dataset lacks, none and all of them; see `Forget.problems`."""
        unknown = sorted(set(self.classes) - set(info.classes))
        if unknown:
            known = f"{info.classes[0]}..{info.classes[-1]}"
            return [f"classes must be among the dataset's classes {known}, got {', '.join(map(str, unknown))}"]
        if not self.classes:
            return ["classes must name at least one class, got none (try forget.classes=[0])"]
        if set(self.classes) == set(info.classes):
            return ["classes must leave a class to retain, got all of them"]
        return []

    def select(self, rows: Rows, labels: Rows, rng: np.random.Generator) -> Rows:
        """Return every row of these classes."""
        return np.sort(rows[np.isin(labels, self.classes)])
