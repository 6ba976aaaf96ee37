"""The wheel holds all that it needs: installed away from the checkout, it runs the default parts."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def test_it_holds_every_config_and_no_test(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"advunlearn/conf/{path.relative_to(ROOT / 'conf')}" in names
    assert "advunlearn/py.typed" in names
    assert "advunlearn/sweeps/job.sh" in names
    templates = list((ROOT / "src").rglob("*.html"))
    assert templates
    assert all(str(path.relative_to(ROOT / "src")) in names for path in templates)
    assert not any(name.startswith(("tests/", "scripts/")) for name in names)


def test_it_runs_the_default_parts_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    purelib = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
    ).stdout.strip()
    # The libraries are those of this environment, without what makes this checkout importable.
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(purelib)
    links = Path(purelib)
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "advunlearn" not in path.name and path.suffix != ".pth" and not (links / path.name).exists():
            (links / path.name).symlink_to(path)
    work = tmp_path / "elsewhere"
    work.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [python, "-m", "advunlearn", "run", "optimizer.epochs=3", "attack.shadows=2"],
        cwd=work,
        env={**clean, "ADVUNLEARN_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (page,) = work.glob("outputs/digits/sg/*/report.html")
    assert "lira" in page.read_text()
    where = subprocess.run(
        [python, "-c", "import advunlearn; print(advunlearn.__file__)"], env=clean, capture_output=True, text=True
    )
    assert str(environment) in where.stdout
