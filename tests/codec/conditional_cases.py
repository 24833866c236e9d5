"""A small conditional codec with random weights, and atoms for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from discover_stream.codec.conditional import AtomShape, Known, z_shape
from discover_stream.codec.conditional_model import ConditionalModel
from discover_stream.codec.transforms import TransformConfig
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.export import export_conditional

SMALL_CONDITIONAL = TransformConfig(
    stem_channels=8,
    analysis_channels=8,
    wide_channels=8,
    y_channels=12,
    z_channels=6,
    groups=(4, 8),
    hyper_channels=16,
    reference_channels=8,
    synthesis_channels=16,
)


def write_random_conditional(folder: Path, seed: int, config: TransformConfig = SMALL_CONDITIONAL) -> Path:
    """A weights file. Scale indices are spread, and follow from the context too, as they do not before training."""
    torch.manual_seed(seed)
    codec = TrainableConditional(config)
    with torch.no_grad():
        codec.scales.third.weight.mul_(20)
        for pair in codec.scales.context.values():
            pair["out"].weight.normal_(0, 0.5)  # type: ignore[index]
    path = folder / f"conditional-{seed}.safetensors"
    export_conditional(codec, path, latent_space="test")
    return path


def conditional_atom(
    model: ConditionalModel, seed: int, rows: int, columns: int
) -> tuple[Known, AtomShape, torch.Tensor]:
    """Any atom of 4 rows x 4 columns cells: what is known of it, its shape, and its y (1, M, 4 rows, 4 columns)."""
    random = np.random.default_rng(seed)
    mask = random.random((4 * rows, 4 * columns)) < random.uniform(0.1, 1.2)
    shape = AtomShape(mask, int(random.integers(1, 9)), int(random.integers(0, 3)), *map(int, random.integers(0, 2, 2)))
    z = np.rint(random.normal(0, 3, z_shape(model, mask))).astype(np.int64) * int(random.integers(0, 2))
    present = torch.tensor([min(1, shape.kind)])
    channels = model.network.config.latent_channels
    reference = torch.from_numpy(random.normal(0, 1, (1, channels, 8 * rows, 8 * columns))).float()
    y_shape = 1, model.network.config.y_channels, 4 * rows, 4 * columns
    y = torch.from_numpy(random.normal(0, random.uniform(0.1, 30), y_shape)).float()
    return Known(z, model.network.with_flag(reference, present)), shape, y
