"""How fast is the log between two processes? Both backends in one run, side by side.

One process produces, another consumes; both run on this machine, and each value starts with the monotonic
time at which it was handed to the log. For packets (2 kB) and frames (100 kB), in transactions and without:

* flood: the producer never rests; records/s and MB/s until the consumer has the last one. In transactions,
  BATCH records commit with an input offset and a state;
* paced: the producer keeps a rate that the log sustains easily, one record per commit; time from handing over
  to having, p50 and p95 in milliseconds.

Kafka is a node that this program starts (Java 17, Maven), or your own cluster:

    python -m benchmarks.log [--kafka HOST:PORT | --kafka none] [--folder DIR] [--seconds S] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path

from discover_stream.types import DiscoverError
from topics import open_log
from topics.log import STATE_TOPIC, Log, Record, Stage, TopicSpec

TOPIC = "bench"
WARM_UP = 20
"""Records at the start of a paced run that are not counted: both processes are still opening the log."""

BATCH = 64
"""Records per commit of a flood: a commit costs a cluster several rounds of requests, whatever is in it."""
RATE = 20.0
"""Records per second of a paced run."""

FLOOD_BYTES = 60_000_000
TARGET_P95_MS = {"sqlite": 20.0, "kafka": 50.0}
TARGET_PER_SECOND = 2000.0


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


def produce(address: str, case: Case, ready: Event) -> None:
    """Write the records of `case`, once the consumer is ready."""
    with open_log(address) as log:
        stage = log.stage("bench", 0, "producer") if case.transactions else None
        filler = os.urandom(case.size - 8)
        log.topics()  # connects
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
    reader.poll()
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
    reader.close()
    steady = sorted(delays[WARM_UP:] or delays)
    return Result(count / elapsed, statistics.median(steady), steady[int(0.95 * (len(steady) - 1))])


def run(address: str, case: Case) -> Result:
    """One case, in topics made for it."""
    with open_log(address) as log:
        log.create_topics([TopicSpec(TOPIC, 1), TopicSpec("input", 1), TopicSpec(STATE_TOPIC, 1, compacted=True)])
        context = multiprocessing.get_context("spawn")
        ready = context.Event()
        producer = context.Process(target=produce, args=(address, case, ready))
        producer.start()
        try:
            result = consume(log, case.count, ready.set)
            producer.join()
            return result
        finally:
            producer.kill()
            for name in (TOPIC, "input", STATE_TOPIC):
                log.delete_topic(name)


@contextlib.contextmanager
def addresses(kafka: str | None, folder: Path) -> Iterator[Callable[[str, int], str]]:
    """A function that makes an address of its own for case NUMBER of a backend; Kafka runs meanwhile."""
    with contextlib.ExitStack() as open_ones:
        place = Path(open_ones.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix="bench-")))
        if kafka is None:
            from deploy.kafka.broker import Broker

            kafka = open_ones.enter_context(Broker(place / "kafka", heap_mb=512)).bootstrap
        run_id = f"bench{os.getpid()}-{int(time.time())}"

        def address(backend: str, number: int) -> str:
            if backend == "sqlite":
                return f"sqlite:{place / f'{number}.db'}"
            return f"kafka:{kafka}?prefix={run_id}-{number}."

        yield address


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
    """Floods of `FLOOD_BYTES` at most, and paced runs of `seconds`, with transactions and without."""
    found = []
    for size in sizes:
        flood = max(4 * BATCH, min(10_000, FLOOD_BYTES // size) // BATCH * BATCH)
        paced = WARM_UP + round(RATE * seconds)
        for transactions in (True, False):
            found.append(Case(size, flood, 0.0, BATCH if transactions else 1, transactions))
            found.append(Case(size, paced, RATE, 1, transactions))
    return found


def verdict(backend: str, case: Case, result: Result) -> str:
    """Whether a row meets its target; empty for rows that have none."""
    if case.rate:
        return "met" if result.p95_ms <= TARGET_P95_MS[backend] else f"MISSED (p95 {TARGET_P95_MS[backend]:.0f} ms)"
    if case.size <= 10_000 and case.transactions:
        return "met" if result.per_second >= TARGET_PER_SECOND else f"MISSED ({TARGET_PER_SECOND:.0f}/s)"
    return ""


def row(backend: str, case: Case, result: Result) -> str:
    """One line of the table."""
    kind = f"{case.batch} per commit" if case.transactions else "plain append"
    delays = f"{result.p50_ms:7.2f} {result.p95_ms:7.2f}" if case.rate else f"{'-':>7} {'-':>7}"
    return (
        f"{backend:<7} {case.size:7} B {'paced' if case.rate else 'flood':<6} {kind:<14} "
        f"{result.per_second:10.0f} {result.per_second * case.size / 1e6:7.1f} {delays}  "
        f"{verdict(backend, case, result)}"
    )


def main() -> None:
    """Run every case on every backend, and print the table."""
    parser = argparse.ArgumentParser(description="Throughput and latency of the log, on both backends.")
    parser.add_argument("--kafka", help="HOST:PORT of your own cluster, or none; default: a node started here")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="a local disk")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a paced run")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000, 100_000], help="bytes")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    options = parser.parse_args()
    backends = ["sqlite"] if options.kafka == "none" else ["sqlite", "kafka"]
    about = machine()
    print(about)
    print("one producer process, one consumer process; sqlite: durability normal; kafka: one node, acks=all")
    print(
        f"{'log':<7} {'value':>9} {'run':<6} {'commit':<14} {'records/s':>10} {'MB/s':>7} {'p50 ms':>7} {'p95 ms':>7}"
    )
    rows = []
    try:
        with addresses("" if options.kafka == "none" else options.kafka, options.folder) as address:
            for number, case in enumerate(cases(options.sizes, options.seconds)):
                for backend in backends:
                    result = run(address(backend, number), case)
                    rows.append({"backend": backend, **asdict(case), **asdict(result), "load": os.getloadavg()[0]})
                    print(row(backend, case, result), flush=True)
    except DiscoverError as error:
        sys.exit(str(error))
    print(f"load at the end {os.getloadavg()[0]:.1f}")
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
