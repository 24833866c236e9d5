"""Tasks that people ask for: a compacted topic with what is known of each, and what its labels took.

``task`` holds the latest `TaskRequest`, ``task/version`` what a language model's labels of that version took, and
``task:beat`` the signs of life of whoever asks right now. Requests and inquiries are written by the stage
``registry``, one transaction each, decided on what the log shows once the stage is held (`decided`): so of many
processes that want the same, one at a time decides, on either backend. Beats need none of that: a beat counts
only together with the claim that it names.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from topics.catalogue import REQUESTS
from topics.log import Fenced, Log, OutcomeUnknown, Reader, Record, Stage, UnknownTopic
from topics.messages import ClaimBeat, InquiryRecord, TaskRequest, decode, encode
from topics.reading import read_to_end

T = TypeVar("T")

REGISTRY = "registry"
"""The stage that decides about tasks and label sets."""
_PATIENCE_S = 120.0
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 2.0


class RequestTable:
    """What the topic of requests holds; for one thread. Empty in a log of a release that had no such topic."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._requests: dict[str, TaskRequest] = {}
        self._beats: dict[str, ClaimBeat] = {}
        self._inquiries: dict[tuple[str, int], InquiryRecord] = {}
        self._reader = _reader(log)

    def refresh(self) -> None:
        """Read on to the end as it is now."""
        if self._reader is not None:
            for record in read_to_end(self._log, REQUESTS, self._reader):
                self._note(record)

    def wait(self, timeout_s: float) -> None:
        """Read on, waiting for something new for a while."""
        if self._reader is None:
            time.sleep(timeout_s)
            return
        for item in self._reader.poll(timeout_s=timeout_s):
            if isinstance(item, Record):
                self._note(item)

    def request(self, task: str) -> TaskRequest | None:
        """What is known of a task; None where nobody has asked for it."""
        return self._requests.get(task)

    def requests(self) -> dict[str, TaskRequest]:
        """All of them, by task."""
        return dict(self._requests)

    def beat(self, task: str) -> ClaimBeat | None:
        """The latest sign of life of whoever asks for a task's labels."""
        return self._beats.get(task)

    def inquiry(self, task: str, version: int) -> InquiryRecord | None:
        """What it took to get a version from a language model; None where it came from elsewhere."""
        return self._inquiries.get((task, version))

    def close(self) -> None:
        """Let go of resources."""
        if self._reader is not None:
            self._reader.close()

    def _note(self, record: Record) -> None:
        if record.value is None:
            self._requests.pop(record.key or "", None)
            return
        message = decode(record.value)
        if isinstance(message, TaskRequest):
            self._requests[message.task] = message
        elif isinstance(message, ClaimBeat):
            self._beats[message.task] = message
        elif isinstance(message, InquiryRecord):
            self._inquiries[message.task, message.version] = message


def _reader(log: Log) -> Reader | None:
    try:
        return log.reader(REQUESTS)
    except UnknownTopic:
        return None


def read_requests(log: Log) -> RequestTable:
    """What the topic holds now. Nothing has to be closed."""
    table = RequestTable(log)
    try:
        table.refresh()
    finally:
        table.close()
    return table


def send_beat(log: Log, task: str, claim: str, beat: int) -> None:
    """Show that a claim is being worked on."""
    log.append(REQUESTS, f"{task}:beat", encode(ClaimBeat(task=task, claim=claim, beat=beat)))


def decided(log: Log, owner: str, decide: Callable[[Stage], T]) -> T:
    """Decide something about tasks and label sets alone, and write it; what `decide` returns.

    `decide` gets the stage `REGISTRY`, reads what it needs (everything committed so far is there), and writes in one
    transaction. Whoever acquires the stage meanwhile fences it: then nothing of it was written, and it is called
    again, after a pause that grows and varies. So it is where a broker does not say whether acquiring took place, as
    it may when several do so at once. Raises Fenced or OutcomeUnknown when that goes on for two minutes, and
    OutcomeUnknown at once when it is what `decide` wrote that is not known of.
    """
    deadline = time.monotonic() + _PATIENCE_S
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            stage = log.stage(REGISTRY, 0, owner)
        except (Fenced, OutcomeUnknown):
            if time.monotonic() >= deadline:
                raise
        else:
            try:
                return decide(stage)
            except Fenced:
                if time.monotonic() >= deadline:
                    raise
            finally:
                stage.close()
        time.sleep(pause_s * (0.5 + random.random()))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
