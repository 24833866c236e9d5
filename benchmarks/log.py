"""How fast is the log between two processes?

One process produces, another consumes; both run on this machine, and each value starts with the monotonic
time at which it was handed to the log. Two questions per value size:

* flood: the producer never rests; records/s and MB/s until the consumer has the last one;
* paced: the producer keeps a rate that the log sustains easily; time from handing over to having, p50 and
  p95 in milliseconds. In transactions, each record commits with an input offset and a state.

    python -m benchmarks.log [--folder DIR] [--seconds S] [--durability normal|full] [--sizes 2000 50000]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path

from topics.log import Log, Record, Stage, TopicSpec
from topics.sqlite import SqliteLog
from topics.sqlite_file import Durability

TOPIC = "bench"
WARM_UP = 20
"""Records at the start of a paced run that are not counted: both processes are still opening files."""


@dataclass(frozen=True)
class Case:
    """One row of the table. `rate` is records per second, 0 for a flood; `size` is in bytes."""

    size: int
    count: int
    rate: float
    batch: int
    transactions: bool


@dataclass(frozen=True)
class Result:
    """What the consumer saw: records/s, and latencies in milliseconds."""

    per_second: float
    p50_ms: float
    p95_ms: float


def produce(path: Path, durability: Durability, case: Case, ready: Event) -> None:
    """Write the records of `case`, once the consumer is ready."""
    with SqliteLog(path, durability=durability) as log:
        stage = log.stage("bench", 0, "producer") if case.transactions else None
        filler = os.urandom(case.size - 8)
        ready.wait()
        begin = time.monotonic()
        for number in range(0, case.count, case.batch):
            if case.rate:
                time.sleep(max(0.0, begin + number / case.rate - time.monotonic()))
            send_batch(log, stage, filler, number, case.batch)


def send_batch(log: Log, stage: Stage | None, filler: bytes, number: int, batch: int) -> None:
    """Hand `batch` records over, in one transaction where there is a stage."""
    values = [time.monotonic_ns().to_bytes(8, "little") + filler for _ in range(batch)]
    if stage is None:
        for value in values:
            log.append(TOPIC, "camera", value)
        return
    with stage.transaction() as transaction:
        for value in values:
            transaction.send(TOPIC, "camera", value)
        transaction.commit_offset("input", 0, number + batch)
        transaction.set_state(number.to_bytes(200, "little"))


def consume(log: Log, count: int, started: Callable[[], None]) -> Result:
    """Read `count` records and measure."""
    reader = log.reader(TOPIC, start="latest")
    started()
    delays: list[float] = []
    first = 0
    while len(delays) < count:
        for item in reader.poll(timeout_s=30):
            assert isinstance(item, Record)
            assert item.value is not None
            sent = int.from_bytes(item.value[:8], "little")
            first = first or sent
            delays.append((time.monotonic_ns() - sent) / 1e6)
    elapsed = (time.monotonic_ns() - first) / 1e9
    steady = sorted(delays[WARM_UP:] or delays)
    return Result(count / elapsed, statistics.median(steady), steady[int(0.95 * (len(steady) - 1))])


def run(folder: Path, durability: Durability, case: Case) -> Result:
    """One case on a log of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "log.db"
        with SqliteLog(path, durability=durability) as log:
            log.create_topics([TopicSpec(TOPIC, 1), TopicSpec("input", 1), TopicSpec("state", 1, compacted=True)])
            context = multiprocessing.get_context("spawn")
            ready = context.Event()
            producer = context.Process(target=produce, args=(path, durability, case, ready))
            producer.start()
            result = consume(log, case.count, ready.set)
            producer.join()
            return result


def machine() -> str:
    """The machine and the day, in words."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} x {model}, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"load {os.getloadavg()[0]:.1f}"
    )


def cases(sizes: Sequence[int], seconds: float) -> list[Case]:
    """Floods of about 100 MB at most, and paced runs of `seconds`, with transactions and without."""
    found = []
    for size in sizes:
        flood = max(200, min(10_000, 100_000_000 // size))
        rate = 100.0 if size <= 10_000 else 30.0
        paced = WARM_UP + round(rate * seconds)
        for transactions in (True, False):
            found.append(Case(size, flood // 8 * 8, 0.0, 8 if transactions else 1, transactions))
            found.append(Case(size, paced, rate, 1, transactions))
    return found


def main() -> None:
    """Run every case and print the table."""
    parser = argparse.ArgumentParser(description="Throughput and latency of the embedded log.")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="a local disk")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a paced run")
    parser.add_argument("--durability", choices=["normal", "full"], default="normal")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000, 50_000, 100_000], help="bytes")
    options = parser.parse_args()
    print(machine())
    print(f"sqlite, durability {options.durability}, one producer process, one consumer process")
    print(f"{'value':>9} {'run':<6} {'commit':<14} {'records/s':>10} {'MB/s':>7} {'p50 ms':>7} {'p95 ms':>7}")
    for case in cases(options.sizes, options.seconds):
        result = run(options.folder, options.durability, case)
        kind = f"{case.batch} per tx" if case.transactions else "plain append"
        delays = f"{result.p50_ms:7.2f} {result.p95_ms:7.2f}" if case.rate else f"{'-':>7} {'-':>7}"
        megabytes = result.per_second * case.size / 1e6
        print(
            f"{case.size:7} B {'paced' if case.rate else 'flood':<6} {kind:<14} "
            f"{result.per_second:10.0f} {megabytes:7.1f} {delays}"
        )


if __name__ == "__main__":
    main()
