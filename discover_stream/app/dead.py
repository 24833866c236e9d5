"""`discover dead`: records that could not be processed: list, show, retry."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discover_stream.app.options import AsJson, ConfigFile, LogAddress, log_address
from discover_stream.types import InputError

if TYPE_CHECKING:
    from topics.dead_letters import DeadLetter
    from topics.log import Log


def list_(
    *,
    config: ConfigFile = None,
    address: LogAddress = None,
    camera: Annotated[str | None, typer.Option(help="Only this camera.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the dead records: which, from where, since when and why."""
    from topics.dead_letters import dead_letters

    count = 0
    with _log(config, address) as log:
        for letter in dead_letters(log):  # one by one: each holds a frame
            if camera is None or letter.message.key == camera:
                typer.echo(json.dumps(_facts(letter)) if as_json else _line(letter))
                count += 1
    if not count and not as_json:
        typer.echo("no dead records")


def show(
    name: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="As `dead list` prints it.")],
    *,
    config: ConfigFile = None,
    address: LogAddress = None,
    as_json: AsJson = False,
) -> None:
    """Tell everything about one dead record."""
    from topics.dead_letters import dead_letter, kept_value

    with _log(config, address) as log:
        letter = dead_letter(log, name)
        value = kept_value(log, letter)
    facts = {**_facts(letter), "bytes": None if value is None else len(value), "holds": _content(value)}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for title, fact in facts.items():
        typer.echo(f"{title:10} {'-' if fact is None else fact}")


def retry(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="PARTITION:OFFSET...", help="As `dead list` prints them.")
    ] = None,
    *,
    config: ConfigFile = None,
    address: LogAddress = None,
    everything: Annotated[bool, typer.Option("--all", help="All that were not retried before.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also those that were retried before.")] = False,
) -> None:
    """Send dead records back to the end of the topics they came from, each once."""
    from topics.dead_letters import dead_letter, dead_letters
    from topics.dead_letters import retry as send_back

    if bool(names) == everything:
        raise InputError("dead retry: name the records (PARTITION:OFFSET), or use --all for every one")
    with _log(config, address) as log:
        letters: Iterable[DeadLetter]
        if everything:  # one by one, up to where the topic ends now: each holds a frame
            letters = (letter for letter in dead_letters(log) if again or not letter.retried)
        else:
            letters = [dead_letter(log, name) for name in dict.fromkeys(names or ())]
        refused: list[str] = []
        count = 0
        for letter in letters:
            count += 1
            try:
                send_back(log, letter, again=again)
            except InputError as error:
                refused.append(str(error))
                continue
            typer.echo(f"{letter.name} is back in {letter.message.topic}, partition {letter.message.partition}")
    if refused:
        more = f" (and {len(refused) - 1} more were refused)" if len(refused) > 1 else ""
        raise InputError(f"{refused[0]}{more}")
    if not count:
        typer.echo("nothing to retry")


def register(app: typer.Typer) -> None:
    """Add the group of commands `dead`."""
    group = typer.Typer(no_args_is_help=True, help="Records that could not be processed: list, show, retry.")
    group.command("list")(list_)
    group.command()(show)
    group.command()(retry)
    app.add_typer(group, name="dead")


def _log(config: Path | None, address: str | None) -> Log:
    """The log of a configuration, or at an address. Raises InputError for both, and where there is none."""
    from discover_stream.sdk import open_existing

    return open_existing(log_address(config, address))


def _line(letter: DeadLetter) -> str:
    from discover_stream.app.moments import iso

    message = letter.message
    deaths = f", died {message.deaths} times" if message.deaths else ""
    again = ", retried" if letter.retried else ""
    return (
        f"{letter.name:8} {iso(message.at_ns)} {message.key or '-'} from {message.topic} "
        f"{message.partition}:{message.offset}{deaths}{again}: {message.reason}"
    )


def _facts(letter: DeadLetter) -> dict[str, Any]:
    from discover_stream.app.moments import iso

    message = letter.message
    return {
        "record": letter.name,
        "camera": message.key,
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "deaths": message.deaths,
        "at": iso(message.at_ns),
        "reason": message.reason,
        "retried": letter.retried,
    }


def _content(value: bytes | None) -> str:
    """What a value says it is, in a few words."""
    from discover_stream.types import BitstreamError
    from topics.messages import decode

    if value is None:
        return "nothing: it was too large to be kept, and retention has taken the original"
    try:
        message = decode(value)
    except BitstreamError:
        return "no message: a packet, or damaged bytes"
    seq = getattr(message, "seq", None)
    return type(message).__name__ + ("" if seq is None else f" seq {seq}")
