from __future__ import annotations

import pytest
from stream_film import FRAMES, capture_ns, film, seen

from actors.registry import load_tasks, register
from actors.route import MAX_PACKETS, RouteStage, Tally, split
from discover_stream.codec.any_packet import any_packet_bytes
from discover_stream.codec.packet import (
    Packet,
    PacketAtom,
    PacketRegion,
    packet_bytes,
    parse_packet,
    route,
    task_key,
)
from discover_stream.codec.stream_apply import apply
from discover_stream.codec.stream_coding import parse_stream_packet
from discover_stream.codec.stream_packet import StreamPacket, route_stream
from discover_stream.codec.stream_state import StreamState
from discover_stream.types import BitstreamError, Box
from topics.catalogue import ARCHIVE, DEAD, PLATES, task_topic
from topics.log import lag
from topics.messages import DeadMessage, decode_as, encode
from topics.plates import plate_message
from topics.sqlite_stage import SqliteStage

VEHICLES, PEDESTRIANS = task_key("vehicles", 1), task_key("pedestrians", 1)


def packet(seq: int, tasks: tuple[int, ...] = (VEHICLES, PEDESTRIANS)) -> Packet:
    """Two tasks: an atom each and a shared one; a region each."""
    order = tuple(sorted(tasks))
    members = range(len(order))
    regions = tuple(PacketRegion(Box(m, 0, 20 + m, 30), 40, m + 1, ((m, 7 * m),)) for m in members)
    atoms = [PacketAtom((m,), bytes([seq, m] * 9)) for m in members]
    shared = [PacketAtom(tuple(members), b"shared" + bytes([seq]))] if len(order) > 1 else []
    return Packet(b"abc", 4, seq, 0, seq * 10**8, 64, 48, order, regions, b"coarse", (*atoms, *shared))


def done(log):
    return lambda: lag(log, "stage:route-1", ARCHIVE, [1])[1] == 0


def fill(log, count: int) -> list[Packet]:
    sent = [packet(seq) for seq in range(count)]
    for item in sent:
        log.append(ARCHIVE, "gate", packet_bytes(item), partition=1)
    return sent


def received(records, log, task: str) -> list[bytes]:
    return [record.value for record in records(log, task_topic(task))]


def test_a_run_leaves_no_reader_open(log, run_until, open_readers) -> None:
    fill(log, 2)
    run_until(RouteStage(log, 1, "test"), done(log))
    assert open_readers == []


def test_each_task_gets_its_atoms_byte_for_byte(log, records, run_until) -> None:
    sent = fill(log, 12)
    router = RouteStage(log, 1, "test")
    run_until(router, done(log))
    for task, key in (("vehicles", VEHICLES), ("pedestrians", PEDESTRIANS)):
        got = received(records, log, task)
        assert got == [packet_bytes(route(item, (key,))) for item in sent]
        parsed = [parse_packet(data) for data in got]
        assert [item.seq for item in parsed] == list(range(12))
        assert all(item.tasks == (key,) and len(item.atoms) == 2 and item.coarse == b"coarse" for item in parsed)
        assert {(r.key, r.partition) for r in records(log, task_topic(task))} == {("gate", 1)}
        (tally,) = [tally for tally in router.report.tallies if tally.task == task]
        assert tally == Tally(task, "gate", 12, sum(map(len, got)), 0, 11 * 10**8)


def test_a_run_that_goes_well_counts_attempts_at_its_start_only_and_commits_batches(
    log, records, run_until, monkeypatch
) -> None:
    sent = fill(log, 5 * MAX_PACKETS)
    calls = {"record_attempt": 0, "transaction": 0}
    for name in calls:
        method = getattr(SqliteStage, name)

        def counted(self, *arguments, _name=name, _method=method):
            calls[_name] += 1
            return _method(self, *arguments)

        monkeypatch.setattr(SqliteStage, name, counted)
    run_until(RouteStage(log, 1, "test"), done(log))
    assert calls == {"record_attempt": MAX_PACKETS, "transaction": MAX_PACKETS + 4}
    assert received(records, log, "vehicles") == [packet_bytes(route(item, (VEHICLES,))) for item in sent]


def test_a_batch_ends_where_it_gets_too_large(log, records, run_until, monkeypatch) -> None:
    from actors import route as module

    large = Packet(b"abc", 4, 0, 0, 0, 64, 48, (VEHICLES,), (), bytes(400_000), ())
    monkeypatch.setattr(module, "MAX_PACKETS", 8)
    for _ in range(16):
        log.append(ARCHIVE, "gate", packet_bytes(large), partition=1)
    sizes = []
    whole = SqliteStage._commit

    def measured(self, transaction):
        sizes.append(sum(item.size for item in transaction.outgoing))
        whole(self, transaction)

    monkeypatch.setattr(SqliteStage, "_commit", measured)
    run_until(RouteStage(log, 1, "test"), done(log))
    assert len(received(records, log, "vehicles")) == 16
    assert max(sizes) <= 3 * 400_100  # the third reaches the bound
    assert len(sizes) == 8 + 3


class Killed(BaseException):
    """As sudden as a signal."""


