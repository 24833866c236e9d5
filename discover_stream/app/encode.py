"""`discover encode`: pictures from anywhere to one `.dsv` file with the atoms of all tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from discover_stream.app.outputs import Interrupted, Written, check_stream_output, counted
from discover_stream.app.progress import frame_bar
from discover_stream.codec.container import DsvWriter, StreamInfo, StreamTask
from discover_stream.codec.packet import Packet
from discover_stream.types import DiscoverError, Frame, InputError, Task

if TYPE_CHECKING:
    from discover_stream.codec.model import CodecModel
    from discover_stream.semantics.grounder import Grounder
    from discover_stream.semantics.tracking import Tracker

MAX_FPS_DENOMINATOR = 100_000


@dataclass(frozen=True, slots=True)
class EncodeOrder:
    """What to encode: `fps` None keeps every frame, `camera` None names it after the source."""

    source: str
    output: Path
    tasks: tuple[Task, ...]
    quality: int
    fps: float | None = None
    camera: str | None = None


@dataclass(frozen=True)
class FrameEncoder:
    """Grounds, tracks and encodes the frames of one camera, in order."""

    model: CodecModel
    grounder: Grounder
    tracker: Tracker
    tasks: tuple[Task, ...]
    quality: int

    def encode(self, frame: Frame) -> Packet:
        """The frame's packet, for all tasks.

        Raises:
            InputError: the picture is outside the format's bounds.
        """
        from discover_stream.codec.still import encode_frame

        height, width = frame.image.shape[:2]
        (found,) = self.grounder.ground([frame.image], [task.label_set for task in self.tasks])
        tracked = self.tracker.update(found, width, height)
        keys = {task.name: task.key for task in stream_tasks(self.tasks)}
        return encode_frame(self.model, frame, tracked, keys, quality=self.quality)


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
                    packet = encoder.encode(frame)
                    writer = writer or DsvWriter(order.output, _described(draft, packet))
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
    return Written(writer.frames, writer.size.total)


def _described(draft: StreamInfo, packet: Packet) -> StreamInfo:
    """The draft with what the first packet tells."""
    return replace(draft, width=packet.width, height=packet.height, model=packet.model)


def _check_size(source: str, frame: Frame, info: StreamInfo) -> None:
    height, width = frame.image.shape[:2]
    if (width, height) != (info.width, info.height):
        raise InputError(
            f"{source}: frame {frame.seq} is {width}x{height} after {info.width}x{info.height};"
            " a stream has frames of one size, encode the others on their own"
        )


def _load_encoder(order: EncodeOrder) -> FrameEncoder:
    from discover_stream.codec.model import load_codec
    from discover_stream.semantics.grounder import NanoGrounder
    from discover_stream.semantics.tracking import Tracker

    return FrameEncoder(load_codec(), NanoGrounder.load(), Tracker(), order.tasks, order.quality)
