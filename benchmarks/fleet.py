"""How large a fleet has to be: a simulation on measured costs, in which the real decision function runs the decoders.

    python -m benchmarks.fleet [--costs benchmarks/fleet_costs.json] [--cameras 100,1000,10000,100000] [--set KEY=VALUE]

Two things are simulated event by event. *Encoding*: the processes of one machine, of which some ground and each of the
others takes the frames of its cameras in turn; as many cameras are put on it as keep the 95th percentile of
frame-to-packet below the deadline (machines share no work, so a fleet is a multiple of it). *Replays*: viewers come by
chance, more of them by day, and each asks for its next second of pictures when the last one is there;
`actors.pool_policy.decide` starts and ends decoders every second, as it does in a running system. The rest is
multiplication, and every factor is in the file of costs with where it comes from; `--set` changes one. Costs of
machines are a formula on stated prices, not an offer:

    per hour = encode machines * price + head * price + decoder-hours * share of a GPU * price + storage
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import random
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

from actors.pool_policy import PoolLoad, PoolMemory, PoolRules, decide

COSTS = Path(__file__).with_name("fleet_costs.json")
DAY_S = 86400
LATELY_S = 5.0


@dataclass(frozen=True)
class Costs:
    """Every factor of the sizing; `fleet_costs.json` says where each comes from.

    Attributes:
        fps: frames a second of each camera.
        encode_s, ground_s, overhead_s: seconds of a core for a frame.
        jitter: standard deviation of the encoder's seconds, as a part of them.
        decode_s: seconds of a decoder for a picture.
        kbps, frame_kb: of a camera's archive; size of a coded frame on its way to encoding.
        tasks, task_share: tasks of a camera, and the part of the archive that each is sent.
        cores, gpu_share: of an encoding machine; of a GPU, that each decoder takes.
        deadline_s, cold_start_s: see `PoolRules`.
        viewers: replays that are watched at once at noon, for every 1000 cameras.
        watch_s: how long each lasts.
        price_encode, price_gpu, price_head, price_gb: of a machine with cores, a GPU, and the head for an hour, and of
            a GB of storage for a month.
    """

    fps: float
    encode_s: float
    ground_s: float
    overhead_s: float
    jitter: float
    decode_s: float
    kbps: float
    frame_kb: float
    tasks: float
    task_share: float
    cores: float
    gpu_share: float
    deadline_s: float
    cold_start_s: float
    viewers: float
    watch_s: float
    price_encode: float
    price_gpu: float
    price_head: float
    price_gb: float


@dataclass(frozen=True)
class Replays:
    """What an hour of replays was like: decoders at most and on average, seconds that viewers waited for the first
    picture (median, 95th percentile), the part of later pictures that came in time, and how often the pool started
    from none."""

    most: int
    mean: float
    first_p50_s: float
    first_p95_s: float
    in_time: float
    cold_starts: int


def percentile(values: list[float], part: float) -> float:
    """Of a list that is sorted here; 0 for an empty one."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def machine_p95_s(costs: Costs, cameras: int, grounders: int, seed: int, seconds: float = 60.0) -> float:
    """The 95th percentile of frame-to-packet on a machine that has so many cameras: `grounders` of its cores ground
    whatever comes next, each of the others encodes one partition."""
    chance = random.Random(seed)
    own_s = costs.encode_s + costs.overhead_s
    ground_free, encode_free = [0.0] * grounders, [0.0] * (int(costs.cores) - grounders)
    events = [(chance.random() / costs.fps, camera) for camera in range(cameras)]
    heapq.heapify(events)
    waited = []
    while events and events[0][0] < seconds:
        at_s, camera = heapq.heappop(events)
        heapq.heappush(events, (at_s + 1 / costs.fps, camera))
        grounded_s = max(at_s, heapq.heappop(ground_free)) + costs.ground_s
        heapq.heappush(ground_free, grounded_s)
        partition = camera % len(encode_free)
        takes_s = max(0.2 * own_s, chance.gauss(own_s, costs.jitter * own_s))
        encode_free[partition] = max(grounded_s, encode_free[partition]) + takes_s
        waited.append(encode_free[partition] - at_s)
    return percentile(waited, 0.95)


@dataclass(frozen=True, order=True)
class Machine:
    """The most cameras that keep the deadline on a machine, with so many of its cores encoding, and the percentile of
    frame-to-packet that they reach."""

    cameras: int
    encoders: int
    p95_s: float


