"""The commands that work on a running system or its log: run, subscribe, replay."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from discover_stream.app.events import Format
from discover_stream.app.options import ConfigFile
from discover_stream.types import Profile


class RoleName(StrEnum):
    """The roles of a system, as the command line takes them."""

    ALL = "all"
    EDGE = "edge"
    CORE = "core"


def run(
    *,
    config: ConfigFile = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End once every source has ended and everything is routed.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two lines of progress.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print progress as JSON lines.")] = False,
    role: Annotated[
        RoleName, typer.Option(help="all; edge: encode here, forward to a core; core: route what edges forward.")
    ] = RoleName.ALL,
    http: Annotated[
        str | None,
        typer.Option("--http", metavar="HOST:PORT", help="Also serve console and HTTP API, such as 127.0.0.1:8000."),
    ] = None,
    log_format: Annotated[Format, typer.Option(help="Events as text, or as JSON on the error output.")] = "text",
) -> None:
    """Run the cameras of a configuration until Ctrl-C: ingest, ground, encode, archive, route."""
    from discover_stream.app.run import run_system

    run_system(
        config,
        until_idle=until_idle,
        every_s=every,
        as_json=as_json,
        http=http,
        role=role.value,
        log_format=log_format,
    )


def subscribe(  # noqa: PLR0913 (options of a command)
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name of a task that the system runs.")],
    *,
    config: ConfigFile = None,
    group: Annotated[
        str | None, typer.Option(help="Go on where this group stopped, and store how far it came.")
    ] = None,
    start: Annotated[
        str,
        typer.Option("--from", metavar="WHEN", help="earliest, latest, or a time (ISO 8601) at which it was written."),
    ] = "latest",
    camera: Annotated[str | None, typer.Option(help="Only this camera.")] = None,
    most: Annotated[int | None, typer.Option("--max", min=1, metavar="N", help="End after N packets.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print packets as JSON lines.")] = False,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Decode, and save each picture as CAMERA/SEQ.png.")
    ] = None,
    profile: Annotated[Profile, typer.Option(help="Who looks at the pictures.")] = "machine",
    steps: Annotated[int | None, typer.Option(min=1, help="Diffusion steps (default: the profile's).")] = None,
    generate: Annotated[bool, typer.Option(help="Generate what was not sent.")] = True,
    provenance: Annotated[bool, typer.Option("--provenance", help="Show where each cell comes from.")] = False,
) -> None:
    """Print what a task receives, one line per packet, until Ctrl-C."""
    from discover_stream.app.watch import WatchOrder, watch

    watch(config, WatchOrder(task, group, start, camera, most, as_json, save, profile, steps, generate, provenance))


def replay(  # noqa: PLR0913 (options of a command)
    camera: Annotated[str, typer.Argument(metavar="CAMERA", help="Name of a camera in the archive.")],
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="OUT.mp4, OUT.mkv (lossless), OUT.png or FOLDER/.")
    ],
    start: Annotated[
        str,
        typer.Option("--from", metavar="T", help="ISO 8601, epoch seconds, or +SECONDS after the archive's begin."),
    ] = "+0s",
    end: Annotated[
        str | None, typer.Option("--to", metavar="T", help="Likewise; frames before it (default: all there are).")
    ] = None,
    task: Annotated[str, typer.Option("--task", "-t", metavar="NAME", help="Whose atoms to decode.")] = "all",
    profile: Annotated[Profile, typer.Option(help="Who looks at the pictures.")] = "human",
    steps: Annotated[int | None, typer.Option(min=1, help="Diffusion steps (default: the profile's).")] = None,
    generate: Annotated[bool, typer.Option(help="Generate what was not sent.")] = True,
    provenance: Annotated[bool, typer.Option("--provenance", help="Show where each cell comes from.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON line per frame: provenance, changes, invention score.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Decode a part of a camera's archive to a film or pictures. Times are capture times."""
    import json

    from discover_stream.app.decode_report import echo_report, frame_facts
    from discover_stream.app.replay import ReplayOrder, replay_archive

    order = ReplayOrder(camera, output, start, end, task, profile, steps, generate, provenance)
    if as_json:
        result = replay_archive(config, order, lambda frame: typer.echo(json.dumps(frame_facts(frame))))
    else:
        result = replay_archive(config, order)
        typer.echo(f"{output}: {result.report.frames} frames, {result.first} to {result.last}")
    echo_report(result.report, as_json)
    if result.note:
        typer.echo(f"note: {result.note}", err=as_json)


def register(app: typer.Typer) -> None:
    """Add the commands to a Typer app."""
    for command in (run, subscribe, replay):
        app.command()(command)