def test_deaths_repeat_nothing_and_lose_nothing(log, records, run_until, monkeypatch) -> None:
    from actors import route as module

    fill(log, 12)
    for survives in (0, 3, 1):
        count = 0

        def dying(item, names, *more, most: int = survives):
            nonlocal count
            count += 1
            if count > most:
                raise Killed
            return split(item, names, *more)

        monkeypatch.setattr(module, "split", dying)
        with pytest.raises(Killed):
            run_until(RouteStage(log, 1, "test"), done(log))
    monkeypatch.undo()
    run_until(RouteStage(log, 1, "test"), done(log))
    for task in ("vehicles", "pedestrians"):
        assert [parse_packet(data).seq for data in received(records, log, task)] == list(range(12))


def test_the_third_death_buries(log, records, run_until, monkeypatch) -> None:
    from actors import route as module

    fill(log, 5)

    def deadly(item, names, *more):
        if item.seq == 2:
            raise Killed
        return split(item, names, *more)

    monkeypatch.setattr(module, "split", deadly)
    for _ in range(3):
        with pytest.raises(Killed):
            run_until(RouteStage(log, 1, "test"), done(log))
    run_until(RouteStage(log, 1, "test"), done(log))
    assert [parse_packet(data).seq for data in received(records, log, "vehicles")] == [0, 1, 3, 4]
    (record,) = records(log, DEAD)
    dead = decode_as(DeadMessage, record.value)
    assert (dead.topic, dead.offset, dead.deaths) == (ARCHIVE, 2, 3)


def test_damaged_packets_and_unknown_tasks_are_buried_at_once(log, records, run_until) -> None:
    data = bytearray(packet_bytes(packet(0)))
    data[-1] ^= 1
    log.append(ARCHIVE, "gate", bytes(data), partition=1)
    log.append(ARCHIVE, "gate", packet_bytes(packet(1, (VEHICLES, 5))), partition=1)
    log.append(ARCHIVE, "gate", packet_bytes(packet(2)), partition=1)
    run_until(RouteStage(log, 1, "test"), done(log))
    assert [parse_packet(item).seq for item in received(records, log, "vehicles")] == [2]
    reasons = [decode_as(DeadMessage, record.value).reason for record in records(log, DEAD)]
    assert "checksum" in reasons[0]
    assert "0x0005" in reasons[1]


def test_a_task_that_was_stopped_still_gets_what_was_archived_for_it(log, records, run_until) -> None:
    fill(log, 3)
    register(log, load_tasks(["vehicles"]), 2, "test")
    run_until(RouteStage(log, 1, "test"), done(log))
    assert len(received(records, log, "pedestrians")) == 3


def send_film(log, *seqs: int) -> list[StreamPacket]:
    order = sorted((VEHICLES, PEDESTRIANS))
    packets = [film((order[0], order[1]))[seq] for seq in seqs]
    for item in packets:
        log.append(ARCHIVE, "gate", any_packet_bytes(item), partition=1)
    return packets


def test_packets_of_a_fixed_camera_are_routed_too(log, records, run_until) -> None:
    sent = send_film(log, *range(FRAMES))
    log.append(ARCHIVE, "gate", packet_bytes(packet(FRAMES)), partition=1)
    router = RouteStage(log, 1, "test")
    run_until(router, done(log))
    for task, key in (("vehicles", VEHICLES), ("pedestrians", PEDESTRIANS)):
        got = received(records, log, task)
        assert got == [any_packet_bytes(route_stream(item, {key})) for item in sent] + got[-1:]
        position = sorted((VEHICLES, PEDESTRIANS)).index(key)
        state = StreamState()
        for seq, data in enumerate(got[:-1]):
            step = apply(state, parse_stream_packet(data))
            state = step.state
            assert step.whole
            assert set(state.tasks[key].regions()) == seen(seq, position)
    tally = next(tally for tally in router.report.tallies if tally.task == "vehicles")
    assert (tally.packets, tally.first_ns, tally.last_ns) == (FRAMES + 1, 9 * 10**8, capture_ns(FRAMES - 1))


def test_a_router_that_starts_in_the_middle_finds_the_clock_among_the_plates(log, records, run_until) -> None:
    (middle,) = send_film(log, 4)
    run_until(unknown := RouteStage(log, 1, "test"), done(log))
    assert unknown.report.packets == 1
    assert unknown.report.tallies == ()
    first = film(middle.tasks)[0]
    message = plate_message("gate", first, first.plates[0], capture_ns(0))
    log.append(PLATES, "gate/1", encode(message), partition=1)
    send_film(log, 4)
    run_until(router := RouteStage(log, 1, "test"), done(log))
    assert {(tally.packets, tally.first_ns) for tally in router.report.tallies} == {(1, capture_ns(4))}
    assert len(received(records, log, "vehicles")) == 2


def test_split_names_what_is_unknown() -> None:
    with pytest.raises(BitstreamError, match="seq 4"):
        split(packet(4), {VEHICLES: "vehicles"})


def test_no_torch_in_the_processes_without_networks() -> None:
    import subprocess
    import sys

    program = (
        "import sys, actors.remote, actors.ingest, actors.route, actors.registry, actors.supervisor, actors.system\n"
        "import discover_stream.video.source, discover_stream.semantics.labels, discover_stream.sdk\n"
        "import discover_stream.app.run, discover_stream.app.watch\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
