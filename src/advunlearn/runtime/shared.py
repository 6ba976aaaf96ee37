"""Send an object to processes that each compute on a device of their own, with its large arrays in memory only once."""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from dataclasses import replace
from io import BytesIO
from types import FunctionType, TracebackType
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from advunlearn.runtime.settings import Settings

LARGE = 1 << 20  # bytes of an array that is shared; smaller ones are copied


class Unsendable(Exception):
    """Another process cannot have an object; the message says why, in one line."""


class Shared:
    """Files without a name that hold large arrays; processes that inherit them map them into memory.

    All pages are those of the system's file cache, whatever the number of processes, and nothing is left behind by a
    process that is killed.
    """

    def __init__(self) -> None:
        self._files: dict[int, IO[bytes]] = {}
        self._copies: dict[int, Tensor] = {}
        self._bytes: dict[int, NDArray[np.uint8]] = {}
        self._seen: list[Any] = []  # while these live, no other object has their id

    def __enter__(self) -> Shared:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    @property
    def descriptors(self) -> list[int]:
        """Return the numbers of the files, which the other processes must inherit."""
        return [file.fileno() for file in self._files.values()]

    def packed(self, value: Any, device: str) -> bytes:
        """Return an object as bytes for `pickle.loads` in a process that computes on this device.

        Raises:
            Unsendable: if a part of it cannot be pickled, or would not be found by another process.
        """
        buffer = BytesIO()
        try:
            _Packer(buffer, self, device).dump(value)
        except OSError:  # of the files
            raise
        except Exception as error:  # a part of the user may raise any
            raise Unsendable(" ".join(str(error).split()) or type(error).__name__) from error
        return buffer.getvalue()

    def file(self, array: NDArray[Any]) -> int:
        """Return the number of the file that holds an array, which is written once."""
        if id(array) not in self._files:
            self._files[id(array)] = file = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end
            self._seen.append(array)
            try:
                file.write(array.reshape(-1).view(np.uint8).data)
                file.flush()
            except OSError as error:  # such as a full disk
                raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from error
        return self._files[id(array)].fileno()

    def on_cpu(self, tensor: Tensor) -> Tensor:
        """Return the copy of a tensor on the CPU, one for all processes."""
        if id(tensor) not in self._copies:
            self._seen.append(tensor)
            self._copies[id(tensor)] = tensor.detach().cpu()
        return self._copies[id(tensor)]

    def as_bytes(self, tensor: Tensor) -> NDArray[np.uint8]:
        """Return the bytes (b,) of a contiguous tensor on the CPU, one array for all processes."""
        if id(tensor) not in self._bytes:
            self._seen.append(tensor)
            self._bytes[id(tensor)] = tensor.view(-1).view(torch.uint8).numpy()
        return self._bytes[id(tensor)]


class _Packer(pickle.Pickler):
    """Pickle for another process and its device: what is on a GPU, and the settings, name that one."""

    def __init__(self, buffer: BytesIO, shared: Shared, device: str) -> None:
        super().__init__(buffer, pickle.HIGHEST_PROTOCOL)
        self.shared = shared
        self.target = device

    def reducer_override(self, value: Any) -> Any:
        """Return how the other process makes an object; see `pickle`."""
        if isinstance(value, Settings):
            return replace(value, device=self.target, devices=None).__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        if isinstance(value, torch.device):
            return torch.device, (str(value) if value.type in ("cpu", "meta") else self.target,)
        if isinstance(value, Tensor):
            return self._of_tensor(value)
        if isinstance(value, np.ndarray):
            return self._of_array(value)
        if isinstance(value, (type, FunctionType)) and value.__module__ == "__main__":
            raise Unsendable(f"{value.__qualname__} is defined in the program itself, not in a module")
        return NotImplemented

    def _of_tensor(self, tensor: Tensor) -> Any:
        if isinstance(tensor, torch.nn.Parameter):  # which torch makes of a tensor
            return NotImplemented
        if tensor.device.type == "cuda":
            return _moved, (self.shared.on_cpu(tensor), self.target, tensor.requires_grad)
        plain = type(tensor) is Tensor and tensor.layout == torch.strided and not tensor.requires_grad
        if not (plain and tensor.nbytes >= LARGE and tensor.is_contiguous() and tensor.device.type == "cpu"):
            return NotImplemented
        number = self.shared.file(self.shared.as_bytes(tensor))
        return _mapped_tensor, (number, tensor.dtype, tuple(tensor.shape))

    def _of_array(self, array: NDArray[Any]) -> Any:
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.flags.c_contiguous:
            mode = "r" if array.mode == "r" else "c"
            return np.memmap, (str(array.filename), array.dtype, mode, int(array.offset), array.shape)
        if array.nbytes < LARGE or not array.flags.c_contiguous or array.dtype.hasobject:
            return NotImplemented
        if type(array) not in (np.ndarray, np.memmap):
            return NotImplemented
        return _mapped_array, (self.shared.file(array), array.dtype, array.shape)


def _mapped(file: int) -> mmap.mmap:
    """Return the bytes of an inherited file; what a process writes there, only that process sees."""
    return mmap.mmap(file, os.fstat(file).st_size, access=mmap.ACCESS_COPY)


def _mapped_array(file: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return np.frombuffer(_mapped(file), dtype).reshape(shape)


def _mapped_tensor(file: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return torch.frombuffer(_mapped(file), dtype=dtype).view(shape)


def _moved(tensor: Tensor, device: str, requires_grad: bool) -> Tensor:
    return tensor.to(device).requires_grad_(requires_grad)
