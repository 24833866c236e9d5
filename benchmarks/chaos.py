"""`discover run` while its processes and its brokers are killed at random: is anything lost, doubled, out of order?

A system with four simulated cameras and the real codec runs as its users start it. This process kills stages with
SIGKILL, one every few seconds; on Kafka it also kills the broker hard and starts it again (one node), or kills the
node that coordinates the transactions of encoding, lets the system go on without it, and starts it again (three
nodes). When everything has been routed, `benchmarks.sequential` reads the log from this process and compares it,
byte for byte, with a run of one process without a log. Meanwhile the memory and the open files of all its processes
are looked at: what is there in the last third of the run, against the second third.

    python -m benchmarks.chaos [--backend sqlite|kafka] [--nodes 1|3] [--seconds 300] [--kills 27] [--seed 1]

Exit status 1 if a record is lost, doubled, out of order or different, if the system ended with an error, or if
there were fewer kills than asked for (by default, three of every process).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch

from actors.decisions import plan_stages
from actors.registry import load_tasks
from benchmarks.sequential import Judge, Verdict
from deploy.kafka.broker import Broker
from discover_stream.config import load_config
from discover_stream.types import DiscoverError, Frame
from discover_stream.video.sink import open_sink
from discover_stream.video.source import open_source
from topics import open_log
from topics.catalogue import ARCHIVE, DEAD
from topics.messages import DeadMessage, decode_as
from topics.reading import read_all

CAMERAS = ("gate", "yard", "bridge", "square")
TASKS = ("vehicles", "everything")
PARTITIONS = 2
START_NS = 1_767_225_600 * 10**9
QUALITY = 3
BROKER_DOWN_S = 6.0
COORDINATOR_DOWN_S = 20.0
SAMPLE_S = 5.0
OUTAGE_S = 30.0
"""About how long killing a broker, its absence and its return take, during which no stage is killed."""
CONFIG = """
log: {log}
tasks: [{tasks}]
quality: {quality}
mode: still
pools: {{ground_batch: 2}}
cameras:
{cameras}
"""
CAMERA = "- {{name: {name}, source: {folder}/{name}.mkv, realtime: true, starts_at: 2026-01-01T00:00:00Z}}"


@dataclass(frozen=True)
class Options:
    """What is asked for on the command line; `seconds` of clip, at `fps` frames a second per camera."""

    backend: str
    nodes: int
    seconds: int
    kills: int
    seed: int
    fps: int
    folder: Path


@dataclass
class Tally:
    """What was done to the system."""

    kills: Counter[str] = field(default_factory=Counter)
    outages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """What all processes of the system hold together: how many there are, their memory in MB (pages of their own),
    and their open files."""

    at_s: float
    processes: int
    memory_mb: float
    files: int


class Gauge:
    """Looks every few seconds at what the system holds."""

    def __init__(self, pid: int) -> None:
        self._root, self._stop = psutil.Process(pid), threading.Event()
        self._began_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[Sample] = []

    def __enter__(self) -> Gauge:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            with contextlib.suppress(psutil.NoSuchProcess):
                held = [self._held(one) for one in (self._root, *self._root.children(recursive=True))]
                there = [item for item in held if item is not None]
                memory, files = sum(item[0] for item in there), sum(item[1] for item in there)
                self.samples.append(Sample(time.monotonic() - self._began_s, len(there), memory / 1e6, files))

    @staticmethod
    def _held(process: psutil.Process) -> tuple[int, int] | None:
        try:
            return process.memory_full_info().uss, process.num_fds()
        except psutil.Error:  # it has just died
            return None

    def verdict(self) -> tuple[list[str], bool]:
        """What to print, and whether memory and files are flat: the last third of the run against the second."""
        third = len(self.samples) // 3
        if not third:
            return ["too few looks at memory and files"], False
        lines, flat = [], True
        for what, bound in (("processes", 1.1), ("memory_mb", 1.1), ("files", 1.1)):
            series = [float(getattr(sample, what)) for sample in self.samples]
            middle, last = (statistics.median(series[n * third : (n + 1) * third]) for n in (1, 2))
            flat &= last <= bound * middle
            change = 100 * (last / middle - 1)
            lines.append(f"{what}: median {middle:.0f} in the second third, {last:.0f} in the last ({change:+.1f} %)")
        return lines, flat


class System:
    """`discover run` in processes of its own; what it says goes to a file."""

    def __init__(self, config: Path, out: Path) -> None:
        self.out = out
        command = [sys.executable, "-m", "discover_stream.app.cli", "run", "--config", str(config)]
        with out.open("wb") as stream:
            self.process = subprocess.Popen(
                [*command, "--until-idle", "--every", "10"],
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=out.parent,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """Everything so far."""
        return self.out.read_text(errors="replace")

    def pids(self) -> dict[str, int]:
        """Stage -> the newest process that it was reported in."""
        return {
            stage: int(pid) for stage, pid in re.findall(r"^(\S+) started(?: again)?: process (\d+)$", self.said, re.M)
        }

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def end(self) -> None:
        """Kill it, if it still runs."""
        if self.running:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def render(options: Options) -> dict[str, list[Frame]]:
    """Lossless clips of the cameras, and their frames."""
    frames: dict[str, list[Frame]] = {}
    for number, name in enumerate(CAMERAS):
        seed = options.seed * len(CAMERAS) + number
        path = options.folder / f"{name}.mkv"
        uri = f"sim://road?seed={seed}&width=96&height=64&fps={options.fps}&seconds={options.seconds}"
        with open_source(uri, camera=name) as source, open_sink(path, fps=options.fps) as sink:
            for frame in source:
                sink.write(frame.image)
        with open_source(str(path), camera=name, start_ns=START_NS) as source:
            frames[name] = list(source)
    return frames


def write_config(options: Options, broker: Broker | None) -> Path:
    """The configuration of the system under test."""
    log = f"{{path: {options.folder}/log.db, partitions: {PARTITIONS}}}"
    if broker is not None:
        brokers = json.dumps(broker.bootstrap.split(","))
        log = f"{{kafka: {{brokers: {brokers}, replication: {options.nodes}}}, partitions: {PARTITIONS}}}"
    cameras = "\n".join(CAMERA.format(name=name, folder=options.folder) for name in CAMERAS)
    path = options.folder / "config.yaml"
    path.write_text(CONFIG.format(log=log, cameras=cameras, tasks=", ".join(TASKS), quality=QUALITY))
    return path


def kill_one(system: System, stages: Iterator[str], tally: Tally) -> None:
    """SIGKILL the process of the next stage in turn that runs now."""
    pids = system.pids()
    for _ in range(len(pids)):
        stage = next(stages)
        if stage not in pids:
            continue
        try:
            os.kill(pids[stage], signal.SIGKILL)
        except ProcessLookupError:  # it is dead already, and not yet reported again
            continue
        tally.kills[stage] += 1
        return


def stage_names() -> list[str]:
    """The processes that are killed."""
    return sorted({"ground-0", *(plan.identity for plan in plan_stages(CAMERAS, PARTITIONS, ()))})


def turns(chance: random.Random, names: Sequence[str]) -> Iterator[str]:
    """All stages in random order, again and again: each is killed about as often as the others."""
    while True:
        yield from chance.sample(names, len(names))


def archived(url: str) -> int:
    """Where the archive ends, over all partitions."""
    with open_log(url) as log:
        return sum(log.bounds(ARCHIVE, partition).end for partition in range(PARTITIONS))


def wait_for_progress(url: str, system: System, beyond: int) -> float:
    """Seconds until the archive has grown past a number; until the system has ended, at most."""
    began_s = time.monotonic()
    while system.running:
        try:
            if archived(url) > beyond:
                break
        except DiscoverError:
            pass  # the broker is still starting
        time.sleep(0.2)
    return time.monotonic() - began_s


def bounce(broker: Broker, url: str, system: System, tally: Tally) -> None:
    """Kill the only broker hard, and start it again after a while."""
    before = archived_or(url, 0)
    broker.stop_node(0, hard=True)
    time.sleep(BROKER_DOWN_S)
    broker.start_node(0)
    waited_s = wait_for_progress(url, system, before)
    tally.outages.append(
        f"broker killed, away {BROKER_DOWN_S:.0f} s and its start; next packets {waited_s:.1f} s after that"
    )


def coordinator(broker: Broker, transactional_id: str) -> int:
    """The running node that coordinates a transactional id now. Raises DiscoverError where none does."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    addresses = broker.bootstrap.split(",")
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        try:
            admin = KafkaAdminClient(bootstrap_servers=[addresses[node] for node in broker.pids])
            try:
                for node in broker.pids:
                    listings = admin.list_transactions(broker_ids=[node])[node]
                    if any(listing.transactional_id == transactional_id for listing in listings):
                        return node
            finally:
                admin.close()
        except KafkaError:  # the transactions are on their way to another node
            pass
        time.sleep(0.5)
    raise DiscoverError(f"no node coordinates {transactional_id}; is the system running?")


