"""Hooks of MkDocs, see mkdocs.yml: pages made from the code, and links that hold in the repository as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mkdocs.structure.files import File, Files
from site_pages import bibliography, command_line, links, notebook, reference

from advunlearn.config import part_files

ROOT = links.ROOT
COPIED = {page: source for source, page in links.PAGES.items() if source.endswith(".md")}


def generated() -> Iterator[tuple[str, str | bytes]]:
    """Yield the path and the content of each page that is not in docs/."""
    for page, source in COPIED.items():
        yield page, (ROOT / source).read_text(encoding="utf-8")
    yield "reference/index.md", reference.index()
    yield "reference/run.md", reference.run_page()
    yield "reference/command_line.md", command_line.page()
    yield "reference/references.md", bibliography.page((ROOT / "docs/references.bib").read_text(encoding="utf-8"))
    for group in part_files.groups():
        yield f"reference/{group}.md", reference.group_page(group)
    text, pictures = notebook.page(ROOT / "docs/compare.ipynb")
    yield "compare.md", text
    yield from pictures.items()


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made when the site is built."""
    for path, content in generated():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point the links of a page to the site."""
    path = page.file.src_uri
    return links.rewritten(markdown, COPIED.get(path, f"docs/{path}"), path)
