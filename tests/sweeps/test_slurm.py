"""Against a real Slurm, that of scripts/slurm/start.sh: whatever ends a job, its numbers come out the same."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from advunlearn.cli import main
from advunlearn.sweeps.slurm import history
from tests.test_run import without_seconds

METHODS = """
import hashlib
import os
import signal
import time
from dataclasses import dataclass

from advunlearn.optimizers.adamw import AdamW
from advunlearn.stages import report
from advunlearn.unlearners.finetune import Finetune

if "SLURM_JOB_ID" in os.environ:
    report.draw_pictures = lambda *_: {}  # they take a fifth of so short a job


@dataclass
class Slow(Finetune):
    '''Fine-tuning that takes as long as it is told to by the environment, and ends as its option says.'''

    end: str = "well"

    def loss(self, logits, labels, forgotten):
        time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
        if self.end == "error":
            raise RuntimeError("something is wrong\\nthe well is dry")
        if self.end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(logits, labels, forgotten)


@dataclass
class Counted(AdamW):
    '''AdamW that notes each training: who did it, and the weights that it began with.'''

    def torch_optimizer(self, parameters):
        parameters = list(parameters)
        if self.epochs == 1:  # a warm-up, for what is timed, or a trial
            return super().torch_optimizer(parameters)
        begun = hashlib.sha256(parameters[0].detach().numpy().tobytes()).hexdigest()
        with open("trainings.txt", "a") as file:
            file.write(f"{os.environ['SLURM_ARRAY_JOB_ID']} {os.environ['SLURM_ARRAY_TASK_ID']} {begun}\\n")
        return super().torch_optimizer(parameters)
"""
SMALL = ["attack=threshold", "optimizer.epochs=2", "threads=1", "checkpoint_seconds=1"]
SLOW = ["unlearner=slow", "unlearner.epochs=10", *SMALL]  # 10 epochs of 4 steps


@dataclass
class Sweep:
    """A submitted sweep: its folder and the job ids of its arrays, that of the runs last."""

    folder: Path
    ids: list[str]

    @property
    def id(self) -> str:
        return self.ids[-1]

    def log(self, number: int) -> str:
        return (self.folder / "logs" / f"{number}.log").read_text()

    def manifest(self, number: int) -> Any:
        path = self.folder / str(number) / "manifest.json"
        return json.loads(path.read_text()) if path.exists() else {"stages": [], "slurm": {}}

    def metrics(self, number: int) -> Any:
        return without_seconds(json.loads((self.folder / str(number) / "metrics.json").read_text()))


@dataclass
class Said:
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


class Place:
    """A person's folder, with methods of their own, and what they type there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        (folder / "methods.py").write_text(METHODS)
        for group, name in (("unlearner", "slow"), ("optimizer", "counted")):
            (folder / "my" / group).mkdir(parents=True)
            (folder / "my" / group / f"{name}.yaml").write_text(f"_target_: methods.{name.capitalize()}\n")
        with (folder / "my" / "unlearner" / "slow.yaml").open("a") as file:
            file.write("epochs: 30\nend: well\n")
        with (folder / "my" / "optimizer" / "counted.yaml").open("a") as file:
            file.write("epochs: 60\n")

    def type(self, *words: str) -> Said:
        """Return what the command line says; in this process, since importing torch takes seconds."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            patch.setenv("ADVUNLEARN_CACHE", str(self.cache))
            status = main(words)
        return Said(status, out.getvalue(), err.getvalue())

    def submit(self, *words: str) -> Sweep:
        done = self.type("submit", "--config-dir", "my", "--mem", "100", *words)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        (folder,) = (line.split()[1] for line in lines if line.startswith("sweep:"))
        return Sweep(self.folder / folder, [line.split()[1].rstrip(":") for line in lines if line.startswith("job ")])


def ask(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except subprocess.TimeoutExpired:  # Slurm's commands look for a missing controller for a minute
        return ""


def wait_until(happened: Callable[[], bool], what: str, seconds: float = 400) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"after {seconds} s not yet: {what}\n{ask('squeue', '-r')}"
        time.sleep(0.5)


def wait_for_the_end(*sweeps: Sweep) -> None:
    ids = ",".join(job for sweep in sweeps for job in sweep.ids)
    wait_until(lambda: not ask("squeue", "-h", "-r", "-j", ids), f"the end of {ids}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Give a person's folder on a machine that runs the Slurm of scripts/slurm/start.sh."""
    there = shutil.which("scontrol") and "ClusterName             = advunlearn" in ask("scontrol", "show", "config")
    if not there:
        reason = "needs the Slurm that scripts/slurm/start.sh starts"
        if os.environ.get("ADVUNLEARN_REQUIRE_SLURM"):
            pytest.fail(reason)
        pytest.skip(reason)
    return Place(tmp_path_factory.mktemp("slurm"))


