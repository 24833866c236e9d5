"""`discover decode`: a file's packets to pictures, from the atoms of the tasks asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from discover_stream.app.decode_report import DecodeReport
from discover_stream.app.extract import chosen_tasks
from discover_stream.app.outputs import Interrupted, check_output, counted
from discover_stream.app.progress import frame_bar
from discover_stream.codec.any_packet import is_plates_alone, route_any
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.codec.container import DsvReader, DsvRecord, StreamInfo
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.config_decoding import DecodingConfig
from discover_stream.decode_options import DecodeOptions
from discover_stream.painting import learned_painter
from discover_stream.sdk import LazyDecoder
from discover_stream.types import BitstreamError, InputError, Profile

if TYPE_CHECKING:
    from discover_stream.decoded import DecodedFrame
    from discover_stream.generation.reuse import KeptPictures
    from discover_stream.video.sink import ImageSink

TOGETHER = 4
"""Records that are decoded together."""


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
    decoding: DecodingConfig = field(default_factory=DecodingConfig)


def decode_stream(order: DecodeOrder, tell: Callable[[DecodedFrame], None] = lambda frame: None) -> DecodeReport:
    """Decode a file to pictures; returns what they are made of.

    Args:
        order: what to decode and how.
        tell: gets every frame once it is written.

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
        report = DecodeReport(order.decoding.warn_at)
        try:
            with frame_bar(f"decode {', '.join(info.keys)}", reader.size) as advance:
                for frame in _frames(reader, info, order):
                    write_frame(sink, frame, order.provenance)
                    report.add(frame)
                    tell(frame)
                    advance(report.frames, reader.position)
        except (BitstreamError, KeyboardInterrupt) as error:
            if not report.frames:
                sink.discard()
                raise
            sink.close()
            kept = f"{counted(report.frames, 'frame')} went to {order.output}"
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(kept) from None
            raise BitstreamError(f"{error}; before it {kept}") from None
        except BaseException:
            sink.discard()
            raise
        if not report.frames:
            sink.discard()
            raise InputError(f"{order.source}: it holds no frames, so nothing was written; encode again")
        sink.close()
        return report


def _frames(reader: DsvReader, info: StreamInfo, order: DecodeOrder) -> Iterator[DecodedFrame]:
    """A picture for every frame: by the generative decoder in still mode, composed in stream mode."""
    options = DecodeOptions.of(order.decoding, order.profile, order.steps, generate=order.generate)
    decoder = _FileDecoder(LazyDecoder(decoding=order.decoding), reader.path, info, options)
    for records in _batches(reader):
        yield from decoder.frames(records)


def _batches(reader: DsvReader) -> Iterator[list[DsvRecord]]:
    """Records, a few at a time; those that were read before damage or Ctrl-C come before it is raised."""
    waiting: list[DsvRecord] = []
    records = iter(reader)
    while True:
        try:
            record = next(records, None)
        except (BitstreamError, KeyboardInterrupt):
            if waiting:
                yield waiting
            raise
        if record is not None:
            waiting.append(record)
        if waiting and (record is None or len(waiting) == TOGETHER):
            yield waiting
            waiting = []
        if record is None:
            return


class _FileDecoder:
    """Decodes the records of a file in order, a few at a time.

    Args:
        decoder: is loaded when a record needs it.
        path: of the file, named in errors.
        info: of the file, with the tasks that are wanted.
        options: how to decode.
    """

    def __init__(self, decoder: LazyDecoder, path: Path, info: StreamInfo, options: DecodeOptions) -> None:
        self._decoder, self._path, self._camera, self._options = decoder, path, info.camera, options
        self._keys = frozenset(info.keys.values())
        self._reader = CameraReader(info.camera, lambda number: (), learned_painter)
        self._kept: KeptPictures | None = None

    def frames(self, records: Sequence[DsvRecord]) -> Iterator[DecodedFrame]:
        """The pictures of the next records. Raises BitstreamError for a damaged one, after those before it."""
        streamed: list[DecodedFrame] = []
        still: list[DsvRecord] = []
        for record in records:
            if isinstance(record.packet, StreamPacket):
                yield from self._still(still)
                still = []
                try:
                    streamed += self._composed(record.packet)
                except BitstreamError as error:
                    yield from self._streamed(streamed)
                    raise self._located(record, error) from None
            else:
                yield from self._streamed(streamed)
                streamed = []
                still.append(record)
        yield from self._still(still)
        yield from self._streamed(streamed)

    def _composed(self, packet: StreamPacket) -> list[DecodedFrame]:
        from discover_stream.decoded import composed_frame

        mine = route_any(packet, self._keys)
        assert isinstance(mine, StreamPacket)
        reading = self._reader.read(mine)
        if is_plates_alone(mine):
            return []
        composite = self._reader.pictures.picture(mine.incarnation, mine.seq)
        return [composed_frame(self._camera, mine, reading.state, composite)]

    def _streamed(self, frames: Sequence[DecodedFrame]) -> Sequence[DecodedFrame]:
        if not (frames and self._options.harmonise and self._options.generate):
            return frames
        return self._decoder.get().harmonised(frames, self._options)

    def _still(self, records: Sequence[DsvRecord]) -> Iterator[DecodedFrame]:
        try:
            yield from self._decoded(records)
        except BitstreamError:
            for record in records:
                try:
                    frames = self._decoded([record])
                except BitstreamError as error:
                    raise self._located(record, error) from None
                yield from frames

    def _decoded(self, records: Sequence[DsvRecord]) -> Sequence[DecodedFrame]:
        """Pictures of still mode: of all records, or an error and of none."""
        if not records:
            return ()
        # Networks are loaded only for files that need them.
        from discover_stream.decoding import PacketRequest
        from discover_stream.generation.reuse import KeptPictures

        if self._kept is None:
            self._kept = KeptPictures()
        requests = [
            PacketRequest(record.packet, self._camera, self._keys, row="file")
            for record in records
            if not isinstance(record.packet, StreamPacket)
        ]
        return self._decoder.get().decode_many(requests, self._options, self._kept)

    def _located(self, record: DsvRecord, error: BitstreamError) -> BitstreamError:
        return BitstreamError(f"{self._path}: at byte {record.offset}: {error}")


def write_frame(sink: ImageSink, frame: DecodedFrame, provenance: bool) -> None:
    """Write a picture, with its provenance drawn over it where that is wanted."""
    if not provenance:
        sink.write(frame.image)
        return
    from discover_stream.video.sheet import overlay_provenance

    sink.write(overlay_provenance(frame.image, frame.provenance))
