"""How packets are to be decoded: what every way to a picture (commands, SDK, pools, gateway) can choose."""

from __future__ import annotations

from dataclasses import dataclass

from discover_stream.config_decoding import DecodingConfig
from discover_stream.types import Profile


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How to decode.

    Attributes:
        profile: who looks at the pictures.
        steps: of diffusion; None for the profile's own number.
        generate: whether what was not sent is generated.
        inventions: whether a detector looks for what may have been made up.
        reuse: whether, in still mode, only what changed since a camera's last picture is decoded anew.
        harmonise: whether the diffusion step also works on the composites of stream mode.
    """

    profile: Profile = "machine"
    steps: int | None = None
    generate: bool = True
    inventions: bool = True
    reuse: bool = True
    harmonise: bool = False

    @classmethod
    def of(
        cls, config: DecodingConfig, profile: Profile = "machine", steps: int | None = None, *, generate: bool = True
    ) -> DecodeOptions:
        """What a configuration says, for a profile."""
        return cls(profile, steps, generate, config.inventions, config.reuse, profile in config.harmonise)
