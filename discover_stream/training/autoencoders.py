"""Pictures to latents and back, for both sizes of models: one pair of functions for whichever autoencoder there is.

Conventions: pictures are (B, 3, H, W) RGB, 0..1; latents z_c are (B, L, H/8, W/8), scaled to about unit size.
"""

from __future__ import annotations

from typing import TypeAlias, cast

from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor

from discover_stream.generation.vae import decode_latent, encode_picture

Autoencoder: TypeAlias = "AutoencoderTiny | AutoencoderKL"


def encode(vae: Autoencoder, picture: Tensor) -> Tensor:
    """z_c of pictures; of Stable Diffusion's VAE the most likely one, which draws no random numbers."""
    if isinstance(vae, AutoencoderTiny):
        return encode_picture(vae, picture)
    latent: Tensor = vae.encode(picture.mul(2).sub(1)).latent_dist.mode()
    return latent * float(vae.config["scaling_factor"])


def decode(vae: Autoencoder, latent: Tensor) -> Tensor:
    """Pictures of latents, not clamped."""
    if isinstance(vae, AutoencoderTiny):
        return decode_latent(vae, latent)
    decoded: Tensor = vae.decode(latent / float(vae.config["scaling_factor"])).sample
    return decoded.add(1).div(2)


def latent_channels(vae: Autoencoder) -> int:
    """L."""
    return cast(int, vae.config["latent_channels"])
