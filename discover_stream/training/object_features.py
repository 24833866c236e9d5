"""How far decoded objects are from the originals to a detector: distances between its inner features.

The features are those of the shipped grounder, which no benchmark uses as its judge. As in deep-feature distances
at large (Zhang et al., "The Unreasonable Effectiveness of Deep Features", 2018), features are normalised per
position before they are compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from discover_stream.semantics.detector import Detector
from discover_stream.semantics.grounder import NanoGrounder

LEVELS = 3
"""Stages of the detector that are compared: at 1/4, 1/8 and 1/16."""


class ObjectFeatures(nn.Module):
    """A frozen detector's inner features as a distance."""

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        detector = cast(Detector, NanoGrounder.load(weights).network)
        self.stem: nn.Module = detector.stem
        self.stages: nn.ModuleList = detector.stages[:LEVELS]
        self.eval().requires_grad_(False)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Unit vectors of every position, for each level, of pictures (B, 3, H, W), RGB 0..1."""
        x = self.stem(pictures * 2 - 1)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(functional.normalize(x.float(), dim=1, eps=1e-4))
        return found

    def forward(self, decoded: Tensor, originals: Tensor, weight: Tensor) -> Tensor:
        """Squared distance of features (B,), summed over levels, averaged over positions by their weight.

        Args:
            decoded: (B, 3, H, W) RGB, about 0..1.
            originals: (B, 3, H, W) RGB in 0..1.
            weight: (B, 1, H/8, W/8), how much an error there counts; not all zero.
        """
        with torch.no_grad():
            wanted = self.features(originals)
        total = decoded.new_zeros(decoded.shape[0])
        for ours, theirs in zip(self.features(decoded), wanted, strict=True):
            share = functional.interpolate(weight, size=ours.shape[2:], mode="area")
            apart = (ours - theirs).pow(2).sum(dim=1, keepdim=True)
            total = total + (apart * share).mean(dim=(1, 2, 3)) / share.mean(dim=(1, 2, 3))
        return total
