"""Any sequence of operations does to a log what it does to a list in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from topics import open_log
from topics.log import AtOffset, Fenced, Gap, Log, Reader, Record, Stage, TopicSpec
from topics.partitioner import partition_for

PARTITIONS = 2
TOPICS = {"plain": False, "table": True}
STAGES = [("encode", 0), ("encode", 1), ("route", 0)]

topics = st.sampled_from(sorted(TOPICS))
trimmable = st.sampled_from(sorted(set(TOPICS) - {"table"}))
partitions = st.integers(0, PARTITIONS - 1)
sends = st.lists(
    st.tuples(topics, st.sampled_from(["a", "b", "c/1"]), st.binary(max_size=20), st.none() | partitions),
    max_size=4,
)


@dataclass
class ModelRecord:
    """`offset` is None until the record has been seen, for those that a transaction wrote."""

    key: str
    value: bytes | None
    offset: int | None = None


@dataclass
class ModelPartition:
    """`kept` is what a reader sees from `start` on, `trimmed` what it may have fetched before it went."""

    kept: list[ModelRecord] = field(default_factory=list)
    trimmed: list[ModelRecord] = field(default_factory=list)
    start: int = 0


@dataclass
class ModelStage:
    epoch: int = 0
    state: bytes | None = None
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    attempts: dict[tuple[str, int, int], int] = field(default_factory=dict)


@dataclass
class Holder:
    name: tuple[str, int]
    epoch: int
    stage: Stage


class LogMachine(RuleBasedStateMachine):
    """Run against one backend, which makes a fresh address for every run.

    `dense`: offsets have no holes, `maintain` compacts at once, and readers fetch nothing ahead.
    """

    holders = Bundle("holders")

    def __init__(self, fresh_url: Callable[[], str], dense: bool) -> None:
        super().__init__()
        self.url = fresh_url()
        self.dense = dense

    @initialize()
    def open(self) -> None:
        self.log: Log = open_log(self.url)
        self.logs = [self.log]
        self.log.create_topics(
            [
                *(TopicSpec(name, PARTITIONS, compacted=c) for name, c in TOPICS.items()),
                TopicSpec("state", 1, compacted=True),
            ]
        )
        self.parts = {(name, p): ModelPartition() for name in TOPICS for p in range(PARTITIONS)}
        self.stages = {name: ModelStage() for name in STAGES}
        self.group: dict[tuple[str, int], int] = {}
        self.reader: Reader = self.log.reader("plain")
        self.positions = dict.fromkeys(range(PARTITIONS), 0)

    def write(self, topic: str, key: str, value: bytes | None, partition: int | None) -> ModelRecord:
        part = self.parts[topic, partition_for(key, PARTITIONS) if partition is None else partition]
        part.kept.append(ModelRecord(key, value))
        return part.kept[-1]

    @rule(
        topic=topics,
        key=st.sampled_from("ab"),
        value=st.binary(max_size=20),
        partition=st.none() | partitions,
    )
    def append(self, topic: str, key: str, value: bytes, partition: int | None) -> None:
        self.write(topic, key, value, partition).offset = self.log.append(topic, key, value, partition=partition)

    @rule(key=st.sampled_from("ab"), partition=partitions)
    def tombstone(self, key: str, partition: int) -> None:
        self.log.append("table", key, None, partition=partition)
        self.write("table", key, None, partition)

    @rule(target=holders, name=st.sampled_from(STAGES))
    def acquire(self, name: tuple[str, int]) -> Holder:
        stage = self.log.stage(*name, owner="test")
        model = self.stages[name]
        model.epoch += 1
        assert (stage.state, dict(stage.offsets)) == (model.state, model.offsets)
        return Holder(name, model.epoch, stage)

    @rule(
        holder=holders,
        sends=sends,
        offset=st.none() | st.tuples(topics, partitions, st.integers(0, 9)),
        state=st.none() | st.binary(max_size=9),
        abort=st.booleans(),
    )
    def transact(
        self,
        holder: Holder,
        sends: list[tuple[str, str, bytes, int | None]],
        offset: tuple[str, int, int] | None,
        state: bytes | None,
        abort: bool,
    ) -> None:
        model = self.stages[holder.name]
        fenced = holder.epoch != model.epoch
        expected = ZeroDivisionError if abort else Fenced if fenced else None
        try:
            with holder.stage.transaction() as tx:
                for topic, key, value, partition in sends:
                    tx.send(topic, key, value, partition=partition)
                if offset is not None:
                    tx.commit_offset(*offset)
                if state is not None:
                    tx.set_state(state)
                if abort:
                    raise ZeroDivisionError
        except (ZeroDivisionError, Fenced) as error:
            raised: type[Exception] | None = type(error)
        else:
            raised = None
        assert raised is expected
        if raised is None:
            for topic, key, value, partition in sends:
                self.write(topic, key, value, partition)
            if state is not None:
                model.state = state
            if offset is not None:
                model.offsets[offset[:2]] = offset[2]
                for place in [p for p in model.attempts if p[:2] == offset[:2] and p[2] < offset[2]]:
                    del model.attempts[place]
        if not fenced:
            assert (holder.stage.state, dict(holder.stage.offsets)) == (model.state, model.offsets)

    @rule(holder=holders, topic=topics, partition=partitions, offset=st.integers(0, 9))
    def attempt(self, holder: Holder, topic: str, partition: int, offset: int) -> None:
        model = self.stages[holder.name]
        if holder.epoch != model.epoch:
            with pytest.raises(Fenced):
                holder.stage.record_attempt(topic, partition, offset)
            return
        place = (topic, partition, offset)
        model.attempts[place] = model.attempts.get(place, 0) + 1
        assert holder.stage.record_attempt(*place) == model.attempts[place]

    @rule(topic=trimmable, partition=partitions, gone=st.integers(0, 6))
    def trim(self, topic: str, partition: int, gone: int) -> None:
        part = self.parts[topic, partition]
        gone = min(gone, len(part.kept))
        before = part.kept[gone].offset if gone < len(part.kept) else self.log.bounds(topic, partition).end
        assert before is not None
        removed = self.log.trim(topic, partition, before)
        assert removed == gone if self.dense else removed >= gone
        part.trimmed += part.kept[:gone]
        part.kept = part.kept[gone:]
        part.start = self.log.bounds(topic, partition).start
        assert part.start >= before

    @rule()
    def maintain(self) -> None:
        self.log.maintain()
        for (topic, _), part in self.parts.items():
            if TOPICS[topic] and self.dense:
                latest = {record.key: record.offset for record in part.kept}
                part.kept = [record for record in part.kept if latest[record.key] == record.offset]

    @rule(room=st.integers(1, 5))
    def poll(self, room: int) -> None:
        for item in self.reader.poll(max_records=room):
            part = self.parts["plain", item.partition]
            position = self.positions[item.partition]
            if isinstance(item, Gap):
                assert (item.from_offset, item.to_offset) == (position, part.start)
                self.positions[item.partition] = part.start
                continue
            held = part.kept if self.dense else part.trimmed + part.kept
            expected = next(x for x in held if x.offset is not None and x.offset >= position)
            assert (item.offset, item.key, item.value) == (expected.offset, expected.key, expected.value)
            self.positions[item.partition] = item.offset + 1
        for number, position in self.reader.positions.items():
            part = self.parts["plain", number]
            assert position >= self.positions[number]
            passed = [x for x in part.kept if x.offset is not None and self.positions[number] <= x.offset < position]
            assert passed == [], "a position moves over holes only"
            assert position == self.positions[number] or not self.dense
            self.positions[number] = position

    @rule(topic=topics, partition=partitions)
    def commit_position(self, topic: str, partition: int) -> None:
        position = self.log.bounds(topic, partition).end
        self.log.reader(topic, [partition], group="g").commit({partition: position})
        self.group[topic, partition] = position

    @rule()
    def open_again(self) -> None:
        """Like another process would: holders and readers of before go on beside it."""
        self.log = open_log(self.url)
        self.logs.append(self.log)
        reader = self.log.reader("plain")
        for partition, position in self.positions.items():
            reader.seek(partition, position)
        self.reader = reader

    @invariant()
    def same(self) -> None:
        for (topic, partition), part in self.parts.items():
            held = self.log.bounds(topic, partition)
            assert held.start == part.start
            assert self.log.committed("g", topic, partition) == self.group.get((topic, partition))
            reader = self.log.reader(topic, [partition], start=AtOffset(part.start))
            found: list[Record | Gap] = []
            while batch := reader.poll():
                found += batch
            reader.close()
            assert [(r.key, r.value) for r in found if isinstance(r, Record)] == [(r.key, r.value) for r in part.kept]
            assert len(found) == len(part.kept)
            last = part.start - 1
            for seen, record in zip(found, part.kept, strict=True):
                assert isinstance(seen, Record)
                assert record.offset in (None, seen.offset)
                assert seen.offset > last
                record.offset = last = seen.offset
            everything = part.trimmed + part.kept
            assert held.end > last
            assert held.end == last + 1 or not part.kept or (self.dense and TOPICS[topic]), "lag could not reach 0"
            if self.dense and not TOPICS[topic]:
                assert [record.offset for record in everything] == list(range(held.end))

    def teardown(self) -> None:
        for log in self.logs:
            log.close()


def run(fresh_url: Callable[[], str], dense: bool, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        lambda: LogMachine(fresh_url, dense),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def test_the_embedded_log_does_what_a_list_does(tmp_path: Path) -> None:
    numbers = itertools.count()
    run(lambda: f"sqlite:{tmp_path / f'{next(numbers)}.db'}", dense=True, examples=40, steps=30)


@pytest.mark.slow
def test_kafka_does_what_a_list_does(kafka_url: str) -> None:
    numbers = itertools.count()
    run(lambda: f"{kafka_url}{next(numbers)}.", dense=False, examples=6, steps=12)
