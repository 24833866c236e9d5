"""Runs the demo: cameras through the system, substreams to subscribers, packets to pictures and figures."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from actors.progress import Progress
from actors.system import DecodeJob, System
from discover_stream.app.demo_clock import Clock
from discover_stream.app.demo_figures import ALL, Received, TaskFigures, figures_table, task_figures
from discover_stream.app.demo_pictures import Moment
from discover_stream.app.demo_plan import DemoCamera, Files, demo_config, plan_cameras, write_config
from discover_stream.app.demo_show import Shown, show
from discover_stream.codec.packet import parse_packet
from discover_stream.config import Config, load_config
from discover_stream.decoding import DecodedFrame
from discover_stream.semantics.labels import load_task
from discover_stream.types import Image, InputError, Provenance, Task
from discover_stream.video.jpeg import decode_jpeg
from topics import open_log
from topics.catalogue import ARCHIVE, FRAMES, task_topic
from topics.log import Log, Reader, Record
from topics.messages import FrameMessage, decode

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asks for. `seconds` and `fps` are of each camera."""

    video: str | None
    seconds: float
    fps: float
    config: Path | None
    files: Files


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
        DiscoverError: the system gave up; the message says why.
    """
    console, clock, files = Console(highlight=False), Clock(), options.files
    base = load_config(options.config)
    tasks = tuple(load_task(name) for name in base.tasks)
    files.prepare()
    with clock.step("prepare cameras"), console.status("preparing the cameras"):
        cameras = plan_cameras(options.video, options.seconds, options.fps, files)
    decoders = min(2, os.cpu_count() or 1)
    config = demo_config(base, cameras, files, decoders=decoders)
    write_config(config, files.config)
    for camera in cameras:
        console.print(f"camera {camera.name}: {camera.what}, {camera.frames} frames")

    system = System(config, on_event=lambda line: console.print(line, style="dim", markup=False))
    with ExitStack() as running:
        with clock.step("start stages"), console.status("starting Ray and the stages"):
            running.enter_context(system)
        with clock.step("stream"):
            streams = stream(system, config, tasks, cameras, (console, clock))
        decoded = decode_views(system, streams.packets, decoders, (console, clock))
        clock.observe(system.progress())
    figures = measure(streams, decoded)
    with clock.step("pictures"), console.status("making pictures"):
        model = streams.packets[ALL][0].packet.model.hex()
        shown = Shown(tasks, cameras, figures, moments(streams, decoded), options.fps, model)
        busy = clock.busy(len(streams.packets[ALL]))
        show(shown, files, tuple(clock.steps), busy)
    console.print()
    console.print(figures_table(figures, f"{len(cameras)} cameras, {options.seconds:g} s at {options.fps:g} frames/s"))
    console.print("wall time: " + ", ".join(f"{step.step} {step.seconds:.0f} s" for step in clock.steps))
    console.print("processors: " + ", ".join(f"{stage.step} {stage.detail}" for stage in busy))
    for path in (files.film, files.sheet, files.report):
        console.print(f"wrote {path}", soft_wrap=True)


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
    names = [task.name for task in tasks]
    packets: dict[str, list[Received]] = {name: [] for name in names}
    with ExitStack() as stack:
        log = stack.enter_context(open_log(config.log.url))
        readers = {name: stack.enter_context(closing(log.reader(task_topic(name), group="demo"))) for name in names}
        shown = stack.enter_context(bars(console))
        captured = shown.add_task("captured", total=expected)
        encoded = shown.add_task("encoded", total=expected)
        rows = {name: shown.add_task(f"received {name}", total=expected) for name in names}
        idle = False
        while True:
            for name, reader in readers.items():
                packets[name] += receive(reader)
                shown.update(rows[name], completed=len(packets[name]))
            progress = system.progress()
            clock.observe(progress)
            shown.update(captured, completed=progress.frames)
            shown.update(encoded, completed=progress.archived)
            if idle and all(len(packets[task.name]) >= task.packets for task in progress.tasks):
                break
            idle = system.wait_idle(timeout_s=POLL_S)
        for row in (captured, encoded, *rows.values()):
            shown.update(row, total=progress.archived)
        packets[ALL] = [received(record) for record in records(log, ARCHIVE)]
        originals = dict(original_frames(log))
    report_problems(progress, console)
    if not packets[ALL]:
        raise InputError("demo: no frame came through; see the messages above")
    order = {camera.name: index for index, camera in enumerate(cameras)}
    for items in packets.values():
        items.sort(key=lambda item: (order[item.camera], item.packet.seq))
    return Streams(packets, originals)


def receive(reader: Reader) -> list[Received]:
    """What has arrived for a subscriber since the last call."""
    found = [received(item) for item in reader.poll() if isinstance(item, Record)]
    if found:
        reader.commit()
    return found


def received(record: Record) -> Received:
    """The packet in a record. Raises BitstreamError where it is damaged."""
    camera, data = record.key or "?", record.value or b""
    return Received(camera, data, parse_packet(data, camera=camera))


def records(log: Log, topic: str) -> Iterator[Record]:
    """Every record of a topic as it is now."""
    with closing(log.reader(topic)) as reader:
        while items := reader.poll():
            yield from (item for item in items if isinstance(item, Record))


def original_frames(log: Log) -> Iterator[tuple[tuple[str, int], Image]]:
    """The pictures of the frames topic, by (camera, seq)."""
    for record in records(log, FRAMES):
        message = decode(record.value or b"")
        if isinstance(message, FrameMessage):
            yield (message.camera, message.seq), decode_jpeg(message.jpeg)


def report_problems(progress: Progress, console: Console) -> None:
    """Say what was lost or went wrong on the way, if anything."""
    for camera in progress.cameras:
        for reason, count in camera.dropped.items():
            console.print(f"camera {camera.name}: {count} frames dropped ({reason})", markup=False)
        if camera.problem:
            console.print(f"camera {camera.name}: {camera.problem}", markup=False)
    for stage in progress.stages:
        if stage.error:
            console.print(f"{stage.name}: {stage.error} ({stage.restarts} restarts)", markup=False)
    if progress.dead:
        console.print(f"{progress.dead} frames could not be processed; they are on the topic 'dead'")


def decode_views(
    system: System, packets: Mapping[str, Sequence[Received]], processes: int, watch: tuple[Console, Clock]
) -> dict[str, Decoded]:
    """Decode every substream on the decode pool of `processes` processes."""
    console, clock = watch
    decoded = {}
    with bars(console) as shown:
        rows = {name: shown.add_task(f"decoded {name}", total=len(items)) for name, items in packets.items()}
        with clock.step("start decoders"):
            # Enough packets for each process to get some: loading networks is not part of decoding a frame.
            list(system.decode([job(packets[ALL][0])] * 2 * processes))
            clock.observe(system.progress())
        for name, items in packets.items():
            start = time.perf_counter()
            frames = []
            with clock.step(f"decode {name}"):
                for frame in system.decode(map(job, items)):
                    frames.append(frame)
                    shown.update(rows[name], completed=len(frames))
            ms = 1000 * (time.perf_counter() - start) * processes / max(1, len(frames))
            decoded[name] = Decoded(frames, ms)
    return decoded


def job(item: Received) -> DecodeJob:
    """Decode all that a packet holds."""
    return DecodeJob(item.camera, item.data)


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
            found.setdefault(item.camera, []).append(Moment(*place, streams.originals[place], decodes))
    return found
