"""Inputs of any kind: one array, several named ones, or a file on disk, in the pool and on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from advunlearn.runtime.arrays import Mask, Rows

Arrays = NDArray[Any] | dict[str, NDArray[Any]]
"""The inputs of a pool, (n, ...) each; images in a `numpy.memmap` stay on disk."""

Batch = Tensor | dict[str, Tensor]
"""Inputs as a network takes them, (n, ...) each."""

Shape = tuple[int, ...] | dict[str, tuple[int, ...]]
"""The shape of one example's inputs, without the axis of examples."""

A = TypeVar("A")
B = TypeVar("B")


@overload
def mapped(function: Callable[[A], B], inputs: dict[str, A]) -> dict[str, B]: ...


@overload
def mapped(function: Callable[[A], B], inputs: A | dict[str, A]) -> B | dict[str, B]: ...


def mapped(function: Callable[[A], B], inputs: A | dict[str, A]) -> B | dict[str, B]:
    """Return the function's value for a single input, or for each of several named inputs."""
    if isinstance(inputs, dict):
        return {name: function(each) for name, each in inputs.items()}
    return function(inputs)


def named(inputs: A | dict[str, A]) -> dict[str, A]:
    """Return the inputs by name; a single array has the name `inputs`."""
    return inputs if isinstance(inputs, dict) else {"inputs": inputs}


def in_torch_type(array: NDArray[Any]) -> NDArray[Any]:
    """Return numbers in a type that torch has as well: floats as float32, unsigned integers above 8 bits as int64."""
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return array.astype(np.float32, copy=False)
    return array.astype(np.int64 if array.dtype.kind == "u" and array.itemsize > 1 else array.dtype.type, copy=False)


def not_finite(array: NDArray[Any]) -> Mask:
    """Return which examples (n,) of an array (n, ...) hold NaN or an infinite number."""
    return np.asarray(~np.isfinite(array).reshape(len(array), -1).all(axis=1))


def shape_of(batch: Batch) -> Shape:
    """Return the shape of one example of a batch."""
    return mapped(lambda each: tuple(each.shape[1:]), batch)


def shape_in_words(shape: Shape) -> str:
    """Return a shape in words, such as `28x28x1`, `30`, or `ids 64, mask 64`; `one number` for an empty one."""
    if isinstance(shape, dict):
        return ", ".join(f"{name} {shape_in_words(each)}" for name, each in shape.items())
    return "x".join(map(str, shape)) or "one number"


@dataclass(frozen=True)
class OnDisk:
    """Images (n, h, w, c) in a file. A batch is read when it is needed, so memory holds only this batch.

    Attributes:
        path: of the file.
        offset: bytes before the first row.
        dtype, shape: of one image, (h, w, c).
        rows: (n,), the positions of the images in the file, in the order of the examples.
        device: on which batches are returned.
    """

    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    rows: Rows
    device: torch.device

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.rows)

    def read(self, index: Tensor) -> Tensor:
        """Return the images (n, c, h, w) at these positions (n,), on the device; memory for a GPU is pinned."""
        pinned = self.device.type == "cuda"
        batch = torch.empty((len(index), *self.shape), dtype=torch.from_numpy(np.empty(0, self.dtype)).dtype)
        batch = batch.pin_memory() if pinned else batch
        into: Any = batch.numpy().reshape(-1).view(np.uint8)
        size = len(into) // max(len(index), 1)
        with self.path.open("rb", buffering=0) as file:
            for position, row in enumerate(self.rows[index.cpu().numpy()].tolist()):
                file.seek(self.offset + row * size)
                if file.readinto(into[position * size : (position + 1) * size]) != size:
                    raise OSError(f"{self.path} has become shorter")
        return batch.to(self.device, non_blocking=True).permute(0, 3, 1, 2).contiguous()  # the layout that `held` gives


Held = Batch | OnDisk
"""The inputs of examples: on the device, or on disk."""


def held(arrays: Arrays, device: torch.device, *, images: bool, room: float) -> Held:
    """Return a pool's inputs as examples hold them: images as (n, c, h, w), others as float32, int64 or bool.

    Args:
        arrays: of the pool.
        device: to compute on.
        images: whether the arrays are images (n, h, w, c).
        room: bytes of the device that the inputs may take. Images on disk that are larger stay on disk, and on a CPU
            all images on disk do.
    """
    if images and isinstance(arrays, np.memmap) and (device.type == "cpu" or arrays.nbytes > room):
        path, rows = Path(str(arrays.filename)), np.arange(len(arrays))
        return OnDisk(path, int(arrays.offset), arrays.dtype, arrays.shape[1:], rows, device)

    def moved(array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
        if tensor.is_floating_point():
            tensor = tensor.float()
        elif not images and tensor.dtype != torch.bool:
            tensor = tensor.long()
        return (tensor.permute(0, 3, 1, 2).contiguous() if images else tensor).to(device)

    return mapped(moved, arrays)


def taken(inputs: Held, index: Tensor) -> Held:
    """Return the inputs of the examples at these positions; images on disk are not read."""
    if isinstance(inputs, OnDisk):
        return OnDisk(**{**vars(inputs), "rows": inputs.rows[index.cpu().numpy()]})
    return mapped(lambda each: each[index], inputs)


def batch_of(inputs: Held, index: Tensor) -> Batch:
    """Return the inputs of the examples at these positions, on the device."""
    return inputs.read(index) if isinstance(inputs, OnDisk) else mapped(lambda each: each[index], inputs)


def joined(first: Held, second: Held) -> Held:
    """Return the inputs of one set of examples followed by those of another one of the same kind."""
    if isinstance(first, OnDisk) and isinstance(second, OnDisk):
        return OnDisk(**{**vars(first), "rows": np.concatenate([first.rows, second.rows])})
    if isinstance(first, dict) and isinstance(second, dict):
        return {name: torch.cat([each, second[name]]) for name, each in first.items()}
    assert isinstance(first, Tensor)
    assert isinstance(second, Tensor)
    return torch.cat([first, second])


def same(first: Held, second: Held) -> bool:
    """Return whether two sets of inputs of one dataset are equal, in the same order."""
    if isinstance(first, OnDisk) and isinstance(second, OnDisk):
        return np.array_equal(first.rows, second.rows)
    if isinstance(first, dict) and isinstance(second, dict):
        return all(torch.equal(each, second[name]) for name, each in first.items())
    return isinstance(first, Tensor) and isinstance(second, Tensor) and torch.equal(first, second)


def pieces(inputs: Held, size: int) -> Iterator[Batch]:
    """Yield the inputs in order, `size` examples at a time, on the device."""
    count = len(next(iter(inputs.values()))) if isinstance(inputs, dict) else len(inputs)
    for start in range(0, count, size):
        if isinstance(inputs, OnDisk):
            yield inputs.read(torch.arange(start, min(start + size, count)))
        else:
            yield mapped(lambda each, start=start: each[start : start + size], inputs)
