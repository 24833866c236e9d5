"""Stages I and II of DISCOVER with Diff-ICMH's semantic consistency: one loss for codec and control module together.

Eq. 4 of DISCOVER, per picture, with lambda_R of a quality each:

    lambda_R (R(y^) + R(z^)) + lambda_diff |eps - eps_theta(z_t, t, C(z_c^))|^2 + |z_c - z_c^|^2
        + lambda_sem (1 - cos(f(z_c), f(z_c^))) + ours: the decoded picture's error, a detector's distance in it

f are the frozen prior's middle features without noise, C the control module. In stage II only what was sent costs
bits (masked rate), and what makes y and z stays as stage I left it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from discover_stream.codec.scales import STILL
from discover_stream.generation.diffusion import Diffusion, condition_of
from discover_stream.training.autoencoders import Autoencoder, decode
from discover_stream.training.compute import Compute
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.config_stages import JointStage
from discover_stream.training.losses import diffusion_error, latent_error, semantic_inconsistency
from discover_stream.training.object_features import ObjectFeatures
from discover_stream.training.pairs import Examples
from discover_stream.training.prior import dropped, timesteps

ENCODER = ("network.g_a", "network.g_r", "network.fuse", "network.h_a", "network.log_z_gain", "network.log_gain")
"""What makes y and z of a picture."""
HYPER_PATH = ("network.h_s", "prior", "scales.first", "scales.second", "scales.third")
"""What z goes through to say how y is coded."""

CLEAN_SHARE = 0.3
"""Weight of pictures of clean latents where the decoder learns, as a share of the picture's."""


@dataclass(frozen=True)
class JointModels:
    """What takes part in a joint stage.

    Attributes:
        codec: learns.
        vae: frozen; of `nano`, its decoder may learn along.
        diffusion: prior and text frozen, its control module learns; None where no term needs it.
        features: of a detector, frozen; None where no term needs them.
        decoder_learns: whether the decoder of `vae` does; its encoder, and so the space of latents, stays.
    """

    codec: TrainableConditional
    vae: Autoencoder
    diffusion: Diffusion | None = None
    features: ObjectFeatures | None = None
    decoder_learns: bool = False

    def learning(self) -> nn.ModuleDict:
        """What a checkpoint holds."""
        parts: dict[str, nn.Module] = {"codec": self.codec}
        if self.diffusion is not None:
            parts["control"] = self.diffusion.control
        if self.decoder_learns:
            parts["decoder"] = self.vae.decoder
        return nn.ModuleDict(parts)


@dataclass(frozen=True)
class Coded:
    """What the codec makes of a batch: z_c^ (B, L, h, w), bits of sent y (B,) and of z (B,)."""

    latents: Tensor
    y_bits: Tensor
    z_bits: Tensor


def freeze_encoder(codec: TrainableConditional) -> None:
    """Stage II: y and z, and how z says what y costs, stay as they are."""
    for name, parameter in codec.named_parameters():
        if name.startswith(ENCODER + HYPER_PATH):
            parameter.requires_grad_(False)


def rate_weight(progress: float, ramp: tuple[float, float]) -> float:
    """Weight of the rate at a share of the training time: 0.05 up to the ramp, 1 from its end on, geometric between.

    A codec that pays for bits from its first step learns to send nothing in most channels, and such a
    channel gets no gradient that would bring it back.
    """
    start, end = ramp
    return float(0.05 ** (1 - min(max((progress - start) / (end - start), 0.0), 1.0)))


def rate_of(coded: Coded, batch: Examples, over: str) -> Tensor:
    """Bits per pixel of y^ and z^ together: (B,).

    Args:
        coded: with the bits.
        batch: the pictures.
        over: `picture`: per pixel of the picture, the papers' way. `sent`: bits of y per pixel that was sent, and of z
            too where it is the atom's own; a still frame's z serves all its atoms.
    """
    pixels = float(batch.pictures.shape[2] * batch.pictures.shape[3])
    if over == "picture":
        return (coded.y_bits + coded.z_bits) / pixels
    sent = batch.masks.sum(dim=(1, 2, 3)).clamp_min(1) * 256
    return coded.y_bits / sent + coded.z_bits / torch.where(batch.kinds > 0, sent, torch.full_like(sent, pixels))


def weight_of(masks: Tensor, unsent: float) -> Tensor:
    """How much errors count: (B, 1, 2h, 2w) of masks (B, 1, h, w); 1 where sent, `unsent` elsewhere."""
    return functional.interpolate(masks, scale_factor=2) * (1 - unsent) + unsent


def weighted_latent_error(received: Tensor, clean: Tensor, weight: Tensor) -> Tensor:
    """|z_c - z_c^|^2, averaged over positions by their weight: (B,).

    Rate and distortion of a small object then weigh as much as those of a whole picture. All ones is `latent_error`.
    """
    return latent_error(received * weight.sqrt(), clean * weight.sqrt()) / weight.mean(dim=(1, 2, 3))


def picture_error(decoded: Tensor, picture: Tensor, weight: Tensor) -> Tensor:
    """Squared error of pictures (B, 3, H, W), averaged over pixels by their weight (B, 1, H/8, W/8): (B,)."""
    fine = functional.interpolate(weight, scale_factor=8)
    return ((decoded - picture).pow(2) * fine).mean(dim=(1, 2, 3)) / weight.mean(dim=(1, 2, 3))


