"""Where training runs and in which precision: accelerate, behind the few calls that the stages need."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import Tensor, nn

from discover_stream.types import InputError

Precision = Literal["fp32", "bf16", "fp16"]
Autocast = Callable[[], AbstractContextManager[None]]
"""Makes the context of a forward pass in a run's precision."""


def cpu_has_bf16() -> bool:
    """Whether the CPU calculates in bfloat16: one that only emulates it takes some ten times as long as in float32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def bf16_on_cpu() -> AbstractContextManager[None]:
    """The context of forward passes where nothing else is said: bfloat16, or float32 where it would be emulated."""
    return torch.autocast("cpu", torch.bfloat16) if cpu_has_bf16() else nullcontext()


class Compute:
    """The devices of a training run.

    Started as one process it uses one device; under `accelerate launch` every process has its own, works on its own
    examples, and gradients are averaged.

    Args:
        precision: of the forward pass; weights stay in float32. On a CPU that would emulate bf16, it is float32.
        cpu: stay on the CPU where there is a GPU.
    """

    def __init__(self, precision: Precision = "bf16", *, cpu: bool = False) -> None:
        on_cpu = cpu or not torch.cuda.is_available()
        whole = precision == "fp32" or (precision == "bf16" and on_cpu and not cpu_has_bf16())
        try:
            self._accelerator = Accelerator(mixed_precision="no" if whole else precision, cpu=cpu)
        except ValueError as error:  # accelerate keeps devices and precision for the life of a process
            reason = str(error).splitlines()[0]
            raise InputError(f"precision {precision}: not in this process ({reason}); train in another one") from None

    @property
    def device(self) -> torch.device:
        """Of this process."""
        return self._accelerator.device  # type: ignore[no-any-return]

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints and curves."""
        return bool(self._accelerator.is_main_process)

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return int(self._accelerator.num_processes) == 1

    @property
    def rank(self) -> int:
        """The number of this process, to be added to seeds: each draws its own examples."""
        return int(self._accelerator.process_index)

    def autocast(self) -> AbstractContextManager[None]:
        """The context of forward passes in the run's precision."""
        return self._accelerator.autocast()  # type: ignore[no-any-return]

    def place(self, value: Tensor) -> Tensor:
        """A tensor on the run's device."""
        return value.to(self.device, non_blocking=True)

    def optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """An optimiser that skips steps whose half-precision gradients overflowed."""
        return self._accelerator.prepare_optimizer(optimizer)  # type: ignore[no-any-return]

    def backward(self, loss: Tensor, parameters: list[nn.Parameter]) -> None:
        """Gradients of a loss in `parameters`, averaged over the processes."""
        self._accelerator.backward(loss)
        if not self.alone:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad = self._accelerator.reduce(parameter.grad, reduction="mean")

    def clip(self, parameters: list[nn.Parameter], norm: float) -> Tensor:
        """Bound the norm of the gradients; returns what it was."""
        found: Tensor = self._accelerator.clip_grad_norm_(parameters, norm)
        return found

    def agreed(self, used: float, due: bool) -> tuple[float, bool]:
        """The first process's seconds, and whether it is time for a checkpoint, for all processes."""
        if self.alone:
            return used, due
        both = torch.tensor([used, float(due)], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(both, 0)
        return float(both[0]), bool(both[1])

    def spread(self, model: nn.Module) -> None:
        """Give all processes the first one's weights."""
        if not self.alone:
            for value in model.state_dict().values():
                torch.distributed.broadcast(value, 0)
