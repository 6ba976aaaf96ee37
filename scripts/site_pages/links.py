"""Links of a page as the site has them: the pages are also read in the repository, where they point to its files."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "conf": "reference/index.md",
    "docs/references.bib": "reference/references.md",
    "docs/compare.ipynb": "compare.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def rewritten(markdown: str, source: str, page: str) -> str:
    """Return a page with its links to files of the repository as links of the site.

    A link to a file that the site does not have, such as source code, becomes its text. A link to a file that does not
    exist stays as it is, so that MkDocs reports it.

    Args:
        markdown: the page, as it is in the repository.
        source: its path in the repository.
        page: its path in the site's folder of pages.
    """

    def replace(link: re.Match[str]) -> str:
        image, text, target, anchor = link.groups(default="")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / path).exists():
            return link[0]
        found = _in_site(path)
        if found is None:
            return text
        return f"{image}[{text}]({posixpath.relpath(found, posixpath.dirname(page) or '.')}{anchor})"

    return LINK.sub(replace, markdown)


def _in_site(path: str) -> str | None:
    """Return where the site has a file of the repository, None if it does not."""
    if path in PAGES:
        return PAGES[path]
    below_docs = PurePosixPath(path).is_relative_to("docs") and (ROOT / path).is_file()
    return path.removeprefix("docs/") if below_docs else None
