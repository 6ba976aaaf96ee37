"""What a run logs, read back by the trackers' own clients; logging changes no result and ends no run."""

from __future__ import annotations

import csv
import glob
import importlib.util
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from advunlearn.cli import main
from advunlearn.config.compose import experiment_from
from advunlearn.config.experiment import Experiment
from advunlearn.loggers.logger import LoggedRun, Logger, tracked
from advunlearn.report.run.result import Result
from advunlearn.report.summary.runs import summarise
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.curves import heard, report, unheard
from advunlearn.runtime.settings import Settings
from advunlearn.train import run_experiment, run_key

QUICK = ["optimizer.epochs=2", "unlearner.epochs=2", "unlearner.keep_epoch=best", "attack=threshold"]
LIBRARIES = [name for name in ("mlflow", "wandb") if importlib.util.find_spec(name)]
Curve = list[tuple[int, float]]


def run(folder: Path, words: list[str], *, adopt: bool = False, sweep: bool = True) -> Result:
    about: dict[str, Any] = {"overrides": words, **({"sweep": str(folder.parent)} if sweep else {})}
    with Manifest(folder, about) as manifest:
        return run_experiment(experiment_from(words), manifest, adopt=adopt, pictures=False)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Result, Result]]:
    """Give two runs of a sweep with all loggers; the second has another alpha, and shares the trained models."""
    home = tmp_path_factory.mktemp("logged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVUNLEARN_CACHE", str(home / "cache"))
        patch.setenv("DO_NOT_TRACK", "true")  # MLflow would report its use
        words = [*QUICK, f"logger=[{','.join(['tensorboard', 'csv', *LIBRARIES])}]"]
        words += [f"logger.mlflow.uri={home / 'mlruns'}"] if "mlflow" in LIBRARIES else []
        words += ["logger.wandb.mode=offline"] if "wandb" in LIBRARIES else []
        first = run(home / "sweep" / "0", words)
        yield first, run(home / "sweep" / "1", [*words, "unlearner.alpha=0.5"])


def check(curves: Mapping[str, Curve], metrics: Mapping[str, float], result: Result, trained: bool = True) -> None:
    """Compare what a client read with the run's own files."""
    trace: Any = result.metrics["trace"]
    found = result.metrics
    epochs = [0, 1]
    for name in ("original", "retrained", "unlearned") if trained else ("unlearned",):
        assert [step for step, _ in curves[f"train/{name}/loss"]] == epochs
        assert all(value > 0 for _, value in curves[f"train/{name}/loss"])
    for name in ("utility", "auditor_accuracy", "base_loss"):
        assert [step for step, _ in curves[f"game/{name}"]] == trace["step"]
        assert [value for _, value in curves[f"game/{name}"]] == pytest.approx(trace[name])
    assert [value for _, value in curves["epochs/utility"]] == pytest.approx(trace["epochs"]["utility"])
    for model, numbers in found["models"].items():
        assert metrics[f"{model}/accuracy_test"] == pytest.approx(numbers["accuracy"]["test"])
        assert metrics[f"{model}/auc_threshold"] == pytest.approx(numbers["attacks"]["threshold"]["auc"])
    assert metrics["selection/unlearned_utility"] == pytest.approx(found["selection"]["models"]["unlearned"]["utility"])
    assert metrics["gap/unlearned_threshold"] == pytest.approx(found["gap"]["unlearned"]["attacks"]["threshold"])


