"""The pages of the site that are made from the code, their links, and the pages that only the site has.

`mkdocs build --strict`, a step of .ci/run, builds all of it with broken links as errors.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
import yaml
from site_pages import bibliography, command_line, reference
from site_pages.links import PAGES, rewritten

import advunlearn
from advunlearn.cli import VERBS, main
from advunlearn.cli.describe import part_class
from advunlearn.config import part_files
from advunlearn.config.compose import jobs_to_check
from advunlearn.config.yaml_files import read_yaml
from advunlearn.sweeps.comparison import comparison_of

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TUTORIAL = (DOCS / "tutorial.md").read_text(encoding="utf-8")
PAPER = (DOCS / "paper.md").read_text(encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    """Return the words of each command of a page after `advunlearn`."""
    blocks = "".join(re.findall(r"```bash\n(.*?)```", page, re.DOTALL)).replace("\\\n", "")
    lines = [line.split("   #")[0] for line in blocks.splitlines() if line.startswith("advunlearn")]
    return [shlex.split(line)[1:] for line in lines]


@pytest.mark.parametrize(
    ("source", "page", "link", "there"),
    [
        ("docs/python.md", "python.md", "[it](../README.md#on-a-gpu)", "[it](overview.md#on-a-gpu)"),
        ("README.md", "overview.md", "[it](docs/data.md#forget-sets)", "[it](data.md#forget-sets)"),
        ("README.md", "overview.md", "![it](docs/report.png)", "![it](report.png)"),
        ("docs/index.md", "index.md", "[it](references.bib)", "[it](reference/references.md)"),
        ("docs/reference/classes.md", "reference/classes.md", "[it](../python.md)", "[it](../python.md)"),
        ("docs/reference/classes.md", "reference/classes.md", "[it](../../SECURITY.md)", "[it](../security.md)"),
        ("docs/cluster.md", "cluster.md", "[`it`](../scripts/slurm.sbatch)", "`it`"),  # the site has no source code
        ("docs/cluster.md", "cluster.md", "[it](no_such.md)", "[it](no_such.md)"),  # MkDocs reports it
        ("docs/data.md", "data.md", "[it](#arrays) [it](https://example.org/a.md)", None),
    ],
)
def test_a_link_holds_in_the_repository_and_on_the_site(source: str, page: str, link: str, there: str | None) -> None:
    assert rewritten(f"a {link}, b", source, page) == f"a {there or link}, b"


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"[\w/]+\.md", yaml.dump(yaml.safe_load(text)["nav"]))
    written = {path.relative_to(DOCS).as_posix() for path in [*DOCS.glob("*.md"), *(DOCS / "reference").glob("*.md")]}
    made = set(PAGES.values()) | {f"reference/{group}.md" for group in part_files.groups()}
    assert sorted(listed) == sorted(written | made | {"reference/run.md", "reference/command_line.md"})


@pytest.mark.parametrize("group", part_files.groups())
def test_the_reference_has_every_option_of_every_part(group: str) -> None:
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", reference.group_page(group), re.MULTILINE | re.DOTALL))
    files = part_files.files(group, [])
    assert sections.keys() == files.keys()
    for name, path in files.items():
        if "_target_" in read_yaml(path):
            options = [field.name for field in dataclasses.fields(part_class(group, path))]
            assert re.findall(r"^\| `(?:\w+\.)+(\w+)=", sections[name], re.MULTILINE) == options
        assert f"{group}.md#{name}" in reference.index()


def test_the_list_of_publications_has_every_key_and_plain_names() -> None:
    text = (DOCS / "references.bib").read_text(encoding="utf-8")
    page = bibliography.page(text)
    assert re.findall(r"\*\*\[([\w-]+)\]\*\*", page) == re.findall(r"^@\w+\{([^,]+),", text, re.MULTILINE)
    assert bibliography.plain(r"Br{\"a}nnvall, {\"O}ztireli, Tram{\`e}r, B{\u{a}}rbulescu, 94\% on {CIFAR}") == (
        "Brännvall, Öztireli, Tramèr, Bărbulescu, 94% on CIFAR"
    )
    assert not set("{}\\") & set(page)


def test_the_command_line_has_the_help_of_every_verb() -> None:
    page = command_line.page()
    documented = set(VERBS) - set(command_line.BY_HYDRA)
    assert set(re.findall(r"^## (\w+)$", page, re.MULTILINE)) == documented
    assert all(f"usage: advunlearn {verb} " in page for verb in documented)


def test_every_attack_has_its_paragraph() -> None:
    page = (DOCS / "audits.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL))
    for name, path in part_files.files("attack", []).items():
        assert "istrust" in sections[name]
        cited = re.findall(r"arxiv\.org/abs/[\d.]+\d", part_class("attack", path).__doc__)
        assert any(link in sections[name] for link in cited)


@pytest.mark.parametrize("words", [*commands(TUTORIAL), *commands(PAPER)], ids=" ".join)
def test_a_command_is_right(words: list[str], workplace: Path) -> None:
    """Check its flags and overrides; the commands of the tutorial's own model have a test of their own."""
    verb, *rest = words
    overrides = [word for word in rest if "=" in word]
    if verb not in command_line.BY_HYDRA:
        flags = {word for word in rest if word.startswith("-")}
        assert flags <= set(re.findall(r"--?[\w-]+", command_line.shown([verb])))
    if verb == "describe":
        assert main(words) == 0
    elif verb == "compare":  # each method and four controls, for each seed
        methods, seeds = (override.count(",") + 1 for override in overrides)
        assert len(comparison_of(overrides).jobs) == (methods + 4) * seeds
    elif verb in ("run", "check") and "model=module" not in words:
        assert jobs_to_check(overrides, multirun=False)


def test_the_tutorials_own_model_is_trained_and_unlearned(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(workplace))
    network, training, loading = re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)
    Path("mynet.py").write_text(network, encoding="utf-8")
    exec(training, {})
    checked, unlearned = ([*words[1:]] for words in commands(TUTORIAL) if "model=module" in words)
    assert unlearned == [*checked, "hydra.run.dir=unlearned"]
    models = advunlearn.run([*checked, "attack=threshold"], "unlearned").metrics["models"]
    original, retrained = (models[name]["accuracy"]["retain"] for name in ("original", "retrained"))
    assert original > 0.98
    assert retrained == pytest.approx(original, abs=0.02)  # it is trained as the original was
    exec(loading, {})
