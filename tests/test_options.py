from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.utils import get_class

from advunlearn.data.forget.class_ import Class
from advunlearn.optimizers.sgd import SGD
from advunlearn.options import Component, OptionError, option, source_digest
from advunlearn.unlearners.sg import SG


@dataclass
class Part(Component):
    count: int = option(4, at_least=2)
    share: float = option(0.5, above=0, below=1)
    kind: str = option("a", choices=("a", "b"))
    parts: list[float] = option([0.25], above=0, below=1)
    limit: int | None = option(None, at_least=1)

    def conflicts(self) -> list[str]:
        return ["count and limit clash"] if self.limit is not None and self.limit < self.count else []


def test_defaults_are_legal_and_lists_are_not_shared() -> None:
    first, second = Part(), Part()
    first.parts.append(0.5)
    assert second.parts == [0.25]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 1}, "count must be at least 2, got 1 (try count=4)"),
        ({"share": 1.0}, "share must be greater than 0 and less than 1, got 1.0"),
        ({"share": math.nan}, "share must be a finite number, got nan"),
        ({"count": "3"}, "count must be a number, got '3'"),
        ({"parts": [0.5, "a"]}, "parts must be a number, got 'a'"),
        ({"limit": (1, 2)}, "limit must be a number, got (1, 2)"),
        ({"kind": "c"}, "kind must be one of a, b, got c"),
        ({"parts": [0.5, 2.0]}, "parts must be greater than 0 and less than 1, got 2.0"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"limit": 2, "count": 3}, "count and limit clash"),
    ],
)
def test_a_bad_option_is_named_with_its_limits(options: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError) as caught:
        Part(**options)  # type: ignore[arg-type]
    assert words in caught.value.problems[0]


def test_all_bad_options_are_reported_together() -> None:
    with pytest.raises(OptionError) as caught:
        Part(count=0, share=-1.0, kind="z")
    assert [problem.split()[0] for problem in caught.value.problems] == ["count", "share", "kind"]


def test_a_class_of_the_user_is_identified_by_its_path_its_source_and_every_option() -> None:
    assert Part(count=3).identity() == {
        "part": f"{__name__}.Part",
        "source": source_digest(Part),
        "count": 3,
        "share": 0.5,
        "kind": "a",
        "parts": [0.25],
        "limit": None,
    }


def test_one_of_ours_is_identified_by_its_group_and_file_wherever_that_lies() -> None:
    assert SGD().identity()["part"] == "optimizer/sgd"
    assert Class().identity()["part"] == "forget/class"
    auditor = SG().identity()["auditor"]
    assert auditor["part"] == "auditor/svm"
    assert "source" not in auditor


def test_optimizers_are_also_found_where_frozen_sweeps_name_them() -> None:
    for path in ("advunlearn.training.sgd.SGD", "advunlearn.training.adamw.AdamW"):
        assert get_class(path)().identity()["part"] == f"optimizer/{path.split('.')[2]}"


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Give the digest of a class in `mine_options`, imported anew; it uses the modules `mine_scale` and `mine_lazy`."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_options.py").write_text(
        "import numpy\nfrom mine_scale import SCALE\n\n\nclass Mine:\n    def f(self):\n        import mine_lazy\n"
    )
    (tmp_path / "mine_scale.py").write_text("import mine_deep\nSCALE = 0.9\n")
    (tmp_path / "mine_lazy.py").write_text("")
    (tmp_path / "mine_deep.py").write_text("import mine_options\n")  # a circle ends
    (tmp_path / "mine_other.py").write_text("")

    def fresh() -> str:
        for name in [name for name in sys.modules if name.startswith("mine_")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return source_digest(importlib.import_module("mine_options").Mine)

    return fresh


@pytest.mark.parametrize("name", ["mine_options", "mine_scale", "mine_lazy", "mine_deep"])
def test_the_source_is_that_of_every_module_that_a_class_uses(
    digest: Callable[[], str], tmp_path: Path, name: str
) -> None:
    before = digest()
    assert digest() == before
    path = tmp_path / f"{name}.py"
    path.write_text(path.read_text() + "# changed\n")
    assert digest() != before


def test_the_source_is_not_that_of_other_or_installed_modules(digest: Callable[[], str], tmp_path: Path) -> None:
    before = digest()
    (tmp_path / "mine_other.py").write_text("changed = True\n")
    assert digest() == before


def test_a_class_without_a_file_is_like_no_other() -> None:
    first, second = (type("Typed", (), {"__module__": "nowhere"}) for _ in range(2))
    assert source_digest(first) == source_digest(first)
    assert source_digest(first) != source_digest(second)
