"""The grounder that a configuration asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from discover_stream.config import GrounderConfig

if TYPE_CHECKING:
    from discover_stream.semantics.grounder import Grounder


def load_grounder(config: GrounderConfig) -> Grounder:
    """Load it.

    Raises:
        InputError: its files are missing or unusable, or it cannot run on the device that is named.
    """
    if config.kind == "nano":
        from discover_stream.semantics.detector import DetectOptions
        from discover_stream.semantics.grounder import NanoGrounder

        options = DetectOptions()
        if config.threshold is not None:
            options = replace(options, threshold=config.threshold)
        return NanoGrounder.load(None if config.path is None else Path(config.path), options)
    from discover_stream.semantics.grounding_dino import GroundingDino, GroundingDinoOptions

    chosen = GroundingDinoOptions(device=config.device, precision=config.precision, batch=config.batch)
    if config.threshold is not None:
        chosen = replace(chosen, threshold=config.threshold)
    return GroundingDino.load(config.path, chosen)
