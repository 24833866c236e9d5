"""`discover run`: a system in the foreground, until it is told to stop or has nothing left to do."""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer

from actors.progress import Progress, TaskProgress
from actors.system import System
from discover_stream.app.events import Format, teller
from discover_stream.config import Config, load_config
from discover_stream.config_edge import Role
from discover_stream.types import InputError
from topics.log import LogError

_LOOK_EVERY_S = 0.3


def run_system(
    path: Path | None,
    *,
    until_idle: bool,
    every_s: float,
    as_json: bool,
    http: str | None = None,
    role: Role = "all",
    log_format: Format = "text",
) -> None:
    """Run the system of a configuration; Ctrl-C and SIGTERM stop it cleanly. `http` is where a gateway listens.

    Raises InputError for a configuration that cannot be used, and at the end when a source could not be
    read; LogError when the log cannot be used at the start, has lost its topics or was taken over by another
    system, and at the end when it was away.
    """
    config = load_config(path)
    tell = teller(log_format, as_json=as_json)
    system = System(config, role=role, on_event=tell)
    tell(
        f"log {config.log.path or config.log.url}; cameras {', '.join(c.name for c in config.cameras)}; "
        f"tasks {', '.join(task.task for task in config.tasks)}"
    )
    with system, _metrics(config, tell):
        with asked_to_stop() as asked, _gateway(config, http, as_json=as_json):
            follow(system, asked, until_idle=until_idle, every_s=every_s, as_json=as_json)
        progress = system.progress()
        tell("stopping")
    show(progress, as_json)
    complain(progress)


@contextmanager
def _metrics(config: Config, tell: Callable[[str], None]) -> Iterator[None]:
    """Figures for Prometheus for as long as the block lasts, where they are wanted."""
    if config.metrics.port is None:
        yield
        return
    from actors.metrics import MetricsServer

    with MetricsServer(config.log.url, config.metrics) as server:
        tell(f"metrics: http://{config.metrics.host}:{server.port}/metrics")
        yield


@contextmanager
def _gateway(config: Config, http: str | None, *, as_json: bool) -> Iterator[None]:
    """A gateway beside the system for as long as the block lasts, where one is wanted."""
    if http is None:
        yield
        return
    from discover_stream.app.gateway.decoders import ServeDecoder
    from discover_stream.app.gateway.serve import greeting, parse_address, serving
    from topics import open_log

    with open_log(config.log.url) as log, serving(config, log, ServeDecoder(config), parse_address(http)) as server:
        for line in greeting(server):
            typer.echo(line, err=as_json)
        yield


def complain(progress: Progress) -> None:
    """Raise what the last word of a run has to be, if it did not end well.

    Raises LogError for frames that the log did not take any more, InputError for a source that was given up.
    """
    away = [camera for camera in progress.cameras if camera.outage is not None]
    if away:
        raise LogError(f"camera {away[0].name}: stopped while frames could not be written: {away[0].problem}")
    if progress.outage is not None:
        raise LogError(progress.outage.error)
    failed = [camera for camera in progress.cameras if camera.health == "failed"]
    if failed:
        raise InputError(f"camera {failed[0].name}: {failed[0].problem}")


def follow(system: System, asked: threading.Event, *, until_idle: bool, every_s: float, as_json: bool) -> None:
    """Show progress until somebody asks to stop, or nothing is left to do and that was wanted."""
    shown_s = time.monotonic()
    idle_told = False
    while not asked.wait(_LOOK_EVERY_S):
        system.check()
        if time.monotonic() - shown_s >= every_s:
            shown_s = time.monotonic()
            show(system.progress(), as_json)
        if not idle_told and system.wait_idle(timeout_s=0):
            if until_idle:
                return
            idle_told = True
            typer.echo("every source has ended and everything is routed; Ctrl-C ends", err=as_json)


def show(progress: Progress, as_json: bool) -> None:
    """One line of progress."""
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(progress)))
        return
    waiting = sum(stage.lag for stage in progress.stages)
    dropped = sum(sum(camera.dropped.values()) for camera in progress.cameras)
    rates = "  ".join(task_rate(task) for task in progress.tasks if task.on)
    typer.echo(
        f"{progress.elapsed_s:7.1f} s  frames {progress.frames}  archived {progress.archived}  waiting {waiting}  "
        f"dropped {dropped}  lost {progress.lost}  dead {progress.dead}  restarts {progress.restarts}  {rates}"
    )
    for camera in progress.cameras:
        if camera.outage is not None:
            typer.echo(f"          camera {camera.name}: {camera.problem}")


def task_rate(task: TaskProgress) -> str:
    """What a task is sent, in words."""
    alone = " (regions only)" if task.options.deliver == "regions" else ""
    return f"{task.name} {task.kbps:.1f} kbit/s{alone}"


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set. A second Ctrl-C interrupts, whatever is going on."""
    asked = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
