"""A still picture to a packet and back to a latent: what the modes of the papers share.

The codec is the shipped one or what `discover train codec` and `task` made, of either size (`sd21` has the papers'
widths).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from discover_stream.codec.model import CodecModel
from discover_stream.codec.packet import packet_bytes, parse_packet
from discover_stream.codec.still import LatentFrame, decode_packet, encode_frame
from discover_stream.types import Frame, Image, Region

TASK, KEY = "task", 1


@dataclass(frozen=True)
class Received:
    """What a decoder knows of a picture.

    Attributes:
        frame: z_c^ and the cells that were sent.
        width: of the picture in pixels.
        height: see `width`.
        tags: label indices, ascending.
    """

    frame: LatentFrame
    width: int
    height: int
    tags: tuple[int, ...]


@dataclass(frozen=True)
class PacketCodec:
    """The project's packets of one frame and one task, in still mode."""

    model: CodecModel

    @property
    def digest(self) -> str:
        """Names the weights."""
        return self.model.digest.hex()[:16]

    def encode(self, image: Image, regions: Sequence[Region], tags: Sequence[int], quality: int) -> bytes:
        """Code a picture.

        Args:
            image: (H, W, 3) uint8 RGB.
            regions: whose cells are sent.
            tags: label indices, ascending.
            quality: 1 (fewest bits) to 8.
        """
        frame = Frame("picture", 0, 0, image)
        told = {TASK: tuple(tags)} if tags else None
        return packet_bytes(encode_frame(self.model, frame, {TASK: regions}, {TASK: KEY}, quality=quality, tags=told))

    def decode(self, data: bytes) -> Received:
        """What `encode` made of a picture, from its bytes alone."""
        packet = parse_packet(data)
        tags = next((listed for _, listed in packet.tags), ())
        return Received(decode_packet(self.model, packet), packet.width, packet.height, tags)
