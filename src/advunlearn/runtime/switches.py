"""Torch's process-wide switches of how CUDA computes: set for a run, and put back afterwards."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def kept_switches() -> Iterator[None]:
    """Restore the switches at the end, whatever is set inside."""
    backends = torch.backends
    plain = [(backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")]
    # Writing an old switch also sets its new one, so the new ones are put back last.
    tf32 = [*_old_tf32(), *_new_tf32()]
    before = [(*switch, getattr(*switch)) for switch in [*plain, *filter(_is_readable, tf32)]]
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        for switch in before:
            _set(*switch)
        _use_deterministic_algorithms(*algorithms)


def set_switches(*, tf32: bool, deterministic: bool) -> None:
    """Set how CUDA computes, inside `kept_switches`.

    Args:
        tf32: round what float32 convolutions and matrix products multiply to 10 bits of mantissa, which is faster.
        deterministic: use only algorithms that give the same bits every time. Without, cuDNN times its algorithms at
            the first use of each shape and takes the fastest.
    """
    for switch in _new_tf32():
        _set(*switch, "tf32" if tf32 else "ieee")
    for switch in _old_tf32():  # torch's compiler reads these, and fails where they differ from the new ones
        _set(*switch, tf32)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it once, at its first use
    _use_deterministic_algorithms(deterministic)


def _use_deterministic_algorithms(mode: bool, warn_only: bool = False) -> None:
    """Call torch's function only for a change: it imports the compiler, which takes a second."""
    now = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if now != (mode, warn_only):
        torch.use_deterministic_algorithms(mode, warn_only=warn_only)


def _old_tf32() -> list[tuple[Any, str]]:
    return [(torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "allow_tf32")]


def _new_tf32() -> list[tuple[Any, str]]:
    """Return the switches that torch 2.9 brought, from the general to the special."""
    if not hasattr(torch.backends, "fp32_precision"):
        return []
    cudnn = torch.backends.cudnn
    special = [getattr(cudnn, name) for name in ("conv", "rnn") if hasattr(cudnn, name)]
    return [(owner, "fp32_precision") for owner in (torch.backends, cudnn, torch.backends.cuda.matmul, *special)]


def _is_readable(switch: tuple[Any, str]) -> bool:
    """Return False for an old switch whose new one was set differently: torch then refuses to read it."""
    try:
        getattr(*switch)
    except RuntimeError:
        return False
    return True


def _set(owner: Any, name: str, value: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch 2.9 calls the old switches deprecated
        setattr(owner, name, value)
