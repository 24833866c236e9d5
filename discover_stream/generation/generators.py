"""The two networks that sample a clean latent, behind one interface.

`ConcatGenerator`: the shipped denoiser, which sees z_c^ beside the noisy latent. `ControlGenerator`: DISCOVER's Eq. 3,
a control module that steers a frozen prior, `nano` or Stable Diffusion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from discover_stream.generation.denoiser import build_scheduler, predict_clean
from discover_stream.generation.diffusion import Diffusion, condition_of
from discover_stream.generation.graphs import Calls, direct
from discover_stream.generation.norms import Clock
from discover_stream.generation.sampling import SamplePlan, sample, walk
from discover_stream.generation.straight import StraightDenoisers, can_fuse, is_plain_cpu, is_straight


class Generator(Protocol):
    """Samples the latents of finished pictures."""

    @property
    def channels(self) -> int:
        """L, of the latent."""
        ...

    @property
    def align(self) -> int:
        """Latents: what corners and sizes of pictures and windows are multiples of."""
        ...

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks whose norms can be fixed, by name."""
        ...

    def with_clock(self, clock: Clock) -> Generator:
        """The same networks, after `fix_norms` gave them a clock."""
        ...

    def with_calls(self, calls: Calls) -> Generator:
        """The same networks, called in another way."""
        ...

    def move(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the networks, in place. Latents stay in float32; networks calculate in their own precision."""
        ...

    def probe(self, received: Tensor, sent: Tensor, noise: Tensor, timestep: int) -> None:
        """Run the networks once as sampling does at a timestep, for those who watch them; arguments as for `sample`."""
        ...

    def sample(self, received: Tensor, sent: Tensor, noise: Tensor, tags: Sequence[str], plan: SamplePlan) -> Tensor:
        """Clean latents.

        Args:
            received: (B, L, h, w) z_c^.
            sent: (B, 1, h, w) 1 where the cell was sent.
            noise: (B, L, h, w), standard normal.
            tags: of each picture, "bus, car"; "" for none.
            plan: how.

        Returns:
            (B, L, h, w).
        """
        ...


def _halvings(network: Any) -> int:
    """By what the sides of a UNet's input have to be divisible."""
    return int(2 ** (len(network.config["block_out_channels"]) - 1))


@dataclass(frozen=True)
class ConcatGenerator:
    """The shipped denoiser. It reads no tags: a plan's guidance changes nothing; control 0 leaves z_c^ as it is."""

    denoiser: UNet2DModel
    clock: Clock | None = None
    schedule: Any = field(default_factory=build_scheduler)
    calls: Calls = direct
    _straight: list[StraightDenoisers] = field(default_factory=list, repr=False, compare=False)

    @property
    def channels(self) -> int:
        """See `Generator`."""
        return cast(int, self.denoiser.config["out_channels"])

    @property
    def align(self) -> int:
        """See `Generator`."""
        return _halvings(self.denoiser)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """See `Generator`."""
        return {"denoiser": self.denoiser}

    def with_clock(self, clock: Clock) -> ConcatGenerator:
        """See `Generator`."""
        return replace(self, clock=clock, _straight=[])

    def with_calls(self, calls: Calls) -> ConcatGenerator:
        """See `Generator`."""
        return replace(self, calls=calls)

    def move(self, device: torch.device, dtype: torch.dtype) -> None:
        """See `Generator`."""
        self.denoiser.to(device, dtype)

    def probe(self, received: Tensor, sent: Tensor, noise: Tensor, timestep: int) -> None:
        """See `Generator`."""
        at = torch.tensor([timestep])
        predict_clean(self.denoiser, self.schedule.add_noise(received, noise, at), at, received, sent)

    def sample(self, received: Tensor, sent: Tensor, noise: Tensor, tags: Sequence[str], plan: SamplePlan) -> Tensor:
        """See `Generator`."""
        dtype = self.denoiser.dtype

        def work(latent: Tensor, at: Tensor, received: Tensor, sent: Tensor) -> Tensor:
            halves = (latent.to(dtype), at, received.to(dtype), sent.to(dtype))
            return predict_clean(self.denoiser, *halves).float()

        straight = self._straightened()

        def predict(latent: Tensor, timestep: Tensor) -> Tensor:
            if self.clock is not None:
                self.clock.timestep = int(timestep)
            if straight is not None:
                clean = received + straight.at(int(timestep))(torch.cat([latent, received, sent], dim=1))
            else:
                inputs = (latent, timestep.to(latent.device), received, sent)
                clean = self.calls(("denoise", int(timestep)), work, *inputs)
            return clean if plan.control == 1 else received + plan.control * (clean - received)

        return walk(self.schedule, predict, received, noise, plan)

    def _straightened(self) -> StraightDenoisers | None:
        """The straight form of the denoiser, where it has one."""
        if self.clock is None or not (is_plain_cpu(self.denoiser) and is_straight(self.denoiser) and can_fuse()):
            return None
        if not self._straight:
            self._straight.append(StraightDenoisers(self.denoiser, self.clock))
        return self._straight[0]


@dataclass(frozen=True)
class ControlGenerator:
    """A control module on a frozen prior."""

    diffusion: Diffusion
    calls: Calls = direct

    @property
    def channels(self) -> int:
        """See `Generator`."""
        return cast(int, self.diffusion.prior.config["in_channels"])

    @property
    def align(self) -> int:
        """See `Generator`."""
        return _halvings(self.diffusion.prior)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """See `Generator`."""
        return {"prior": self.diffusion.prior, "control": self.diffusion.control}

    def with_clock(self, clock: Clock) -> ControlGenerator:
        """See `Generator`."""
        return replace(self, diffusion=replace(self.diffusion, clock=clock))

    def with_calls(self, calls: Calls) -> ControlGenerator:
        """See `Generator`."""
        return replace(self, calls=calls)

    def move(self, device: torch.device, dtype: torch.dtype) -> None:
        """See `Generator`."""
        for part in (self.diffusion.prior, self.diffusion.control, self.diffusion.text):
            part.to(device, dtype)

    def probe(self, received: Tensor, sent: Tensor, noise: Tensor, timestep: int) -> None:
        """See `Generator`."""
        models, at = self.diffusion, torch.tensor([timestep])
        noisy = models.schedule.add_noise(received, noise, at)
        models.predict(noisy, at, models.text.encode([""] * len(received)), condition_of(received, sent))

    def sample(self, received: Tensor, sent: Tensor, noise: Tensor, tags: Sequence[str], plan: SamplePlan) -> Tensor:
        """See `Generator`."""
        return sample(self.diffusion, received, sent, noise, tags, plan, calls=self.calls)