@dataclass
class Story:
    """What was sent and what befell it.

    Attributes:
        limited: one run, longer than its time limit.
        failing: two runs, one of which fails and one of which kills itself each time.
        six: 6 runs. Of the first four, while they unlearn, one is cancelled and the others are killed in three
            ways; then a job of a better partition takes the node of the fifth.
        sharded: two runs behind two jobs that train their shadow models.
        by_hand: the id of a job whose batch script was written by hand.
        cancelled: how the first of the six stood when the others were over, before `submit --retry`.
        retried: what that printed.
    """

    limited: Sweep
    failing: Sweep
    six: Sweep
    sharded: Sweep
    by_hand: str
    cancelled: str
    retried: str
    unbroken: Path


@pytest.fixture(scope="module")
def story(place: Place) -> Story:
    # A first try of what is to be ended would take 80 s, and everything else no more than it must.
    slow = '[ $SLURM_ARRAY_TASK_ID -le 4 ] && [ -z "$SLURM_RESTART_COUNT" ] && export STEP_SECONDS=2'
    limited = place.submit("--time", "1", "--signal-seconds", "20", "--setup", slow, *SLOW, "seed=100")
    failing = place.submit("--requeues", "1", *SLOW, "unlearner.end=error,killed")
    six = place.submit("--setup", slow, *SLOW, f"seed={','.join(map(str, range(6)))}")
    shadowed = ["attack=lira", "attack.shadows=8", "attack.stacked=false", "optimizer=counted", "threads=1"]
    sharded = place.submit("--shadow-shards", "2", *shadowed, "optimizer.epochs=2", "unlearner=none,retrain")
    by_hand = sent_by_hand(place)

    def unlearns(number: int) -> bool:
        return len(six.manifest(number)["stages"]) >= 3  # data, pretrain, retrain

    ends = [
        lambda: ask("scancel", f"{six.id}_0"),
        lambda: ask("scancel", "--signal=KILL", "--batch", f"{six.id}_1"),
        lambda: ask("scancel", "--signal=KILL", f"{six.id}_2.0"),
        lambda: os.kill(six.manifest(3)["process"], signal.SIGKILL),
    ]
    for number, end in enumerate(ends):
        wait_until(lambda number=number: unlearns(number), f"run {number} unlearns")
        end()
    wait_until(lambda: unlearns(4), "run 4 unlearns")
    node = ask("squeue", "-h", "-o", "%N", "-j", f"{six.id}_4").strip()
    ask("sbatch", "-p", "high", "--exclusive", "-w", node, "--mem=100", "-o", "/dev/null", "--wrap", "sleep 1")
    # Meanwhile, the same without any of this.
    unbroken = place.folder / "unbroken"
    for sweep, number, name in [(limited, 0, "limited"), *((six, number, str(number)) for number in range(5))]:
        (unbroken / name).mkdir(parents=True)
        shutil.copy(sweep.folder / str(number) / "config.yaml", unbroken / name / "config.yaml")
    place.cache = place.folder / "another cache"
    place.type("resume", "unbroken")
    place.cache = place.folder / "cache"
    wait_for_the_end(six)
    cancelled = place.type("status", str(six.folder)).stdout
    retried = place.type("submit", "--retry", str(six.folder), "--setup", ":").stdout
    others = [retried.split()[1].rstrip(":"), by_hand]
    wait_for_the_end(limited, failing, sharded, Sweep(six.folder, others))
    return Story(limited, failing, six, sharded, by_hand, cancelled, retried, unbroken)