def lose_coordinator(broker: Broker, url: str, system: System, tally: Tally) -> None:
    """Kill the node that coordinates an encoder's transactions; the others go on; then it comes back."""
    stage = next(name for name in sorted(system.pids()) if name.startswith("encode-"))
    node = coordinator(broker, stage)
    before = archived_or(url, 0)
    broker.stop_node(node, hard=True)
    killed_s = time.monotonic()
    time.sleep(1.0)
    waited_s = 1.0 + wait_for_progress(url, system, max(before, archived_or(url, before)))
    moved = coordinator(broker, stage)
    time.sleep(max(0.0, killed_s + COORDINATOR_DOWN_S - time.monotonic()))
    during = archived_or(url, before) - before
    broker.start_node(node)
    tally.outages.append(
        f"node {node}, coordinator of {stage}, killed: node {moved} took over, next packets after {waited_s:.1f} s, "
        f"archive +{during} offsets in the {COORDINATOR_DOWN_S:.0f} s without it; started again"
    )


def archived_or(url: str, otherwise: int) -> int:
    """Where the archive ends, or another number while the log cannot say."""
    try:
        return archived(url)
    except DiscoverError:
        return otherwise


def torment(options: Options, broker: Broker | None, url: str, system: System, tally: Tally) -> None:
    """Kill this and that while the clips run, as the seed has it; returns when the system has ended."""
    chance = random.Random(options.seed)
    names = stage_names()
    stages = turns(chance, names)
    outages: list[tuple[float, Callable[..., None]]] = []
    if broker is not None:
        harm = bounce if options.nodes == 1 else lose_coordinator
        outages = [(options.kills * part, harm) for part in (1 / 3, 2 / 3)]
    ends_s = time.monotonic() + 0.85 * options.seconds  # while the clips still run
    while system.running and tally.kills.total() < options.kills:
        left_s = ends_s - time.monotonic() - OUTAGE_S * len(outages)
        pause_s = max(0.5, left_s / (options.kills - tally.kills.total()))
        time.sleep(chance.uniform(0.4, 1.6) * pause_s)
        if not system.running:
            break
        kill_one(system, stages, tally)
        if broker is not None and outages and tally.kills.total() >= outages[0][0]:
            outages.pop(0)[1](broker, url, system, tally)
    system.process.wait()


