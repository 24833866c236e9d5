"""From an edge's log into the core's: everything once, whoever dies when, and what a spool could not hold is told."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stream_film import FRAMES, INTERVAL_NS, START_NS, film

from actors.forward import SPOOL_FULL, ForwardStage, Told, spool_gap
from actors.route import RouteStage
from discover_stream.codec.any_packet import any_packet_bytes, parse_any
from discover_stream.codec.packet import task_key
from discover_stream.codec.stream_packet import StreamPacket
from topics.catalogue import ARCHIVE, DEAD, INDEX, PLATES, CatalogueSettings, catalogue, task_topic
from topics.immutable import ImmutableTable
from topics.log import Fenced, Log, LogError, lag
from topics.messages import DeadMessage, GapMessage, IndexMessage, PlateMessage, decode, decode_as, encode
from topics.partitioner import partition_for
from topics.plates import plate_messages
from topics.reading import read_all
from topics.sqlite import SqliteLog
from topics.time_index import TimeIndex

KEYS = (task_key("vehicles", 1), task_key("pedestrians", 1))
CAMERAS = ("gate", "yard", "bridge")
HOMES = 3


@pytest.fixture
def core(tmp_path: Path) -> Iterator[SqliteLog]:
    """A core with other partitions than the edge, that knows no task."""
    with SqliteLog(tmp_path / "core.db") as opened:
        opened.create_topics(catalogue((), CatalogueSettings(partitions=HOMES)))
        yield opened


def fill(edge: Log, cameras: tuple[str, ...] = CAMERAS, frames: range = range(FRAMES)) -> None:
    """What encoding leaves in partition 0 of an edge: packets of all cameras by turns, and their plates."""
    stage = edge.stage("encode", 0, "test")
    plates = ImmutableTable(edge, PLATES, 0)
    packets = film(KEYS)
    for seq in frames:
        with stage.transaction() as transaction:
            for camera in cameras:
                for plate in plate_messages(camera, packets[seq], START_NS + seq * INTERVAL_NS):
                    plates.publish(transaction, plate)
                transaction.send(ARCHIVE, camera, any_packet_bytes(packets[seq]), partition=0)
    plates.close()
    stage.close()


def tell(edge: Log, camera: str, next_seq: int, frames: int) -> None:
    gap = GapMessage(camera=camera, from_ns=1, to_ns=2, reason="encoding fell behind", next_seq=next_seq, frames=frames)
    edge.append(INDEX, camera, encode(gap), partition=0)


def forwarded(edge: Log):
    return lambda: lag(edge, "stage:route-0", ARCHIVE, [0])[0] == 0


def held(log: Log, camera: str) -> list[int]:
    return [parse_any(record.value or b"").seq for record in read_all(log, ARCHIVE) if record.key == camera]


def gaps(log: Log, camera: str) -> list[GapMessage]:
    found = [decode(record.value or b"") for record in read_all(log, INDEX) if record.key == camera]
    return [message for message in found if isinstance(message, GapMessage)]


def check_whole(edge: Log, core: Log) -> None:
    """Every packet once, byte for byte and in order; plates before what names them; an index that finds times."""
    mine = [(record.key, record.value) for record in read_all(edge, ARCHIVE)]
    theirs = list(read_all(core, ARCHIVE))
    for camera in CAMERAS:
        here = [value for key, value in mine if key == camera]
        assert here == [record.value for record in theirs if record.key == camera]
        home = partition_for(camera, HOMES)
        assert {record.partition for record in theirs if record.key == camera} == {home}
        table = ImmutableTable(core, PLATES, home)
        assert {version for owner, version in table.versions() if owner == camera} == {1, 2}
        assert table.latest(camera) == 2
        table.close()
        index = TimeIndex(core, home, camera)
        assert index.start_for(camera, START_NS) is not None
        assert index.start_for(camera, START_NS - 10**9) is None
        index.close()
    keys = [record.key for record in read_all(core, PLATES)]
    assert sorted(key for key in keys if "/" in (key or "")) == sorted(f"{c}/{n}" for c in CAMERAS for n in (1, 2))


def test_everything_arrives_and_the_core_routes_it(log, core, run_until) -> None:
    fill(log)
    stage = ForwardStage(log, core, "site", 0, "test")
    run_until(stage, forwarded(log))
    check_whole(log, core)
    assert stage.report.packets == len(CAMERAS) * FRAMES
    assert [gap for camera in CAMERAS for gap in gaps(core, camera)] == []
    for partition in {partition_for(camera, HOMES) for camera in CAMERAS}:  # it knows the tasks' labels by now
        run_until(
            RouteStage(core, partition, "test"),
            lambda home=partition: lag(core, f"stage:route-{home}", ARCHIVE, [home])[home] == 0,
        )
    assert list(read_all(core, DEAD)) == []
    assert len(list(read_all(core, task_topic("vehicles")))) == len(CAMERAS) * FRAMES


def test_forwarding_goes_on_where_the_core_says_and_never_twice(log, core, run_until) -> None:
    fill(log, frames=range(4))
    run_until(ForwardStage(log, core, "site", 0, "test"), forwarded(log))
    with log.stage("route", 0, "test").transaction() as transaction:
        transaction.commit_offset(ARCHIVE, 0, 0)  # an edge restored from a copy believes that nothing was sent
    fill(log, frames=range(4, FRAMES))
    run_until(ForwardStage(log, core, "site", 0, "test"), forwarded(log))
    check_whole(log, core)


@pytest.mark.slow
def test_a_forwarder_that_is_killed_anywhere_loses_and_repeats_nothing(log, core) -> None:
    fill(log)
    tell(log, "gate", FRAMES + 3, 3)
    entries = [f"forward:{point}:{n}" for n in (1, 2) for point in ("after_read", "after_send", "before_commit")]
    entries += ["forward:after_commit:1", "route-0:before_commit:1", "forward:after_commit:2"]
    script = Path(__file__).with_name("forward_nursery.py")
    ran = subprocess.run(
        [sys.executable, script, f"sqlite:{log.path}", f"sqlite:{core.path}", *entries],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    endings = json.loads(ran.stdout)
    assert endings == [-signal.SIGKILL] * len(entries) + [0], ran.stderr
    check_whole(log, core)
    assert [gap.frames for gap in gaps(core, "gate")] == [3]


def test_an_outage_beyond_the_spool_is_one_gap_per_camera_and_the_rest_goes_on(log, core, run_until) -> None:
    """The core is away, the spool reaches its bound and lets its oldest go: what is left arrives, plates too."""
    fill(log, frames=range(2))
    run_until(ForwardStage(log, core, "site", 0, "test"), forwarded(log))
    fill(log, frames=range(2, FRAMES))
    tell(log, "yard", 5, 0)
    keep = 2 * len(CAMERAS) + 1  # the last two frames of each camera, and one more of the last camera
    log.trim(ARCHIVE, 0, log.bounds(ARCHIVE, 0).end - keep)  # what retention by size does
    stage = ForwardStage(log, core, "site", 0, "test")
    run_until(stage, forwarded(log))
    assert held(core, "gate") == held(core, "yard") == [0, 1, 7, 8]
    assert held(core, "bridge") == [0, 1, 6, 7, 8]
    for camera, first in (("gate", 7), ("yard", 7), ("bridge", 6)):
        (gap,) = [gap for gap in gaps(core, camera) if gap.reason == SPOOL_FULL]
        assert (gap.next_seq, gap.frames) == (first, first - 2)
        assert (gap.from_ns, gap.to_ns) == (START_NS + INTERVAL_NS, START_NS + first * INTERVAL_NS)
    assert stage.report.lost_frames == 5 + 5 + 4
    table = ImmutableTable(core, PLATES, partition_for("gate", HOMES))
    assert table.read(PlateMessage, "gate", 2) is not None, "the packet that brought it was lost, the plate was not"
    table.close()


def test_the_first_contact_after_a_long_outage_tells_what_was_never_sent(log, core, run_until) -> None:
    fill(log)
    log.trim(ARCHIVE, 0, 4 * len(CAMERAS))
    run_until(ForwardStage(log, core, "site", 0, "test"), forwarded(log))
    assert [(gap.next_seq, gap.frames) for gap in gaps(core, "gate")] == [(4, 4)]


def test_a_core_that_is_away_stops_forwarding_and_nothing_else(log, core, run_until) -> None:
    """The core's log takes nothing: forwarding ends with an error of the log, encoding at the edge goes on."""
    fill(log, frames=range(2))
    stage = ForwardStage(log, core, "site", 0, "test")
    whole = core.stage

    def away(*arguments):
        raise LogError("log core: no answer; check the way to it")

    core.stage = away
    with pytest.raises(LogError, match="no answer"):
        stage.run()
    fill(log, frames=range(2, FRAMES))  # the encoder of the edge
    core.stage = whole
    run_until(ForwardStage(log, core, "site", 0, "test"), forwarded(log))
    check_whole(log, core)


