"""Seeds of training, of unlearning and of the audit: what each of them draws anew, and what stays in the store."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import advunlearn
from advunlearn.config.compose import experiment_from
from advunlearn.options import ConfigError, UserError
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.seeds import Seeds
from advunlearn.stages.attack import attack_key, attack_models
from advunlearn.stages.data import prepare
from advunlearn.stages.estimate import Estimator
from advunlearn.stages.models import make_models
from advunlearn.stages.shadows import original_set, shadow_set
from advunlearn.stages.unlearn import make_task, reference_set, unlearned_key
from advunlearn.storage.artefacts import Artefact
from advunlearn.storage.store import Store
from advunlearn.sweeps.comparison import comparison_of, methods_of
from advunlearn.train import run_key

TINY = ["dataset.train_size=40", "optimizer.epochs=1", "device=cpu", "threads=1", "seed=3"]
KINDS = ("model", "unlearned", "shadow", "reference", "attack")


def test_seeds_that_are_null_follow_the_seed() -> None:
    assert [Seeds().of(role, 5) for role in ("training", "unlearning", "audit")] == [5, 5, 5]
    apart = Seeds(training=1, audit=2)
    assert (apart.of("training", 5), apart.of("audit", 5)) == (1, 2)


def test_unlearning_draws_anew_for_each_training() -> None:
    roots = {(t, u): Seeds(training=t, unlearning=u).of("unlearning", 0) for t in range(5) for u in range(5)}
    assert len(set(roots.values())) == 25
    assert all(roots[each, each] == each for each in range(5))


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("seeds.training=abc", "seeds.training must be a whole number or null, got abc"),
        ("seeds.unlearning=-1", "seeds.unlearning must be at least 0 and less than 4294967296, got -1"),
        ("seeds.traning=1", "seeds.traning: no such option (did you mean seeds.training?)"),
        ("seeds=3", "seeds=3: no such option (try seeds.unlearning=3)"),
    ],
)
def test_a_wrong_seed_is_refused_in_one_line(word: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        experiment_from([word])
    assert caught.value.problems == [says]


def keys(folder: Path, *words: str) -> dict[str, Any]:
    """Return the keys of everything that a run stores."""
    with Manifest(folder) as manifest:
        experiment, trainer, splits = prepare(experiment_from([*TINY, *words]), manifest)
    artefacts = dict.fromkeys(("original", "retrained", "unlearned"), Artefact({}, {}, {}, digest="0", content="0"))
    references = reference_set(experiment, trainer, splits, splits.forget)
    originals = original_set(experiment, trainer, splits)
    assert references is not None
    return {
        "splits": {part: rows.tolist() for part, rows in vars(splits).items()},
        "model": trainer.key(splits.train, "original"),
        "reference": references.key(1),
        "unlearned": unlearned_key(experiment, trainer, splits, artefacts["original"], references),
        "shadow": shadow_set(experiment, trainer, splits).key(1),
        "original": originals.key(1),
        "attack": attack_key(experiment, splits, artefacts, originals),
        "run": run_key(experiment, trainer, splits),
    }


def test_each_seed_is_in_the_keys_of_what_it_draws(workplace: Path) -> None:
    words = ["attack=[ulira,lira]", "attack.originals=4", "attack.shadows=4", "auditor=likelihood_ratio"]
    plain = keys(workplace / "0", *words)

    def changed(*seeds: str) -> set[str]:
        other = keys(workplace / "-".join(["k", *seeds]), *words, *seeds)
        return {name for name in plain if other[name] != plain[name]}

    assert changed("seeds.training=3", "seeds.unlearning=3", "seeds.audit=3") == set()
    assert changed("seeds.unlearning=4") == {"unlearned", "run"}
    assert changed("seeds.audit=4") == {"shadow", "original", "attack", "run"}
    # Originals of ulira are unlearned with the run's reference models; the attack has the models' digests in its key.
    assert changed("seeds.training=4") == {"model", "reference", "unlearned", "original", "attack", "run"}


def test_only_what_a_seed_draws_is_made_again(workplace: Path) -> None:
    """Run the stages that fill the store, and count what each run adds to it."""
    tiny = [
        *TINY,
        "attack=lira",
        "attack.shadows=2",
        "attack.stacked=false",
        "unlearner=random_label",
        "unlearner.epochs=1",
    ]
    scores: dict[tuple[str, ...], list[np.ndarray]] = {}

    def made(*words: str) -> dict[str, int]:
        before = Counter({kind: len(list(Store().keys(kind))) for kind in KINDS})
        with Manifest(workplace / "-".join(["run", *words])) as manifest:
            experiment, trainer, splits = prepare(experiment_from([*tiny, *words]), manifest)
            estimated = {line.name: line.missing for line in Estimator(experiment, trainer, splits).estimate().lines}
            models = make_models(experiment, trainer, splits, manifest)
            evidence = attack_models(experiment, trainer, splits, models, manifest)
        scores[words] = [evidence.of(model)[1]["lira"] for model in ("original", "retrained", "unlearned")]
        after = Counter({kind: len(list(Store().keys(kind))) for kind in KINDS})
        found = dict(after - before)
        assert estimated.get("shadow models", 0) == found.get("shadow", 0)
        assert estimated["unlearning"] == found.get("unlearned", 0)
        return found

    assert made() == {"model": 2, "unlearned": 1, "shadow": 2, "attack": 1}
    assert made("seeds.training=3", "seeds.unlearning=3", "seeds.audit=3") == {}
    assert made("seeds.unlearning=4") == {"unlearned": 1, "attack": 1}
    assert made("seeds.training=4") == {"model": 2, "unlearned": 1, "attack": 1}
    assert made("seeds.audit=4") == {"shadow": 2, "attack": 1}
    same = [
        np.array_equal(*pair, equal_nan=True) for pair in zip(scores[()], scores["seeds.unlearning=4",], strict=True)
    ]
    assert same == [True, True, False]


def test_the_unlearner_and_what_it_retrains_draw_from_their_own_seed(workplace: Path) -> None:
    with Manifest(workplace / "run") as manifest:
        experiment, trainer, splits = prepare(experiment_from([*TINY, "seeds.unlearning=4"]), manifest)
    seed = experiment.seed_of("unlearning")
    own = make_task(trainer, splits, splits.retain, splits.forget, None, seed=seed)
    shared = make_task(trainer, splits, splits.retain, splits.forget, None)
    assert (own.settings.seed, shared.settings.seed) == (seed, 3)
    assert own.retrain is not None
    assert shared.retrain is not None
    assert own.training is not None
    again, before = own.retrain("retrain/0"), shared.retrain("retrain/0")
    assert not torch.equal(next(again.parameters()), next(before.parameters()))
    # Rewinding finds the earlier state of the original itself, which seeds.training drew.
    first, original = own.training.earlier(1.0), trainer.fitted(splits.train, "original")[0]
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), original.parameters(), strict=True))


def test_a_comparison_over_parts_of_a_run_takes_one_seed() -> None:
    words = ["unlearner=finetune", "attack=threshold", "seeds.training=1,2", "seeds.unlearning=1,2"]
    jobs = [job for name, job in comparison_of(words).jobs if name == "finetune"]
    assert [job.experiment.settings.seed for job in jobs] == [1] * 4
    assert len({(job.experiment.seeds.training, job.experiment.seeds.unlearning) for job in jobs}) == 4
    assert len(methods_of(["unlearner=finetune", "seed=101", "seeds.training=1,2"])["finetune"]) == 2


def test_the_python_interface_takes_the_same_seeds() -> None:
    inputs, labels = torch.randn(60, 8, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 3)
    parts = {"retain": slice(0, 30), "forget": slice(30, 45), "audit": slice(45, 60)}
    data: Any = {name: (inputs[rows], labels[rows]) for name, rows in parts.items()}

    def weights(**seeds: Any) -> torch.Tensor:
        found = advunlearn.unlearn(model, **data, method="random_label", epochs=1, device="cpu", **seeds)
        return next(found.network.parameters()).detach()

    plain = weights(seed=1)
    assert torch.equal(plain, weights(seed=1, seeds={"training": 1, "unlearning": 1, "audit": 2}))
    assert torch.equal(plain, weights(seed=0, seeds={"training": 1, "unlearning": 1}))
    assert not torch.equal(plain, weights(seed=1, seeds={"unlearning": 2}))
    with pytest.raises(UserError, match=r"seeds must be a dict, such as .*, got 3"):
        weights(seeds=3)
    with pytest.raises(UserError, match=r"seeds\.unlearn: no such option"):
        weights(seeds={"unlearn": 3})
