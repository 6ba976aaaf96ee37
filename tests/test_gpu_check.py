"""`scripts/gpu_check.py` and `gpu_table.py`: on the CPU, and with steps that fail, hang or end their process."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"
NEEDS_CUDA = {"waits", "graph_step", "compiled_epoch", "marked_tests"}
FAKE = """
import os, signal, sys, time

class Bench:
    @classmethod
    def make(cls, device, tiny, out, data):
        if device == "cuda":
            raise ValueError("device=cuda is not available (try device=auto)")
        return cls()

    def is_broken(self):
        return False

def environment(bench):
    return {"name": "a card", "torch": "2.99"}

def auditors_agree(bench):
    return {"ok": False, "rows": [{"auditor": "svm", "utility": 0.5}]}

def epochs_agree(bench):
    raise RuntimeError("a planted fault")

def stacks_agree(bench):
    bench.note({"rows": [{"network": "mlp", "difference": 0.25}]})
    time.sleep(60)

def resumes(bench):
    os._exit(9)

def waits(bench):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # as a call that never comes back to Python
    time.sleep(60)

def resnet_epoch(bench):
    return {"rows": [{"batch": 128, "epoch (s)": 1.5}]}

def default_run(bench):
    return {"skipped": "no reason"}
"""


def run(*words: str | Path, scripts: Path = SCRIPTS) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(scripts / words[0]), *map(str, words[1:])]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the whole result of each step."""
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines if not line.get("partial")}


