"""The generative decoder of DISCOVER: a frozen diffusion prior, steered by a control module.

Eq. 3 of DISCOVER (arXiv 2412.18158): a ControlNet C sees z_c^ beside the noisy latent, and adds to the features of
a frozen UNet, which predicts the noise. Both are diffusers' classes, in the `nano` size (random weights here,
trained by this project) as in Stable Diffusion's. The condition has one channel more than z_c^: which cells were
sent, since zero is a valid latent.

::

    z_t --------------------------> prior (frozen UNet) --> prediction --> clean latent
     |                                 ^        ^
     +--> control(z_t, [z_c^, sent]) --+        +--- text (tags)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor

from discover_stream.generation.norms import Clock
from discover_stream.generation.text import TextEncoder
from discover_stream.generation.vae import LATENT_CHANNELS


@dataclass(frozen=True)
class DiffusionShape:
    """Sizes of a prior; the default is `nano`.

    Attributes:
        latent_channels: of the VAE.
        widths: channels of the levels, finest first.
        layers: residual blocks of a level.
        text_width: of a tag's vector.
        heads: of the attention at the coarsest level. It looks at the tags alone: what a place becomes depends on
            its surroundings only as far as convolutions reach, so that windows decode as the whole picture does.
        groups: of the group norms.
    """

    latent_channels: int = LATENT_CHANNELS
    widths: tuple[int, ...] = (40, 80, 112)
    layers: int = 1
    text_width: int = 96
    heads: int = 4
    groups: int = 8


def build_prior(shape: DiffusionShape) -> UNet2DConditionModel:
    """A fresh prior with random weights: attention to the tags where the picture is smallest, and nowhere else."""
    plain = len(shape.widths) - 1
    return UNet2DConditionModel(
        in_channels=shape.latent_channels,
        out_channels=shape.latent_channels,
        block_out_channels=shape.widths,
        down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * plain,
        layers_per_block=shape.layers,
        cross_attention_dim=shape.text_width,
        only_cross_attention=True,
        # diffusers' name for the *number* of heads.
        attention_head_dim=shape.heads,
        norm_num_groups=shape.groups,
    )


def build_control(prior: UNet2DConditionModel) -> ControlNetModel:
    """A control module for a prior: a copy of its encoder whose outputs start at zero (ControlNet).

    Its condition is (B, L + 1, h, w) at the latent's own resolution, so nothing is scaled down on the way in.
    """
    return ControlNetModel.from_unet(
        prior,
        conditioning_channels=prior.config["in_channels"] + 1,
        conditioning_embedding_out_channels=(max(64, prior.config["block_out_channels"][0]),),
    )


def build_schedule() -> DDIMScheduler:
    """The noise schedule of the `nano` size: Stable Diffusion's, rescaled to end without any signal, v prediction.

    Lin et al., "Common Diffusion Noise Schedules and Sample Steps Are Flawed" (2023): only so is sampling from pure
    noise, in one step or in fifty, what training has seen.
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )


@dataclass(frozen=True)
class Diffusion:
    """A prior, its control module, its noise schedule and its text encoder.

    Attributes:
        prior: frozen.
        control: what DISCOVER trains.
        schedule: a diffusers scheduler; it is configuration here, samplers copy it.
        text: reads tags.
        clock: of networks with fixed norms; see `generation.norms`.
    """

    prior: UNet2DConditionModel
    control: ControlNetModel
    schedule: DDIMScheduler
    text: TextEncoder
    clock: Clock | None = None

    def predict(
        self, noisy: Tensor, timestep: Tensor, text: Tensor, condition: Tensor | None, *, strength: float = 1.0
    ) -> Tensor:
        """The prior's output, steered.

        Args:
            noisy: (B, L, h, w) z_t.
            timestep: (B,) or scalar.
            text: (B, tokens, width).
            condition: (B, L + 1, h, w), see `condition_of`; None for the prior alone.
            strength: factor of what the control module adds; 0 silences it.

        Returns:
            (B, L, h, w): noise, velocity or clean latent, as the schedule's `prediction_type` says.
        """
        # On a GPU, reading a value would wait for it, and cannot be recorded: callers set the clock there.
        if self.clock is not None and timestep.device.type == "cpu":
            self.clock.timestep = int(timestep)
        extra: dict[str, Any] = {}
        if condition is not None:
            down, middle = self.control(
                noisy, timestep, text, condition, conditioning_scale=strength, return_dict=False
            )
            extra = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        predicted: Tensor = self.prior(noisy, timestep, text, **extra).sample
        return predicted


def condition_of(received: Tensor, sent: Tensor) -> Tensor:
    """The control module's condition (B, L + 1, h, w): z_c^ (B, L, h, w), and 1 where cells were sent (B, 1, h, w)."""
    return torch.cat([received, sent], dim=1)


def noise_shares(schedule: DDIMScheduler, timestep: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of signal and noise in z_t, each (B, 1, 1, 1), for timesteps (B,): sqrt(alpha_t), sqrt(1 - alpha_t)."""
    alpha = schedule.alphas_cumprod.to(timestep.device)[timestep].view(-1, 1, 1, 1)
    return alpha.sqrt(), (1 - alpha).sqrt()


def target_of(schedule: DDIMScheduler, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """What `Diffusion.predict` should say: (B, L, h, w) of the clean latent and the noise added at `timestep` (B,)."""
    kind = schedule.config["prediction_type"]
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return clean
    signal, share = noise_shares(schedule, timestep)
    return signal * noise - share * clean


def clean_of(schedule: DDIMScheduler, predicted: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
    """The clean latent that a prediction at `timestep` (B,) stands for; the inverse of `target_of`."""
    kind = schedule.config["prediction_type"]
    if kind == "sample":
        return predicted
    signal, share = noise_shares(schedule, timestep)
    if kind == "epsilon":
        return (noisy - share * predicted) / signal
    return signal * noisy - share * predicted
