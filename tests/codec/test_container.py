"""The `.dsv` file: what was written is read, every byte is accounted for, every damage is noticed."""

import dataclasses
import random
import subprocess
import sys
import tempfile
import tracemalloc
import zlib
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_film import FIRST_PLATE, film

from discover_stream.codec.any_packet import AnyPacket
from discover_stream.codec.bits import varint
from discover_stream.codec.container import (
    DsvFramer,
    DsvReader,
    DsvWriter,
    StreamInfo,
    StreamTask,
)
from discover_stream.codec.packet import (
    MAX_PACKET,
    Packet,
    PacketAtom,
    PacketRegion,
    packet_bytes,
    parse_packet,
    route,
)
from discover_stream.codec.records import Key, QuarterBox
from discover_stream.codec.stream import MAX_BODY, MAX_HEADER, checksum, header_bytes
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.types import BitstreamError, Box, InputError

MODEL = b"\x01\x02\x03"
TASKS = (
    StreamTask("vehicles", 1, ("car", "bus", "lorry")),
    StreamTask("pedestrians", 3, ("person", "child")),
)


def make_info(tasks: tuple[StreamTask, ...] = TASKS, **changes: object) -> StreamInfo:
    fields: dict[str, object] = {
        "camera": "north gate",
        "width": 64,
        "height": 48,
        "fps": Fraction(30000, 1001),
        "model": MODEL,
        "tasks": tasks,
    }
    return StreamInfo(**(fields | changes))  # type: ignore[arg-type]


def make_packet(number: int, info: StreamInfo, payload: bytes = b"atom bytes", **changes: object) -> Packet:
    """A packet for all tasks of a stream; its strings need not decode, a container does not look at them."""
    keys = tuple(sorted(info.keys.values()))
    everyone = tuple(range(len(keys)))
    fields: dict[str, object] = {
        "model": info.model,
        "quality": 4,
        "seq": number,
        "incarnation": 0,
        "capture_ns": number * 33_366_667,
        "width": info.width,
        "height": info.height,
        "tasks": keys,
        "regions": (PacketRegion(Box(3, 5, 20, 30), 40, number + 1, tuple((i, 0) for i in everyone)),),
        "coarse": b"coarse%d" % number,
        "atoms": (PacketAtom(everyone, payload), PacketAtom((0,), b"first only")),
    }
    return Packet(**(fields | changes))  # type: ignore[arg-type]


def small_file(folder: Path, frames: int = 3) -> tuple[Path, list[Packet]]:
    info = make_info()
    path = folder / "small.dsv"
    packets = [make_packet(seq, info) for seq in range(frames)]
    with DsvWriter(path, info) as writer:
        for packet in packets:
            writer.write(packet)
    return path, packets


def read_until_error(path: Path) -> tuple[list[AnyPacket], str | None]:
    """What a file delivers, and the error that ends it."""
    delivered: list[AnyPacket] = []
    try:
        with DsvReader(path) as reader:
            for record in reader:
                delivered.append(record.packet)
                assert reader.frames == len(delivered)
    except BitstreamError as error:
        return delivered, str(error)
    return delivered, None


def record_ends(path: Path) -> list[int]:
    """Offsets where each frame's record ends."""
    with DsvReader(path) as reader:
        return [record.offset + record.framing + len(record.data) for record in reader]


names = st.text(st.characters(categories=("L", "N", "Zs", "P"), exclude_characters="\u00a0"), min_size=1).filter(
    str.isprintable
)


@st.composite
def streams(draw: st.DrawFn) -> tuple[StreamInfo, list[Packet]]:
    task_names = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    tasks = tuple(
        StreamTask(name, draw(st.integers(0, 2**32 - 1)), tuple(draw(st.lists(st.text(), min_size=1, max_size=9))))
        for name in task_names
    )
    keys = {task.key for task in tasks}
    if len(keys) < len(tasks):
        tasks = tasks[:1]
    info = StreamInfo(
        draw(names),
        draw(st.integers(1, 4096)),
        draw(st.integers(1, 4096)),
        Fraction(draw(st.integers(1, 100_000)), draw(st.integers(1, 100_000))),
        draw(st.binary(min_size=3, max_size=3)),
        tasks,
    )
    seqs = sorted(draw(st.sets(st.integers(0, 2**40), max_size=4)))
    blob = st.binary(max_size=300)
    packets = [
        make_packet(
            seq,
            info,
            regions=(),
            quality=draw(st.integers(1, 8)),
            capture_ns=draw(st.integers(0, 2**63 - 1)),
            coarse=draw(blob),
            atoms=tuple(PacketAtom((i % len(tasks),), draw(blob)) for i in range(draw(st.integers(0, 4)))),
        )
        for seq in seqs
    ]
    return info, packets