def machine_of(costs: Costs, seed: int) -> Machine:
    """What a machine takes, its cores shared out between grounding and encoding in the best way."""
    return max(_with_split(costs, grounders, seed) for grounders in range(1, int(costs.cores)))


def _with_split(costs: Costs, grounders: int, seed: int) -> Machine:
    low, high = 0, math.ceil(2 * costs.cores / (costs.fps * (costs.encode_s + costs.ground_s))) + 1
    while low < high:
        middle = (low + high + 1) // 2
        if machine_p95_s(costs, middle, grounders, seed) <= costs.deadline_s:
            low = middle
        else:
            high = middle - 1
    p95_s = machine_p95_s(costs, low, grounders, seed) if low else math.inf
    return Machine(low, int(costs.cores) - grounders, p95_s)


class Pool:
    """Decoders and viewers, event by event."""

    def __init__(self, costs: Costs, rules: PoolRules, seed: int) -> None:
        self._costs, self._rules, self._chance = costs, rules, random.Random(seed)
        self._events: list[tuple[float, int, str, float]] = []
        self._order = itertools.count()
        self._queue: deque[tuple[float, float, bool]] = deque()
        self._lately: deque[float] = deque()
        self._free, self._ready, self._starting, self._ending = 0, 0, 0, 0
        self._memory = PoolMemory()
        self.first: list[float] = []
        self.later: list[float] = []
        self.counts: list[int] = []
        self.cold_starts = 0

    def run(self, viewers_at: list[float], seconds: float) -> None:
        """Simulate: `viewers_at` are the times at which viewers come."""
        for at_s in viewers_at:
            self._plan(at_s, "ask", at_s + self._costs.watch_s)
        for second in range(int(seconds)):
            self._plan(float(second), "decide", 0.0)
        while self._events and self._events[0][0] <= seconds:
            at_s, _, what, detail = heapq.heappop(self._events)
            if what == "ask":
                self._queue.append((at_s, detail, detail - at_s >= self._costs.watch_s - 1e-6))
                self._lately.append(at_s)
            elif what == "ready":
                self._starting -= 1
                self._ready += 1
                self._free += 1
            elif what == "free":
                self._free += 1
                if self._ending and self._ready:
                    self._end_one()
            else:
                self._decide(at_s)
            self._hand_out(at_s)

    def _plan(self, at_s: float, what: str, detail: float) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), what, detail))

    def _end_one(self) -> None:
        self._free, self._ready, self._ending = self._free - 1, self._ready - 1, self._ending - 1

    def _hand_out(self, now_s: float) -> None:
        """A request is a second of pictures; the viewer asks for the next one a second after, or when it is there."""
        while self._queue and self._free > 0:
            asked_s, leaves_s, is_first = self._queue.popleft()
            self._free -= 1
            picture_s = self._costs.decode_s
            done_s = now_s + picture_s * self._costs.fps
            (self.first if is_first else self.later).append((now_s + picture_s if is_first else done_s) - asked_s)
            self._plan(done_s, "free", 0.0)
            following_s = max(done_s, asked_s + 1.0)
            if following_s < leaves_s:
                self._plan(following_s, "ask", leaves_s)

    def _decide(self, now_s: float) -> None:
        while self._lately and self._lately[0] < now_s - LATELY_S:
            self._lately.popleft()
        busy = self._ready - self._free
        oldest_s = now_s - self._queue[0][0] if self._queue else 0.0
        waiting = len(self._queue) + busy
        service_s = self._costs.decode_s * self._costs.fps
        ready = self._ready - self._ending
        load = PoolLoad(now_s, waiting, oldest_s, len(self._lately) / LATELY_S, service_s, ready, self._starting)
        decision, self._memory = decide(self._rules, load, self._memory)
        here = ready + self._starting
        if decision.workers > here:
            self.cold_starts += here == 0
            stay = min(self._ending, decision.workers - here)
            self._ending -= stay
            for _ in range(decision.workers - here - stay):
                self._starting += 1
                self._plan(now_s + self._costs.cold_start_s, "ready", 0.0)
        elif decision.workers < ready:
            self._ending += ready - decision.workers
            while self._ending and self._free:
                self._end_one()
        self.counts.append(self._ready + self._starting)


