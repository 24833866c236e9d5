"""What the system itself sees of its log, in a thread of its own: a log that does not answer keeps nobody waiting.

Once a minute it also looks after the log's retention.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from actors.cameras import CameraFollower
from actors.decisions import Running, active_tasks
from actors.frame_buffer import retry_delay_s
from actors.progress import Outage
from discover_stream.types import DiscoverError
from topics.catalogue import ARCHIVE, FRAMES, TASKS
from topics.checks import stage_group, transactional_id
from topics.log import Fenced, Log, LogError, Record, TopicSpec, UnknownTopic, lag
from topics.low_water import Caretaker
from topics.messages import TaskRecord, decode_as

_LOOK_EVERY_S = 0.2
_CHECK_EVERY_S = 10.0
_MAINTAIN_EVERY_S = 60.0
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class LogFigures:
    """Offsets between what a stage has done and the end, by partition, as of a look that began at `began_s`."""

    began_s: float = 0.0
    encode: Mapping[int, int] = field(default_factory=dict)
    route: Mapping[int, int] = field(default_factory=dict)


def behind(log: Log, stage: str, topic: str, partition: int) -> int:
    """Offsets between the position of a stage and the end: 0 when no record waits. Raises LogError."""
    return lag(log, stage_group(transactional_id(stage, partition)), topic, [partition])[partition]


class TasksOn:
    """The tasks of some partitions, followed for as long as the system runs: `now` are those that are on in any of
    them, `known` also those that were, each as it was started last."""

    def __init__(self, log: Log, partitions: Sequence[int]) -> None:
        self._reader = log.reader(TASKS, partitions)
        self._records: dict[int, list[TaskRecord]] = {partition: [] for partition in partitions}
        self.now: Mapping[str, Running] = {}
        self.known: Mapping[str, Running] = {}

    def refresh(self) -> None:
        """Take in what was written since. Raises LogError."""
        changed = False
        while items := self._reader.poll():
            for item in items:
                if isinstance(item, Record) and item.value is not None:
                    self._records[item.partition].append(decode_as(TaskRecord, item.value))
                    changed = True
        if changed:
            started = [r for records in self._records.values() for r in records if r.action == "start"]
            self.known = {record.task: Running(record.version, record.options) for record in started}
            active = [active_tasks(records) for records in self._records.values()]
            self.now = {name: on for tasks in active for name, on in tasks.items()}

    def close(self) -> None:
        """Let go of resources."""
        self._reader.close()


class TopicGone(UnknownTopic):
    """Somebody deleted a topic that the system needs: waiting does not bring it back."""


def check_topics(log: Log, names: Collection[str], patience_s: float = _PATIENCE_S) -> None:
    """Raise TopicGone for the first topic that the log does not have, LogError where it does not answer.

    What a broker says about a topic that was deleted looks like trouble that passes; it does not. A broker
    that has just started may not know its topics yet: one counts as gone when it is missing for `patience_s`.
    """
    deadline = time.monotonic() + patience_s
    while missing := sorted(set(names) - {spec.name for spec in log.topics()}):
        if time.monotonic() >= deadline:
            raise TopicGone(
                f"topic {missing[0]} is not in the log any more, somebody deleted it; start again: `discover run` "
                "creates it, and what was in it is gone"
            )
        time.sleep(0.5)


class LogView:
    """Looks at the log all the time. `tell` gets a line when it stops answering, and when it answers again.

    `topics` are those that have to be there, `used` the partitions that stages work on.
    """

    def __init__(self, log: Log, topics: Sequence[TopicSpec], used: Iterable[int], tell: Callable[[str], None]) -> None:
        self._log, self._used, self._tell = log, frozenset(used), tell
        self._names = [spec.name for spec in topics]
        partitions = next(spec.partitions for spec in topics if spec.name == FRAMES)
        self._caretaker = Caretaker(log, partitions, tell=tell)
        self.tasks = TasksOn(log, range(partitions))
        self.cameras = CameraFollower(log)
        self._maintained_s = self._checked_s = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log view", daemon=True)
        self.figures = LogFigures()
        self.outage: Outage | None = None
        self.failure: DiscoverError | None = None  # what will not pass by itself

    def use(self, partitions: Iterable[int]) -> None:
        """From now on, stages work on these partitions too."""
        self._used |= {*partitions}

    def start(self) -> None:
        """Look once, then go on in the background. Raises LogError."""
        self._look()
        self._thread.start()

    def stop(self) -> None:
        """Look no more; waits a moment for a look that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        if not self._thread.is_alive():
            self.tasks.close()
            self.cameras.close()

    def _run(self) -> None:
        failures, pause_s = 0, _LOOK_EVERY_S
        while not self._stop.wait(pause_s):
            began_s = time.monotonic()
            try:
                self._check(now=failures > 0)
                self._look()
                self._maintain()
            except TopicGone as error:
                if not self._stop.is_set():
                    self.failure = error
                return
            except LogError as error:
                failures += 1
                pause_s = retry_delay_s(failures)
                self._lost(error)
            except Exception as error:  # nobody else would notice that nothing is looked at any more
                self.failure = DiscoverError(f"log view: {type(error).__name__}: {error}; start the system again")
                return
            else:
                failures = 0
                pause_s = max(_LOOK_EVERY_S, 2 * (time.monotonic() - began_s))
                self._found()

    def _look(self) -> None:
        began_s = time.monotonic()
        used = sorted(self._used)
        encode = {p: behind(self._log, "encode", FRAMES, p) for p in used}
        route = {p: behind(self._log, "route", ARCHIVE, p) for p in used}  # later, see `is_idle`
        self.figures = LogFigures(began_s, encode, route)
        self.tasks.refresh()
        self.cameras.refresh()

    def _check(self, *, now: bool) -> None:
        if now or time.monotonic() - self._checked_s >= _CHECK_EVERY_S:
            check_topics(self._log, self._names)
            self._checked_s = time.monotonic()

    def _maintain(self) -> None:
        if time.monotonic() - self._maintained_s < _MAINTAIN_EVERY_S:
            return
        self._maintained_s = time.monotonic()
        try:
            self._caretaker.look_after()
        except Fenced:
            return  # another system does the same; the stages will say which of the two goes on

    def _lost(self, error: LogError) -> None:
        if self._stop.is_set():
            return
        if self.outage is None:
            text = " ".join(str(error).split())
            self.outage = Outage(time.time_ns(), text)
            self._tell(f"log unavailable: {text}; trying again until it is back")

    def _found(self) -> None:
        if self.outage is not None:
            away_s = (time.time_ns() - self.outage.since_ns) / 1e9
            self.outage = None
            self._tell(f"the log answers again after {away_s:.0f} s")
