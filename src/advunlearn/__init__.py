"""Adversarial machine unlearning: a Stackelberg game of unlearner and auditor, and the audit of its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advunlearn.api import Result, UnlearnedModel, audit, compare, run, unlearn

_API = ("Result", "UnlearnedModel", "audit", "compare", "run", "unlearn")

__all__ = ["Result", "UnlearnedModel", "__version__", "audit", "compare", "run", "unlearn"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch is imported when a function is first asked for, so that the command line's help is instant.
    if name in _API:
        from advunlearn import api

        return getattr(api, name)
    raise AttributeError(f"module 'advunlearn' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*__all__, "__all__", "__doc__", "__file__", "__name__", "__path__"})
