"""Labels for a task, asked of a language model once ever, however many want them at the same time.

Whoever finds a task without labels *claims* it in the log, asks, and writes label set, figures and the end of the
claim in one transaction. Everybody else sees the claim and waits for that record. A claimant shows signs of life;
where they stop for a lease, another takes the claim over. Nobody compares clocks: a lease is measured by the one
who waits. A claimant that was taken for dead finds its claim gone and writes nothing.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

import msgspec

from discover_stream.codec.packet import task_key
from discover_stream.semantics.mllm import Inquiry, InquiryError, LabelAnswer, UnusableAnswer
from discover_stream.types import InputError, Profile
from topics.catalogue import LABELS, REQUESTS
from topics.immutable import ImmutableTable
from topics.log import Log, LogError, Stage
from topics.messages import InquiryRecord, LabelSetMessage, TaskRequest, encode
from topics.requests import RequestTable, decided, read_requests, send_beat

AskLabels = Callable[[str], LabelAnswer]
"""Asks a language model for the labels of a description; raises InputError."""

_WAIT_S = 0.25


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants: labels for a task with this description, new ones with `refresh`.

    `profile` None means that of the labels that are there, `machine` for new ones.
    """

    task: str
    description: str
    profile: Profile | None = None
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim is shown alive every `beat_s` seconds, and taken for dead after `lapse_s` without."""

    beat_s: float = 3.0
    lapse_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What the one who waits remembers: the version at its first look, the claim it has waited for, the one that
    showed no life for a lease."""

    base: int = 0
    joined: str = ""
    lapsed: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """The labels are there, under this version."""

    version: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody holds this claim, and asks."""

    claim: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Nobody has the labels, and nobody asks for them."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """There will be no labels: why, for people."""

    reason: str


Step = Done | Wait | Ask | Refuse


@dataclass(frozen=True, slots=True)
class Obtained:
    """The version that has the labels, and whether this call asked the model for it."""

    version: int
    asked: bool = False


def next_step(request: TaskRequest | None, order: Order, seen: Seen) -> Step:
    """What to do about an order, given what the log says of the task."""
    if request is None:
        return Ask()
    same = _plain(request.description) == _plain(order.description)
    newer = request.version > seen.base
    if same and request.version and (newer or not order.refresh):
        return Done(request.version)
    if request.claim and request.claim != seen.lapsed:
        return Wait(request.claim)
    reason = _refusal(request, order, seen, same=same)
    return Ask() if reason is None else Refuse(reason)


def _refusal(request: TaskRequest, order: Order, seen: Seen, *, same: bool) -> str | None:
    if seen.joined and request.failed == seen.joined:
        return request.problem
    if order.refresh:
        return None
    if request.version:
        return (
            f"task {request.task} is described as {request.description!r} already; --refresh asks for labels of the "
            "new description, or choose another name"
        )
    if request.disabled and same:
        return f"task {request.task} is disabled: {request.problem}; --refresh asks again"
    return None


@dataclass(slots=True)
class Life:
    """Whether a claim shows life, by the clock of the one who looks (seconds, of any origin)."""

    lapse_s: float
    _latest: tuple[str, int] = field(default=("", -1))
    _since_s: float = 0.0

    def lapsed(self, claim: str, beat: int, now_s: float) -> bool:
        """Whether the claim has shown nothing new for a lease, as of another look at it."""
        if (claim, beat) != self._latest:
            self._latest, self._since_s = (claim, beat), now_s
        return now_s - self._since_s >= self.lapse_s


def obtain_labels(
    log: Log,
    order: Order,
    ask: AskLabels,
    owner: str,
    lease: Lease | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Obtained:
    """The version of a task's labels: what the log has, else what the model answers, asked once by all who want it.

    Args:
        log: with the topics of the catalogue.
        order: which task, and whether what is there will do.
        ask: asks the model.
        owner: who this is, in words that others may be told.
        lease: of claims.
        tell: gets a line when this call begins to wait for somebody else.

    Raises:
        InputError: the task has another description, is disabled, or whoever asked did not get labels.
        InquiryError: this call asked, and did not get labels; the task is disabled where the model's answer is why.
    """
    lease = lease or Lease()
    table = RequestTable(log)
    life = Life(lease.lapse_s)
    seen: Seen | None = None
    try:
        while True:
            table.refresh()
            request = standing(log, table, order.task)
            seen = seen or Seen(base=request.version if request is not None else 0)
            step = next_step(request, order, seen)
            if isinstance(step, Done):
                return Obtained(step.version)
            if isinstance(step, Refuse):
                raise InputError(step.reason)
            if isinstance(step, Wait):
                beat = table.beat(order.task)
                count = beat.beat if beat is not None and beat.claim == step.claim else 0
                if life.lapsed(step.claim, count, time.monotonic()):
                    seen = replace(seen, lapsed=step.claim)
                else:
                    if seen.joined != step.claim and request is not None:
                        tell(f"{request.owner} is asking for the labels of task {order.task}; waiting for the answer")
                    seen = replace(seen, joined=step.claim)
                    table.wait(min(_WAIT_S, lease.lapse_s / 4))
                continue
            claim = uuid.uuid4().hex
            if _take(log, order, seen, claim, owner):
                version = _ask(log, order, ask, claim, owner, lease)
                if version is not None:
                    return Obtained(version, asked=True)
    finally:
        table.close()


def standing(log: Log, table: RequestTable, task: str) -> TaskRequest | None:
    """What is known of a task: its request, else what follows from labels that a configuration brought."""
    request = table.request(task)
    if request is not None:
        return request
    labels = ImmutableTable(log, LABELS)
    try:
        latest = labels.read_latest(LabelSetMessage, task)
    finally:
        labels.close()
    if latest is None:
        return None
    return TaskRequest(task=task, description=latest.description, profile=latest.profile, version=latest.version)


def free_version(labels: ImmutableTable, task: str) -> int:
    """The next version of a task's labels: never used before, with a key that no other label set has in packets."""
    known = labels.versions()
    taken = {task_key(*pair) for pair in known}
    version = max([labels.latest(task) or 0, *(number for name, number in known if name == task)]) + 1
    while task_key(task, version) in taken:
        version += 1
    return version


