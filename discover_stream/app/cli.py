"""The `discover` command line: composes the command modules and turns errors into one line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from discover_stream import __version__
from discover_stream.app import (
    camera,
    dead,
    demo,
    evaluate,
    files,
    gateway_commands,
    status,
    system,
    task,
    topics,
    train,
)
from discover_stream.app.outputs import Interrupted
from discover_stream.types import DiscoverError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"discover-stream {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Traffic-camera video as task-scoped learned bitstreams."""


def build_app() -> typer.Typer:
    """The command line with all its commands."""
    app = typer.Typer(
        name="discover",
        callback=_options,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for module in (files, system, gateway_commands, status, camera, task, topics, dead, demo, evaluate, train):
        module.register(app)
    return app


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 2 after an error that the user can act on, 130 after Ctrl-C.

    Args:
        arguments: those after the program's name; None for the process's own.
    """
    try:
        code = build_app()(args=arguments, prog_name="discover", standalone_mode=False)
    except (DiscoverError, typer.TyperException) as error:
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        return _complain(message)
    except OSError as error:
        place = f"{error.filename}: " if error.filename is not None else ""
        return _complain(f"{place}{error.strerror or error}; check the path, its permissions and the disk")
    except Interrupted as error:
        typer.echo(f"interrupted: {error}", err=True)
        return EXIT_INTERRUPTED
    except (typer.Abort, KeyboardInterrupt):  # the latter where Ctrl-C came before a command began
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else 0


def _complain(message: str) -> int:
    # There is no message where the help was shown because nothing was asked for.
    if message:
        typer.echo(f"error: {' '.join(message.splitlines())}", err=True)
    return EXIT_ERROR


def main() -> None:
    """Entry point of the `discover` program."""
    if not sys.warnoptions:
        # Libraries warn their developers; people at the command line get results and errors.
        warnings.simplefilter("ignore")
    sys.exit(run())


if __name__ == "__main__":
    main()
