"""The steps of `gpu_check.py`: each takes a `Bench` and returns what it found.

A result is a dict: `ok` is whether a check passed (a measurement has none), `rows` is a table, a dict for each row, and
all other values are printed above it. A step that cannot be done here returns `{"skipped": reason}`.
"""

from gpu.bench import Bench
from gpu.checks import auditors_agree, environment, epochs_agree, resumes, stacks_agree, waits
from gpu.runs import (
    cifar10_base,
    cifar10_likelihood_ratio,
    cifar10_lira,
    cifar10_svm,
    cifar10_twin,
    cifar10_twin_lira,
    default_run,
    marked_tests,
)
from gpu.speeds import audit_steps, auditor_speed, compiled_epoch, graph_step, resnet_epoch, stack_speed

__all__ = [
    "Bench",
    "audit_steps",
    "auditor_speed",
    "auditors_agree",
    "cifar10_base",
    "cifar10_likelihood_ratio",
    "cifar10_lira",
    "cifar10_svm",
    "cifar10_twin",
    "cifar10_twin_lira",
    "compiled_epoch",
    "default_run",
    "environment",
    "epochs_agree",
    "graph_step",
    "marked_tests",
    "resnet_epoch",
    "resumes",
    "stack_speed",
    "stacks_agree",
    "waits",
]
