"""What the pages of one run and of several are made of."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template


def fill(*, title: str, subtitle: str, verdict: str, body: str, footer: str) -> str:
    """Return a whole page, one file that asks for no other; everything is given as HTML."""
    template = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
    return template.substitute(title=title, subtitle=subtitle, verdict=verdict, body=body, footer=footer)


def card(title: str, numbers: Mapping[str, str]) -> str:
    """Return a small box with a number for each model."""
    lines = (f"<dt class='{name}'>{name}</dt><dd>{escape(number)}</dd>" for name, number in numbers.items())
    return f"<div class='card'><h3>{escape(title)}</h3><dl>{''.join(lines)}</dl></div>"


def figure(title: str, caption: str, png: bytes) -> str:
    """Return a picture inside the page, with its heading and what it shows."""
    source = base64.b64encode(png).decode()
    return (
        f"<h2>{escape(title)}</h2><figure><img alt='{escape(title)}' src='data:image/png;base64,{source}'>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
