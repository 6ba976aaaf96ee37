"""A search for options: the objective that a run returns, Hydra's sweepers, and what is shown of the trials."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from advunlearn.cli import main
from advunlearn.config import compose
from advunlearn.config.compose import experiment_from
from advunlearn.data.comparable import comparable
from advunlearn.evaluation.objective import is_better, objective_of
from advunlearn.report.summary.folders import find_runs
from advunlearn.report.summary.search import write_search
from advunlearn.runs.manifest import Manifest
from advunlearn.stages.data import prepare
from advunlearn.stages.selection import measure_selection
from advunlearn.stages.unlearn import Models
from advunlearn.train import run_experiment
from advunlearn.training.fit import predict


def has_optuna_sweeper() -> bool:
    """Return whether the sweeper is installed; without any plugin of Hydra, its parent package is missing as well."""
    return all(map(importlib.util.find_spec, ("hydra_plugins", "hydra_plugins.hydra_optuna_sweeper")))


QUICK = ["optimizer.epochs=2", "unlearner.epochs=2", "attack=threshold"]


def metrics_of(utility: float, accuracy: float, auc: float, time: float = 0.5) -> Any:
    model = {"accuracy": accuracy, "attack_auc": auc, "utility": utility}
    return {"selection": {"models": {"unlearned": model}, "examples": 10}, "unlearning_over_retraining": time}


def test_an_objective_by_hand() -> None:
    found = metrics_of(0.3, 0.9, 0.4)
    assert [objective_of(found, name) for name in ("utility", "accuracy", "attack", "time")] == [0.3, 0.9, 0.6, 0.5]
    assert objective_of({"unlearning_over_retraining": float("nan")}, "utility") is None  # type: ignore[arg-type]
    assert objective_of({"unlearning_over_retraining": float("nan")}, "time") is None  # type: ignore[arg-type]
    assert is_better("accuracy", 0.9, 0.8)
    assert is_better("attack", 0.5, 0.6)
    with pytest.raises(ValueError, match="objective must be one of utility, accuracy, attack, time, got test"):
        objective_of(found, "test")


def test_the_selection_numbers_are_those_of_the_networks(workplace: Path) -> None:
    with Manifest(workplace / "run") as manifest:
        experiment = experiment_from([*QUICK, "objective=attack"])
        result = run_experiment(experiment, manifest, pictures=False)
    with Manifest(workplace / "data") as manifest:
        _, trainer, splits = prepare(experiment, manifest)
    parts = {"forget": splits.forget, "selection": splits.selection}
    labels = {part: torch.from_numpy(trainer.pool.labels[rows]) for part, rows in parts.items()}
    members, others, _ = comparable(labels["forget"].numpy(), labels["selection"].numpy())
    for name, network in result.networks.items():
        found = result.metrics["selection"]["models"][name]
        logits = {part: predict(network, trainer.examples.subset(rows)).double() for part, rows in parts.items()}
        right = (logits["selection"].argmax(1) == labels["selection"]).double().mean()
        losses = {part: F.cross_entropy(logits[part], labels[part], reduction="none").numpy() for part in parts}
        scores = -np.concatenate([losses["forget"][members], losses["selection"][others]])
        auc = roc_auc_score(np.arange(len(scores)) < len(members), scores)
        assert found["accuracy"] == pytest.approx(float(right))
        assert found["attack_auc"] == pytest.approx(auc)
        assert found["utility"] == pytest.approx(float(right) - max(auc, 1 - auc))
    none = replace(splits, selection=splits.selection[:0])
    assert measure_selection(trainer, none, Models({}, {}, None), manifest) is None
    auc = result.metrics["selection"]["models"]["unlearned"]["attack_auc"]
    assert result.objective == max(auc, 1 - auc)
    written = json.loads((workplace / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert written["selection"] == result.metrics["selection"]


def run_in_python(folder: Path, alpha: int) -> float | None:
    with Manifest(folder) as manifest:
        experiment = experiment_from([*QUICK, f"unlearner.alpha={alpha}"])
        return run_experiment(experiment, manifest, pictures=False).objective


class TwoTrials(Sweeper):  # type: ignore[misc]
    """Run two values of alpha, and keep what the runs return."""

    returned: ClassVar[list[Any]] = []

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )

    def sweep(self, arguments: list[str]) -> None:
        fixed = [word for word in arguments if "interval" not in word]
        jobs = [[*fixed, f"unlearner.alpha={alpha}"] for alpha in (0, 3)]
        self.returned[:] = [each.return_value for each in self.launcher.launch(jobs, initial_job_idx=0)]


@pytest.fixture
def two_trials(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[TwoTrials]]:
    name = "hydra_plugins.two_trials"  # Hydra takes no others
    for module in ("hydra_plugins", name):  # the first one does not exist where no plugin is installed
        if module not in sys.modules:
            monkeypatch.setitem(sys.modules, module, ModuleType(module))
    TwoTrials.__module__, sys.modules[name].TwoTrials = name, TwoTrials  # type: ignore[attr-defined]
    Plugins.instance().register(TwoTrials)
    ConfigStore.instance().store("two", {"_target_": "hydra_plugins.two_trials.TwoTrials"}, group="hydra/sweeper")
    yield TwoTrials
    del Plugins.instance().class_name_to_class[f"{name}.TwoTrials"]


def test_any_sweeper_gets_the_objective_and_only_the_chosen_run_is_shown(
    workplace: Path, two_trials: type[TwoTrials], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*QUICK, "unlearner.alpha=interval(0,3)"]
    assert main(["run", "-m", "hydra/sweeper=two", "hydra.sweep.dir=found", *words]) == 0
    shown = capsys.readouterr().out
    python = [run_in_python(workplace / f"alpha{alpha}", alpha) for alpha in (0, 3)]
    assert two_trials.returned == python
    best = int(python[1] > python[0])  # type: ignore[operator]
    search = json.loads(Path("found/search.json").read_text(encoding="utf-8"))
    assert (search["objective"], search["chosen"]) == ("utility", str(best))
    assert [trial["options"] for trial in search["trials"]] == [{"unlearner.alpha": "0"}, {"unlearner.alpha": "3"}]
    assert [trial["objective"] for trial in search["trials"]] == python
    assert f"* run {best} is chosen by utility; test numbers are those of this run only" in shown
    assert find_runs([Path("found")]) == [Path("found", str(best))]
    assert find_runs([Path("found", str(1 - best))]) == [Path("found", str(1 - best))]  # that is asked for
    assert main(["report", "found"]) == 0
    assert f"* run {best} is chosen by utility" in capsys.readouterr().out
    assert Path("found/table.csv").read_text(encoding="utf-8").count("unlearned,,accuracy_test") == 1


def test_a_run_that_fails_is_named_and_the_others_count(
    workplace: Path, two_trials: type[TwoTrials], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*QUICK, "unlearner.alpha=interval(0,3)", "unlearner.lr=1e30"]
    assert main(["run", "-m", "hydra/sweeper=two", "hydra.sweep.dir=found", *words]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2
    assert "found/0 (" in lines[0]
    assert "unlearner.alpha=0" in lines[0]
    assert "diverged" in lines[0]
    search = json.loads(Path("found/search.json").read_text(encoding="utf-8"))
    assert search["chosen"] is None
    assert "diverged" in search["trials"][0]["problem"]


def test_a_search_without_its_packages_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compose, "is_installed", lambda package: package != "hydra-optuna-sweeper")
    assert main(["run", "-m", "hydra/sweeper=optuna", "unlearner.alpha=interval(0,3)"]) == 2
    wanted = "pip install 'advunlearn[tune]'; pip install --no-deps hydra-optuna-sweeper"
    assert capsys.readouterr().err == f"error: hydra/sweeper=optuna is an extra ({wanted})\n"


def test_mistakes_in_a_search_are_found_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-m", "unlearner.alpha=interval(0,3)"]) == 2
    assert "only a search has intervals (try hydra/sweeper=optuna" in capsys.readouterr().err
    assert main(["run", "-m", "hydra/sweeper=two", "unlearner.alpha=interval(-1,3)"]) == 2
    assert "unlearner.alpha must be at least 0, got -1" in capsys.readouterr().err
    assert main(["check", "objective=test"]) == 2
    assert "objective must be one of utility, accuracy, attack, time, got test" in capsys.readouterr().err
    right = ["hydra.sweeper.direction=minimize"]
    assert compose.words_for_sweeper(["hydra/sweeper=optuna"], "attack") == right
    assert compose.words_for_sweeper(["hydra/sweeper=optuna", *right], "attack") == []
    assert compose.words_for_sweeper(["hydra/sweeper=two"], "attack") == []
    with pytest.raises(ValueError, match="objective=utility is to be maximized"):
        compose.words_for_sweeper(["hydra/sweeper=optuna", *right], "utility")


@pytest.mark.skipif(not has_optuna_sweeper(), reason="needs hydra-optuna-sweeper, which pins an old Optuna")
@pytest.mark.filterwarnings("ignore::FutureWarning")  # the sweeper's options of Optuna's sampler are old
def test_optuna_finds_the_better_alpha(workplace: Path) -> None:
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "hydra.sweeper.sampler.seed=1"]
    words = ["unlearner.alpha=choice(0,3)", "unlearner.lr=0.1", "attack=threshold", "hydra.sweep.dir=found"]
    assert main(["run", "-m", *search, *words]) == 0
    best = OmegaConf.load("found/optimization_results.yaml")
    assert best.best_params == {"unlearner.alpha": 3}
    found = write_search(Path("found"))
    chosen = next(trial for trial in found["trials"] if trial["run"] == found["chosen"])
    assert chosen["objective"] == best.best_value
    assert len(found["trials"]) == 4
