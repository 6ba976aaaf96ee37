from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from sklearn.datasets import load_breast_cancer

from advunlearn.data.examples import examples_of
from advunlearn.data.table import Table
from advunlearn.options import UserError

CPU = torch.device("cpu")


def csv(path: Path, lines: str) -> str:
    path.write_text("\n".join(line.strip() for line in lines.strip().splitlines()) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def people(tmp_path: Path) -> str:
    return csv(
        tmp_path / "people.csv",
        """id,age,city,member,income,zip
        1,20,Bern,True,10.5,3000
        2,30,Aarau,False,20.5,5000
        3,40,Bern,True,30.5,3000
        4,50,Chur,False,40.5,7000
        5,60,Bern,False,1000.5,3000""",
    )


def test_numbers_are_standardised_by_the_training_rows_and_others_one_hot(people: str) -> None:
    dataset = Table(path=people, label="member", drop=["id", "zip"])
    info, pool = dataset.info(), dataset.load()
    assert (info.train, info.test, info.classes, info.shape, info.images) == (5, 0, (0, 1), (5,), False)
    assert pool.labels.tolist() == [1, 0, 1, 0, 0]  # False, True
    assert pool.inputs[:, 1:4].tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]  # Aarau, Bern, Chur
    rows = np.array([0, 1, 2])  # Chur does not occur in them, nor does the large income
    prepared = examples_of(pool, dataset, rows, CPU, channels_last=False).prepared().numpy()
    assert (prepared[:, 1:4] == pool.inputs[:, 1:4]).all()
    scale = np.sqrt(200 / 3)
    np.testing.assert_allclose(prepared[:, 0], (np.array([20, 30, 40, 50, 60]) - 30) / scale, rtol=1e-5)
    np.testing.assert_allclose(prepared[:3, 4], np.array([-10, 0, 10]) / scale, rtol=1e-5, atol=1e-6)
    assert prepared[4, 4] > 100


def test_numbers_may_be_categories(people: str) -> None:
    dataset = Table(path=people, label="city", drop=["id", "age", "income", "member"], categorical=["zip"])
    assert dataset.info().classes == (0, 1, 2)
    assert dataset.load().inputs.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0]]
    mean, std = dataset.statistics(dataset.load(), np.arange(5)) or (None, None)
    assert np.array_equal(mean, [0, 0, 0])
    assert np.array_equal(std, [1, 1, 1])


def test_parquet_gives_what_csv_gives(people: str, tmp_path: Path) -> None:
    pandas.read_csv(people).to_parquet(tmp_path / "people.parquet")
    first, second = (Table(path=path, label="city").load() for path in (people, str(tmp_path / "people.parquet")))
    assert first.checksum == second.checksum


