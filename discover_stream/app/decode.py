"""`discover decode`: a file's packets to pictures, from the atoms of the tasks asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from discover_stream.app.extract import chosen_tasks
from discover_stream.app.outputs import Interrupted, check_output, counted
from discover_stream.app.progress import frame_bar
from discover_stream.codec.any_packet import is_plates_alone, route_any
from discover_stream.codec.container import DsvReader, StreamInfo
from discover_stream.codec.late_pictures import LatePictures
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.painting import learned_painter
from discover_stream.types import BitstreamError, InputError, Profile

if TYPE_CHECKING:
    from discover_stream.codec.composing import Composite
    from discover_stream.decoding import DecodedFrame, FrameDecoder
    from discover_stream.video.sink import ImageSink


@dataclass(frozen=True, slots=True)
class DecodeOrder:
    """What to decode and how.

    `output` is a name that `open_sink` understands; no `tasks` means all; `steps` None leaves them to the
    profile; `provenance` draws where each cell comes from over the pictures.
    """

    source: Path
    output: str
    tasks: tuple[str, ...] = ()
    profile: Profile = "machine"
    steps: int | None = None
    generate: bool = True
    provenance: bool = False


def decode_stream(order: DecodeOrder) -> int:
    """Decode a file to pictures; returns how many.

    Raises:
        InputError: unknown task, or a file cannot be read or written.
        BitstreamError: the source is damaged; the frames before the damage are in the output.
        Interrupted: Ctrl-C after the first frame.
    """
    from discover_stream.video.sink import open_sink

    check_output(order.output, order.source)
    with DsvReader(order.source) as reader:
        info = chosen_tasks(reader, order.tasks)
        sink = open_sink(order.output, fps=float(info.fps))
        written = 0
        try:
            with frame_bar(f"decode {', '.join(info.keys)}", reader.size) as advance:
                for frame in _frames(reader, info, order):
                    _write(sink, frame, order.provenance)
                    written += 1
                    advance(written, reader.position)
        except (BitstreamError, KeyboardInterrupt) as error:
            if not written:
                sink.discard()
                raise
            sink.close()
            kept = f"{counted(written, 'frame')} went to {order.output}"
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(kept) from None
            raise BitstreamError(f"{error}; before it {kept}") from None
        except BaseException:
            sink.discard()
            raise
        if not written:
            sink.discard()
            raise InputError(f"{order.source}: it holds no frames, so nothing was written; encode again")
        sink.close()
        return written


def _frames(reader: DsvReader, info: StreamInfo, order: DecodeOrder) -> Iterator[DecodedFrame | Composite]:
    """A picture for every frame: by the generative decoder in still mode, composed in stream mode."""
    still: FrameDecoder | None = None
    composed = LatePictures(learned_painter, camera=info.camera)
    keys = sorted(info.keys.values())
    for record in reader:
        packet = record.packet
        try:
            if isinstance(packet, StreamPacket):
                composed.add(route_any(packet, keys))
                if not is_plates_alone(packet):
                    yield composed.picture(packet.incarnation, packet.seq)
                continue
            still = still or _still_decoder()
            yield still.decode(
                packet,
                camera=info.camera,
                tasks=keys,
                profile=order.profile,
                steps=order.steps,
                generate=order.generate,
            )
        except BitstreamError as error:
            raise BitstreamError(f"{reader.path}: at byte {record.offset}: {error}") from None


def _still_decoder() -> FrameDecoder:
    # Networks are loaded only for files that need them.
    from discover_stream.decoding import FrameDecoder

    return FrameDecoder.load()


def _write(sink: ImageSink, frame: DecodedFrame | Composite, provenance: bool) -> None:
    if not provenance:
        sink.write(frame.image)
        return
    from discover_stream.video.sheet import overlay_provenance

    sink.write(overlay_provenance(frame.image, frame.provenance))
