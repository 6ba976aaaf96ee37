from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from advunlearn.runtime.seeding import clean_state, numpy_stream, torch_stream
from advunlearn.runtime.switches import kept_switches, set_switches


def test_a_stream_is_its_name_seed_and_index() -> None:
    def draw(*key: object) -> list[int]:
        return torch.randint(2**31, (4,), generator=torch_stream(*key)).tolist()  # type: ignore[arg-type]

    assert draw(0, "init") == draw(0, "init")
    different = [draw(0, "init"), draw(1, "init"), draw(0, "batches"), draw(0, "init", 0), draw(0, "init", 1)]
    assert len({tuple(each) for each in different}) == len(different)


def test_drawing_from_one_stream_moves_no_other() -> None:
    alone = numpy_stream(3, "split").random(5)
    torch.rand(7)
    np.random.random(3)
    torch_stream(3, "attack").seed()
    numpy_stream(3, "attack").random(100)
    assert (numpy_stream(3, "split").random(5) == alone).all()


NEW = hasattr(torch.backends, "fp32_precision")


def readable(owner: Any, name: str) -> Any:
    """Return a switch's value, or None where torch refuses to read an old one that a new one contradicts."""
    try:
        return getattr(owner, name)
    except RuntimeError:
        return None


def switches() -> list[Any]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    values = [readable(cudnn, name) for name in ("enabled", "benchmark", "deterministic", "allow_tf32")]
    values += [readable(matmul, "allow_tf32"), torch.are_deterministic_algorithms_enabled()]
    return values + ([owner.fp32_precision for owner in (torch.backends, cudnn, cudnn.conv, matmul)] if NEW else [])


@pytest.fixture
def own_switches() -> Iterator[None]:
    with kept_switches():
        yield


@pytest.mark.usefixtures("own_switches")
@pytest.mark.parametrize("general", [None, *(["ieee", "tf32"] if NEW else [])])
def test_a_run_leaves_torchs_switches_as_they_were_whichever_names_they_were_set_by(general: str | None) -> None:
    if general is not None:
        torch.backends.fp32_precision = general  # type: ignore[attr-defined]
    before = switches()
    readable_before = [was for was in before if was is not None]
    for precise in (True, False):
        with clean_state(0):
            set_switches(tf32=not precise, deterministic=precise)
            torch.backends.cudnn.enabled = False
            assert switches() != before
        assert [now for now, was in zip(switches(), before, strict=True) if was is not None] == readable_before


@pytest.mark.usefixtures("own_switches")
@pytest.mark.parametrize("general", [None, *(["ieee", "tf32"] if NEW else [])])
@pytest.mark.parametrize("tf32", [True, False])
def test_precision_is_set_whatever_the_process_had_set(general: str | None, tf32: bool) -> None:
    if general is not None:
        torch.backends.fp32_precision = general  # type: ignore[attr-defined]
    set_switches(tf32=tf32, deterministic=False)
    assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == tf32
    if NEW:
        wanted = "tf32" if tf32 else "ieee"
        assert torch.backends.cudnn.conv.fp32_precision == wanted  # type: ignore[attr-defined]
        assert torch.backends.cuda.matmul.fp32_precision == wanted  # type: ignore[attr-defined]


@pytest.mark.usefixtures("own_switches")
def test_deterministic_turns_the_timing_of_algorithms_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is restored
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    set_switches(tf32=False, deterministic=True)
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (False, True)
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    set_switches(tf32=False, deterministic=False)
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (True, False)
    assert not torch.are_deterministic_algorithms_enabled()
