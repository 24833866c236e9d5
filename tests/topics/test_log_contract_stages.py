"""What every backend of the log must do with stages: transactions, fencing, death, several processes."""

# A transaction is a block, and its end is what raises:
# ruff: noqa: PT012

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from log_backends import SPAWN, Backend, in_child, values

from topics import open_log
from topics.log import (
    AtOffset,
    Fenced,
    Log,
    LogError,
    Record,
)

# --- transactions -----------------------------------------------------------------------------------------


def test_output_offset_and_state_commit_together(log: Log) -> None:
    stage = log.stage("encode", 1, "first")
    assert (stage.transactional_id, stage.state, dict(stage.offsets)) == ("encode-1", None, {})
    for number in range(3):
        with stage.transaction() as tx:
            tx.send("out", "k", b"o%d" % number, partition=1)
            tx.send("other", "k", b"x%d" % number, partition=number)
            tx.commit_offset("in", 1, number + 1)
            tx.set_state(b"s%d" % number)
            assert values(log, "out") == [b"o%d" % earlier for earlier in range(number)], "read uncommitted"
        assert (stage.state, dict(stage.offsets)) == (b"s%d" % number, {("in", 1): number + 1})
    again = log.stage("encode", 1, "second")
    assert (again.state, dict(again.offsets)) == (b"s2", {("in", 1): 3})
    assert log.committed(again.group, "in", 1) == 3
    assert values(log, "out", 1) == [b"o0", b"o1", b"o2"]
    assert [values(log, "other", partition) for partition in range(3)] == [[b"x0"], [b"x1"], [b"x2"]]


def test_abort_leaves_nothing(log: Log) -> None:
    stage = log.stage("encode", 0, "a")
    with stage.transaction() as tx:
        tx.commit_offset("in", 0, 1)
        tx.set_state(b"good")
    with pytest.raises(ZeroDivisionError), stage.transaction() as tx:
        tx.send("out", "k", b"bad")
        tx.send("other", "k", b"bad")
        tx.commit_offset("in", 0, 2)
        tx.set_state(b"bad")
        raise ZeroDivisionError
    for seen in (stage, log.stage("encode", 0, "b")):
        assert (seen.state, dict(seen.offsets)) == (b"good", {("in", 0): 1})
    assert values(log, "out") + values(log, "other") == []


def test_transactions_end_with_their_block_and_do_not_nest(log: Log) -> None:
    stage = log.stage("encode", 0, "a")
    with stage.transaction() as tx:
        with pytest.raises(LogError, match="open already"), stage.transaction():
            pass
        with pytest.raises(LogError, match="attempt"):
            stage.record_attempt("in", 0, 0)
        tx.send("out", "k", b"1")
    for late in (
        lambda: tx.send("out", "k", b"2"),
        lambda: tx.commit_offset("in", 0, 1),
        lambda: tx.set_state(b""),
    ):
        with pytest.raises(LogError, match="ended"):
            late()
    with stage.transaction() as tx:
        tx.send("out", "k", b"3")
    assert values(log, "out") == [b"1", b"3"]


def test_stages_are_apart_by_name_and_partition(log: Log) -> None:
    stages = {(name, number): log.stage(name, number, "a") for name in ("x", "x-1") for number in (0, 1)}
    for (name, number), stage in stages.items():
        with stage.transaction() as tx:
            tx.set_state(f"{name} {number}".encode())
            tx.commit_offset("in", 0, 10 * number + len(name))
    for name, number in stages:
        again = log.stage(name, number, "b")
        assert again.state == f"{name} {number}".encode()
        assert dict(again.offsets) == {("in", 0): 10 * number + len(name)}
    for name, number in (("", 0), ("a\n", 0), ("a", -1)):
        with pytest.raises(LogError):
            log.stage(name, number, "a")


