"""Bits and variable-length integers: the small side of a packet."""

from __future__ import annotations

from discover_stream.types import BitstreamError

VARINT_BYTES = 8
"""A varint carries at most 56 bits."""


def zigzag(value: int) -> int:
    """0, -1, 1, -2, 2 ... -> 0, 1, 2, 3, 4 ..."""
    return 2 * value if value >= 0 else -2 * value - 1


def golomb_bits(value: int, order: int) -> int:
    """Bits of an integer >= 0 in exponential Golomb code."""
    return 2 * ((value >> order) + 1).bit_length() - 1 + order


class BitWriter:
    """Collects bits, most significant first; `bytes()` pads the last byte with zeros."""

    def __init__(self) -> None:
        self._whole = bytearray()
        self._value = 0
        self._count = 0

    def put(self, value: int, bits: int) -> None:
        """Append `value` in `bits` bits.

        Raises:
            ValueError: the value does not fit.
        """
        if value < 0 or value >> bits:
            raise ValueError(f"{value} does not fit {bits} bits")
        self._value = (self._value << bits) | value
        self._count += bits
        # Whole bytes leave at once: shifting one ever longer integer would take quadratic time.
        whole, self._count = divmod(self._count, 8)
        self._whole += (self._value >> self._count).to_bytes(whole, "big")
        self._value &= (1 << self._count) - 1

    def put_gamma(self, value: int) -> None:
        """Append an integer >= 1 in Elias gamma code (2 log2 + 1 bits)."""
        bits = value.bit_length()
        self.put(0, bits - 1)
        self.put(value, bits)

    def put_golomb(self, value: int, order: int) -> None:
        """Append an integer >= 0 in exponential Golomb code: gamma of its high bits + 1, then `order` low bits."""
        if value < 0:
            raise ValueError(f"{value} is negative")
        self.put_gamma((value >> order) + 1)
        self.put(value & (1 << order) - 1, order)

    def put_signed(self, value: int, order: int) -> None:
        """Append any integer in exponential Golomb code: 0, -1, 1, -2, 2 ... as 0, 1, 2, 3, 4 ..."""
        self.put_golomb(zigzag(value), order)

    def __len__(self) -> int:
        """Bits so far."""
        return 8 * len(self._whole) + self._count

    def bytes(self) -> bytes:
        """All bits so far, zero-padded to whole bytes."""
        padding = -self._count % 8
        return bytes(self._whole) + (self._value << padding).to_bytes((self._count + padding) // 8, "big")


class BitReader:
    """Takes bits from bytes; every read beyond the end raises `BitstreamError`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, bits: int) -> int:
        """The next `bits` bits as an unsigned integer."""
        end = self._position + bits
        if end > 8 * len(self._data):
            raise BitstreamError("the side information or a mask ends too early")
        # Only the bytes that hold these bits are touched: the cost of a read does not grow with the data.
        held = int.from_bytes(self._data[self._position // 8 : -(-end // 8)], "big")
        self._position = end
        return held >> -end % 8 & (1 << bits) - 1

    def take_gamma(self, limit: int) -> int:
        """The next Elias gamma integer, at most `limit`."""
        zeros = 0
        while self.take(1) == 0:
            zeros += 1
            if zeros >= limit.bit_length():
                raise BitstreamError(f"a count exceeds its bound of {limit}")
        value = (1 << zeros) | self.take(zeros)
        if value > limit:
            raise BitstreamError(f"a count of {value} exceeds its bound of {limit}")
        return value

    def take_golomb(self, order: int, limit: int) -> int:
        """The next exponential Golomb integer, 0..`limit`."""
        high = self.take_gamma((limit >> order) + 1) - 1
        value = high << order | self.take(order)
        if value > limit:
            raise BitstreamError(f"a value of {value} exceeds its bound of {limit}")
        return value

    def take_signed(self, order: int, bound: int) -> int:
        """The next signed exponential Golomb integer, -`bound`..`bound`."""
        value = self.take_golomb(order, 2 * bound)
        return -(value + 1 >> 1) if value & 1 else value >> 1

    def consumed_bytes(self) -> int:
        """Bytes begun so far. The unread bits of the last one must be zero.

        Raises:
            BitstreamError: they are not.
        """
        begun = -(-self._position // 8)
        if self._position % 8 and self._data[begun - 1] & (1 << -self._position % 8) - 1:
            raise BitstreamError("padding bits are not zero")
        return begun

    def finish(self) -> None:
        """Check that only the zero padding of the last byte is left."""
        if self.consumed_bytes() != len(self._data):
            raise BitstreamError("the side information is longer than what it describes")


def varint(value: int) -> bytes:
    """Unsigned LEB128: seven bits a byte, least significant first."""
    if value < 0 or value.bit_length() > 7 * VARINT_BYTES:
        raise ValueError(f"{value} does not fit a varint")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def take_varint(data: bytes, position: int) -> tuple[int, int]:
    """The varint at `position` and the position after it.

    Raises:
        BitstreamError: it runs past the end, is longer than eight bytes, or has a longer form than needed.
    """
    value = 0
    for index in range(VARINT_BYTES):
        if position + index >= len(data):
            raise BitstreamError("the packet ends inside a number")
        byte = data[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if index and byte == 0:
                raise BitstreamError("a number is written longer than needed")
            return value, position + index + 1
    raise BitstreamError("a number is longer than eight bytes")
