"""Runs the demo: cameras through the system, substreams to subscribers, packets to pictures and figures."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from actors.progress import Progress
from actors.stream_jobs import Item, Job, JobPlanner
from actors.system import System
from discover_stream.app.demo_clock import Clock
from discover_stream.app.demo_figures import ALL, Received, TaskFigures, figures_table, task_figures
from discover_stream.app.demo_log import borrowed, demo_log
from discover_stream.app.demo_pictures import Moment
from discover_stream.app.demo_plan import DemoCamera, Files, demo_config, plan_cameras, write_config
from discover_stream.app.demo_show import Shown, show
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.codec.packet import task_key
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.config import Config, load_config
from discover_stream.decoded import DecodedFrame
from discover_stream.sdk import Subscription, TaskFrame, read_archive, subscribe
from discover_stream.semantics.labels import load_task
from discover_stream.types import DiscoverError, Image, InputError, Provenance, Task
from discover_stream.video.jpeg import decode_jpeg
from topics import open_log
from topics.catalogue import FRAMES
from topics.log import Log
from topics.messages import FrameMessage, decode
from topics.plates import PlateShelf
from topics.reading import read_all

POLL_S = 0.2
STALL_S = 300.0
LATEST_NS = 2**63 - 1
GROUP = "demo"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asks for. `seconds` and `fps` are of each camera, `keep_topics` is for brokers."""

    video: str | None
    seconds: float
    fps: float
    config: Path | None
    files: Files
    keep_topics: bool = False