def test_zombie_commit_is_fenced(log: Log) -> None:
    zombie = log.stage("encode", 0, "zombie")
    with zombie.transaction() as tx:
        tx.set_state(b"old")
    neighbour = log.stage("encode", 1, "neighbour")
    with pytest.raises(Fenced, match=r"zombie.*heir"), zombie.transaction() as tx:
        tx.send("out", "k", b"zombie")
        tx.commit_offset("in", 0, 9)
        tx.set_state(b"zombie")
        heir = log.stage("encode", 0, "heir")
    with pytest.raises(Fenced), zombie.transaction():
        pass
    with pytest.raises(Fenced):
        zombie.record_attempt("in", 0, 0)
    assert (heir.state, dict(heir.offsets)) == (b"old", {})
    with heir.transaction() as tx:
        tx.send("out", "k", b"heir", partition=0)
    with neighbour.transaction() as tx:
        tx.send("out", "k", b"neighbour", partition=0)
    assert values(log, "out") == [b"heir", b"neighbour"]


def _acquire(url: str) -> None:
    with open_log(url) as log:
        log.stage("encode", 0, "other process")


def test_zombie_is_fenced_by_another_process(log: Log, url: str) -> None:
    zombie = log.stage("encode", 0, "zombie")
    with pytest.raises(Fenced, match="other process"), zombie.transaction() as tx:
        tx.send("out", "k", b"zombie")
        assert in_child(_acquire, url) == 0
    assert values(log, "out") == []


def _die_inside(url: str) -> None:
    with open_log(url) as log:
        stage = log.stage("encode", 0, "victim")
        with stage.transaction() as tx:
            tx.send("out", "k", b"committed", partition=0)
            tx.commit_offset("in", 0, 1)
            tx.set_state(b"committed")
        assert stage.record_attempt("in", 0, 1) == 1
        with stage.transaction() as tx:
            tx.send("out", "k", b"lost", partition=0)
            tx.send("other", "k", bytes(1_000_000), partition=0)
            tx.commit_offset("in", 0, 2)
            tx.set_state(b"lost")
            os.kill(os.getpid(), signal.SIGKILL)


def test_death_between_send_and_commit_leaves_nothing(log: Log, url: str) -> None:
    assert in_child(_die_inside, url) == -signal.SIGKILL
    with open_log(url) as reopened:
        stage = reopened.stage("encode", 0, "heir")
        assert (stage.state, dict(stage.offsets)) == (b"committed", {("in", 0): 1})
        assert values(reopened, "out") == [b"committed"]
        assert values(reopened, "other") == []
        assert stage.record_attempt("in", 0, 1) == 2, "the attempt survives the process that died in it"


def test_an_attempt_can_be_taken_back(log: Log) -> None:
    stage = log.stage("encode", 0, "a")
    assert [stage.record_attempt("in", 0, 5) for _ in range(2)] == [1, 2]
    stage.forget_attempt("in", 0, 5)
    stage.forget_attempt("in", 0, 6)  # never counted: nothing to take back
    assert stage.record_attempt("in", 0, 5) == 2
    assert stage.record_attempt("in", 0, 6) == 1
    heir = log.stage("encode", 0, "b")
    with pytest.raises(Fenced):
        stage.forget_attempt("in", 0, 5)
    assert heir.record_attempt("in", 0, 5) == 3


def test_attempts_count_per_offset_until_a_commit_passes(log: Log) -> None:
    stage = log.stage("encode", 0, "a")
    assert [stage.record_attempt("in", 0, 5) for _ in range(2)] == [1, 2]
    assert stage.record_attempt("in", 1, 5) == 1
    assert stage.record_attempt("in", 0, 6) == 1
    stage = log.stage("encode", 0, "b")
    with stage.transaction() as tx:
        tx.commit_offset("in", 0, 5)
    assert stage.record_attempt("in", 0, 5) == 3
    with stage.transaction() as tx:
        tx.send("out", "k", b"to dead")
        tx.commit_offset("in", 0, 6)
    assert stage.record_attempt("in", 0, 5) == 1
    assert stage.record_attempt("in", 0, 6) == 2
    assert stage.record_attempt("in", 1, 5) == 2
    assert log.stage("other", 0, "c").record_attempt("in", 0, 6) == 1


# --- several processes ------------------------------------------------------------------------------------


def _produce(url: str, name: str, count: int) -> None:
    with open_log(url) as log:
        stage = log.stage("ingest." + name, 0, name)
        for number in range(count):
            if number % 2:
                log.append("in", name, f"{name} {number}".encode(), partition=0)
                continue
            with stage.transaction() as tx:
                tx.send("in", name, f"{name} {number}".encode(), partition=0)
                tx.send("other", name, f"{name} {number}".encode(), partition=1)


