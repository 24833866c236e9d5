"""The diffusion decoder of the `nano` size: refines z_c^ and fills what was not sent.

A diffusers `UNet2DModel` sees the noisy latent beside z_c^ and the mask of sent cells and predicts
the clean latent (x0) as a correction of z_c^. The schedule ends at zero signal, so that a single
step from pure noise is a valid sampling and gives the mean of what the received bits allow.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor

from discover_stream.generation.vae import LATENT_CHANNELS

TRAIN_TIMESTEPS = 1000


class Denoiser(UNet2DModel):  # type: ignore[misc]
    """A `UNet2DModel` that knows its precision: diffusers looks through all modules for it at every call."""

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights."""
        return cast(torch.dtype, self.conv_in.weight.dtype)


def build_denoiser() -> UNet2DModel:
    """A fresh `nano` denoiser with random weights."""
    return Denoiser(
        in_channels=2 * LATENT_CHANNELS + 1,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(32, 64, 96),
        down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=16,
        add_attention=False,
    )


def build_scheduler() -> Any:
    """The noise schedule: scaled-linear betas rescaled to zero terminal signal, x0 prediction."""
    return DDIMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="sample",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )


def predict_clean(denoiser: UNet2DModel, noisy: Tensor, timestep: Tensor, received: Tensor, sent: Tensor) -> Tensor:
    """The clean latent that the denoiser expects.

    Args:
        denoiser: the network.
        noisy: (B, 16, h, w) latent with noise.
        timestep: (B,) or scalar, 0..999.
        received: (B, 16, h, w) z_c^.
        sent: (B, 1, h, w) 1 where the cell was sent.

    Returns:
        (B, 16, h, w).
    """
    correction: Tensor = denoiser(torch.cat([noisy, received, sent], dim=1), timestep).sample
    return received + correction
