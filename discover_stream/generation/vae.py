"""The picture <-> latent autoencoder of the `nano` size: diffusers' `AutoencoderTiny`, 16 channels at 1/8.

It works on 2x2 pixel blocks (12 channels at half resolution): convolutions at full resolution would
cost more than all the rest of the decoder together.
"""

from __future__ import annotations

import hashlib

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional

LATENT_CHANNELS = 16
BLOCK = 2
WIDTH = 40


def build_vae() -> AutoencoderTiny:
    """A fresh `nano` autoencoder with random weights."""
    return AutoencoderTiny(
        in_channels=3 * BLOCK**2,
        out_channels=3 * BLOCK**2,
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=(WIDTH, WIDTH, WIDTH),
        decoder_block_out_channels=(WIDTH, WIDTH, WIDTH),
        num_encoder_blocks=(1, 1, 2),
        num_decoder_blocks=(2, 2, 1),
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