@settings(deadline=None, max_examples=60)
@given(streams())
def test_what_was_written_is_read_and_every_byte_is_accounted_for(
    stream: tuple[StreamInfo, list[Packet]],
) -> None:
    info, packets = stream
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.dsv"
        with DsvWriter(path, info) as writer:
            for packet in packets:
                writer.write(packet)
        size = path.stat().st_size
        with DsvReader(path) as reader:
            assert reader.info == info
            records = list(reader)
            again = list(reader)
    assert [record.packet for record in records] == packets
    assert again == records
    assert writer.frames == len(packets)
    assert writer.size.total == size
    # header, framing and packets, and nothing else but the end record
    end = 1 + len(varint(len(packets))) + 4
    assert reader.header_size + sum(r.framing + len(r.data) for r in records) + end == size
    assert writer.size.container == reader.header_size + sum(r.framing for r in records) + end
    assert size - writer.size.container == sum(len(packet_bytes(packet)) for packet in packets)


def test_the_framer_makes_exactly_the_file(tmp_path: Path) -> None:
    path, packets = small_file(tmp_path)
    framer = DsvFramer(make_info())
    data = framer.header() + b"".join(framer.record(packet) for packet in packets) + framer.end()
    assert data == path.read_bytes()
    assert framer.size.total == len(data)


def flipped(path: Path, good: bytes, offset: int, flip: int) -> tuple[list[AnyPacket], str | None]:
    """What the file delivers while one of its bytes is another."""
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        file.write(bytes((good[offset] ^ flip,)))
        result = read_until_error(path)
        file.seek(offset)
        file.write(good[offset : offset + 1])
    return result


def test_every_flip_of_a_byte_is_noticed_and_nothing_before_it_is_lost(tmp_path: Path) -> None:
    path, packets = small_file(tmp_path)
    good = path.read_bytes()
    ends = record_ends(path)
    draw = random.Random(0)
    for offset in range(len(good)):
        whole = sum(end <= offset for end in ends)
        for flip in {1, 128, 255, 1 << draw.randrange(1, 7), draw.randrange(1, 256)}:
            delivered, error = flipped(path, good, offset, flip)
            assert error is not None, f"byte {offset} ^ {flip} went unnoticed"
            assert str(path) in error
            assert "\n" not in error
            assert delivered == packets[:whole], f"byte {offset} ^ {flip}"


def test_every_other_value_of_a_framing_byte_is_noticed(tmp_path: Path) -> None:
    path, packets = small_file(tmp_path, frames=2)
    good = path.read_bytes()
    with DsvReader(path) as reader:
        framing = [r.offset + i for r in reader for i in range(r.framing)]
        framing += range(reader.position - 6, reader.position - 3)
    for offset in framing:
        for flip in range(1, 256):
            delivered, error = flipped(path, good, offset, flip)
            assert error is not None
            assert delivered == packets[: len(delivered)]


def test_every_flip_in_a_packet_is_refused() -> None:
    data = packet_bytes(make_packet(300, make_info()))
    for offset in range(len(data)):
        for flip in range(1, 256):
            with pytest.raises(BitstreamError, match="camera north"):
                parse_packet(data[:offset] + bytes((data[offset] ^ flip,)) + data[offset + 1 :], camera="north")


def test_a_cut_at_any_byte_is_noticed_and_whole_frames_are_kept(tmp_path: Path) -> None:
    path, packets = small_file(tmp_path)
    good = path.read_bytes()
    ends = record_ends(path)
    cut = tmp_path / "cut.dsv"
    for length in range(len(good)):
        cut.write_bytes(good[:length])
        delivered, error = read_until_error(cut)
        assert error is not None, f"a cut after {length} bytes went unnoticed"
        assert delivered == packets[: sum(end <= length for end in ends)]
    cut.write_bytes(good + b"\0")
    assert read_until_error(cut)[1] is not None


