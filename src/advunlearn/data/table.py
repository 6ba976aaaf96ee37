"""A table of the user, from a CSV or Parquet file."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.dataset import Dataset, DatasetInfo, Pool
from advunlearn.data.labels import numbered
from advunlearn.options import UserError, in_one_line, option
from advunlearn.runtime.arrays import Floats, Labels, Rows
from advunlearn.storage.files import UnreadableFile, open_regular, state_of_file

if TYPE_CHECKING:
    from pandas import DataFrame, Series

MOST_CATEGORIES = 1000  # of a column; a column with more is most likely a name or an ID
UNNAMED = "Unnamed: "  # what pandas calls a column without a name


@dataclass
class Table(Dataset):
    """A CSV or Parquet file with a row for each example and a column of labels.

    A column of numbers is standardised by its mean and standard deviation over the examples that the original is
    trained on. Any other column is one-hot encoded: there is a feature for each value in the file, so the number of
    features does not depend on the split. Labels are whole numbers or texts; classes are numbered in the sorted order
    of the labels. Rows are numbered from 0; the header line does not count.

    Attributes:
        path: of the file: Parquet if its name ends in `.parquet`, else CSV.
        label: name of the column of labels.
        drop: names of columns to ignore, such as IDs and names of persons.
        categorical: names of columns of numbers that are one-hot encoded as well.
        missing: `error` refuses missing values; `mean` replaces a missing number by the mean over the training
            examples, and sets all features of a missing category to 0.
        separator: between the columns of a CSV file.

    References:
        No publication.
    """

    path: str | None = None
    label: str | None = None
    drop: list[str] = option([])
    categorical: list[str] = option([])
    missing: str = option("error", choices=("error", "mean"))
    separator: str = ","

    def info(self) -> DatasetInfo:
        """Return the sizes, for which the whole file is read; see `Dataset.info`."""
        features = self._features()
        rows, columns = features.inputs.shape
        classes = tuple(range(len(features.classes)))
        return DatasetInfo(rows, 0, classes, (columns,), images=False, example_bytes=8 * columns)

    def load(self) -> Pool:
        """Return all rows; see `Dataset.load`."""
        features = self._features()
        rows, classes = len(features.labels), len(features.classes)
        return Pool(features.inputs.astype(np.float32), features.labels, rows, classes, images=False)

    def statistics(self, pool: Pool, rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return the statistics of columns of numbers, and 0 and 1 for one-hot features; see `Dataset.statistics`."""
        if self.mean is not None:
            return super().statistics(pool, rows)
        from sklearn.preprocessing import StandardScaler

        features = self._features()
        with np.errstate(invalid="ignore"):  # for a column without any value
            scaler = StandardScaler().fit(features.inputs[rows])  # missing values do not count
        use = features.numeric & np.isfinite(scaler.mean_)
        mean, std = np.where(use, scaler.mean_, 0), np.where(use, scaler.scale_, 1)
        return mean.astype(np.float32), std.astype(np.float32)

    def replaces_missing(self) -> bool:
        """Return whether missing values are replaced by the mean; see `Dataset.replaces_missing`."""
        return self.missing == "mean"

    @classmethod
    def status(cls) -> str:
        """See `Dataset.status`."""
        return "your own table: dataset.path=mine.csv dataset.label=COLUMN"

    def _features(self) -> _Features:
        if self.path is None:
            raise UserError("path must name a CSV or Parquet file (try dataset.path=mine.csv)")
        if self.label is None:
            raise UserError("label must name the column of labels (try dataset.label=COLUMN)")
        path = Path(self.path).expanduser()
        names = tuple(self.drop), tuple(self.categorical)
        try:
            return _features(path, state_of_file(path), self.label, *names, self.missing == "mean", self.separator)
        except UnreadableFile as error:
            raise UserError(f"path={self.path} cannot be read: {error.reason}") from error
        except UserError as error:
            raise UserError(f"path={self.path}: {error}") from error


@dataclass(frozen=True)
class _Features:
    """The contents of a table.

    Attributes:
        inputs: (n, features), with NaN for missing numbers.
        numeric: (features,), whether a feature is a column of numbers.
        labels: (n,).
        classes: names of the classes.
    """

    inputs: Floats
    numeric: NDArray[np.bool_]
    labels: Labels
    classes: list[str]


