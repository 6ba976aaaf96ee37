"""Parts that are not shipped: of a folder, of a search path, and of an installed package; everywhere the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

import advunlearn
from advunlearn import options
from advunlearn.api import running
from advunlearn.cli import main
from advunlearn.config import part_files
from advunlearn.config.compose import experiment_from, jobs_from
from advunlearn.config.composer import version_base
from advunlearn.config.search_path import search_path
from advunlearn.options import ConfigError, source_digest
from tests.conftest import Command
from tests.test_api import blobs, model

METHOD = '''
from dataclasses import dataclass

from advunlearn.options import option
from advunlearn.unlearners.unlearner import Task, Unlearned, Unlearner


@dataclass
class Scale(Unlearner):
    """Scale every weight.

    Attributes:
        factor: by which all weights are multiplied, however many
            there are.

    References:
        [me2026] A. Person, "Scaling", 2026. https://example.org/scaling
    """

    factor: float = option(0.5, above=0, at_most=1)

    def unlearn(self, network, task: Task) -> Unlearned:
        for weights in network.parameters():
            weights.data *= self.factor
        return Unlearned(network)
'''
PARTS = {"retain": blobs(51, 0), "forget": blobs(30, 1), "audit": blobs(30, 2)}


def yaml_of(target: str) -> str:
    return f"# scale every weight\n_target_: {target}\nfactor: 0.5 # less than 1 makes the model unsure\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which pip has installed a package that offers an unlearner, `halve`."""
    folder = tmp_path_factory.mktemp("plugin")
    wheel, about = folder / "scalers-1.0-py3-none-any.whl", "scalers-1.0.dist-info"
    files = {
        "scalers/__init__.py": "raise ImportError('only what is chosen is imported')\n",
        "scaler_code.py": METHOD,
        "scalers/conf/unlearner/halve.yaml": yaml_of("scaler_code.Scale"),
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: scalers\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "[advunlearn.plugins]\nmine = scalers\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {**files, f"{about}/RECORD": "".join(f"{name},,\n" for name in files)}.items():
            archive.writestr(name, text)
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(folder / "site")]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    return folder / "site"


@pytest.fixture
def plugin(installed: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(installed))
    return installed / "scalers"


