"""How many decoders a pool should have: a pure function of what was measured, what is allowed, and what it remembers.

    decision, memory = decide(rules, load, memory)      # every second or so; then start and end processes

Three needs are added up. *Keeping up*: arrivals times the seconds each takes. *Catching up*: what waits must be done
before the oldest of it is older than the deadline; processes that have to be started first count only for the time
that is left once they have started. *Staying*: a process that takes long to start is not ended for a short lull.
Then come the caps: the most processes, the GPUs, the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Literal

Reason = Literal[
    "idle", "steady", "keep up", "catch up", "lull", "drain", "capped: most", "capped: gpus", "capped: budget"
]
"""Why: `idle` nothing to do, so none; `steady` as many as before; `lull` fewer would do, but not for long enough yet;
`drain` fewer have done for long enough; `capped` more are needed than is allowed."""

_START_WORTH = 3.0
"""A process is kept through lulls of this many times what it takes to start another one."""
_SLACK = 0.05
"""Parts of a process by which a need may exceed a number without another one being started."""
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class PoolRules:
    """What is allowed, and what is known in advance.

    Attributes:
        most: processes at most.
        deadline_s: how old a packet may be when its picture is there.
        cold_start_s: from the decision to start a process to its first picture.
        idle_s: without anything to do for this long, there is none.
        down_s: fewer must have been enough for this long before one is ended.
        headroom: the part of their time that processes are planned to be busy, 0..1.
        gpu_share: of a GPU, that each process takes; 0 for none.
        gpus: that the pool may use, together.
        price: of a process for an hour, in any currency.
        budget: for an hour, in the same one; None for no limit.
    """

    most: int = 1
    deadline_s: float = 2.0
    cold_start_s: float = 5.0
    idle_s: float = 30.0
    down_s: float = 10.0
    headroom: float = 0.8
    gpu_share: float = 0.0
    gpus: float = 0.0
    price: float = 0.0
    budget: float | None = None


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """What was measured.

    Attributes:
        at_s: when, on a clock that only goes forward.
        waiting: packets that wait for a process or are in one.
        oldest_s: the age of the oldest of them, 0 where there is none.
        arriving: packets a second, lately.
        service_s: seconds of a process for each, lately.
        ready, starting: processes.
    """

    at_s: float
    waiting: int
    oldest_s: float
    arriving: float
    service_s: float
    ready: int
    starting: int


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """What a decision leaves for the next one.

    Attributes:
        workers: the number decided.
        busy_s: when there last was something to do; None if never.
        low_s: since when fewer than `workers` would be enough; None while they would not.
        low_most: the most that was needed since then.
    """

    workers: int = 0
    busy_s: float | None = None
    low_s: float | None = None
    low_most: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """How many processes there should be, and why."""

    workers: int
    reason: Reason


def decide(rules: PoolRules, load: PoolLoad, memory: PoolMemory) -> tuple[Decision, PoolMemory]:
    """The number of processes there should be from now on, and what to remember."""
    busy = load.waiting > 0 or load.arriving > 0
    busy_s = load.at_s if busy or memory.busy_s is None else memory.busy_s
    needed, reason = _needed(rules, load)
    most, cap = allowed(rules)
    if needed > most:
        needed, reason = most, cap
    before = min(memory.workers, most)
    if needed >= before:
        same = needed == before and needed and reason != cap
        return Decision(needed, "steady" if same else reason), PoolMemory(needed, busy_s)
    if not busy:
        if load.at_s - busy_s >= max(rules.idle_s, _START_WORTH * rules.cold_start_s):
            return Decision(0, "idle"), PoolMemory(0, busy_s)
        if before == 1:
            return Decision(1, "lull"), PoolMemory(1, busy_s)
        needed = 1  # the last one goes for being idle, not for a lull
    low_s = load.at_s if memory.low_s is None else memory.low_s
    low_most = max(needed, memory.low_most)
    if load.at_s - low_s < max(rules.down_s, _START_WORTH * rules.cold_start_s):
        return Decision(before, "lull"), PoolMemory(before, busy_s, low_s, low_most)
    return Decision(low_most, "drain"), PoolMemory(low_most, busy_s)


def _needed(rules: PoolRules, load: PoolLoad) -> tuple[int, Reason]:
    """Processes needed, without regard to what is allowed or was before."""
    if not load.waiting and load.arriving <= 0:
        return 0, "idle"
    steady = load.arriving * load.service_s / rules.headroom
    left_s = rules.deadline_s - load.oldest_s
    # Who is late already, or cannot be helped in time, gets a deadline from when help can begin.
    horizon_s = left_s if left_s > rules.cold_start_s else rules.cold_start_s + rules.deadline_s
    useful_s = horizon_s - rules.cold_start_s
    work_s = max(load.waiting - load.ready, 0) * load.service_s  # each has one in hand
    free_s = max(load.ready - steady, 0.0) * horizon_s + load.starting * useful_s
    if work_s <= free_s:
        here = load.ready + load.starting
        return max(1, _whole(max(steady, min(here, steady + work_s / horizon_s)))), "keep up"
    wanted = max(steady, load.ready + load.starting) + (work_s - free_s) / useful_s
    return max(1, _whole(min(wanted, max(steady, load.waiting)))), "catch up"  # one packet is work for one process


def allowed(rules: PoolRules) -> tuple[int, Reason]:
    """The most processes that rules allow, and which rule it is."""
    caps: list[tuple[int, Reason]] = [(rules.most, "capped: most")]
    if rules.gpu_share > 1:
        caps.append((floor(rules.gpus / rules.gpu_share + _TINY), "capped: gpus"))
    elif rules.gpu_share > 0:
        # A process takes its share of one GPU: two that take 0.6 each do not fit into two halves, nor into 1.2.
        on_whole = floor(rules.gpus) * floor(1 / rules.gpu_share + _TINY)
        caps.append((on_whole + floor(rules.gpus % 1 / rules.gpu_share + _TINY), "capped: gpus"))
    if rules.budget is not None and rules.price > 0:
        caps.append((floor(rules.budget / rules.price + _TINY), "capped: budget"))
    return min(caps, key=lambda cap: cap[0])


def _whole(processes: float) -> int:
    return ceil(processes - _SLACK)
