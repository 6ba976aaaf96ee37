from __future__ import annotations

import numpy as np
import pytest

from advunlearn.data.labels import numbered
from advunlearn.options import UserError


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([7, 3, 7, 12, 3, 12]), ["3", "7", "12"]),
        (np.array(["b", "a", "b", "c", "a", "c"]), ["a", "b", "c"]),
        (np.array(["b", "a", "b", "ccc", "a", "ccc"], dtype=object), ["a", "b", "ccc"]),
        (np.array([5, -1, 5, 9, -1, 9], dtype=np.int8), ["-1", "5", "9"]),
    ],
)
def test_classes_are_numbered_in_sorted_order(labels: np.ndarray, names: list[str]) -> None:
    found, known = numbered(labels, 4)
    assert found.tolist() == [1, 0, 1, 2, 0, 2]
    assert found.dtype == np.int64
    assert known == names


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            np.array([0.5, 1.0, 0.0, 0.0]),
            "labels must be whole numbers or texts, one for each example, got float64, such as 0.5, 1.0, 0.0",
        ),
        (np.zeros((4, 2), int), "got int64 of shape (4, 2)"),
        (np.array([None, "a", "b", "b"], dtype=object), "got object, such as None, 'a', 'b'"),
        (np.array([0, 1, 0, 2]), "the label 2 of the test part does not occur in the training part"),
    ],
)
def test_what_are_no_classes_is_refused(labels: np.ndarray, said: str) -> None:
    with pytest.raises(UserError) as caught:
        numbered(labels, 3)
    assert said in str(caught.value)
