"""Copies between the CPU and the device that make the CPU wait as rarely as possible."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the tensor on the device; the CPU does not wait until work queued on the device is done.

    From ordinary memory CUDA copies only after that work, from pinned memory it queues the copy as well.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
