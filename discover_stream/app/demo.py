"""`discover demo`: the main job from camera to pictures, headless, in a few minutes on a laptop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_SECONDS = 6.0
DEFAULT_FPS = 3.0


def register(app: typer.Typer) -> None:
    """Add the command `demo`."""
    app.command()(demo)


def demo(
    video: Annotated[
        str | None,
        typer.Option(help="A clip, picture, folder or address for the first camera; a simulated road without it."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=120, help="Seconds to take from each camera.")
    ] = DEFAULT_SECONDS,
    fps: Annotated[float, typer.Option(min=0.1, max=30, help="Frames a second to take at most.")] = DEFAULT_FPS,
    config: Annotated[
        Path | None,
        typer.Option(help="A system's configuration, local or fleet; its cameras and log are replaced by the demo's."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for pictures, report and log.")] = Path("out/demo"),
    keep_topics: Annotated[
        bool, typer.Option("--keep-topics", help="On Kafka: leave the demo's topics on the brokers.")
    ] = False,
) -> None:
    """Show the main job: two cameras, three tasks, every stage a process; ends with a table, a film and a report."""
    # Loading networks and Ray takes seconds, which `discover --help` should not wait for.
    from discover_stream.app.demo_plan import Files
    from discover_stream.app.demo_run import DemoOptions, run_demo

    run_demo(DemoOptions(video, seconds, fps, config, Files(out), keep_topics))