def sent_by_hand(place: Place) -> str:
    """Send a batch script whose command is the entry point; return the job's id."""
    train = Path(__file__).parents[2] / "src" / "advunlearn" / "train.py"
    words = " ".join([*SMALL, "unlearner.epochs=1", "hydra.run.dir=by-hand"])
    (place.folder / "train.sh").write_text(f"#!/bin/sh\n#SBATCH --mem=100\nexec {sys.executable} {train} {words}\n")
    sent = subprocess.run(
        ["sbatch", "--parsable", "--output", "train.log", "train.sh"],
        cwd=place.folder,
        env={**os.environ, "ADVUNLEARN_CACHE": str(place.cache)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert sent.returncode == 0, sent.stderr
    return sent.stdout.strip()


def test_an_array_of_six_completes_whatever_befell_its_jobs(story: Story, place: Place) -> None:
    done = place.type("status", str(story.six.folder))
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "runs: 6 completed"
    assert [line.split()[1] for line in done.stdout.splitlines()[:-1]] == [f"seed={seed}" for seed in range(6)]
    wait_until(lambda: len(history([story.six.id])) == 6, "the accounting of 6 jobs")
    states = history([story.six.id])
    assert [states[story.six.id, number] for number in range(1, 6)] == [("COMPLETED", "")] * 5


@pytest.mark.parametrize("number", range(5))
def test_the_numbers_are_those_of_an_unbroken_run(story: Story, number: int) -> None:
    unbroken = json.loads((story.unbroken / str(number) / "metrics.json").read_text())
    assert story.six.metrics(number) == without_seconds(unbroken)


def test_killed_jobs_were_killed_and_went_on(story: Story) -> None:
    for number in (1, 2, 3):
        assert (story.six.folder / "logs" / f"{number}.kills").read_text().count("\n") == 1
        assert "killed; back into the queue" in story.six.log(number)
        manifest = story.six.manifest(number)
        assert len(manifest["attempts"]) == 1
        assert manifest["slurm"]["SLURM_RESTART_COUNT"] == "1"


def test_a_preempted_job_wrote_a_checkpoint_and_went_on(story: Story) -> None:
    (attempt,) = story.six.manifest(4)["attempts"]
    assert attempt["status"] == "interrupted"
    assert "told to stop by USR1; back into the queue" in story.six.log(4)


def test_a_job_longer_than_its_time_limit_goes_on_in_another(story: Story) -> None:
    attempts = story.limited.manifest(0)["attempts"]
    assert attempts
    assert {each["status"] for each in attempts} == {"interrupted"}
    # One that is told to stop while Python still starts goes back as well, without an attempt to its name.
    assert story.limited.log(0).count("told to stop by USR1; back into the queue") >= len(attempts)
    unbroken = json.loads((story.unbroken / "limited" / "metrics.json").read_text())
    assert story.limited.metrics(0) == without_seconds(unbroken)
    assert not list((story.limited.folder / "logs").glob("*.kills"))


def test_what_its_owner_cancels_stays_away_until_it_is_sent_again(story: Story) -> None:
    line = story.cancelled.splitlines()[0]
    assert line.split()[:2] == ["0", "seed=0"]
    assert line.endswith("cancelled")
    assert "runs: 5 completed, 1 cancelled" in story.cancelled
    assert f"again: advunlearn submit --retry {story.six.folder}" in story.cancelled
    assert ": 1 run\n" in story.retried
    assert len(story.six.manifest(0)["attempts"]) == 1


def test_a_failing_job_is_failed_for_slurm_too_with_its_reason(story: Story, place: Place) -> None:
    done = place.type("status", str(story.failing.folder))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        "0",
        "unlearner.end=error",
        *lines[0].split()[2:4],
        "failed:",
        "the",
        "well",
        "is",
        "dry",
    ]
    assert lines[-2] == "runs: 1 failed, 1 died"
    assert history([story.failing.id])[story.failing.id, 0] == ("FAILED", "1:0")


def test_a_job_that_is_killed_every_time_ends(story: Story, place: Place) -> None:
    assert (story.failing.folder / "logs" / "1.kills").read_text().count("\n") == 2
    assert "killed, and not started again" in story.failing.log(1)
    assert history([story.failing.id])[story.failing.id, 1] == ("FAILED", "9:0")


def test_shadow_models_are_trained_once_by_the_jobs_that_the_runs_wait_for(story: Story, place: Place) -> None:
    trainings = [line.split() for line in (place.folder / "trainings.txt").read_text().splitlines()]
    shards, runs = story.sharded.ids
    assert len({weights for _, _, weights in trainings}) == len(trainings)
    assert sorted(task for job, task, _ in trainings if job == shards) == ["0"] * 4 + ["1"] * 4
    assert len([job for job, _, _ in trainings if job == runs]) == 3  # the original, the retrained and the unlearned
    assert place.type("status", str(story.sharded.folder)).stdout.splitlines()[-1] == "runs: 2 completed"
    ends = [json.loads(path.read_text())["finished"] for path in story.sharded.folder.glob("shadows/*/manifest.json")]
    assert all(story.sharded.manifest(number)["started"] >= max(ends) for number in (0, 1))


def test_what_slurm_refuses_is_said_in_a_line_and_can_be_sent_again(place: Place) -> None:
    refused = place.type("submit", "--partition", "nowhere", *SMALL)
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert "nvalid partition" in line
    folder = line.split()[-1]
    status = place.type("status", folder)
    assert status.returncode == 1
    assert status.stdout.splitlines()[-2] == "runs: 1 not submitted"
    sent = place.type("submit", "--retry", folder, "--partition", "main", "--sbatch", "hold", "--mem", "100")
    assert sent.returncode == 0, sent.stderr
    assert place.type("submit", "--retry", folder).stdout.startswith("nothing to send")
    status = place.type("status", folder)
    assert status.returncode == 0
    assert "queued: JobHeldUser" in status.stdout
    ask("scancel", sent.stdout.split()[1].rstrip(":"))
    assert place.type("status", folder).stdout.splitlines()[-2] == "runs: 1 cancelled"


def test_the_entry_point_can_be_the_command_of_a_batch_script(story: Story, place: Place) -> None:
    job = ask("scontrol", "-o", "show", "job", story.by_hand)
    assert " JobState=COMPLETED " in job, (place.folder / "train.log").read_text()
    assert " ExitCode=0:0 " in job
    assert json.loads((place.folder / "by-hand" / "manifest.json").read_text())["status"] == "completed"
