"""Requests to forget that are served one after the other in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import advunlearn
from advunlearn.config.compose import experiment_from
from advunlearn.data.requests import new_rows
from advunlearn.evaluation.metrics_file import read_metrics
from advunlearn.options import ConfigError, UserError
from advunlearn.report.run.pictures import draw
from advunlearn.stages.data import split
from advunlearn.stages.estimate import before_a_run
from advunlearn.stages.rounds import request_splits

QUICK = ["dataset.train_size=120", "model.hidden=16", "optimizer.epochs=10", "attack=threshold", "device=cpu"]
QUICK += ["threads=1", "unlearner.epochs=2"]


def run(folder: str | Path, *words: str) -> Any:
    return advunlearn.run([*QUICK, *words], folder)


NEGGRAD = ["unlearner=neggrad", "unlearner.lr=0.01"]
DIVIDED = [*NEGGRAD, "forget.rounds=2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run of two requests; next to it, `cache` is its store."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVUNLEARN_CACHE", str(root / "cache"))
        run(root / "run", *DIVIDED)
    return root / "run"


def test_rounds_of_one_run_are_to_the_bit_what_a_run_for_each_request_gives(made: Path, workplace: Path) -> None:
    experiment = experiment_from([*QUICK, *DIVIDED])
    _, trainer, splits = split(experiment, experiment.dataset.load())
    for number, rows in enumerate(new_rows(request_splits(experiment, splits, trainer.pool.labels))):
        Path(f"rows{number}.txt").write_text("\n".join(map(str, rows)), encoding="utf-8")
    first = run("first", *NEGGRAD, "forget=indices", "forget.path=rows0.txt")
    assert "rounds" not in first.metrics
    run("second", *NEGGRAD, "forget=indices", "forget.path=rows1.txt", "original.run=first")
    unlearned = [Path(folder, "unlearned.safetensors").read_bytes() for folder in (made, "first", "second")]
    assert unlearned[0] == unlearned[2] != unlearned[1]


def test_every_model_is_followed_on_the_examples_of_every_request(made: Path) -> None:
    metrics: Any = read_metrics(made)
    found = metrics["rounds"]
    assert found["examples"] == [12, 12]
    models = {"original": found["models"][0], "unlearned": found["models"][2], "retrained": found["retrained"]}
    for name, model in models.items():
        accuracy = metrics["models"][name]["accuracy"]["forget"]
        assert np.mean(model["accuracy"]) == pytest.approx(accuracy)  # of equally many examples each
        assert all(0 <= auc <= 1 for auc in model["auc"])
    assert metrics["seconds"]["unlearn"] == sum(found["seconds"])
    page = (made / "report.html").read_text(encoding="utf-8")
    assert "accuracy by request" in page
    assert "loss AUC by request" in page


def test_the_estimate_counts_the_rounds_and_finds_them_in_the_store(
    made: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted() -> list[tuple[int, int, int]]:
        lines = before_a_run(experiment_from([*QUICK, *DIVIDED])).estimate().lines
        return [(line.wanted, line.held, line.missing) for line in lines if line.name == "unlearning"]

    assert counted() == [(2, 0, 2)]
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(made.parent / "cache"))
    assert counted() == [(2, 2, 0)]


def test_a_model_that_forgets_nothing_stays_the_same_in_every_round(workplace: Path) -> None:
    words = [word for word in QUICK if not word.startswith("unlearner")]
    found = advunlearn.run([*words, "unlearner=none", "forget.rounds=2"], "run").metrics["rounds"]
    assert found["models"][0] == found["models"][1] == found["models"][2]


def test_what_cannot_be_divided_into_requests_is_refused(made: Path, workplace: Path) -> None:
    words = {
        "unlearner=sisa": "repeats the original's training",
        "attack=ulira": "shadow originals are unlearned in one request",
        f"original.run={made}": "with original.run, each run is a request",
    }
    for word, said in words.items():
        others = [] if word.startswith("unlearner") else ["unlearner=finetune"]
        with pytest.raises(ConfigError, match=f"forget.rounds=2: .*{said}"):
            experiment_from([*QUICK[:-1], *others, word, "forget.rounds=2"])
    with pytest.raises(UserError, match=r"forget\.rounds=25 is more than the 24 examples"):
        before_a_run(experiment_from([*QUICK, "unlearner=finetune", "forget.rounds=25"]))


def test_the_report_draws_the_requests() -> None:
    rng = np.random.default_rng(0)
    scores = {"member": np.arange(20) < 10}
    for model in ("original", "retrained", "unlearned"):
        scores |= {f"{model}/loss": rng.random(20), f"{model}/threshold": rng.random(20)}
    model = {"accuracy": [1.0, 0.5], "auc": [0.7, 0.6]}
    rounds: Any = {"examples": [5, 5], "models": [model] * 3, "retrained": model, "seconds": [1.0, 1.0]}
    assert set(draw({}, scores, rounds)) == {"roc", "losses", "rounds"}
    assert set(draw({}, scores)) == {"roc", "losses"}
