"""A still picture to bytes and back to a latent, by either structure of codec: what the modes of the papers share.

`PacketCodec` is the shipped codec in the project's own packets. `ConditionalCodec` is what `discover train codec` and
`task` make, of either size (`sd21` has the papers' widths); its stills have no packet yet, so they come in the smallest
frame that holds them, and every byte of it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from discover_stream.codec.atoms import CellMask, cell_grid, cells_of
from discover_stream.codec.bits import BitReader, BitWriter, take_varint, varint
from discover_stream.codec.conditional import AtomShape, Known, decode_y, decode_z, encode_y, encode_z, rebuild, z_shape
from discover_stream.codec.conditional_model import STRUCTURE, ConditionalModel, load_conditional
from discover_stream.codec.entropy import LIMIT
from discover_stream.codec.framing import put_tags, take_tags
from discover_stream.codec.mask import read_mask, write_mask
from discover_stream.codec.model import MODEL_FILE, CodecModel, load_codec
from discover_stream.codec.packet import packet_bytes, parse_packet
from discover_stream.codec.still import LatentFrame, decode_packet, encode_frame, picture_tensor
from discover_stream.types import BitstreamError, Frame, Image, InputError, Region

TASK, KEY = "task", 1
SIZE_BITS, QUALITY_BITS = 16, 3
STILL = 0


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


class StillCodec(Protocol):
    """A codec of still pictures."""

    @property
    def digest(self) -> str:
        """Names the weights."""
        ...

    def encode(self, image: Image, regions: Sequence[Region], tags: Sequence[int], quality: int) -> bytes:
        """Code a picture.

        Args:
            image: (H, W, 3) uint8 RGB.
            regions: whose cells are sent.
            tags: label indices, ascending.
            quality: 1 (fewest bits) to 8.
        """
        ...

    def decode(self, data: bytes) -> Received:
        """What `encode` made of a picture, from its bytes alone."""
        ...


def load_still_codec(folder: Path) -> StillCodec:
    """The codec in a folder of weights.

    Raises:
        InputError: there is none, or it is damaged.
    """
    file = folder / MODEL_FILE
    try:
        with safe_open(file, framework="pt") as opened:
            structure = (opened.metadata() or {}).get("structure", "")
    except FileNotFoundError:
        raise InputError(f"{file}: no codec there; give --weights a folder of one release or training") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not readable as codec weights ({error}); fetch the file again") from None
    return ConditionalCodec(load_conditional(file)) if structure == STRUCTURE else PacketCodec(load_codec(file))


@dataclass(frozen=True)
class PacketCodec:
    """The project's packets of one frame and one task, in still mode."""

    model: CodecModel

    @property
    def digest(self) -> str:
        """See `StillCodec`."""
        return self.model.digest.hex()[:16]

    def encode(self, image: Image, regions: Sequence[Region], tags: Sequence[int], quality: int) -> bytes:
        """See `StillCodec`."""
        frame = Frame("picture", 0, 0, image)
        told = {TASK: tuple(tags)} if tags else None
        return packet_bytes(encode_frame(self.model, frame, {TASK: regions}, {TASK: KEY}, quality=quality, tags=told))

    def decode(self, data: bytes) -> Received:
        """See `StillCodec`."""
        packet = parse_packet(data)
        tags = next((listed for _, listed in packet.tags), ())
        return Received(decode_packet(self.model, packet), packet.width, packet.height, tags)


@dataclass(frozen=True)
class ConditionalCodec:
    """One atom for a whole still picture: width, height, quality, tags and mask, the length of z, z, y."""

    model: ConditionalModel

    @property
    def digest(self) -> str:
        """See `StillCodec`."""
        return self.model.digest.hex()[:16]

    @torch.inference_mode()
    def encode(self, image: Image, regions: Sequence[Region], tags: Sequence[int], quality: int) -> bytes:
        """See `StillCodec`."""
        picture = picture_tensor(image)
        mask = self._mask(image, regions)
        network = self.model.network
        flagged = self._reference(mask)
        y, z = network.analyse(picture, network.reference_features(flagged))
        symbols = (z[0] - self.model.medians).round().clamp(1 - LIMIT, LIMIT - 1).numpy().astype(np.int64)
        writer = BitWriter()
        writer.put(image.shape[1] - 1, SIZE_BITS)
        writer.put(image.shape[0] - 1, SIZE_BITS)
        writer.put(quality - 1, QUALITY_BITS)
        writer.put(int(bool(tags)), 1)
        if tags:
            put_tags(writer, [(0, tuple(tags))], 1)
        writer.put(int(mask.any()), 1)
        coded_y = b""
        if mask.any():
            write_mask(writer, mask)
            coded_y, _ = encode_y(self.model, Known(symbols, flagged), AtomShape(mask, quality, STILL), y)
        head, coded_z = writer.bytes(), encode_z(self.model, symbols)
        return varint(len(head)) + head + varint(len(coded_z)) + coded_z + coded_y

    @torch.inference_mode()
    def decode(self, data: bytes) -> Received:
        """See `StillCodec`. Raises BitstreamError where the bytes are no such picture."""
        length, start = take_varint(data, 0)
        reader = BitReader(data[start : start + length])
        width, height = reader.take(SIZE_BITS) + 1, reader.take(SIZE_BITS) + 1
        quality = reader.take(QUALITY_BITS) + 1
        tags = take_tags(reader, 1)[0][1] if reader.take(1) else ()
        rows, columns = cell_grid(width, height)
        mask = np.zeros((-(-rows // 4) * 4, -(-columns // 4) * 4), dtype=bool)
        if reader.take(1):
            mask = read_mask(reader, *mask.shape)
        size, begin = take_varint(data, start + length)
        if begin + size > len(data):
            raise BitstreamError("a picture's bytes end before its z does")
        symbols_z = decode_z(self.model, data[begin : begin + size], z_shape(self.model, mask))
        known = Known(symbols_z, self._reference(mask))
        atom = AtomShape(mask, quality, STILL)
        symbols = np.zeros((self.model.network.config.y_channels, *mask.shape), dtype=np.int64)
        if mask.any():
            symbols = decode_y(self.model, known, atom, data[begin + size :])
        latent = rebuild(self.model, known, atom, symbols)
        return Received(LatentFrame(latent, mask[:rows, :columns]), width, height, tags)

    def _mask(self, image: Image, regions: Sequence[Region]) -> CellMask:
        """The cells under the boxes, on the grid of the padded picture."""
        height, width = image.shape[:2]
        rows, columns = cell_grid(width, height)
        mask = np.zeros((-(-rows // 4) * 4, -(-columns // 4) * 4), dtype=bool)
        for region in regions:
            mask[cells_of(region.box.clipped(width, height), rows, columns)] = True
        return mask

    def _reference(self, mask: CellMask) -> torch.Tensor:
        """That there is no reference."""
        network = self.model.network
        empty = torch.zeros(1, network.config.latent_channels, 2 * mask.shape[0], 2 * mask.shape[1])
        return network.with_flag(empty, torch.tensor([0]))
