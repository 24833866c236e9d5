"""Configurations of both sizes, small enough to be trained in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image as PillowImage
from torch import Tensor

from discover_stream.codec.transforms import TransformConfig
from discover_stream.training.compute import Compute
from discover_stream.training.config import TrainingConfig
from discover_stream.training.stage import Job

CODEC = {
    "stem_channels": 8,
    "analysis_channels": 8,
    "wide_channels": 8,
    "y_channels": 12,
    "z_channels": 6,
    "groups": [4, 8],
    "hyper_channels": 16,
    "reference_channels": 8,
    "synthesis_channels": 16,
}
SMALL_CODEC = TransformConfig(**CODEC | {"groups": (4, 8)})  # type: ignore[arg-type]
"""The same as the codec takes it."""
NANO = {
    "size": "nano",
    "codec": CODEC,
    "vae": {"width": 8, "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1, 1]},
    "prior": {"widths": [16, 24], "text_width": 8, "heads": 2},
}
STABLE = {
    "size": "sd21",
    "codec": CODEC | {"elic": True},
    "widths": {
        "vae": [8, 8, 8, 8],
        "vae_layers": 1,
        "unet": [8, 8, 16, 16],
        "unet_layers": 1,
        "heads": [1, 1, 2, 2],
        "text_width": 16,
        "text_layers": 1,
        "text_heads": 2,
        "groups": 4,
    },
}
RATES = [8, 6, 4, 3, 2, 1.5, 1.2, 1]


def joint_section(out: Path, **more: Any) -> dict[str, Any]:
    """A joint stage as the papers have it, on crops of 64 pixels."""
    section = {"steps": 2, "record_every": 1, "rate_weights": RATES, "full_noise_share": 0, "pictures": "folder"}
    return {"out": str(out), **section, "sizes": [[64, 2]], **more}


def configuration(models: dict[str, Any], **stages: Any) -> TrainingConfig:
    """A configuration in float32 on one thread."""
    content = {"models": models, "threads": 1, "precision": "fp32", "stages": stages}
    return TrainingConfig.model_validate(yaml.safe_load(yaml.safe_dump(content)))


def job_of(config: TrainingConfig, name: str, out: Path, seed: int = 0) -> Job:
    """A stage without data, ready to be called part by part."""
    torch.manual_seed(seed)
    return Job(name, config, None, out, Compute("fp32", cpu=True), np.random.default_rng(seed))


def smooth_pictures(count: int, seed: int, side: int = 64) -> Tensor:
    """Smooth random pictures (count, 3, side, side) in 0..1; another seed gives others."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=side, mode="bilinear")


class SmoothCrops:
    """Draws smooth pictures, never the same ones again; see `sources.Crops`."""

    def __init__(self, seed: int, crop: int = 64) -> None:
        self.crop, self.random = crop, np.random.default_rng(seed)

    def batch(self, count: int) -> Tensor:
        """See `sources.Crops.batch`."""
        return smooth_pictures(count, int(self.random.integers(2**31)), self.crop)


def write_pictures(folder: Path, count: int = 4, side: int = 96) -> Path:
    """A folder of smooth pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(smooth_pictures(count, 7, side)):
        pixels = picture.permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()
        PillowImage.fromarray(pixels).save(folder / f"{index}.png")
    return folder
