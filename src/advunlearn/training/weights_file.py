"""A file of trained weights from the user, read as named tensors; other pickled objects are never loaded."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advunlearn.models.foreign import first_of
from advunlearn.options import first_line
from advunlearn.storage.files import UnreadableFile, file_digest, open_regular, state_of_file

CONTAINERS = ("state_dict", "model_state_dict", "model")  # keys under which a training's checkpoint keeps the weights
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def weights_digest(path: Path) -> str:
    """Return the SHA-256 of a file of weights. The file is read and checked only if it has changed since the last call.

    Raises:
        UnreadableFile: see `read_weights`.
    """
    if path.is_dir():
        raise UnreadableFile(path, "a folder, not a file of weights")
    open_regular(path).close()
    return _digest(path, state_of_file(path))


@lru_cache(100)  # the runs of a sweep read the same file
def _digest(path: Path, state: str) -> str:
    read_weights(path)
    return file_digest(path)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a file: safetensors, or a `state_dict` that torch saved, alone or in a checkpoint.

    Raises:
        UnreadableFile: in one line, for any other file, and if weights are not finite.
    """
    if path.suffix not in SUFFIXES:
        raise UnreadableFile(path, f"must be a file of weights, {', '.join(SUFFIXES[:-1])}")
    with open_regular(path) as file:
        if not file.read(1):
            raise UnreadableFile(path, "empty")
    found = _safetensors(path) if path.suffix == ".safetensors" else _saved_by_torch(path)
    for name, tensor in found.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UnreadableFile(path, f"{name} is not finite: the training of this model has diverged")
    return found


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # safetensors and torch raise errors of several types for invalid bytes
        raise UnreadableFile(path, f"damaged, or not a safetensors file ({first_line(error)})") from error


def _saved_by_torch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():  # torch's, for files that are not its own
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # errors of many types for invalid bytes
        reason = "damaged, or not weights alone: other objects are never unpickled, as that can run any code"
        raise UnreadableFile(path, f"{reason} (try torch.save(model.state_dict(), ...))") from error
    inner = next((found[key] for key in CONTAINERS if _is_mapping(found) and _is_mapping(found.get(key))), found)
    if not _is_mapping(inner) or not inner:
        raise UnreadableFile(path, f"must hold a state_dict, tensors by name, got {type(inner).__name__}")
    others = [str(name) for name, each in inner.items() if not isinstance(each, Tensor)]
    if others:
        where = f"weights are looked for under {', '.join(CONTAINERS)}"
        raise UnreadableFile(path, f"{first_of(others)} is no tensor; {where}")
    return {str(name): tensor for name, tensor in inner.items()}


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)
