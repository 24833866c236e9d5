"""What is fuzzed: readers of bytes from elsewhere, each with seeds, its kind of damage, and what must hold.

What must hold for any bytes whatever: a reader answers, or raises the one error that is meant for it; and what it
accepts is the one form of what it says, so writing that again gives the same
bytes. `make fuzz` and the suite share this.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import torch
from conditional_cases import conditional_atom
from fuzz_mutators import (
    LENGTH_BYTES,
    Raw,
    bent_file,
    bent_sequence,
    bent_still,
    bent_stream,
    file_of,
    file_parts,
    intact,
    join,
    split,
)
from packet_golden import PATH as GOLDEN
from stream_cases import random_packet
from stream_encoder import SIZE, plates_alone, stream

from discover_stream.codec.any_packet import (
    AnyPacket,
    PlateClocks,
    any_packet_bytes,
    any_packet_size,
    parse_any,
    regions_only,
    route_any,
)
from discover_stream.codec.atoms import cell_grid
from discover_stream.codec.av1 import decode_av1, encode_av1
from discover_stream.codec.bits import BitWriter
from discover_stream.codec.conditional import (
    AtomShape,
    Known,
    decode_symbols,
    decode_z,
    encode_symbols,
    encode_y,
    encode_z,
    z_shape,
)
from discover_stream.codec.conditional_model import ConditionalModel
from discover_stream.codec.container import DsvFramer, DsvReader
from discover_stream.codec.entropy import SymbolCoder
from discover_stream.codec.framing import MAX_PACKET, MAX_TASKS, task_key
from discover_stream.codec.latent import CoarseState, decode_atom_mask, decode_atom_symbols, decode_coarse, z_grid
from discover_stream.codec.mask import write_mask
from discover_stream.codec.model import CodecModel
from discover_stream.codec.packet import Packet, packet_bytes, parse_packet
from discover_stream.codec.still import decode_packet, encode_frame
from discover_stream.codec.stream import MAX_BODY, MAX_LABELS, StreamInfo, StreamTask, header_bytes, parse_body
from discover_stream.codec.stream_apply import apply
from discover_stream.codec.stream_coding import parse_stream_packet, stream_packet_bytes
from discover_stream.codec.stream_packet import MAX_PACKET_CELLS, StreamPacket, route_stream, thinned
from discover_stream.codec.stream_state import StreamState, capture_ns
from discover_stream.types import BitstreamError, Box, Frame, Image, InputError, Region

Pictures = Callable[[int, int, int], Image]
MOST_PACKETS = 4
"""In one input of a stream."""
KEYS = {"a": task_key("a", 1), "b": task_key("b", 2)}


class Outcome(Enum):
    """How far an input got."""

    REFUSED = 0
    PARSED = 1
    DECODED = 2
    """Its coder strings too, or it was applied to a decoder's state."""


@dataclass(frozen=True)
class Target:
    """A reader under test.

    Attributes:
        name: of it.
        seeds: inputs to start from, all of them accepted.
        run: reads an input and says how far it got; anything but the errors meant for it is a fault.
        bend: damages an input behind its framing and repairs framing and checksums.
        intact: whether the checksums of an input fit; None for inputs without any.
        memory: bytes that reading so many bytes may allocate.
    """

    name: str
    seeds: tuple[bytes, ...]
    run: Callable[[bytes], Outcome]
    bend: Callable[[Random, Raw, bytes], bytes]
    intact: Callable[[bytes], bool] | None
    memory: Callable[[int], int]


def same(what: str, got: object, expected: object) -> None:
    """That something holds. Raises AssertionError, also where Python runs without assertions."""
    if got != expected:
        raise AssertionError(f"{what}: {got!r:.200} instead of {expected!r:.200}")


