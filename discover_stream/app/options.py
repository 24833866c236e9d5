"""Options that commands have in common, and which log they mean together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from discover_stream.types import InputError

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="The configuration (default: the packaged local.yaml)."),
]
LogAddress = Annotated[
    str | None, typer.Option("--log", metavar="ADDRESS", help="A log such as sqlite:out/discover.db, instead.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def log_address(config: Path | None, address: str | None) -> str:
    """The address of the log that is meant. Raises InputError where both say it."""
    from discover_stream.config import load_config

    refuse_both(config, address)
    return address if address is not None else load_config(config).log.url


def refuse_both(config: Path | None, address: str | None) -> None:
    """Raise InputError where a configuration and an address both name a log."""
    if config is not None and address is not None:
        raise InputError("both --config and --log name a log; use one of them")