@pytest.fixture(scope="module")
def steps() -> list[str]:
    done = run("gpu_table.py", "--missing")
    return re.findall(r"--only (\w+)", done.stdout)


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """Give a folder with the two scripts and steps that go wrong."""
    for name in ("gpu_check.py", "gpu_table.py"):
        shutil.copy(SCRIPTS / name, tmp_path)
    (tmp_path / "gpu.py").write_text(FAKE)
    return tmp_path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVUNLEARN_CACHE", str(folder / "unused"))
        done = run("gpu_check.py", "--device", "cpu", "--tiny", "--budget", "240", "--out", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_step_runs_on_a_cpu_but_those_that_need_cuda(tiny: Path, steps: list[str]) -> None:
    found = results(tiny)
    assert list(found) == steps
    assert {name for name, line in found.items() if line.get("skipped") == "it needs CUDA"} == NEEDS_CUDA
    composed = {name for name, line in found.items() if "composed" in line.get("skipped", "")}
    assert all(name.startswith("cifar10") for name in composed)
    done = set(found) - NEEDS_CUDA - composed
    assert all(found[name]["ok"] is True for name in done)
    assert "cifar10_likelihood_ratio" in done


def test_on_one_device_everything_agrees_to_the_bit(tiny: Path) -> None:
    found = results(tiny)
    for name in ("auditors_agree", "epochs_agree", "resumes"):
        rows = found[name]["found"]["rows"]
        numbers = [value for row in rows for value in row.values() if isinstance(value, float)]
        assert numbers == [0.0] * len(numbers)
        assert numbers


def test_the_tables_hold_what_was_found(tiny: Path, steps: list[str]) -> None:
    text = run("gpu_table.py", tiny / "results.jsonl").stdout
    assert text.startswith("### ")
    assert "no number is a measurement" in text
    model = results(tiny)["default_run"]["found"]["rows"][0]
    row = next(line for line in text.splitlines() if line.startswith("| cpu | original |"))
    assert f"{model['AUC lira']:.3g}" in row
    listed = re.findall(r"--only (\w+)", text.split("| not measured yet |")[1])
    assert listed == [name for name in steps if "skipped" in results(tiny)[name]]


def test_what_goes_wrong_in_one_step_stops_no_other(fake: Path) -> None:
    names = re.findall(r"def (\w+)\(bench\)", FAKE)
    done = run("gpu_check.py", "--device", "cpu", "--limit", "1", "--out", fake, "--only", *names, scripts=fake)
    found = results(fake)
    assert done.returncode == 1
    assert list(found) == names
    assert [found[name]["ok"] for name in names] == [True, False, False, False, False, False, True, None]
    assert found["epochs_agree"]["error"] == "RuntimeError: a planted fault"
    assert "limit of 1 s" in found["stacks_agree"]["error"]
    assert "status 9" in found["resumes"]["error"]
    assert "ended with status" in found["waits"]["error"]
    assert "in waits" in done.stderr  # where it hung
    table = run("gpu_table.py", fake / "results.jsonl", scripts=fake).stdout
    assert "### a card" in table
    assert "| mlp | 0.25 |" in table
    assert "cut off" in table
    assert "a planted fault" in table


def test_the_exit_status_is_that_of_the_checks(fake: Path) -> None:
    words = ["gpu_check.py", "--device", "cpu", "--out", fake]
    assert run(*words, "--only", "auditors_agree", scripts=fake).returncode == 1
    assert run(*words, "--only", "resnet_epoch", "default_run", scripts=fake).returncode == 0


def test_a_step_is_not_begun_without_the_time_for_it(fake: Path) -> None:
    words = ["--device", "cpu", "--budget", "4", "--out", fake, "--only", "environment", "resnet_epoch"]
    done = run("gpu_check.py", *words, scripts=fake)
    found = results(fake)
    assert done.returncode == 0
    assert found["environment"]["ok"] is True
    assert found["resnet_epoch"]["ok"] is None
    assert "15 s at least" in found["resnet_epoch"]["skipped"]


def test_the_budget_ends_a_process_that_hangs(fake: Path) -> None:
    (fake / "gpu.py").write_text(FAKE + "\nimport time\ntime.sleep(60)\n")
    words = ["--device", "cpu", "--budget", "1", "--tiny", "--out", fake, "--only", "environment", "resumes"]
    done = run("gpu_check.py", *words, scripts=fake)
    found = results(fake)
    assert done.returncode == 1
    assert found["environment"]["error"] == "the budget is over"
    assert "0 s are left" in found["resumes"]["skipped"]


@pytest.mark.parametrize("words", [["--only", "nothing"], ["--budget", "0"], ["--device", "cuda"]])
def test_wrong_arguments_are_refused(fake: Path, words: list[str]) -> None:
    done = run("gpu_check.py", "--out", fake, *words, scripts=fake)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_line_is_left_out(fake: Path) -> None:
    whole = {"step": "resnet_epoch", "ok": True, "found": {"rows": [{"batch": 128, "epoch (s)": 1.25}]}}
    lines = [json.dumps(whole), '{"step": "stack_speed", "ok": true, "fou', '{"ok": true}', "[]"]
    (fake / "results.jsonl").write_text("\n".join(lines))
    done = run("gpu_table.py", fake / "results.jsonl", scripts=fake)
    assert done.returncode == 0
    assert "3 damaged lines" in done.stderr
    assert "| 128 | 1.25 |" in done.stdout
    assert "--only stack_speed" in done.stdout


def test_a_later_result_takes_the_place_of_an_earlier_one(fake: Path) -> None:
    def line(seconds: float, **more: bool | None) -> str:
        found = {"rows": [{"batch": 128, "epoch (s)": seconds}]}
        return json.dumps({"step": "resnet_epoch", "ok": True, "found": found, **more})

    lines = [line(1.25), line(1.5), line(9.75, ok=None, partial=True)]
    (fake / "results.jsonl").write_text("\n".join(lines))
    table = run("gpu_table.py", fake / "results.jsonl", scripts=fake).stdout
    assert "1.5" in table
    assert "1.25" not in table
    assert "9.75" not in table


def test_what_is_not_measured_is_listed_in_the_benchmarks(steps: list[str]) -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert [name for name in steps if f"--only {name}" not in text] == []