def test_two_edges_of_one_name_never_write_side_by_side(log, core) -> None:
    fill(log, frames=range(1))
    first = ForwardStage(log, core, "site", 0, "first")
    errors: list[BaseException] = []

    def run() -> None:
        try:
            first.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not held(core, "gate"):
        time.sleep(0.01)
    core.stage("forward-site", 0, "second").close()
    fill(log, frames=range(1, 2))
    thread.join(60)
    assert isinstance(errors[0], Fenced)
    assert held(core, "gate") == [0]


def test_clocks_that_are_hours_off_change_neither_order_nor_what_is_found(log, core, run_until) -> None:
    """One camera lives two hours ago, one in two hours: each is found at its own capture times."""
    hour = 3600 * 10**9
    stage = log.stage("encode", 0, "test")
    for seq, packet in enumerate(film(KEYS)):
        with stage.transaction() as transaction:
            for camera, skew_ns in (("gate", -2 * hour), ("yard", 2 * hour)):
                at_us = (START_NS + skew_ns + seq * INTERVAL_NS) // 1000
                own = StreamPacket(
                    packet.model, seq, 0, 0, seq, packet.tasks, capture_us=at_us, size=(64, 48), base=None
                )
                transaction.send(ARCHIVE, camera, any_packet_bytes(own), partition=0)
    run_until(ForwardStage(log, core, "site", 0, "test"), forwarded(log))
    for camera, skew_ns in (("gate", -2 * hour), ("yard", 2 * hour)):
        assert held(core, camera) == list(range(FRAMES))
        index = TimeIndex(core, partition_for(camera, HOMES), camera)
        assert index.start_for(camera, START_NS + skew_ns + INTERVAL_NS) is not None
        assert index.start_for(camera, START_NS + skew_ns - hour) is None
        assert [entry.capture_ns for entry in index.camera(camera).entries] == [START_NS + skew_ns]
        index.close()
    appended = [record.timestamp_ns for record in read_all(core, ARCHIVE)]
    assert all(abs(at_ns - time.time_ns()) < hour for at_ns in appended), "records expire by the core's own clock"


