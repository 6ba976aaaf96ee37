"""The Stackelberg game."""

from __future__ import annotations

import importlib
import logging
import math
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import advunlearn.unlearners
from advunlearn.auditors.auditor import Audit, Auditor, ReferenceRows, References
from advunlearn.auditors.cross_validated import CrossValidated
from advunlearn.auditors.scores import COLUMNS, logit_margin, score_columns
from advunlearn.auditors.svm import SVM
from advunlearn.options import UserError, option
from advunlearn.runtime.devices import to_device
from advunlearn.runtime.seeding import torch_stream
from advunlearn.shadows.outputs import ShadowOutputs
from advunlearn.training.checkpoint import restore, state_of
from advunlearn.training.fit import Diverged, mode, predict
from advunlearn.unlearners.gradient import GradientOptions, GradientUnlearner
from advunlearn.unlearners.gradients import gradients_cosine, gradients_norm
from advunlearn.unlearners.unlearner import Steps, Task, Unlearned, ordered

STEPS = [each.name for each in fields(GradientOptions)]

logger = logging.getLogger(__name__)


@dataclass
class SG(GradientOptions):
    """Stackelberg-game unlearning (Di, Yu, Vorobeychik, Liu, ICLR 2025).

    The leader descends L(theta) + alpha M(theta). L is the loss of its base, by itself an unlearner; the paper's is
    `finetune`. M is the utility of the auditor's best answer to theta, and its gradient runs through that answer
    (implicit differentiation) as well as through the held-out scores. With alpha = 0 it equals its base to the bit, and
    still records the audits.

    Attributes:
        base: the unlearner whose loss the leader descends, with the steps of the game: a `GradientUnlearner`, or its
            name, such as `neggrad` or `mymethods.MyMethod`.
        forget_weight: of a base that is given by name; used only by `NegGrad`.
        alpha: weight of the auditor's utility; docs/benchmarks.md compares values from 1 to 20.
        optimizer_state: `shared` adds both gradients up to one step; `separate` gives the audit term, at every audit
            step, a separate step from the same weights, at the same learning rate, with its own momentum and without
            weight decay. They differ if `audit_every` > 1: the shared momentum continues to push between audits.
        auditor: the follower.
        features: the score columns that the auditor receives, see `score_columns`; with reference models, it receives
            those of its `evidence` instead.
        audit_size: number of forget examples, and of audit examples, that each audit step scores; the paper's audit
            batch is 1,000.
        audit_every: one audit step per so many base steps.

    References:
        [di2025] Z. Di, S. Yu, Y. Vorobeychik and Y. Liu, "Adversarial Machine Unlearning", ICLR 2025.
            https://arxiv.org/abs/2406.07687 (the gradient of M: equation 4, and the direct term through the held-out
            scores, which that equation leaves out)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget", "audit")

    base: Any = "finetune"
    forget_weight: float = option(1.0, at_least=0)
    alpha: float = option(3.0, at_least=0, search=(0.3, 30.0))
    optimizer_state: str = option("shared", choices=("shared", "separate"))
    auditor: Any = None
    features: str = option("loss_margin", choices=tuple(COLUMNS))
    audit_size: int = option(500, at_least=2)
    audit_every: int = option(1, at_least=1)

    def __post_init__(self) -> None:
        """Use the paper's auditor by default, and create a base that is given by name; see `Component`."""
        self.auditor = SVM() if self.auditor is None else self.auditor
        super().__post_init__()
        if isinstance(self.base, str):
            base = base_class(self.base)
            shared = {field.name for field in fields(base)} & {*STEPS, "forget_weight"}
            self.base = base(**{name: getattr(self, name) for name in shared})

    def conflicts(self) -> list[str]:
        """Return a line for a follower that is not an auditor, and for a base that does not descend a loss."""
        problems = [] if isinstance(self.auditor, Auditor) else [f"auditor must be an Auditor, got {self.auditor}"]
        try:
            base = base_class(self.base) if isinstance(self.base, str) else type(self.base)
        except ValueError as error:
            return [*problems, str(error)]
        if not (isinstance(base, type) and issubclass(base, GradientUnlearner)):
            problems.append(f"base must be a GradientUnlearner, got {self.base}")
        elif base.unlearn is not GradientUnlearner.unlearn:
            problems.append(
                f"base must not override unlearn, since the game uses its examples and loss, got {self.base}"
            )
        return problems

    def parts_read(self) -> tuple[str, ...]:
        """Return also the parts that the base uses; see `Unlearner.parts_read`."""
        return ordered({*super().parts_read(), *self.leader().parts_read()})

    def check_network(self, network: nn.Module) -> None:
        """Refuse a network that the base refuses; see `Unlearner.check_network`."""
        self.leader().check_network(network)

    def check(self, labels: Mapping[str, NDArray[np.int64]]) -> None:
        """Refuse fewer than two audit examples, and labels that the base refuses; see `Unlearner.check`."""
        self.leader().check(labels)
        _check_audit(int(np.isin(labels["audit"], labels["forget"]).sum()))
        if len(labels["forget"]) == 1 and isinstance(self.auditor, CrossValidated):
            logger.warning(
                "one forget example: the auditor %s cannot be fitted on one and tested on another, so the game equals "
                "its base, %s (auditor=likelihood_ratio needs only one)",
                type(self.auditor).__name__,
                type(self.leader()).__name__,
            )

    def too_large(self) -> str:
        """Return the base's options, and the weight of the game; see `Unlearner.too_large`."""
        game = f" or unlearner.alpha={self.alpha:g}" if self.alpha > 0 else ""
        return f"{self.leader().too_large()}{game}"

    def reference_models(self) -> int:
        """Return how many the auditor uses; see `Unlearner.reference_models`."""
        return int(self.auditor.reference_models())

    def reference_rows(self) -> ReferenceRows:
        """Return the auditor's choice; see `Auditor.reference_rows`."""
        rows: ReferenceRows = self.auditor.reference_rows()
        return rows

    def repeats_training(self) -> bool:
        """Return whether the base does; see `Unlearner.repeats_training`."""
        return self.leader().repeats_training()

    def steps(self, task: Task) -> list[Steps] | None:
        """Return the base's steps, separately those with an audit; see `Unlearner.steps`."""
        steps = self.leader().steps(task)
        if steps is None or type(self).unlearn is not SG.unlearn:
            return None
        (base,) = steps
        audits = math.ceil(base.count / self.audit_every)
        audited = base.examples + 2 * min(self.audit_size, len(task.forget), len(task.audit))
        return [replace(base, count=base.count - audits), Steps(audits, audited, replace(self, audit_every=1))]

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return the network after the base's steps, answered by the auditor; see `Unlearner.unlearn`."""
        return self.leader().descend(network, task, partial(Game, self, network, task))

    def leader(self) -> GradientUnlearner:
        """Return the base, with the game's own steps."""
        leader: GradientUnlearner = replace(self.base, **{name: getattr(self, name) for name in STEPS})
        return leader