@pytest.fixture
def folder(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder of the user's own parts, with an unlearner `shrink` and its class in `mymethods.py`."""
    (workplace / "my" / "unlearner").mkdir(parents=True)
    (workplace / "my" / "unlearner" / "shrink.yaml").write_text(yaml_of("mymethods.Scale"), encoding="utf-8")
    (workplace / "mymethods.py").write_text(METHOD, encoding="utf-8")
    monkeypatch.syspath_prepend(str(workplace))
    return workplace / "my"


def completed(command: Command, line: str) -> list[str]:
    answer = command("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)), COMP_CWORD="2")
    return answer.stdout.split()


def test_parts_of_an_installed_package_are_offered_by_every_verb(
    plugin: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "unlearner"]) == 0
    assert "  halve                   scale every weight\n" in capsys.readouterr().out
    assert main(["describe", "unlearner", "halve"]) == 0
    assert "class scaler_code.Scale" in capsys.readouterr().out
    assert main(["check", "unlearner=halv"]) == 2
    assert "did you mean halve?" in capsys.readouterr().err
    assert main(["submit", "--dry-run", "unlearner=halve"]) == 0
    assert completed(command, "advunlearn run unlearner=ha") == ["unlearner=halve"]
    assert "halve" in command("run", "--help").stdout
    assert "_target_: scaler_code.Scale" in command("run", "--cfg", "job", "unlearner=halve").stdout


def test_the_python_interface_finds_parts_of_an_installed_package_and_of_a_folder(
    plugin: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model()
    for words in ({"method": "halve"}, {"method": "shrink", "config_dir": "my"}):
        after = advunlearn.unlearn(before, **PARTS, factor=0.25, **words).network  # type: ignore[arg-type]
        assert all(torch.equal(b, a / 4) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    with pytest.raises(ConfigError, match="method=shrink: no such option"):
        advunlearn.unlearn(before, **PARTS, method="shrink")
    monkeypatch.setattr(running, "run_experiment", lambda experiment, _: experiment.unlearner.identity()["part"])
    assert advunlearn.run(["unlearner=halve"], "run") == "scaler_code.Scale"
    assert advunlearn.run(["unlearner=shrink"], "other run", config_dir=folder) == "mymethods.Scale"


def test_an_audit_in_python_takes_an_own_attack_by_name(folder: Path) -> None:
    (folder / "attack").mkdir()
    text = "# @package attack.mine\n_target_: advunlearn.attacks.gradient_norm.GradientNorm\n"
    (folder / "attack" / "mine.yaml").write_text(text, encoding="utf-8")
    found = advunlearn.audit(model(), forget=blobs(30, 1), test=blobs(60, 3), attacks="mine", config_dir="my")
    assert found.keys() == {"mine", "mine/last_layer"}


def test_other_programs_of_hydra_in_the_process_do_not_see_them(plugin: Path, tmp_path: Path) -> None:
    assert experiment_from(["unlearner=halve"])
    (tmp_path / "other.yaml").write_text("answer: 42\n", encoding="utf-8")
    with initialize_config_dir(str(tmp_path), **version_base()):
        assert compose("other").answer == 42
        assert compose("other", ["+unlearner=halve"]).unlearner == "halve"  # a text, not an option of a group


def test_a_package_without_a_folder_of_parts_is_a_warning_and_no_error(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(installed, tmp_path / "site")
    shutil.rmtree(tmp_path / "site" / "scalers" / "conf")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for _ in range(2):
        assert part_files.plugin_folders() == []
    assert caplog.messages == ["advunlearn.plugins: mine names scalers, which is not a package with a folder conf"]


def test_a_class_of_an_installed_package_is_known_by_its_source(
    plugin: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Otherwise a run of such a part would never find its results in the store again."""
    monkeypatch.setattr(options, "_INSTALLED", (*options._INSTALLED, plugin.parent.resolve()))
    found = []
    for _ in range(2):
        cls = type(experiment_from(["unlearner=halve"]).unlearner)
        source_digest.cache_clear()
        found.append(source_digest(cls))
    assert found[0] == found[1]


def test_own_parts_complete(folder: Path, command: Command) -> None:
    assert completed(command, "advunlearn run --config-dir my unlearner=sh") == ["unlearner=shrink"]
    assert completed(command, "advunlearn run hydra.searchpath=[my] unlearner=sh") == ["unlearner=shrink"]
    keys = completed(command, "advunlearn run --config-dir my unlearner=shrink unlearner.f")
    assert keys == ["unlearner.factor="]
    assert completed(command, "advunlearn run unlearner=sh") == []


@pytest.mark.parametrize("entry", ["my", "file://my", "{folder}", "file://{folder}", "pkg://my"])
def test_a_search_path_names_folders_and_packages(folder: Path, entry: str) -> None:
    assert search_path(None, [f"hydra.searchpath=['{entry.format(folder=folder)}']", "seed=1"]) == [folder]
    assert search_path("my", ["+hydra.searchpath=[.]"]) == [folder, folder.parent]


def test_a_search_path_is_typed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["hydra.searchpath=[my]", "unlearner=shrink"]
    assert [job.overrides for job in jobs_from(words)] == [["unlearner=shrink"]]
    assert main(["run", "--cfg", "job", *words]) == 0
    assert "_target_: mymethods.Scale" in capsys.readouterr().out


def test_an_experiment_names_its_search_path(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("more").mkdir()
    (folder / "unlearner").rename("more/unlearner")
    (folder / "experiment").mkdir()
    text = "# mine\n\n# @package _global_\ndefaults:\n  - override /unlearner: shrink\nhydra:\n  searchpath: [more]\n"
    (folder / "experiment" / "mine.yaml").write_text(text, encoding="utf-8")
    assert main(["run", "--config-dir", "my", "--cfg", "job", "experiment=mine", "unlearner.factor=0.3"]) == 0
    assert "_target_: mymethods.Scale\n  factor: 0.3" in capsys.readouterr().out
    jobs = jobs_from(["experiment=mine,cifar10_cpu"], "my")
    assert [type(job.experiment.unlearner).__name__ for job in jobs] == ["Scale", "SG"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("hydra.searchpath=[none]", "hydra.searchpath: none: no such folder"),
        ("hydra.searchpath=[pkg://no.such]", "hydra.searchpath: pkg://no.such: no such package"),
        ("hydra.searchpath=[s3://x]", "hydra.searchpath: s3://x: must be a folder, file://FOLDER or pkg://PACKAGE"),
        ("hydra.searchpath=my", "hydra.searchpath must be a list of folders, got my (try [my_folder])"),
        ("hydra.searchpath=[1]", "hydra.searchpath must be a list of folders, got [1] (try [my_folder])"),
        ("hydra.searchpath=[my", "hydra.searchpath=[my: cannot be read as hydra.searchpath=[FOLDER,...]"),
        (
            "hydra.searchpath=[${oc.env:NOT_SET_AT_ALL}]",
            "hydra.searchpath: KeyError raised while resolving interpolation",
        ),
    ],
)
def test_a_wrong_search_path_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], word: str, said: str
) -> None:
    for verb in ("run", "check", "submit"):
        assert main([verb, word]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {said}")


def test_an_own_part_with_the_name_of_a_shipped_one_is_a_mistake(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "unlearner" / "sg.yaml").write_text(yaml_of("mymethods.Scale"), encoding="utf-8")
    assert main(["check", "--config-dir", "my", "unlearner=sg"]) == 2
    said = f"unlearner=sg: {folder}/unlearner/sg.yaml has the name of a shipped option, and is not used; rename it"
    assert capsys.readouterr().err == f"error: {said}\n"
    assert main(["list", "unlearner", "--config-dir", "my"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.split()[0] == "sg"]
    assert len(lines) == 1
    assert "Stackelberg" in lines[0]


def test_describe_prints_an_own_part(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "--config-dir", "my", "unlearner", "shrink"]) == 0
    assert capsys.readouterr().out == (
        "unlearner=shrink: scale every weight\n"
        "class mymethods.Scale\n"
        "\n"
        "options, typed as unlearner.NAME=VALUE:\n"
        "\n"
        "  factor = 0.5\n"
        "      a number, greater than 0 and at most 1\n"
        "      by which all weights are multiplied, however many there are.\n"
        "      less than 1 makes the model unsure\n"
        "\n"
        "references:\n"
        '  [me2026] A. Person, "Scaling", 2026. https://example.org/scaling\n'
    )
    (folder / "unlearner" / "broken.yaml").write_text("_target_: nowhere.Class\n", encoding="utf-8")
    assert main(["describe", "--config-dir", "my", "unlearner", "broken"]) == 2
    assert capsys.readouterr().err.startswith("error: unlearner=broken: cannot import nowhere.Class (ModuleNotFound")