def events(folder: Path) -> dict[str, Curve]:
    read = EventAccumulator(str(folder)).Reload()
    return {tag: [(each.step, each.value) for each in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_tensorboard_has_all_of_it(logged: tuple[Result, Result]) -> None:
    for result in logged:
        assert result.folder is not None
        found = events(result.folder)
        check(found, {name: curve[-1][1] for name, curve in found.items()}, result, trained=result is logged[0])
        read = EventAccumulator(str(result.folder)).Reload()
        text = read.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
        assert "unlearner.alpha: " + ("0.5" if result is logged[1] else "3") in text


def test_csv_has_all_of_it(logged: tuple[Result, Result]) -> None:
    for result in logged:
        assert result.folder is not None
        with (result.folder / "curves.csv").open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        curves: dict[str, Curve] = {}
        for line in lines:
            if line["step"]:
                curves.setdefault(line["name"], []).append((int(line["step"]), float(line["value"])))
        metrics = {line["name"]: float(line["value"]) for line in lines if not line["step"]}
        check(curves, metrics, result, trained=result is logged[0])


def test_mlflow_has_all_of_it(logged: tuple[Result, Result]) -> None:
    mlflow = pytest.importorskip("mlflow")
    assert logged[0].folder is not None
    client = mlflow.MlflowClient(tracking_uri=str(logged[0].folder.parents[1] / "mlruns"))
    experiment = client.get_experiment_by_name("advunlearn").experiment_id
    grouped = client.search_runs([experiment], "tags.`advunlearn.sweep` = 'sweep'")
    found = {each.data.tags["advunlearn.folder"]: each for each in grouped}
    for result in logged:
        each = found[str(result.folder)]
        assert each.info.status == "FINISHED"
        assert float(each.data.params["unlearner.alpha"]) == (0.5 if result is logged[1] else 3)
        curves = {
            name: [(point.step, point.value) for point in client.get_metric_history(each.info.run_id, name)]
            for name in each.data.metrics
        }
        check(curves, each.data.metrics, result, trained=result is logged[0])
    assert len(grouped) == 2


def offline(path: str) -> Iterator[Any]:
    """Yield the records of wandb's log of an offline run, which is in blocks of 32 KiB as LevelDB's."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, parts = Path(path).read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, size, kind = struct.unpack("<IHB", data[position : position + 7])
        parts = (parts if kind in (3, 4) else b"") + data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):
            yield Record.FromString(parts)


def test_wandb_has_all_of_it(logged: tuple[Result, Result]) -> None:
    pytest.importorskip("wandb")
    for result in logged:
        (path,) = glob.glob(f"{result.folder}/wandb/offline-run-*/*.wandb")
        records = list(offline(path))
        (begun,) = [each.run for each in records if each.WhichOneof("record_type") == "run"]
        assert (begun.project, begun.run_group) == ("advunlearn", "sweep")
        config = {each.key: json.loads(each.value_json) for each in begun.config.update}
        assert config["unlearner.alpha"] == (0.5 if result is logged[1] else 3)
        curves: dict[str, Curve] = {}
        for each in records:
            row = {"/".join(item.nested_key): json.loads(item.value_json) for item in each.history.item}
            for name, value in row.items():
                section = name.rpartition("/")[0]
                if section and not name.endswith("/step"):
                    curves.setdefault(name, []).append((row[f"{section}/step"], value))
        updates = [item for each in records for item in each.summary.update]
        metrics = {item.key: json.loads(item.value_json) for item in updates if item.key}
        check(curves, metrics, result, trained=result is logged[0])


def test_logging_changes_no_result_and_no_key(
    logged: tuple[Result, Result], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(workplace / "sweep" / "0", QUICK)  # in a store of its own
    keys = ["models", "gap", "selection", "trace", "weights"]
    numbers: list[Any] = [result.metrics for result in (plain, logged[0])]
    assert {key: numbers[0][key] for key in keys} == {key: numbers[1][key] for key in keys}
    again = run(workplace / "again", [*QUICK, "tensorboard=true"], adopt=True, sweep=False)
    assert again.network is None  # taken over: the key is the same
    assert again.objective == plain.objective
    assert len(events(workplace / "again")["game/utility"]) == len(plain.metrics["trace"]["step"])
    assert Settings(tensorboard=True, objective="time").identity() == Settings().identity()
    assert not list(summarise([workplace / "sweep" / "0", workplace / "again"]).keys)  # no setting of its own


class Deaf(Logger):
    """Raise an error, at opening or later."""

    def __init__(self, opens: bool) -> None:
        self.opens = opens

    def start(self, run: LoggedRun) -> Any:
        if not self.opens:
            raise OSError("no server")
        return self

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"broken at {name}")


def test_a_logger_that_fails_is_left_out_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other: list[Any] = []

    class Kept(Logger):
        def start(self, run: LoggedRun) -> Any:
            return self

        def log(self, section: str, step: int, values: Mapping[str, float]) -> None:
            other.append((section, step, dict(values)))

        def close(self, *, failed: bool) -> None:
            other.append(failed)

    loggers = {"closed": Deaf(False), "open": Deaf(True), "kept": Kept()}

    def interrupted() -> None:
        with tracked(loggers, LoggedRun(tmp_path, "run", None, {})):
            report("train/original", 0, {"loss": 1.5})
            with unheard():
                report("train/original", 9, {"loss": 9})
            report("train/original", 1, {"loss": 0.5})
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert other == [("train/original", 0, {"loss": 1.5}), ("train/original", 1, {"loss": 0.5}), True]
    assert [record.getMessage() for record in caplog.records] == [
        "nothing more is logged to closed (OSError: no server)",
        "nothing more is logged to open (RuntimeError: broken at log)",
    ]


def test_only_the_process_that_listens_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    with heard(lambda curve, step, values: found.append(step)):
        report("a", 1, {})
        monkeypatch.setattr("os.getpid", lambda: -1)  # as in a fork
        report("a", 2, {})
        monkeypatch.undo()
    report("a", 3, {})
    assert found == [1]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_said_with_the_other_mistakes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda each: None if each == name else found(each))
    assert main(["check", f"logger=[csv,{name}]", "device=tpu", "model.hidden=[0]"]) == 2
    lines = capsys.readouterr().err.splitlines()
    wanted = f"logger={name}: the package {name} is not installed (try pip install 'advunlearn[{name}]')"
    assert f"error: {wanted}" in lines
    assert len(lines) == 3


def test_a_logger_is_no_part_of_a_runs_identity(workplace: Path) -> None:
    from advunlearn.stages.data import prepare

    def key(words: list[str]) -> dict[str, Any]:
        with Manifest(workplace / str(len(words))) as manifest:
            experiment: Experiment = experiment_from([*QUICK, *words])
            experiment, trainer, splits = prepare(experiment, manifest)
            return run_key(experiment, trainer, splits)

    assert key([]) == key(["logger=csv"])