@contextmanager
def started(config: Path, out: Path) -> Iterator[System]:
    """The system, which does not outlive the block."""
    system = System(config, out)
    try:
        yield system
    finally:
        system.end()


def report(system: System, tally: Tally, verdicts: Sequence[Verdict], dead: Sequence[DeadMessage]) -> bool:
    """Print what was done and what came of it; whether all is well."""
    again = Counter(re.findall(r"^(\S+) started again: process \d+$", system.said, re.M))
    print(f"\n{'stage':18}{'kills':>7}{'started again':>15}")
    for stage in sorted({*again, *tally.kills}):
        print(f"{stage:18}{tally.kills[stage]:7}{again[stage]:15}")
    print(f"{'all':18}{tally.kills.total():7}{again.total():15}")
    for line in tally.outages:
        print(line)
    heads = ("expected", "found", "lost", "doubled", "disordered", "different")
    print(f"\n{'camera':8}{'topic':18}" + "".join(f"{head:>12}" for head in heads))
    for verdict in verdicts:
        figures = (getattr(verdict, head) for head in heads)
        print(f"{verdict.camera:8}{verdict.topic:18}" + "".join(f"{figure:12}" for figure in figures))
    sums = {head: sum(getattr(verdict, head) for verdict in verdicts) for head in heads}
    print(f"{'all':26}" + "".join(f"{sums[head]:12}" for head in heads))
    for message in dead:
        print(f"dead: {message.topic} {message.partition} offset {message.offset}: {message.reason}")
    well = system.process.returncode == 0 and not dead and all(verdict.ok for verdict in verdicts)
    if system.process.returncode != 0:
        print(f"the system ended with status {system.process.returncode}; its last words:")
        print("\n".join(system.said.splitlines()[-15:]))
    return well


def run(options: Options) -> bool:
    """One run; whether all is well."""
    tally = Tally()
    began_s = time.monotonic()
    frames = render(options)
    print(
        f"{options.backend}, {options.nodes} node(s), seed {options.seed}: {options.seconds} s of {len(CAMERAS)} "
        f"cameras at {options.fps} frames/s, {options.kills} kills; files in {options.folder}",
        flush=True,
    )
    broker_folder = options.folder / "kafka"
    with Broker(broker_folder, nodes=options.nodes) if options.backend == "kafka" else nullcontext() as broker:
        config = write_config(options, broker)
        url = load_config(config).log.url
        with started(config, options.folder / "run.txt") as system:
            while system.running and not set(stage_names()) <= set(system.pids()):
                time.sleep(0.2)
            with Gauge(system.process.pid) as gauge:  # of the system at work, not of its start
                torment(options, broker, url, system, tally)
        ended_s = time.monotonic()
        torch.set_num_threads(1)
        with open_log(url) as log:
            verdicts = Judge(load_tasks(TASKS), QUALITY).verdicts(log, frames)
            dead = [decode_as(DeadMessage, record.value or b"") for record in read_all(log, DEAD)]
    well = report(system, tally, verdicts, dead)
    lines, flat = gauge.verdict()
    print("\n".join(lines))
    enough = tally.kills.total() >= options.kills
    least = min(tally.kills[name] for name in stage_names())
    print(f"every process was killed {least} times at least; memory and files {'are flat' if flat else 'GROW'}")
    print(f"ran {ended_s - began_s:.0f} s, judged in {time.monotonic() - ended_s:.0f} s")
    print("FAILED" if not well else "too few kills" if not enough else "nothing lost, nothing twice, all in order")
    return well and enough and flat


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("sqlite", "kafka"), default="sqlite")
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--kills", type=int, default=3 * len(stage_names()))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fps", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="an empty folder for all files; kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() if given.folder is None else nullcontext(given.folder) as folder:
        place = Path(folder).resolve()
        place.mkdir(parents=True, exist_ok=True)
        options = Options(given.backend, given.nodes, given.seconds, given.kills, given.seed, given.fps, place)
        return 0 if run(options) else 1


if __name__ == "__main__":
    sys.exit(main())
