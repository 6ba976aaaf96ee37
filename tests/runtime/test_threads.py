"""CPU threads of torch: set in one place, restored, and written down as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import advunlearn
from advunlearn.config.compose import experiment_from
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.seeding import clean_state
from advunlearn.runtime.threads import kept_threads, one_thread
from advunlearn.stages.data import prepare


@pytest.mark.parametrize("context", [kept_threads, one_thread, lambda: clean_state(0)])
def test_threads_are_restored_after_an_error_as_well(
    context: Callable[[], contextlib.AbstractContextManager[None]],
) -> None:
    def use_two() -> None:
        with context():
            torch.set_num_threads(2)
            raise ZeroDivisionError

    torch.set_num_threads(3)
    with pytest.raises(ZeroDivisionError):
        use_two()
    assert torch.get_num_threads() == 3


def test_one_thread_is_for_what_is_computed_on_the_cpu() -> None:
    torch.set_num_threads(3)
    for tensor, threads in ((None, 1), (torch.zeros(1), 1), (torch.zeros(1, device="meta"), 3)):
        with one_thread(tensor):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("words", "threads"), [(["threads=3"], 3), ([], 1)])  # a step of the default run is small
def test_the_manifest_holds_the_threads_that_the_run_computes_with(
    words: list[str], threads: int, workplace: Path
) -> None:
    torch.set_num_threads(2)
    with Manifest(workplace / "run") as manifest:
        prepare(experiment_from(words), manifest)
    assert manifest.data["threads"] == threads == torch.get_num_threads()


def test_threads_are_set_where_they_are_defined_or_chosen_and_nowhere_else() -> None:
    source = Path(advunlearn.__file__).parent
    setting = [path for path in source.rglob("*.py") if "set_num_threads" in path.read_text()]
    assert {str(path.relative_to(source)) for path in setting} == {"runtime/threads.py", "training/policy.py"}
