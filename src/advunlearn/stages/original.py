"""The original of a run: trained by the recipe, or given as a file of weights; and the splits that go with it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from advunlearn.config.experiment import Experiment
from advunlearn.config.original import SPLITS
from advunlearn.data.dataset import Pool
from advunlearn.data.splits import Splits, make_splits
from advunlearn.evaluation.comparison import accuracy
from advunlearn.evaluation.metrics_file import GivenOriginal
from advunlearn.options import UserError
from advunlearn.runs.state import read_manifest
from advunlearn.runtime.seeding import numpy_stream
from advunlearn.storage.artefacts import Artefact, key_digest
from advunlearn.training.fit import predict
from advunlearn.training.trainer import Trainer
from advunlearn.training.weights import load_weights, matched, weights_of
from advunlearn.training.weights_file import read_weights, weights_digest

logger = logging.getLogger(__name__)

JUDGED = 1000  # training examples on which the accuracy of a given original is measured


def splits_of(experiment: Experiment, pool: Pool, difficulty: NDArray[np.float64] | None = None) -> Splits:
    """Return the splits of a run, given a difficulty of each row (n,) if its forget scenario needs it.

    Without one, the forget set of such a scenario is a stand-in; see `Forget.choose`.
    With `original.run` they are those of the earlier run, and its forget set is a part of the forget set.

    Raises:
        UserError: in one line, if the options do not fit the data, or the data is not that of the earlier run.
    """
    folder, seed, forget = experiment.original.folder, experiment.settings.seed, experiment.forget
    if folder is None:
        return make_splits(pool, experiment.dataset, forget, seed, difficulty)
    where = f"original.run={experiment.original.run}"
    if (read_manifest(folder) or {}).get("dataset_checksum") != pool.checksum:
        raise UserError(
            f"{where}: it was made with other data, or forget=mislabelled changed its labels, or forget=canaries "
            "changed its images (the checksums differ)"
        )
    before = Splits.load(folder / SPLITS)
    rows = before.retain
    chosen = forget.forgotten(rows, pool, numpy_stream(seed, "forget"), difficulty)
    if unknown := np.setdiff1d(chosen, before.train).tolist():
        raise UserError(f"{where}: it was not trained on row {unknown[0]}, which cannot be forgotten")
    if not (new := np.setdiff1d(chosen, before.forget)).size:
        raise UserError(f"{where}: all of the forget set is forgotten already")
    forgotten = np.union1d(before.forget, new)
    return Splits(np.setdiff1d(before.train, forgotten), forgotten, before.audit, before.selection, before.test)


def original_key(experiment: Experiment, trainer: Trainer, splits: Splits) -> dict[str, Any]:
    """Return everything that determines the original: its key in the store."""
    key, given = trainer.key(splits.train, "original"), experiment.weights_digest
    return key if given is None else {**key, "given": given}


def original(experiment: Experiment, trainer: Trainer, splits: Splits) -> tuple[nn.Module, Artefact]:
    """Return the original and its artefact: from the store if available, else trained, or read from its file."""
    if experiment.weights_file is None:
        return trainer.train(splits.train, "original")

    def make() -> Artefact:
        return Artefact({}, weights_of(read_original(experiment, trainer)), {})

    artefact = trainer.store.get_or_make("model", original_key(experiment, trainer, splits), make)
    return trainer.restore(artefact, "original"), artefact


def read_original(experiment: Experiment, trainer: Trainer) -> nn.Module:
    """Return the network on the CPU with the weights of the given file.

    Raises:
        UserError: in one line, if the file does not fit the network.
    """
    file = experiment.weights_file
    assert file is not None
    try:
        network = _read(experiment, trainer, file)
    except UserError as error:
        raise UserError(f"{file}: {str(error).removeprefix(f'{file}: ')}") from error
    if weights_digest(file) != experiment.weights_digest:
        raise UserError(f"{file}: changed since this run began")
    return network


def _read(experiment: Experiment, trainer: Trainer, file: Path) -> nn.Module:
    if experiment.original.file is None:  # the model itself names the weights
        return experiment.model.trained(trainer.examples.shape, trainer.pool.classes)
    network = trainer.built("original")
    load_weights(network, matched(network, read_weights(file)))
    return network


def source_of(experiment: Experiment) -> str:
    """Return a digest of the options of the model and of its inputs, and of the user's own source that they use."""
    return key_digest("source", {"model": experiment.model.identity(), "dataset": experiment.dataset.identity()})


def warn_of_other_source(experiment: Experiment) -> None:
    """Warn if the user's own source of the model or of its inputs has changed since the run of `original.run`.

    The weights may fit the network all the same. The options are compared before, in `config.original`.
    """
    folder = experiment.original.folder
    before = (read_manifest(folder) or {}).get("source") if folder is not None else None
    if before not in (None, source_of(experiment)):
        logger.warning(
            "original.run=%s: the source of the model or of dataset.transform has changed since that run; its weights "
            "were trained with the earlier source",
            experiment.original.run,
        )


def check_original(experiment: Experiment, trainer: Trainer, splits: Splits) -> None:
    """Check before any training that the weights of a given original fit the network.

    Warn if its accuracy on its training examples is no better than chance, and if its source has changed.

    Raises:
        UserError: see `read_original`.
    """
    if experiment.weights_file is None:
        return
    warn_of_other_source(experiment)
    network = read_original(experiment, trainer).to(trainer.settings.torch_device()).eval()
    if not experiment.dataset.is_here():
        return
    rows = splits.train[:: max(1, len(splits.train) // JUDGED)]
    labels = trainer.pool.labels[rows]
    found = accuracy(predict(network, trainer.examples.subset(rows)).numpy(), labels)
    chance = float(np.bincount(labels).max() / len(labels))
    if found <= chance + 2 * np.sqrt(chance * (1 - chance) / len(labels)):
        logger.warning(
            "the original classifies %.1f %% of %d of its training examples correctly, no better than chance, %.1f %%: "
            "check that inputs are prepared as in its training (dataset.mean, dataset.std, dataset.transform) "
            "and that classes have the same numbers",
            *(100 * found, len(labels), 100 * chance),
        )


def given_original(experiment: Experiment, splits: Splits) -> GivenOriginal | None:
    """Return what `metrics.json` holds of a given original; None if the run trains it."""
    digest, folder = experiment.weights_digest, experiment.original.folder
    if digest is None:
        return None
    before = 0 if folder is None else len(Splits.load(folder / SPLITS).forget)
    return {"sha256": digest, "forgotten_before": before, "new": len(splits.forget) - before}


def provenance(experiment: Experiment, given: GivenOriginal | None) -> dict[str, Any] | None:
    """Return what the manifest holds of a given original: its file, and the earlier runs in their order."""
    if given is None:
        return None
    folder = experiment.original.folder
    before = (read_manifest(folder) or {}).get("original") if folder is not None else None
    runs = [] if folder is None else [*((before or {}).get("runs", [])), str(folder.absolute())]
    return {"file": str(experiment.weights_file), "runs": runs, **given}
