"""Draw pictures with any configuration of matplotlib; if that fails, a report has none, and a run does not fail."""

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
    """Import and use matplotlib with its defaults, inside: `MPLBACKEND` and matplotlibrc change no picture.

    Raises:
        NotDrawn: for any error inside.
    """
    try:
        _import_matplotlib()
        from matplotlib import style

        with style.context("default"):
            yield
    except Exception as error:  # a broken or badly configured matplotlib may raise any
        raise NotDrawn(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _import_matplotlib() -> None:
    """Import matplotlib without the user's backend, which the import refuses if it is not installed here."""
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib  # noqa: F401

        logging.getLogger("fontTools").setLevel(logging.WARNING)  # it reports each table of each font in a PDF
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def drawn(draw: Callable[[], Mapping[str, bytes]]) -> dict[str, bytes]:
    """Return the pictures that `draw` returns; none, with a log line, if it raises `NotDrawn`."""
    try:
        return dict(draw())
    except NotDrawn as error:
        logger.warning("the report has no pictures (%s); `advunlearn report` draws them later", error)
        return {}


def literal(text: str) -> str:
    r"""Return a name that matplotlib draws unchanged: it reads text between two `$` as a formula."""
    return one_line(text).replace("$", r"\$")
