"""Forget a part of a class that is known by finer labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from advunlearn.data.dataset import DatasetInfo
from advunlearn.data.forget.scenario import Forget
from advunlearn.options import UserError, in_one_line, option
from advunlearn.runtime.arrays import Rows
from advunlearn.storage.files import UnreadableFile, open_regular


@dataclass
class Subclass(Forget):
    """Forget every training example of some subclasses, such as the fine classes of CIFAR-100 below its coarse labels.

    The subclasses are whole numbers in a file, one for each row of the dataset's training part, in its order: a .npy
    file, or an array of an npz file, which may be the file of `dataset=npz`. Models are trained on the labels of the
    dataset, not on the subclasses.

    Attributes:
        path: the file.
        array: the name of the array in an npz file.
        subclasses: the numbers of those to forget.

    References:
        [foster2024] J. Foster, S. Schoepf and A. Brintrup, "Fast Machine Unlearning Without Retraining Through
            Selective Synaptic Dampening", AAAI 2024. https://arxiv.org/abs/2308.07707 (subclasses of CIFAR-20)
    """

    path: str | None = None
    array: str = "subclasses"
    subclasses: list[int] = option([0])

    def problems(self, info: DatasetInfo, train_size: int) -> list[str]:
        """Refuse a missing file, another number of rows, and subclasses that do not occur; see `Forget.problems`."""
        try:
            found = self._read()
        except UserError as error:
            return [str(error)]
        if len(found) != info.train:
            return [
                f"path={self.path} must have one number for each of the {info.train} rows of the training part, "
                f"got {len(found)}"
            ]
        if unknown := sorted(set(self.subclasses) - set(found.tolist())):
            return [f"subclasses must occur in {self.path}, which does not hold {', '.join(map(str, unknown))}"]
        return [] if self.subclasses else ["subclasses must name at least one, got none (try forget.subclasses=[0])"]

    def select(self, rows: Rows, labels: Rows, rng: np.random.Generator) -> Rows:
        """Return every row of these subclasses."""
        return np.sort(rows[np.isin(self._read()[rows], self.subclasses)])

    def _read(self) -> Rows:
        if self.path is None:
            raise UserError(
                "path must name a .npy or .npz file with the subclass of each row (try forget.path=fine.npy)"
            )
        try:
            with open_regular(Path(self.path).expanduser()) as file:
                found: Any = np.load(file, allow_pickle=False)
                if not isinstance(found, np.ndarray):
                    if self.array not in found.files:
                        raise UserError(
                            f"array={self.array} is not in {self.path}, which holds {', '.join(found.files)}"
                        )
                    found = found[self.array]
        except UnreadableFile as error:
            raise UserError(f"path={self.path} cannot be read: {error.reason}") from error
        except UserError:
            raise
        except Exception as error:  # zipfile, zlib and numpy raise errors of many types for invalid bytes
            raise UserError(f"path={self.path}: damaged or not a file of arrays ({in_one_line(error)})") from error
        if found.ndim != 1 or found.dtype.kind not in "iu":
            raise UserError(f"path={self.path} must hold whole numbers (n,), got {found.dtype} {found.shape}")
        return np.asarray(found, dtype=np.int64)
