"""Reading one camera's packets one after another, of either mode: what each says with those before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from discover_stream.codec.any_packet import AnyPacket
from discover_stream.codec.framing import SCORE_BITS
from discover_stream.codec.packet import Packet
from discover_stream.codec.stream_apply import apply
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.codec.stream_state import Absence, Lack, Step, StreamState, capture_ns
from discover_stream.types import Region

FetchPlates = Callable[[int], Sequence[StreamPacket]]
"""From a plate's id to the packets that bring it and those it is a change to, first to last; as many as there are."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a packet says with those before it.

    Attributes:
        state: after the packet; for packets of still mode as before it.
        capture_ns: capture time, ns since the epoch; None where the plate that tells it is absent.
        regions: of all tasks of the packet, boxes in pixels, scores 0..1.
        tags: labels of the picture as a whole, of all tasks.
        absent: what the packet refers to and is not there; regions may be missing then.
        rewind: the frame from which reading, with an empty state, makes it whole.
    """

    state: StreamState
    capture_ns: int | None
    regions: tuple[Region, ...]
    tags: tuple[int, ...]
    absent: tuple[Absence, ...]
    rewind: int


def read_packet(state: StreamState, packet: AnyPacket, fetch: FetchPlates, *, camera: str = "?") -> Reading:
    """Take in the next packet of a camera.

    Args:
        state: after the packets before it; empty where reading begins.
        packet: as it came.
        fetch: where to get plates that came before reading began.
        camera: named in errors.

    A packet that comes after later ones (its frame was tried again) is read by itself and leaves the state as it
    was. Raises BitstreamError for one that contradicts what came before.
    """
    if isinstance(packet, Packet):
        return Reading(state, packet.capture_ns, _still_regions(packet), _flat_tags(packet), (), packet.seq)
    # Plates alone have no place in time.
    if packet.tasks and (packet.incarnation, packet.seq) <= (state.incarnation, state.seq):
        before = StreamState(plates=state.plates)
        return dataclasses.replace(_read(before, packet, fetch, camera), state=state)
    return _read(state, packet, fetch, camera)


def _read(state: StreamState, packet: StreamPacket, fetch: FetchPlates, camera: str) -> Reading:
    step = apply(state, packet, camera=camera)
    wanted = sorted({lack.name for lack in step.absent if lack.what in (Lack.PLATE, Lack.PARENT)})
    if wanted:
        step = _with_plates(state, packet, [plate for number in wanted for plate in fetch(number)], camera)
    tasks = [step.state.tasks[key] for key in packet.tasks if key in step.state.tasks]
    regions = tuple(region for task in tasks for region in task.regions())
    tags = tuple(sorted({tag for task in tasks for tag in task.tags}))
    return Reading(step.state, capture_ns(step.state, packet), regions, tags, step.absent, step.rewind)


def _with_plates(state: StreamState, packet: StreamPacket, plates: Sequence[StreamPacket], camera: str) -> Step:
    for plate in plates:
        state = apply(state, plate, camera=camera).state
    return apply(state, packet, camera=camera)


def _still_regions(packet: Packet) -> tuple[Region, ...]:
    steps = 2**SCORE_BITS - 1
    return tuple(
        Region(label, region.score / steps, region.box, region.track)
        for region in packet.regions
        for _, label in region.labels
    )


def _flat_tags(packet: Packet) -> tuple[int, ...]:
    return tuple(sorted({tag for _, listed in packet.tags for tag in listed}))