def test_producers_in_several_processes_keep_their_order(log: Log, url: str, backend: Backend) -> None:
    names, count = ["a", "b", "c"], 60
    processes = [SPAWN.Process(target=_produce, args=(url, name, count)) for name in names]
    for process in processes:
        process.start()
    reader = log.reader("in", [0])
    found: list[Record] = []
    while len(found) < len(names) * count:
        batch = reader.poll(timeout_s=30)
        assert batch, "producers fell silent"
        found += batch
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert reader.poll() == []
    for name in names:
        assert [r.value for r in found if r.key == name] == [f"{name} {n}".encode() for n in range(count)]
    offsets = [record.offset for record in found]
    assert offsets == sorted(set(offsets))
    if backend.dense:
        assert offsets == list(range(len(names) * count))
    assert [r.timestamp_ns for r in found] == sorted(r.timestamp_ns for r in found)


def _transfer(url: str) -> None:
    """A stage that dies by itself now and then: copies `in` to `out` and counts in its state."""
    with open_log(url) as log:
        stage = log.stage("copy", 0, f"pid {os.getpid()}")
        reader = log.reader("in", [0], start=AtOffset(stage.offsets.get(("in", 0), 0)))
        for step in range(100):
            batch = reader.poll(max_records=3)
            if not batch:
                return
            with stage.transaction() as tx:
                count = int(stage.state or b"0")
                for record in batch:
                    count += 1
                    tx.send("out", record.key, (record.value or b"") + b" is %d" % count, partition=0)
                tx.set_state(b"%d" % count)
                if step == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                tx.commit_offset("in", 0, batch[-1].offset + 1)


def test_a_stage_killed_again_and_again_is_exactly_once(log: Log, url: str) -> None:
    total = 14
    for number in range(total):
        log.append("in", "k", b"%d" % number, partition=0)
    codes = []
    while not codes or codes[-1] != 0:
        codes.append(in_child(_transfer, url))
        assert len(codes) < 10
    assert codes.count(-signal.SIGKILL) == len(codes) - 1 > 0
    assert values(log, "out", 0) == [b"%d is %d" % (number, number + 1) for number in range(total)]


def _run_until_killed(url: str) -> None:
    with open_log(url) as log:
        stage = log.stage("count", 0, f"pid {os.getpid()}")
        while True:
            done = int(stage.state or b"0")
            with stage.transaction() as tx:
                tx.send("out", "k", b"%d" % done, partition=0)
                tx.send("other", "k", b"%d" % done + bytes(20_000), partition=done % 3)
                tx.set_state(b"%d" % (done + 1))
                tx.commit_offset("in", 0, done + 1)


def test_kills_at_any_moment_keep_outputs_offsets_and_state_together(log: Log, url: str) -> None:
    for _ in range(3):
        before = log.bounds("out", 0).end
        process = SPAWN.Process(target=_run_until_killed, args=(url,))
        process.start()
        while log.bounds("out", 0).end < before + 5:
            time.sleep(0.001)
            assert process.is_alive()
        time.sleep(random.uniform(0, 0.03))
        process.kill()
        process.join()
        stage = log.stage("count", 0, "check")
        done = int(stage.state or b"0")
        assert dict(stage.offsets) == {("in", 0): done}
        assert values(log, "out", 0) == [b"%d" % number for number in range(done)]
        assert sum(len(values(log, "other", partition)) for partition in range(3)) == done


def _subscribe_and_die(url: str) -> None:
    with open_log(url) as log:
        reader = log.reader("in", [0], group="viewer")
        reader.poll(max_records=4)
        reader.commit()
        reader.poll(max_records=4)
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_subscriber_misses_nothing(log: Log, url: str) -> None:
    for number in range(10):
        log.append("in", "k", b"%d" % number, partition=0)
    assert in_child(_subscribe_and_die, url) == -signal.SIGKILL
    rest = log.reader("in", [0], group="viewer").poll()
    assert [item.value for item in rest] == [b"%d" % number for number in range(4, 10)]
