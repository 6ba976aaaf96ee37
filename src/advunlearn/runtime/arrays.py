"""Names of the array types that the package passes around."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
"""Scores, losses and other real numbers."""

Rows = NDArray[np.int64]
"""Row numbers of a pool, or positions among examples."""

Labels = NDArray[np.int64]
"""Classes, whole numbers from 0 on."""

Mask = NDArray[np.bool_]
"""Which of n examples are meant."""
