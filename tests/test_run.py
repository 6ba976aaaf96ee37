"""Whole runs: what they find, what they leave, and that they can be repeated."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from sklearn.datasets import load_digits

import advunlearn
from advunlearn.config.compose import experiment_from
from advunlearn.config.experiment import read_experiment
from advunlearn.data.splits import Splits
from advunlearn.report.run.terminal import comparison_table
from advunlearn.shadows.model_set import STACK
from advunlearn.storage.files import file_digest
from advunlearn.storage.store import Store
from tests.conftest import Command, Running, own_unlearner, stages_of, with_pictures

QUICK = ["optimizer.epochs=15", "unlearner.epochs=3", "attack.shadows=2"]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def without_seconds(metrics: dict[str, Any]) -> dict[str, Any]:
    measured = ("seconds", "unlearning_over_retraining", "unlearning")
    return {name: value for name, value in metrics.items() if name not in measured}


@dataclass(frozen=True)
class Made:
    """A finished run of `QUICK`: the store that it made and nothing else uses, its folder and its metrics."""

    cache: Path
    folder: Path
    metrics: Any


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVUNLEARN_CACHE", str(root / "cache"))
        with_pictures(patch)
        result = advunlearn.run(QUICK, root / "run")
    return Made(root / "cache", result.folder, result.metrics)


@pytest.fixture
def store_of_made(made: Made, workplace: Path) -> None:
    """Begin with a store that holds what the run made."""
    shutil.copytree(made.cache, os.environ["ADVUNLEARN_CACHE"])


def test_the_default_run_shows_the_effect_it_is_there_for(workplace: Path) -> None:
    metrics = advunlearn.run(["attack.shadows=32"]).metrics
    lira = {name: model["attacks"]["lira"]["auc"] for name, model in metrics["models"].items()}
    test = {name: model["accuracy"]["test"] for name, model in metrics["models"].items()}
    assert metrics["models"]["original"]["attacks"]["lira"]["auc_low"] > 0.6
    retrained = metrics["models"]["retrained"]["attacks"]["lira"]
    assert retrained["auc_low"] < 0.5 < retrained["auc_high"]
    assert abs(lira["unlearned"] - lira["retrained"]) < 0.5 * abs(lira["original"] - lira["retrained"])
    assert abs(test["unlearned"] - test["retrained"]) < 0.02
    assert metrics["models"]["unlearned"]["accuracy"]["retain"] > 0.99


@pytest.mark.usefixtures("pictures")
def test_what_a_run_leaves(command: Command, workplace: Path) -> None:
    done = command("run", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    (folder,) = (workplace / "outputs" / "digits" / "sg").iterdir()
    assert str(folder / "report.html") in done.stdout
    assert sorted(path.name for path in folder.iterdir() if path.name != ".hydra") == [
        "advunlearn.log",
        "config.yaml",
        "forget.txt",
        "losses.png",
        "manifest.json",
        "metrics.csv",
        "metrics.json",
        "original.safetensors",
        "report.html",
        "roc.png",
        "scores.npz",
        "splits.npz",
        "trace.png",
        "unlearned.safetensors",
    ]
    assert sorted(path.name for path in workplace.iterdir()) == ["outputs"]
    manifest = read(folder / "manifest.json")
    assert manifest["status"] == "completed"
    assert manifest["overrides"] == QUICK
    assert [stage["name"] for stage in manifest["stages"]] == [
        "data",
        "pretrain",
        "retrain",
        "unlearn",
        "attack",
        "weights",
        "selection",
        "report",
    ]
    assert all(2**20 < stage["peak_memory"] < 2**36 for stage in manifest["stages"])
    assert all(file_digest(folder / name) == digest for name, digest in manifest["checksums"].items())
    for stage in manifest["stages"]:
        assert sum(line.split()[1:2] == [stage["name"]] for line in done.stderr.splitlines()) == 1
    metrics = read(folder / "metrics.json")
    splits = Splits.load(folder / "splits.npz")
    parts = list(vars(splits).values())
    assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
    with np.load(folder / "scores.npz") as scores:
        assert sorted(scores["rows"][scores["member"]]) == sorted(splits.forget)
        assert set(scores["rows"][~scores["member"]]) <= set(splits.test)
        for model in metrics["models"]:
            assert len(scores[f"{model}/lira"]) == len(scores[f"{model}/lira/stderr"]) == len(scores["rows"])
            assert "lira/stderr" not in metrics["models"][model]["attacks"]
    assert load_file(folder / "unlearned.safetensors")
    again = read_experiment(OmegaConf.load(folder / "config.yaml"))
    assert again.config == experiment_from(QUICK).config


def test_metrics_have_the_schema_that_is_promised(made: Made) -> None:
    metrics = made.metrics
    assert metrics["schema"] == 1
    assert set(metrics["models"]) == {"original", "retrained", "unlearned"}
    for model in metrics["models"].values():
        assert set(model["accuracy"]) == {"retain", "forget", "test"}
        assert {"loss_ks", "loss_wasserstein"} <= set(model)
        assert {"threshold", "classifier", "lira"} <= set(model["attacks"])
        for name, attack in model["attacks"].items():
            rates = ("auc", "auc_low", "auc_high", "balanced_accuracy", "tpr_at_fpr_0.01", "tpr_at_fpr_0.001")
            assert all(0 <= attack[rate] <= 1 for rate in rates)
            assert attack["shadows"] == (2 if name == "lira" else 0)
            assert attack["members"] == 50
    assert metrics["weights"]["reason"] == ""
    assert "distributions" not in metrics
    weights = [load_file(made.folder / f"{name}.safetensors") for name in ("unlearned", "original")]
    before, after = (np.concatenate([each.numpy().ravel() for each in model.values()]) for model in weights[::-1])
    moved = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert metrics["weights"]["models"]["unlearned"]["from_original"] == pytest.approx(moved, rel=1e-5)
    assert set(metrics["seconds"]) == {"pretrain", "retrain", "unlearn", "shadows", "attack"}
    assert metrics["gap"]["unlearned"]["attacks"]["lira"] == pytest.approx(
        metrics["models"]["unlearned"]["attacks"]["lira"]["auc"]
        - metrics["models"]["retrained"]["attacks"]["lira"]["auc"]
    )


@pytest.mark.usefixtures("store_of_made", "pictures")
def test_a_second_run_takes_everything_from_the_store(made: Made) -> None:
    first, second = made, advunlearn.run(QUICK)
    assert first.metrics == second.metrics
    reused = {stage["name"]: stage["reused"] for stage in read(second.folder / "manifest.json")["stages"]}
    assert reused == {
        "data": False,
        "pretrain": True,
        "retrain": True,
        "unlearn": True,
        "attack": True,
        "weights": True,
        "selection": True,
        "report": True,
    }
    assert (first.folder / "roc.png").read_bytes() == (second.folder / "roc.png").read_bytes()


def test_the_same_seed_gives_the_same_numbers_from_an_empty_store(made: Made, workplace: Path) -> None:
    first, second, other = made, advunlearn.run(QUICK), advunlearn.run([*QUICK, "seed=1"])
    assert without_seconds(first.metrics) == without_seconds(second.metrics)
    weights = load_file(first.folder / "unlearned.safetensors"), load_file(second.folder / "unlearned.safetensors")
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert without_seconds(first.metrics) != without_seconds(other.metrics)


@pytest.mark.usefixtures("store_of_made")
def test_only_what_changed_is_computed_again() -> None:
    changed = advunlearn.run([*QUICK, "unlearner.alpha=0.5"])
    reused = {stage["name"]: stage["reused"] for stage in read(changed.folder / "manifest.json")["stages"]}
    assert (reused["pretrain"], reused["retrain"], reused["unlearn"]) == (True, True, False)
    stored = sorted(entry.kind for entry in Store().entries())
    assert stored.count("shadow") == STACK
    assert stored.count("unlearned") == 2


def test_alpha_zero_is_finetune_in_a_whole_run(workplace: Path) -> None:
    shared = [*QUICK, "attack=threshold"]
    twin = advunlearn.run([*shared, "unlearner.alpha=0"])
    tuned = advunlearn.run([*shared, "unlearner=finetune", "unlearner.lr=0.1"])  # as the recipe has it for the game
    assert twin.metrics["models"] == tuned.metrics["models"]
    weights = load_file(twin.folder / "unlearned.safetensors"), load_file(tuned.folder / "unlearned.safetensors")
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_best_epoch_is_chosen_on_the_selection_set_and_kept(workplace: Path) -> None:
    options = [*QUICK, "attack=threshold", "unlearner.keep_epoch=best"]
    first, other = advunlearn.run(options), advunlearn.run([*options, "dataset.selection_fraction=0.3"])
    epochs = first.metrics["trace"]["epochs"]
    assert [len(epochs[name]) for name in ("step", "selection_accuracy", "attack_auc", "utility")] == [3] * 4
    assert epochs["utility"][epochs["chosen"]] == max(epochs["utility"])
    # Another selection set, at the cost of the test set alone, is another choice: the store must not give the first.
    splits = [Splits.load(run.folder / "splits.npz") for run in (first, other)]
    assert all((getattr(splits[0], part) == getattr(splits[1], part)).all() for part in ("retain", "forget", "audit"))
    assert other.metrics["trace"]["epochs"] != epochs


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(
    "overrides",
    [
        ["model=cnn", "model.width=4", "optimizer=sgd", "optimizer.epochs=2"],
        ["model=resnet18", "model.width=4", "optimizer.epochs=1"],
        ["unlearner=retrain"],
        ["unlearner=none"],
        ["unlearner=random_label"],
        ["unlearner.base=neggrad", "unlearner.optimizer_state=separate", "unlearner.audit_every=3"],
        ["unlearner.features=logits_loss", "auditor.groups=pooled", "auditor.loss=hinge"],
        ["forget=class", "forget.classes=[3,7]"],
        ["dataset.train_size=500", "dataset.augment=flip_crop", "dataset.crop=1"],
        ["attack=[lira]", "attack.lira.mode=offline", "attack.lira.variance=fixed"],
        ["attack=[rmia,population]", "attack.rmia.mode=offline", "attack.queries=2"],
        ["precision=bf16", "threads=1", "channels_last=false"],
    ],
    ids=" ".join,
)
def test_other_compositions_run_too(workplace: Path, overrides: list[str]) -> None:
    quick = ["optimizer.epochs=3", "attack.shadows=2"]
    quick += [] if overrides[0] in ("unlearner=retrain", "unlearner=none") else ["unlearner.epochs=2"]
    result = advunlearn.run([*quick, *overrides])
    assert (result.folder / "report.html").is_file()
    assert not result.network.training


def test_a_class_is_forgotten_against_test_examples_of_that_class(workplace: Path) -> None:
    folder = advunlearn.run([*QUICK, "forget=class", "forget.classes=[3]", "attack=threshold"]).folder
    with np.load(folder / "scores.npz") as scores:
        assert set(scores["label"]) == {3}


def test_a_persons_own_arrays_and_rows(workplace: Path) -> None:
    digits = load_digits()
    images, labels = (16 * digits.images).clip(0, 255).astype(np.uint8), digits.target
    np.savez(workplace / "mine.npz", images=images[:600], labels=labels[:600])
    (workplace / "rows.txt").write_text("# to forget\n3\n17\n\n" + "\n".join(map(str, range(100, 130))) + "\n")
    overrides = ["dataset=npz", "dataset.path=mine.npz", "forget=indices", "forget.path=rows.txt"]
    folder = advunlearn.run([*QUICK, *overrides]).folder
    assert sorted(Splits.load(folder / "splits.npz").forget) == [3, 17, *range(100, 130)]


def test_a_run_that_fails_says_why_in_one_line_and_keeps_the_traceback(command: Command, workplace: Path) -> None:
    done = command("run", "optimizer.lr=1e30")
    assert done.returncode == 1
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "training the original model diverged" in errors[0]
    assert "Traceback" not in done.stderr
    (folder,) = (workplace / "outputs" / "digits" / "sg").iterdir()
    manifest = read(folder / "manifest.json")
    assert manifest["status"] == "failed"
    assert "diverged" in manifest["error"]
    assert "Traceback" in (folder / "advunlearn.log").read_text()
    assert not (folder / "metrics.json").exists()


def test_a_bug_in_a_users_method_is_not_taken_for_a_mistake_in_the_options(command: Command, workplace: Path) -> None:
    own_unlearner(workplace, "buggy", "import numpy as np\nreturn np.zeros(2) + np.zeros(3)")
    done = command("run", "--config-dir", "my", "unlearner=buggy", "attack=threshold", "optimizer.epochs=1")
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error:"))
    (log,) = (workplace / "outputs").rglob("advunlearn.log")
    assert line.startswith("error: ValueError: operands could not be broadcast together with shapes (2,) (3,)")
    assert line.endswith(f"(traceback in {log})") or line.endswith(f"(traceback in {log.relative_to(workplace)})")
    assert "buggy.py" in log.read_text()
    assert "Traceback" not in done.stderr


def test_what_an_attack_cannot_do_is_said_before_anything_is_trained(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (workplace / "rows.txt").write_text("1\n2\n3\n")
    words = ["forget=indices", "forget.path=rows.txt", "optimizer.epochs=1", "unlearner=finetune", "unlearner.epochs=1"]
    wanted = "attack.classifier.folds=5 needs as many members and non-members, got 3"
    with pytest.raises(ValueError, match=re.escape(wanted)):
        advunlearn.run([*words, "attack=classifier"])
    assert list(Store().entries()) == []
    attacks = advunlearn.run([*words, "attack=[classifier,threshold]"]).metrics["gap"]["unlearned"]["attacks"]
    assert {name.split("/")[0] for name in attacks} == {"threshold"}
    assert f"the attack classifier is left out: {wanted}" in caplog.text


def test_a_persons_class_that_changed_is_computed_anew(
    command: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(workplace)
    # Python takes a compiled file for that of any source of its second and size.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folders = []
    for factor in (0.5, 0.5, 0.0):
        method = f"for p in network.parameters():\n    p.data *= {factor}\nreturn Unlearned(network)"
        own_unlearner(workplace, "changing", method)
        words = ["run", "--config-dir", "my", "unlearner=changing", "optimizer.epochs=2", "attack=threshold"]
        done = command(*words)
        assert done.returncode == 0, done.stderr
        folders.append(Path(done.stdout.split("report: ")[1].strip()).parent)
    reused = [read(folder / "manifest.json")["stages"][3]["reused"] for folder in folders]
    assert reused == [False, True, False]


def test_a_folder_that_holds_a_run_is_not_written_over(made: Made, workplace: Path) -> None:
    shutil.copytree(made.folder, workplace / "here")
    before = (workplace / "here" / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match="already holds a run"):
        advunlearn.run([*QUICK, "attack=threshold"], workplace / "here")
    assert (workplace / "here" / "manifest.json").read_bytes() == before


def test_a_sweep_is_a_run_for_each_combination(command: Command, workplace: Path) -> None:
    done = command("run", "-m", "seed=1,2", "unlearner=finetune,none", "attack=threshold", "optimizer.epochs=2")
    assert done.returncode == 0, done.stderr
    (sweep,) = (workplace / "outputs" / "sweeps").iterdir()
    runs = sorted(path.parent.name for path in sweep.glob("*/metrics.json"))
    assert runs == ["0", "1", "2", "3"]
    table = command("report", str(sweep)).stdout
    assert "finetune" in table
    assert "none" in table
    assert "±" in table


def test_an_interrupted_run_says_so(workplace: Path) -> None:
    running = Running("run", "attack.shadows=1000", "hydra.run.dir=run")
    folder = workplace / "run"
    running.wait_until(lambda: stages_of(folder) == 3)
    os.kill(running.pid, signal.SIGTERM)
    assert running.finish().returncode == 128 + signal.SIGTERM
    assert read(folder / "manifest.json")["status"] == "interrupted"


def test_reference_models_serve_every_request_and_are_no_attackers(workplace: Path) -> None:
    game = [*QUICK, "attack=lira", "auditor=likelihood_ratio", "auditor.references=4", "attack.stacked=false"]
    first = advunlearn.run(game)
    store = Store()
    references = set(digests(store, "reference"))
    assert len(references) == STACK  # whole, though fewer are asked
    assert read(first.folder / "manifest.json")["reference_requests"] == 1
    assert first.metrics["seconds"]["references"] > 0
    second = advunlearn.run([*game, "forget.fraction=0.1"])
    assert read(second.folder / "manifest.json")["reference_requests"] == 2
    assert second.metrics["seconds"]["references"] == first.metrics["seconds"]["references"]
    later = set(digests(store, "reference"))
    assert later == references
    rows = {kind: {key["rows"] for key in store.keys(kind)} for kind in ("reference", "shadow")}
    assert all(rows.values())
    assert not rows["reference"] & rows["shadow"]
    folder = advunlearn.run(game).folder
    assert "later requests to forget that need the same models" in comparison_table(read(folder / "metrics.json"))
    assert "share the reference models, so far: 2." in (folder / "report.html").read_text()


def digests(store: Store, kind: str) -> list[str]:
    return [entry.digest for entry in store.entries() if entry.kind == kind]


def test_a_shard_trains_its_part_of_the_shadow_models_and_stops(command: Command, workplace: Path) -> None:
    done = command("run", *QUICK, "attack=lira", "attack.shadows=6", "attack.stacked=false", "attack.shard=2/3")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the shadow models of this shard are in the store\n"
    assert len(digests(Store(), "shadow")) == 2
    assert digests(Store(), "model") == []


def test_a_sweep_ends_with_the_means_of_its_runs(command: Command, workplace: Path) -> None:
    short = ["optimizer.epochs=2", "unlearner.epochs=1", "attack=threshold"]
    done = command("run", "-m", *short, "seed=1,2", "unlearner.alpha=0,1")
    assert done.returncode == 0, done.stderr
    tail = done.stdout.splitlines()[-10:]
    head = next(number for number, line in enumerate(tail) if line.startswith("unlearner.alpha"))
    assert [line.split()[:3] for line in tail[head + 1 : head + 5]] == [
        ["2", "original", tail[head + 1].split()[2]],
        ["2", "retrained", tail[head + 2].split()[2]],
        ["0", "2", "unlearned"],
        ["1", "2", "unlearned"],
    ]
    assert tail[-1].startswith("again: advunlearn report outputs/sweeps/")


def test_eight_runs_at_once_on_an_empty_store_make_each_artefact_once(workplace: Path) -> None:
    shared = ["optimizer.epochs=1", "unlearner.epochs=1", "attack=[threshold,lira]", "attack.shadows=2"]
    different = [[], [], [], [], ["unlearner.alpha=0"], ["unlearner.alpha=0"], ["seed=1"], ["attack=threshold"]]
    folders = [workplace / "runs" / str(number) for number in range(8)]
    started = [
        Running("run", *shared, *words, f"hydra.run.dir={folder}")
        for folder, words in zip(folders, different, strict=True)
    ]
    done = [running.finish() for running in started]
    assert [each.returncode for each in done] == [0] * 8, [each.stderr for each in done]
    made = [
        stage["artefact"]
        for folder in folders
        for stage in read(folder / "manifest.json")["stages"]
        if stage["name"] != "data" and not stage["reused"]
    ]
    store = Store()
    shadows = digests(store, "shadow")
    assert sorted(made) == sorted({entry.digest for entry in store.entries()} - set(shadows))
    assert len(shadows) == 2 * STACK  # of two seeds
    assert {path.name for path in store.root.iterdir() if len(path.name) > 2 and any(path.iterdir())} <= {"runs"}
    metrics = [read(folder / "metrics.json") for folder in folders]
    assert metrics[0] == metrics[1] == metrics[2] == metrics[3]
    assert metrics[4] == metrics[5]
    assert metrics[7]["models"]["unlearned"]["accuracy"] == metrics[0]["models"]["unlearned"]["accuracy"]
    assert metrics[4]["trace"] != metrics[0]["trace"] != metrics[6]["trace"]
