"""A diffusion decoder with random weights, small enough for unit tests."""

from __future__ import annotations

import torch

from discover_stream.generation.diffusion import Diffusion, DiffusionShape, build_control, build_prior, build_schedule
from discover_stream.generation.text import TagEmbedding

TINY = DiffusionShape(latent_channels=4, widths=(8, 16), text_width=8, heads=2, groups=4)


def tiny_diffusion() -> Diffusion:
    """The prior frozen, the control module as it is before training."""
    torch.manual_seed(0)
    prior = build_prior(TINY).eval().requires_grad_(False)
    return Diffusion(prior, build_control(prior).eval(), build_schedule(), TagEmbedding(TINY.text_width))
