"""A decoded picture with what is known about it; without the networks that made it, since most processes that get one
have no other use for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from discover_stream.codec.composing import Composite
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.codec.stream_state import StreamState, capture_ns
from discover_stream.types import Image, Provenance, Region

ProvenanceMap = npt.NDArray[np.uint8]
"""(rows, columns) of the picture's cells, values of `Provenance`."""


@dataclass(frozen=True)
class DecodedFrame:
    """What a subscriber gets from a packet.

    Attributes:
        camera: its name.
        seq: of the frame.
        capture_ns: when the frame was captured; 0 in stream mode where the plate that tells it is absent.
        image: (H, W, 3) uint8 RGB.
        provenance: (rows, columns) of cells, where each comes from.
        regions: per task key, its regions.
        tags: per task key that has tags, ascending label indices; `semantics.tags.condition_text` makes words of them.
        changed: provenance in lower case -> mean absolute change that diffusion made to latents of such cells; empty
            where there was none.
        invention: how sure a detector is that the picture shows something with nothing behind it, 0..1; None where
            nobody looked. See `generation.invention`.
        plate: id of the plate that the picture stands on; 0 in still mode, or where it is absent.
    """

    camera: str
    seq: int
    capture_ns: int
    image: Image
    provenance: ProvenanceMap
    regions: Mapping[int, tuple[Region, ...]]
    tags: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    changed: Mapping[str, float] = field(default_factory=dict)
    invention: float | None = None
    plate: int = 0

    def shares(self) -> dict[str, float]:
        """Provenance in lower case -> share of the picture's cells, of kinds that occur."""
        counts = np.bincount(self.provenance.ravel(), minlength=len(Provenance))
        return {kind.name.lower(): float(counts[kind] / self.provenance.size) for kind in Provenance if counts[kind]}


def composed_frame(camera: str, packet: StreamPacket, state: StreamState, composite: Composite) -> DecodedFrame:
    """What a subscriber gets from a packet of stream mode.

    Args:
        camera: its name.
        packet: as it came.
        state: after it; see `codec.follow`.
        composite: its picture.
    """
    tasks = {key: state.tasks[key] for key in packet.tasks if key in state.tasks}
    return DecodedFrame(
        camera,
        packet.seq,
        capture_ns(state, packet) or 0,
        composite.image,
        composite.provenance,
        {key: task.regions() for key, task in tasks.items()},
        {key: task.tags for key, task in tasks.items() if task.tags},
        invention=0.0,  # composites are of what was sent, and grey where that is absent
        plate=next((task.plate_id for task in tasks.values() if task.plate_there), 0),
    )