def test_missing_values_are_refused_or_become_the_mean_of_the_training_rows(tmp_path: Path) -> None:
    path = csv(
        tmp_path / "x.csv",
        """a,b,c,y
        1,x,,0
        ,y,,1
        3,,5,0
        11,x,7,1""",
    )
    with pytest.raises(UserError, match=r"^path=.*: column a misses 1 values \(try dataset.missing=mean, or leave"):
        Table(path=path, label="y").info()
    dataset = Table(path=path, label="y", missing="mean")
    prepared = examples_of(dataset.load(), dataset, np.array([0, 1, 2]), CPU, channels_last=False).prepared()
    assert prepared.tolist() == [[-1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [9, 1, 0, 2]]
    rows_without_c = examples_of(dataset.load(), dataset, np.array([0, 1]), CPU, channels_last=False).prepared()
    assert rows_without_c[:, 3].tolist() == [0, 0, 5, 7]  # it has no mean
    with pytest.raises(UserError, match=r"^path=.*: the label is missing in 1 rows \(column a\)"):
        Table(path=path, label="a", missing="mean").info()


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = csv(tmp_path / "x.csv", "a,y\n1,0\n2,1")
    assert Table(path=path, label="y").load().inputs.tolist() == [[1], [2]]
    csv(tmp_path / "x.csv", "a,y\n3,0\n4,1")
    assert Table(path=path, label="y").load().inputs.tolist() == [[3], [4]]


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        ("a,y\n1,0", {"label": "z"}, "label: no column z; there are a, y"),
        ("a,y\n1,0", {"label": "y", "drop": ["b"]}, "drop: no column b; there are a, y"),
        ("a,y\n1,0", {"label": "y", "drop": ["y"]}, "label must not be in drop"),
        ("a,y\n1,0", {"label": "y", "drop": ["a"]}, "it has no column of inputs"),
        ("a,y", {"label": "y"}, "it holds no row"),
        ("", {"label": "y"}, "not a table (No columns to parse from file)"),
        ("a,y\n1,0,2,3\n1,2\n", {"label": "y"}, "not a table (Length of header or names does not match"),
        ("a,y\n1,0\n1,2,3\n", {"label": "y"}, "not a table (Error tokenizing data."),
        ("a,y\n1,0.5\n2,1.25", {"label": "y"}, "label=y: labels must be whole numbers or texts, one for each example"),
        (",a,y\n0,1,0\n1,5,1", {"label": "y"}, "column Unnamed: 0 has no name, like a number of the row"),
        ("a,y\ninf,0\n2,1", {"label": "y"}, "column a holds infinite numbers"),
        ("a;y\n1;0\n2;1", {"label": "y"}, "label: no column y; there are a;y"),
        (
            "a,y\n" + "\n".join(f"name {n},{n % 2}" for n in range(1001)),
            {"label": "y"},
            "column a holds 1,001 different values, and would be as many features; leave it out: dataset.drop=[a]",
        ),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(
    tmp_path: Path, lines: str, options: dict[str, object], said: str
) -> None:
    (tmp_path / "x.csv").write_text(lines, encoding="utf-8")
    with pytest.raises(UserError, match=r"^path=.*x.csv: ") as caught:
        Table(path=str(tmp_path / "x.csv"), **options).info()  # type: ignore[arg-type]
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_of_lists_is_refused_in_one_line(tmp_path: Path) -> None:
    import pandas

    pandas.DataFrame({"a": [[1, 2], [3]], "y": [0, 1]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(
        UserError, match=r"^path=.*: column a holds lists or dicts; make a column of each value, or leav"
    ):
        Table(path=str(tmp_path / "x.parquet"), label="y").info()


def test_a_table_may_have_another_separator_and_times_are_refused(tmp_path: Path) -> None:
    path = csv(tmp_path / "x.csv", "a;y\n1;0\n2;1")
    assert Table(path=path, label="y", separator=";").info().shape == (1,)
    times = pandas.DataFrame({"a": pandas.to_datetime(["2020", "2021"]), "y": [0, 1]})
    times.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(UserError, match="column a holds times; make numbers of them, or leave it out"):
        Table(path=str(tmp_path / "x.parquet"), label="y").info()


def test_what_is_not_given_and_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options, said in (
        ({}, r"^path must name a CSV or Parquet file \(try dataset.path=mine.csv\)$"),
        ({"path": "x.csv"}, r"^label must name the column of labels \(try dataset.label=COLUMN\)$"),
        ({"path": "none.csv", "label": "y"}, r"^path=none.csv cannot be read: No such file or directory$"),
    ):
        with pytest.raises(UserError, match=said):
            Table(**options).info()
    path = csv(tmp_path / "x.csv", "a,y\n1,0\n2,1")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        UserError, match=r"pandas reads tables, and is not installed \(pip install 'advunlearn\[table\]'"
    ):
        Table(path=path, label="y").info()


def test_breast_cancer(tmp_path: Path) -> None:
    data = load_breast_cancer(as_frame=True)
    data.frame.assign(target=data.target.map(lambda each: data.target_names[each])).to_csv(
        tmp_path / "x.csv", index=False
    )
    dataset = Table(path=str(tmp_path / "x.csv"), label="target")
    pool = dataset.load()
    assert dataset.info().shape == (30,)
    assert (pool.labels == 1 - data.target).all()  # benign comes before malignant