class JointLoss:
    """The loss of a batch.

    Args:
        models: what takes part.
        stage: weights of the terms.
        compute: where it runs.
        random: what is drawn: timesteps, dropped tags, noise or rounding.
    """

    def __init__(self, models: JointModels, stage: JointStage, compute: Compute, random: np.random.Generator) -> None:
        self._models, self._stage, self._compute, self._random = models, stage, compute, random
        self._rates = torch.tensor(stage.rate_weights)

    def __call__(
        self, batch: Examples, quality: Tensor, number: int, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss, and figures to record.

        Args:
            batch: on the run's device.
            quality: (B,) from 1 on.
            number: of the step; pictures are decoded in some of them.
            progress: share of the budget that is used, 0..1.
        """
        stage, weights = self._stage, self._stage.weights
        noisy = bool(self._random.random() < stage.noise_share)
        latents, y_bits, z_bits = self._models.codec(
            batch, quality, noisy, self._own_z(batch.kinds), hold_z=progress < stage.z_hold
        )
        z_rate = z_bits / float(batch.pictures.shape[2] * batch.pictures.shape[3])
        if stage.z_ramp is not None:
            z_bits = z_bits * rate_weight(progress, stage.z_ramp)
        coded = Coded(latents, y_bits, z_bits)
        weight = weight_of(batch.masks, stage.unsent_weight)
        rate = rate_of(coded, batch, stage.rate_over)
        lambdas = self._rates.to(rate.device)[quality - 1]
        error = weighted_latent_error(latents, batch.latents, weight)
        ramp = rate_weight(progress, stage.rate_ramp) if stage.rate_ramp else 1.0
        loss = (ramp * lambdas * rate + weights.latent * error).mean()
        figures = {"bpp": _number(rate), "z_bpp": _number(z_rate), "latent": _number(error)}
        if self._models.diffusion is not None and weights.need_prior:
            for term, factor, found in self._generative(latents, batch):
                loss = loss + factor * found.mean()
                figures[term] = _number(found)
        if (weights.picture or weights.features) and number % stage.picture_every == 0:
            more, seen = self._decoded(latents, batch, weight)
            loss, figures = loss + more, figures | seen
        if self._models.codec.prior.quantiles.requires_grad:
            loss = loss + self._models.codec.prior.loss()
        return loss, figures

    def _own_z(self, kinds: Tensor) -> Tensor | None:
        """Which examples have a z (B,): stills, and a share of keys and refreshes, since few are smaller with one."""
        share = self._stage.own_z_share
        if share == 1:
            return None
        drawn = torch.from_numpy(self._random.random(len(kinds)) < share).to(kinds.device)
        return ((kinds == STILL) | drawn).float()

    def _generative(self, latents: Tensor, batch: Examples) -> list[tuple[str, float, Tensor]]:
        """The terms of the prior: name, weight, (B,)."""
        diffusion, weights = self._models.diffusion, self._stage.weights
        assert diffusion is not None
        clean, count = batch.latents, len(latents)
        texts = batch.texts if self._stage.tags and batch.texts else ("",) * count
        with torch.no_grad(), self._compute.device:
            words = diffusion.text.encode(dropped(self._random, texts, self._stage.tag_drop))
        terms = []
        if weights.diffusion:
            most = diffusion.schedule.config["num_train_timesteps"]
            drawn = timesteps(self._random, count, most, self._stage.full_noise_share).to(clean.device)
            sent = functional.interpolate(batch.masks, scale_factor=2)
            with self._compute.autocast():
                condition = condition_of(latents, sent)
                error = diffusion_error(diffusion, clean, torch.randn_like(clean), drawn, words, condition)
            terms.append(("diffusion", weights.diffusion, error))
        if weights.semantic:
            with self._compute.autocast():
                apart = semantic_inconsistency(diffusion.prior, latents, clean, words)
            terms.append(("semantic", weights.semantic, apart))
        return terms

    def _decoded(self, latents: Tensor, batch: Examples, weight: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The terms of decoded pictures, of half of the batch."""
        few = slice(0, max(1, len(latents) // 2))
        with self._compute.autocast():
            shown = decode(self._models.vae, latents[few]).float()
        squared = picture_error(shown, batch.pictures[few], weight[few])
        loss = self._stage.weights.picture * squared.mean()
        figures = {"psnr": -10 * math.log10(max(_number(squared), 1e-9))}
        if self._models.decoder_learns:
            # Latents that were never coded have to stay readable: still mode and the denoiser give such ones.
            own = slice(0, max(1, len(latents) // 4))
            with self._compute.autocast():
                whole = decode(self._models.vae, batch.latents[own]).float()
            clean = (whole - batch.pictures[own]).pow(2)
            loss = loss + CLEAN_SHARE * self._stage.weights.picture * clean.mean()
            figures["clean_psnr"] = -10 * math.log10(max(_number(clean), 1e-9))
        if self._models.features is not None:
            with self._compute.autocast():
                seen = self._models.features(shown, batch.pictures[few], weight[few])
            loss = loss + self._stage.weights.features * seen.mean()
            figures["features"] = _number(seen)
        return loss, figures


def _number(values: Tensor) -> float:
    return float(values.detach().mean())
