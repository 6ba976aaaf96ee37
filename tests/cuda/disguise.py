"""CUDA in disguise: tensors that say `cuda:0` and compute on the CPU, so that its code paths are tested without a GPU.

A `Cuda` tensor wraps a CPU tensor. For Python its device is cuda:0; for torch's C++ code it is on the CPU, so that
backward passes, `.item()` and shapes that depend on values work. An operation on tensors of two devices raises, as on a
GPU, and whatever makes the CPU wait for the device is counted. The kernels are the CPU's: a run that is right gives the
CPU's bits.

What it cannot show: CUDA's own kernels, memory, streams, graphs, and numbers drawn on the device.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda", 0)

waits: Counter[str] = Counter()
"""Of the open `disguised`: how often the CPU waited, by the line of this project and what it waited for."""


def wait(reason: str) -> None:
    """Count a wait under the innermost line of the project on the stack."""
    frame = sys._getframe()
    while frame.f_back is not None and "/advunlearn/" not in frame.f_code.co_filename:
        frame = frame.f_back
    waits[f"{frame.f_code.co_filename.rpartition('/advunlearn/')[2]}:{frame.f_lineno} {reason}"] += 1


class Cuda(Tensor):
    """A CPU tensor, `inner`, that says that it is on a GPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Cuda:
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=inner.device,
            requires_grad=inner.requires_grad,
        )
        made.inner = inner
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        """Let `nn.Module.to` know that tensors like this have to be swapped in, not written into what is there."""
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> Cuda:
        return Cuda(inner["inner"])

    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def cpu(self, *_: Any) -> Tensor:
        return _Download.apply(self)

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        return convert(self, *args, **kwargs)

    def tolist(self) -> Any:
        wait("tolist")
        return self.inner.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def __repr__(self, **_: Any) -> str:
        return f"Cuda({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do an operation, forward or backward, on the wrapped tensors, if a GPU would do it."""
        kwargs = kwargs or {}
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        check_devices(func, args, tensors)
        if waits_for(func, args):
            wait(str(func))
        result = func(*tree_map(unwrap, args), **tree_map(unwrap, kwargs))
        # What an operation changes in place it returns.
        own, same = {id(unwrap(each)): each for each in tensors if isinstance(each, Cuda)}, set(map(id, tensors))

        def wrap(value: Any) -> Any:
            if not isinstance(value, Tensor) or id(value) in same or value.device.type != "cpu":
                return value
            return own[id(value)] if id(value) in own else Cuda(value)

        return tree_map(wrap, result)


def unwrap(value: Any) -> Any:
    """Return the CPU tensor in a `Cuda` tensor, and any other value as it is."""
    return value.inner if isinstance(value, Cuda) else value


def name_of(func: Any) -> str:
    """Return the name of an operation without its namespace and overload."""
    return str(func._schema.name).partition("::")[2]


COPIES = {"copy_", "_to_copy"}
INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}
READS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "_linalg_check_errors"}


def check_devices(func: Any, args: Any, tensors: list[Tensor]) -> None:
    """Raise where CUDA refuses CPU tensors.

    It takes them as the other side of a copy, as indices, and, of one number, in element-wise operations.
    """
    strangers, name = [each for each in tensors if not isinstance(each, Cuda)], name_of(func)
    if name in COPIES or name.startswith("native_batch_norm"):  # for which vmap makes weights, where C++ sees the CPU
        return
    if name in INDEXING:
        strangers = [each for each in strangers if not any(each is index for index in args[1])]
    if name in INDEXING or name == "fill_" or torch.Tag.pointwise in func.tags:
        strangers = [each for each in strangers if each.dim() > 0]
    if strangers:
        shapes = ", ".join(str(tuple(each.shape)) for each in strangers)
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
            f"({func} got {shapes} on the CPU)"
        )


def waits_for(func: Any, args: Any) -> bool:
    """Return whether CUDA waits in this operation: for a value, for a shape that depends on values, or for a copy."""
    name = name_of(func)
    if name == "copy_":
        return isinstance(args[0], Cuda) != isinstance(args[1], Cuda) and not (len(args) > 2 and args[2])
    if name in INDEXING:
        indices = [each for each in args[1] if each is not None]
        return any(each.dtype == torch.bool or not isinstance(each, Cuda) for each in indices)
    return name in READS or "unique" in name


class _Download(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Cuda) -> Tensor:
        wait("to the CPU")
        return tensor.inner.detach().clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        wait("gradient to the device")
        return Cuda(gradient.clone())


class _Upload(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Cuda:
        return Cuda(tensor.detach().clone())

    @staticmethod
    def backward(ctx: Any, gradient: Cuda) -> Tensor:
        wait("gradient to the CPU")
        return gradient.inner.clone()


def convert(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Return what `tensor.to(*args, **kwargs)` does: moved to a device, in another type or memory format."""
    kwargs = {name: value for name, value in kwargs.items() if value is not None}
    device, waiting = kwargs.pop("device", None), not kwargs.pop("non_blocking", False)
    for value in args:
        if isinstance(value, (str, torch.device)):
            device = value
        elif isinstance(value, torch.dtype):
            kwargs["dtype"] = value
        elif isinstance(value, Tensor):
            device, kwargs["dtype"] = value.device, value.dtype
        elif value is True:
            waiting = False
    kind = None if device is None else torch.device(device).type
    if kind == "cuda" and not isinstance(tensor, Cuda):
        if waiting:
            wait("to the device")
        tensor = _Upload.apply(tensor)
    elif kind == "cpu" and isinstance(tensor, Cuda):
        tensor = _Download.apply(tensor)
    elif kind == "meta":
        kwargs["device"] = device
        return Tensor.to(unwrap(tensor), **kwargs)
    return Tensor.to(tensor, **kwargs) if kwargs else tensor


class _Mode(TorchFunctionMode):
    """Make tensors on `cuda` from CPU ones."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.to:
            return convert(*args, **kwargs)
        if func is Tensor.pin_memory:
            return args[0]
        device = kwargs.get("device")
        if device is None or torch.device(device).type != "cuda":
            return func(*args, **kwargs)
        if kwargs.get("generator") is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        made = func(*args, **{**kwargs, "device": "cpu"})
        if func in (torch.tensor, torch.as_tensor, torch.asarray):
            return convert(made, DEVICE)
        return made if isinstance(made, Cuda) else Cuda(made)


@contextlib.contextmanager
def disguised(gpus: int = 1) -> Iterator[Counter[str]]:
    """Give the process GPUs inside; yields `waits`, which starts empty. Tensors on any of them say `cuda:0`."""
    waits.clear()
    autocast, state = torch.autocast, torch.zeros(1, dtype=torch.uint8)
    gpu = {
        "device_count": lambda: gpus,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: "a CPU in disguise",
        "is_bf16_supported": lambda including_emulation=True: True,
        "reset_peak_memory_stats": lambda device=None: None,
        "max_memory_allocated": lambda device=None: 0,
        "mem_get_info": lambda device=None: (2**40, 2**40),
        "get_rng_state": lambda device=None: state,
        "set_rng_state": lambda new, device=None: None,
    }
    swap = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with (
            mock.patch.multiple(torch.cuda, **gpu),
            mock.patch.object(torch, "autocast", lambda device, dtype: autocast("cpu", dtype)),
            _Mode(),
        ):
            yield waits
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swap)
