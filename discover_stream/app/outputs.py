"""Where a result goes: checked before any work and before an older file is touched."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from discover_stream.types import InputError


@dataclass(frozen=True, slots=True)
class Written:
    """What a command wrote, and what else there is to say."""

    frames: int
    bytes: int
    note: str = ""


class Interrupted(Exception):
    """Ctrl-C came when a part of the result was there; the message tells where it is."""


def counted(number: int, thing: str) -> str:
    """A number of things in words.

    >>> counted(1, "frame"), counted(2, "frame")
    ('1 frame', '2 frames')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def check_output(output: str | os.PathLike[str], source: str | os.PathLike[str]) -> None:
    """Refuse to write a result over the input it is made from.

    Raises:
        InputError: output and source are the same file or folder.
    """
    result, given = Path(output), Path(source)
    try:
        same = result.exists() and given.exists() and result.samefile(given)
    except OSError:  # a name too long for the disk, for example: opening it will tell
        return
    if same:
        raise InputError(f"{result}: this is the input itself; give the output another name")


def check_stream_output(output: Path, source: str | os.PathLike[str]) -> None:
    """Check the name of a `.dsv` file to be written, and make the folder it goes to.

    Raises:
        InputError: another suffix, the input itself, a folder, or a place that cannot be written to.
    """
    if output.suffix.lower() != ".dsv":
        raise InputError(f"{output}: a stream's name ends in .dsv; give such a name")
    check_output(output, source)
    if output.is_dir():
        raise InputError(f"{output}: this is a folder; give the name of a file")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output.parent}: the folder cannot be made ({error.strerror}); choose another") from error
    if not os.access(output if output.exists() else output.parent, os.W_OK):
        raise InputError(f"{output}: writing it is not permitted; choose another place or change the permissions")
