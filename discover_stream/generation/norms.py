"""Group norms with fixed statistics, so that a window of a picture decodes as it does in the whole picture.

A group norm divides by statistics of all it is given: a window then comes out differently from the same place of the
whole picture. Measured once on whole pictures, per timestep, and fixed from then on for windows and whole pictures
alike, they make a network local: what a place becomes depends on its surroundings only.

::

    x --> (x - mean[t, group]) / sqrt(variance[t, group] + eps) * weight + bias      t between two measured timesteps
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from discover_stream.types import InputError

NORMS_FILE = "norms.safetensors"
TIMESTEPS = (999, 899, 799, 699, 599, 499, 399, 299, 199, 99, 0)
"""Where statistics are measured; between them they are interpolated."""
_TIMESTEPS_KEY, _WEIGHTS_KEY = "timesteps", "weights"


class Clock(threading.local):
    """The timestep that networks with fixed norms are at; each thread has its own."""

    timestep: int = TIMESTEPS[0]


@dataclass(frozen=True)
class NormTables:
    """Measured statistics.

    Attributes:
        timesteps: (T), descending.
        tables: name of a norm -> (T, 2, groups): mean, and mean of squares.
        weights: of the networks they were measured on, see `digest_of`.
    """

    timesteps: tuple[int, ...]
    tables: Mapping[str, Tensor]
    weights: str


class FixedNorm(nn.Module):
    """A group norm that uses measured statistics.

    Args:
        norm: whose weights it takes.
        table: (T, 2, groups), see `NormTables`.
        timesteps: (T).
        clock: says where between them.
    """

    def __init__(self, norm: nn.GroupNorm, table: Tensor, timesteps: Sequence[int], clock: Clock) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self._table = table  # no buffer: moving a network to half precision must not round its statistics
        self._groups, self._eps, self._timesteps, self._clock = norm.num_groups, norm.eps, tuple(timesteps), clock
        self._made: dict[tuple[int, torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape."""
        scale, shift = self.affine(x)
        extra = x.ndim - 2
        return torch.addcmul(shift.view(1, -1, *[1] * extra), x, scale.view(1, -1, *[1] * extra))

    def affine(self, like: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The norm at the clock's timestep as one factor and one summand a channel, (C) each, in `like`'s precision."""
        x = self.weight if like is None else like
        key = (self._clock.timestep, x.dtype, x.device)
        if key not in self._made:
            mean, squares = _between(self._table, self._timesteps, self._clock.timestep)
            each = len(self.weight) // self._groups
            deviation = (squares - mean.square()).clamp_min(0).add(self._eps).sqrt()
            scale = self.weight.float() / deviation.repeat_interleave(each)
            shift = self.bias.float() - mean.repeat_interleave(each) * scale
            self._made[key] = scale.to(x.device, x.dtype), shift.to(x.device, x.dtype)
        return self._made[key]


def _between(table: Tensor, timesteps: Sequence[int], at: int) -> tuple[Tensor, Tensor]:
    """Statistics (groups,) at a timestep, linear between the measured ones; outside them as at the nearest."""
    for index in range(len(timesteps) - 1):
        high, low = timesteps[index], timesteps[index + 1]
        if low <= at < high:
            share = (at - low) / (high - low)
            mixed = table[index] * share + table[index + 1] * (1 - share)
            return mixed[0].float(), mixed[1].float()
    nearest = table[0 if at >= timesteps[0] else -1]
    return nearest[0].float(), nearest[1].float()


def group_norms(networks: Mapping[str, nn.Module]) -> dict[str, nn.GroupNorm]:
    """The group norms of some networks, by network and place: `denoiser.mid_block.resnets.0.norm1`."""
    return {
        f"{name}.{place}": module
        for name, network in networks.items()
        for place, module in network.named_modules()
        if isinstance(module, nn.GroupNorm)
    }


def digest_of(networks: Mapping[str, nn.Module]) -> str:
    """Names the weights of some networks: 16 hexadecimal digits of a SHA-256 of them in half precision."""
    digest = hashlib.sha256()
    for name, network in sorted(networks.items()):
        for key, weight in sorted(network.state_dict().items()):
            digest.update(f"{name}.{key}".encode())
            digest.update(weight.detach().half().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def measure_norms(
    networks: Mapping[str, nn.Module], run: Callable[[int], None], timesteps: Sequence[int] = TIMESTEPS
) -> NormTables:
    """Measure the statistics of group norms: means over all that `run` shows the networks.

    Args:
        networks: with plain group norms.
        run: decodes whole pictures with the networks at a timestep, as many as should count.
        timesteps: descending.
    """
    norms = group_norms(networks)
    sums: dict[str, list[Tensor]] = {name: [] for name in norms}
    rows: dict[str, list[Tensor]] = {name: [] for name in norms}

    def noted(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            assert isinstance(module, nn.GroupNorm)
            grouped = inputs[0].float().reshape(len(inputs[0]), module.num_groups, -1)
            sums[name].append(torch.stack([grouped.mean(-1), grouped.square().mean(-1)], dim=1).mean(0))

        return note

    handles = [norm.register_forward_pre_hook(noted(name)) for name, norm in norms.items()]
    try:
        for timestep in timesteps:
            for name in norms:
                sums[name].clear()
            run(timestep)
            for name in norms:
                rows[name].append(torch.stack(sums[name]).mean(0))
    finally:
        for handle in handles:
            handle.remove()
    return NormTables(tuple(timesteps), {name: torch.stack(found) for name, found in rows.items()}, digest_of(networks))


def fix_norms(networks: Mapping[str, nn.Module], tables: NormTables) -> Clock:
    """Replace the group norms of networks, in place, by ones with measured statistics.

    Returns:
        the clock that they look at; set its timestep before each use of the networks.

    Raises:
        InputError: the tables were measured on other weights.
    """
    norms = group_norms(networks)
    sizes = {name: (len(tables.timesteps), 2, norm.num_groups) for name, norm in norms.items()}
    if digest_of(networks) != tables.weights or {k: tuple(v.shape) for k, v in tables.tables.items()} != sizes:
        raise InputError(
            f"{NORMS_FILE}: measured on other weights than those beside it; measure again"
            " (python -m benchmarks.calibrate) or remove it"
        )
    clock = Clock()
    for name, norm in norms.items():
        network, _, place = name.partition(".")
        parent, _, own = place.rpartition(".")
        holder = networks[network].get_submodule(parent)
        fixed = FixedNorm(norm, tables.tables[name], tables.timesteps, clock)
        if own.isdigit() and isinstance(holder, nn.ModuleList | nn.Sequential):
            holder[int(own)] = fixed
        else:
            setattr(holder, own, fixed)
    return clock


def write_norms(path: Path, tables: NormTables) -> None:
    """Write statistics in float32."""
    metadata = {_TIMESTEPS_KEY: json.dumps(tables.timesteps), _WEIGHTS_KEY: tables.weights}
    save_file({name: table.contiguous() for name, table in tables.tables.items()}, path, metadata=metadata)


def read_norms(path: Path) -> NormTables:
    """Read what `write_norms` wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tables = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        timesteps = tuple(int(value) for value in json.loads(metadata[_TIMESTEPS_KEY]))
        return NormTables(timesteps, tables, metadata[_WEIGHTS_KEY])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not usable as statistics of norms ({reason}); measure them again") from None