@lru_cache(2)  # the runs of a sweep read the same file
def _features(
    path: Path,
    state: str,
    label: str,
    drop: tuple[str, ...],
    categorical: tuple[str, ...],
    may_miss: bool,
    separator: str,
) -> _Features:
    """Return the contents of a file; `state` changes with the file.

    Raises:
        UserError: in one line without the path, if the file is not a table with these columns.
    """
    table = _read(path, separator)
    for option_, names in (("label", (label,)), ("drop", drop), ("categorical", categorical)):
        for name in names:
            if name not in table.columns:
                raise UserError(f"{option_}: no column {name}; there are {_some(table.columns)}")
    if len(table) == 0 or label in drop:
        raise UserError("label must not be in drop" if len(table) else "it holds no row")
    labels, classes = _labels(table[label])
    columns = [_column(table[name], name in categorical, may_miss) for name in table.columns.drop([label, *drop])]
    if not columns:
        raise UserError("it has no column of inputs")
    inputs = np.concatenate([values for values, _ in columns], axis=1)
    numeric = np.concatenate([np.full(values.shape[1], is_numeric) for values, is_numeric in columns])
    return _Features(inputs, numeric, labels, classes)


def _read(path: Path, separator: str) -> DataFrame:
    try:
        import pandas
    except ImportError as error:
        raise UserError("pandas reads tables, and is not installed (pip install 'advunlearn[table]')") from error
    with open_regular(path) as file:
        try:
            if path.suffix == ".parquet":
                return pandas.read_parquet(file)
            with warnings.catch_warnings():
                warnings.simplefilter("error", pandas.errors.ParserWarning)  # too long a line would lose cells
                return pandas.read_csv(file, sep=separator, index_col=False, low_memory=False)
        except ImportError as error:
            raise UserError("pyarrow reads Parquet, and is not installed (pip install 'advunlearn[table]')") from error
        except Exception as error:  # pandas and pyarrow raise errors of many types for invalid bytes
            raise UserError(f"not a table ({in_one_line(error)})") from error


def _labels(column: Series) -> tuple[Labels, list[str]]:
    name, missing = column.name, int(column.isna().sum())
    if missing:
        raise UserError(f"the label is missing in {missing} rows (column {name})")
    values = column.to_numpy()
    if values.dtype.kind == "f" and (values == values.round()).all():
        values = values.astype(np.int64)
    try:
        return numbered(values if values.dtype.kind in "iubf" else np.array(column.tolist(), dtype=object), len(values))
    except UserError as error:
        raise UserError(f"label={name}: {error}") from error


def _column(column: Series, categorical: bool, may_miss: bool) -> tuple[Floats, bool]:
    """Return the features of a column, (n, k), and whether they are numbers."""
    from pandas import get_dummies
    from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype, is_timedelta64_dtype

    name, missing, others = column.name, int(column.isna().sum()), f"or leave it out: dataset.drop=[{column.name}]"
    if str(name).startswith(UNNAMED):
        raise UserError(
            f"column {column.name} has no name, like a number of the row; leave it out: "
            f"dataset.drop=['{name}'], or give it one"
        )
    if missing and not may_miss:
        raise UserError(f"column {name} misses {missing} values (try dataset.missing=mean, {others})")
    if is_datetime64_any_dtype(column) or is_timedelta64_dtype(column):
        raise UserError(f"column {name} holds times; make numbers of them, {others}")
    if is_numeric_dtype(column) and not is_bool_dtype(column) and not categorical:
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)[:, None]
        if np.isinf(values.astype(np.float32)).any():
            raise UserError(f"column {name} holds infinite numbers")
        return values, True
    try:
        kinds = column.nunique()
    except TypeError as error:  # lists and dicts of a Parquet file have no hash
        raise UserError(f"column {name} holds lists or dicts; make a column of each value, {others}") from error
    if kinds > MOST_CATEGORIES:
        raise UserError(f"column {name} holds {kinds:,} different values, and would be as many features; {others[3:]}")
    return get_dummies(column, dtype=np.float64).to_numpy(), False


def _some(names: Any) -> str:
    shown = ", ".join(map(str, names[:20]))
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"
