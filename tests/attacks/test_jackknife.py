"""The jackknife over shadow models, against closed forms."""

from __future__ import annotations

import numpy as np

from advunlearn.attacks.jackknife import jackknife_error


def test_of_a_difference_of_means_it_is_the_textbooks_standard_error() -> None:
    rng = np.random.default_rng(0)
    values, membership = rng.normal(size=(11, 7)), rng.random((11, 7)) < 0.5
    membership[:2], membership[2:4] = True, False

    def difference(values: np.ndarray, membership: np.ndarray) -> np.ndarray:
        inside, outside = (np.where(side, values, np.nan) for side in (membership, ~membership))
        return np.asarray(np.nanmean(inside, axis=0) - np.nanmean(outside, axis=0))

    without = np.stack([difference(np.delete(values, j, 0), np.delete(membership, j, 0)) for j in range(11)])
    sides = [np.where(side, values, np.nan) for side in (membership, ~membership)]
    expected = np.sqrt(sum(np.nanvar(side, axis=0, ddof=1) / (~np.isnan(side)).sum(0) for side in sides))
    np.testing.assert_allclose(jackknife_error(without, membership), expected, rtol=1e-12)


def test_a_side_without_models_adds_nothing() -> None:
    values = np.random.default_rng(0).normal(size=(6, 4))
    without = (values.sum(0) - values) / 5
    found = jackknife_error(without, np.zeros((6, 4), dtype=bool))
    np.testing.assert_allclose(found, values.std(0, ddof=1) / np.sqrt(6), rtol=1e-12)


def test_what_cannot_be_left_out_leaves_the_error_unknown() -> None:
    without = np.array([[1.0, 1.0], [np.nan, 2.0]])
    found = jackknife_error(without, np.array([[True, True], [False, True]]))
    assert np.isnan(found).tolist() == [True, False]
