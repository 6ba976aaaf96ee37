"""Draw pictures whatever matplotlib is set to: a report is complete without them, and a run never fails by them."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping

from advunlearn.options import one_line

logger = logging.getLogger(__name__)


class NotDrawn(Exception):
    """The reason why matplotlib could not draw the pictures."""


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Inside, import and use matplotlib with its own defaults: no `MPLBACKEND` and no matplotlibrc changes a picture.

    Raises:
        NotDrawn: for any error inside.
    """
    try:
        _import_matplotlib()
        from matplotlib import style

        with style.context("default"):
            yield
    except Exception as error:  # of a broken or badly configured matplotlib, which raises any
        raise NotDrawn(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _import_matplotlib() -> None:
    """Import matplotlib without the user's backend, which the import refuses if it is not installed here."""
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib  # noqa: F401
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def drawn(draw: Callable[[], Mapping[str, bytes]]) -> dict[str, bytes]:
    """Return the pictures that `draw` draws; if it raises `NotDrawn`, none, and the reason is logged."""
    try:
        return dict(draw())
    except NotDrawn as error:
        logger.warning("the report has no pictures (%s); `advunlearn report` draws them once that is repaired", error)
        return {}


def literal(text: str) -> str:
    r"""Return a name as matplotlib draws it unchanged: text between two `$` would have to be a formula."""
    return one_line(text).replace("$", r"\$")
