"""`discover task`: tasks of a log, live on a running system: add, list, show, remove."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from discover_stream.app.options import AsJson, ConfigFile, LogAddress
from discover_stream.types import Delivery, Profile


def add(  # noqa: PLR0913 (options of a command)
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="What the task is called; may be left out, it is then made from the words."
        ),
    ],
    description: Annotated[
        str | None,
        typer.Argument(
            metavar="DESCRIPTION", help="What it is, in words. Not needed if built in, or known to the log."
        ),
    ] = None,
    *,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take the labels from a file; no model is asked.")
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Make a new version of labels that are there.")] = False,
    model: Annotated[
        str | None, typer.Option(help="The model to ask (default: OPENAI_MODEL, else mllm.model of the configuration).")
    ] = None,
    profile: Annotated[Profile | None, typer.Option(help="Who looks at the pictures (default: machine).")] = None,
    regions_only: Annotated[
        bool | None, typer.Option("--regions-only/--pixels", help="Deliver regions alone, or with their pixels.")
    ] = None,
    tags: Annotated[
        bool | None, typer.Option("--tags/--no-tags", help="Name the labels that are present in each packet, or not.")
    ] = None,
    config: ConfigFile = None,
    address: LogAddress = None,
    as_json: AsJson = False,
) -> None:
    """Turn a task on, everywhere and at once. A new one is described to a language model, once ever."""
    from discover_stream.app.task_report import added_json, added_lines
    from discover_stream.app.task_work import AddOrder, Delivering, carry_out, open_place

    deliver: Delivery | None = None if regions_only is None else "regions" if regions_only else "pixels"
    order = AddOrder(name, description, labels, refresh, model, profile, Delivering(deliver, tags))
    with open_place(config, address, create=True) as place:
        done = carry_out(place, order, tell=lambda line: typer.echo(line, err=True))
    for line in [json.dumps(added_json(done))] if as_json else added_lines(done):
        typer.echo(line)


def list_(*, config: ConfigFile = None, address: LogAddress = None, as_json: AsJson = False) -> None:
    """List the tasks of the log, and those that come with the package."""
    from discover_stream.app.task_report import listed, listed_line

    for item in listed(config, address):
        typer.echo(json.dumps(item) if as_json else listed_line(item))


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `task list` prints it.")],
    *,
    config: ConfigFile = None,
    address: LogAddress = None,
    as_json: AsJson = False,
) -> None:
    """Show a task as a label-set file, which --labels takes, with where its labels came from."""
    from discover_stream.app.task_report import shown, shown_text

    found = shown(config, address, name)
    typer.echo(json.dumps(found) if as_json else shown_text(found), nl=as_json)


def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `task list` prints it.")],
    *,
    config: ConfigFile = None,
    address: LogAddress = None,
) -> None:
    """Turn a task off, everywhere and at once. Its labels, and packets it was sent, stay in the log."""
    from discover_stream.app.task_work import open_place, removed

    with open_place(config, address) as place:
        for line in removed(place, name):
            typer.echo(line)


def register(app: typer.Typer) -> None:
    """Add the group of commands `task`."""
    group = typer.Typer(no_args_is_help=True, help="Tasks, live on a running system: add, list, show, remove.")
    group.command()(add)
    group.command("list")(list_)
    group.command()(show)
    group.command()(remove)
    app.add_typer(group, name="task")
