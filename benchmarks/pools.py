"""Decoders on demand: how soon the first picture comes, and how many there are while a recorded load goes by.

    python -m benchmarks.pools [--turns 10] [--modes stream,still] [--trace FILE] [--record FILE]
        [--skip measure,replays,subscribers]

A log of two simulated cameras is made first, one in each mode. Then:

cold   a viewer asks while Ray Serve runs and no process that decodes exists: seconds to the first picture, `turns`
       times, with the processor time that all processes took together; before each it is observed that there is no
       replica and no process of one.
warm   the same with a replica that is there.
trace  viewers of replays come and go as the trace says, and packets of a subscription likewise; the numbers of replicas
       and of subscriber processes are observed every half second, 0 at both ends.

Exit status 1 where something is not observed, or a request is lost.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path

import psutil

from actors.local_ray import start_ray, stop_ray
from actors.pool_policy import Decision, PoolLoad, PoolRules
from actors.serve_decode import DecodeScale, ReplayPool
from actors.stream_jobs import Item, JobPlanner
from actors.subscriber_pool import SubscriberPool
from discover_stream.decode_options import DecodeOptions
from discover_stream.sdk import Subscription, TaskFrame, archive_span, read_archive, subscribe
from topics import open_log
from topics.plates import PlateShelf

CONFIG = """
log: {{path: {folder}/log.db}}
tasks: [vehicles]
cameras:
- {{name: stream, source: "sim://road?seed=1&width=640&height=352&fps=5&seconds=8", mode: stream}}
- {{name: still, source: "sim://road?seed=2&width=640&height=352&fps=5&seconds=2", mode: still}}
"""
IDLE_S = 3.0
"""How long decoders are kept here."""
TRACE = Path(__file__).with_name("pool_trace.json")


def recorded(folder: Path) -> str:
    """The address of a log with two cameras in it, made by the real system."""
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder))
    command = [
        sys.executable,
        "-m",
        "discover_stream.app.cli",
        "run",
        "--until-idle",
        "-c",
        str(folder / "config.yaml"),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return f"sqlite:{folder}/log.db"


def decoding_processes() -> int:
    """Processes of replicas and of subscriber pools that exist on this machine and belong to this one."""
    mine = psutil.Process().children(recursive=True)
    count = 0
    for process in mine:
        with suppress(psutil.Error):
            name = " ".join(process.cmdline())
            count += "ServeReplica" in name or "DecodeActor" in name
    return count


def processor_s() -> float:
    """Processor time of this process and of all that it started and that exist."""
    mine = psutil.Process()
    total = 0.0
    for process in (mine, *mine.children(recursive=True)):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def first_picture_s(pool: ReplayPool, url: str, camera: str) -> float:
    """From asking for a replay to its first picture, the reading of the log included."""
    began_s = time.monotonic()
    for _ in pictures(pool, url, camera):
        return time.monotonic() - began_s
    raise AssertionError("no picture came")


def pictures(pool: ReplayPool, url: str, camera: str) -> Iterator[int]:
    """The numbers of the frames of a replay as they are decoded."""
    with open_log(url) as log, closing(PlateShelf(log)) as plates:
        span = archive_span(log, camera)
        found = read_archive(log, camera, span.first_ns, span.last_ns + 1)
        items = (Item(each.camera, each.packet, each.capture_ns, True, each.offset) for each in found)
        planner = JobPlanner(plates.fetch, lambda first: (), session=f"viewer {threading.get_ident()}", first=1)
        for frame in pool.decode(planner.jobs(items), DecodeOptions("human")):
            yield frame.seq


def until(condition: Callable[[], bool], limit_s: float, what: str) -> float:
    """Seconds until a condition holds. Exits where it does not come to hold."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > limit_s:
            sys.exit(f"not observed within {limit_s:.0f} s: {what}")
        time.sleep(0.1)
    return time.monotonic() - began_s


def none_left(pool: ReplayPool) -> bool:
    """Whether Serve says there is no replica, and the system that there is no process of one."""
    return pool.state().none and decoding_processes() == 0


