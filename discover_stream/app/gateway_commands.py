"""The commands of the gateway: `discover gateway`, and `discover token` for who may use it."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from discover_stream.app.options import ConfigFile
from discover_stream.types import InputError

if TYPE_CHECKING:
    from discover_stream.app.gateway.models import Role
    from discover_stream.app.gateway.tokens import GatewayState


def gateway(
    *,
    config: ConfigFile = None,
    http: Annotated[
        str, typer.Option("--http", metavar="HOST:PORT", help="Where to listen; others than this machine need tokens.")
    ] = "127.0.0.1:8000",
) -> None:
    """Serve console and HTTP API for a log, until Ctrl-C. Reads no camera: `discover run` does."""
    from discover_stream.app.gateway.serve import run_gateway

    run_gateway(config, http, typer.echo)


def make(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose token it is, for lists and the record.")],
    *,
    role: Annotated[str, typer.Option(help="admin, operator, viewer (of cameras) or subscriber (of tasks).")],
    camera: Annotated[
        list[str] | None, typer.Option(metavar="CAMERA", help="A camera that a viewer may see (default: all).")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(metavar="TASK", help="A task that a subscriber may see.")] = None,
    days: Annotated[float | None, typer.Option(min=0.001, max=36500, help="End after so many days.")] = None,
    config: ConfigFile = None,
) -> None:
    """Make a token and print it: nobody can see it again. From then on every request needs one."""
    from discover_stream.app.gateway.models import Role as Known

    known = get_args(Known)
    if role not in known:
        raise InputError(f"--role {role}: there is no such role; use {', '.join(known)}")
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise InputError("a token's name has 1 to 100 printable characters; choose another")
    with closing(_state(config)) as state:
        typer.echo(state.make(name, cast("Role", role), cameras=camera or None, tasks=task or None, days=days))


def listed(
    *, config: ConfigFile = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Tokens that were made, without what opens anything."""
    import time

    from discover_stream.app.moments import iso

    with closing(_state(config)) as state:
        now, tokens = time.time_ns(), state.tokens()
        found = [
            {
                "id": facts.principal.token,
                "name": facts.principal.name,
                "role": facts.principal.role,
                "cameras": None if facts.principal.cameras is None else sorted(facts.principal.cameras),
                "tasks": None if facts.principal.tasks is None else sorted(facts.principal.tasks),
                "live": facts.live(now),
                "made": iso(facts.made_ns),
                "expires": None if facts.expires_ns is None else iso(facts.expires_ns),
                "used": None if facts.used_ns is None else iso(facts.used_ns),
            }
            for facts in tokens
        ]
    if as_json:
        typer.echo(json.dumps(found))
        return
    for item, facts in zip(found, tokens, strict=True):
        named = {"cameras": facts.principal.cameras, "tasks": facts.principal.tasks}
        limits = [f"{kind} {', '.join(sorted(names))}" for kind, names in named.items() if names]
        notes = [*limits, "" if item["live"] else "ended", f"used {item['used']}" if item["used"] else "never used"]
        typer.echo(f"{item['id']}  {item['role']:10} {item['name']:24} {'; '.join(filter(None, notes))}")
    if not found:
        typer.echo("no token was made yet: a gateway serves its own machine only, and everybody on it is admin")


def revoke(
    identity: Annotated[str, typer.Argument(metavar="ID", help="As `discover token list` prints it.")],
    *,
    config: ConfigFile = None,
) -> None:
    """End a token at once, and every key that was made with it."""
    with closing(_state(config)) as state:
        state.revoke(identity)
    typer.echo(f"{identity}: ended")


def _state(config: Path | None) -> GatewayState:
    from discover_stream.app.gateway.serve import state_path
    from discover_stream.app.gateway.tokens import GatewayState
    from discover_stream.config import load_config

    return GatewayState(state_path(load_config(config)))


def register(app: typer.Typer) -> None:
    """Add the commands to a Typer app."""
    app.command()(gateway)
    tokens = typer.Typer(help="Who may use the gateway: make, list, revoke.", no_args_is_help=True)
    tokens.command()(make)
    tokens.command("list")(listed)
    tokens.command()(revoke)
    app.add_typer(tokens, name="token")
