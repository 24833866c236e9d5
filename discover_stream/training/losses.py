"""Terms of both papers' losses, one function each, per picture of a batch.

DISCOVER Eq. 4: lambda_R (R(y^) + R(z^)) + lambda_diff |eps - eps_theta(z_t, t, C(z_c^))|^2 + |z_c - z_c^|^2, the prior
frozen. Diff-ICMH adds the semantic consistency of z_c and z_c^ in the frozen prior's deepest features.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional

from discover_stream.generation.diffusion import Diffusion, target_of


def steered(
    diffusion: Diffusion, clean: Tensor, noise: Tensor, timestep: Tensor, text: Tensor, condition: Tensor | None
) -> tuple[Tensor, Tensor]:
    """z_t of clean latents, and what the (steered) prior says of it in float32; arguments of `diffusion_error`."""
    noisy = diffusion.schedule.add_noise(clean, noise, timestep)
    return noisy, diffusion.predict(noisy, timestep, text, condition).float()


def diffusion_error(
    diffusion: Diffusion, clean: Tensor, noise: Tensor, timestep: Tensor, text: Tensor, condition: Tensor | None
) -> Tensor:
    """How far the (steered) prior's prediction is from what it should be: (B,) mean squared errors.

    Args:
        diffusion: the models.
        clean: (B, L, h, w) z_c.
        noise: (B, L, h, w), standard normal.
        timestep: (B,) whole numbers.
        text: (B, tokens, width).
        condition: see `Diffusion.predict`.
    """
    _, predicted = steered(diffusion, clean, noise, timestep, text, condition)
    return (predicted - target_of(diffusion.schedule, clean, noise, timestep)).pow(2).mean(dim=(1, 2, 3))


def latent_error(received: Tensor, clean: Tensor) -> Tensor:
    """|z_c - z_c^|^2, mean over channels and positions: (B,)."""
    return (received - clean).pow(2).mean(dim=(1, 2, 3))


def semantic_inconsistency(prior: UNet2DConditionModel, received: Tensor, clean: Tensor, text: Tensor) -> Tensor:
    """1 - cosine of the prior's mid-block features of z_c^ and z_c, without noise (Diff-ICMH): (B,), 0..2.

    The cosine is taken over channels at each position, then averaged. Gradients reach `received` alone.

    Args:
        prior: frozen.
        received: (B, L, h, w) z_c^.
        clean: (B, L, h, w) z_c.
        text: (B, tokens, width), the same for both.
    """
    timestep = torch.zeros(len(received), dtype=torch.long, device=received.device)
    with mid_features(prior) as seen:
        with torch.no_grad():
            prior(clean, timestep, text)
        prior(received, timestep, text)
    wanted, found = seen
    return 1 - functional.cosine_similarity(found.float(), wanted.float(), dim=1).mean(dim=(1, 2))


@contextmanager
def mid_features(prior: UNet2DConditionModel) -> Iterator[list[Tensor]]:
    """The outputs (B, C, h', w') of a prior's middle block while the context lasts, in the order of its calls."""
    seen: list[Tensor] = []

    def listen(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        seen.append(output)

    handle = prior.mid_block.register_forward_hook(listen)
    try:
        yield seen
    finally:
        handle.remove()


def discover_loss(
    rate: Tensor, diffusion: Tensor, latent: Tensor, *, rate_weight: float, diffusion_weight: float = 2.0
) -> Tensor:
    """DISCOVER Eq. 4 of a batch: the mean of its weighted terms.

    Args:
        rate: (B,) bits per pixel of y^ and z^ together.
        diffusion: (B,) see `diffusion_error`.
        latent: (B,) see `latent_error`.
        rate_weight: lambda_R; the paper trains with 1, 2, 4 and 8.
        diffusion_weight: lambda_diff; the paper's is 2.
    """
    return (rate_weight * rate + diffusion_weight * diffusion + latent).mean()
