"""How a run computes: its seed, device and precision."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from advunlearn.options import Component, UserError, option

if TYPE_CHECKING:
    import torch

# What a run can return to a search, and which way is better; see `objective_of`.
OBJECTIVES = {"utility": "maximize", "accuracy": "maximize", "attack": "minimize", "time": "minimize"}
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_DURATION = rf"(\d+(?:\.\d+)?)({'|'.join(_SECONDS)})"


# The settings that change the bits of a result; `deterministic` does so on CUDA.
NUMERIC = ("seed", "device", "precision", "channels_last", "compile", "threads", "deterministic")


@dataclass
class Settings(Component):
    """How a run computes: the options at the top level of a config.

    Attributes:
        seed: root of every random stream, but for those that `Seeds` sets apart.
        device: `cpu`, `cuda`, `cuda:N`, or `auto`, which is CUDA if it is available. `cuda` and `auto` train sets of
            models, such as shadow models, on all GPUs, and single models on the first one; `cuda:N` uses one GPU.
        devices: the numbers of the GPUs that `cuda` and `auto` use, in this order; null: all. Does not affect results.
        precision: of training on CUDA. `fp32` is true float32; `tf32` lets convolutions and matrix products round their
            inputs to TF32; `bf16` is mixed precision (float32 weights, bfloat16 autocast), also on a CPU; `auto` is
            `bf16` on a GPU that supports it, else `fp32`. Logits for attacks are computed in float32 in any case.
        channels_last: memory format of images, the faster one for convolutions.
        compile: compile each network with torch.compile; worth its start-up time on a GPU only.
        deterministic: on CUDA, use only deterministic algorithms, which are slower; without it, a repeated or resumed
            run on CUDA differs in the last bits. On a CPU, runs are always deterministic.
        threads: CPU threads of torch; null chooses them by the size of a training step.
        workers: number of shadow models, or stacks of them, that are trained at the same time, each in a process; null:
            one per CPU core, or one per GPU. Fewer need less memory; does not affect results.
        checkpoint_seconds: seconds between the checkpoints of a training; does not affect results.
        budget: a run whose estimated time is longer does not start: `90s`, `30min`, `2h` or `1d`.
        objective: what a run returns to a search, of the unlearned model: `utility` (accuracy minus attack), `accuracy`
            or `attack`, all on the selection set, or `time` (of unlearning over retraining); does not affect results.
        tensorboard: the former spelling of `logger=tensorboard`; does not affect results.
        request: the identifier of the request to forget, for the report; does not affect results.
        profile: write a trace and a table of the operations of each stage that computes something; does not affect
            results.
    """

    seed: int = option(0, at_least=0, below=2**32)
    device: str = "auto"
    devices: list[int] | None = option(None, at_least=0)
    precision: str = option("fp32", choices=("fp32", "tf32", "bf16", "auto"))
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = False
    threads: int | None = option(None, at_least=1)
    workers: int | None = option(None, at_least=1)
    checkpoint_seconds: float = option(60.0, at_least=0)
    budget: str | None = None
    objective: str = option("utility", choices=tuple(OBJECTIVES))
    tensorboard: bool = False
    request: str | None = None
    profile: bool = False

    def conflicts(self) -> list[str]:
        """Return what is wrong with devices, budget and the choice of TensorBoard; see `Component.conflicts`."""
        problems = []
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            problems.append(f"device must be one of auto, cpu, cuda, cuda:N, got {self.device}")
        if self.devices is not None and self.device not in ("auto", "cuda"):
            problems.append(f"devices={self.devices} is for device=cuda, got device={self.device} (try devices=null)")
        if self.devices is not None and (not self.devices or len(set(self.devices)) < len(self.devices)):
            problems.append(f"devices must name one or several GPUs, each once, got {self.devices} (try devices=null)")
        if self.budget is not None and not re.fullmatch(_DURATION, self.budget):
            problems.append(
                f"budget must be a duration such as 90s, 30min, 2h or 1d, got {self.budget} (try budget=2h)"
            )
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            problems.append(
                "tensorboard=true: the package tensorboard is not installed (try pip install 'advunlearn[tensorboard]')"
            )
        return problems

    def budget_seconds(self) -> float:
        """Return the budget in seconds; infinite if it is not set."""
        found = re.fullmatch(_DURATION, self.budget or "")
        return float(found[1]) * _SECONDS[found[2]] if found else math.inf

    def torch_device(self) -> torch.device:
        """Return the device to compute on; of several, the one for single models.

        Raises:
            UserError: if this CUDA device, or one of `devices`, is not available.
        """
        import torch  # here and below: it takes two seconds, and the options can be read without it

        if self.devices is not None:
            count = torch.cuda.device_count()
            if max(self.devices) >= count:
                there = f"GPUs are numbered from 0, and there are {count}" if count else "there is no GPU"
                raise UserError(f"devices={self.devices}: GPU {max(self.devices)} is not available, {there}")
            return torch.device("cuda", self.devices[0])
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        device = torch.device(self.device)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"device={self.device} is not available (try device=auto)")
        return device

    def all_devices(self) -> list[str]:
        """Return the names of the devices for a set of models: all GPUs that may be used, or the only device."""
        import torch

        device = self.torch_device()
        if device.type == "cpu" or self.device not in ("auto", "cuda"):
            return [str(device)]
        return [f"cuda:{number}" for number in self.devices or range(torch.cuda.device_count())]

    def resolved_precision(self) -> str:
        """Return the precision that training computes in on this device: `fp32`, `tf32` or `bf16`."""
        import torch

        if self.torch_device().type == "cpu":
            return "bf16" if self.precision == "bf16" else "fp32"
        if self.precision == "auto":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        return self.precision

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context that network passes of a training run in."""
        if self.resolved_precision() != "bf16":
            return contextlib.nullcontext()
        import torch

        return torch.autocast(self.torch_device().type, torch.bfloat16)

    @contextlib.contextmanager
    def switches(self) -> Iterator[None]:
        """Set torch's process-wide switches of CUDA for these settings, and restore them at the end."""
        from advunlearn.runtime.switches import kept_switches, set_switches

        with kept_switches():
            if self.torch_device().type == "cuda":
                set_switches(tf32=self.resolved_precision() == "tf32", deterministic=self.deterministic)
            yield

    def identity(self) -> dict[str, Any]:
        """Return what changes the bits of a result: the settings' part in the store's keys."""
        device, precision = self.torch_device().type, self.resolved_precision()
        return {
            "seed": self.seed,
            "device": device,
            "precision": precision,
            "channels_last": self.channels_last,
            "compile": self.compile,
            "threads": self.threads,
            **({"deterministic": self.deterministic} if device == "cuda" else {}),  # it also decides cudnn.benchmark
        }
