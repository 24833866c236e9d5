"""Stream mode as a system under test: a fixed camera's plate, objects as masked AV1 atoms, and where they move.

Every byte of every packet counts, as it would be stored or sent: plates, atoms, boxes, regions, headers, checksums.
The first plate, which a subscriber gets once and not again every eight seconds, is the `setup`: with it the figures are
those of the clip as sent, without it those of the steady state.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from discover_stream.codec.atom_choice import Learned
from discover_stream.codec.critic import Critic
from discover_stream.codec.painter import Painter, no_painter
from discover_stream.codec.stream_coding import parse_stream_packet, stream_packet_bytes
from discover_stream.codec.stream_encoder import StreamEncoder, StreamSettings
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.codec.stream_pictures import StreamPictures
from discover_stream.evaluation.systems import Chunk, Clip, Coded, Decoded
from discover_stream.semantics.occlusion import TrackOrder
from discover_stream.types import Frame, InputError

TASK, KEY = "task", 1
MODEL = bytes(3)
"""Packets of AV1 atoms need no weights."""


@dataclass(frozen=True)
class OursStream:
    """Stream mode.

    Attributes:
        settings: of the encoder, but for the frame rate, which is the clip's.
        critic: of the encoder; None for none.
        learned: codes atoms where it is smaller, and decodes them; None for AV1 alone.
    """

    settings: StreamSettings
    critic: Critic | None = None
    learned: Learned | None = None

    @property
    def name(self) -> str:
        """As in tables."""
        named = (", rate control", self.settings.bitrate is not None), (", critic", self.critic is not None)
        atoms = "av1 atoms" if self.learned is None else f"learned atoms {self.learned.name.hex()}"
        return f"ours stream, {atoms}" + "".join(text for text, true in named if true)

    def encode(self, clip: Clip) -> Coded:
        """Code a clip to one packet a frame; see `System.encode`.

        Raises:
            InputError: the clip's pictures have nothing to do with each other.
        """
        if clip.fps <= 0:
            raise InputError(f"{clip.name}: stream mode codes clips of one camera; measure pictures in still mode")
        packets = self.packets(clip)
        height, width = clip.frames[0].shape[:2]
        first, setup = without_plates(packets[0])
        chunks = [Chunk(index, stream_packet_bytes(packet)) for index, packet in enumerate((first, *packets[1:]))]
        return Coded(tuple(chunks), setup, len(chunks), width, height, {"camera": clip.name})

    def decode(self, coded: Coded) -> Decoded:
        """Decode every packet; see `System.decode`."""
        decoder = StreamPictures(self._painter, camera=str(coded.notes["camera"]))
        decoder.take(parse_stream_packet(coded.setup))
        frames, maps = [], []
        for chunk in coded.chunks:
            decoder.take(parse_stream_packet(chunk.data))
            composite = decoder.compose()
            frames.append(composite.image)
            maps.append(composite.provenance)
        return Decoded(tuple(frames), tuple(maps))

    def packets(self, clip: Clip) -> list[StreamPacket]:
        """A clip's packets, in order."""
        return stream_packets(clip, self.settings, self.critic, self.learned)

    def _painter(self, model: bytes) -> Painter:
        return no_painter(model) if self.learned is None else self.learned

    def command(self) -> str:
        """The equivalent command."""
        rate = "" if self.settings.bitrate is None else f" --bitrate {self.settings.bitrate / 1000:g}k"
        return f"discover encode IN --task TASK --mode stream --quality {self.settings.quality}{rate} -o S.dsv"


def stream_packets(
    clip: Clip, settings: StreamSettings, critic: Critic | None = None, learned: Learned | None = None
) -> list[StreamPacket]:
    """A clip's packets, in order."""
    model = settings.model if learned is None else learned.name
    settings = dataclasses.replace(settings, fps=clip.fps, model=model)
    encoder = StreamEncoder(settings, critic=critic, learned=learned, order=TrackOrder())
    packets = []
    for index, (image, regions) in enumerate(zip(clip.frames, clip.regions, strict=True)):
        frame = Frame(clip.name, index, round(index * 1e9 / clip.fps), image)
        packets.append(encoder.encode(frame, {TASK: regions}, {TASK: KEY}))
    return packets


def without_plates(packet: StreamPacket) -> tuple[StreamPacket, bytes]:
    """A packet without its plates, and the packet that brings these: as they are stored under their ids."""
    plates = tuple(dataclasses.replace(plate, members=()) for plate in packet.plates)
    size = (plates[0].width, plates[0].height)
    alone = StreamPacket(packet.model, 0, 0, 0, 0, (), capture_us=0, size=size, plates=plates)
    return dataclasses.replace(packet, plates=()), stream_packet_bytes(alone)
