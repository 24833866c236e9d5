"""What a task received for one frame, and who decodes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from discover_stream.codec.any_packet import AnyPacket
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.codec.follow import Reading
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.codec.stream_state import Absence, plate_under
from discover_stream.config_decoding import DecodingConfig
from discover_stream.decode_options import DecodeOptions
from discover_stream.semantics.tags import condition_text
from discover_stream.types import Image, InputError, LabelSet, Profile, Region

if TYPE_CHECKING:
    from discover_stream.decoded import DecodedFrame
    from discover_stream.decoding import FrameDecoder
    from discover_stream.generation.reuse import KeptPictures


class Pictures(Protocol):
    """Whoever decodes the frames of a subscription: this process (`LocalPictures`), a pool, another machine."""

    def decoded(self, frame: TaskFrame, profile: Profile, steps: int | None, generate: bool) -> DecodedFrame:
        """The picture of a frame whose packet has pixels, before the next item is taken.

        Raises BitstreamError for a packet that cannot be decoded, InputError for options that cannot be used.
        """


class LazyDecoder:
    """The generative decoder of a process: loaded at the first picture.

    Args:
        weights: its folder; None for the one that `decoding` names, or the shipped weights.
        decoding: device and arithmetic.
    """

    def __init__(self, weights: Path | None = None, decoding: DecodingConfig | None = None) -> None:
        self._decoding = decoding or DecodingConfig()
        named = self._decoding.weights
        self._weights = weights if weights is not None or named is None else Path(named)
        self._decoder: FrameDecoder | None = None

    def get(self) -> FrameDecoder:
        """The decoder. Raises InputError for weights that cannot be loaded."""
        if self._decoder is None:
            from discover_stream.decoding import FrameDecoder

            self._decoder = FrameDecoder.load(self._weights, inventions=True, hardware=self._decoding.hardware)
        return self._decoder


class LocalPictures:
    """Decodes in this process, and remembers each camera's last picture. For one thread.

    Args:
        weights: folder of weights; None for the one that `decoding` names, or the shipped ones.
        decoding: how.
    """

    def __init__(self, weights: Path | None = None, decoding: DecodingConfig | None = None) -> None:
        self._how = decoding or DecodingConfig()
        self._decoder = LazyDecoder(weights, self._how)
        self._kept: KeptPictures | None = None

    def decoded(self, frame: TaskFrame, profile: Profile, steps: int | None, generate: bool) -> DecodedFrame:
        """See `Pictures`. In stream mode also raises InputError for pictures that are asked for too late."""
        from discover_stream.decoded import composed_frame

        options = DecodeOptions.of(self._how, profile, steps, generate=generate)
        if isinstance(frame.packet, StreamPacket):
            composite = frame.reader.pictures.picture(frame.incarnation, frame.seq)
            composed = composed_frame(frame.camera, frame.packet, frame.reading.state, composite)
            if not (options.harmonise and generate):
                return composed
            return self._decoder.get().harmonised([composed], options, [frame.condition])[0]
        from discover_stream.decoding import PacketRequest
        from discover_stream.generation.reuse import KeptPictures

        if self._kept is None:
            self._kept = KeptPictures()
        request = PacketRequest(frame.packet, frame.camera, row=f"task {frame.task}", tags=frame.condition)
        return self._decoder.get().decode_many([request], options, self._kept)[0]


@dataclass(frozen=True)
class TaskFrame:
    """What a task received for one frame of one camera.

    Attributes:
        task: its name.
        camera: the camera's name.
        packet: as it came, with everything it says.
        size: bytes of the packet.
        labels: the task's label set, of the version that the packet was made with; None if it is unknown.
        partition, offset: where the packet lies in the task's topic.
        reading: what the packet says with those before it.
        pictures: who decodes it.
        reader: of the camera, as it is after the newest packet.
    """

    task: str
    camera: str
    packet: AnyPacket
    size: int
    labels: LabelSet | None
    partition: int
    offset: int
    reading: Reading = field(repr=False, compare=False)
    pictures: Pictures = field(repr=False, compare=False)
    reader: CameraReader = field(repr=False, compare=False)

    @property
    def seq(self) -> int:
        """Number of the frame, from 0, once per camera."""
        return self.packet.seq

    @property
    def incarnation(self) -> int:
        """Of the encoder: track ids are unique within all of them, but tracks end with one."""
        return self.packet.incarnation

    @property
    def capture_ns(self) -> int | None:
        """Capture time, ns since the epoch. None only in stream mode, where the plate that tells it is absent."""
        return self.reading.capture_ns

    @property
    def shape(self) -> tuple[int, int] | None:
        """(height, width) of the picture in pixels, without decoding; None where the plate that tells it is absent."""
        if not isinstance(self.packet, StreamPacket):
            return self.packet.height, self.packet.width
        plate = plate_under(self.reading.state, self.packet)
        return None if plate is None else (plate.height, plate.width)

    @property
    def identity(self) -> tuple[str, int, int]:
        """(camera, incarnation, seq): the same for a packet that is delivered twice, and for no other."""
        return self.camera, self.incarnation, self.seq

    @property
    def regions(self) -> tuple[Region, ...]:
        """What the task found, scores 0..1, labels as indices of `labels`.

        Boxes are xyxy in pixels: whole ones in still mode, quarters in stream mode, where they may reach beyond the
        picture. Regions are missing where something is `absent`.
        """
        return self.reading.regions

    @property
    def tags(self) -> tuple[int, ...]:
        """What is in the picture as a whole, as indices of `labels`; empty where the task has no tags."""
        return self.reading.tags

    @property
    def condition(self) -> str:
        """The tags in words, as a decoder's text condition; empty where there are none, or the labels are unknown."""
        return "" if self.labels is None else condition_text(self.tags, self.labels)

    @property
    def regions_only(self) -> bool:
        """Whether nothing of the picture came: the task is, or was at this frame, delivered as regions alone."""
        return self.packet.regions_only

    @property
    def absent(self) -> tuple[Absence, ...]:
        """What the packet refers to and is not there: earlier packets, plates, keys. Empty in still mode.

        The state of a task (`Lack.STATE`) is known again at a packet that lists all tracks.
        """
        return self.reading.absent

    @property
    def needs(self) -> tuple[StreamPacket, ...]:
        """In stream mode, the packets that a decoder elsewhere has to be given before this one: plates, then frames in
        order. Ask for it before the next item is taken."""
        return self.reader.needed.before_newest() if isinstance(self.packet, StreamPacket) else ()

    def label(self, region: Region) -> str:
        """The words for a region; its index where the label set is unknown."""
        if self.labels is None or region.label >= len(self.labels.labels):
            return f"label {region.label}"
        return self.labels.labels[region.label]

    def image(self, profile: Profile = "machine", *, steps: int | None = None, generate: bool = True) -> Image:
        """The decoded picture, (H, W, 3) uint8 RGB; see `decoded`."""
        return self.decoded(profile, steps=steps, generate=generate).image

    def decoded(self, profile: Profile = "machine", *, steps: int | None = None, generate: bool = True) -> DecodedFrame:
        """The decoded picture, with its provenance: for every cell, whether it was sent, known or generated; with what
        diffusion changed, per provenance; and with its invention score.

        Decoded for `profile`, in so many diffusion `steps` (None: the profile's); without `generate` what was not sent
        is left blurred. In still mode only what changed since the camera's last picture is decoded anew. In stream mode
        the picture is composed from the plate and the tracks' atoms, and diffusion works on it only where the
        configuration says so (`decoding.harmonise`); what is `absent` is grey. Ask before the next item is taken.

        Raises BitstreamError for a packet of another model or that cannot be decoded, InputError for weights that
        cannot be loaded, packets of regions only, and in stream mode pictures that are asked for too late.
        """
        if self.regions_only:
            raise InputError(
                f"task {self.task}, camera {self.camera}, seq {self.seq}: it is delivered as regions only, without a"
                " picture; have it delivered with pixels (`discover task add --pixels`, or in the configuration)"
            )
        return self.pictures.decoded(self, profile, steps, generate)
