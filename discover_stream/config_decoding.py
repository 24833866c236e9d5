"""The `decoding` section of a configuration: how packets become pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from discover_stream.config_log import Section
from discover_stream.types import Profile


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the generative decoder runs on.

    Attributes:
        device: `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`.
        bfloat16: whether it calculates in bfloat16, else in float32.
        graphs: whether CUDA graphs replay the calls of its networks.
    """

    device: str = "cpu"
    bfloat16: bool = False
    graphs: bool = False


CPU = Hardware()


class DecodingConfig(Section):
    """How packets become pictures, for whoever asks: replays, subscribers that save pictures, the gateway."""

    weights: str | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        title="Folder of codec and decoder weights, nano or Stable Diffusion; null for the shipped ones",
    )
    device: str = Field(
        default="cpu", pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$", title="Of the generative decoder: auto, cpu, cuda"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", title="Of the generative decoder's arithmetic; bfloat16 is for GPUs"
    )
    graphs: bool = Field(default=False, title="Whether CUDA graphs replay the networks' calls; needs a GPU")
    inventions: bool = Field(
        default=True, title="Whether a detector looks at decoded pictures for things that may have been made up"
    )
    warn_at: float = Field(
        default=0.5, gt=0, le=1, title="Invention score from which on a frame is warned about in reports"
    )
    reuse: bool = Field(
        default=True, title="Whether, in still mode, only what changed since a camera's last picture is decoded anew"
    )
    harmonise: tuple[Profile, ...] = Field(
        default=(), max_length=2, title="Profiles in which the diffusion step also works on stream mode's composites"
    )

    @property
    def hardware(self) -> Hardware:
        """What the generative decoder runs on."""
        return Hardware(self.device, self.precision == "bfloat16", self.graphs)
