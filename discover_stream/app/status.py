"""`discover status` and `discover doctor`: how a system is, from any process that reaches its log."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer

from discover_stream.app.options import ConfigFile, LogAddress, log_address

_CLEAR = "\x1b[H\x1b[J"


def status(
    *,
    config: ConfigFile = None,
    address: LogAddress = None,
    once: Annotated[bool, typer.Option("--once", help="Print it once.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line per look.")] = False,
) -> None:
    """Show cameras with frame rate, lag, drops by reason, kbit/s by task and health, until Ctrl-C."""
    from discover_stream.app.status_view import status_json, status_lines
    from discover_stream.sdk import open_existing
    from topics.status import read_status

    with open_existing(log_address(config, address)) as log:
        while True:
            table = read_status(log)
            if as_json:
                typer.echo(json.dumps(status_json(table, time.time_ns())))
            else:
                lead = _CLEAR if sys.stdout.isatty() and not once else ""
                typer.echo(lead + "\n".join(status_lines(table, time.time_ns())))
            if once:
                return
            time.sleep(every)


def doctor(
    *,
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line per finding.")] = False,
) -> None:
    """Look at everything that a system needs, and say what to do about each problem. Exit status 1 if there are any."""
    from dataclasses import asdict

    from discover_stream.app.doctor import examine, finding_line

    problems = 0
    for finding in examine(config):
        problems += finding.verdict == "problem"
        typer.echo(json.dumps(asdict(finding)) if as_json else finding_line(finding))
    if problems:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the commands to a Typer app."""
    app.command()(status)
    app.command()(doctor)
