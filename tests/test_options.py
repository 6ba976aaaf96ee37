from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from advunlearn.options import Component, OptionError, option
from advunlearn.storage.files import file_digest


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


def test_resolved_names_the_class_and_every_option() -> None:
    assert Part(count=3).resolved() == {
        "_target_": f"{__name__}.Part",
        "_source_": file_digest(Path(__file__)),  # of a class that is not ours
        "count": 3,
        "share": 0.5,
        "kind": "a",
        "parts": [0.25],
        "limit": None,
    }
