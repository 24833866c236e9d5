"""The `.dsv` file: a camera's packets one after another, in a container that proves itself.

::

    header    magic "DSV", format version (1 byte), varint length, body, CRC32C of all of it
    records   per packet: kind "P", varint length, the packet, of either mode
    end       kind "E", varint number of packets, CRC32C of the whole file before these four bytes

The body of the header is the `StreamInfo` as a MessagePack array, zlib-compressed: label sets are most of
it and all bytes count. CRCs are little endian. The file only ever grows: a writer that dies leaves
every complete packet readable, and the missing end record tells that it died.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from discover_stream.codec.any_packet import (
    AnyPacket,
    any_packet_bytes,
    any_packet_size,
    parse_any,
)
from discover_stream.codec.bits import VARINT_BYTES, take_varint, varint
from discover_stream.codec.packet import MAX_PACKET, PacketSize
from discover_stream.codec.stream import (
    CRC_BYTES,
    FORMAT_VERSION,
    MAGIC,
    MAX_HEADER,
    StreamInfo,
    StreamTask,
    check_belongs,
    checksum,
    header_bytes,
    last_seq,
    parse_body,
)
from discover_stream.types import BitstreamError, InputError

__all__ = [
    "DsvFramer",
    "DsvReader",
    "DsvRecord",
    "DsvWriter",
    "StreamInfo",
    "StreamSize",
    "StreamTask",
]

_PACKET, _END = b"P", b"E"


@dataclass(frozen=True, slots=True)
class StreamSize:
    """Bytes of a file by part: `container` is header, record framing and end; the rest is in packets."""

    container: int = 0
    header: int = 0
    side_information: int = 0
    coarse: int = 0
    atoms: int = 0
    framing: int = 0
    plates: int = 0

    @property
    def total(self) -> int:
        """All bytes of the file."""
        return sum(getattr(self, part) for part in self.__slots__)

    def plus(self, container: int, packet: PacketSize | None = None) -> StreamSize:
        """With more container bytes and one more packet."""
        if packet is None:
            packet = PacketSize(0, 0, 0, 0, 0)
        return StreamSize(
            self.container + container,
            self.header + packet.header,
            self.side_information + packet.side_information,
            self.coarse + packet.coarse,
            self.atoms + packet.atoms,
            self.framing + packet.framing,
            self.plates + packet.plates,
        )


class DsvFramer:
    """Turns a stream into the bytes of its file, piece by piece, and counts them.

    `size` and `frames` describe what was made so far.
    """

    def __init__(self, info: StreamInfo) -> None:
        self.info = info
        self.size = StreamSize()
        self.frames = 0
        self._last_seq = -1
        self._crc = 0

    def header(self) -> bytes:
        """The first bytes of the file."""
        data = header_bytes(self.info)
        self._crc = checksum(data)
        self.size = self.size.plus(len(data))
        return data

    def record(self, packet: AnyPacket) -> bytes:
        """The bytes of the next packet.

        Raises:
            BitstreamError: the packet does not belong to the stream or is too large.
        """
        check_belongs(self.info, packet, self._last_seq)
        body = any_packet_bytes(packet)
        framing = _PACKET + varint(len(body))
        self.size = self.size.plus(len(framing), any_packet_size(packet))
        self._crc = checksum(body, checksum(framing, self._crc))
        self.frames += 1
        self._last_seq = last_seq(packet, self._last_seq)
        return framing + body

    def end(self) -> bytes:
        """The last bytes of the file."""
        framing = _END + varint(self.frames)
        data = framing + checksum(framing, self._crc).to_bytes(CRC_BYTES, "little")
        self.size = self.size.plus(len(data))
        return data


class DsvWriter:
    """Writes a `.dsv` file; a context manager.

    Every frame is handed to the operating system before `write` returns. Leaving the context with an
    exception leaves the file without its end record: all its frames can be read. `broken` tells that the
    disk refused a write and the file was closed there.

    Raises:
        InputError: the file cannot be made or written; the message names it.
    """

    def __init__(self, path: str | os.PathLike[str], info: StreamInfo) -> None:
        self.path = Path(path)
        self._framer = DsvFramer(info)
        start = self._framer.header()
        try:
            # Unbuffered, so that nothing waits in the process to be lost with it.
            self._file = self.path.open("wb", buffering=0)
        except OSError as error:
            raise _refused(self.path, error) from error
        self._good = 0
        self.broken = False
        self._append(start)

    @property
    def info(self) -> StreamInfo:
        """What the stream is about."""
        return self._framer.info

    @property
    def frames(self) -> int:
        """Frames written."""
        return self._framer.frames

    @property
    def size(self) -> StreamSize:
        """Where the bytes went."""
        return self._framer.size

    def write(self, packet: AnyPacket) -> None:
        """Append a packet of either mode.

        Raises:
            BitstreamError: the packet does not belong to the stream.
            InputError: the disk refuses it; the frames before it are kept.
        """
        before = self._framer.frames
        self._append(self._framer.record(packet), f"; frames kept: {before}")

    def close(self) -> None:
        """Write the end record and close the file; does nothing where it is closed already.

        Where an interrupt came in the middle of a write, the frames before it are kept without end record.
        """
        if self.size.total != self._good:
            self.broken = True
            self._file.close()
        if not self._file.closed:
            self._append(self._framer.end(), f"; frames kept: {self.frames}")
            self._file.close()

    def abandon(self) -> None:
        """Close the file as it is, without its end record."""
        self._file.close()

    def _append(self, data: bytes, kept: str = "") -> None:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._good)
            self._file.close()
            self.broken = True
            raise _refused(self.path, error, kept) from error
        self._good += len(data)

    def __enter__(self) -> DsvWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


@dataclass(frozen=True, slots=True)
class DsvRecord:
    """A frame in a file: `offset` of its record, bytes of `framing` before the packet, its `data`."""

    offset: int
    framing: int
    data: bytes = field(repr=False)
    packet: AnyPacket = field(repr=False)


class DsvReader:
    """Reads a `.dsv` file; a context manager, and an iterable of its records that starts anew each time.

    `info` is what its header says, `header_size` and `size` are in bytes. `frames` and `position` (a byte
    offset) tell how far the latest iteration got. Where the file is damaged the iteration delivers
    everything before the damage and then raises BitstreamError, which names file, offset, frames and cause.

    Raises:
        InputError: there is no such file, or it cannot be read.
        BitstreamError: it is not a `.dsv` file, or its header is damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.frames = self.position = 0
        self._file = _open(self.path)
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            self.info, header = self._header()
        except BaseException:
            self._file.close()
            raise
        self.header_size, self._header_crc = len(header), checksum(header)

    def __iter__(self) -> Iterator[DsvRecord]:
        self.frames, self.position = 0, self.header_size
        last, crc = -1, self._header_crc
        while True:
            start = self.position
            try:
                kind, number, framing = self._framing()
                if kind == _END:
                    self._check_end(number, checksum(framing, crc))
                    return
                body = self._take(number, "a packet")
                packet = parse_any(body, camera=self.info.camera)
                check_belongs(self.info, packet, last)
            except BitstreamError as error:
                plural = "" if self.frames == 1 else "s"
                before = "" if last < 0 else f", last seq {last}"
                raise BitstreamError(
                    f"{self.path}: damaged at byte {start}, after {self.frames} good frame{plural}{before}: {error}"
                ) from None
            crc = checksum(body, checksum(framing, crc))
            last = last_seq(packet, last)
            self.frames += 1
            yield DsvRecord(start, len(framing), body, packet)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> DsvReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, count: int) -> bytes:
        """At most `count` bytes from the position on; does not move it."""
        try:
            self._file.seek(self.position)
            return self._file.read(count)
        except OSError as error:
            raise InputError(f"{self.path}: reading failed ({error.strerror}); check the disk") from error

    def _take(self, count: int, what: str) -> bytes:
        data = self._read(count)
        if len(data) < count:
            raise BitstreamError(f"the file ends inside {what}; it was cut off")
        self.position += count
        return data

    def _number(self, before: int, what: str) -> tuple[int, bytes]:
        """The varint after `before` bytes, and all these bytes."""
        ahead = self._read(before + VARINT_BYTES)
        try:
            number, length = take_varint(ahead, before)
        except BitstreamError:
            cause = "ends inside" if len(ahead) < before + VARINT_BYTES else "holds a bad length of"
            raise BitstreamError(f"the file {cause} {what}; it was cut off or damaged") from None
        return number, self._take(length, what)

    def _header(self) -> tuple[StreamInfo, bytes]:
        try:
            if self.size == 0:
                raise BitstreamError("the file is empty; encode again")
            if self._read(len(MAGIC)) != MAGIC:
                raise BitstreamError("this is not a .dsv file; give one that `discover encode` wrote")
            version = self._read(len(MAGIC) + 1)[len(MAGIC) :]
            if version and version[0] != FORMAT_VERSION:
                raise BitstreamError(f"format version {version[0]} is not known here; update discover-stream")
            length, start = self._number(len(MAGIC) + 1, "its header")
            if length > MAX_HEADER:
                raise BitstreamError(f"a header of {length} bytes exceeds the bound of {MAX_HEADER}")
            body = self._take(length, "its header")
            check = self._take(CRC_BYTES, "its header")
            if checksum(start + body) != int.from_bytes(check, "little"):
                raise BitstreamError("the checksum of the header does not match; fetch the file again")
            return parse_body(body), start + body + check
        except BitstreamError as error:
            raise BitstreamError(f"{self.path}: {error}") from None

    def _framing(self) -> tuple[bytes, int, bytes]:
        """Kind, number and bytes of what starts a record."""
        kind = self._read(1)
        if not kind:
            raise BitstreamError("the end record is missing; the writer died or the file was cut off")
        if kind not in (_PACKET, _END):
            raise BitstreamError(f"unknown kind of record 0x{kind.hex()}")
        number, framing = self._number(1, "the framing of a record")
        if kind == _PACKET and number > MAX_PACKET:
            raise BitstreamError(f"a packet of {number} bytes exceeds the bound of {MAX_PACKET}")
        return kind, number, framing

    def _check_end(self, frames: int, crc: int) -> None:
        check = self._take(CRC_BYTES, "the end record")
        if int.from_bytes(check, "little") != crc:
            raise BitstreamError("the checksum of the whole file does not match")
        if frames != self.frames:
            raise BitstreamError(f"the end record counts {frames} frames")
        if self._read(1):
            raise BitstreamError("bytes follow the end record")


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise InputError(f"{path}: it cannot be read ({error.strerror}); give a .dsv file") from error


def _refused(path: Path, error: OSError, kept: str = "") -> InputError:
    return InputError(
        f"{path}: it cannot be written ({error.strerror}){kept}; check the folder, its permissions and the disk"
    )
