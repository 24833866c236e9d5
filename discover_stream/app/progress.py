"""Progress bars on stderr; silent where stderr is no terminal, so that logs hold only results and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def frame_bar(title: str, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for work on frames.

    Args:
        title: what is done.
        total: amount of work in any unit, None where nobody knows.

    Yields:
        a function to call with (frames done, amount of work done).
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[frames]} frames"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        row = progress.add_task(escape(title), total=total, frames=0)

        def advance(frames: int, done: int) -> None:
            progress.update(row, completed=done, frames=frames)

        yield advance