def test_an_error_names_file_offset_frames_and_cause(tmp_path: Path) -> None:
    path, _ = small_file(tmp_path)
    data = bytearray(path.read_bytes())
    ends = record_ends(path)
    data[ends[1] + 20] ^= 1
    path.write_bytes(data)
    delivered, error = read_until_error(path)
    assert len(delivered) == 2
    assert error is not None
    for part in (str(path), f"byte {ends[1]}", "2 good frames", "last seq 1", "north gate", "checksum"):
        assert part in error


def test_a_writer_that_dies_leaves_every_frame_readable(tmp_path: Path) -> None:
    info = make_info()
    path = tmp_path / "live.dsv"
    writer = DsvWriter(path, info)
    written = []
    for seq in range(4):
        assert read_until_error(path)[0] == written
        written.append(make_packet(seq, info))
        writer.write(written[-1])
    writer.abandon()
    delivered, error = read_until_error(path)
    assert delivered == written
    assert error is not None
    assert "end record is missing" in error


def test_an_exception_inside_the_context_leaves_no_end_record(tmp_path: Path) -> None:
    path = tmp_path / "s.dsv"

    def failing() -> None:
        with DsvWriter(path, make_info()) as writer:
            writer.write(make_packet(0, make_info()))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    delivered, error = read_until_error(path)
    assert len(delivered) == 1
    assert error is not None


def test_an_interrupt_in_the_middle_of_a_write_keeps_the_frames_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, info = tmp_path / "s.dsv", make_info()
    writer = DsvWriter(path, info)
    writer.write(make_packet(0, info))

    def interrupted(data: bytes, kept: str = "") -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.write(make_packet(1, info))
    writer.close()
    assert writer.broken
    delivered, error = read_until_error(path)
    assert delivered == [make_packet(0, info)]
    assert "end record is missing" in str(error)


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "full.dsv"
    path.symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"full\.dsv: it cannot be written \(No space left on device\)"):
        DsvWriter(path, make_info())


