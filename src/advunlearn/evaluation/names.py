"""The names of the models and of the parts of the data, in metrics."""

from __future__ import annotations

from typing import Literal

ModelName = Literal["original", "retrained", "unlearned"]
ComparedName = Literal["original", "unlearned"]  # with the retrained model
PartName = Literal["retain", "forget", "test"]
FollowedName = Literal["accuracy", "auc"]  # of the examples of one request
CurvePart = Literal["retain", "test"]  # on which errors between two models are computed

MODELS: tuple[ModelName, ...] = ("original", "retrained", "unlearned")
COMPARED: tuple[ComparedName, ...] = ("original", "unlearned")
PARTS: tuple[PartName, ...] = ("retain", "forget", "test")
