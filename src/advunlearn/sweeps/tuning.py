"""Search for the options of an unlearner: each method gets the same number of trials, judged on the selection set."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from advunlearn.config.compose import Job
from advunlearn.config.experiment import Experiment
from advunlearn.data.splits import Splits
from advunlearn.options import UserError
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.seeding import clean_state
from advunlearn.stages.data import prepare
from advunlearn.stages.memorization import choose_forget_set
from advunlearn.stages.original import original
from advunlearn.stages.rounds import unlearn_in_rounds
from advunlearn.stages.unlearn import Models, make_task
from advunlearn.storage.artefacts import Artefact
from advunlearn.training.trainer import Trainer
from advunlearn.unlearners.best_epoch import BestEpoch, check_selection
from advunlearn.unlearners.unlearner import Unlearner

WIDE = 20  # a range whose ends differ by such a factor is searched on a logarithmic scale
Options = dict[str, float | int]


@dataclass(frozen=True)
class Range:
    """Where an option is searched: both ends are included."""

    low: float
    high: float
    whole: bool

    def holds(self, value: float) -> bool:
        """Return whether a value is in the range."""
        return self.low <= value <= self.high

    @property
    def logarithmic(self) -> bool:
        """Return whether the logarithm is searched uniformly."""
        return self.low > 0 and self.high / self.low >= WIDE


def search_space(unlearner: Unlearner) -> dict[str, Range]:
    """Return the ranges of the options that are searched: those that its class, or a base of it, declares.

    A class that gives an inherited option another default keeps the range.
    """
    found = {}
    for field in dataclasses.fields(unlearner):  # type: ignore[arg-type]
        declared = (getattr(cls, "__dataclass_fields__", {}).get(field.name) for cls in type(unlearner).__mro__)
        search = next((each.metadata["search"] for each in declared if each and "search" in each.metadata), None)
        if search is not None:
            found[field.name] = Range(search[0], search[1], isinstance(getattr(unlearner, field.name), int))
    return found


@dataclass(frozen=True)
class Judged:
    """A model on the selection set, means over the seeds.

    Attributes:
        utility: accuracy on the selection set less the larger of AUC and 1 - AUC; see `BestEpoch`.
        accuracy: on the selection set.
        auc: of the loss threshold between forget and selection examples.
        time: of unlearning over that of retraining, preparation and reference models included.
    """

    utility: float
    accuracy: float
    auc: float
    time: float


@dataclass(frozen=True)
class Trial:
    """One setting of a method, and what came of it; `problem` says why it has no result."""

    options: Options
    judged: Judged | None
    problem: str = ""


@dataclass(frozen=True)
class Study:
    """The trials of one method; the first is that of its present options.

    Attributes:
        limit: the time over that of retraining that the chosen setting may take.
        retrained: the retrained models, judged in the same way.
    """

    trials: list[Trial]
    limit: float
    retrained: Judged

    @property
    def best(self) -> Trial | None:
        """Return the trial of the largest utility, of those within the limit of time if there are any.

        None if every trial failed.
        """
        done = [(trial, trial.judged) for trial in self.trials if trial.judged]
        within = [(trial, judged) for trial, judged in done if judged.time <= self.limit]
        return max(within or done, key=lambda pair: pair[1].utility)[0] if done else None


@dataclass(frozen=True)
class Request:
    """One seed's request to forget, with the models that do not depend on the unlearner."""

    experiment: Experiment
    trainer: Trainer
    splits: Splits
    original: tuple[nn.Module, Artefact]
    retrained: tuple[nn.Module, Artefact]

    def judged(self, unlearner: Unlearner) -> Judged:
        """Return how the model that this unlearner makes does on the selection set; the model is kept in the store."""
        experiment, settings = replace(self.experiment, unlearner=unlearner), self.trainer.settings
        with clean_state(settings.seed), settings.switches():
            models = Models({}, {"original": self.original[1]}, None)
            made = list(unlearn_in_rounds(experiment, self.trainer, self.splits, models))
            records = [artefact.record for _, artefact in made]
            return self.measured(made[-1][0], sum(each["seconds"] + each["reference_seconds"] for each in records))

    def measured(self, network: nn.Module, seconds: float) -> Judged:
        """Return how a model that took so many seconds does on the selection set."""
        task = make_task(self.trainer, self.splits, self.splits.retain, self.splits.forget, None)
        found = BestEpoch(network, task).measured(0)
        time = seconds / self.retrained[1].record["seconds"]
        return Judged(found["utility"], found["selection_accuracy"], found["attack_auc"], time)


@contextlib.contextmanager
def requests(jobs: Sequence[Job]) -> Iterator[list[Request]]:
    """Yield the requests of these runs, one for each seed, with their original and retrained models.

    Raises:
        UserError: in one line, if there is no selection set, or the data does not suit the unlearner.
    """
    with contextlib.ExitStack() as stack:
        yield [_request(job.experiment, stack) for job in jobs]


def _request(experiment: Experiment, stack: contextlib.ExitStack) -> Request:
    settings = experiment.settings
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    manifest = stack.enter_context(Manifest(folder, {"call": "advunlearn tune"}))
    with clean_state(settings.seed), settings.switches():
        experiment, trainer, splits = prepare(experiment, manifest)
        experiment, splits, _ = choose_forget_set(experiment, trainer, splits, manifest)
        labels = trainer.pool.labels
        check_selection(labels[splits.forget], labels[splits.selection] if len(splits.selection) else None, "tuning")
        first = original(experiment, trainer, splits)
        return Request(experiment, trainer, splits, first, trainer.train(splits.retain, "retrained"))


