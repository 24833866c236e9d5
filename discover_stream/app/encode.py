"""`discover encode`: pictures from anywhere to one `.dsv` file with the atoms of all tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from discover_stream.app.outputs import Interrupted, Written, check_stream_output, counted
from discover_stream.app.progress import frame_bar
from discover_stream.codec.any_packet import AnyPacket
from discover_stream.codec.container import DsvWriter, StreamInfo, StreamTask
from discover_stream.codec.mode_policy import CoderSettings, ModeStatus
from discover_stream.types import Atoms, DiscoverError, Frame, InputError, Mode, Task
from discover_stream.video.stills import are_pictures

if TYPE_CHECKING:
    from discover_stream.codec.camera_encoder import CameraEncoder
    from discover_stream.semantics.grounder import Grounder
    from discover_stream.semantics.tracking import Tracker

MAX_FPS_DENOMINATOR = 100_000


@dataclass(frozen=True, slots=True)
class EncodeOrder:
    """What to encode: `fps` None keeps every frame, `camera` None names it after the source; `bitrate` in kbit/s is of
    stream mode, None for what the quality takes."""

    source: str
    output: Path
    tasks: tuple[Task, ...]
    quality: int
    fps: float | None = None
    camera: str | None = None
    mode: Mode = "auto"
    bitrate: float | None = None
    atoms: Atoms = "av1"


class FrameEncoder:
    """Grounds, tracks and encodes the frames of one camera, in order. `changes` tells what there is to say of modes."""

    def __init__(self, grounder: Grounder, encoder: CameraEncoder, tracker: Tracker, tasks: tuple[Task, ...]) -> None:
        self._grounder, self._encoder, self._tracker, self._tasks = grounder, encoder, tracker, tasks
        self._keys = {task.name: task.key for task in stream_tasks(tasks)}
        self._status = ModeStatus()
        self.changes: list[str] = []

    @property
    def models(self) -> bytes:
        """What names the weights in its packets; see `StreamInfo.model`."""
        return self._encoder.models

    def encode(self, frame: Frame, fps: float) -> AnyPacket:
        """The frame's packet, for all tasks.

        Raises:
            InputError: the picture is outside the format's bounds.
        """
        from discover_stream.codec.camera_encoder import Ask

        height, width = frame.image.shape[:2]
        (found,) = self._grounder.ground([frame.image], [task.label_set for task in self._tasks])
        tracked = self._tracker.update(found, width, height)
        asks = {task: Ask(key, tracked[task]) for task, key in self._keys.items()}
        packet = self._encoder.encode(frame, asks, fps=fps)
        status, before = self._encoder.status, self._status
        if status != before and (status.reason or before.mode):
            self.changes.append(f"seq {frame.seq}: {status.mode} mode" + (f", {status.reason}" * bool(status.reason)))
        self._status = status
        return packet


def camera_name(source: str) -> str:
    """The name of a camera whose user gave none: a file's or folder's name without suffix, or an address's.

    >>> camera_name("clips/suburb.mp4"), camera_name("sim://road?seed=1")
    ('suburb', 'road')
    """
    parts = urlsplit(source) if "://" in source else None
    path = Path(parts.path if parts else source).resolve() if not parts or parts.path.strip("/") else None
    return (path.stem if path else parts.hostname if parts else None) or "camera"


def rational_rate(fps: float) -> Fraction:
    """Frames a second as a fraction, such as 30000/1001.

    Raises:
        InputError: less than a frame in a day.
    """
    rate = Fraction(fps).limit_denominator(MAX_FPS_DENOMINATOR)
    if rate <= 0:
        raise InputError(f"{fps} frames a second cannot be written; give a higher rate")
    return rate


def stream_tasks(tasks: tuple[Task, ...]) -> tuple[StreamTask, ...]:
    """The tasks as a file names them."""
    return tuple(StreamTask(t.name, t.label_set.version, t.label_set.labels) for t in tasks)


def encode_stream(order: EncodeOrder) -> Written:
    """Encode a source to a file.

    The file is opened when the first frame has been encoded, and holds every frame that could be read,
    whatever happens later.

    Raises:
        InputError: the source cannot be read, or not to its end; the output cannot be written.
        Interrupted: Ctrl-C after the first frame.
    """
    check_stream_output(order.output, order.source)
    from discover_stream.video.source import open_source

    camera = order.camera if order.camera is not None else camera_name(order.source)
    writer: DsvWriter | None = None
    with open_source(order.source, camera=camera, fps=order.fps) as source:
        # Size and model are known with the first packet; a bad name or task is refused here, before the
        # seconds that loading networks takes.
        draft = StreamInfo(camera, 1, 1, rational_rate(source.fps), bytes(3), stream_tasks(order.tasks))
        encoder = _load_encoder(order)
        try:
            with frame_bar(f"encode {camera}") as advance:
                for frame in source:
                    if writer is not None:
                        _check_size(order.source, frame, writer.info)
                    packet = encoder.encode(frame, source.fps)
                    writer = writer or DsvWriter(order.output, _described(draft, frame, encoder.models))
                    writer.write(packet)
                    advance(writer.frames, writer.frames)
            problem = source.problem
        except DiscoverError as error:
            problem = str(error)
        except KeyboardInterrupt:
            # How one ends the encoding of a live camera: what is there is complete.
            if writer is None:
                raise
            writer.close()
            raise Interrupted(f"{counted(writer.frames, 'frame')} went to {order.output}") from None
    if writer is None:
        raise InputError(problem or f"{order.source}: there is no frame in it; check the source")
    if not writer.broken:
        writer.close()
    if problem is not None:
        kept = "" if writer.broken else f"; {counted(writer.frames, 'frame')} went to {order.output}"
        raise InputError(f"{problem}{kept}")
    return Written(writer.frames, writer.size.total, "; ".join(encoder.changes))


def _described(draft: StreamInfo, frame: Frame, models: bytes) -> StreamInfo:
    """The draft with what the first frame tells, and the weights that packets may name."""
    height, width = frame.image.shape[:2]
    return replace(draft, width=width, height=height, model=models)


def _check_size(source: str, frame: Frame, info: StreamInfo) -> None:
    height, width = frame.image.shape[:2]
    if (width, height) != (info.width, info.height):
        raise InputError(
            f"{source}: frame {frame.seq} is {width}x{height} after {info.width}x{info.height};"
            " a stream has frames of one size, encode the others on their own"
        )


def _load_encoder(order: EncodeOrder) -> FrameEncoder:
    from discover_stream.codec.camera_encoder import CameraEncoder
    from discover_stream.codec.model import load_codec
    from discover_stream.painting import learned_codec
    from discover_stream.semantics.grounder import NanoGrounder
    from discover_stream.semantics.occlusion import TrackOrder
    from discover_stream.semantics.tracking import Tracker

    mode: Mode = "still" if order.mode == "auto" and are_pictures(order.source) else order.mode
    bitrate = None if order.bitrate is None else 1000 * order.bitrate
    grounder = NanoGrounder.load()
    settings = CoderSettings(mode, order.quality, bitrate)
    learned = learned_codec() if order.atoms == "auto" else None
    encoder = CameraEncoder(load_codec(), settings, learned=learned, order=TrackOrder)
    return FrameEncoder(grounder, encoder, Tracker(), order.tasks)
