"""Pages from templates: everything that is filled in is escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Undefined
from markupsafe import Markup

from advunlearn.options import one_line

Card = tuple[str, dict[str, str]]  # a small box: its title, and a number for some of the models


def render_page(template: str, pictures: Mapping[str, bytes], **values: object) -> str:
    """Return a whole page, one file that loads no other.

    Args:
        template: the name of a file in `templates/`.
        pictures: PNGs by name.
        values: what else the template needs, as text: none of it is taken for HTML.
    """
    encoded = {name: base64.b64encode(png).decode() for name, png in pictures.items()}
    return _environment().get_template(template).render(pictures=encoded, **values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,  # a name that a template misspells is an error, not an empty text
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: object) -> object:
    """Return the text of a value with its control characters visible; what a macro made is HTML and stays as it is."""
    return value if isinstance(value, (Markup, Undefined)) else one_line(str(value))
