"""`discover camera`: cameras of a log, live on a running system: add, list, remove."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discover_stream.app.options import AsJson, ConfigFile, LogAddress, log_address, refuse_both
from discover_stream.types import InputError

if TYPE_CHECKING:
    from actors.cameras import CameraFacts
    from discover_stream.config import CameraConfig


def add(  # noqa: PLR0913 (options of a command)
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the camera is called.")],
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A video, picture or folder, or a sim, rtsp or http address; ${NAME} in an address is looked up in "
            "the environment of `discover run`.",
        ),
    ],
    *,
    fps: Annotated[float | None, typer.Option(help="Frames to take per second (default: all).")] = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="Read a file at its own rate.")] = False,
    when_behind: Annotated[
        str | None, typer.Option(help="auto, wait, drop-oldest, drop-latest or adaptive (default: auto).")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="still, stream or auto (default: as for all).")] = None,
    quality: Annotated[int | None, typer.Option(help="1 to 8 (default: as for all).")] = None,
    bitrate: Annotated[float | None, typer.Option(help="kbit/s in stream mode (default: what it takes).")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Change the settings of a camera that is there.")] = False,
    config: ConfigFile = None,
    address: LogAddress = None,
    as_json: AsJson = False,
) -> None:
    """Have a camera, at once on a running system, and in every later one."""
    from actors.cameras import add_camera
    from actors.system import catalogue_settings
    from actors.task_switch import ensure_topics
    from discover_stream.config import LogConfig, load_config
    from discover_stream.sdk import open_existing
    from topics import open_log

    options = {"fps": fps, "when_behind": when_behind, "mode": mode, "quality": quality, "bitrate": bitrate}
    if "://" not in source:
        source = str(Path.cwd() / source)
    camera = camera_config({"name": name, "source": source, "realtime": realtime, **options})
    refuse_both(config, address)
    loaded = LogConfig() if address is not None else load_config(config).log
    with open_existing(address) if address is not None else open_log(loaded.url) as log:
        ensure_topics(log, catalogue_settings(loaded))
        facts = add_camera(log, camera, owner(), replace=replace)
    typer.echo(json.dumps(camera_json(facts)) if as_json else f"{camera_line(facts)}; a running system begins at once")


def list_(*, config: ConfigFile = None, address: LogAddress = None, as_json: AsJson = False) -> None:
    """List the cameras of the log."""
    from actors.cameras import list_cameras
    from discover_stream.sdk import open_existing

    with open_existing(log_address(config, address)) as log:
        for facts in list_cameras(log):
            typer.echo(json.dumps(camera_json(facts)) if as_json else camera_line(facts))


def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `camera list` prints it.")],
    *,
    config: ConfigFile = None,
    address: LogAddress = None,
) -> None:
    """Read a camera no more, now and later. Its archive stays for as long as retention keeps it."""
    from actors.cameras import remove_camera
    from discover_stream.sdk import open_existing

    with open_existing(log_address(config, address)) as log:
        facts = remove_camera(log, name, owner())
    typer.echo(f"{name}: removed; its archive stays")
    if facts.listed:
        typer.echo(f"note: a configuration lists {name}; it stays off until that entry changes or you add it again")


def camera_config(settings: dict[str, Any]) -> CameraConfig:
    """A camera's configuration; settings that are None are left out. Raises InputError for what cannot be one."""
    from pydantic import ValidationError

    from discover_stream.config import CameraConfig

    try:
        return CameraConfig.model_validate({key: value for key, value in settings.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "settings"
        raise InputError(
            f"camera {settings.get('name')}: {place}: {first['msg'].removeprefix('Value error, ')} "
            f"(it is {first['input']!r}); correct it"
        ) from None


def owner() -> str:
    """This process, as others are told of it."""
    return f"discover camera, process {os.getpid()} on {socket.gethostname()}"


def camera_json(facts: CameraFacts) -> dict[str, Any]:
    """What is known of a camera, for programs; without passwords."""
    from actors.cameras import settings_of

    return {
        "camera": facts.name,
        "settings": json.loads(settings_of(facts.config)),
        "listed": facts.listed,
        "removed": facts.removed,
        "partition": facts.partition,
    }


def camera_line(facts: CameraFacts) -> str:
    """What is known of a camera, for people."""
    from actors.cameras import settings_of

    settings = json.loads(settings_of(facts.config))
    source = settings.pop("source")
    more = "".join(f", {key} {value}" for key, value in settings.items())
    whence = "listed in a configuration" if facts.listed else "added"
    state = ", removed" if facts.removed else ""
    return f"{facts.name}: {source}{more}; partition {facts.partition}; {whence}{state}"


def register(app: typer.Typer) -> None:
    """Add the group of commands `camera`."""
    group = typer.Typer(no_args_is_help=True, help="Cameras, live on a running system: add, list, remove.")
    group.command()(add)
    group.command("list")(list_)
    group.command()(remove)
    app.add_typer(group, name="camera")