def studied(jobs: Sequence[Job], trials: int, limit: float) -> Study:
    """Return the study of the unlearner of these runs, one for each seed; see `study`.

    Raises:
        UserError: in one line, if there is no selection set, or the data does not suit the unlearner.
    """
    with requests(jobs) as found:
        retrained = mean([each.measured(each.retrained[0], each.retrained[1].record["seconds"]) for each in found])
        return Study(list(study(found, trials, limit)), limit, retrained)


def study(found: Sequence[Request], trials: int, limit: float) -> Iterator[Trial]:
    """Yield the trials of the unlearner of these requests, as they are made.

    The search is Optuna's tree-structured Parzen estimator, with the time as a constraint. It is seeded, and the models
    are in the store: the same study, repeated or continued after an interruption, gives the same trials.

    Args:
        found: requests that differ in their seed.
        trials: how many settings are tried.
        limit: the time over that of retraining that a setting may take.

    References:
        T. Akiba, S. Sano, T. Yanase, T. Ohta and M. Koyama, "Optuna: A Next-generation Hyperparameter Optimization
        Framework", KDD 2019, https://arxiv.org/abs/1907.10902.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    unlearner = found[0].experiment.unlearner
    space = search_space(unlearner)
    search = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    present = {name: getattr(unlearner, name) for name in space}
    known = all(each.holds(present[name]) for name, each in space.items())
    if known:
        search.enqueue_trial(present)
    else:  # a trial that the search cannot learn from
        yield tried(found, present)
    distributions = {name: _distribution(each) for name, each in space.items()}
    for _ in range(trials - (not known)):
        asked = search.ask(distributions)
        made = tried(found, asked.params)
        if made.judged:
            asked.set_constraint("time", made.judged.time - limit)
            search.tell(asked, made.judged.utility)
        else:
            search.tell(asked, state=optuna.trial.TrialState.FAIL)
        yield made


def _distribution(each: Range) -> Any:
    """Return a range as Optuna reads it."""
    from optuna.distributions import FloatDistribution, IntDistribution

    if each.whole:
        return IntDistribution(int(each.low), int(each.high), log=each.logarithmic)
    return FloatDistribution(each.low, each.high, log=each.logarithmic)


def tried(found: Sequence[Request], options: Options) -> Trial:
    """Return what a setting comes to, on average over the seeds."""
    rounded = {name: value if isinstance(value, int) else float(f"{value:.3g}") for name, value in options.items()}
    unlearner: Any = found[0].experiment.unlearner
    try:
        every = [request.judged(replace(unlearner, **rounded)) for request in found]
    except UserError as error:  # the model diverged, or the options do not suit each other
        return Trial(rounded, None, str(error))
    return Trial(rounded, mean(every))


def mean(every: Sequence[Judged]) -> Judged:
    """Return the mean over the seeds, number by number."""
    names = [field.name for field in dataclasses.fields(Judged)]
    return Judged(**{name: float(np.mean([getattr(each, name) for each in every])) for name in names})


def recipe_file(method: str, found: Study, seeds: Sequence[int], present: Mapping[str, Any]) -> str | None:
    """Return the YAML of the chosen setting, which is a recipe's file of this unlearner; None if every trial failed.

    Args:
        method: its name.
        found: its study.
        seeds: of the study.
        present: what the recipe sets now; options that were not searched are kept.
    """
    best, first = found.best, found.trials[0].judged
    if best is None or best.judged is None:
        return None
    before = f"{first.utility:.3f}" if first else "none, it failed"
    lines = [
        f"# chosen by `advunlearn tune unlearner={method}` on {_seeds(seeds)}: the best of "
        f"{len(found.trials)} trials on the selection set",
        f"# utility {best.judged.utility:.3f} (before: {before}; retrained: {found.retrained.utility:.3f}), "
        f"{best.judged.time:.2f} times the time of retraining",
    ]
    if best.judged.time > found.limit:
        lines.append(f"# takes longer than the limit of {found.limit:g} times retraining, as every trial did")
    return (
        "\n".join([*lines, *(f"{name}: {_number(value)}" for name, value in {**present, **best.options}.items())])
        + "\n"
    )


def _number(value: Any) -> str:
    """Return a value as YAML; 1e-05 without a point is a text in YAML 1.1."""
    text = str(value)
    return text.replace("e", ".0e") if isinstance(value, float) and "e" in text and "." not in text else text


def _seeds(seeds: Sequence[int]) -> str:
    return f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"


def trials_table(found: Study) -> str:
    """Return the trials as comma-separated values, one line each; `chosen` marks the choice."""
    names = list(found.trials[0].options)
    judged = [field.name for field in dataclasses.fields(Judged)]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["trial", *names, *judged, "chosen", "problem"])
    for number, trial in enumerate(found.trials):
        numbers = [getattr(trial.judged, name) for name in judged] if trial.judged else [""] * len(judged)
        chosen = "yes" if trial is found.best else ""
        writer.writerow([number, *trial.options.values(), *numbers, chosen, trial.problem])
    return file.getvalue()