def bases() -> dict[str, type[GradientUnlearner]]:
    """Return the gradient unlearners of this package, by the names of their files."""
    package = advunlearn.unlearners
    names = [f"{package.__name__}.{each.name}" for each in pkgutil.iter_modules(package.__path__)]
    classes = [cls for name in names for cls in vars(importlib.import_module(name)).values() if isinstance(cls, type)]
    found = {cls.__module__.rpartition(".")[2]: cls for cls in classes if issubclass(cls, GradientUnlearner)}
    return {name: cls for name, cls in sorted(found.items()) if cls is not GradientUnlearner}


def base_class(name: str) -> type[GradientUnlearner]:
    """Return the class of a base by its name in this package, or by `module.Class`.

    Raises:
        ValueError: in one line that starts with the option's name, if the class does not exist.
    """
    module, _, last = name.rpartition(".")
    if not module:
        if name not in bases():
            raise ValueError(f"base must be one of {', '.join(bases())}, or module.Class of your own, got {name}")
        return bases()[name]
    try:
        found: type[GradientUnlearner] = getattr(importlib.import_module(module), last)
    except Exception as error:  # whatever importing a user's own module raises
        raise ValueError(f"base: cannot import {name} ({type(error).__name__}: {error})") from error
    return found


def _check_audit(count: int) -> None:
    """Raise if there are fewer than two audit examples."""
    if count < 2:
        raise UserError(f"the game needs at least 2 audit examples of the forget set's classes, got {count}")


