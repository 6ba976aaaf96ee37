"""Print an estimate as a table or log it, and refuse a run that is over its budget."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from advunlearn.config.experiment import Experiment
from advunlearn.data.splits import Splits
from advunlearn.options import UserError
from advunlearn.report.plain_text import align
from advunlearn.runs.manifest import Manifest
from advunlearn.shadows.model_set import ShadowOptions
from advunlearn.stages.estimate import Estimate, Estimator
from advunlearn.stages.resources import shortage
from advunlearn.storage.paths import config_folder
from advunlearn.training.trainer import Trainer

logger = logging.getLogger(__name__)

LONG = 3600.0  # seconds; a CPU run above it is probably meant for a GPU
MARGIN = 1.5  # a longer unlearning is worth a warning: an estimate may be wrong by this factor


def announce(experiment: Experiment, trainer: Trainer, splits: Splits, manifest: Manifest) -> None:
    """Log the estimate of a run that starts now, and note it in the manifest.

    Raises:
        UserError: in one line, if it is over budget, memory or disk is too small, or an option does not fit the data.
    """
    estimator, budget = Estimator(experiment, trainer, splits), experiment.settings.budget
    try:
        estimate = estimated(estimator)
    except TimeUnknown as error:  # if the error matters, the run itself reports it
        if budget is not None:
            raise UserError(f"budget={budget}: {error}") from error
        logger.warning(error)
        return
    seconds = {line.name: line.seconds for line in estimate.lines}
    manifest.note(estimate={"after": manifest.seconds(), "seconds": estimate.seconds, "parts": seconds})
    parts = [f"{line.missing} {line.name} {duration(line.seconds)}" for line in estimate.lines if line.missing]
    if parts:
        end = datetime.now() + timedelta(seconds=estimate.seconds)
        logger.info("estimate: %s, until %s (%s)", total(estimate), clock_time(end), ", ".join(parts))
    for remark in remarks(experiment, estimate):
        logger.warning(remark)
    problem = refusal(estimator, estimate)
    if problem is not None:
        raise UserError(problem)


class TimeUnknown(UserError):
    """The time of a run cannot be estimated."""


def estimated(estimator: Estimator) -> Estimate:
    """Return the estimate.

    Raises:
        TimeUnknown: for any other error, for example in the user's own method.
        UserError: if an option cannot work with this data; the run would end with the same error.
    """
    try:
        return estimator.estimate()
    except UserError:
        raise
    except Exception as error:
        raise TimeUnknown(f"the time of this run is unknown ({type(error).__name__}: {error})") from error


def table(estimate: Estimate, width: int | None = None) -> str:
    """Return the estimate as text, one line per kind of work, which continues where the table is wider than this."""
    rows = [("to compute", "", "in the store", "to make", "time")]
    for line in estimate.lines:
        time = duration(line.seconds) if line.missing else "-"
        rows.append((f"  {line.name}", line.about, f"{line.held} of {line.wanted}", str(line.missing), time))
    return "\n".join([*align(rows, right=(2, 3, 4), fold=1, width=width), f"total: {total(estimate)}"])


def total(estimate: Estimate) -> str:
    """Return the time of the whole run in words."""
    words = f"about {duration(estimate.seconds)}"
    if not estimate.unknown:
        return words
    return f"{words} without {', '.join(estimate.unknown)}, whose time is unknown"


def remarks(experiment: Experiment, estimate: Estimate) -> list[str]:
    """Return what the user should know of the estimate before the start, one line each."""
    found = []
    given = experiment.weights_file is not None
    if given and estimate.ratio > 1:
        found.append(
            f"unlearning is estimated to take {duration(estimate.unlearning)}, longer than retraining, "
            f"{duration(estimate.retraining)}, which forgets exactly (try unlearner=retrain, or fewer unlearner.epochs)"
        )
    elif estimate.ratio > MARGIN:
        found.append(f"unlearning is estimated to take {estimate.ratio:.1f} times as long as retraining")
    if given and (experiment.needs_shadows or experiment.needs_originals):
        found.append(
            "the models that attacks compare with are trained by this run's recipe (model, optimizer), "
            "which should be that of the given original"
        )
    smaller = smaller_experiment(experiment)
    if estimate.seconds > LONG and smaller is not None:
        found.append(f"this setting is made for a GPU; on a CPU, try {smaller}")
    return found


def smaller_experiment(experiment: Experiment) -> str | None:
    """Return the override for an experiment on a part of the dataset, for a CPU; None if not available."""
    name = f"{type(experiment.dataset).__name__.lower()}_cpu"
    on_gpu = experiment.settings.torch_device().type != "cpu"
    if on_gpu or experiment.dataset.train_size is not None:
        return None
    return f"experiment={name}" if (config_folder() / "experiment" / f"{name}.yaml").is_file() else None


def refusal(estimator: Estimator, estimate: Estimate) -> str | None:
    """Return in one line why the run should not start, and what would fit; None if it can."""
    return shortage(estimator, estimate) or over_budget(estimator, estimate)


def over_budget(estimator: Estimator, estimate: Estimate) -> str | None:
    """Return why the run should not start, and what would fit, in one line; None if it fits its budget."""
    experiment = estimator.experiment
    budget = experiment.settings.budget_seconds()
    if estimate.seconds <= budget:
        return None
    problem = f"the run would take {total(estimate)}, more than budget={experiment.settings.budget}"
    last = estimate.seconds
    for options, words in fewer_models(experiment):
        last = estimator.estimate(options).seconds
        if last <= budget:
            return f"{problem}; {words} would fit (about {duration(last)})"
    smaller = smaller_experiment(experiment)
    hints = " or ".join(["fewer optimizer.epochs", *([smaller] if smaller else [])])
    least = f"; with the fewest shadow models about {duration(last)}" if last < estimate.seconds else ""
    return f"{problem}{least} (try {hints})"


def fewer_models(experiment: Experiment) -> Iterator[tuple[ShadowOptions, str]]:
    """Yield options with ever fewer of the shadow models that the attacks need, and the overrides for them."""
    options = experiment.shadow_options
    least = {"shadows": 2} if experiment.needs_shadows else {}
    least |= {"originals": 4} if experiment.needs_originals else {}
    while any(getattr(options, name) > count for name, count in least.items()):
        fewer = {name: max(count, getattr(options, name) // 4 * 2) for name, count in least.items()}
        options = replace(options, **fewer)
        yield options, " ".join(f"attack.{name}={count}" for name, count in fewer.items())


def duration(seconds: float | None) -> str:
    """Return seconds in the unit that a reader wants, `unknown` for None."""
    if seconds is None:
        return "unknown"
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def clock_time(when: datetime) -> str:
    """Return the time of day, with the date if it is not today's."""
    return f"{when:%H:%M}" if when.date() == datetime.now().date() else f"{when:%Y-%m-%d %H:%M}"
