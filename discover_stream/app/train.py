"""`discover train STAGE`: train the models, resumably."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discover_stream.app.outputs import Interrupted
from discover_stream.types import InputError

if TYPE_CHECKING:
    from discover_stream.training.loop import Report, Status

_SCALE = 1000
"""Marks of the progress bar."""


def train(
    stage: Annotated[
        str,
        typer.Argument(
            metavar="STAGE",
            help="vae, prior, codec (stage I), task (stage II), control, distill, denoiser (the decoder "
            "that ships), grounder, ablation.",
        ),
    ],
    *,
    config: Annotated[
        str, typer.Option("--config", "-c", metavar="FILE", help="nano, sd21 (the papers' recipe), or a YAML file.")
    ] = "nano",
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Pictures to learn from (docs/training.md).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Instead of the configured folder.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget of time, all runs together.")] = None,
    steps: Annotated[int | None, typer.Option(help="Budget of steps instead.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Another value, such as batch=4 or models.folder=DIR; repeatable."
        ),
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Stay on the CPU where there is a GPU.")] = False,
) -> None:
    """Train one stage of the recipe. Run it again, and it goes on from its last checkpoint."""
    name = stage.replace("-", "_")
    _check_extra()
    from discover_stream.training.config import load_training
    from discover_stream.training.stage import prepare, run_stage

    if minutes is not None and steps is not None:
        raise InputError("--minutes and --steps: a stage has one budget; give one of the two")
    loaded = load_training(config, overrides_of(name, settings or (), minutes, steps))
    with _progress(name) as report:
        job = prepare(loaded, name, data, out=out, cpu=cpu, report=report)
        try:
            written = run_stage(job)
        except KeyboardInterrupt:
            raise Interrupted(f"{job.out} holds the last checkpoint; the same command goes on from it") from None
    if job.compute.leads:
        for path in written:
            typer.echo(str(path))


def overrides_of(stage: str, settings: Sequence[str], minutes: float | None, steps: int | None) -> list[str]:
    """What the command line changes, as `config.load_training` takes it: short keys are the stage's own.

    >>> overrides_of("vae", ["batch=4", "threads=1"], None, 9)
    ['stages.vae.batch=4', 'threads=1', 'stages.vae.steps=9']
    """
    from discover_stream.training.config import TrainingConfig

    budgets = [f"{key}={value}" for key, value in (("minutes", minutes), ("steps", steps)) if value is not None]
    whole = TrainingConfig.model_fields
    return [
        setting if setting.partition("=")[0].split(".")[0].strip() in whole else f"stages.{stage}.{setting}"
        for setting in (*settings, *budgets)
    ]


def _check_extra() -> None:
    try:
        import accelerate  # type: ignore[import-untyped]  # noqa: F401
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise InputError(f"training needs {error.name}; install discover-stream[train]") from None


@contextmanager
def _progress(title: str) -> Iterator[Report]:
    """A bar with the time left on a terminal; lines of the curves everywhere."""
    from rich.console import Console
    from rich.logging import RichHandler
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if console.is_terminal:
        handler: logging.Handler = RichHandler(console=console, show_path=False, show_level=False)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("discover_stream.training")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            row = progress.add_task(title, total=_SCALE, left="getting ready")

            def report(status: Status) -> None:
                progress.update(
                    row, completed=round(status.progress * _SCALE), left=f"step {status.step}, {status.left}"
                )

            yield report
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(train)
