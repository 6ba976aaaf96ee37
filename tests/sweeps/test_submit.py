"""Sweeps for Slurm, as far as that goes without one: what is sent, what is refused, and how runs stand."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from advunlearn.cli import main
from advunlearn.config.compose import experiment_from, jobs_from
from advunlearn.runs.state import runs_below
from advunlearn.storage.paths import config_folder
from advunlearn.sweeps import slurm
from advunlearn.sweeps.freeze import freeze, shadow_shards
from advunlearn.sweeps.status import judge, varying
from tests.test_run import QUICK

SCRIPT = Path(__file__).with_name("job.sbatch")
SMALL = [*QUICK, "attack=threshold"]
UNLEARNERS = sorted(path.stem for path in (config_folder() / "unlearner").glob("*.yaml"))


def test_the_script_is_the_recorded_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/my python/bin/python")
    flags = slurm.Flags(
        partition="gpu",
        account="lab",
        qos="long",
        time="2:00:00",
        mem="8G",
        cpus=4,
        gpus=1,
        parallel=2,
        setup=["module load cuda", "export A=1"],
        sbatch=["constraint=a100|h100", "exclusive"],
    )
    text = slurm.script(
        Path("/home/me/100% mine/sweep"), [0, 1, 2, 5], flags, Path("/home/me/100% mine"), "/scratch/me"
    )
    assert text == SCRIPT.read_text()


def test_what_a_person_writes_is_not_filled_in() -> None:
    setup = ["export PYTHON=1 A=$PYTHON B=${FOLDER} C=$$"]
    text = slurm.script(Path("/s/$SETUP"), [0], slurm.Flags(setup=setup), Path("/"), None)
    assert setup[0] in text.splitlines()
    assert "export job='/s/$SETUP'/$SLURM_ARRAY_TASK_ID" in text


def test_every_name_in_the_script_is_filled_in() -> None:
    text = slurm.script(Path("/s"), [0], slurm.Flags(), Path("/"), None)
    assert {name for name in re.findall(r"\$\{?([A-Z_]+)", text) if not name.startswith("SLURM_")} == set()
    assert "shellcheck" not in text


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_shellcheck_finds_nothing() -> None:
    script = Path(slurm.__file__).with_name("job.sh")
    assert subprocess.run(["shellcheck", script], capture_output=True, text=True).stdout == ""


def test_a_script_that_asks_for_nothing_asks_for_nothing() -> None:
    text = slurm.script(Path("/s"), [0], slurm.Flags(requeue_cancelled=True), Path("/"), None)
    asked = {line.split("=")[0].removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")}
    assert asked == {"job-name", "array", "chdir", "output", "open-mode", "requeue", "signal", "nodes", "ntasks"}
    assert "ADVUNLEARN_CACHE" not in text
    assert 'else\n      killed "cancelled"' in text


@pytest.mark.parametrize(
    ("numbers", "text"), [([3], "3"), ([0, 1, 2], "0-2"), ([5, 0, 1, 7, 6], "0-1,5-7"), ([0, 2, 4], "0,2,4")]
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert slurm.ranges(numbers) == text


def test_a_job_does_not_inherit_the_allocation_that_it_was_sent_from() -> None:
    ours = {"PATH": "/bin", "SLURM_CONF": "/c", "SBATCH_ACCOUNT": "lab"}
    assert slurm.outside(ours) == ours  # a person's own defaults
    inside = {**ours, "SLURM_JOB_ID": "7", "SLURM_MEM_PER_CPU": "100", "SRUN_CPUS_PER_TASK": "1"}
    assert slurm.outside(inside) == {"PATH": "/bin", "SLURM_CONF": "/c"}


def test_a_sweep_is_expanded_with_what_its_experiment_sweeps_over() -> None:
    jobs = jobs_from(["experiment=game_twin", "auditor=svm,logistic", "seed=1,2"])
    auditors = [f"auditor@unlearner.auditor={auditor}" for auditor in ("svm", "logistic")]
    alphas = [f"unlearner.alpha={alpha}" for alpha in (0, 1, 3, 10)]
    wanted = itertools.product(auditors, alphas, ["experiment=game_twin"], ["seed=1", "seed=2"])
    assert [job.overrides for job in jobs] == list(map(list, wanted))
    assert jobs[-1].experiment.config == experiment_from(jobs[-1].overrides).config
    assert jobs[-1].choices["auditor@unlearner.auditor"] == "logistic"
    assert varying([job.overrides for job in jobs])[-1] == [auditors[1], "unlearner.alpha=10", "seed=2"]


def test_one_run_is_a_sweep_of_one() -> None:
    (job,) = jobs_from(["~attack.lira"])
    assert list(job.experiment.attacks) == ["threshold", "classifier"]


def test_the_mistakes_of_all_runs_are_said_at_once_and_nothing_is_written(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["seed=1,x,2", "unlearner=sg,fintune", "optimizer.lr=0,1", "hydra/launcher=slurm", "forget"]
    assert main(["submit", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sorted(err.splitlines()) == [
        "error: forget: cannot be read as key=value (Error parsing override 'forget')",
        "error: hydra/launcher=slurm: submit has options of its own for this",
        "error: optimizer.lr must be greater than 0, got 0.0 (try optimizer.lr=0.002)",
        "error: seed must be a whole number, got x",
        f"error: unlearner=fintune: no such option; choose one of {', '.join(UNLEARNERS)} (did you mean finetune?)",
    ]
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--parallel", "0"], "--parallel must be at least 1, got 0"),
        (["--requeues", "-1"], "--requeues must be at least 0, got -1"),
        (["--time", "1 hour"], "--time must be one word, got '1 hour'"),
        (["--retry", "nowhere"], "--retry nowhere: not the folder of a submitted sweep"),
        (["--dir", "."], "--dir . is there already; choose another folder"),
        (["--shadow-shards", "2", "attack=threshold"], "--shadow-shards: no run of this sweep has shadow models"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: no such folder"),
    ],
)
def test_a_wrong_flag_is_said_in_a_line(
    workplace: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["submit", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert list(workplace.iterdir()) == []


def test_a_dry_run_prints_every_script_and_writes_nothing(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--dry-run",
        "--shadow-shards",
        "4",
        "--name",
        "mine",
        "--sbatch=--constraint=a100",
        "attack=lira",
        "seed=1,2",
        "unlearner=none,retrain",
    ]
    assert main(["submit", *words]) == 0
    shadows, runs = capsys.readouterr().out.split("#!/bin/bash\n")[1:]
    assert "--job-name=mine-shadows\n#SBATCH --array=0-7\n" in shadows
    assert "--job-name=mine\n#SBATCH --array=0-3\n" in runs
    assert "#SBATCH --constraint=a100\n" in runs
    assert list(workplace.iterdir()) == []


def test_without_slurm_the_folder_stays_and_can_be_sent_later(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(workplace))
    assert main(["submit", "--dir", "sweep", *SMALL, "seed=1,2"]) == 1
    refusal = "error: sbatch: not found on this machine; its folder is kept: advunlearn submit --retry sweep\n"
    assert capsys.readouterr().err == refusal
    assert main(["status", "sweep"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "0  seed=1    not submitted",
        "1  seed=2    not submitted",
        "runs: 2 not submitted",
        "again: advunlearn submit --retry sweep   (logs: sweep/logs)",
    ]
    assert main(["submit", "--retry", "sweep", "--mem", "1G", "--dry-run"]) == 0
    script = capsys.readouterr().out
    assert "--array=0-1\n" in script
    assert "--mem=1G\n" in script
    assert main(["submit", "--retry", "sweep"]) == 1
    assert capsys.readouterr().err == refusal
    assert main(["submit", "--retry", "sweep", "seed=1"]) == 2
    assert "no overrides" in capsys.readouterr().err


def test_what_slurm_says_is_read_and_its_silence_noticed(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def say(name: str, script: str) -> None:
        (workplace / name).write_text(f"#!/bin/sh\n{script}\n")
        (workplace / name).chmod(0o755)

    monkeypatch.setenv("PATH", f"{workplace}:/usr/bin:/bin")
    say("sbatch", "echo '12;cluster'")
    assert slurm.submit(Path("x")) == "12"
    say("squeue", "echo '12|3|PENDING|Priority'; echo '12|4|RUNNING|None'; echo '13|N/A|RUNNING|None'")
    assert slurm.queue(["12"]) == {("12", 3): ("PENDING", "Priority"), ("12", 4): ("RUNNING", "")}
    say("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert slurm.queue(["12"]) == {}
    say("squeue", "echo 'squeue: error: one' >&2; echo two >&2; exit 1")
    with pytest.raises(slurm.SlurmError, match=r"^squeue: one; two$"):
        slurm.queue(["12"])
    say("sacct", "echo '12_3|CANCELLED by 0|0:0'; echo '12_4|FAILED|1:0'; echo '12|COMPLETED|0:0'")
    assert slurm.history(["12"]) == {("12", 3): ("CANCELLED", ""), ("12", 4): ("FAILED", "1:0")}
    say("sacct", "sleep 9")
    monkeypatch.setattr(slurm, "TIMEOUT", 0.1)
    with pytest.raises(slurm.SlurmError, match="no answer"):
        slurm.history(["12"])


@pytest.mark.parametrize(
    ("own", "slurms", "state"),
    [
        ("completed", ("COMPLETING", ""), ("completed", "")),
        ("waiting", ("PENDING", "Priority"), ("queued", "Priority")),
        ("failed", ("PENDING", "BeginTime"), ("requeued", "BeginTime")),
        ("died", ("RUNNING", ""), ("running", "")),
        ("waiting", ("CONFIGURING", ""), ("running", "configuring")),
        ("interrupted", ("CANCELLED", ""), ("cancelled", "")),
        ("waiting", ("FAILED", "2:0"), ("failed", "Slurm: FAILED 2:0")),
        ("interrupted", ("TIMEOUT", ""), ("died", "Slurm: TIMEOUT")),
        ("failed", ("FAILED", "1:0"), ("failed", "")),
        ("died", ("FAILED", "9:0"), ("died", "Slurm: FAILED 9:0")),
        ("waiting", ("", ""), ("waiting", "")),
        ("died", ("", ""), ("died", "")),
    ],
)
def test_how_a_job_stands(own: str, slurms: tuple[str, str], state: tuple[str, str]) -> None:
    assert judge(own, *slurms) == state


def test_shards_are_made_for_each_set_of_shadow_models_once() -> None:
    jobs = jobs_from(["attack=lira", "seed=1,2", "unlearner=sg,none", "forget.fraction=0.1,0.2"])
    shards = shadow_shards(jobs, 3)
    assert [job.overrides[-1] for job in shards] == ["attack.shard=1/3", "attack.shard=2/3", "attack.shard=3/3"] * 2
    assert [job.experiment.settings.seed for job in shards] == [1, 1, 1, 2, 2, 2]
    assert jobs[0].experiment.shadow_options.shard is None
    assert len(shadow_shards(jobs_from(["attack=ulira", "unlearner=retrain,none"]), 2)) == 4  # unlearned as well
    assert len(shadow_shards(jobs_from(["attack=lira,[rmia,threshold]", "attack.shadows=8,16"]), 2)) == 4
    relabelled = ["attack=lira", "forget=mislabelled", "forget.fraction=0.1,0.2"]
    assert len(shadow_shards(jobs_from(relabelled), 2)) == 4  # trained with other labels
    assert shadow_shards(jobs_from(["attack=threshold"]), 2) == []
    assert shadow_shards(jobs_from(["attack=lira", "attack.shard=1/2"]), 2) == []


def test_a_local_sweep_has_a_status_and_a_report_that_knows_its_shards(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    freeze(workplace / "sweep", jobs_from([*SMALL, "seed=1,2"]))
    assert main(["resume", "sweep/0"]) == 0
    freeze(workplace / "sweep" / "shadows", shadow_shards(jobs_from([*QUICK, "attack=lira", "attack.shadows=2"]), 1))
    assert main(["resume", "sweep/shadows"]) == 0
    order = [folder.relative_to(workplace).as_posix() for folder in runs_below(workplace / "sweep")]
    assert order == ["sweep/shadows/0", "sweep/0", "sweep/1"]  # what the runs need comes first
    capsys.readouterr()
    assert main(["status", "sweep"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "shadows: 1 completed"
    assert lines[2].split()[:2] + lines[2].split()[-1:] == ["0", "seed=1", "completed"]
    assert lines[3].split() == ["1", "seed=2", "waiting"]
    assert lines[4] == "runs: 1 completed, 1 waiting"
    assert main(["status", "."]) == 2
    assert capsys.readouterr().err == "error: .: no sweep (it would hold a folder for each run: 0, 1, ...)\n"
    assert main(["report", "sweep", "--format", "markdown"]) == 0
    assert "shadow models only" in capsys.readouterr().out  # no failure, and no group of its own


@pytest.mark.parametrize("launcher", ["slurm", "joblib"])
def test_a_launcher_that_is_not_installed_names_its_extra(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    monkeypatch.setattr("advunlearn.config.compose.is_installed", lambda package: False)
    assert main(["run", "-m", f"hydra/launcher={launcher}", "seed=1,2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: hydra/launcher={launcher} is an extra (pip install 'advunlearn[{launcher}]')"
    assert list(workplace.iterdir()) == []
