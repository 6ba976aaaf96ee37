"""`--quiet`, and the one line of each run of a sweep that Hydra runs."""

from __future__ import annotations

from tests.conftest import Command

QUICK = ["optimizer.epochs=1", "unlearner.epochs=1", "attack=threshold"]


def test_a_quiet_run_prints_its_results_only(command: Command) -> None:
    loud, quiet = command("run", *QUICK), command("run", "--quiet", *QUICK, "seed=1")
    assert (loud.returncode, quiet.returncode) == (0, 0), quiet.stderr
    words = ("recipe=digits", " data ", " pretrain ", " report ")
    assert all(word in loud.stderr for word in words)
    assert not any(word in quiet.stderr for word in words)
    assert "accuracy" in quiet.stdout


def test_a_sweep_of_hydra_has_one_line_for_each_run(command: Command) -> None:
    done = command("run", "-m", "hydra/launcher=basic", "seed=1,2", *QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("recipe=digits for") == 1
    assert " pretrain " not in done.stderr
    assert [f"#{number} : recipe=digits seed={number + 1}" in done.stdout for number in (0, 1)] == [True, True]
