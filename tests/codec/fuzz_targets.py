"""What is fuzzed: readers of bytes from elsewhere, each with seeds, its kind of damage, and what must hold.

What must hold for any bytes whatever: a reader answers, or raises the one error that is meant for it; and what it
accepts is the one form of what it says, so writing that again gives the same
bytes. `make fuzz` and the suite share this.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import torch
from fuzz_mutators import (
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
from fuzz_strings import atom_target, av1_target, coder_target
from fuzz_target import Outcome, Pictures, Target, parse_memory, same
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
from discover_stream.codec.bits import BitWriter
from discover_stream.codec.conditional import write_strings
from discover_stream.codec.container import DsvFramer, DsvReader
from discover_stream.codec.framing import MAX_TASKS, task_key
from discover_stream.codec.latent import (
    CoarseState,
    atoms_base,
    decode_atom_mask,
    decode_atom_symbols,
    decode_coarse,
    window_of,
    z_grid,
)
from discover_stream.codec.mask import write_mask
from discover_stream.codec.model import CodecModel
from discover_stream.codec.packet import Packet, packet_bytes, parse_packet
from discover_stream.codec.still import decode_packet, encode_frame
from discover_stream.codec.stream import MAX_BODY, MAX_LABELS, StreamInfo, StreamTask, header_bytes, parse_body
from discover_stream.codec.stream_apply import apply
from discover_stream.codec.stream_coding import parse_stream_packet, stream_packet_bytes
from discover_stream.codec.stream_packet import MAX_PACKET_CELLS, StreamPacket, route_stream, thinned
from discover_stream.codec.stream_state import StreamState, capture_ns
from discover_stream.types import BitstreamError, Box, Frame, InputError, Region

MOST_PACKETS = 4
"""In one input of a stream."""
KEYS = {"a": task_key("a", 1), "b": task_key("b", 2)}


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

    # A full picture of symbols (8 bytes each), what z and context say of them, and what sorting them takes: 16 arrays.
    cells, channels = 2**25 // 256, codec.network.config.y_channels
    return Target("still", seeds, run, bent_still, intact, lambda n: parse_memory(n) + 16 * 8 * cells * channels)


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
    coarse = CoarseState(packet.quality, nothing, nothing, *codec.scales.base_rows([z]))
    sent = np.zeros((rows, columns), dtype=bool)
    for atom in packet.atoms:
        mask, string = decode_atom_mask(atom.payload, rows, columns)
        if (sent & mask).any():
            raise BitstreamError("two atoms hold the same cell")
        sent |= mask
        symbols = decode_atom_symbols(codec, coarse, string, mask)
        writer = BitWriter()
        write_mask(writer, mask)
        window = window_of(mask)
        same("cells outside the atom", bool(symbols[:, ~window.mask].any()), False)
        shapes, base = [window.shape(packet.quality)], atoms_base(codec, coarse, [mask])
        same("atom coded again", writer.bytes() + write_strings(codec, shapes, base, [symbols])[0], atom.payload)


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


def all_targets(codec: CodecModel, picture_of: Pictures) -> dict[str, Target]:
    """Every target by its name."""
    targets = (
        still_target(codec, picture_of),
        stream_target(),
        sequence_target(),
        plates_target(),
        container_target(codec, picture_of),
        coder_target(codec),
        atom_target(codec),
        av1_target(picture_of),
    )
    return {target.name: target for target in targets}
