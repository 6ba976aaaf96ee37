"""The page of publications, from docs/references.bib."""

from __future__ import annotations

import re
import unicodedata

ACCENTS = {"`": "\u0300", "'": "\u0301", "^": "\u0302", "~": "\u0303", '"': "\u0308", "u": "\u0306"}
ENTRY = re.compile(r"^@\w+\{([\w-]+),\n(.*?)^\}", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^  (\w+) *= \{(.*)\},$", re.MULTILINE)
INTRO = """\
# References

The publications that the parts implement, from `docs/references.bib`. The key in brackets is that of
the docstrings and of `advunlearn list`.

"""


def page(bib: str) -> str:
    """Return the page of all entries of a file in BibTeX."""
    return INTRO + "".join(_entry(key, dict(FIELD.findall(fields))) for key, fields in ENTRY.findall(bib))


def plain(text: str) -> str:
    """Return a text of BibTeX without braces, and with its accents as characters."""
    accented = re.sub(r"\{?\\([`'^~\"u])\{?(\w)\}?\}?", lambda found: found[2] + ACCENTS[found[1]], text)
    return unicodedata.normalize("NFC", re.sub(r"\\([%&_])", r"\1", accented).replace("{", "").replace("}", ""))


def _entry(key: str, fields: dict[str, str]) -> str:
    values = {name: plain(value) for name, value in fields.items()}
    names = [" ".join(reversed(name.split(", ", 1))) for name in values["author"].split(" and ")]
    where = values.get("booktitle") or values.get("journal") or values.get("institution") or values.get("note")
    published = ", ".join(filter(None, [where, values["year"]]))
    authors = ", ".join(names)
    return f'<a id="{key}"></a>**[{key}]** {authors}. *{values["title"]}*. {published}. <{values["url"]}>\n\n'