def replays(costs: Costs, cameras: int, busy: float, seed: int, seconds: float = 3600.0) -> Replays:
    """An hour with a part `busy` of noon's viewers."""
    chance = random.Random(seed)
    rate = busy * costs.viewers * cameras / 1000 / costs.watch_s
    arrivals, at_s = [], 0.0
    while rate > 0 and (at_s := at_s + chance.expovariate(rate)) < seconds:
        arrivals.append(at_s)
    rules = PoolRules(
        most=10**6, deadline_s=costs.deadline_s, cold_start_s=costs.cold_start_s, idle_s=60.0, headroom=0.8,
        gpu_share=costs.gpu_share, gpus=10.0**6,
    )  # fmt: skip
    pool = Pool(costs, rules, seed)
    pool.run(arrivals, seconds)
    late_s = costs.deadline_s
    in_time = sum(value <= late_s for value in pool.later) / len(pool.later) if pool.later else 1.0
    return Replays(
        max(pool.counts), sum(pool.counts) / len(pool.counts), percentile(pool.first, 0.5),
        percentile(pool.first, 0.95), in_time, pool.cold_starts,
    )  # fmt: skip


@dataclass(frozen=True)
class Size:
    """What a fleet takes."""

    cameras: int
    machines: int
    partitions: int
    log_mb_s: float
    gb_a_day: float
    noon: Replays
    night: Replays
    gpus: int
    price_an_hour: float


def sized(costs: Costs, cameras: int, each: Machine, seed: int) -> Size:
    """The size of a fleet of so many cameras, where `each` machine takes what `machine_of` says."""
    machines = math.ceil(cameras / each.cameras)
    noon, night = (replays(costs, cameras, busy, seed) for busy in (1.0, 0.05))
    seconds_of_day = 0.4 * noon.mean + 0.6 * night.mean
    archive_mb_s = cameras * costs.kbps / 8e3
    log_mb_s = cameras * costs.fps * costs.frame_kb / 1e3 + archive_mb_s * (1 + costs.tasks * costs.task_share)
    gb_a_day = archive_mb_s * DAY_S / 1e3
    storage_an_hour = gb_a_day * costs.price_gb / 30 / 24
    partitions = machines * each.encoders
    price = machines * costs.price_encode + costs.price_head + seconds_of_day * costs.gpu_share * costs.price_gpu
    return Size(
        cameras, machines, partitions, log_mb_s, gb_a_day, noon, night, math.ceil(noon.most * costs.gpu_share),
        price + storage_an_hour,
    )  # fmt: skip


def load_costs(path: Path, changes: list[str]) -> Costs:
    """The costs of a file, with changes such as ``fps=5``."""
    costs = Costs(**{key: entry["value"] for key, entry in json.loads(path.read_text()).items()})
    for change in changes:
        key, _, value = change.partition("=")
        costs = replace(costs, **{key: float(value)})
    return costs


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--costs", type=Path, default=COSTS)
    parser.add_argument("--cameras", default="100,1000,10000,100000")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    options = parser.parse_args()
    costs = load_costs(options.costs, options.changes)
    each = machine_of(costs, options.seed)
    if each.cameras == 0:
        raise SystemExit("a machine of these costs keeps the deadline with no camera: lower fps or quality")
    print(
        f"one machine of {costs.cores:g} cores, {each.encoders} of which encode: {each.cameras} cameras at "
        f"{costs.fps:g} fps, frame to packet p95 {1000 * each.p95_s:.0f} ms"
    )
    print(
        "| cameras | machines | partitions | log MB/s | GB a day kept | decoders noon: mean, most | night | GPUs | "
        "first picture p50 / p95 noon | in time | price an hour, a camera a month |\n" + "|---" * 11 + "|"
    )
    for cameras in map(int, options.cameras.split(",")):
        size = sized(costs, cameras, each, options.seed)
        noon, night = size.noon, size.night
        print(
            f"| {cameras:,} | {size.machines:,} | {size.partitions:,} | {size.log_mb_s:,.1f} | {size.gb_a_day:,.0f} | "
            f"{noon.mean:.1f}, {noon.most} | {night.mean:.1f} | {size.gpus} | {noon.first_p50_s:.2f} / "
            f"{noon.first_p95_s:.2f} s | {100 * noon.in_time:.1f} % | {size.price_an_hour:,.2f}, "
            f"{size.price_an_hour * 730 / cameras:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
