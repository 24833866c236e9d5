"""The commands that work on files alone: encode, decode, extract, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from discover_stream.app.outputs import counted
from discover_stream.types import Atoms, Mode, Profile

_Stream = Annotated[Path, typer.Argument(metavar="S.dsv", help="A stream that `encode` or `extract` wrote.")]
_Names = Annotated[
    list[str] | None,
    typer.Option("--task", "-t", metavar="NAME", help="A task of the stream; may be repeated. `all`: every task."),
]


def encode(  # noqa: PLR0913 (options of a command)
    source: Annotated[
        str, typer.Argument(help="A video, a picture, a folder of pictures, sim://road?seconds=5, rtsp:// or http://.")
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="S.dsv", help="Where the stream goes.")],
    task: Annotated[
        list[str] | None,
        typer.Option("--task", "-t", metavar="NAME", help="A built-in task or a task file (.yaml); may be repeated."),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(help="still: every frame for itself; stream: composed in time; auto: stream where that serves."),
    ] = "auto",
    quality: Annotated[int, typer.Option(min=1, max=8, help="1 (fewest bits) to 8.")] = 4,
    bitrate: Annotated[
        float | None,
        typer.Option(min=0.1, max=1e6, metavar="KBITS", help="Stream mode: kbit/s that all packets keep to, about."),
    ] = None,
    atoms: Annotated[
        Atoms,
        typer.Option(help="Stream mode: objects by AV1, or auto: by the learned codec where that is smaller."),
    ] = "av1",
    fps: Annotated[float | None, typer.Option(help="Keep at most so many frames a second.")] = None,
    camera: Annotated[str | None, typer.Option(help="Name of the camera (default: that of the source).")] = None,
) -> None:
    """Encode pictures once, for all tasks (default: the built-in ones of the street)."""
    from discover_stream.app.encode import EncodeOrder, encode_stream
    from discover_stream.semantics.labels import STREET_TASKS, load_task

    names = list(dict.fromkeys(task)) if task else list(STREET_TASKS)
    tasks = tuple(load_task(name) for name in names)
    order = EncodeOrder(source, output, tasks, quality, fps, camera, mode, bitrate, atoms)
    result = encode_stream(order)
    typer.echo(f"{output}: {counted(result.frames, 'frame')}, {counted(len(names), 'task')}, {result.bytes:,} bytes")
    if result.note:
        typer.echo(f"note: {result.note}")


def decode(  # noqa: PLR0913 (options of a command)
    source: _Stream,
    *,
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="OUT", help="OUT.mp4, OUT.mkv (lossless), OUT.png or FOLDER/."),
    ],
    task: _Names = None,
    profile: Annotated[Profile, typer.Option(help="Who looks at the pictures.")] = "machine",
    steps: Annotated[int | None, typer.Option(min=1, help="Diffusion steps (default: the profile's).")] = None,
    generate: Annotated[bool, typer.Option(help="Generate what was not sent.")] = True,
    provenance: Annotated[bool, typer.Option("--provenance", help="Show where each cell comes from.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON line per frame: provenance, changes, invention score.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="A configuration, for its `decoding`.")
    ] = None,
) -> None:
    """Decode the atoms of some tasks to pictures (default: all)."""
    import json

    from discover_stream.app.decode import DecodeOrder, decode_stream
    from discover_stream.app.decode_report import echo_report, frame_facts
    from discover_stream.config import load_config

    decoding = load_config(config).decoding
    order = DecodeOrder(source, output, tuple(task or ()), profile, steps, generate, provenance, decoding)
    if as_json:
        report = decode_stream(order, lambda frame: typer.echo(json.dumps(frame_facts(frame))))
    else:
        report = decode_stream(order)
        typer.echo(f"{output}: {counted(report.frames, 'frame')}")
    echo_report(report, as_json)


def extract(
    source: _Stream,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="T.dsv", help="Where the stream goes.")],
    task: Annotated[
        list[str],
        typer.Option("--task", "-t", metavar="NAME", help="A task of the stream; may be repeated. `all`: every task."),
    ],
) -> None:
    """Copy the atoms of some tasks to a stream of their own, byte for byte."""
    from discover_stream.app.extract import extract_stream

    result = extract_stream(source, task, output)
    typer.echo(f"{output}: {counted(result.frames, 'frame')}, {result.bytes:,} bytes")


def inspect(
    source: _Stream,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    frames: Annotated[bool, typer.Option("--frames", help="List every frame as well.")] = False,
) -> None:
    """Show where the bytes of a stream go, for each task and in all."""
    import json

    from rich.console import Console

    from discover_stream.app.inspection import inspect_stream, report_json, report_tables

    report = inspect_stream(source)
    if as_json:
        typer.echo(json.dumps(report_json(report, per_frame=frames), indent=2))
        return
    for table in report_tables(report, per_frame=frames):
        Console(width=None if Console().is_terminal else 200).print(table)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (encode, decode, extract, inspect):
        app.command()(command)
