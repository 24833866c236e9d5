"""The picture <-> latent autoencoder of the `nano` size: diffusers' `AutoencoderTiny`, 16 channels at 1/8.

It works on 2x2 pixel blocks (12 channels at half resolution): convolutions at full resolution would
cost more than all the rest of the decoder together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional

LATENT_CHANNELS = 16
BLOCK = 2
SHAPE_KEY = "shape"
"""Where a weights file keeps the shape of its autoencoder (safetensors metadata)."""


@dataclass(frozen=True)
class VaeShape:
    """Channels of every layer, and residual blocks per stage: encoder at 1/2, 1/4, 1/8, decoder at 1/8, 1/4, 1/2."""

    width: int = 40
    encoder_blocks: tuple[int, int, int] = (1, 1, 2)
    decoder_blocks: tuple[int, int, int] = (2, 2, 1)

    def metadata(self) -> dict[str, str]:
        """What a weights file says of it."""
        return {SHAPE_KEY: json.dumps(asdict(self))}

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> VaeShape:
        """The shape that a weights file names; files without one have the first, smallest shape.

        Raises:
            ValueError: the metadata cannot be read as a shape.
        """
        if SHAPE_KEY not in metadata:
            return cls()
        try:
            read = json.loads(metadata[SHAPE_KEY])
            return cls(int(read["width"]), triple(read["encoder_blocks"]), triple(read["decoder_blocks"]))
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"the shape of the autoencoder cannot be read ({error})") from error


def triple(values: Sequence[int]) -> tuple[int, int, int]:
    """Three whole numbers. Raises ValueError for more or fewer."""
    first, second, third = values
    return int(first), int(second), int(third)


SMALL = VaeShape()
WIDE = VaeShape(64, (1, 1, 3), (4, 2, 1))
"""Three times the weights of `SMALL`, most of them where the picture is small: twice the time."""


def build_vae(shape: VaeShape = SMALL) -> AutoencoderTiny:
    """A fresh `nano` autoencoder with random weights."""
    return AutoencoderTiny(
        in_channels=3 * BLOCK**2,
        out_channels=3 * BLOCK**2,
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=(shape.width,) * 3,
        decoder_block_out_channels=(shape.width,) * 3,
        num_encoder_blocks=shape.encoder_blocks,
        num_decoder_blocks=shape.decoder_blocks,
    )


def shape_of(vae: AutoencoderTiny) -> VaeShape:
    """The shape an autoencoder was built with."""
    config = vae.config
    return VaeShape(
        config["encoder_block_out_channels"][0],
        triple(config["num_encoder_blocks"]),
        triple(config["num_decoder_blocks"]),
    )


def latent_space(vae: AutoencoderTiny) -> str:
    """Names the space of latents: the SHA-256 (16 hex digits) of the encoder's weights in half precision.

    A decoder may be trained further without changing it; a codec fits every VAE of its latent space.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(vae.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.half().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def encode_picture(vae: AutoencoderTiny, picture: Tensor) -> Tensor:
    """z_c of pictures.

    Args:
        vae: the autoencoder.
        picture: (B, 3, H, W) RGB in 0..1, sides divisible by 8.

    Returns:
        (B, 16, H/8, W/8).
    """
    latents: Tensor = vae.encoder(functional.pixel_unshuffle(picture, BLOCK).mul(2).sub(1))
    return latents


def decode_latent(vae: AutoencoderTiny, latent: Tensor) -> Tensor:
    """Pictures of latents: (B, 16, h, w) -> (B, 3, 8h, 8w) RGB, about 0..1, not clamped."""
    blocks: Tensor = vae.decoder(latent)
    return functional.pixel_shuffle(torch.add(blocks, 1).div(2), BLOCK)