def still_target(codec: CodecModel, picture_of: Pictures) -> Target:
    """Packets of still mode: parser, routing, and the integers of every atom."""

    def run(data: bytes) -> Outcome:
        try:
            packet = parse_packet(data, camera="gate")
        except BitstreamError:
            return Outcome.REFUSED
        check_packet(packet, data)
        if packet.regions_only:
            return Outcome.DECODED
        try:
            still_symbols(codec, packet)
        except BitstreamError:
            return Outcome.PARSED
        # The networks behind the integers take long and look at no byte: now and then is enough.
        if len(data) % 16 == 0 and packet.width * packet.height <= 2**16:
            latent = decode_packet(codec, dataclasses.replace(packet, model=codec.short_hash)).latent
            same("a finite latent", bool(latent.isfinite().all()), True)
        return Outcome.DECODED

    golden = [data for name, data in golden_packets() if name.startswith("still")]
    seeds = (*golden, *(packet_bytes(packet) for packet in encoded_frames(codec, picture_of)))

    # A full picture of symbols (8 bytes each), its scale indices, and what sorting them takes: 12 arrays.
    cells, channels = 2**25 // 256, codec.network.config.y_channels
    return Target("still", seeds, run, bent_still, intact, lambda n: parse_memory(n) + 12 * 8 * cells * channels)


def check_packet(packet: AnyPacket, data: bytes) -> None:
    """That a packet has one form, that its parts add up, and that what is made of it are packets."""
    same("packet written again", any_packet_bytes(packet), data)
    # The rest takes several times as long: for one in four packets, by a byte of their checksums.
    if data[2] % 4:
        return
    same("sum of the parts", any_packet_size(packet).total, len(data))
    same("routing to all tasks", route_any(packet, packet.tasks), packet)
    kept = {key for key in packet.tasks if key % 2}
    routed, bare = route_any(packet, kept), regions_only(packet)
    for less in (routed, bare, without_refresh(packet)):
        if less != packet:
            same("packet with less in it", parse_any(any_packet_bytes(less)), less)
    same("routing of regions only", route_any(bare, kept), regions_only(routed))
    PlateClocks().after(packet).capture_ns(packet)


def without_refresh(packet: AnyPacket) -> AnyPacket:
    """The packet without its first refresh, as a router sends it on."""
    if isinstance(packet, Packet):
        return packet
    return thinned(packet, [move.ref for move in packet.moves if move.atom][:1])


def still_symbols(codec: CodecModel, packet: Packet) -> None:
    """Decode all integers of a packet, as `decode_packet` does before its networks run, and code them again."""
    rows, columns = cell_grid(packet.width, packet.height)
    z = decode_coarse(codec, packet.coarse, *z_grid(packet.width, packet.height))
    same("coarse atom coded again", codec.z_coder.encode_planes(z), packet.coarse)
    nothing = torch.zeros(0)
    coarse = CoarseState(nothing, nothing, codec.scales.indices(z, packet.quality))
    sent = np.zeros((rows, columns), dtype=bool)
    for atom in packet.atoms:
        mask, string = decode_atom_mask(atom.payload, rows, columns)
        if (sent & mask).any():
            raise BitstreamError("two atoms hold the same cell")
        sent |= mask
        symbols = decode_atom_symbols(codec, coarse, string, mask)
        writer = BitWriter()
        write_mask(writer, mask)
        tables = coarse.indices[:, :rows, :columns][:, mask].ravel()
        same("atom coded again", writer.bytes() + codec.y_coder.encode(symbols.ravel(), tables), atom.payload)


def golden_packets() -> Iterator[tuple[str, bytes]]:
    for line in GOLDEN.read_text(encoding="ascii").splitlines():
        name, data = line.split()
        yield name, bytes.fromhex(data)


def encoded_frames(codec: CodecModel, picture_of: Pictures) -> Iterator[Packet]:
    """Small frames of one camera with few and many atoms."""
    random = Random(1)
    for seq, (width, height) in enumerate(((16, 16), (40, 30), (64, 64), (65, 17), (90, 70))):
        scene = {}
        for task in KEYS:
            corners = [(random.randrange(width), random.randrange(height)) for _ in range(seq)]
            boxes = [Box(x, y, x + random.randint(1, 40), y + random.randint(1, 40)) for x, y in corners]
            scene[task] = [Region(random.randrange(2), random.random(), box, random.randrange(3)) for box in boxes]
        frame = Frame("gate", seq, 10**18, picture_of(height, width, seq))
        packet = encode_frame(codec, frame, scene, KEYS, quality=random.randint(1, 3))
        yield dataclasses.replace(packet, tags=((1, (0, 1)),)) if seq % 2 else packet
        if seq == 3:
            yield dataclasses.replace(regions_only(packet), seq=9)


