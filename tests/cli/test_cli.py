"""The verbs, their help, and what Hydra's users expect."""

from __future__ import annotations

from pathlib import Path

import pytest

import advunlearn
from advunlearn.cli import VERBS, main
from advunlearn.config.compose import experiment_from
from advunlearn.storage.files import write_json
from advunlearn.storage.paths import config_folder
from advunlearn.storage.store import Store
from tests.conftest import Command

QUICK = ["optimizer.epochs=2", "unlearner.epochs=1", "attack=threshold"]


def test_status_counts_the_states_of_the_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = workplace / "sweep" / "0"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("seed: 0\n")
    manifest = {"status": "running", "error": None, "overrides": ["seed=1"], "process": 0}
    write_json(workplace / "sweep" / "1" / "manifest.json", manifest)  # of a run that died
    assert main(["status", "sweep"]) == 1
    assert capsys.readouterr().out.splitlines()[-2] == "runs: 1 waiting, 1 died"


@pytest.mark.parametrize("words", [[], ["-h"], ["help"], ["--help"]])
def test_no_verb_is_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {verb} " in text for verb in VERBS)


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_version(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    assert capsys.readouterr().out == f"advunlearn {advunlearn.__version__}\n"


def test_run_help_lists_groups_options_and_examples(command: Command, workplace: Path) -> None:
    Path("my/attack").mkdir(parents=True)
    Path("my/attack/zeal.yaml").write_text("# mine\n", encoding="utf-8")
    done = command("run", "--help", "--config-dir", "my")
    assert done.returncode == 0
    groups = done.stdout.split("(group=option):\n\n")[1].split("\n\n")[0].splitlines()
    chosen = ["attack", "auditor", "dataset", "experiment", "forget", "logger", "model", "optimizer"]
    chosen += ["recipe", "unlearner"]
    assert [line.split(": ")[0] for line in groups if not line.startswith(" ")] == chosen
    models = sorted(path.stem for path in (config_folder() / "model").glob("*.yaml"))
    text = " ".join(map(str.strip, groups))
    assert f" model: {', '.join(models)} optimizer: " in text
    assert ", ulira, weight_change, zeal auditor: " in text
    assert "advunlearn run dataset=cifar10 attack=lira" in done.stdout
    assert "shadows: 128" in done.stdout
    assert "lr: 0.1" in done.stdout  # of the recipe


def test_run_help_shows_the_config_of_what_was_typed(command: Command) -> None:
    assert "advunlearn.models.resnet18.ResNet18" in command("run", "-h", "dataset=cifar10").stdout
    assert command("run", "-h", "dataset=cifar11").stderr.startswith("error: dataset=cifar11: no such option")


def test_cfg_prints_the_config_and_runs_nothing(command: Command, workplace: Path) -> None:
    done = command("run", "--cfg", "job", "seed=7", "auditor.folds=4")
    assert done.returncode == 0
    assert "seed: 7" in done.stdout
    assert "folds: 4" in done.stdout
    assert not (workplace / "outputs").exists()


def test_info_shows_how_the_config_was_composed(command: Command) -> None:
    done = command("run", "--info", "defaults-tree", "unlearner=finetune")
    assert done.returncode == 0
    assert "unlearner: finetune" in done.stdout


def test_list_shows_the_users_own_parts(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "my" / "attack").mkdir(parents=True)
    (workplace / "my" / "attack" / "zeal.yaml").write_text("# @package attack.zeal\n# mine\n", encoding="utf-8")
    assert main(["list", "attack", "--config-dir", "my"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["zeal", "mine"]
    assert main(["list", "--config-dir", "none"]) == 2
    assert capsys.readouterr().err == "error: --config-dir none: no such folder\n"


def test_list_shows_every_option_once_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    groups: dict[str, list[str]] = {}
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("  "):
            groups[list(groups)[-1]].append(line)
        else:
            groups[line] = []
    for path in config_folder().glob("[a-g,i-z]*/*.yaml"):
        (line,) = (line for line in groups[path.parent.name] if line.split()[0] == path.stem)
        assert len(line.split()) > 3
        assert len(line) <= 120
    assert main(["list", "attack"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].endswith(" [carlini2022]")
    assert [line.split()[0] for line in lines] == [
        "classifier",
        "gradient_norm",
        "lira",
        "mia_efficacy",
        "population",
        "rmia",
        "threshold",
        "ulira",
        "weight_change",
    ]


def test_check_prints_the_config_and_what_would_be_computed(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "attack.shadows=6", "model.hidden=32"]) == 0
    out = capsys.readouterr().out
    assert "shadows: 6" in out
    assert "MLP, 2,410 parameters, 250 examples, 60 epochs" in out  # 65 x 32 + 33 x 10
    assert "shadow models    for lira, 250 examples each" in out
    assert "0 of 6" in out
    assert list(workplace.iterdir()) == []


def test_data_ls_says_where_they_are(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "ls"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "cifar10        not fetched yet",
        "cifar100       not fetched yet",
        "digits         embedded in scikit-learn",
        "fashion_mnist  not fetched yet",
        "folder         your own image files: dataset.root=FOLDER",
        "huggingface    a Hugging Face dataset: dataset.path=FOLDER",
        "mnist          not fetched yet",
        "newsgroups20   not fetched yet",
        "npz            your own file: dataset.path=mine.npz",
        "python         your own function: dataset.factory=mypkg.data:train_set",
        "svhn           not fetched yet",
        "table          your own table: dataset.path=mine.csv dataset.label=COLUMN",
        "tiny_imagenet  not fetched yet",
        "torchvision    a torchvision dataset: dataset.name=FashionMNIST",
    ]
    assert main(["data", "fetch", "digits"]) == 0


def test_the_store_is_listed_verified_and_pruned(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "ls"]) == 0
    assert "0.00 MB stored" in capsys.readouterr().out
    advunlearn.run(QUICK)
    kinds = sorted(entry.kind for entry in Store().entries())
    assert kinds == ["attack", "model", "model", "pictures", "selection", "unlearned", "weights"]
    assert main(["store", "ls"]) == 0
    out = capsys.readouterr().out
    counts = {line.split()[0]: line.split()[1] for line in out.splitlines()[1:-1]}
    assert counts == {"attack": "1", "model": "2", "pictures": "1", "selection": "1", "unlearned": "1", "weights": "1"}
    assert main(["store", "ls", "--all"]) == 0
    assert [line.split()[1] for line in sorted(capsys.readouterr().out.splitlines()[:-1])] == [
        entry.kind for entry in sorted(Store().entries(), key=lambda entry: entry.digest)
    ]
    assert main(["store", "verify"]) == 0
    assert "7 whole, 0 damaged" in capsys.readouterr().out
    weights = next(iter(Store().root.glob("??/*/tensors.safetensors")))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert main(["store", "verify"]) == 1
    out = capsys.readouterr().out
    assert "tensors.safetensors is damaged" in out
    assert "6 whole, 1 damaged" in out
    assert main(["store", "prune", "--days", "0", "--dry-run"]) == 0
    assert "would be deleted" in capsys.readouterr().out
    assert len(list(Store().entries())) == 7
    assert main(["store", "prune"]) == 0
    assert len(list(Store().entries())) == 7
    assert main(["store", "prune", "--days", "0"]) == 0
    assert list(Store().entries()) == []


def test_tab_completion_knows_groups_options_and_keys(command: Command) -> None:
    script = command("run", "-sc", "install=bash")
    assert script.returncode == 0
    assert "complete" in script.stdout

    def completed(line: str) -> list[str]:
        answer = command("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)), COMP_CWORD="2")
        return answer.stdout.split()

    assert completed("advunlearn run dataset=n") == ["dataset=newsgroups20", "dataset=npz"]
    assert completed("advunlearn run dataset=t") == ["dataset=table", "dataset=tiny_imagenet", "dataset=torchvision"]
    assert "unlearner.alpha=" in completed("advunlearn run unlearner.a")


def test_a_deleted_attack_is_not_run(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(experiment_from(["~attack.lira"]).attacks) == ["threshold", "classifier"]
    assert main(["check", "~attack.lira"]) == 0
    assert "shadow models " not in capsys.readouterr().out


def test_check_takes_a_sweep(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-m", "seed=1,2", "unlearner=glob(s*)"]) == 0
    assert "seed: 1" in capsys.readouterr().out
    assert main(["check", "-m", "seed=1,x"]) == 2
    assert "seed must be a whole number, got x" in capsys.readouterr().err


def test_flags_may_stand_anywhere(command: Command, workplace: Path) -> None:
    done = command("run", *QUICK, "seed=1,2", "-m")
    assert done.returncode == 0, done.stderr
    assert len(list((workplace / "outputs" / "sweeps").glob("*/*/metrics.json"))) == 2
