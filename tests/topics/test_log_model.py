"""Any sequence of operations does to a log what it does to a list in memory."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from topics import open_log
from topics.log import AtOffset, Bounds, Fenced, Gap, Log, Reader, Record, Stage, TopicSpec
from topics.partitioner import partition_for

PARTITIONS = 2
TOPICS = {"plain": False, "table": True}
STAGES = [("encode", 0), ("encode", 1), ("route", 0)]

topics = st.sampled_from(sorted(TOPICS))
partitions = st.integers(0, PARTITIONS - 1)
sends = st.lists(
    st.tuples(topics, st.sampled_from(["a", "b", "c/1"]), st.binary(max_size=20), st.none() | partitions),
    max_size=4,
)


@dataclass
class ModelPartition:
    kept: list[tuple[int, str, bytes | None]] = field(default_factory=list)
    start: int = 0
    end: int = 0


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
    """Run against one backend, named by a class attribute."""

    kind: ClassVar[str] = "sqlite"
    holders = Bundle("holders")

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.log: Log = open_log(f"{self.kind}:{self.folder / 'log.db'}")
        self.logs = [self.log]
        self.log.create_topics(TopicSpec(name, PARTITIONS, compacted=c) for name, c in TOPICS.items())
        self.log.create_topics([TopicSpec("state", 1, compacted=True)])
        self.parts = {(name, p): ModelPartition() for name in TOPICS for p in range(PARTITIONS)}
        self.stages = {name: ModelStage() for name in STAGES}
        self.group: dict[tuple[str, int], int] = {}
        self.reader: Reader = self.log.reader("plain")
        self.positions = dict.fromkeys(range(PARTITIONS), 0)

    def write(self, topic: str, key: str, value: bytes | None, partition: int | None) -> int:
        part = self.parts[topic, partition_for(key, PARTITIONS) if partition is None else partition]
        part.kept.append((part.end, key, value))
        part.end += 1
        return part.end - 1

    @rule(
        topic=topics,
        key=st.sampled_from("ab"),
        value=st.binary(max_size=20),
        partition=st.none() | partitions,
    )
    def append(self, topic: str, key: str, value: bytes, partition: int | None) -> None:
        assert self.log.append(topic, key, value, partition=partition) == self.write(topic, key, value, partition)

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

    @rule(topic=topics, partition=partitions, before=st.integers(0, 12))
    def trim(self, topic: str, partition: int, before: int) -> None:
        part = self.parts[topic, partition]
        left = [item for item in part.kept if item[0] >= before]
        assert self.log.trim(topic, partition, before) == len(part.kept) - len(left)
        part.kept, part.start = left, min(max(part.start, before), part.end)

    @rule()
    def maintain(self) -> None:
        self.log.maintain()
        for (topic, _), part in self.parts.items():
            if TOPICS[topic]:
                latest = {key: offset for offset, key, _ in part.kept}
                part.kept = [item for item in part.kept if latest[item[1]] == item[0]]

    @rule(room=st.integers(1, 5))
    def poll(self, room: int) -> None:
        for item in self.reader.poll(max_records=room):
            part = self.parts["plain", item.partition]
            position = self.positions[item.partition]
            if isinstance(item, Gap):
                assert (item.from_offset, item.to_offset) == (position, part.start)
                self.positions[item.partition] = part.start
                continue
            assert (item.offset, item.key, item.value) == next(x for x in part.kept if x[0] >= position)
            self.positions[item.partition] = item.offset + 1
        assert dict(self.reader.positions) == self.positions

    @rule(topic=topics, partition=partitions)
    def commit_position(self, topic: str, partition: int) -> None:
        position = self.parts[topic, partition].end
        self.log.reader(topic, [partition], group="g").commit({partition: position})
        self.group[topic, partition] = position

    @rule()
    def open_again(self) -> None:
        """Like another process would: holders and readers of before go on beside it."""
        self.log = open_log(f"{self.kind}:{self.folder / 'log.db'}")
        self.logs.append(self.log)
        reader = self.log.reader("plain")
        for partition, position in self.positions.items():
            reader.seek(partition, position)
        self.reader = reader

    @invariant()
    def same(self) -> None:
        for (topic, partition), part in self.parts.items():
            assert self.log.bounds(topic, partition) == Bounds(part.start, part.end)
            assert self.log.committed("g", topic, partition) == self.group.get((topic, partition))
            found = self.log.reader(topic, [partition], start=AtOffset(part.start)).poll()
            assert [(r.offset, r.key, r.value) for r in found if isinstance(r, Record)] == part.kept
            assert len(found) == len(part.kept)

    def teardown(self) -> None:
        for log in self.logs:
            log.close()
        shutil.rmtree(self.folder)


LogMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestSqliteLog = LogMachine.TestCase