def stream_target() -> Target:
    """Packets of stream mode, one by one: parser, routing, thinning."""

    def run(data: bytes) -> Outcome:
        try:
            packet = parse_stream_packet(data, camera="gate")
        except BitstreamError:
            return Outcome.REFUSED
        check_packet(packet, data)
        return Outcome.PARSED

    seeds = [data for name, data in golden_packets() if name.startswith("stream")]
    some = [stream_packet_bytes(random_packet(Random(seed))) for seed in range(200)]
    seeds += [data for data in some if len(data) < 500][:100]
    return Target("stream", tuple(seeds), run, bent_stream, intact, sequence_memory)


def sequence_target() -> Target:
    """Packets of stream mode one after another, as they take a decoder from state to state."""
    seeds = []
    for seed in range(16):
        packets = stream(seed)[0]
        runs = [packets[start : start + MOST_PACKETS] for start in range(0, len(packets), MOST_PACKETS)]
        seeds += [join([stream_packet_bytes(packet) for packet in run]) for run in runs]
    return Target("sequence", tuple(seeds), run_sequence, bend_sequence, all_intact, sequence_memory)


def plates_target() -> Target:
    """Plates alone and as they come with packets, whole and as changes of earlier ones."""
    seeds = []
    for seed in range(8):
        packets, _, plates = stream(seed)
        bearing = [packet for packet in packets if packet.plates][:MOST_PACKETS]
        alone = [plates_alone({number: plates[number]}) for number in sorted(plates)[:MOST_PACKETS]]
        seeds += [join([stream_packet_bytes(packet) for packet in part]) for part in (bearing, alone) if part]
    for seed in range(60):
        packet = random_packet(Random(seed))
        packet = dataclasses.replace(packet, keys=(), moves=(), ends=(), sightings=())
        if packet.plates and len(data := stream_packet_bytes(packet)) < 500:
            seeds.append(join([data]))
    return Target("plates", tuple(seeds), run_sequence, bend_sequence, all_intact, sequence_memory)


def bend_sequence(random: Random, raw: Raw, data: bytes) -> bytes:
    return bent_sequence(random, raw, data, MOST_PACKETS)


def all_intact(data: bytes) -> bool:
    return all(intact(part) for part in split(data, MOST_PACKETS))


def sequence_memory(size: int) -> int:
    """What packets become, twice (routed too), and masks of at most so many cells: a byte each, four copies."""
    return 2 * parse_memory(size) + 4 * MAX_PACKET_CELLS


def run_sequence(data: bytes) -> Outcome:
    """Read packets into a decoder of all tasks, and, routed, into one of every other task."""
    state, theirs, best = StreamState(), StreamState(), Outcome.REFUSED
    for part in split(data, MOST_PACKETS):
        try:
            packet = parse_stream_packet(part, camera="gate")
        except BitstreamError:
            continue
        best = best if best == Outcome.DECODED else Outcome.PARSED
        kept = {key for key in packet.tasks if key % 2} | {key for key in state.tasks if key % 2}
        routed = route_stream(packet, kept)
        try:
            step = apply(state, packet, camera="gate")
        except BitstreamError:
            continue
        best = Outcome.DECODED
        # A task's state depends on its own records only: routing first or leaving out afterwards is the same.
        alone = apply(theirs, routed, camera="gate")
        state, theirs = step.state, alone.state
        same("state of a subscriber", theirs.tasks, state.only(kept).tasks)
        same("what it lacks", alone.absent, tuple(a for a in step.absent if a.task in kept or not packet.tasks))
        look(state, packet)
    return best


def look(state: StreamState, packet: StreamPacket) -> None:
    """Ask a state all that pictures are made from."""
    capture_ns(state, packet)
    for task in state.tasks.values():
        task.regions()
        task.background()
        for ref in task.order():
            task.provenance(ref)