def inquiry_record(task: str, version: int, inquiry: Inquiry, problem: str = "") -> InquiryRecord:
    """What is kept of an inquiry."""
    return InquiryRecord(
        task=task,
        version=version,
        at_ns=time.time_ns(),
        model=inquiry.model,
        place=inquiry.place,
        requests=inquiry.requests,
        tries=inquiry.tries,
        tokens_in=inquiry.tokens_in,
        tokens_out=inquiry.tokens_out,
        seconds=inquiry.seconds,
        problem=problem,
    )


def _plain(text: str) -> str:
    return " ".join(text.split())


def _take(log: Log, order: Order, seen: Seen, claim: str, owner: str) -> bool:
    """Claim a task, unless somebody else came first."""

    def decide(stage: Stage) -> bool:
        request = standing(log, read_requests(log), order.task)
        if not isinstance(next_step(request, order, seen), Ask):
            return False
        request = request or TaskRequest(task=order.task)
        if request.version == 0:
            request = msgspec.structs.replace(
                request, description=_plain(order.description), profile=order.profile or "machine", disabled=False
            )
        with stage.transaction() as transaction:
            claimed = msgspec.structs.replace(request, claim=claim, owner=owner)
            transaction.send(REQUESTS, order.task, encode(claimed))
        return True

    return decided(log, owner, decide)


def _ask(log: Log, order: Order, ask: AskLabels, claim: str, owner: str, lease: Lease) -> int | None:
    """Ask, and write what came of it; None where the claim was lost to somebody else."""
    try:
        with _Beats(log, order.task, claim, lease.beat_s):
            answer = ask(_plain(order.description))
            return _settle(log, order, answer, claim, owner)
    except InputError as error:
        _give_up(log, order, claim, owner, error)
        raise
    except BaseException as error:
        reason = f"{owner} was interrupted while it asked ({type(error).__name__}); try again"
        with suppress(LogError):  # the lease settles it then
            _give_up(log, order, claim, owner, reason)
        raise


def _settle(log: Log, order: Order, answer: LabelAnswer, claim: str, owner: str) -> int | None:
    def decide(stage: Stage) -> int | None:
        request = read_requests(log).request(order.task)
        if request is None or request.claim != claim:
            return None
        labels = ImmutableTable(log, LABELS, 0)
        try:
            version = free_version(labels, order.task)
            message = LabelSetMessage(
                task=order.task,
                description=_plain(order.description),
                version=version,
                labels=answer.labels,
                profile=order.profile or request.profile,
            )
            settled = msgspec.structs.replace(
                request,
                description=message.description,
                profile=message.profile,
                version=version,
                claim="",
                owner="",
                failed="",
                problem="",
                disabled=False,
            )
            with stage.transaction() as transaction:
                labels.publish(transaction, message)
                transaction.send(REQUESTS, order.task, encode(settled))
                record = inquiry_record(order.task, version, answer.inquiry)
                transaction.send(REQUESTS, f"{order.task}/{version}", encode(record))
        finally:
            labels.close()
        return version

    return decided(log, owner, decide)


def _give_up(log: Log, order: Order, claim: str, owner: str, why: InputError | str) -> None:
    """End a claim without labels, so that nobody waits for it any more."""

    def decide(stage: Stage) -> None:
        request = read_requests(log).request(order.task)
        if request is None or request.claim != claim:
            return
        disabled = isinstance(why, UnusableAnswer) and request.version == 0
        ended = msgspec.structs.replace(
            request, claim="", owner="", failed=claim, problem=str(why)[:1000], disabled=disabled
        )
        labels = ImmutableTable(log, LABELS)
        try:
            version = free_version(labels, order.task)
        finally:
            labels.close()
        with stage.transaction() as transaction:
            transaction.send(REQUESTS, order.task, encode(ended))
            if isinstance(why, InquiryError):
                record = inquiry_record(order.task, version, why.inquiry, ended.problem)
                transaction.send(REQUESTS, f"{order.task}/{version}", encode(record))

    decided(log, owner, decide)


class _Beats:
    """Shows that a claim is being worked on, from a thread of its own, while the `with` block lasts."""

    def __init__(self, log: Log, task: str, claim: str, every_s: float) -> None:
        self._log, self._task, self._claim, self._every_s = log, task, claim, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"claim of {task}", daemon=True)

    def _run(self) -> None:
        beat = 0
        while not self._stop.wait(self._every_s):
            beat += 1
            with suppress(LogError):  # a log that is away now may be back at the next beat
                send_beat(self._log, self._task, self._claim, beat)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