def test_a_write_that_fails_half_way_keeps_the_frames_before_it(tmp_path: Path) -> None:
    # A limit on the size of files stands for a disk that fills up; it holds for the whole process.
    path = tmp_path / "limited.dsv"
    script = f"""
import resource, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
from test_container import DsvWriter, InputError, make_info, make_packet
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
writer = DsvWriter(Path({str(path)!r}), make_info())
try:
    for seq in range(100):
        writer.write(make_packet(seq, make_info(), bytes(500)))
except InputError as error:
    sys.stdout.write(str(error))
writer.close()
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    delivered, error = read_until_error(path)
    assert error is not None
    assert "end record is missing" in error
    assert [packet.seq for packet in delivered] == list(range(len(delivered)))
    assert len(delivered) == 5
    assert "frames kept: 5;" in told
    assert str(path) in told


def raw_file(path: Path, info: StreamInfo, *packets: Packet) -> Path:
    """A file with correct checksums, whatever the packets are."""
    data = header_bytes(info)
    for packet in packets:
        body = packet_bytes(packet)
        data += b"P" + varint(len(body)) + body
    data += b"E" + varint(len(packets))
    path.write_bytes(data + checksum(data).to_bytes(4, "little"))
    return path


FOREIGN = {
    "model": ({"model": b"xyz"}, "made with model"),
    "size": ({"width": 65}, "a frame of 65x48 in a stream of 64x48"),
    "seq": ({"seq": 0}, "seq 0 follows seq 0"),
    "task": ({"tasks": (1, 2), "regions": (), "atoms": ()}, "none of the stream's tasks"),
    "label": (
        {"regions": (PacketRegion(Box(0, 0, 9, 9), 1, 0, ((0, 3), (1, 3))),)},
        "label 3 is beyond its label set",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_packets_that_do_not_belong_are_refused_by_both_sides(case: str, tmp_path: Path) -> None:
    changes, cause = FOREIGN[case]
    info = make_info()
    good, foreign = make_packet(0, info), make_packet(1, info, **changes)
    with DsvWriter(tmp_path / "w.dsv", info) as writer:
        writer.write(good)
        with pytest.raises(BitstreamError, match=cause):
            writer.write(foreign)
    assert read_until_error(tmp_path / "w.dsv") == ([good], None)
    delivered, error = read_until_error(raw_file(tmp_path / "r.dsv", info, good, foreign))
    assert delivered == [good]
    assert error is not None
    assert cause in error


def test_the_end_record_counts_frames(tmp_path: Path) -> None:
    info = make_info()
    data = header_bytes(info) + b"E" + varint(3)
    path = tmp_path / "s.dsv"
    path.write_bytes(data + checksum(data).to_bytes(4, "little"))
    assert "counts 3 frames" in str(read_until_error(path)[1])


def test_sizes_are_bounded_before_anything_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "s.dsv"
    path.write_bytes(b"DSV\x01" + varint(2**50))
    with pytest.raises(BitstreamError, match=f"exceeds the bound of {MAX_HEADER}"):
        DsvReader(path)
    path.write_bytes(header_bytes(make_info()) + b"P" + varint(MAX_PACKET + 1))
    assert f"exceeds the bound of {MAX_PACKET}" in str(read_until_error(path)[1])


def test_a_header_that_unpacks_to_far_more_than_its_bound_is_refused(tmp_path: Path) -> None:
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(128)) + packer.flush()
    data = b"DSV\x01" + varint(len(packed)) + packed
    path = tmp_path / "bomb.dsv"
    path.write_bytes(data + checksum(data).to_bytes(4, "little"))
    tracemalloc.start()
    with pytest.raises(BitstreamError, match="larger than its bound"):
        DsvReader(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * MAX_BODY


@pytest.mark.parametrize(
    "body",
    [
        b"",
        msgspec.msgpack.encode([]),
        msgspec.msgpack.encode(["c", 64, 48, [25, 0], MODEL, [["t", 1, ["a"]]]]),
        msgspec.msgpack.encode(["c", 64, 48, [-25, 1], MODEL, [["t", 1, ["a"]]]]),
        msgspec.msgpack.encode(["c", 0, 48, [25, 1], MODEL, [["t", 1, ["a"]]]]),
        msgspec.msgpack.encode(["c", 64, 48, [25, 1], MODEL, []]),
        msgspec.msgpack.encode(["c", 64, 48, [25, 1], b"", [["t", 1, ["a"]]]]),
        msgspec.msgpack.encode(["c", 64, 48, [25, 1], MODEL, [["t", "1", ["a"]]]]),
        msgspec.msgpack.encode(["a\nb", 64, 48, [25, 1], MODEL, [["t", 1, ["a"]]]]),
        msgspec.msgpack.encode(["c", 64, 48, [25, 1], MODEL, [["t", 1, ["a"]]], "more"]),
    ],
)
def test_headers_that_describe_no_stream_are_refused(body: bytes, tmp_path: Path) -> None:
    packed = zlib.compress(body)
    data = b"DSV\x01" + varint(len(packed)) + packed
    path = tmp_path / "s.dsv"
    path.write_bytes(data + checksum(data).to_bytes(4, "little"))
    with pytest.raises(BitstreamError, match="does not describe a stream") as caught:
        DsvReader(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"camera": ""}, "not a name"),
        ({"camera": "two\nlines"}, "not a name"),
        ({"width": 0}, "pixels a side"),
        ({"height": 8193}, "pixels a side"),
        ({"width": 8192, "height": 8192}, "have more than"),
        ({"fps": Fraction(0)}, "frames a second"),
        ({"model": b"1234"}, "named by 3 bytes"),
        ({"tasks": ()}, "1 to 63"),
        ({"tasks": TASKS + TASKS}, "task vehicles occurs twice"),
    ],
)
def test_descriptions_outside_the_bounds_are_refused(changes: dict[str, object], cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        make_info(**changes)


def test_tasks_whose_keys_collide_are_refused() -> None:
    seen: dict[int, StreamTask] = {}
    for number in range(10_000):
        task = StreamTask(f"t{number}", 1, ("a",))
        if task.key in seen:
            with pytest.raises(InputError, match="same key"):
                make_info((seen[task.key], task))
            return
        seen[task.key] = task
    pytest.fail("no two of 10,000 names share 16 bits; the key is not what it was")


def test_only_keeps_the_tasks_asked_for_and_nothing_of_the_others() -> None:
    info = make_info()
    part = info.only(["pedestrians"])
    assert part.tasks == TASKS[1:]
    assert (part.camera, part.fps, part.model) == (info.camera, info.fps, info.model)
    assert b"lorry" not in zlib.decompress(header_bytes(part)[5:-4])
    with pytest.raises(InputError, match="unknown task 'trams'; known tasks: vehicles, pedestrians"):
        info.only(["trams"])


def test_a_routed_packet_belongs_to_the_routed_stream(tmp_path: Path) -> None:
    info = make_info()
    part = info.only(["pedestrians"])
    with DsvWriter(tmp_path / "t.dsv", part) as writer:
        writer.write(route(make_packet(0, info), part.keys.values()))
    (packet,) = read_until_error(tmp_path / "t.dsv")[0]
    assert packet.tasks == (TASKS[1].key,)


def test_missing_files_folders_and_other_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        DsvReader(tmp_path / "none.dsv")
    with pytest.raises(InputError, match="Is a directory"):
        DsvReader(tmp_path)
    other = tmp_path / "other.dsv"
    other.write_bytes(b"")
    with pytest.raises(BitstreamError, match="empty"):
        DsvReader(other)
    other.write_text("not a stream at all")
    with pytest.raises(BitstreamError, match=r"not a \.dsv file"):
        DsvReader(other)
    other.write_bytes(b"DSV\x09")
    with pytest.raises(BitstreamError, match="format version 9"):
        DsvReader(other)


def film_info() -> tuple[StreamInfo, tuple[StreamPacket, ...]]:
    """A stream of stream mode."""
    info = make_info()
    order = sorted(info.keys.values())
    return info, film((order[0], order[1]), info.model)


def film_file(folder: Path) -> tuple[Path, list[AnyPacket]]:
    """Plates alone, frames of stream mode, and one of still mode at the end."""
    info, packets = film_info()
    plate = dataclasses.replace(FIRST_PLATE, members=())
    alone = StreamPacket(info.model, 0, 0, 0, 0, (), capture_us=0, size=(64, 48), plates=(plate,))
    sent: list[AnyPacket] = [alone, *packets]
    sent.append(make_packet(20, info))
    path = folder / "film.dsv"
    with DsvWriter(path, info) as writer:
        for packet in sent:
            writer.write(packet)
    assert writer.size.total == path.stat().st_size
    assert writer.size.plates == 2 * 200
    return path, sent


def test_packets_of_both_modes_are_in_one_file(tmp_path: Path) -> None:
    path, sent = film_file(tmp_path)
    assert read_until_error(path) == (sent, None)


def test_a_cut_file_of_stream_mode_keeps_its_whole_packets(tmp_path: Path) -> None:
    path, sent = film_file(tmp_path)
    good, ends, cut = path.read_bytes(), record_ends(path), tmp_path / "cut.dsv"
    for length in range(0, len(good), 3):
        cut.write_bytes(good[:length])
        delivered, error = read_until_error(cut)
        assert error is not None
        assert delivered == sent[: sum(end <= length for end in ends)]
    for offset in range(ends[0], len(good), 7):
        delivered, error = flipped(path, good, offset, 1 << offset % 8)
        assert error is not None
        assert delivered == sent[: sum(end <= offset for end in ends)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": b"xyz"}, "made with model"),
        ({"tasks": (1, 2)}, "none of the stream's tasks"),
        ({"plates": (dataclasses.replace(FIRST_PLATE, width=80),)}, "a frame of 80x48"),
        ({"plated": (0,), "capture_us": 1, "size": (64, 64)}, "a frame of 64x64"),
        ({"keys": (Key(0, 1, QuarterBox(0, 0, 4, 4), 1, ((0, 3),)),)}, "label 3 is beyond"),
        ({"tags": ((0, (0, 7)),)}, "label 7 is beyond"),
    ],
)
def test_stream_packets_that_do_not_belong_are_not_written(changes: dict[str, object], reason: str) -> None:
    info, packets = film_info()
    framer = DsvFramer(info)
    framer.header()
    packet = dataclasses.replace(packets[0], keys=(), plates=())
    with pytest.raises(BitstreamError, match=reason):
        framer.record(dataclasses.replace(packet, **changes))  # type: ignore[arg-type]
    framer.record(packet)
    with pytest.raises(BitstreamError, match="frames must ascend"):
        framer.record(packet)
