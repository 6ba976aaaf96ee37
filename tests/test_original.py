"""An original that is given: as a file of weights, or as the unlearned model of an earlier run."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

import advunlearn
from advunlearn.cli import main
from advunlearn.config.compose import experiment_from, jobs_from
from advunlearn.config.experiment import read_experiment
from advunlearn.config.original import Original
from advunlearn.data.splits import Splits
from advunlearn.options import ConfigError, UserError, source_digest
from advunlearn.report.run.page import write_report
from advunlearn.runs.state import read_manifest
from advunlearn.stages.budget import remarks
from advunlearn.stages.estimate import Estimate, Line, before_a_run
from advunlearn.storage.files import file_digest
from advunlearn.storage.store import Store
from advunlearn.training.fit import predict

QUICK = ["dataset.train_size=200", "model.hidden=8", "optimizer.epochs=8", "unlearner=finetune", "unlearner.epochs=1"]
QUICK += ["attack=threshold", "device=cpu", "threads=1"]
HIDDEN = {"1.weight": (8, 64), "1.bias": (8,), "3.weight": (10, 8), "3.bias": (10,)}


def run(folder: str, *words: str) -> Any:
    return advunlearn.run([*QUICK, *words], folder)


def untimed(metrics: Any) -> dict[str, Any]:
    timed = ("original", "seconds", "unlearning_over_retraining", "references_over_retraining")
    return {name: value for name, value in metrics.items() if name not in timed}


def rows_file(rows: Any) -> None:
    Path("rows.txt").write_text("\n".join(map(str, rows)), encoding="utf-8")


def weights(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    found = {name: torch.full(shape, 0.5) for name, shape in HIDDEN.items()}
    return {**found, **{name.replace("_", "."): tensor for name, tensor in changes.items()}}


def test_from_a_checkpoint_and_from_pretraining_the_numbers_are_the_same_to_the_bit(workplace: Path) -> None:
    trained = run("trained")
    first = load_file("trained/original.safetensors")
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": each for name, each in first.items()}}, "mine.pt")
    for number, path in enumerate(("trained/original.safetensors", "mine.pt")):
        given = run(f"given{number}", f"original.path={path}")
        assert untimed(given.metrics) == untimed(trained.metrics)
        assert (
            Path(f"given{number}/unlearned.safetensors").read_bytes()
            == Path("trained/unlearned.safetensors").read_bytes()
        )
        digest = file_digest(Path(path))
        assert given.metrics["original"] == {"sha256": digest, "forgotten_before": 0, "new": 40}
        assert "pretrain" not in given.metrics["seconds"]
        manifest = read_manifest(Path(f"given{number}")) or {}
        assert manifest["original"] == {**given.metrics["original"], "file": path, "runs": []}
        stages = {stage["name"]: stage["reused"] for stage in manifest["stages"]}
        assert (stages["original"], stages["retrain"], stages["unlearn"]) == (False, True, False)
        page = write_report(Path(f"given{number}"), {}).read_text()
        assert f"the original was given (SHA-256 of its weights: {digest[:12]})" in page
        assert digest in page  # on the first page
        assert not Path(f"given{number}/original.safetensors").exists()


def test_the_checkpoints_content_and_not_its_name_is_the_identity(workplace: Path) -> None:
    save_file(weights(), "a.safetensors")
    save_file(weights(), "b.safetensors")
    save_file(weights(**{"1_bias": torch.zeros(8)}), "c.safetensors")
    digests = [experiment_from([f"original.path={name}.safetensors"]).weights_digest for name in "abc"]
    assert digests[0] == digests[1] != digests[2]


class Code:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


def file_of(kind: str) -> str:
    path = Path(f"{kind}.safetensors" if kind in ("nan", "bytes", "shapes") else f"{kind}.pt")
    network = nn.Linear(2, 2)
    made: dict[str, Any] = {
        "shapes": weights(**{"1_bias": torch.zeros(9)}),
        "nan": weights(**{"3_bias": torch.full((10,), torch.nan)}),
        "names": {"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(2), "d": torch.zeros(2)},
        "module": network,
        "code": {"state_dict": weights(), "extra": Code()},
        "keys": {"net": network.state_dict(), "epoch": 3},
        "list": [torch.zeros(2)],
    }
    if kind == "folder":
        path.mkdir()
    elif kind in ("bytes", "noise", "empty", "pickle"):
        contents = {"bytes": b"\x10" * 100, "noise": b"\x80" * 100, "empty": b"", "pickle": pickle.dumps(Code())}
        path.write_bytes(contents[kind])
    elif path.suffix == ".safetensors":
        save_file(made[kind], path)
    elif kind != "missing":
        torch.save(made[kind], path)
    return str(path)


UNREADABLE = {
    "missing": "No such file or directory",
    "folder": "a folder, not a file of weights",
    "empty": "empty",
    "bytes": "damaged, or not a safetensors file (",
    "noise": "damaged, or not weights alone: other objects are never unpickled, as that can run any code (try torch.",
    "pickle": "damaged, or not weights alone: other objects are never unpickled",
    "module": "damaged, or not weights alone: other objects are never unpickled",
    "code": "damaged, or not weights alone: other objects are never unpickled",
    "nan": "3.bias is not finite: the training of this model has diverged",
    "keys": "net, epoch is no tensor; weights are looked for under state_dict, model_state_dict, model",
    "list": "must hold a state_dict, tensors by name, got list",
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_file_that_is_no_weights_is_one_line_before_any_data_is_read(workplace: Path, kind: str) -> None:
    path = file_of(kind)
    with pytest.raises(ConfigError) as caught:
        experiment_from([*QUICK, f"original.path={path}"])
    (line,) = caught.value.problems
    assert line.startswith(f"original.path={path}: {UNREADABLE[kind]}")
    assert not Path("ran").exists()


MISFITS = {
    "shapes": "of another shape or type: 1.bias (9,) in place of (8,)",
    "names": "missing: 1.weight, 1.bias, 3.weight and 1 more; unknown: a, b, c and 1 more",
}


@pytest.mark.parametrize("kind", MISFITS)
def test_weights_of_another_model_are_refused_by_check_and_run_before_any_training(
    workplace: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = file_of(kind)
    wanted = f"{path}: these are not the weights of this model; {MISFITS[kind]}"
    assert main(["check", *QUICK, f"original.path={path}"]) == 1
    assert capsys.readouterr().err == f"error: {wanted}\n"
    with pytest.raises(UserError) as caught:
        run("run", f"original.path={path}")
    assert str(caught.value) == wanted
    assert list(Store().entries()) == []


def test_path_and_run_exclude_each_other_and_original_alone_says_what_to_type(workplace: Path) -> None:
    with pytest.raises(ConfigError, match=r"^original.path and run exclude each other, got a.pt and b$"):
        experiment_from(["original.path=a.pt", "original.run=b"])
    with pytest.raises(ConfigError, match=r"^original=a.pt: no such option \(try original.path=a.pt\)$"):
        experiment_from(["original=a.pt"])


@pytest.mark.parametrize("name", ["My Drive (2)", "été, a=b"])
def test_a_file_or_run_may_have_any_name_and_a_frozen_config_keeps_it(workplace: Path, name: str) -> None:
    save_file(weights(), f"{name}.safetensors")
    (job,) = jobs_from([*QUICK, f"original.path={name}.safetensors"])
    frozen = read_experiment(OmegaConf.create(job.experiment.config))
    assert frozen.original == job.experiment.original == Original(path=f"{name}.safetensors")
    with pytest.raises(ConfigError, match=r": no such folder$"):
        experiment_from([f"original.run={name}"])


def test_the_names_of_wrappers_are_taken_off(workplace: Path) -> None:
    save_file({f"module._orig_mod.{name}": each for name, each in weights().items()}, "a.safetensors")
    before_a_run(experiment_from([*QUICK, "original.path=a.safetensors"]))


def test_an_original_that_does_not_know_its_training_examples_is_warned_of(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_file(weights(), "a.safetensors")  # equal logits: one class for all
    with caplog.at_level(logging.WARNING):
        before_a_run(experiment_from([*QUICK, "original.path=a.safetensors"]))
    (record,) = caplog.records
    assert "of 200 of its training examples correctly, no better than chance, 10." in record.getMessage()


def test_slower_than_retraining_is_said_with_both_times_and_what_trains_shadow_models(workplace: Path) -> None:
    save_file(weights(), "a.safetensors")
    experiment = experiment_from([*QUICK, "original.path=a.safetensors", "attack=lira"])
    slow, fast = (Estimate([Line("unlearning", "", 1, 0, 1, seconds)], 90.0) for seconds in (300.0, 60.0))
    first, second = remarks(experiment, slow)
    assert first.startswith("unlearning is estimated to take 5 min, longer than retraining, 90 s, which forgets exact")
    assert second.startswith("the models that attacks compare with are trained by this run's recipe")
    assert remarks(experiment, fast) == [second]
    trained = experiment_from(QUICK)
    assert remarks(trained, fast) == []


def test_the_estimate_trains_no_original_that_is_given(workplace: Path) -> None:
    save_file(weights(), "a.safetensors")
    digest = file_digest(Path("a.safetensors"))
    line = before_a_run(experiment_from([*QUICK, "original.path=a.safetensors"])).estimate().lines[0]
    assert (line.name, line.missing, line.seconds) == ("original", 0, 0.0)
    assert line.about.endswith(f"given, SHA-256 {digest[:12]}")


@pytest.fixture
def first(workplace: Path) -> Path:
    """Give the folder of a first request to forget."""
    run("first", "forget.fraction=0.1")
    return Path("first")


def test_the_next_request_remembers_what_was_forgotten(first: Path) -> None:
    second = run("second", "forget.fraction=0.1", "original.run=first")
    third = run("third", "forget.fraction=0.1", "original.run=second")
    before, after, last = (Splits.load(Path(name) / "splits.npz") for name in ("first", "second", "third"))
    assert (len(before.forget), len(after.forget), len(last.forget)) == (20, 38, 54)  # 10 % of what is left
    assert set(before.forget) < set(after.forget) < set(last.forget)
    for each in (after, last):
        assert not set(each.forget) & set(each.retain)
        for part in ("train", "audit", "selection", "test"):
            assert np.array_equal(getattr(each, part), getattr(before, part))
    assert second.metrics["original"]["sha256"] == file_digest(first / "unlearned.safetensors")
    given = third.metrics["original"]
    assert (given["forgotten_before"], given["new"]) == (38, 16)
    assert third.metrics["models"]["unlearned"]["attacks"]["threshold"]["members"] == 54
    assert (read_manifest(Path("third")) or {})["original"]["runs"] == [
        str(first.absolute()),
        str(Path("second").absolute()),
    ]
    assert (
        "the forget set consists of 16 new examples and 38 of earlier requests"
        in write_report(Path("third"), {}).read_text()
    )


def next_problem(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        before_a_run(experiment_from([*QUICK, "original.run=first", *words]))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_next_request_needs_the_same_seed_splits_inputs_and_model(first: Path) -> None:
    for words, wanted in {
        "seed=1": "original.run=first: it was made with seed=0, got 1 (try seed=0)",
        "dataset.train_size=300": "original.run=first: it was made with dataset.train_size=200, got 300 (try dataset",
        "dataset.transform=torch:neg": "original.run=first: it was made with dataset.transform=null, got torch:neg",
        "model.hidden=9": "original.run=first: it was made with model.hidden=8, got 9 (try model.hidden=8)",
    }.items():
        assert next_problem(words).startswith(wanted)
    rows_file(Splits.load(first / "splits.npz").test[:1])
    assert next_problem("forget=indices", "forget.path=rows.txt").startswith(
        "original.run=first: it was not trained on row "
    )
    rows_file(Splits.load(first / "splits.npz").forget)
    assert next_problem("forget=indices", "forget.path=rows.txt") == (
        "original.run=first: all of the forget set is forgotten already"
    )


def test_only_a_whole_finished_run_of_the_same_data_has_a_next_request(first: Path) -> None:
    manifest = json.loads((first / "manifest.json").read_text())
    for change, wanted in (
        ({"dataset_checksum": "0"}, "original.run=first: it was made with other data"),
        ({"status": "failed"}, "original.run=first: must be the folder of a completed run, and is failed"),
    ):
        (first / "manifest.json").write_text(json.dumps(manifest | change), encoding="utf-8")
        assert next_problem().startswith(wanted)
    (first / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (first / "unlearned.safetensors").write_bytes(b"other")
    assert next_problem() == "original.run=first: unlearned.safetensors has changed since the run"
    assert next_problem("original.run=nowhere") == "original.run=nowhere: no such folder"


def test_the_next_request_warns_of_a_model_with_another_source(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = "from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    monkeypatch.syspath_prepend(str(workplace))
    words = ["model=module", "model.factory=ownnet:net", *(word for word in QUICK if not word.startswith("model."))]
    Path("ownnet.py").write_text(source, encoding="utf-8")
    advunlearn.run(words, "first")
    for text, warned in ((source, False), (source.replace("nn.Linear(64, 10)", "nn.Linear(64, 10), nn.ReLU()"), True)):
        Path("ownnet.py").write_text(text, encoding="utf-8")
        source_digest.cache_clear()  # as in another process
        with caplog.at_level(logging.WARNING):
            before_a_run(experiment_from([*words, "original.run=first"]))
        assert (
            "original.run=first: the source of the model or of dataset.transform has changed" in caplog.text
        ) is warned


def test_a_second_request_does_not_bring_the_first_one_back(workplace: Path) -> None:
    """A retain set with the first batch teaches it again: so it is, unless the second run remembers the first."""
    words = ["unlearner=neggrad", "unlearner.epochs=4", "optimizer.epochs=40", "model.hidden=64", "forget.fraction=0.1"]
    run("first", *words)
    remembering = run("second", *words, "original.run=first")
    before, after = (Splits.load(Path(name) / "splits.npz").forget for name in ("first", "second"))
    rows_file(np.setdiff1d(after, before))
    last = ["original.path=first/unlearned.safetensors", "forget=indices", "forget.path=rows.txt"]
    forgetful = run("naive", *words[:-1], *last)
    trainer = before_a_run(experiment_from([*QUICK, *words])).trainer
    examples = trainer.examples.subset(before)
    losses = [
        F.cross_entropy(predict(each.network, examples), examples.labels).item() for each in (remembering, forgetful)
    ]
    assert losses[0] > losses[1]
