"""`discover topics`: the topics of a log against the catalogue: plan, apply, show."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from discover_stream.app.options import AsJson, ConfigFile


def plan(*, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Tell what `apply` would do, and change nothing."""
    from discover_stream.app.topics_work import Planned, planned

    found: Planned = planned(config)
    if as_json:
        changes = [{"kind": c.kind, "topic": c.topic, "why": c.why} for c in found.plan.changes]
        typer.echo(json.dumps({"log": found.url, "changes": changes}))
        return
    for change in found.plan.changes:
        note = " (only with apply --yes)" if change.kind == "delete" else ""
        typer.echo(f"{change.kind:7}{change.topic}: {change.why}{note}")
    if not found.plan.changes:
        typer.echo(f"{found.url}: all topics are as configured")


def apply(
    *,
    config: ConfigFile = None,
    yes: Annotated[bool, typer.Option("--yes", help="Also delete the topics that `plan` lists as such.")] = False,
) -> None:
    """Create and alter topics as configured; delete unknown ones only with --yes."""
    from discover_stream.app.topics_work import carry_out

    done, left = carry_out(config, delete=yes)
    for change in done:
        typer.echo(f"{change.kind:7}{change.topic}: {change.why}")
    for change in left:
        typer.echo(f"kept   {change.topic}: {change.why}; --yes deletes it with all its records")
    if not done and not left:
        typer.echo("all topics are as configured")


def show(*, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show every topic with what it holds, how long, and how far each group has come."""
    from discover_stream.app.topics_work import print_table, shown, topic_json

    found = shown(config)
    if as_json:
        typer.echo(json.dumps([topic_json(item) for item in found]))
    else:
        print_table(found)


def register(app: typer.Typer) -> None:
    """Add the group of commands `topics`."""
    group = typer.Typer(no_args_is_help=True, help="The log's topics: plan, apply, show.")
    for command in (plan, apply, show):
        group.command()(command)
    app.add_typer(group, name="topics")
