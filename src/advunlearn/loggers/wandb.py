"""Log to Weights & Biases."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from advunlearn.loggers.logger import LoggedRun, Logger, Tracker
from advunlearn.options import option


@dataclass
class WandB(Logger):
    """Log to Weights & Biases, with the runs of a sweep as a group.

    Its files are in `wandb` in the run's folder; those of an offline run are uploaded by `wandb sync`.

    Attributes:
        project: the name of the project.
        entity: the user or team; null: the default one.
        mode: `online`, `offline` or `disabled`; null: that of $WANDB_MODE, or else online.

    References:
        No publication.
    """

    package: ClassVar[str | None] = "wandb"

    project: str = "advunlearn"
    entity: str | None = None
    mode: str | None = option(None, choices=("online", "offline", "disabled"))

    def start(self, run: LoggedRun) -> Tracker:
        """Begin a run, or continue that of an earlier attempt in the same folder."""
        import wandb

        identity = hashlib.sha256(str(run.folder.absolute()).encode()).hexdigest()[:16]
        init: Any = wandb.init  # the types of its options differ between versions
        opened = init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            dir=str(run.folder),
            id=identity,
            resume="allow",
            name=run.name,
            group=run.group,
            config=run.config,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )
        return _Run(opened)


class _Run:
    def __init__(self, run: Any) -> None:
        self._run, self._sections = run, set[str]()

    def log(self, section: str, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker.log`; each section counts its own steps."""
        if section not in self._sections:
            self._sections.add(section)
            self._run.define_metric(f"{section}/*", step_metric=f"{section}/step")
        self._run.log({f"{section}/step": step, **{f"{section}/{name}": value for name, value in values.items()}})

    def finish(self, metrics: Mapping[str, float]) -> None:
        """See `Tracker.finish`."""
        self._run.summary.update(dict(metrics))

    def close(self, *, failed: bool) -> None:
        """See `Tracker.close`."""
        self._run.finish(exit_code=int(failed))