@dataclass(frozen=True, slots=True)
class Streams:
    """What came out of the system: per task and under `all`, packets as they were received, ordered by
    camera and seq; and the frames they show, by (camera, seq)."""

    packets: Mapping[str, Sequence[Received]]
    originals: Mapping[tuple[str, int], Image]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A substream decoded, in the order of its packets, and the milliseconds a process needs for a frame."""

    frames: Sequence[DecodedFrame]
    ms: float


def run_demo(options: DemoOptions) -> None:
    """Run the demo and leave its results in `options.files`.

    Raises:
        InputError: the clip, the configuration or the folder cannot be used.
        DiscoverError: the system gave up; the message says why. LogError: the log cannot be used.
    """
    base = load_config(options.config)
    tasks = tuple(load_task(listed.task) for listed in base.tasks)
    with options.files.taken():
        show_main_job(options, base, tasks)


def show_main_job(options: DemoOptions, base: Config, tasks: tuple[Task, ...]) -> None:
    """Run the demo in a folder that is its own."""
    console, clock, files = Console(highlight=False), Clock(), options.files
    with clock.step("prepare cameras"), console.status("preparing the cameras"):
        cameras = plan_cameras(options.video, options.seconds, options.fps, files)
    decoders = min(2, os.cpu_count() or 1)
    log = demo_log(base.log.anchored(Path.cwd()), files, len(cameras), datetime.now())
    config = demo_config(base, cameras, log, decoders=decoders)
    write_config(config, files.config)
    for camera in cameras:
        say(console, f"camera {camera.name}: {camera.what}, {camera.frames} frames")

    system = System(config, on_event=lambda line: console.print(line, style="dim", markup=False))
    with borrowed(config.log, options.keep_topics, lambda line: say(console, line)), ExitStack() as running:
        with clock.step("start stages"), console.status("starting Ray and the stages"):
            running.enter_context(system)
        with clock.step("stream"):
            streams = stream(system, config, tasks, cameras, (console, clock))
        with open_log(config.log.url) as opened:
            decoded = decode_views(system, opened, streams.packets, decoders, (console, clock))
        clock.observe(system.progress())
        with clock.step("stop stages"), console.status("stopping"):
            running.close()
    figures = measure(streams, decoded)
    with clock.step("pictures"), console.status("making pictures"):
        model = streams.packets[ALL][0].packet.model.hex()
        shown = Shown(tasks, cameras, figures, moments(streams, decoded), options.fps, model, config.log.url)
        busy = clock.busy()
        show(shown, files, tuple(clock.steps), busy)
    console.print()
    console.print(figures_table(figures, f"{len(cameras)} cameras, {options.seconds:g} s at {options.fps:g} frames/s"))
    total = sum(step.seconds for step in clock.steps)
    say(console, f"wall time {total:.0f} s: " + ", ".join(f"{step.step} {step.seconds:.0f}" for step in clock.steps))
    say(console, "processor time, s: " + ", ".join(f"{kind.step} {kind.seconds:.0f} ({kind.detail})" for kind in busy))
    for path in (files.film, files.sheet, files.report):
        say(console, f"wrote {path}")


def say(console: Console, line: str) -> None:
    """Print a line as it is, in one piece also where the terminal is narrow."""
    console.print(line, soft_wrap=True, markup=False)


@contextmanager
def bars(console: Console) -> Iterator[Bars]:
    """Progress bars that count frames."""
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console) as shown:
        yield shown


def stream(
    system: System,
    config: Config,
    tasks: Sequence[Task],
    cameras: Sequence[DemoCamera],
    watch: tuple[Console, Clock],
) -> Streams:
    """Follow the system until everything has been routed, receiving every task's packets meanwhile.

    Raises:
        InputError: no frame arrived at all.
    """
    console, clock = watch
    expected = sum(camera.frames for camera in cameras)
    names, sizes = [task.name for task in tasks], {camera.name: camera.size for camera in cameras}
    packets: dict[str, list[Received]] = {name: [] for name in names}
    with ExitStack() as stack:
        log = stack.enter_context(open_log(config.log.url))
        # A time-out of zero ends the iteration when nothing waits; it goes on at the next look.
        subscribers = {name: stack.enter_context(subscribe(name, log=log, group=GROUP, timeout_s=0)) for name in names}
        shown = stack.enter_context(bars(console))
        captured = shown.add_task("captured", total=expected)
        encoded = shown.add_task("encoded", total=expected)
        rows = {name: shown.add_task(f"received {name}", total=expected) for name in names}
        patience = Patience()
        idle, sent = False, dict[str, int]()
        while True:
            for name, subscription in subscribers.items():
                packets[name] += receive(subscription, sizes)
                shown.update(rows[name], completed=len(packets[name]))
            progress = system.progress()
            clock.observe(progress)
            shown.update(captured, completed=progress.frames)
            shown.update(encoded, completed=progress.archived)
            if idle and not sent:
                packets[ALL] = archived(log, cameras, sizes)
                sent = {task.name: packets_for(task, packets[ALL]) for task in tasks}
            if idle and all(len(packets[name]) >= count for name, count in sent.items()):
                break
            patience.look(progress)
            idle = system.wait_idle(timeout_s=POLL_S)
        for row in (captured, encoded, *rows.values()):
            shown.update(row, total=len(packets[ALL]))
        originals = dict(original_frames(log))
    report_problems(progress, console)
    if not packets[ALL]:
        raise InputError("demo: no frame came through; see the messages above")
    order = {camera.name: index for index, camera in enumerate(cameras)}
    for items in packets.values():
        items.sort(key=lambda item: (order[item.camera], item.packet.seq))
    return Streams(packets, originals)


class Patience:
    """Ends a wait for a system in which nothing happens any more: the demo must not hang."""

    def __init__(self) -> None:
        self._seen: object = None
        self._since_s = time.monotonic()

    def look(self, progress: Progress) -> None:
        """Raise DiscoverError where nothing has changed for `STALL_S`, naming every stage that does not run."""
        state = [(stage.name, stage.health, stage.restarts, stage.done, stage.lag) for stage in progress.stages]
        if state != self._seen:
            self._seen, self._since_s = state, time.monotonic()
        elif time.monotonic() - self._since_s > STALL_S:
            stuck = [
                f"{stage.name} is {stage.health}" + (f" ({stage.error})" if stage.error else "")
                for stage in progress.stages
                if stage.health not in ("running", "ended") or stage.lag
            ]
            raise DiscoverError(
                f"demo: nothing has moved for {STALL_S:.0f} s; {'; '.join(stuck) or 'every stage says it runs'};"
                " run it again, and report it if it happens again"
            )


def receive(subscription: Subscription, sizes: Mapping[str, tuple[int, int]]) -> list[Received]:
    """What has arrived for a subscriber since the last look, from cameras with pictures of these sizes."""
    frames = [item for item in subscription if isinstance(item, TaskFrame)]
    if frames:
        subscription.commit()
    return [Received(f.camera, f.size, f.packet, f.capture_ns or 0, len(f.regions), *sizes[f.camera]) for f in frames]


def archived(log: Log, cameras: Sequence[DemoCamera], sizes: Mapping[str, tuple[int, int]]) -> list[Received]:
    """Everything in the archive."""
    received = []
    with closing(PlateShelf(log)) as plates:
        for camera in cameras:
            reader = CameraReader(camera.name, partial(plates.fetch, camera.name))
            for found in read_archive(log, camera.name, 0, LATEST_NS):
                # An object that several tasks want is one.
                regions = {(region.track, region.box) for region in reader.read(found.packet).regions}
                received.append(
                    Received(
                        camera.name, len(found.data), found.packet, found.capture_ns, len(regions), *sizes[camera.name]
                    )
                )
    return received


def packets_for(task: Task, packets: Sequence[Received]) -> int:
    """How many of the archive's packets a task's subscriber gets something of."""
    key = task_key(task.name, task.label_set.version)
    return sum(key in received.packet.tasks for received in packets)


def original_frames(log: Log) -> Iterator[tuple[tuple[str, int], Image]]:
    """The pictures of the frames topic, by (camera, seq)."""
    for record in read_all(log, FRAMES):
        message = decode(record.value or b"")
        if isinstance(message, FrameMessage):
            yield (message.camera, message.seq), decode_jpeg(message.jpeg)


def report_problems(progress: Progress, console: Console) -> None:
    """Say what was lost or went wrong on the way, if anything."""
    for camera in progress.cameras:
        for reason, count in camera.dropped.items():
            say(console, f"camera {camera.name}: {count} frames dropped ({reason})")
        if camera.problem:
            say(console, f"camera {camera.name}: {camera.problem}")
    for stage in progress.stages:
        if stage.error:
            say(console, f"{stage.name}: {stage.error} ({stage.restarts} restarts)")
    if progress.dead:
        say(console, f"{progress.dead} frames could not be processed; they are on the topic 'dead'")


def decode_views(
    system: System, log: Log, packets: Mapping[str, Sequence[Received]], processes: int, watch: tuple[Console, Clock]
) -> dict[str, Decoded]:
    """Decode every substream on the decode pool of `processes` processes."""
    console, clock = watch
    decoded = {}
    with bars(console) as shown, closing(PlateShelf(log)) as plates:
        rows = {
            name: shown.add_task(f"decoded {name}", total=len(items), start=False) for name, items in packets.items()
        }

        def jobs(items: Iterable[Received]) -> Iterator[Job]:
            planner = JobPlanner(plates.fetch, lambda first: ())
            return planner.jobs(Item(item.camera, item.packet, item.capture_ns) for item in items)

        with clock.step("start decoders"):
            # Enough packets for each process to get some: loading networks is not part of decoding a frame.
            (first, *_) = jobs(packets[ALL][:1])
            list(system.decode([first] * 2 * processes))
            clock.observe(system.progress())
        for name, items in packets.items():
            start = time.perf_counter()
            frames = []
            shown.start_task(rows[name])
            with clock.step(f"decode {name}"):
                for frame in system.decode(jobs(items)):
                    frames.append(frame)
                    shown.update(rows[name], completed=len(frames))
            ms = 1000 * (time.perf_counter() - start) * processes / max(1, len(frames))
            decoded[name] = Decoded(frames, ms)
    return decoded


def measure(streams: Streams, decoded: Mapping[str, Decoded]) -> tuple[TaskFigures, ...]:
    """The figures of every task, those of `all` last."""
    return tuple(
        task_figures(
            name,
            items,
            decode_ms=decoded[name].ms if decoded[name].frames else None,
            sent_cells=sum(int(np.sum(frame.provenance == Provenance.SENT)) for frame in decoded[name].frames),
        )
        for name, items in streams.packets.items()
    )


def moments(streams: Streams, decoded: Mapping[str, Decoded]) -> dict[str, list[Moment]]:
    """Per camera, the frames that every subscriber received, in order."""
    views = {name: {(frame.camera, frame.seq): frame for frame in result.frames} for name, result in decoded.items()}
    found: dict[str, list[Moment]] = {}
    for item in streams.packets[ALL]:
        place = item.camera, item.packet.seq
        if place in streams.originals and all(place in view for view in views.values()):
            decodes = {name: view[place] for name, view in views.items()}
            mode = "stream" if isinstance(item.packet, StreamPacket) else "still"
            found.setdefault(item.camera, []).append(Moment(*place, streams.originals[place], decodes, mode))
    return found