def test_damaged_bytes_go_to_the_dead_records_of_the_core(log, core, run_until) -> None:
    fill(log, frames=range(2))
    log.append(ARCHIVE, "gate", b"no packet", partition=0)
    fill(log, frames=range(2, FRAMES))
    stage = ForwardStage(log, core, "site", 0, "test")
    run_until(stage, forwarded(log))
    (record,) = list(read_all(core, DEAD))
    assert decode_as(DeadMessage, record.value or b"").topic == ARCHIVE
    assert stage.report.buried == 1
    assert held(core, "gate") == list(range(FRAMES))


def told(camera: str, next_seq: int, frames: int = 1) -> GapMessage:
    return GapMessage(camera=camera, from_ns=0, to_ns=0, reason="x", next_seq=next_seq, frames=frames)


def test_what_the_edge_told_itself_is_not_lost_by_the_spool() -> None:
    gap = spool_gap("a", (5, 50), 12, 120, [told("a", 9, 3)])
    assert gap is not None
    assert (gap.frames, gap.from_ns, gap.to_ns, gap.next_seq) == (4, 50, 120, 12)
    assert spool_gap("a", (5, 50), 12, 120, [told("a", 9, 3), told("a", 12, 4)]) is None
    assert spool_gap("a", (5, 50), 5, 60, []) is None
    assert spool_gap("a", (5, 50), 8, 60, [told("a", 5, 3), told("a", 9, 3)]).frames == 3  # neither lies between


def test_gaps_follow_the_packets_before_them_in_the_order_of_the_index() -> None:
    waiting = Told(end=7)
    waiting.waiting.extend([(3, told("a", 5)), (4, told("b", 2)), (6, told("a", 9))])
    assert waiting.due({"a": (4, 0), "b": (9, 0)}, drained=False) == []
    assert waiting.position == 3
    assert [gap.next_seq for gap in waiting.due({"a": (6, 0), "b": (9, 0)}, drained=False)] == [5, 2]
    assert waiting.position == 6
    assert len(waiting.due({}, drained=True)) == 1
    assert waiting.position == 7


def test_entries_of_the_index_point_into_the_core_and_not_into_the_edge(log, core, run_until) -> None:
    core.append(ARCHIVE, "other", b"x", partition=partition_for("gate", HOMES))
    fill(log, ("gate",))
    run_until(ForwardStage(log, core, "site", 0, "test"), forwarded(log))
    entries = [decode(record.value or b"") for record in read_all(core, INDEX)]
    assert [entry.archive_offset for entry in entries if isinstance(entry, IndexMessage)] == [1]