def container_target(codec: CodecModel, picture_of: Pictures) -> Target:
    """`.dsv` files."""
    # A file in memory: a disk would take longer than the reader.
    file = os.memfd_create("some.dsv")
    place = Path(f"/proc/self/fd/{file}")

    def run(data: bytes) -> Outcome:
        os.ftruncate(file, 0)
        os.pwrite(file, data, 0)
        try:
            reader = DsvReader(place)
        except (BitstreamError, InputError):
            return Outcome.REFUSED
        with reader:
            packed = header_bytes(reader.info)
            same("header written again", parse_body(file_parts(packed)[0]), reader.info)
            try:
                for record in reader:
                    check_packet(record.packet, record.data)
            except BitstreamError:
                return Outcome.PARSED
        return Outcome.DECODED

    def all_intact(data: bytes) -> bool:
        try:
            body, packets = file_parts(data)
        except BitstreamError:
            return False
        return all(map(intact, packets)) and file_of(data[:4], body, packets) == data

    frames = list(encoded_frames(codec, picture_of))
    tasks = tuple(StreamTask(name, version, ("car", "van")) for version, name in enumerate(KEYS, 1))
    seeds = []
    for width, height in {(frame.width, frame.height) for frame in frames}:
        framer = DsvFramer(StreamInfo("gate", width, height, Fraction(25), codec.short_hash, tasks))
        data = framer.header()
        for seq in range(3):
            for frame in frames:
                if (frame.width, frame.height) == (width, height):
                    data += framer.record(dataclasses.replace(frame, seq=10 * seq + frame.seq))
        seeds.append(data + framer.end())
    tasks = tuple(StreamTask(name, version, tuple(map(str, range(100)))) for version, name in enumerate(KEYS, 1))
    for seed in range(6):
        framer = DsvFramer(StreamInfo("gate", *SIZE, Fraction(25), b"abc", tasks))
        data = framer.header()
        for packet in stream(seed)[0][:5]:
            routed = route_any(packet, packet.tasks[:2])
            data += framer.record(dataclasses.replace(routed, tasks=tuple(sorted(KEYS.values()))[: len(routed.tasks)]))
        seeds.append(data + framer.end())
    # A header may unpack to so many bytes, and to label sets of the largest size, strings of 64 bytes.
    most = 2 * MAX_BODY + 64 * MAX_LABELS * MAX_TASKS
    return Target("container", tuple(seeds), run, bent_file, all_intact, lambda n: parse_memory(n) + most)


def parse_memory(size: int) -> int:
    """What a parser of packets may allocate: 1 MiB, and 1 KiB of Python objects for each byte up to the bound."""
    return 2**20 + 1024 * min(size, MAX_PACKET)


def coder_target(codec: CodecModel) -> Target:
    """Coder strings alone: two bytes say how many positions z has, the rest is a string."""
    coder: SymbolCoder = codec.z_coder
    channels = codec.network.config.z_channels

    def run(data: bytes) -> Outcome:
        if len(data) < 2:
            return Outcome.REFUSED
        shape = channels, data[0] % 5, data[1] % 5
        try:
            symbols = coder.decode_planes(data[2:], shape)
        except BitstreamError:
            return Outcome.REFUSED
        same("string written again", coder.encode_planes(symbols) if symbols.size else b"", data[2:])
        return Outcome.DECODED

    random = np.random.default_rng(3)
    seeds = []
    for wide in (0, 1, 2, 5, 40, 5000):
        symbols = np.rint(random.normal(0, wide, (channels, 1 + wide % 4, 2))).astype(np.int64)
        seeds.append(bytes(symbols.shape[1:]) + coder.encode_planes(symbols))
    return Target("coder", tuple(seeds), run, lambda _random, raw, data: data[:2] + raw(data[2:]), None, parse_memory)