class Game:
    """Answer the leader at every audit step by the gradient alpha dM/dtheta, and record both players."""

    def __init__(self, options: SG, network: nn.Module, task: Task) -> None:
        self.options = options
        self.network = network
        self.settings = task.settings
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        # Examples of other classes would be distinguishable by their class alone.
        audited = np.flatnonzero(np.isin(task.audit.labels.cpu().numpy(), task.forget.labels.cpu().numpy()))
        references = task.references if options.reference_models() else None
        if references is not None and options.reference_rows() == "half":
            # Outside the references' pool an example is OUT for all models, a forget example for half: other noise.
            pool = np.asarray(references[1].membership.any(0))
            audited = audited[pool[audited]]
        if references is None and options.reference_models():
            raise UserError(
                "this auditor needs reference models, which need a training setup: use advunlearn.run, or give train="
            )
        audit = task.audit.subset(audited)
        self.counts = len(task.forget), len(audit)
        # Equally many of both sets, except that a single forget example is compared with more audit examples.
        most = self.counts[1] if self.counts[0] == 1 else min(self.counts)
        self.sizes = [min(options.audit_size, most, count) for count in self.counts]
        _check_audit(self.counts[1])
        self.scored = task.forget.followed_by(audit)
        self.labels = self.scored.labels.cpu()
        self.evidence = None if references is None else self._evidence(references, audited)
        self.generator = torch_stream(task.settings.seed, "audit")
        self.optimizer = torch.optim.SGD(self.parameters, momentum=options.momentum)
        self.records: list[dict[str, Any]] = []
        self.remarks = {""}

    def answer(self, step: int, epoch: int, base_loss: Tensor, lr: float) -> None:
        """Take an audit step every `audit_every` steps; see `Follower.answer`."""
        if step % self.options.audit_every:
            return
        plays = self.options.alpha > 0
        base = [parameter.grad for parameter in self.parameters]
        with torch.set_grad_enabled(plays):
            audit = self._audit()
        if audit.remark not in self.remarks:
            self.remarks.add(audit.remark)
            logger.info("audit step %d: %s", step, audit.remark)
        base_norm = gradients_norm(self._whole(base))
        record: dict[str, Any] = {
            "step": step,
            "epoch": epoch,
            "base_loss": base_loss,
            "utility": audit.utility.detach(),
            "auditor_accuracy": audit.accuracy,
            "base_gradient_norm": base_norm,
            "game_gradient_norm": None,
            "cosine": None,
        }
        if plays:
            game = torch.autograd.grad(self.options.alpha * audit.utility, self.parameters, allow_unused=True)
            game_norm = gradients_norm(self._whole(game))
            cosine = gradients_cosine(self._whole(base), base_norm, self._whole(game), game_norm)
            record |= {"game_gradient_norm": game_norm, "cosine": cosine}
            if self.options.optimizer_state == "shared":
                self._add(game)
            else:
                self._step(game, base, lr)
        self.records.append(record)

    def trace(self) -> dict[str, Any]:
        """Return the recorded columns as plain numbers, and the utility of an auditor that guesses."""
        return {**self._columns(), "uninformed_utility": self.options.auditor.uninformed}

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two audit steps; see `Follower.state_dict`."""
        columns = self._columns()
        self.records = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return {
            "generator": state_of(self.generator),
            "optimizer": state_of(self.optimizer),
            "records": self.records,
            "remarks": sorted(self.remarks),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from such a state."""
        restore(self.generator, state["generator"])
        restore(self.optimizer, state["optimizer"])
        self.records, self.remarks = state["records"], set(state["remarks"])

    def _evidence(self, references: tuple[ShadowOutputs, ShadowOutputs], audited: NDArray[np.intp]) -> References:
        forget, whole = references
        part = replace(whole, logits=whole.logits[:, audited], membership=whole.membership[:, audited])
        generator = torch_stream(self.settings.seed, "evidence")
        labels = self.labels.split(self.counts)
        return self.options.auditor.evidence([forget, part], labels, self._margins, generator)

    @torch.no_grad()
    def _margins(self) -> Tensor:
        """Return the logit margins of the network as it is, on all scored examples, on the CPU."""
        return logit_margin(predict(self.network, self.scored).double(), self.labels)

    def _audit(self) -> Audit:
        drawn = [
            torch.randperm(count, generator=self.generator)[:size]
            for count, size in zip(self.counts, self.sizes, strict=True)
        ]
        index = torch.cat([drawn[0], self.counts[0] + drawn[1]])
        both = self.scored.subset(index)
        # In evaluation mode: no membership leaks into batch statistics, and the running ones stay clean.
        with mode(self.network, training=False), self.settings.autocast():
            logits = self.network(both.prepared())
        if not self.options.auditor.on_device:
            logits = logits.cpu()  # the only wait of an audit step
        if not bool((logits < torch.inf).all()):  # -inf masks a class
            raise Diverged("unlearning diverged (its logits are not finite)")
        labels = self.labels[index]
        classes = to_device(labels, logits.device)
        if self.evidence is None:
            scores = score_columns(logits, classes, self.options.features)
        else:
            scores = self.evidence.subset(index).scores(logit_margin(logits.double(), classes))
        parts = *scores.split(self.sizes), *labels.split(self.sizes)
        return self.options.auditor.utility(*parts, self.generator)

    def _whole(self, gradients: Gradients) -> list[Tensor]:
        pairs = zip(self.parameters, gradients, strict=True)
        return [torch.zeros_like(of) if gradient is None else gradient for of, gradient in pairs]

    def _columns(self) -> dict[str, list[Any]]:
        """Return the recorded columns as plain values."""
        names = self.records[0] if self.records else ()
        return {name: _plain([record[name] for record in self.records]) for name in names}

    def _add(self, gradients: Gradients) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def _step(self, gradients: Gradients, base: Gradients, lr: float) -> None:
        """Take the game's own step; keep the base gradients, of the weights before it, for the base's step."""
        self.optimizer.zero_grad()
        self._add(gradients)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        for parameter, gradient in zip(self.parameters, base, strict=True):
            parameter.grad = gradient


Gradients = Sequence[Tensor | None]


def _plain(values: Sequence[Any]) -> list[Any]:
    """Replace scalar tensors by numbers, which are fetched from the device all at once."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    numbers = iter(torch.stack(tensors).tolist() if tensors else [])
    return [next(numbers) if isinstance(value, Tensor) else value for value in values]
