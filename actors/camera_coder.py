"""What track+encode keeps of one camera: its tracker and its encoder, and how both come from what a restart needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from actors.registry import KnownTask
from discover_stream.codec.any_packet import AnyPacket
from discover_stream.codec.mode_policy import CoderSettings, ModeState, ModeStatus
from discover_stream.types import Frame, Region
from topics.messages import CameraState

if TYPE_CHECKING:
    from discover_stream.codec.atom_choice import Learned
    from discover_stream.codec.camera_encoder import CameraMemory
    from discover_stream.codec.critic import Critic
    from discover_stream.codec.model import CodecModel
    from discover_stream.semantics.tracking import Tracker

RegionsByTask = Mapping[str, tuple[Region, ...]]


class CameraCoder:
    """Tracks and encodes one camera.

    Args:
        codec: of still mode; its hash names the weights in packets of either mode.
        settings: how the camera is coded.
        state: as it was committed last, with the incarnation of this process.
        critic: judges in stream mode which objects have to be sent anew; without one, their pixels do.
        learned: codes objects in stream mode where that is smaller; without one, AV1 does.
    """

    def __init__(
        self,
        codec: CodecModel,
        settings: CoderSettings,
        state: CameraState,
        critic: Critic | None = None,
        learned: Learned | None = None,
    ) -> None:
        # Networks belong into the processes that encode, and this module is read by all.
        from discover_stream.codec.camera_encoder import CameraEncoder
        from discover_stream.semantics.occlusion import TrackOrder
        from discover_stream.semantics.tracking import Tracker

        self._tracker = Tracker(next_track=state.next_track)
        self._encoder = CameraEncoder(codec, settings, memory_of(state), critic, learned, TrackOrder)

    @property
    def status(self) -> ModeStatus:
        """What to tell about the mode of the last frame."""
        return self._encoder.status

    def code(
        self,
        frame: Frame,
        tasks: Sequence[KnownTask],
        found: RegionsByTask | None,
        *,
        fps: float | None = None,
        again: bool = False,
    ) -> AnyPacket:
        """The packet of a frame.

        Args:
            frame: of the camera.
            tasks: that are on.
            found: regions by task; None for a frame that was not grounded.
            fps: frames a second that the camera is said to have.
            again: it comes after later frames; see `CameraEncoder.encode`.

        Raises InputError and BitstreamError as `CameraEncoder.encode`.
        """
        from discover_stream.codec.camera_encoder import Ask
        from discover_stream.semantics.tags import picture_tags

        regions = tracked(self._tracker, frame, [task.name for task in tasks], found)
        asks = {
            task.name: Ask(
                task.key,
                regions[task.name],
                task.options,
                picture_tags(regions[task.name]) if task.options.tags else (),
            )
            for task in tasks
        }
        return self._encoder.encode(frame, asks, fps=fps, again=again)

    def unwritten(self) -> None:
        """The last packet was not written; see `CameraEncoder.unwritten`."""
        self._encoder.unwritten()

    def state_after(self, state: CameraState) -> CameraState:
        """What a restart needs after the last packet, where `state` was before it."""
        memory = self._encoder.memory
        return msgspec.structs.replace(
            state,
            next_track=self._tracker.next_track,
            next_plate=memory.next_plate,
            still_reason=memory.mode.reason,
            mode_since_ns=memory.mode.since_ns,
            setbacks=memory.mode.setbacks,
        )


def memory_of(state: CameraState) -> CameraMemory:
    """What an encoder starts from."""
    from discover_stream.codec.camera_encoder import CameraMemory

    mode = ModeState(state.still_reason, state.mode_since_ns, state.setbacks)
    return CameraMemory(state.incarnation, state.next_plate, state.next_seq, mode)


def tracked(
    tracker: Tracker, frame: Frame, tasks: Sequence[str], found: RegionsByTask | None
) -> dict[str, tuple[Region, ...]]:
    """The regions of a frame with their tracks, by task; of one that was not grounded (None), those carried on."""
    height, width = frame.image.shape[:2]
    if found is not None:
        return tracker.update({task: found.get(task, ()) for task in tasks}, width, height, frame.seq)
    carried = tracker.carry(width, height, frame.seq)
    return {task: carried.get(task, ()) for task in tasks}