def measure(pool: ReplayPool, url: str, turns: int, modes: Sequence[str]) -> None:
    """Print first pictures, cold and warm, of the modes."""
    for camera in modes:
        waited: dict[str, list[float]] = {"cold": [], "warm": []}
        busy: dict[str, list[float]] = {"cold": [], "warm": []}
        ends = []
        for _ in range(turns):
            ends.append(until(lambda: none_left(pool), 180, "no replica"))
            for what, found in waited.items():
                before_s = processor_s()
                found.append(first_picture_s(pool, url, camera))
                busy[what].append(processor_s() - before_s)
        for what, found in waited.items():
            found.sort()
            print(
                f"{camera} mode, {what}: first picture after {statistics.median(found):.2f} s "
                f"(median of {turns}; {found[0]:.2f} to {found[-1]:.2f}); all processes worked "
                f"{statistics.median(busy[what]):.2f} s for it; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
        print(
            f"{camera} mode: none left {statistics.median(ends[1:] or ends):.1f} s after the last picture", flush=True
        )


def replay_trace(pool: ReplayPool, url: str, trace: Sequence[int], step_s: float) -> list[int]:
    """Have as many viewers as the trace says, and return the numbers of replicas that were observed."""
    stop, viewers = threading.Event(), list[threading.Thread]()
    wanted, failures = [0], list[str]()
    lock = threading.Lock()

    def view(number: int) -> None:
        while not stop.is_set():
            if number >= wanted[0]:
                time.sleep(0.05)
                continue
            seen = [seq for seq in pictures(pool, url, "stream") if not stop.is_set()]
            if not stop.is_set() and seen != list(range(len(seen))):
                with lock:
                    failures.append(f"viewer {number} saw {seen}")

    until(lambda: none_left(pool), 180, "no replica before the trace")
    viewers = [threading.Thread(target=view, args=(number,), daemon=True) for number in range(max(trace))]
    for viewer in viewers:
        viewer.start()
    observed = []
    for count in trace:
        wanted[0] = count
        state = pool.state()
        observed.append(state.running + state.starting)
        time.sleep(step_s)
    wanted[0] = 0
    stop.set()
    for viewer in viewers:
        viewer.join()
    if failures:
        sys.exit(f"requests were lost: {failures[0]}")
    until(lambda: none_left(pool), 180, "no replica after the trace")
    return [*observed, pool.state().running]


def subscriber_trace(url: str, trace: Sequence[int], step_s: float, record: Path | None, rules: PoolRules) -> list[int]:
    """Have packets decoded as often as the trace says, and return the numbers of processes that were decided."""
    lines: list[tuple[PoolLoad, Decision]] = []
    with (
        subscribe("vehicles", log=url, camera="stream") as subscription,
        SubscriberPool(rules, on_decision=lambda load, decision: lines.append((load, decision))) as pool,
    ):
        frames, waiting = again(subscription), []
        time.sleep(1.0)
        for count in trace:
            waiting += [pool.start(next(frames), DecodeOptions()) for _ in range(4 * count)]
            time.sleep(step_s)
        for future in waiting:
            future.result()
        until(lambda: pool.figures.wanted == 0 and decoding_processes() == 0, 180, "no subscriber process")
        time.sleep(1.0)
        figures = pool.figures
    print(
        f"subscriber pool: {len(waiting)} packets, all decoded, {figures.service_s * 1000:.0f} ms each; "
        f"{figures.starts} processes started, {figures.cold_starts} times from none"
    )
    if record is not None:
        found = [json.dumps({"rules": asdict(rules)})]
        begin_s = lines[0][0].at_s
        for load, decision in lines:
            told = {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(load).items()}
            told["at_s"] = round(load.at_s - begin_s, 4)
            found.append(json.dumps({"load": told, "decision": asdict(decision)}))
        record.write_text("\n".join(found) + "\n")
    return [decision.workers for _, decision in lines]


def again(subscription: Subscription) -> Iterator[TaskFrame]:
    """A subscription's frames, over and over: keeps a load up for as long as it is wanted."""
    frames = []
    while (item := subscription.poll(1.0)) is not None:
        if isinstance(item, TaskFrame):
            frames.append(item)
            yield item
    while True:  # the newest one can be asked for again
        yield frames[-1]


def shown(counts: Sequence[int]) -> str:
    """Numbers in a row, each as often as it lasted: 0x12 1x3 ..."""
    return " ".join(f"{count}x{len(list(group))}" for count, group in itertools.groupby(counts))


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--modes", default="stream,still", help="of which first pictures are measured")
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--log", help="a log made before")
    parser.add_argument("--skip", default="")
    options = parser.parse_args()
    skip = set(options.skip.split(","))
    trace = json.loads(options.trace.read_text())
    with tempfile.TemporaryDirectory() as folder:
        url = options.log or recorded(Path(folder))
        start_ray(200)
        try:
            if not {"measure", "replays"} <= skip:
                pool = ReplayPool(DecodeScale(most=trace["most"], idle_s=IDLE_S, up_s=0.5))
            if "measure" not in skip:
                measure(pool, url, options.turns, options.modes.split(","))
            if "replays" not in skip:
                print("viewers: ", shown(trace["viewers"]))
                print("replicas:", shown(replay_trace(pool, url, trace["viewers"], trace["step_s"])), flush=True)
            if "subscribers" not in skip:
                rules = PoolRules(most=trace["most"], deadline_s=1.0, cold_start_s=1.5, idle_s=IDLE_S, down_s=2.0)
                counts = subscriber_trace(url, trace["packets"], trace["step_s"], options.record, rules)
                print("packets:  ", shown(trace["packets"]))
                print("processes:", shown(counts), flush=True)
        finally:
            stop_ray()


if __name__ == "__main__":
    main()