def conditional_target(model: ConditionalModel) -> Target:
    """An atom of the conditional codec: what its packet says of it (six bytes), its strings of z and y."""

    def shape_of(head: bytes) -> AtomShape:
        rows, columns = (4 * (1 + head[index] % 4 // 2) for index in range(2))
        full = head[4] % 4 == 0
        mask = np.random.default_rng(head[5]).random((rows, columns)) < (2.0 if full else head[4] / 256)
        return AtomShape(mask, 1 + head[2] % 8, head[3] % 3, head[3] >> 2 & 1, head[3] >> 3 & 1)

    def run(data: bytes) -> Outcome:
        if len(data) < 6:
            return Outcome.REFUSED
        shape = shape_of(data)
        strings = [*split(data[6:], 2), b"", b""]
        z: np.ndarray = np.zeros(z_shape(model, shape.mask), np.int64)
        try:
            if data[3] & 64:
                z = decode_z(model, strings[0], z_shape(model, shape.mask))
                same("string of z written again", encode_z(model, z), strings[0])
        except BitstreamError:
            return Outcome.REFUSED
        known = Known(z, torch.zeros(0))
        try:
            (symbols,) = decode_symbols(model, [(known, shape)], strings[1:2])
        except BitstreamError:
            return Outcome.PARSED
        same("cells outside the mask", bool(symbols[:, ~shape.mask].any()), False)
        same("string of y written again", encode_symbols(model, [(known, shape)], [symbols]), strings[1:2])
        return Outcome.DECODED

    def bend(random: Random, raw: Raw, data: bytes) -> bytes:
        parts = [*split(data[6:], 2), b"", b""][:2]
        place = random.randrange(3)
        if place == 2:
            return bytes(random.randrange(256) if random.random() < 0.3 else byte for byte in data[:6]) + data[6:]
        parts[place] = raw(parts[place])
        return data[:6] + join([part[: 256**LENGTH_BYTES - 1] for part in parts])

    seeds = []
    random = Random(5)
    with torch.inference_mode():
        for seed in range(24):
            head = random.randbytes(6)
            shape = shape_of(head)
            rows, columns = shape.mask.shape
            known, _, y = conditional_atom(model, seed, rows // 4, columns // 4)
            y /= 1 + seed % 8
            z = known.z if head[3] & 64 else np.zeros_like(known.z)
            string, _ = encode_y(model, Known(z, known.reference), shape, y)
            seeds.append(head + join([encode_z(model, z) if head[3] & 64 else b"", string]))
    # Symbols, context and tables of 64 cells.
    return Target("conditional", tuple(seeds), run, bend, None, lambda n: parse_memory(n) + 2**23)


def av1_target(picture_of: Pictures) -> Target:
    """Stripped AV1 stills: two bytes of sides, then what is sent."""

    def run(data: bytes) -> Outcome:
        if len(data) < 2:
            return Outcome.REFUSED
        width, height = 1 + data[0] % 80, 1 + data[1] % 80
        try:
            picture = decode_av1(data[2:], width, height)
        except BitstreamError:
            return Outcome.REFUSED
        same("shape of the picture", (picture.shape, picture.dtype), ((height, width, 3), np.uint8))
        return Outcome.DECODED

    seeds = []
    for seed, (width, height) in enumerate(((16, 16), (48, 80), (33, 7))):
        for quantizer in (20, 50) if seed == 1 else (40,):
            picture = picture_of(height, width, seed)
            smooth = (np.indices((height, width)).sum(0)[..., None] + np.zeros(3)).astype(np.uint8)
            sides = bytes((width - 1, height - 1))
            seeds += [sides + encode_av1(samples, quantizer) for samples in (picture, smooth)]
    # A picture of its size many times over, and what the decoder holds for itself.
    return Target("av1", tuple(seeds), run, lambda _random, raw, data: data[:2] + raw(data[2:]), None, av1_memory)


def av1_memory(size: int) -> int:
    """For sides of at most 80 samples: the decoder's own threads and buffers are most of it."""
    return parse_memory(size) + 2**28


def all_targets(codec: CodecModel, conditional: ConditionalModel, picture_of: Pictures) -> dict[str, Target]:
    """Every target by its name."""
    targets = (
        still_target(codec, picture_of),
        stream_target(),
        sequence_target(),
        plates_target(),
        container_target(codec, picture_of),
        coder_target(codec),
        conditional_target(conditional),
        av1_target(picture_of),
    )
    return {target.name: target for target in targets}
