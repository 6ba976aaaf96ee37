"""Every mistake is one line that names it, exit status 2, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from advunlearn.cli import main

MISTAKES: list[tuple[list[str], str]] = [
    (
        ["dataset=cifar11"],
        "dataset=cifar11: no such option; choose one of cifar10, cifar100, digits, fashion_mnist, folder, huggingface, "
        "mnist, newsgroups20, npz, python, svhn, table, tiny_imagenet, torchvision (did you mean cifar10?)",
    ),
    (
        ["attack=lirra"],
        "attack=lirra: no such option; choose one of classifier, gradient_norm, lira, mia_efficacy, "
        "population, rmia, threshold, ulira, weight_change (did you mean lira?)",
    ),
    (["attack=[lira,treshold]"], "attack=treshold: no such option"),
    (["model=[mlp,cnn]"], "model=[mlp,cnn]: only attack and logger take several options"),
    (["atack=lira"], "atack: no such option (did you mean attack?)"),
    (["sed=3"], "sed: no such option (did you mean seed?)"),
    (["+sed=3"], "sed: no such option (did you mean seed?)"),
    (["++typo=1"], "typo: no such option"),
    (["seed=abc"], "seed must be a whole number, got abc"),
    (["seed=-1"], "seed must be at least 0 and less than 4294967296, got -1"),
    (["seed=4294967296"], "seed must be at least 0 and less than 4294967296, got 4294967296"),
    (["seed=1.5"], "seed must be a whole number, got 1.5"),
    (["seed=1,2"], "seed=1,2: several values are a sweep (advunlearn run -m seed=1,2"),
    (["device=gpu"], "device must be one of auto, cpu, cuda, cuda:N, got gpu"),
    (["device=cuda:63"], "device=cuda:63 is not available (try device=auto)"),
    (["devices=[]"], "devices must name one or several GPUs, each once, got [] (try devices=null)"),
    (["devices=[1,1]"], "devices must name one or several GPUs, each once, got [1, 1]"),
    (["devices=[-1]"], "devices must be at least 0, got -1"),
    (["devices=0"], "devices must be a list of whole numbers or null, got 0"),
    (["devices=[0]", "device=cpu"], "devices=[0] is for device=cuda, got device=cpu (try devices=null)"),
    (["devices=[0]", "device=cuda:0"], "devices=[0] is for device=cuda, got device=cuda:0"),
    (["devices=[0,1]"], "devices=[0, 1]: GPU 1 is not available, there is no GPU"),
    (["precision=fp16"], "precision must be one of fp32, tf32, bf16, auto, got fp16"),
    (["threads=0"], "threads must be at least 1, got 0"),
    (["optimizer.lr=fast"], "optimizer.lr must be a number, got fast"),
    (["optimizer.lr=0"], "optimizer.lr must be greater than 0, got 0.0"),
    (["optimizer.lr=inf"], "optimizer.lr must be a finite number, got inf"),
    (["optimizer.epochs=2.5"], "optimizer.epochs must be a whole number, got 2.5"),
    (["optimizer.epoch=2"], "optimizer.epoch: no such option (did you mean optimizer.epochs?)"),
    (["optimizer.schedule=linear"], "optimizer.schedule must be one of cosine, steps, constant, got linear"),
    (["optimizer.milestones=[0.5,2]"], "optimizer.milestones must be greater than 0 and less than 1, got 2.0"),
    (["+model.depth=3"], "model.depth: no such option (MLP has hidden, layers)"),
    (["auditor.price=3"], "unlearner.auditor.price: no such option (SVM has "),
    (["model.hidden=0"], "model.hidden must be at least 1, got 0"),
    (["model.hidden=null"], "model.hidden must be a whole number, got None"),
    (["unlearner.alpha=-1"], "unlearner.alpha must be at least 0, got -1.0"),
    (["unlearner.features=logit"], "unlearner.features must be one of logits_loss"),
    (["unlearner.base=fintune"], "unlearner.base must be one of amun, bad_teacher, "),
    (["auditor=smv"], "auditor=smv: no such option"),
    (["unlearner=finetune", "auditor=svm"], "auditor: the chosen unlearner has no auditor (try unlearner=sg)"),
    (["auditor.regularization=0"], "unlearner.auditor.regularization must be greater than 0, got 0"),
    (["auditor.loss=hing"], "unlearner.auditor.loss must be one of squared_hinge, huber_hinge, hinge, got hing"),
    (["attack.shadows=3"], "attack.shadows must be an even whole number, got 3 (try attack.shadows=16)"),
    (["attack.shadows=0"], "attack.shadows must be at least 2 for these attacks, got 0"),
    (["attack.shadow=4"], "attack.shadow: no such option (did you mean attack.shadows?)"),
    (["attack.lira.center=mode"], "attack.lira.center must be one of"),
    (["attack=threshold", "attack.lira.center=mean"], "attack.lira.center: no such option"),
    (["dataset.train_size=1"], "dataset.train_size must be at least 2, got 1"),
    (["dataset.train_size=5000"], "dataset.train_size"),
    (
        ["dataset.audit_fraction=0.6", "dataset.selection_fraction=0.6"],
        "dataset.audit_fraction and selection_fraction must",
    ),
    (["forget.fraction=1.5"], "must be greater than 0 and less than 1, got 1.5 (try forget.fraction=0.2)"),
    (["forget=class", "forget.classes=[12]"], "forget.classes"),
    (["forget=class", "forget.classes=[]"], "forget.classes"),
    (["forget=class", "forget.classes=[0,1,2,3,4,5,6,7,8,9]"], "forget.classes"),
    (
        ["experiment=game_twin", "forget=class"],
        "forget.fraction: no such option (does experiment=game_twin set it? then ~forget.fraction takes it out)",
    ),
    (
        ["experiment=game_twin", "forget.fractoin=0.1"],
        "forget.fractoin: no such option (did you mean forget.fraction?)",
    ),
    (["experiment=game_twin", "auditor.losss=hinge"], "unlearner.auditor.losss: no such option (did you mean"),
    (["forget=indices"], "forget.path"),
    (["forget=indices", "forget.path=nowhere.txt"], "nowhere.txt"),
    (["forget=indices", "forget.path=bad.txt"], "line 2"),
    (["forget=indices", "forget.path=many.txt"], "forget.path"),
    (["dataset=npz"], "dataset.path"),
    (["dataset=npz", "dataset.path=nowhere.npz"], "nowhere.npz"),
    (["dataset=npz", "dataset.path=bad.txt"], "dataset.path"),
    (
        ["dataset=npz", "dataset.path=tiny.npz", "model=resnet18"],
        "resnet18 needs images of at least 8x8 pixels, got 4x4",
    ),
    (["experiment=papr"], "experiment=papr: no such option"),
    (["model"], "model: cannot be read as key=value"),
    (["seed=[1,2"], "seed=[1,2: cannot be read as key=value"),
    (["--frobnicate"], "--frobnicate: no such flag"),
    (
        ["attack=lira", "attack.lira.mode=offline", "attack.lira.variance=pooled"],
        "attack.lira.variance=pooled needs models",
    ),
    (["~attack.rmia"], "~attack.rmia: no such option"),
    (["-m", "optimizer.lr=interval(0.1,1)"], "optimizer.lr=interval(0.1,1)"),
    (["hydra.run.dirr=x"], "hydra.run.dirr"),
    (["--config-dir", "nowhere", "seed=1"], "--config-dir nowhere: no such folder"),
    (
        ["--config-dir", "mine", "unlearner=typo"],
        "unlearners.sg has no class SGG (did you mean SG?)",
    ),
    (["--config-dir", "mine", "unlearner=lost"], "unlearner._target_: cannot import nowhere.SG (ModuleNotFoundError"),
    (["forget=class", "forget.classes=3"], "forget.classes must be a list of whole numbers, got 3"),
    (["-m", "seed=1,x"], "seed must be a whole number, got x"),
    (["-m", "unlearner=sg,fintune"], "unlearner=fintune: no such option"),
]


@pytest.fixture
def files(workplace: Path) -> Path:
    (workplace / "bad.txt").write_text("3\nfour\n5\n")
    (workplace / "many.txt").write_text("\n".join(map(str, range(5000))))
    images = np.zeros((40, 4, 4), dtype=np.uint8)
    np.savez(workplace / "tiny.npz", images=images, labels=np.arange(40) % 2)
    (workplace / "mine" / "unlearner").mkdir(parents=True)
    (workplace / "mine" / "unlearner" / "typo.yaml").write_text("_target_: advunlearn.unlearners.sg.SGG\n")
    (workplace / "mine" / "unlearner" / "lost.yaml").write_text("_target_: nowhere.SG\n")
    return workplace


@pytest.mark.parametrize(("overrides", "words"), MISTAKES, ids=[" ".join(overrides) for overrides, _ in MISTAKES])
def test_a_mistake_is_one_line_and_leaves_nothing(
    files: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], words: str
) -> None:
    before = sorted(files.rglob("*"))
    status = main(["run", *overrides])
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert sorted(files.rglob("*")) == before
    assert not (files.parent / "cache").exists()


def test_all_mistakes_are_said_at_once(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["seed=abc", "optimizer.lr=-1", "unlearner.alpha=x", "+typo=1", "attack.shadows=5", "model.hidden=0"]
    assert main(["run", *overrides]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(overrides)
    for key in ("seed", "optimizer.lr", "unlearner.alpha", "typo", "attack.shadows", "model.hidden"):
        assert sum(line.startswith((f"error: {key} ", f"error: {key}:")) for line in lines) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rn"], "no such verb: rn (did you mean `advunlearn run`?)"),
        (["frobnicate"], "no such verb: frobnicate (see advunlearn --help)"),
        (["report", "nowhere"], "nowhere"),
        (["report", "."], "."),
        (["data", "fetch", "emnist"], "no such dataset: emnist; choose one of"),
        (["check", "seed=x"], "seed must be a whole number, got x"),
    ],
)
def test_the_other_verbs_refuse_in_one_line_too(
    files: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert said in err
